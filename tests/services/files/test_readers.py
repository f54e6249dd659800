"""What is read fast, by the shape of the files before, is what is read step by step."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.services.files.head import FileMeta, HeadError, NeedMore, read_meta
from dicomtls_cli.services.files.heads import MetaReader
from dicomtls_cli.services.files.instance import look_at, readers
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.skipped import Skipped
from tests.support.objects import data_set, element, file_meta
from tests.support.scripted import CT, EXPLICIT, IMPLICIT, MR

DEFLATED = "1.2.840.10008.1.2.1.99"

uids = st.one_of(
    st.sampled_from(["1.2.11", "1.2.12", "1.2.13", "1.2.140"]),
    st.from_regex(r"1\.2(\.[1-9][0-9]{0,3}){1,3}", fullmatch=True),
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file that may differ from others in its UIDs, and have something of its own behind its file meta or in it."""
    one = draw(uids)
    meta = file_meta(
        one,
        sop_class=draw(st.sampled_from([CT, MR])),
        transfer_syntax=draw(st.sampled_from([EXPLICIT, IMPLICIT, DEFLATED, "1.2.840.10008.1.2.4.50"])),
    )
    more = draw(
        st.sampled_from([b"", element(0x00020012, b"UI", b"1.2.3"), element(0x00020003, b"UI", one.encode())])
    )
    data = meta + more + data_set(draw(st.one_of(st.just(one), uids)), pixels=b"")
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(120, len(data) - 1))
        data = data[:at] + draw(st.binary(min_size=1, max_size=1)) + data[at + 1 :]
    return data[: draw(st.one_of(st.just(len(data)), st.integers(100, len(data))))]


def step_by_step(data: bytes) -> FileMeta | NeedMore | str:
    try:
        return read_meta(data)
    except HeadError as error:
        return str(error)


@given(st.lists(files(), min_size=2, max_size=8), st.randoms())
def test_file_meta_is_what_is_read_step_by_step(made: list[bytes], random) -> None:
    reader = MetaReader()
    for data in [*made, *random.choices(made, k=6)]:
        try:
            found: FileMeta | NeedMore | str = reader.read(data)
        except HeadError as error:
            found = str(error)
        assert found == step_by_step(data)


def test_meta_of_the_same_shape_is_not_read_step_by_step_again(monkeypatch) -> None:
    reader = MetaReader()
    assert reader.read(file_meta("1.2.11") + data_set("1.2.11")) == read_meta(
        file_meta("1.2.11") + data_set("1.2.11")
    )
    monkeypatch.setattr("dicomtls_cli.services.files.heads.read_meta", None)
    found = reader.read(file_meta("1.2.12") + data_set("1.2.12"))
    assert isinstance(found, FileMeta)
    assert found.media_storage_sop_instance == "1.2.12"


@given(st.lists(files(), min_size=3, max_size=8))
def test_a_file_is_what_it_is_whatever_came_before(tmp_path_factory, made: list[bytes]) -> None:
    before = readers(ReadAhead())
    folder: Path = tmp_path_factory.mktemp("made")
    for number, data in enumerate(made):
        path = folder / f"{number}.dcm"
        path.write_bytes(data)
        assert told(look_at(str(path), readers=before)) == told(look_at(str(path)))


def told(found: object) -> object:
    return (str(found.error), found.expected) if isinstance(found, Skipped) else found


@pytest.mark.parametrize("vr", [b"SH", b"LO", b"UN"])
def test_a_uid_of_file_meta_that_has_another_vr_is_none_also_after_one_that_was_blank(vr) -> None:
    def file(uid: bytes) -> bytes:
        uids = (element(0x00020002, b"UI", b"1.20"), element(0x00020003, vr, uid))
        return bytes(128) + b"DICM" + b"".join((*uids, element(0x00020010, b"UI", b"1.30"))) + data_set()

    reader = MetaReader()
    for uid in (b"  ", b"1."):
        assert reader.read(file(uid)) == read_meta(file(uid))
