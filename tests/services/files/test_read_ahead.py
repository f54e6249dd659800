"""Small files that are kept from the scan for the sending."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dicomtls_cli.errors import InputError
from dicomtls_cli.services.files.instance import Instance
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.scan import scan
from tests.support.objects import data_set, element, write


def looked_at(folder: Path, read_ahead: ReadAhead) -> list[Instance]:
    return [found for found in scan([folder], read_ahead=read_ahead) if isinstance(found, Instance)]


def is_kept(read_ahead: ReadAhead, instance: Instance) -> bool:
    """Tell where `instance` is read from, and whether that is what its file holds."""
    with read_ahead.open(instance) as file:
        assert file.read() == instance.path.read_bytes()
        return isinstance(file, io.BytesIO)


def test_what_was_read_is_kept_once(tmp_path) -> None:
    write(tmp_path / "a.dcm")
    read_ahead = ReadAhead()
    [found] = looked_at(tmp_path, read_ahead)
    assert is_kept(read_ahead, found)
    assert not is_kept(read_ahead, found)


def test_large_files_are_not_kept_even_if_all_was_read_for_an_odd_head(tmp_path) -> None:
    out_of_order = element(0x00080012, b"DA", b"19970911") + element(0x00080008, b"CS", b"A")
    for number, pixels in ((1, 1000), (2, 8000), (3, 500_000)):
        uid = f"1.2.{number}"
        write(tmp_path / f"{number}.dcm", out_of_order + data_set(uid, pixels=bytes(pixels)), uid)
    write(tmp_path / "4.dcm", data_set("1.2.4", pixels=bytes(20_000)), "1.2.4")
    read_ahead = ReadAhead()
    found = looked_at(tmp_path, read_ahead)
    assert [is_kept(read_ahead, one) for one in found] == [True, False, False, False]


def test_what_changed_or_is_gone_is_not_taken_for_what_it_was(tmp_path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.dcm", sop_instance=f"1.2.{number}")
    read_ahead = ReadAhead()
    changed, gone, same = looked_at(tmp_path, read_ahead)
    changed.path.write_bytes(b"something else")
    gone.path.unlink()
    with pytest.raises(InputError, match="changed after it was looked at"):
        read_ahead.open(changed)
    with pytest.raises(FileNotFoundError):
        read_ahead.open(gone)
    assert is_kept(read_ahead, same)


def test_however_many_are_looked_at_only_the_last_are_kept(tmp_path) -> None:
    for number in range(700):
        write(tmp_path / f"{number:03d}.dcm", sop_instance=f"1.2.{number}")
    read_ahead = ReadAhead()
    kept = [is_kept(read_ahead, one) for one in looked_at(tmp_path, read_ahead)]
    assert kept == sorted(kept)
    assert 256 < sum(kept) < 600
