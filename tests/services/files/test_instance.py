"""What is known of one file before it is sent, and which are not sent: broken, cut off, or none of DICOM's."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services.files import head, instance
from dicomtls_cli.services.files.instance import Instance, read_instance
from dicomtls_cli.services.files.skipped import Skipped
from tests.support import images
from tests.support.objects import data_set, element, file_meta, write
from tests.support.scripted import CT, EXPLICIT, IMPLICIT, MR

BIG, DEFLATED, JPEG = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
PRIVATE = "1.2.3.4"


def sent(path: Path) -> Instance:
    """Return what is known of a file that can be sent."""
    found = read_instance(path)
    assert isinstance(found, Instance), found
    return found


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of bytes of every further read from a file."""
    read, pread = [], os.pread

    def count(file: int, count: int, at: int) -> bytes:
        data = pread(file, count, at)
        read.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", count)
    return read


def refused(path: Path) -> Skipped:
    """Return why a file that was named is not sent."""
    found = read_instance(path, named=True)
    assert isinstance(found, Skipped), found
    assert found.path == path
    assert found.error.exit_code == ExitCode.INPUT
    assert str(path) in found.error.message
    assert found.error.hint
    return found


def test_what_is_known_of_a_file(tmp_path) -> None:
    path = write(tmp_path / "a.dcm")
    found = sent(path)
    offset = len(file_meta())
    modified = path.stat().st_mtime_ns
    assert found == Instance(
        str(path), offset + len(data_set()), offset, CT, "1.2.3", EXPLICIT, modified=modified
    )


@pytest.mark.parametrize("path", images.variety(), ids=lambda path: path.name)
def test_real_files_are_read_as_pydicom_reads_them(path) -> None:
    found = sent(path)
    seen = pydicom.dcmread(path)
    assert found.sop_class == (seen.get("SOPClassUID") or seen.file_meta.MediaStorageSOPClassUID)
    assert found.sop_instance == images.sop_instance(path)
    assert found.transfer_syntax == seen.file_meta.TransferSyntaxUID
    assert path.read_bytes()[found.offset :] == images.data_set(path)
    assert found.size == path.stat().st_size


@pytest.mark.parametrize(
    ("data", "meta", "remark"),
    [
        (data_set("1.2.3"), {}, ""),
        (data_set("1.2.4"), {}, "the file meta has another SOP Instance UID (1.2.3)"),
        (data_set("1.2.3", sop_class=MR), {}, f"the file meta has another SOP Class UID ({CT})"),
    ],
)
def test_the_data_sets_uids_count(data, meta, remark, tmp_path) -> None:
    path = write(tmp_path / "a.dcm", data, **meta)
    found = sent(path)
    seen = pydicom.dcmread(path)
    assert (found.sop_class, found.sop_instance) == (seen.SOPClassUID, seen.SOPInstanceUID)
    assert found.remark == remark


def test_the_file_metas_uids_stand_in_where_the_data_set_has_none(tmp_path) -> None:
    path = write(tmp_path / "a.dcm", element(0x00100010, b"PN", b"Nobody"), "1.2.77", sop_class=MR)
    found = sent(path)
    assert (found.sop_class, found.sop_instance) == (MR, "1.2.77")
    assert found.remark == "the data set has no SOP Instance UID; the data set has no SOP Class UID"


def test_uids_behind_a_long_value_are_found(tmp_path) -> None:
    """The first read does not reach them."""
    long = element(0x00080005, b"UT", b"x" * 300_000)
    found = sent(write(tmp_path / "a.dcm", long + data_set("1.2.55")))
    assert found.sop_instance == "1.2.55"


def test_a_deflated_data_set(tmp_path) -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = packer.compress(data_set("1.2.66")) + packer.flush()
    found = sent(write(tmp_path / "a.dcm", data, "1.2.66", transfer_syntax=DEFLATED))
    assert (found.sop_instance, found.transfer_syntax) == ("1.2.66", DEFLATED)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"hello", "no `DICM`"),
        (bytes(1000), "no `DICM`"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB\n", "it is a PEM file"),
        (b"Bag Attributes\n    friendlyName: x\n-----BEGIN PRIVATE KEY-----\n", "it is a PEM file"),
        (b" " + data_set(), "does not begin as a data set"),
    ],
)
def test_a_file_that_is_no_dicom(content, words, tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    skipped = refused(path)
    assert words in skipped.error.message
    assert skipped.error.slug == "input.not-dicom"
    assert skipped.expected
    among_others = read_instance(path)
    assert isinstance(among_others, Skipped)
    assert not among_others.expected  # nobody named it: it is just no image


WHOLE = file_meta() + data_set()


def test_a_file_cut_off_in_its_uids_is_named_as_such(tmp_path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(WHOLE[: len(file_meta()) + 20])
    assert refused(path).error.slug == "input.truncated"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(WHOLE[:132], id="after the prefix"),
        pytest.param(WHOLE[:150], id="in the meta"),
        pytest.param(file_meta("") + data_set(""), id="no SOP Instance UID"),
        pytest.param(file_meta("not a UID") + data_set("not a UID"), id="no valid SOP Instance UID"),
        pytest.param(file_meta(transfer_syntax="") + data_set(sop_class=None), id="no transfer syntax"),
        pytest.param(file_meta("", sop_class="") + b"\xff" * 500, id="garbage"),
        pytest.param(file_meta("", transfer_syntax=DEFLATED) + b"\xff" * 500, id="not deflated"),
    ],
)
def test_a_broken_file_is_a_failure_also_where_nobody_named_it(content, tmp_path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    assert refused(path).error.slug == "input.broken-dicom"
    among_others = read_instance(path)
    assert isinstance(among_others, Skipped)
    assert among_others.expected


def test_a_length_in_the_head_does_not_decide_how_much_is_read(tmp_path, monkeypatch) -> None:
    path = tmp_path / "huge.dcm"
    path.write_bytes(file_meta() + element(0x00080005, b"UT", b"", length=4_000_000_000))
    with path.open("r+b") as file:
        file.truncate(4_000_100_000)  # sparse: takes no room
    read = counted(monkeypatch)
    assert refused(path).error.slug == "input.broken-dicom"
    assert sum(read) <= 3 << 20


def test_a_deflate_bomb_is_not_inflated(tmp_path) -> None:
    """A MiB of it would be a GiB of memory."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    data = packer.compress(element(0x00080005, b"UT", bytes(64 << 20))) + packer.flush()
    path = write(tmp_path / "a.dcm", data, transfer_syntax=DEFLATED)
    tracemalloc.start()
    assert refused(path).error.slug == "input.broken-dicom"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


# --- what is wrong with its UIDs, and what is told of it --------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "words"),
    [
        ("", "it has no SOP Instance UID"),
        ("1." + "2" * 63, "its SOP Instance UID has 65 characters, more than 64"),
        ("1.2.x", "its SOP Instance UID is not valid (`1.2.x`)"),
        ("1.2\\1.3", "its SOP Instance UID is not valid (`1.2\\1.3`)"),
        ("../../etc", "its SOP Instance UID is not valid (`../../etc`)"),
    ],
)
def test_a_sop_instance_uid_that_is_none(uid, words, tmp_path) -> None:
    skipped = refused(write(tmp_path / "a.dcm", data_set(uid), uid))
    assert skipped.error.slug == "input.broken-dicom"
    assert words in skipped.error.message


def test_a_uid_of_64_characters_is_one(tmp_path) -> None:
    uid = "1." + "2" * 62
    assert sent(write(tmp_path / "a.dcm", data_set(uid), uid)).sop_instance == uid


@pytest.mark.parametrize(
    ("meta", "remark"),
    [
        ({"sop_instance": ""}, "the file meta has no SOP Instance UID"),
        ({"sop_class": ""}, "the file meta has no SOP Class UID"),
        ({"sop_class": MR, "sop_instance": "1.9"},
         f"the file meta has another SOP Instance UID (1.9); the file meta has another SOP Class UID ({MR})"),
        ({"transfer_syntax": ""},
         "its file meta has no transfer syntax; its data set is explicit VR little endian"),
        ({"transfer_syntax": "x"},
         "its file meta has no transfer syntax; its data set is explicit VR little endian"),
    ],
)  # fmt: skip
def test_what_the_file_meta_lacks_is_told(meta, remark, tmp_path) -> None:
    found = sent(write(tmp_path / "a.dcm", data_set(), **meta))
    assert (found.sop_class, found.sop_instance, found.transfer_syntax) == (CT, "1.2.3", EXPLICIT)
    assert found.remark == remark


# --- encodings -------------------------------------------------------------------------------------------


def encoded(syntax: str, *, pixels: bool = True, compressed: bool = False) -> bytes:
    """Return a data set as pydicom encodes it in `syntax`, its UIDs those of `data_set()`."""
    found = pydicom.Dataset()
    found.SpecificCharacterSet = "ISO_IR 100"
    found.SOPClassUID, found.SOPInstanceUID = CT, "1.2.3"
    found.ReferencedImageSequence = [pydicom.Dataset()]
    if pixels:
        found.add_new("PixelData", "OB" if compressed else "OW", bytes(64))
    if compressed:
        found.PixelData = pydicom.encaps.encapsulate([bytes(64)])
        found["PixelData"].is_undefined_length = True
    stream = pydicom.filebase.DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    pydicom.filewriter.write_dataset(stream, found)
    data: bytes = stream.getvalue()
    if syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = packer.compress(data) + packer.flush()
    return data


NAMES = {
    IMPLICIT: "implicit VR little endian",
    EXPLICIT: "explicit VR little endian",
    BIG: "explicit VR big endian",
    DEFLATED: "deflated explicit VR little endian",
}


@pytest.mark.parametrize(
    ("stated", "actual"),
    [*((s, a) for s in (IMPLICIT, EXPLICIT, DEFLATED) for a in (IMPLICIT, EXPLICIT)), (BIG, BIG)],
)
@pytest.mark.parametrize("pixels", [True, False])
def test_a_file_is_sent_in_the_encoding_it_has(stated, actual, pixels, tmp_path) -> None:
    """An archive that believes what the file meta says of another encoding stores what nobody can read."""
    data = encoded(actual, pixels=pixels)
    found = sent(write(tmp_path / "a.dcm", data, transfer_syntax=stated))
    assert (found.transfer_syntax, found.sop_class, found.sop_instance) == (actual, CT, "1.2.3")
    told = f"its file meta says {NAMES[stated]}; its data set is {NAMES[actual]}"
    assert found.remark == (told if stated != actual else "")
    assert found.path.read_bytes()[found.offset :] == data


@pytest.mark.parametrize("stated", [IMPLICIT, EXPLICIT, BIG, JPEG])
def test_a_deflated_data_set_that_is_not_said_to_be_is_not_sent(stated, tmp_path) -> None:
    skipped = refused(write(tmp_path / "a.dcm", encoded(DEFLATED), transfer_syntax=stated))
    assert skipped.error.slug in ("input.broken-dicom", "input.truncated")


@pytest.mark.parametrize(
    ("stated", "data", "words"),
    [
        (JPEG, encoded(IMPLICIT), f"its file meta says {JPEG}; its data set is implicit VR little endian"),
        (BIG, encoded(EXPLICIT),
         "its file meta says explicit VR big endian; its data set is explicit VR little endian"),
        (BIG, encoded(IMPLICIT),
         "its file meta says explicit VR big endian; its data set is implicit VR little endian"),
        (EXPLICIT, encoded(BIG),
         "its file meta says explicit VR little endian; its data set is explicit VR big endian"),
        (IMPLICIT, encoded(BIG),
         "its file meta says implicit VR little endian; its data set is explicit VR big endian"),
        (DEFLATED, encoded(BIG),
         "its file meta says deflated explicit VR little endian; its data set is explicit VR big endian"),
        (JPEG, encoded(BIG), f"its file meta says {JPEG}; its data set is explicit VR big endian"),
        (JPEG, encoded(EXPLICIT), f"its file meta says {JPEG}; its pixel data is not compressed"),
        (EXPLICIT, encoded(EXPLICIT, compressed=True),
         f"its file meta says {EXPLICIT}; its pixel data is compressed"),
        (IMPLICIT, encoded(EXPLICIT, compressed=True),
         "its file meta says implicit VR little endian; its data set is explicit VR little endian; "
         "its pixel data is compressed"),
        ("", encoded(EXPLICIT, compressed=True),
         "its file meta has no transfer syntax; its data set is explicit VR little endian; "
         "its pixel data is compressed"),
    ],
)  # fmt: skip
def test_what_no_transfer_syntax_fits_is_not_sent(stated, data, words, tmp_path) -> None:
    path = write(tmp_path / "a.dcm", data, transfer_syntax=stated)
    skipped = refused(path)
    assert skipped.error.slug == "input.transfer-syntax"
    assert skipped.error.message == f"no transfer syntax fits `{path}`: {words}"
    assert skipped.expected


@pytest.mark.parametrize("data", [encoded(IMPLICIT), encoded(EXPLICIT), encoded(EXPLICIT, compressed=True)])
def test_a_private_transfer_syntax_may_be_anything(data, tmp_path) -> None:
    found = sent(write(tmp_path / "a.dcm", data, transfer_syntax=PRIVATE))
    assert (found.transfer_syntax, found.sop_instance, found.remark) == (PRIVATE, "1.2.3", "")


def test_an_image_inside_of_an_image_is_not_taken_for_it(tmp_path) -> None:
    """A compressed image may have an icon that is not."""
    icon = element(0x7FE00010, b"OB", bytes(64))
    sequence = element(0x00880200, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(icon)) + icon)
    data = data_set(before_study=b"", pixels=b"")[: -len(element(0x7FE00010, b"OB", b""))] + sequence
    fragments = encoded(EXPLICIT, compressed=True)
    pixels = fragments[fragments.index(b"\xe0\x7f\x10\x00") :]
    assert sent(write(tmp_path / "a.dcm", data + pixels, transfer_syntax=JPEG)).remark == ""
    assert sent(write(tmp_path / "b.dcm", data, transfer_syntax=JPEG)).remark == ""


@pytest.mark.parametrize(
    "head_of",
    [
        element(0x00080012, b"DA", b"19970911") + element(0x00080008, b"CS", b"A"),  # out of order
        b"\x08\x00\x08\x00ZZ\x04\x00abcd",  # what may be a VR
        element(0x00080005, b"CS", b"ISO_IR 100") + b"\x08\x00\x08\x00\x04\x00\x00\x00abcd",  # without VR
    ],
)
def test_an_odd_head_is_read_anyhow_and_told(head_of, tmp_path) -> None:
    path = write(tmp_path / "a.dcm", head_of + data_set())
    seen = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"])
    found = sent(path)
    assert (found.sop_instance, found.transfer_syntax) == (seen.SOPInstanceUID, EXPLICIT)
    assert found.remark.startswith("(0008,0008) at byte ")


def test_a_vr_to_come_has_a_long_length(tmp_path) -> None:
    """PS3.5 7.1.2: pydicom takes its two reserved bytes for a short one."""
    path = write(tmp_path / "a.dcm", b"\x08\x00\x08\x00ZZ\x00\x00\x04\x00\x00\x00abcd" + data_set())
    assert "unknown value representation b'ZZ'" in sent(path).remark


def test_garbage_without_uids_does_not_go_under_those_of_the_meta(tmp_path) -> None:
    data = b"\x10\x00\x10\x00\x04\x00\x00\x00abcd" + b"\x10\x00\x05\x00" + bytes(range(200))
    skipped = refused(write(tmp_path / "a.dcm", data, transfer_syntax=IMPLICIT))
    assert skipped.error.slug == "input.broken-dicom"


# --- without file meta -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", images.variety(), ids=lambda path: path.name)
def test_real_files_without_their_meta(path, tmp_path) -> None:
    """Their data set alone tells how it is encoded, but not how its pixels are compressed."""
    seen = pydicom.dcmread(path)
    syntax = seen.file_meta.TransferSyntaxUID
    bare = tmp_path / "bare"
    bare.write_bytes(images.data_set(path))
    if syntax.is_deflated or "SOPInstanceUID" not in seen:
        assert refused(bare).error.slug == "input.not-dicom"
        assert not looked_at_in_folder(bare).expected
    elif syntax.is_compressed and "PixelData" in seen:
        skipped = looked_at_in_folder(bare)
        assert (skipped.error.slug, skipped.expected) == ("input.transfer-syntax", True)
        assert (
            "it has no file meta; its data set is explicit VR little endian; its pixel data is compressed"
            in (skipped.error.message)
        )
    else:
        found = sent(bare)
        assert (found.sop_class, found.sop_instance) == (seen.SOPClassUID, seen.SOPInstanceUID)
        assert (found.transfer_syntax, found.offset) == (syntax, 0)
        assert found.remark == f"it has no file meta; its data set is {NAMES[syntax]}"


def looked_at_in_folder(path: Path) -> Skipped:
    found = read_instance(path)
    assert isinstance(found, Skipped), found
    return found


@pytest.mark.parametrize("path", images.variety()[:4], ids=lambda path: path.name)
def test_a_file_that_lacks_its_preamble(path, tmp_path) -> None:
    whole = sent(path)
    bare = tmp_path / "bare"
    bare.write_bytes(path.read_bytes()[132:])
    found = sent(bare)
    assert found[1:6] == (whole.size - 132, whole.offset - 132, *whole[3:6])
    assert found.remark == "it has no preamble and no `DICM` before its file meta"


def test_a_bare_data_set_that_is_cut_off(tmp_path) -> None:
    bare = tmp_path / "bare"
    bare.write_bytes(data_set()[:-100])
    assert looked_at_in_folder(bare).error.slug == "input.truncated"


def test_a_file_that_calls_itself_dicom_is_missed(tmp_path) -> None:
    for name, expected in (
        ("a.dcm", True),
        ("A.DCM", True),
        ("a.dicom", True),
        ("a.txt", False),
        ("a", False),
    ):
        for content in (b"", b"<html>not found</html>"):
            (tmp_path / name).write_bytes(content)
            assert looked_at_in_folder(tmp_path / name).expected is expected


GROUP_8 = st.sampled_from(
    [b"\x08\x00", b"\x00\x08", b"\x08\x00\x16\x00", b"\x08\x00\x05\x00CS", b"\x02\x00\x00\x00UL"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda one: st.lists(one) | st.dictionaries(st.text(), one),
)
TEXT = st.text(max_size=600).map(lambda text: text.encode("utf-8", "surrogatepass"))
NO_DICOM = st.one_of(
    st.binary(max_size=600),
    st.builds(lambda begin, rest: begin + rest, GROUP_8, st.binary(max_size=600)),
    TEXT,
    JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=300).map(lambda der: b"-----BEGIN CERTIFICATE-----\n" + der.hex().encode() + b"\n"),
    st.binary(max_size=300).map(lambda der: b"0\x82" + der),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NO_DICOM)
def test_other_files_are_not_taken_for_dicom(tmp_path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    found = read_instance(path)
    assert isinstance(found, Skipped)
    assert found.error.slug == "input.not-dicom"
    assert not found.expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([IMPLICIT, EXPLICIT, BIG]), st.integers(0, 120), st.binary(min_size=1, max_size=3))
def test_a_bare_data_set_with_changed_bytes_has_its_uids_or_is_none(
    tmp_path, syntax: str, at: int, change: bytes
) -> None:
    data = bytearray(encoded(syntax))
    data[at : at + len(change)] = change
    path = tmp_path / "a"
    path.write_bytes(bytes(data))
    found = read_instance(path)
    if isinstance(found, Instance):
        try:
            seen = pydicom.dcmread(path, force=True)
        except ValueError:  # a character set that is none
            return
        assert (found.sop_class, found.sop_instance) == (seen.SOPClassUID, seen.SOPInstanceUID)


# --- their end, and how much of them is read -------------------------------------------------------------


@pytest.mark.parametrize("path", images.variety(), ids=lambda path: path.name)
def test_a_real_file_that_ends_too_early_is_not_sent(path, tmp_path) -> None:
    """But for one cut between two elements of its top level, which nothing tells from a whole one."""
    data, whole = path.read_bytes(), sent(path)
    if pydicom.uid.UID(whole.transfer_syntax).is_deflated:
        return
    cut, passed = tmp_path / "cut.dcm", 0
    ends = range(whole.offset + 1, len(data), max(1, (len(data) - whole.offset) // 31))
    for end in ends:
        cut.write_bytes(data[:end])
        found = read_instance(cut)
        passed += isinstance(found, Instance)
        if isinstance(found, Skipped):
            assert found.error.slug in ("input.truncated", "input.broken-dicom")
    assert passed <= len(ends) // 8
    cut.write_bytes(data[:-1])
    assert isinstance(read_instance(cut), Skipped)


@pytest.mark.parametrize("pixels", [3 << 30, 0xFFFFFFFE])
def test_an_element_of_gigabytes_is_not_read(pixels, tmp_path, monkeypatch) -> None:
    path = write(tmp_path / "a.dcm", data_set(pixels=b"")[:-4] + struct.pack("<L", pixels))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + pixels)  # sparse: takes no room
    read = counted(monkeypatch)
    assert sent(path).size == path.stat().st_size
    assert sum(read) <= 64 << 10
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 2)
    assert refused(path).error.slug == "input.truncated"


PIECES = [
    struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF),
    struct.pack("<HHL", 0xFFFE, 0xE000, 8),
    struct.pack("<HHL", 0xFFFE, 0xE00D, 0),
    struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
    b"\x08\x00\x05\x00SQ\0\0\xff\xff\xff\xff",
    b"\x08\x00\x06\x00UN\0\0\xff\xff\xff\xff",
    b"\x08\x00\x07\x00OB\0\0\xff\xff\xff\xff",
    b"\x08\x00\x08\x00SQ\0\0\x40\0\0\0",
    b"\x08\x00\x09\x00\xff\xff\xff\xff",
    b"\x08\x00\x0a\x00CS\2\0AA",
    b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=8),
    st.integers(1, 3000),
    st.sampled_from([IMPLICIT, EXPLICIT, JPEG, PRIVATE]),
    st.booleans(),
)
def test_hostile_nesting_keeps_nobody_busy(
    tmp_path, pieces: list[bytes], times: int, syntax: str, with_uids: bool
) -> None:
    """What is read of a file has a limit whatever the file says of itself, and each pass goes through it once."""
    hostile = b"".join(pieces) * times
    path = write(
        tmp_path / "a.dcm", data_set(pixels=b"")[: -12 if with_uids else 0] + hostile, transfer_syntax=syntax
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        read = counted(monkeypatch)
        steps = called(monkeypatch)
        read_instance(path)
    size = path.stat().st_size
    assert sum(read) <= 12 * size + (64 << 10)
    assert len(steps) <= 12 * size // 8 + 1000


def called(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every element and item that is looked at one by one."""
    steps: list[int] = []
    for name in ("element_at", "any_element_at", "item_at"):
        function: Callable[..., object] = getattr(head.elements, name)

        def count(*args: object, function: Callable[..., object] = function) -> object:
            steps.append(1)
            return function(*args)

        monkeypatch.setattr(head.elements, name, count)
    return steps


def test_an_image_of_very_many_fragments_is_not_followed_for_ever(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("dicomtls_cli.services.files.truncation._MOST_FRAGMENTS", 1000)
    data = data_set(pixels=b"")[:-4] + b"\xff\xff\xff\xff" + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 2000
    path = write(tmp_path / "a.dcm", data, transfer_syntax=JPEG)
    steps = called(monkeypatch)
    assert sent(path).transfer_syntax == JPEG
    assert len(steps) < 5000


# --- files that change meanwhile -------------------------------------------------------------------------


def test_a_file_that_shrinks_while_it_is_looked_at(tmp_path, monkeypatch) -> None:
    long = element(0x00080005, b"UT", b"x" * 300_000)
    path = write(tmp_path / "a.dcm", long + data_set("1.2.55"))
    fstat = os.fstat

    def shrink(file: int) -> os.stat_result:
        about = fstat(file)
        os.truncate(path, 9000)
        return about

    monkeypatch.setattr(os, "fstat", shrink)
    assert refused(path).error.slug in ("input.truncated", "input.broken-dicom")


@pytest.mark.parametrize("function", ["open", "fstat", "read", "pread"])
def test_a_disk_that_does_not_give_it_back(function, tmp_path, monkeypatch) -> None:
    path = write(tmp_path / "a.dcm", element(0x00080005, b"UT", b"x" * 300_000) + data_set())

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, function, fail)
    found = read_instance(path)
    monkeypatch.undo()
    assert isinstance(found, Skipped)
    assert (found.error.slug, found.expected) == ("input.unreadable", True)
    assert found.error.message == f"cannot read `{path}`: Input/output error"


def test_a_long_path_leaves_room_for_the_reason(tmp_path) -> None:
    found = read_instance(tmp_path / ("x/" * 3000))
    assert isinstance(found, Skipped)
    assert found.error.message.endswith("…`: File name too long")


def test_who_looks_is_told_of_a_dicomdir() -> None:
    directory = images.FOLDER / "dicomdirtests" / "DICOMDIR"
    found = instance.look_at(str(directory))
    assert isinstance(found, instance.Directory)
    assert found.size == directory.stat().st_size
    passed = read_instance(directory, named=True)
    assert isinstance(passed, Skipped)
    assert not passed.expected
