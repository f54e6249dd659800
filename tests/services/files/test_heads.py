"""Heads that come one after the other: what the fast reader finds is what the slow one finds, whatever came before."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.services.files import heads
from dicomtls_cli.services.files.head import Head, HeadError, read_head
from dicomtls_cli.services.files.heads import HeadReader
from tests.support import images
from tests.support.objects import data_set, element
from tests.support.scripted import EXPLICIT, IMPLICIT

BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
WANTED = frozenset({0x00080016, 0x00080018, 0x0020000D})


def outcome(read, data: bytes, syntax: str, complete: bool) -> Head | str:  # type: ignore[no-untyped-def]
    try:
        return read(data, syntax, complete=complete)
    except HeadError as error:
        return str(error)


def slow(data: bytes, syntax: str, *, complete: bool) -> Head:
    return read_head(data, syntax, WANTED, complete=complete)


def encoded(tag: int, vr: bytes, value: bytes, syntax: str) -> bytes:
    order = ">" if syntax == BIG else "<"
    start = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return start + struct.pack("<L", len(value)) + value
    form = f"{order}2xL" if vr in (b"UN", b"SQ", b"OB") else f"{order}H"
    return start + vr + struct.pack(form, len(value)) + value


TAGS = [0x00080005, 0x00080008, *sorted(WANTED), 0x00080060, 0x00100010, 0x00181000, 0x00200010, 0x7FE00010]
elements = st.dictionaries(
    st.sampled_from(TAGS),
    st.tuples(st.sampled_from([b"UI", b"LO", b"UN", b"SQ", b"OB", b"ZZ"]), st.sampled_from([0, 2, 4, 30])),
)


@st.composite
def similar_heads(draw: st.DrawFn) -> list[tuple[bytes, str, bool]]:
    """Return data sets of one kind: the same elements, values of their own, sometimes another length, or damage."""
    syntax = draw(st.sampled_from([EXPLICIT, IMPLICIT, BIG]))
    kind = draw(elements)
    for tag in WANTED:
        if draw(st.integers(0, 9)):
            kind[tag] = b"UI", draw(st.sampled_from([2, 30]))
    found = []
    for _ in range(draw(st.integers(2, 6))):
        parts = []
        for tag, (vr, length) in sorted(kind.items()):
            size = length if draw(st.integers(0, 9)) else length + 2
            parts.append(encoded(tag, vr, draw(st.binary(min_size=size, max_size=size)), syntax))
        data = bytearray(b"".join(parts))
        if data and not draw(st.integers(0, 4)):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        if not draw(st.integers(0, 4)):
            del data[draw(st.integers(0, len(data))) :]
        said = (
            syntax if draw(st.integers(0, 9)) else draw(st.sampled_from([EXPLICIT, IMPLICIT, BIG, DEFLATED]))
        )
        found.append((bytes(data), said, draw(st.booleans())))
    return found


@given(similar_heads())
def test_what_came_before_changes_nothing(sent) -> None:
    reader = HeadReader(WANTED)
    for data, syntax, complete in sent:
        assert outcome(reader.read, data, syntax, complete) == outcome(slow, data, syntax, complete)


def test_every_kind_of_file_is_read_as_before() -> None:
    reader = HeadReader(WANTED)
    syntaxes = {EXPLICIT, IMPLICIT, BIG, DEFLATED}
    sent = [(images.as_sent(path), syntax) for path in images.variety() for syntax in syntaxes]
    for data, syntax in sent + sent[::-1]:
        assert outcome(reader.read, data, syntax, True) == outcome(slow, data, syntax, True)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each head that is read step by step."""
    lengths: list[int] = []

    def read(data: bytes, *words: object, complete: bool) -> Head:
        lengths.append(len(data))
        return read_head(data, *words, complete=complete)  # type: ignore[arg-type]

    monkeypatch.setattr(heads, "read_head", read)
    return lengths


def test_a_series_is_read_step_by_step_once_for_each_length(monkeypatch) -> None:
    steps = counted(monkeypatch)
    reader = HeadReader(WANTED)
    for number in range(8, 108):
        uid = f"1.2.{number}"
        assert reader.read(data_set(uid), EXPLICIT, complete=False).values[0x00080018] == uid
    assert len(steps) == 2  # "1.2.8" is as long as "1.2.10": lengths are even


def test_where_no_two_are_alike_it_is_not_tried_for_ever(monkeypatch) -> None:
    steps = counted(monkeypatch)
    reader = HeadReader(WANTED)
    for number in range(100):
        reader.read(
            data_set(before_study=element(0x00181000, b"LO", b"x" * 2 * number)), EXPLICIT, complete=False
        )
    assert len(steps) == 100
    assert reader._shapes == []


def test_each_thread_has_its_own(monkeypatch) -> None:
    steps = counted(monkeypatch)
    reader = HeadReader(WANTED)
    with ThreadPoolExecutor(1) as other:
        for _ in range(3):
            reader.read(data_set(), EXPLICIT, complete=False)
            other.submit(reader.read, data_set(), EXPLICIT, complete=False).result()
    assert len(steps) == 2


def test_of_a_head_of_very_many_elements_nothing_is_kept() -> None:
    many = b"".join(element(0x00190000 + number, b"LO", b"") for number in range(0x1000, 0x4000))
    reader = HeadReader(WANTED)
    for _ in range(2):
        assert (
            reader.read(data_set(before_study=many), EXPLICIT, complete=False).values[0x00080018] == "1.2.3"
        )
    assert reader._shapes == []
