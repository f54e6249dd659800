"""The head reader, with pydicom as the oracle, on every file that pydicom ships."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import pydicom
import pydicom.uid
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info

from dicomtls_cli.services.files import elements, head
from dicomtls_cli.services.files.head import (
    FileMeta,
    Head,
    HeadError,
    NeedMore,
    encode_meta,
    read_head,
    read_meta,
)
from dicomtls_cli.services.files.syntax import TransferSyntax, transfer_syntax

SOP_CLASS, SOP_INSTANCE, STUDY = 0x00080016, 0x00080018, 0x0020000D
WANTED = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY})
IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)

DATA = Path(pydicom.__file__).parent / "data"
FILES = sorted(
    path
    for folder in ("test_files", "charset_files")
    for path in (DATA / folder).rglob("*")
    if path.is_file()
)
IDS = [str(path.relative_to(DATA)) for path in FILES]


def read_all(data: bytes) -> tuple[FileMeta, Head]:
    meta = read_meta(data)
    if isinstance(meta, NeedMore):
        raise HeadError("the meta ends early")
    return meta, read_head(memoryview(data)[meta.offset :], meta.transfer_syntax, WANTED, complete=True)


@cache
def unreadable() -> dict[str, str]:
    """Return the shipped files that the reader refuses, with the reason."""
    refused = {}
    for path, name in zip(FILES, IDS, strict=True):
        try:
            read_all(path.read_bytes())
        except HeadError as error:
            refused[name.rpartition("/")[2]] = str(error)
    return refused


def oracle(path: Path) -> tuple[pydicom.Dataset, dict[int, str]]:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    values = {tag: dataset[tag].value or "" for tag in WANTED if tag in dataset}
    return dataset, values


NO_PART_10 = "there is no `DICM` after a preamble of 128 bytes"
BROKEN = {
    # Its data set is implicit VR, its transfer syntax JPEG Baseline.
    "SC_rgb_jpeg.dcm": "(0008,0008) at byte 0 has the unknown value representation b'\\x18\\x00'",
    # It has no transfer syntax, and group 0001.
    "meta_missing_tsyntax.dcm": "(0001,0001) at byte 0 has the unknown value representation b'\\xff\\xff'",
    **dict.fromkeys(["ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "no_meta.dcm"], NO_PART_10),
    "rtstruct.dcm": NO_PART_10,
}
NO_DICOM = {".txt", ".dump", ".json", ".icc", ".gz", ""}


def test_the_files_that_are_left_to_pydicom() -> None:
    refused = unreadable()
    assert {name: why for name, why in refused.items() if Path(name).suffix not in NO_DICOM} == BROKEN
    assert {why for name, why in refused.items() if Path(name).suffix in NO_DICOM} == {NO_PART_10}
    assert len(FILES) - len(refused) > 150


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_value_is_pydicoms(path: Path) -> None:
    if path.name in unreadable():
        with pytest.raises(HeadError):
            read_all(path.read_bytes())
        return
    meta, found = read_all(path.read_bytes())
    dataset, values = oracle(path)
    assert found.need == 0
    assert dict(found.values) == values
    assert found.absent == WANTED - values.keys()
    file_meta = dataset.file_meta
    assert meta.transfer_syntax == file_meta.get("TransferSyntaxUID", "")
    assert meta.media_storage_sop_class == file_meta.get("MediaStorageSOPClassUID", "")
    assert meta.media_storage_sop_instance == file_meta.get("MediaStorageSOPInstanceUID", "")


READABLE = [path for path in FILES if path.name not in unreadable()]


def small(*names: str) -> list[Path]:
    return [DATA / "test_files" / name for name in names]


VARIED = small(
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",
    "UN_sequence.dcm",
    "nested_priv_SQ.dcm",
    "no_meta_group_length.dcm",
    "reportsi.dcm",
    "rtplan.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
)


@pytest.mark.parametrize("path", VARIED, ids=lambda path: path.name)
def test_a_prefix_never_gives_a_wrong_value(path: Path) -> None:
    data = path.read_bytes()
    meta, whole = read_all(data)
    for end in range(meta.offset):
        short = read_meta(data[:end])
        # The meta is known to be complete when the next tag is, which takes 8 bytes.
        assert short == meta if end >= meta.offset + 8 else isinstance(short, NeedMore)
        assert not isinstance(short, NeedMore) or end < short.need <= meta.offset + 8
    body = memoryview(data)[meta.offset :]
    done = 0
    for end in range(min(len(body), 3000)):
        part = read_head(body[:end], meta.transfer_syntax, WANTED, complete=False)
        assert part.values.items() <= whole.values.items()
        assert part.absent <= whole.absent
        assert part == whole if not part.need else part.need > end
        assert not (done and part.need), "what was enough stays enough"
        done = not part.need
    assert done or len(body) <= 3000


@pytest.mark.parametrize("path", VARIED, ids=lambda path: path.name)
def test_asking_for_what_is_needed_ends(path: Path) -> None:
    data = path.read_bytes()
    meta, whole = read_all(data)
    body, have, rounds = data[meta.offset :], 0, 0
    while True:
        part = read_head(body[:have], meta.transfer_syntax, WANTED, complete=have >= len(body))
        if not part.need:
            break
        assert part.need > have
        have, rounds = part.need, rounds + 1
        assert have <= len(body) + 8
    assert part == whole
    assert rounds < 1000


def test_a_prefix_that_is_said_to_be_complete() -> None:
    data = (DATA / "test_files" / "CT_small.dcm").read_bytes()
    meta, whole = read_all(data)
    body = data[meta.offset :]
    ends = 0
    for end in range(400):
        try:
            part = read_head(body[:end], meta.transfer_syntax, WANTED, complete=True)
        except HeadError:
            continue
        ends += 1  # between two elements
        assert part.need == 0
        assert part.values.items() <= whole.values.items()
    assert 5 < ends < 60


ANY_SYNTAX = st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED, "1.2.3"])
TAGS = st.frozensets(
    st.sampled_from([*WANTED, 0x00080005, 0x00100020, 0x7FE00010, 0xFFFFFFFF, 0]), max_size=4
)


def never_raises(data: bytes, syntax: str, wanted: frozenset[int], complete: bool) -> None:
    try:
        meta = read_meta(data)
    except HeadError:
        pass
    else:
        assert not isinstance(meta, NeedMore) or meta.need > len(data)
        if isinstance(meta, FileMeta):
            data, syntax = data[meta.offset :], meta.transfer_syntax
    try:
        found = read_head(data, syntax, wanted, complete=complete)
    except HeadError:
        return
    assert not found.need or (not complete and found.need > len(data))
    assert found.values.keys() | found.absent <= wanted
    assert not found.values.keys() & found.absent
    assert found.need or found.values.keys() | found.absent == wanted


@given(st.binary(max_size=300), ANY_SYNTAX, TAGS, st.booleans(), st.booleans())
def test_arbitrary_bytes(
    data: bytes, syntax: str, wanted: frozenset[int], complete: bool, with_prefix: bool
) -> None:
    never_raises(b"\0" * 128 * with_prefix + b"DICM" * with_prefix + data, syntax, wanted, complete)
    never_raises(zlib.compress(data, wbits=-15), DEFLATED, wanted, complete)


PIECES = [
    *(struct.pack("<HH", *divmod_tag) for divmod_tag in ((0x8, 0x16), (0x8, 0x18), (0x20, 0xD), (0x9, 0x10))),
    struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF),
    struct.pack("<HHL", 0xFFFE, 0xE000, 4),
    struct.pack("<HHL", 0xFFFE, 0xE00D, 0),
    struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
    b"UI\4\0001.2\0",
    b"SQ\0\0\xff\xff\xff\xff",
    b"UN\0\0\xff\xff\xff\xff",
    b"OB\0\0\xfe\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\4\0\0\0",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40), ANY_SYNTAX, TAGS, st.booleans())
def test_arbitrary_pieces_of_data_sets(
    pieces: list[bytes], syntax: str, wanted: frozenset[int], complete: bool
) -> None:
    never_raises(b"".join(pieces), syntax, wanted, complete)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(VARIED),
    st.lists(st.tuples(st.integers(0, 1200), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4),
    st.integers(0, 4000),
    TAGS,
    st.booleans(),
)
def test_mutated_files(
    path: Path, changes: list[tuple[int, bytes]], length: int, wanted: frozenset[int], complete: bool
) -> None:
    data = bytearray(path.read_bytes()[:length])
    for at, new in changes:
        data[128 + at : 128 + at + len(new)] = new
    never_raises(bytes(data), EXPLICIT, wanted, complete)


# What is easily missed


def element(tag: int, vr: bytes, value: bytes, length: int | None = None, order: str = "<") -> bytes:
    """Encode an element, implicit where `vr` is empty; `length` lies about its length."""
    head_of = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    size = len(value) if length is None else length
    if vr in elements.SHORT_VRS:
        return head_of + vr + struct.pack(order + "H", size) + value
    return head_of + vr + b"\0\0" * bool(vr) + struct.pack(order + "L", size) + value


UNDEFINED = 0xFFFFFFFF
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
UID = element(SOP_INSTANCE, b"UI", b"1.2.3\0")


def item(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content) if length is None else length) + content


def find(data: bytes | bytearray, syntax: str = EXPLICIT, *wanted: int) -> Head:
    return read_head(data, syntax, frozenset(wanted) or frozenset({SOP_INSTANCE, STUDY}), complete=True)


def test_values_inside_sequences_are_not_found() -> None:
    inner = element(STUDY, b"UI", b"9.9\0")
    for sequence in (
        element(0x00081140, b"SQ", item(inner)),
        element(0x00081140, b"SQ", item(inner + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED),
        element(0x00081140, b"SQ", item(inner) + item(b"") + SEQUENCE_END, UNDEFINED),
        # In UN of undefined length everything is implicit VR.
        element(0x00091140, b"UN", item(element(STUDY, b"", b"9.9\0")) + SEQUENCE_END, UNDEFINED),
        element(
            0x00091140,
            b"UN",
            item(element(0x8, b"", b"\0\0") + ITEM_END, UNDEFINED) + SEQUENCE_END,
            UNDEFINED,
        ),
        element(0x00091140, b"OB", item(b"fragment") + SEQUENCE_END, UNDEFINED),
    ):
        found = find(UID + sequence + element(STUDY, b"UI", b"1.2\0"))
        assert found.values == {SOP_INSTANCE: "1.2.3", STUDY: "1.2"}
        assert find(UID + sequence).absent == {STUDY}


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = element(0x00081140, b"SQ", item(data + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED)
    return UID + data + element(STUDY, b"UI", b"1.2\0")


def test_nesting_is_capped() -> None:
    assert find(nested(elements.MAX_NESTING)).values[STUDY] == "1.2"
    for depth in (elements.MAX_NESTING + 1, 2000):
        with pytest.raises(HeadError, match="nested more than 64 deep"):
            find(nested(depth))


@pytest.mark.parametrize("vr", [b"UI", b"LO", b"UT", b"UN"])
def test_trailing_padding_is_removed(vr: bytes) -> None:
    assert (
        find(element(SOP_INSTANCE, vr, b"1.2.3\0 \0"), EXPLICIT, SOP_INSTANCE).values[SOP_INSTANCE] == "1.2.3"
    )


def test_text_keeps_every_byte() -> None:
    name = "M\u00fcller\u65e5".encode()
    value = find(element(0x00100010, b"PN", name), EXPLICIT, 0x00100010).values[0x00100010]
    assert value.encode("latin-1") == name


@pytest.mark.parametrize(
    ("data", "syntax", "reason"),
    [
        (element(SOP_INSTANCE, b"UT", b"", 0xFFFFFFFE), EXPLICIT, "of more than 65536 bytes"),
        (element(SOP_INSTANCE, b"", b"", 0xFFFFFFFE), IMPLICIT, "of more than 65536 bytes"),
        (element(SOP_INSTANCE, b"SQ", b"", UNDEFINED), EXPLICIT, "is no text"),
        (element(SOP_INSTANCE, b"UI", b"1.2", 64), EXPLICIT, "ends at byte 11, in the middle"),
        (element(0x00081110, b"SQ", b"", 0xFFFFFFF0), EXPLICIT, "ends at byte 12"),
        (element(0x00081110, b"SQ", UID, UNDEFINED), EXPLICIT, "where an item should begin"),
        (element(0x00080008, b"CS", b"", None) * 2, EXPLICIT, "out of order"),
        (UID + element(0x00080016, b"UI", b""), EXPLICIT, "out of order"),
        (ITEM_END, EXPLICIT, "unknown value representation"),
        (ITEM_END, IMPLICIT, "out of order"),
        (element(0x00080008, b"XX", b""), EXPLICIT, "unknown value representation b'XX'"),
        (element(0x00080008, b"UC", b"", UNDEFINED), EXPLICIT, "undefined length that b'UC'"),
        (element(0x00080008, b"CS", b""), IMPLICIT, "explicit VRs, against its transfer syntax"),
        (b"\x06\xff", DEFLATED, "not deflated"),
        (b"", DEFLATED, "before its end is marked"),
        (zlib.compress(UID, wbits=-15)[:-4], DEFLATED, "before its end is marked"),
    ],
)
def test_what_is_refused(data: bytes, syntax: str, reason: str) -> None:
    with pytest.raises(HeadError, match=reason):
        find(data, syntax)


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED])
def test_a_bytearray_can_grow_while_the_error_is_kept(syntax: str) -> None:
    growing = bytearray(UID[:-1])
    with pytest.raises(HeadError) as kept:
        find(growing, syntax)
    with pytest.raises(HeadError) as kept_too:
        read_meta(bytearray(b"\0" * 128 + b"DICM") + element(0x00020002, b"", b"1.2.3\0"))
    growing += b"\0"
    assert kept is not kept_too
    if syntax == EXPLICIT:
        assert find(growing, syntax).values[SOP_INSTANCE] == "1.2.3"


def test_a_length_that_is_not_wanted_is_only_a_number() -> None:
    data = element(0x00081140, b"SQ", b"", 0xFFFFFFF0)
    found = read_head(data, EXPLICIT, frozenset({0x00080005, STUDY}), complete=False)
    assert found == Head({}, frozenset({0x00080005}), 12 + 0xFFFFFFF0 + 8)


def test_deflated_output_is_bounded() -> None:
    big = element(0x00091010, b"UT", b"a" * (64 << 20))
    bomb = zlib.compress(UID + big + element(STUDY, b"UI", b"1.2\0"), wbits=-15)
    assert read_head(bomb, DEFLATED, frozenset({SOP_INSTANCE}), complete=True).values == {
        SOP_INSTANCE: "1.2.3"
    }
    with pytest.raises(HeadError, match=f"beyond the first {head.MAX_INFLATED} bytes"):
        find(bomb, DEFLATED)
    # Exactly at the end of an element, the bound is still not the end of the data set.
    filler = element(0x00091010, b"UT", b"a" * (head.MAX_INFLATED - len(UID) - 12))
    exact = zlib.compress(UID + filler + element(STUDY, b"UI", b"1.2\0"), wbits=-15)
    with pytest.raises(HeadError, match="beyond the first"):
        find(exact, DEFLATED)


def test_reading_stops_at_the_pixel_data() -> None:
    found = find(UID + element(0x7FE00010, b"OB", b"", UNDEFINED), EXPLICIT, SOP_INSTANCE, 0x7FE10010)
    assert found == Head({SOP_INSTANCE: "1.2.3"}, frozenset({0x7FE10010}), 0)
    assert read_head(b"", EXPLICIT, frozenset(), complete=False) == Head({}, frozenset(), 0)
    assert find(b"").absent == {SOP_INSTANCE, STUDY}


# File meta information


def meta_of(**kwargs: str) -> bytes:
    values = {
        "sop_class": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance": "1.2.3",
        "transfer_syntax": EXPLICIT,
        "implementation_class": "2.25.1",
        "implementation_version": "DICOMTLS_0.1",
    }
    return encode_meta(**{**values, **kwargs})


UIDS = st.from_regex(r"\A[0-2](\.(0|[1-9][0-9]{0,8})){1,6}\Z").filter(lambda uid: len(uid) <= 64)
TITLES = st.text(st.sampled_from("ABCxyz_0-9. "), min_size=1, max_size=16).map(str.strip).filter(bool)


@given(UIDS, UIDS, UIDS, UIDS, TITLES, st.lists(TITLES | st.just(""), min_size=3, max_size=3))
def test_encode_meta_is_pydicoms(
    sop_class: str, instance: str, syntax: str, implementation: str, version: str, titles: list[str]
) -> None:
    dataset = FileMetaDataset()
    dataset.FileMetaInformationVersion = b"\0\1"
    dataset.MediaStorageSOPClassUID = sop_class
    dataset.MediaStorageSOPInstanceUID = instance
    dataset.TransferSyntaxUID = syntax
    dataset.ImplementationClassUID = implementation
    dataset.ImplementationVersionName = version
    names = ("Source", "Sending", "Receiving")
    for name, title in zip(names, titles, strict=True):
        if title:
            setattr(dataset, f"{name}ApplicationEntityTitle", title)
    stream = io.BytesIO()
    write_file_meta_info(stream, dataset)
    ours = encode_meta(
        sop_class=sop_class,
        sop_instance=instance,
        transfer_syntax=syntax,
        implementation_class=implementation,
        implementation_version=version,
        source_ae=titles[0],
        sending_ae=titles[1],
        receiving_ae=titles[2],
    )
    assert ours == b"\0" * 128 + b"DICM" + stream.getvalue()
    assert read_meta(ours + UID) == FileMeta(syntax, sop_class, instance, len(ours))


def test_encode_meta_refuses_what_it_cannot_write() -> None:
    for text in ("\u65e5", "\udc80", "A" * 70000):
        with pytest.raises(HeadError):
            meta_of(source_ae=text)
    assert b"\xfc" in meta_of(source_ae="\xfc")


@pytest.mark.parametrize("stated", [None, 0, 2, 10, 0xFFFFFFFF])
def test_a_wrong_or_missing_group_length_does_not_matter(stated: int | None) -> None:
    meta = meta_of()
    length = b"" if stated is None else element(0x00020000, b"UL", struct.pack("<L", stated))
    wrong = meta[:132] + length + meta[144:]
    found = read_meta(wrong + UID)
    assert isinstance(found, FileMeta)
    assert found.offset == len(wrong)
    assert found.media_storage_sop_instance == "1.2.3"


def test_deflated_bytes_that_look_like_group_2() -> None:
    meta = meta_of(transfer_syntax=DEFLATED)
    found = read_meta(meta + b"\2\0\x19\0UI\0\0")
    assert isinstance(found, FileMeta)
    assert found.offset == len(meta)


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        (element(0x00020010, b"UI", b"1\0") + element(0x00020002, b"UI", b"1\0"), "out of order"),
        (element(0x00020010, b"UI", b"1\0") * 2, "out of order"),
        (element(0x00020001, b"OB", b"", UNDEFINED), "undefined length"),
        (element(0x00020002, b"", b"1.2.3\0"), "unknown value representation"),
    ],
)
def test_meta_that_is_refused(group: bytes, reason: str) -> None:
    with pytest.raises(HeadError, match=reason):
        read_meta(b"\0" * 128 + b"DICM" + group + b"\0" * 32)


def test_a_file_that_is_no_part_10_is_known_early() -> None:
    for data in (b"", b"\0" * 128, b"\0" * 128 + b"DIC"):
        assert read_meta(data) == NeedMore(140)
    with pytest.raises(HeadError):
        read_meta(b"\0" * 128 + b"X")


# Transfer syntaxes

TRANSFER_SYNTAXES = sorted(
    uid for uid, entry in pydicom.uid.UID_dictionary.items() if entry[1] == "Transfer Syntax"
)
NOT_OF_DATA_SETS = {"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2"}  # MIME and XML
NO_PIXELS_INSIDE = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.7.")


@pytest.mark.parametrize("uid", TRANSFER_SYNTAXES)
def test_transfer_syntaxes_are_as_pydicom_knows_them(uid: str) -> None:
    ours = transfer_syntax(uid)
    theirs = pydicom.uid.UID(uid)
    assert ours.known == (uid not in NOT_OF_DATA_SETS)
    assert ours.big_endian == (not theirs.is_little_endian)
    if not uid.endswith((".4.95", ".4.205", ".1.20")):  # pydicom knows only one deflated, one implicit syntax
        assert ours.deflated == theirs.is_deflated
        assert ours.implicit == theirs.is_implicit_VR
        assert (
            ours.encapsulated == theirs.is_encapsulated or uid.startswith(NO_PIXELS_INSIDE) or not ours.known
        )


def test_an_unknown_transfer_syntax_is_taken_for_explicit_little_endian() -> None:
    assert transfer_syntax("1.2.3") == TransferSyntax("1.2.3", known=False)
    assert find(UID, "1.2.3", SOP_INSTANCE).values == {SOP_INSTANCE: "1.2.3"}
