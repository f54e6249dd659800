"""Data sets in another encoding: any, beside what pydicom writes, by hand, and hostile ones."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicomtls_cli.services.files.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    MAX_NESTING,
    Encoding,
    HeadError,
)
from dicomtls_cli.services.transcoding.recode import recode
from dicomtls_cli.services.transcoding.source import Source
from dicomtls_cli.services.transcoding.vocabulary import vr_of
from tests.support.objects import element

ITEM, ITEM_END, SEQUENCE_END = (struct.pack("<HHL", 0xFFFE, n, 0) for n in (0xE000, 0xE00D, 0xE0DD))
UNDEFINED = 0xFFFFFFFF
OPEN_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)


def recoded(data: bytes, encoding: Encoding = EXPLICIT_LITTLE, *, implicit: bool = False) -> bytes:
    out = BytesIO()
    length = recode(Source(BytesIO(data), 0, len(data)), encoding, out, implicit=implicit)
    assert length == len(out.getvalue())
    assert length % 2 == 0
    return out.getvalue()


def plain(tag: int, value: bytes, *, length: int | None = None) -> bytes:
    """Return an element in implicit VR; `length` may lie."""
    said = len(value) if length is None else length
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, said) + value


def big(tag: int, vr: bytes, value: bytes) -> bytes:
    long = vr in (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UT", b"SV", b"UV")
    return struct.pack(">HH2sxxL" if long else ">HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def item(data: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data


# ---------------------------------------------------------------------- any data set

LONG = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
# Some elements of each VR, none of them ambiguous, by the bytes of their words.
BYTES = {
    0x00080054: "AE", 0x00101010: "AS", 0x00080060: "CS", 0x00080020: "DA", 0x00181063: "DS", 0x0008002A: "DT",
    0x00200013: "IS", 0x00080080: "LO", 0x00104000: "LT", 0x00080090: "PN", 0x00080050: "SH", 0x00082111: "ST",
    0x00080030: "TM", 0x00080119: "UC", 0x0020000D: "UI", 0x00081190: "UR", 0x0040A160: "UT", 0x00420011: "OB",
}  # fmt: skip
WORDS = {
    0x00280009: ("AT", "H"), 0x00280010: ("US", "H"), 0x00189219: ("SS", "H"), 0x00281201: ("OW", "H"),
    0x00041200: ("UL", "L"), 0x00186020: ("SL", "L"), 0x00089459: ("FL", "L"), 0x00660016: ("OF", "L"),
    0x00660040: ("OL", "L"), 0x00082134: ("FD", "Q"), 0x00660022: ("OD", "Q"), 0x7FE00001: ("OV", "Q"),
    0x00720082: ("SV", "Q"), 0x0008040C: ("UV", "Q"),
}  # fmt: skip
SEQUENCES = (0x00081115, 0x00081140, 0x0040A730)

Entries = dict[
    int, Any
]  # by tag: bytes, words, or items, each with whether it has a length, and the same of all


def written(entries: Entries, order: str, *, implicit: bool) -> bytes:
    """Return a data set in the byte order "<" or ">"."""
    parts = []
    for tag, entry in sorted(entries.items()):
        undefined = False
        if tag in SEQUENCES:
            vr, (items, undefined) = "SQ", entry
            value = b"".join(_item(*one, order, implicit) for one in items)
            value += struct.pack(order + "HHL", 0xFFFE, 0xE0DD, 0) if undefined else b""
        elif tag in WORDS:
            vr, form = WORDS[tag]
            value = struct.pack(f"{order}{len(entry)}{form}", *entry)
        else:
            vr, value = BYTES[tag], entry
        form = "HHL" if implicit else "HH2sxxL" if vr in LONG else "HH2sH"
        head = (tag >> 16, tag & 0xFFFF) if implicit else (tag >> 16, tag & 0xFFFF, vr.encode())
        parts += [struct.pack(order + form, *head, UNDEFINED if undefined else len(value)), value]
    return b"".join(parts)


def _item(entries: Entries, undefined: bool, order: str, implicit: bool) -> bytes:
    data = written(entries, order, implicit=implicit)
    head = struct.pack(order + "HHL", 0xFFFE, 0xE000, UNDEFINED if undefined else len(data))
    return head + data + (struct.pack(order + "HHL", 0xFFFE, 0xE00D, 0) if undefined else b"")


def _words(form: str) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, (1 << 8 * struct.calcsize("<" + form)) - 1), max_size=3)


# Any bytes for text: whatever a character set makes of them, they have to arrive.
_texts = st.binary(max_size=8).map(lambda text: text + b" " * (len(text) % 2))
_leaves = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(BYTES, _texts), **{tag: _words(form) for tag, (_, form) in WORDS.items()}}
)


def _nested(below: st.SearchStrategy[Entries]) -> st.SearchStrategy[Entries]:
    items = st.lists(st.tuples(below, st.booleans()), max_size=2)
    sequences = st.dictionaries(st.sampled_from(SEQUENCES), st.tuples(items, st.booleans()), max_size=2)
    return st.tuples(st.one_of(st.just({}), _leaves), sequences).map(lambda both: {**both[0], **both[1]})


def test_the_tables_of_these_tests_are_the_dictionarys() -> None:
    expected = {**BYTES, **{tag: vr for tag, (vr, _) in WORDS.items()}, **dict.fromkeys(SEQUENCES, "SQ")}
    assert {tag: dictionary_VR(tag) for tag in expected} == expected


@given(st.recursive(_leaves, _nested, max_leaves=4))
def test_any_data_set_in_any_encoding_is_the_same(entries) -> None:
    """From each of the three encodings to each target, byte for byte, and so back."""
    explicit, implicit = (written(entries, "<", implicit=form) for form in (False, True))
    big_endian = written(entries, ">", implicit=False)
    for source, encoding in (
        (explicit, EXPLICIT_LITTLE),
        (big_endian, EXPLICIT_BIG),
        (implicit, IMPLICIT_LITTLE),
    ):
        assert recoded(source, encoding) == explicit
        assert recoded(source, encoding, implicit=True) == implicit


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "Rows": st.integers(0, 65535),
            "SmallestImagePixelValue": st.integers(-32768, 32767),
            "FrameIncrementPointer": st.lists(st.sampled_from([0x00181063, 0x00181065]), min_size=1),
            "ReferencedFrameNumber": st.integers(0, 9999),
            "OffsetOfTheNextDirectoryRecord": st.integers(0, (1 << 32) - 1),
            "ReferencePixelX0": st.integers(-(1 << 31), (1 << 31) - 1),
            "RecommendedDisplayFrameRateInFloat": st.floats(width=32, allow_nan=False),
            "EventTimeOffset": st.floats(allow_nan=False),
            "SelectorSVValue": st.integers(-(1 << 63), (1 << 63) - 1),
            "FileOffsetInContainer": st.integers(0, (1 << 64) - 1),
            "PatientName": st.sampled_from(["A^B", "Gr\u00e4f^\u00c4nne"]),
        },
    )
)
def test_numbers_are_swapped_as_pydicom_writes_them(found) -> None:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PixelRepresentation = 1
    for name, value in found.items():
        setattr(dataset, name, value)
    outer = Dataset()
    outer.OriginalAttributesSequence = [dataset, Dataset()]
    forms = {}
    for implicit, little in ((False, True), (False, False), (True, True)):
        file = DicomBytesIO()
        file.is_implicit_VR, file.is_little_endian = implicit, little
        write_dataset(file, outer)
        forms[implicit, little] = file.getvalue()
    for (implicit, little), data in forms.items():
        encoding = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG
        assert recoded(data, encoding) == forms[False, True]
        assert recoded(data, encoding, implicit=True) == forms[True, True]


# ---------------------------------------------------------------------- by hand


def test_group_lengths_and_length_to_end_go() -> None:
    """They count the bytes of the old encoding (PS3.5 7.2)."""
    counts = element(0x00080000, b"UL", bytes(4)) + element(0x00080001, b"UL", bytes(4))
    name = element(0x00100010, b"PN", b"A^B ")
    inside = element(0x00400000, b"UL", bytes(4)) + element(0x0040A160, b"UT", b"text")
    data = counts + name + element(0x0040A730, b"SQ", item(inside))
    expected = plain(0x00100010, b"A^B ") + plain(0x0040A730, item(plain(0x0040A160, b"text")))
    assert recoded(data, implicit=True) == expected


def test_values_of_odd_length_are_padded_by_their_vr() -> None:
    data = b"".join(
        struct.pack("<HH2sH", 8, number, vr, len(value)) + value
        for number, vr, value in ((0x18, b"UI", b"1.2"), (0x50, b"SH", b"abc"), (0x60, b"CS", b"OT"))
    )
    expected = plain(0x00080018, b"1.2\0") + plain(0x00080050, b"abc ") + plain(0x00080060, b"OT")
    assert recoded(data, implicit=True) == expected
    assert recoded(plain(0x00080018, b"1.2") + plain(0x00091001, b"x"), IMPLICIT_LITTLE) == (
        element(0x00080018, b"UI", b"1.2\0") + element(0x00091001, b"UN", b"x\0")
    )


def test_private_elements_become_un() -> None:
    """But for their creators: what they are, only the vendor knows (PS3.5 6.2.2)."""
    data = plain(0x00091001, b"ab") + plain(0x00090010, b"VENDOR") + plain(0x00099999, b"")
    assert recoded(data, IMPLICIT_LITTLE) == (
        element(0x00091001, b"UN", b"ab")
        + element(0x00090010, b"LO", b"VENDOR")
        + element(0x00099999, b"UN", b"")
    )


def test_a_public_element_that_nobody_knows_becomes_un() -> None:
    assert recoded(plain(0x00080002, b"ab"), IMPLICIT_LITTLE) == element(0x00080002, b"UN", b"ab")


@pytest.mark.parametrize("length", [65534, 65536, 1 << 19])
def test_a_value_too_long_for_its_vr_becomes_un(length) -> None:
    """The length of a short VR has 16 bits (PS3.5 6.2.2); contours in DS are longer."""
    value = b"1\\" * (length // 2)
    vr = b"DS" if length < 65536 else b"UN"
    assert recoded(plain(0x30060050, value), IMPLICIT_LITTLE) == element(0x30060050, vr, value)


@pytest.mark.parametrize(("signed", "vr"), [(None, b"US"), (0, b"US"), (1, b"SS")])
def test_ambiguous_numbers_go_by_pixel_representation(signed, vr) -> None:
    """Also where they stand before it, and in items."""
    value = b"\xff\xff"
    own = b"" if signed is None else plain(0x00280103, struct.pack("<H", signed))
    icon = plain(0x00880200, item(plain(0x00280106, value)))
    other = plain(0x00880200, item(plain(0x00280103, b"\1\0") + plain(0x00280106, value)))
    found = recoded(plain(0x00189810, value) + own + plain(0x00280106, value) + icon + other, IMPLICIT_LITTLE)
    assert element(0x00189810, vr, value) in found
    assert (
        element(0x00280106, vr, value) + element(0x00880200, b"SQ", item(element(0x00280106, vr, value)))
        in found
    )
    assert found.endswith(element(0x00280103, b"US", b"\1\0") + element(0x00280106, b"SS", value))


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x7FE00010, b"OW"),
        (0x60023000, b"OW"),
        (0x54001010, b"OW"),
        (0x00283006, b"OW"),
        (0x00281200, b"OW"),
        (0x60020010, b"US"),
        (0x00080018, b"UI"),
        (0x0040A730, b"SQ"),
        (0x00080009, b"UN"),
        (0x00090010, b"LO"),
        (0x0009000F, b"UN"),
        (0x00091010, b"UN"),
    ],
)
def test_vrs_of_implicit_elements(tag, vr) -> None:
    assert vr_of(tag, signed=True) == vr


def test_a_sequence_in_un_stays_implicit() -> None:
    """PS3.5 6.2.2: UN of undefined length is a sequence in implicit VR, whatever is around it."""
    inside = OPEN_ITEM + plain(0x00080100, b"CODE") + plain(0x00091001, b"ab") + ITEM_END + SEQUENCE_END
    explicit = struct.pack("<HH2sxxL", 9, 0x1010, b"UN", UNDEFINED) + inside
    implicit = struct.pack("<HHL", 9, 0x1010, UNDEFINED) + inside
    big_endian = struct.pack(">HH2sxxL", 9, 0x1010, b"UN", UNDEFINED) + inside
    assert recoded(explicit) == explicit
    assert recoded(explicit, implicit=True) == implicit
    assert recoded(big_endian, EXPLICIT_BIG) == explicit
    assert recoded(big_endian, EXPLICIT_BIG, implicit=True) == implicit
    # Back from implicit VR it is a sequence like others.
    sequence = struct.pack("<HH2sxxL", 9, 0x1010, b"SQ", UNDEFINED)
    values = element(0x00080100, b"SH", b"CODE") + element(0x00091001, b"UN", b"ab")
    assert recoded(implicit, IMPLICIT_LITTLE) == sequence + OPEN_ITEM + values + ITEM_END + SEQUENCE_END


def test_un_of_defined_length_is_copied() -> None:
    value = item(plain(0x00080100, b"CODE"))
    data = element(0x0040A043, b"UN", value)
    assert recoded(data) == data
    assert recoded(data, implicit=True) == plain(0x0040A043, value)
    assert recoded(big(0x0040A043, b"UN", value), EXPLICIT_BIG) == data


def test_what_the_dictionary_takes_for_a_sequence_and_is_none() -> None:
    assert recoded(plain(0x0040A730, b"abcd"), IMPLICIT_LITTLE) == element(0x0040A730, b"UN", b"abcd")
    assert recoded(plain(0x0040A730, b""), IMPLICIT_LITTLE) == element(0x0040A730, b"SQ", b"")


def test_items_in_implicit_vr_inside_of_explicit_vr() -> None:
    """Some writers do so; pydicom reads it, and so do we."""
    inside = item(plain(0x00080100, b"CODE"))
    expected = item(element(0x00080100, b"SH", b"CODE"))
    data = struct.pack("<HH2sxxL", 0x40, 0xA043, b"SQ", UNDEFINED) + inside + SEQUENCE_END
    found = recoded(data)
    assert found == struct.pack("<HH2sxxL", 0x40, 0xA043, b"SQ", UNDEFINED) + expected + SEQUENCE_END
    assert recoded(element(0x0040A043, b"SQ", inside), implicit=True) == plain(0x0040A043, inside)


@pytest.mark.parametrize("said", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_a_data_set_that_is_encoded_otherwise_than_it_says(said) -> None:
    explicit, implicit = element(0x00080018, b"UI", b"1.23"), plain(0x00080018, b"1.23")
    for data in (explicit, implicit):
        assert recoded(data, said) == explicit
        assert recoded(data, said, implicit=True) == implicit


def test_in_the_same_encoding_sequences_are_copied_with_all_they_hold() -> None:
    data = element(0x0040A730, b"SQ", b"no items at all ")
    assert recoded(data) == data
    assert recoded(b"") == b""


@pytest.mark.parametrize("count", [1, 8, 512, 300_000])
def test_padding_of_the_file_goes(count) -> None:
    data = element(0x00080018, b"UI", b"1.23")
    assert recoded(data + bytes(count)) == data
    assert recoded(plain(0x00080018, b"1.23") + bytes(count), IMPLICIT_LITTLE) == data


def test_trailing_padding_that_is_an_element_stays() -> None:
    data = element(0x00080018, b"UI", b"1.23") + element(0xFFFCFFFC, b"OB", bytes(100))
    assert recoded(data) == data


def test_elements_out_of_order_stay_so() -> None:
    data = element(0x00100010, b"PN", b"A^B ") + element(0x00080018, b"UI", b"1.23")
    assert recoded(data, implicit=True) == plain(0x00100010, b"A^B ") + plain(0x00080018, b"1.23")


@pytest.mark.parametrize(
    ("vr", "bits", "value", "expected"),
    [
        (b"OW", 16, b"\1\2\3\4", b"\2\1\4\3"),
        (b"OW", 8, b"\2\1\4\3", b"\1\2\3\4"),  # two pixels to a word
        (b"OB", 8, b"\1\2\3\4", b"\1\2\3\4"),
        (b"OW", 1, b"\1\2", b"\2\1"),
        (b"OW", 32, b"\1\2\3\4", None),
        (b"OB", 16, b"\1\2", None),
        (b"OW", 16, b"", b""),
    ],
)
def test_big_endian_pixels(vr, bits, value, expected) -> None:
    """Of more than 16 bits in OW nobody knows the order: DCMTK swaps two bytes, pydicom four."""
    data = big(0x00280100, b"US", struct.pack(">H", bits)) + big(0x7FE00010, vr, value)
    if expected is None:
        with pytest.raises(HeadError, match=f"big endian pixels of {bits} bits in {vr.decode()}"):
            recoded(data, EXPLICIT_BIG)
    else:
        assert recoded(data, EXPLICIT_BIG) == us(bits) + element(0x7FE00010, vr, expected)


def us(value: int) -> bytes:
    return element(0x00280100, b"US", struct.pack("<H", value))


# ---------------------------------------------------------------------- broken and hostile


@pytest.mark.parametrize(
    ("data", "encoding", "words"),
    [
        (b"\x08\0\x18", EXPLICIT_LITTLE, "cut off"),
        (
            element(0x00080018, b"UI", b"1.23")[:-1],
            EXPLICIT_LITTLE,
            r"\(0008,0018\) at byte 0 has 4 bytes, more",
        ),
        (element(0x00080018, b"UI", b"1.23")[:6], EXPLICIT_LITTLE, "cut off"),
        (element(0x0040A160, b"UT", b"")[:10], EXPLICIT_LITTLE, "cut off"),
        (element(0x00080018, b"UI", b"1.23") + b"\x08\0\x19\0Q?\0\0", EXPLICIT_LITTLE, "unknown value repr"),
        (element(0x00080018, b"UI", b"1.23") + bytes(8) + b"x", EXPLICIT_LITTLE, "nothing at byte 12"),
        (b"\0\x08\0\x18\0\0\0\x04" + b"1.23", EXPLICIT_BIG, "big endian and has no explicit VRs"),
        (big(0x00281201, b"OW", b"abc"), EXPLICIT_BIG, "no multiple of 2"),
        (plain(0x00080018, SEQUENCE_END, length=UNDEFINED), IMPLICIT_LITTLE, "is no sequence"),
        (plain(0x7FE00010, SEQUENCE_END, length=UNDEFINED), IMPLICIT_LITTLE, "is encapsulated, against"),
        (element(0x00091010, b"OB", b"", length=UNDEFINED), EXPLICIT_LITTLE, "is no sequence"),
        (element(0x00080018, b"UI", b"1.23") + ITEM_END, EXPLICIT_LITTLE, "outside of a sequence"),
        (element(0x00080018, b"UI", b"1.23") + SEQUENCE_END, EXPLICIT_LITTLE, "outside of a sequence"),
        (plain(0x0040A730, OPEN_ITEM, length=UNDEFINED), IMPLICIT_LITTLE, "cut off"),
        (plain(0x0040A730, item(b"") + b"abcd\0\0\0\0"), IMPLICIT_LITTLE, "where an item should begin"),
        (plain(0x0040A730, item(b"abcdefgh")[:-4]), IMPLICIT_LITTLE, "an item at byte 8 has 8 bytes, more"),
        (plain(0x0040A730, item(plain(0x00080050, b"ab", length=4))), IMPLICIT_LITTLE, "4 bytes, more than"),
        (plain(0x0040A730, item(ITEM_END)), IMPLICIT_LITTLE, "outside of a sequence"),
        (plain(0x0040A730, ITEM + SEQUENCE_END), IMPLICIT_LITTLE, "where an item should begin"),
    ],
)
def test_what_is_no_data_set(data, encoding, words) -> None:
    with pytest.raises(HeadError, match=words):
        recoded(data, encoding, implicit=encoding is not IMPLICIT_LITTLE)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("depth", [MAX_NESTING, MAX_NESTING + 2, 20_000])
def test_nesting_has_a_limit(depth, implicit) -> None:
    explicit_open = struct.pack("<HH2sxxL", 0x40, 0xA730, b"SQ", UNDEFINED)
    opened = plain(0x0040A730, b"", length=UNDEFINED) if implicit else explicit_open
    data = (opened + OPEN_ITEM) * depth + (ITEM_END + SEQUENCE_END) * depth
    encoding = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE
    if depth <= MAX_NESTING:
        assert recoded(data, encoding, implicit=implicit) == data
        recoded(data, encoding, implicit=not implicit)
        return
    for target in (False, True):
        with pytest.raises(HeadError, match="nested more than 64 deep"):
            recoded(data, encoding, implicit=target)


class Counted(BytesIO):
    """A file that counts what is read of it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack("<HH2sxxL", 0x40, 0xA730, b"SQ", UNDEFINED) + OPEN_ITEM * 5000, id="items"),
        pytest.param(
            struct.pack("<HH2sxxL", 0x40, 0xA730, b"SQ", UNDEFINED)
            + (OPEN_ITEM + struct.pack("<HH2sxxL", 0x7FE0, 0x10, b"OB", UNDEFINED)) * 5000,
            id="pixel data without end, on which pydicom's time grows with the square",
        ),
        pytest.param(bytes(100_000) + b"\1", id="nothing, and then something"),
        pytest.param(element(0x00080050, b"SH", b"") * 10_000, id="empty elements"),
        pytest.param(element(0x0040A730, b"SQ", item(b"") * 10_000), id="empty items"),
        pytest.param(
            element(0x0040A730, b"SQ", item(element(0x0040A730, b"SQ", item(b"") * 20)) * 200), id="nested"
        ),
    ],
)
@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_the_work_grows_with_the_bytes_only(data, encoding) -> None:
    file = Counted(data)
    with contextlib.suppress(HeadError):
        recode(Source(file, 0, len(data)), encoding, BytesIO(), implicit=True)
    assert file.count < 8 * len(data)


def _tokens() -> st.SearchStrategy[bytes]:
    lengths = st.sampled_from([0, 2, 8, 16, 40, 200, UNDEFINED, 0xFFFFFFFE, 0x7FFFFFFF])
    tags = st.sampled_from(
        [(8, 0x18), (0x40, 0xA730), (0x88, 0x200), (0x7FE0, 0x10), (9, 0x1010), (0x28, 0x103)]
    )
    vrs = st.sampled_from([b"SQ", b"UN", b"OB", b"OW", b"UI", b"US", b"??"])
    return st.one_of(
        st.tuples(tags, lengths).map(lambda found: struct.pack("<HHL", *found[0], found[1])),
        st.tuples(tags, vrs, lengths).map(lambda found: struct.pack("<HH2sxxL", *found[0], *found[1:])),
        st.tuples(tags, vrs, st.integers(0, 20)).map(
            lambda found: struct.pack("<HH2sH", *found[0], *found[1:])
        ),
        st.sampled_from([ITEM, ITEM_END, SEQUENCE_END, OPEN_ITEM]),
        st.tuples(lengths).map(lambda found: struct.pack("<HHL", 0xFFFE, 0xE000, *found)),
        st.binary(max_size=10),
    )


@given(
    st.lists(_tokens(), max_size=30).map(b"".join),
    st.sampled_from([EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG]),
    st.booleans(),
)
def test_any_bytes_are_recoded_or_refused(data, encoding, implicit) -> None:
    """And what comes out can be read again, to the same."""
    try:
        found = recoded(data, encoding, implicit=implicit)
    except HeadError:
        return
    again = recoded(found, IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE, implicit=implicit)
    assert again == found
