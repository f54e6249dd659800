"""What is known of a file by its likeness to another is what reading it finds."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.services.head import FileMeta, HeadError, read_head, read_meta
from dicomtls_cli.services.instance import likeness, look_at
from dicomtls_cli.services.likeness import Likeness
from tests.support.objects import data_set, element, file_meta
from tests.support.scripted import EXPLICIT, IMPLICIT

WANTED = frozenset({0x00080016, 0x00080018})
META_AT = 132

uids = st.one_of(
    st.sampled_from(["1.2.11", "1.2.12", "1.2.13"]),
    st.from_regex(r"1\.2(\.[1-9][0-9]{0,3}){1,3}", fullmatch=True),
)


def read(data: bytes) -> tuple[FileMeta, dict[int, str]] | None:
    """Return what the head readers find, None where they do not find everything."""
    try:
        meta = read_meta(data, begin=META_AT)
        if not isinstance(meta, FileMeta):
            return None
        head = read_head(data[meta.offset :], meta.transfer_syntax, WANTED, complete=False)
    except HeadError:
        return None
    return None if head.need or head.absent else (meta, dict(head.values))


def implicit(sop_instance: str) -> bytes:
    parts = []
    for tag, value in ((0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0"), (0x00080018, sop_instance.encode())):
        value += b"\0" * (len(value) % 2)
        parts.append(struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value)
    return b"".join(parts) + struct.pack("<HHI", 0x0010, 0x0010, 4) + b"A^B "


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file whose UIDs may differ, with something of its own before, between and after them."""
    one = draw(uids)
    other = draw(st.one_of(st.just(one), uids))
    if draw(st.booleans()):
        data = file_meta(one, transfer_syntax=IMPLICIT) + implicit(other)
    else:
        before = draw(st.sampled_from([b"", element(0x00080008, b"CS", one.encode())]))
        data = file_meta(one, transfer_syntax=EXPLICIT) + before + data_set(other, pixels=b"")
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(min_size=1, max_size=1)) + data[at + 1 :]
    return data


@given(st.lists(files(), min_size=3, max_size=8), st.randoms())
def test_what_is_alike_is_what_is_read(made: list[bytes], random) -> None:
    like = Likeness(META_AT, WANTED)
    for data in [*made, *random.choices(made, k=6)]:
        found = read(data)
        alike = like.read(data)
        if alike is not None:
            assert alike == found
        elif found is not None and found[0].media_storage_sop_instance == found[1][0x00080018]:
            like.learn(data, *found)


def test_the_third_of_a_series_is_known(tmp_path: Path) -> None:
    like = Likeness(META_AT, WANTED)
    made = [file_meta(f"1.2.{number}") + data_set(f"1.2.{number}") for number in range(1, 4)]
    for data in made[:2]:
        assert like.read(data) is None
        like.learn(data, *read(data))  # type: ignore[misc]
    assert like.read(made[2]) == read(made[2])


def test_a_place_that_only_looks_like_the_uid_is_not_taken_for_it(tmp_path: Path) -> None:
    """The UID stands in an element before as well; there it is no SOP Instance UID."""
    like, found = likeness(), []
    for number, other in (("11", "1.2.11"), ("12", "1.2.12"), ("13", "1.2.99")):
        uid = f"1.2.{number}"
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(file_meta(uid) + element(0x00080008, b"CS", uid.encode()) + data_set(other))
        found.append((look_at(path, like=like), look_at(path)))
    assert all(alike == alone for alike, alone in found)
    assert found[2][0].sop_instance == "1.2.99"  # type: ignore[union-attr]
