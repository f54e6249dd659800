"""Small files that are kept from the scan for the sending."""

from __future__ import annotations

from dicomtls_cli.services.files.instance import Instance
from dicomtls_cli.services.files.read_ahead import ReadAhead


def instance(name: str = "a.dcm", size: int = 4, modified: int = 1) -> Instance:
    return Instance(name, size, 0, "1.2", "1.2.3", "1.2.840.10008.1.2.1", modified=modified)


def test_what_was_read_is_given_once() -> None:
    read_ahead = ReadAhead()
    read_ahead.keep(instance(), b"DICM")
    assert read_ahead.take(instance()) == b"DICM"
    assert read_ahead.take(instance()) is None


def test_a_beginning_is_not_kept() -> None:
    read_ahead = ReadAhead()
    read_ahead.keep(instance(size=5), b"DICM")
    assert read_ahead.take(instance(size=5)) is None


def test_a_file_that_was_looked_at_in_another_state_is_another() -> None:
    read_ahead = ReadAhead()
    read_ahead.keep(instance(), b"DICM")
    assert read_ahead.take(instance(modified=2)) is None
    assert read_ahead.take(instance(size=6)) is None
    assert read_ahead.take(instance("b.dcm")) is None


def test_however_many_are_looked_at_only_the_last_are_kept() -> None:
    read_ahead = ReadAhead()
    names = [f"{number}.dcm" for number in range(2000)]
    for name in names:
        read_ahead.keep(instance(name), b"DICM")
    kept = [name for name in names if read_ahead.take(instance(name)) is not None]
    assert kept == names[-len(kept) :]
    assert 256 < len(kept) < 1000
