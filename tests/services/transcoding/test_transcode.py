"""Instances in another transfer syntax: beside pydicom's reading, DCMTK's conversion, and hostile bytes."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import struct
import subprocess
import sys
import tempfile
import tomllib
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.encoders import JPEG2000LosslessEncoder, JPEGLSLosslessEncoder, RLELosslessEncoder

from dicomtls_cli.errors import DicomTlsError, ExitCode, InputError
from dicomtls_cli.services.files.scan import Instance, scan
from dicomtls_cli.services.transcoding import codecs, pixels
from dicomtls_cli.services.transcoding import transcode as module
from dicomtls_cli.services.transcoding.transcode import fallbacks, transcode
from dicomtls_cli.upperlayer.registry import TRANSFER_SYNTAXES
from tests.support import images
from tests.support.cli import environment
from tests.support.compressed import (
    DEFLATED_FRAMES,
    HTJ2K,
    J2K,
    J2K_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LS,
    JPEG_LS_NEAR,
    PLAIN,
    RLE,
    as_file,
    converted,
    encapsulated,
    image,
    item,
    raw,
    read,
    scanned,
    stored,
)
from tests.support.objects import data_set, element, write
from tests.support.peers import DCMTK, dcmtk, need
from tests.support.scripted import EXPLICIT, LIMIT

IMPLICIT = "1.2.840.10008.1.2"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
SHIPPED = sorted(path for path in images.FOLDER.parent.rglob("*") if path.is_file())
INSTANCES = [one for one in scan(SHIPPED) if isinstance(one, Instance)]

# What is not converted, and why; pydicom cannot read the pixels of the second and third either.
REFUSED = {
    "JPEG-lossy.dcm": "A misplaced marker segment",
    "JPEG2000-embedded-sequence-delimiter.dcm": "its JPEG 2000 ",
    "rtdose_expb.dcm": "big endian pixels of 32 bits in OW",
    "rtdose_expb_1frame.dcm": "big endian pixels of 32 bits in OW",
}
CONVERTED = [one for one in INSTANCES if one.path.name not in REFUSED]


def failure(instance: Instance, target: str = EXPLICIT) -> DicomTlsError:
    """Return the error an instance ends in; nothing else may be raised, and it names the file and a way on."""
    with pytest.raises(DicomTlsError) as caught:
        transcode(instance, target)
    assert str(instance.path) in caught.value.message
    assert caught.value.hint
    return caught.value


# ---------------------------------------------------------------------- what can be converted to what


@pytest.mark.parametrize(
    ("stored_in", "expected"),
    [
        (EXPLICIT, (IMPLICIT,)),
        (IMPLICIT, (EXPLICIT,)),
        (BIG, (EXPLICIT, IMPLICIT)),
        (DEFLATED, (EXPLICIT, IMPLICIT)),
        (JPEG_BASELINE, (EXPLICIT, IMPLICIT)),
        (RLE, (EXPLICIT, IMPLICIT)),
        ("1.2.840.10008.1.2.4.102", ()),  # MPEG-4 AVC
        ("1.2.840.10008.1.2.4.94", ()),  # JPIP
        ("1.2.840.10008.1.2.4.95", ()),  # JPIP, deflated
        ("1.2.840.10008.1.2.4.110", ()),  # JPEG XL
        ("1.2.840.113619.5.2", ()),  # GE private
        ("1.2.3", ()),
        ("", ()),
    ],
)
def test_fallbacks(stored_in, expected) -> None:
    assert fallbacks(stored_in) == expected


def test_what_is_compressed_has_fallbacks_exactly_where_something_decodes_it() -> None:
    uncompressed = {EXPLICIT, IMPLICIT, BIG, DEFLATED}
    decoded = {uid for uid in TRANSFER_SYNTAXES if codecs.decoder(uid) is not None}
    assert {uid for uid in TRANSFER_SYNTAXES if fallbacks(uid)} == decoded | uncompressed
    assert len(decoded) == 14


def test_what_is_in_no_fallback_is_not_converted(tmp_path) -> None:
    instance = stored(tmp_path, data_set(), "1.2.840.10008.1.2.4.102")
    assert failure(instance).slug == "transcode.unsupported"
    instance = stored(tmp_path, data_set(), EXPLICIT)
    assert failure(instance, EXPLICIT).slug == "transcode.unsupported"


def test_fallbacks_load_nothing_heavy() -> None:
    script = (
        "import sys\nfrom dicomtls_cli.services.transcoding.transcode import fallbacks\n"
        f"assert fallbacks({RLE!r})\nassert not {{'pydicom', 'numpy', 'tempfile'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(), timeout=LIMIT, check=True)


# ---------------------------------------------------------------------- every file that pydicom ships


def test_there_is_something_of_every_kind() -> None:
    kinds = {one.transfer_syntax for one in INSTANCES}
    assert {EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE, JPEG_BASELINE, JPEG_LS_NEAR, J2K} <= kinds
    assert len(CONVERTED) > 140


@pytest.mark.parametrize("instance", CONVERTED, ids=lambda one: one.path.name)
def test_the_data_set_stays_what_it_was(instance) -> None:
    """Every element has the bytes that pydicom reads from the source, in big endian the values; so the pixels."""
    before = pydicom.dcmread(instance.path, force=True)
    if "TransferSyntaxUID" not in before.file_meta:  # a bare data set; what it is, pydicom only guesses
        before.file_meta.TransferSyntaxUID = instance.transfer_syntax
    expected, left_out = elements_of(before, instance), set()
    if codecs.decoder(instance.transfer_syntax) is not None:
        left_out = {0x7FE00010, 0x00280004, 0x00280006, 0x00282110}
    for target in fallbacks(instance.transfer_syntax):
        after = read(converted(instance, target), target)
        found = elements_of(after, instance)
        assert {tag: found[tag] for tag in found.keys() - left_out} == {
            tag: expected[tag] for tag in expected.keys() - left_out
        }
        if "PixelData" in before and instance.path.name != "badVR.dcm":  # a Number of Frames of `1A`
            assert after.pixel_array.dtype == before.pixel_array.dtype.newbyteorder("=")
            assert numpy.array_equal(after.pixel_array, before.pixel_array)


def elements_of(found: Dataset, instance: Instance) -> dict[int, Any]:
    if instance.transfer_syntax != BIG:
        return raw(found)
    return {one.tag: one.value for one in found if one.tag.element and one.tag != 0x7FE00010}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_named(name) -> None:
    instance = scanned(images.FOLDER / name)
    for target in fallbacks(instance.transfer_syntax):
        error = failure(instance, target)
        assert (error.slug, error.exit_code) == ("transcode.failed", ExitCode.INPUT)
        assert REFUSED[name] in error.message


# ---------------------------------------------------------------------- beside DCMTK

JPEG_TOOL = dict.fromkeys((JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS), "dcmdjpeg")
TOOL = {RLE: "dcmdrle", JPEG_LS: "dcmdjpls", JPEG_LS_NEAR: "dcmdjpls", **JPEG_TOOL}
LIKE_DCMTK = [
    *(one for one in INSTANCES if one.transfer_syntax in TOOL),
    *(one for one in INSTANCES if one.transfer_syntax in (BIG, DEFLATED, IMPLICIT)),
    *(one for one in INSTANCES if one.path.name in ("chrH32.dcm", "test-SR.dcm", "waveform_ecg.dcm")),
]
# DCMTK takes SC_rgb_jpeg.dcm, whose VRs are implicit against its transfer syntax, for broken.
LIKE_DCMTK = [one for one in LIKE_DCMTK if one.path.name not in {*REFUSED, "SC_rgb_jpeg.dcm"}]


@pytest.mark.parametrize("instance", LIKE_DCMTK, ids=lambda one: one.path.name)
def test_dcmtk_converts_to_the_same(instance, tmp_path) -> None:
    """The same elements with the same bytes; pixels of lossy JPEG as near as two decoders come."""
    need(DCMTK / "dcmconv")
    tool, theirs = TOOL.get(instance.transfer_syntax, "dcmconv"), tmp_path / "theirs.dcm"
    options = {EXPLICIT: "+te"} if tool != "dcmconv" else {EXPLICIT: "+te", IMPLICIT: "+ti"}
    for target in options.keys() & set(fallbacks(instance.transfer_syntax)):
        done = dcmtk(
            tool, options[target], "-e", instance.path, theirs
        )  # as a sequence is known again in implicit VR
        assert done.returncode == 0, done.stderr
        mine, other = read(converted(instance, target), target), pydicom.dcmread(theirs)
        found, expected = raw(mine), raw(other)
        decoded, by_dcmtk = found.pop(0x7FE00010, b""), expected.pop(0x7FE00010, b"")
        assert found == expected
        tolerance = 3 if instance.transfer_syntax in (JPEG_BASELINE, JPEG_EXTENDED) else 0
        if tolerance and decoded != by_dcmtk:
            assert numpy.abs(mine.pixel_array.astype(int) - other.pixel_array).max() <= tolerance
        else:
            assert decoded == by_dcmtk


@pytest.mark.parametrize("instance", LIKE_DCMTK[::5], ids=lambda one: one.path.name)
def test_dcmtk_reads_what_comes_out(instance, tmp_path) -> None:
    need(DCMTK / "dcmdump")
    for target in fallbacks(instance.transfer_syntax):
        path = tmp_path / "ours.dcm"
        path.write_bytes(as_file(converted(instance, target), target))
        assert dcmtk("dcmftest", path).returncode == 0
        done = dcmtk("dcmdump", "-q", path)
        assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------------- what decompressed pixels are said to be


@pytest.mark.parametrize(
    ("name", "photometric", "planar", "lossy", "vr"),
    [
        ("examples_ybr_color.dcm", "RGB", 0, "01", "OB"),  # JPEG, YBR_FULL_422
        ("SC_rgb_dcmtk_+eb+cr.dcm", "RGB", 0, "01", "OB"),
        ("JPGExtended.dcm", "MONOCHROME2", None, "01", "OW"),
        ("SC_rgb_jpeg_gdcm.dcm", "RGB", 0, None, "OB"),  # lossless
        ("MR_small_RLE.dcm", "MONOCHROME2", None, None, "OW"),
        ("SC_rgb_rle_16bit.dcm", "RGB", 0, None, "OW"),
        ("SC_rgb_jls_lossy_line.dcm", "RGB", 0, "01", "OB"),
        ("MR_small_jpeg_ls_lossless.dcm", "MONOCHROME2", None, None, "OW"),
        ("GDCMJ2K_TextGBR.dcm", "RGB", 0, None, "OB"),  # YBR_RCT, in a JP2 file
        ("SC_rgb_gdcm_KY.dcm", "RGB", 0, "01", "OB"),  # YBR_ICT
    ],
)
def test_the_attributes_of_decompressed_pixels(name, photometric, planar, lossy, vr) -> None:
    instance = scanned(images.FOLDER / name)
    before, after = pydicom.dcmread(instance.path), read(converted(instance))
    assert after.SOPInstanceUID == before.SOPInstanceUID
    assert after.PhotometricInterpretation == photometric
    assert after.get("PlanarConfiguration") == planar
    assert after.get("LossyImageCompression") == (lossy or before.get("LossyImageCompression"))
    assert (after["PixelData"].VR, after["PixelData"].is_undefined_length) == (vr, False)
    tags = list(after.keys())
    assert tags == sorted(tags)


def test_colours_that_were_stored_without_loss_are_not_converted(tmp_path) -> None:
    """YBR_FULL to RGB rounds, so it stays where nothing was lost yet; only JPEG's lossy processes pay for it."""
    array = numpy.arange(75, dtype="u1").reshape(5, 5, 3)
    frame = RLELosslessEncoder.encode(array, **options(array, photometric="YBR_FULL"))
    data = image(encapsulated([frame]), rows=5, columns=5, samples=3, photometric=b"YBR_FULL")
    found = read(converted(stored(tmp_path, data, RLE)))
    assert found.PhotometricInterpretation == "YBR_FULL"
    assert found.PixelData == array.tobytes() + b"\0"


def test_bits_above_the_stored_ones_stay(tmp_path) -> None:
    """Old overlays are in the high bits of pixels."""
    array = numpy.arange(64, dtype="u2").reshape(8, 8) | 0xF000
    for encoder, uid in ((RLELosslessEncoder, RLE), (JPEGLSLosslessEncoder, JPEG_LS)):
        frame = encoder.encode(array, **options(array))
        data = image(encapsulated([frame]), rows=8, columns=8, bits=16, stored=12)
        assert read(converted(stored(tmp_path, data, uid))).PixelData == array.tobytes()


def options(array: Any, photometric: str = "MONOCHROME2") -> dict[str, Any]:
    bits = array.dtype.itemsize * 8
    return {
        "rows": array.shape[0], "columns": array.shape[1], "samples_per_pixel": 3 if array.ndim == 3 else 1,
        "photometric_interpretation": photometric, "bits_allocated": bits, "bits_stored": bits,
        "pixel_representation": 0, "planar_configuration": 0, "number_of_frames": 1,
    }  # fmt: skip


# 8 x 8 pixels of 8 bits, n * 3 each, by OpenJPH
HTJ2K_FRAME = base64.b64decode(
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABBwEB/1AACAACAAAAAv9SAAwAAgABAAUEBEAB/1wA"
    "EyBIUFBQUFBQUFBQUFBQSEhI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAEkAAf+TwCWDAQd0AAAAwBLAEoD6"
    "AMd0ANoBB3QAwBLAEwDkAEJ0AGr1ACNUAMAlgFSAAKnidACuc+7AAAHstgD/2Q=="
)


def test_high_throughput_jpeg_2000(tmp_path) -> None:
    data = image(encapsulated([HTJ2K_FRAME]), rows=8, columns=8)
    assert read(converted(stored(tmp_path, data, HTJ2K))).PixelData == bytes(range(0, 192, 3))


def test_frames_that_are_plain_or_deflated(tmp_path) -> None:
    """Encapsulated Uncompressed and Deflated Image Frame Compression (PS3.5 A.4.11, A.4.13)."""
    frames = [bytes(range(start, start + 9)) for start in (1, 101)]
    expected = b"".join(frames)
    for uid, fragments in ((PLAIN, frames), (DEFLATED_FRAMES, [deflated(frame) for frame in frames])):
        data = image(encapsulated(fragments), rows=3, columns=3, frames="2")
        assert read(converted(stored(tmp_path, data, uid))).PixelData == expected


def test_one_bit_frames_are_plain_where_they_end_with_a_byte(tmp_path) -> None:
    data = image(encapsulated([b"\xaa\x55"]), rows=4, columns=4, bits=1)
    assert read(converted(stored(tmp_path, data, PLAIN))).PixelData == b"\xaa\x55"
    data = image(encapsulated([b"\xaa\x01"]), rows=3, columns=3, bits=1)
    assert "where 1.125 are needed" in failure(stored(tmp_path, data, PLAIN)).message


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


# ---------------------------------------------------------------------- frames and fragments

SIDE = 32  # OpenJPEG encodes nothing smaller
FRAMES = [(numpy.arange(SIDE * SIDE) % 199 + start).astype("u1").reshape(SIDE, SIDE) for start in (0, 20, 50)]
ENCODED = [JPEG2000LosslessEncoder.encode(frame, **options(frame)) for frame in FRAMES]
THREE = b"".join(frame.tobytes() for frame in FRAMES)


def halves(frames: Sequence[bytes]) -> list[bytes]:
    return [part for frame in frames for part in (frame[:40], frame[40:])]


def offsets(frames: Sequence[bytes], headers: int) -> list[int]:
    """Return where each frame begins, whose fragments have so many headers of 8 bytes."""
    lengths = [len(frame) + len(frame) % 2 + 8 * headers for frame in frames]
    return [sum(lengths[:number]) for number in range(len(frames))]


@pytest.mark.parametrize(
    "pixel_data",
    [
        pytest.param(encapsulated(ENCODED), id="a fragment each"),
        pytest.param(encapsulated(ENCODED, offsets(ENCODED, 1)), id="an offset table"),
        pytest.param(encapsulated(halves(ENCODED)), id="two fragments each, no table"),
        pytest.param(encapsulated(halves(ENCODED), offsets(ENCODED, 2)), id="two fragments each"),
        pytest.param(
            element(0x7FE00001, b"OB", struct.pack("<3Q", *offsets(ENCODED, 1)))
            + element(0x7FE00002, b"OB", struct.pack("<3Q", *map(len, ENCODED)))
            + encapsulated(ENCODED),
            id="an extended offset table",
        ),
    ],
)
def test_frames_of_many_fragments(pixel_data, tmp_path) -> None:
    data = image(pixel_data, rows=SIDE, columns=SIDE, frames="3", after=element(0x7FE10010, b"LO", b"after"))
    for target in (EXPLICIT, IMPLICIT):
        found = read(converted(stored(tmp_path, data, J2K_LOSSLESS), target), target)
        assert (found.NumberOfFrames, found.PixelData) == (3, THREE)
        assert 0x7FE10010 in found
        assert 0x7FE00001 not in found
        assert 0x7FE00002 not in found


def test_a_frame_of_many_fragments(tmp_path) -> None:
    parts = [ENCODED[0][at : at + 10] for at in range(0, len(ENCODED[0]), 10)]
    data = image(encapsulated(parts), rows=SIDE, columns=SIDE)
    assert read(converted(stored(tmp_path, data, J2K_LOSSLESS))).PixelData == FRAMES[0].tobytes()


@pytest.mark.parametrize(
    ("pixel_data", "frames", "words"),
    [
        pytest.param(encapsulated(ENCODED), "0", "a Number of Frames of `0`", id="zero frames"),
        pytest.param(encapsulated(ENCODED), "-1", "a Number of Frames of `-1`", id="fewer than none"),
        pytest.param(encapsulated(ENCODED), "1e3", "a Number of Frames of `1e3`", id="no number"),
        pytest.param(encapsulated(ENCODED), "4", "4 frames cannot be told apart in 3", id="one is lost"),
        pytest.param(encapsulated(ENCODED), "2", "2 frames cannot be told apart in 3", id="one too many"),
        pytest.param(encapsulated(ENCODED), "9" * 12, "frames cannot be told apart", id="a bomb"),
        pytest.param(
            encapsulated(halves(ENCODED), [0, 3, 5]), "3", "cannot be told apart", id="offsets of nothing"
        ),
        pytest.param(
            encapsulated(halves(ENCODED), [0, 0, 0]), "3", "cannot be told apart", id="offsets that go back"
        ),
        pytest.param(encapsulated([]), None, "it is no JPEG 2000 codestream", id="no fragment"),
        pytest.param(encapsulated([])[:12], None, "cut off", id="no offset table"),
        pytest.param(encapsulated(ENCODED)[:-8], "3", "cut off", id="no end"),
        pytest.param(encapsulated(ENCODED)[:-20], "3", "more than there are", id="a truncated fragment"),
        pytest.param(
            encapsulated(ENCODED).replace(b"\xfe\xff\xdd\xe0", b"\xfe\xff\xde\xe0"),
            "3",
            "where an item should begin",
            id="another end",
        ),
        pytest.param(
            element(0x7FE00010, b"OW", THREE), "3", "is not encapsulated, against", id="native pixels"
        ),
    ],
)
def test_frames_that_cannot_be_told_apart(pixel_data, frames, words, tmp_path) -> None:
    data = image(pixel_data, rows=SIDE, columns=SIDE, frames=frames)
    error = failure(stored(tmp_path, data, J2K_LOSSLESS))
    assert error.slug == "transcode.failed"
    assert words in error.message


def test_frames_of_different_colours_are_refused(tmp_path) -> None:
    """JPEG-LS says by its component ids that it is RGB."""
    array = numpy.arange(192, dtype="u1").reshape(8, 8, 3)
    frame = JPEGLSLosslessEncoder.encode(array, **options(array, photometric="YBR_FULL"))
    assert frame.count(b"\x01\x11\x00\x02\x11\x00\x03\x11\x00") == 1
    other = frame.replace(b"\x01\x11\x00\x02\x11\x00\x03\x11\x00", b"R\x11\x00G\x11\x00B\x11\x00")
    other = other.replace(b"\x03\x01\x00\x02\x00\x03\x00", b"\x03R\x00G\x00B\x00")
    data = image(
        encapsulated([frame, other]), rows=8, columns=8, samples=3, frames="2", photometric=b"YBR_FULL"
    )
    assert "frame 2 is RGB, the first YBR_FULL" in failure(stored(tmp_path, data, JPEG_LS)).message


def test_an_icon_is_decompressed_too(tmp_path) -> None:
    """PS3.5 A.4: the pixel data of an icon is encapsulated, or is not."""
    rgb = numpy.arange(27, dtype="u1").reshape(3, 3, 3)
    small = RLELosslessEncoder.encode(rgb, **options(rgb, photometric="RGB"))
    icon = image(encapsulated([small]), rows=3, columns=3, samples=3, photometric=b"RGB")
    native = image(element(0x7FE00010, b"OB", bytes(9)), rows=3, columns=3)
    frame = RLELosslessEncoder.encode(FRAMES[0], **options(FRAMES[0]))
    icons = element(0x00880200, b"SQ", item(icon) + item(native))
    data = image(encapsulated([frame]), rows=SIDE, columns=SIDE, after=icons)
    for target in (EXPLICIT, IMPLICIT):
        found = read(converted(stored(tmp_path, data, RLE), target), target)
        assert found.PixelData == FRAMES[0].tobytes()
        first, second = found.IconImageSequence
        assert first.PixelData == rgb.tobytes() + b"\0"
        assert second.PixelData == bytes(10)


def test_compressed_pixels_elsewhere_are_refused(tmp_path) -> None:
    inside = element(0x00081140, b"SQ", item(image(encapsulated(ENCODED[:1]), rows=SIDE, columns=SIDE)))
    data = image(encapsulated(ENCODED[:1]), rows=SIDE, columns=SIDE, before=inside)
    error = failure(stored(tmp_path, data, J2K_LOSSLESS))
    assert "(7fe0,0010) is encapsulated, against the transfer syntax" in error.message


def test_a_compressed_syntax_without_pixels(tmp_path) -> None:
    data = data_set(pixels=b"")
    assert converted(stored(tmp_path, data, RLE)) == data


# ---------------------------------------------------------------------- hostile pixels


def bomb(**attributes: Any) -> bytes:
    return image(encapsulated(ENCODED[:1]), **{"rows": SIDE, "columns": SIDE, **attributes})


@pytest.mark.parametrize(
    ("data", "slug", "words"),
    [
        (bomb(rows=65535, columns=65535, bits=16), "too-large", "a frame of it has 8589672450 bytes"),
        (
            bomb(rows=12000, columns=12000),
            "too-large",
            "bytes of compressed pixels say that they are 144000000",
        ),
        (bomb(rows=4096, columns=4096), "failed", "32 x 32 pixels of 1 samples in 8 bits, which is not what"),
        (bomb(rows=0), "failed", "pixels of 0 rows"),
        (bomb(samples=4), "failed", "4 samples cannot be decoded"),
        (bomb(bits=64), "failed", "pixels of 64 bits"),
        (bomb(bits=0), "failed", "cannot be decoded"),
        (bomb(photometric=b"YBR_PARTIAL_420"), "failed", "YBR_PARTIAL_420 in 8 bits cannot be decoded"),
        (bomb(photometric=b"NONSENSE"), "failed", "Unknown"),
        (bomb(photometric=b""), "failed", "Unknown"),
    ],
)
def test_attributes_that_promise_too_much(data, slug, words, tmp_path) -> None:
    """Refused before a codec, or memory, is asked."""
    instance = stored(tmp_path, data, J2K_LOSSLESS)
    failure(instance)  # the codecs are loaded now, which takes memory
    tracemalloc.start()
    error = failure(instance)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.slug == f"transcode.{slug}"
    assert words in error.message
    assert peak < 2 << 20


def test_more_pixels_than_an_element_can_hold(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "MAX_RATIO", 1 << 40)
    data = image(encapsulated([b"ab"] * 70), rows=8192, columns=8192, frames="70")
    error = failure(stored(tmp_path, data, RLE))
    assert error.slug == "transcode.too-large"
    assert "4697620480 bytes, more than an element can" in error.message


def test_a_codestream_of_another_size_than_the_data_set_says(tmp_path) -> None:
    """Codecs allocate what the codestream asks for."""
    huge = bytearray(ENCODED[0])
    huge[8:16] = huge[24:32] = struct.pack(">LL", 60000, 60000)  # and as a tile
    data = image(encapsulated([bytes(huge)]), rows=SIDE, columns=SIDE)
    assert "it has 60000 x 60000 pixels" in failure(stored(tmp_path, data, J2K_LOSSLESS)).message


def test_a_panic_of_a_codec_is_our_error(tmp_path, monkeypatch) -> None:
    """Plugins in Rust raise past Exception."""

    class Panic(BaseException):
        pass

    def panic(*_: object, **__: object) -> None:
        raise Panic("index out of bounds")

    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "as_array", panic)
    error = failure(stored(tmp_path, bomb(), J2K_LOSSLESS))
    assert (error.slug, error.message.endswith("cannot be decoded: index out of bounds")) == (
        "transcode.failed",
        True,
    )


def test_no_memory_is_our_error(tmp_path, monkeypatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "as_array", exhausted)
    error = failure(stored(tmp_path, bomb(), J2K_LOSSLESS))
    assert error.slug == "transcode.too-large"
    assert "not enough memory to decode frame 1" in error.message


SMALL = [one for one in CONVERTED if one.size < 6000 and codecs.decoder(one.transfer_syntax) is not None]


@given(st.data())
def test_damaged_images_are_converted_or_named(data) -> None:
    """Whatever happens to the bytes of a data set, nothing but our error comes out, and soon."""
    instance = data.draw(st.sampled_from(SMALL))
    damaged = bytearray(instance.path.read_bytes())
    for at, value in data.draw(st.lists(st.tuples(st.floats(0, 0.999), st.binary(max_size=4)), max_size=5)):
        place = instance.offset + int(at * (len(damaged) - instance.offset))
        damaged[place : place + len(value) or place + 1] = value
    with tempfile.NamedTemporaryFile() as file:
        file.write(damaged)
        file.flush()
        modified = Path(file.name).stat().st_mtime_ns
        found = instance._replace(file=file.name, size=len(damaged), modified=modified)
        with contextlib.suppress(InputError):
            converted(found)


# ---------------------------------------------------------------------- without the codecs

WITHOUT = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
from pathlib import Path
from dicomtls_cli.errors import InputError
from dicomtls_cli.services.files.scan import read_instance
from dicomtls_cli.services.transcoding.transcode import transcode
try:
    transcode(read_instance(Path(sys.argv[1])), {target!r})
    print("converted")
except InputError as error:
    print(error.slug, "|", error.message, "|", error.hint)
"""


def without(blocked: Sequence[str], name: str) -> str:
    script = WITHOUT.format(blocked=tuple(blocked), target=EXPLICIT)
    path = str(images.FOLDER / name)
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        env=environment(), capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("blocked", "name"),
    [
        (("numpy",), "JPEG2000.dcm"),
        (("pylibjpeg", "jpeg_ls"), "MR_small_jpeg_ls_lossless.dcm"),
        (("openjpeg",), "JPEG2000.dcm"),
    ],
)
def test_without_its_codec_the_error_names_the_extra(blocked, name) -> None:
    said = without(blocked, name)
    assert said.startswith("transcode.no-codec | ")
    assert "pip install 'dicomtls-cli[codecs]'" in said


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_what_needs_no_codec(name) -> None:
    assert without(("numpy", "pylibjpeg", "jpeg_ls"), name) == "converted"


def test_jpeg_ls_is_decoded_by_the_other_plugin_too() -> None:
    """There is no pyjpegls for the newest Pythons."""
    assert without(("jpeg_ls",), "MR_small_jpeg_ls_lossless.dcm") == "converted"


def test_the_extra_is_what_is_asked_for() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=;]", one)[0] for one in project["optional-dependencies"]["codecs"]}
    assert names == {"numpy", "pyjpegls", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg"}
    assert project["name"] == "dicomtls-cli"


# ---------------------------------------------------------------------- files, sizes, room


def test_a_deflated_data_set_with_its_padding(tmp_path) -> None:
    data = data_set(pixels=bytes(range(256)) * 8000)
    for padding in (b"", b"\0", bytes(500)):
        assert converted(stored(tmp_path, deflated(data) + padding, DEFLATED)) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (deflated(data_set())[:-10], "is cut off"),
        (b"\xff" * 100, "is not deflated"),
        (b"", "is cut off"),
        (deflated(data_set()[:-1]), "more than there are"),
    ],
)
def test_a_deflated_data_set_that_is_none(data, words, tmp_path) -> None:
    error = failure(stored(tmp_path, data, DEFLATED))
    assert error.slug == "transcode.failed"
    assert words in error.message


def test_a_deflated_bomb(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_INFLATED", 1 << 20)
    error = failure(stored(tmp_path, deflated(data_set(pixels=bytes(2 << 20))), DEFLATED))
    assert error.slug == "transcode.too-large"
    assert "more than 1048576 bytes" in error.message


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, BIG, DEFLATED])
def test_a_large_data_set_takes_little_memory(transfer_syntax, tmp_path) -> None:
    size = 48 << 20
    pixels = struct.pack("<HH2sxxL", 0x7FE0, 0x10, b"OW", size)
    data = data_set(pixels=b"")[:-12]
    if transfer_syntax == BIG:
        data, pixels = b"", struct.pack(">HH2sxxL", 0x7FE0, 0x10, b"OW", size)
    data += pixels
    if transfer_syntax == DEFLATED:
        instance = stored(tmp_path, deflated(data + bytes(size)), transfer_syntax)
    else:
        instance = stored(tmp_path, data, transfer_syntax)
        os.truncate(instance.path, instance.size + size)
        about = instance.path.stat()
        instance = instance._replace(size=about.st_size, modified=about.st_mtime_ns)
    target = fallbacks(transfer_syntax)[-1]
    tracemalloc.start()
    file, length = transcode(instance, target, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with file:
        assert length > size
        assert os.fstat(file.fileno()).st_size == length
    assert peak < 8 << 20


def test_a_file_that_changed_since_it_was_scanned(tmp_path) -> None:
    path = write(tmp_path / "a.dcm")
    instance = scanned(path)
    os.utime(path, ns=(0, 0))
    assert failure(instance, IMPLICIT).slug == "input.file-changed"
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert failure(instance, IMPLICIT).slug == "input.file-changed"


def test_a_file_without_a_time_that_changed_since_it_was_scanned(tmp_path) -> None:
    """As in archives that are made to be the same each time: all their files are of 1970."""
    path = write(tmp_path / "a.dcm")
    os.utime(path, ns=(0, 0))
    instance = scanned(path)
    path.write_bytes(path.read_bytes())
    assert failure(instance, IMPLICIT).slug == "input.file-changed"


def test_a_file_that_is_gone(tmp_path) -> None:
    path = write(tmp_path / "a.dcm")
    instance = scanned(path)
    path.unlink()
    error = failure(instance, IMPLICIT)
    assert (error.slug, error.exit_code) == ("input.unreadable", ExitCode.INPUT)
    unnamed = instance._replace(file=f"{path}\0")
    with pytest.raises(InputError) as caught:
        transcode(unnamed, IMPLICIT)
    assert caught.value.slug == "input.unreadable"


def test_no_room_for_the_result(tmp_path) -> None:
    instance = stored(tmp_path, data_set(pixels=bytes(6 << 20)), EXPLICIT)
    with pytest.raises(DicomTlsError) as caught:
        transcode(instance, IMPLICIT, tmp_path / "nowhere")
    assert (caught.value.slug, caught.value.exit_code) == ("transcode.no-space", ExitCode.CANNOT_WRITE)
    assert list(tmp_path.iterdir()) == [instance.path]


def test_the_result_is_in_no_folder_under_a_name(tmp_path) -> None:
    instance = stored(tmp_path, data_set(pixels=bytes(6 << 20)), EXPLICIT)
    file, _ = transcode(instance, IMPLICIT, tmp_path)
    with file:
        assert list(tmp_path.iterdir()) == [instance.path]
        assert file.tell() == 0
        assert not file.name or isinstance(file.name, int)


@pytest.mark.parametrize(
    ("transfer_syntax", "pixel_data", "attributes", "words"),
    [
        (DEFLATED_FRAMES, encapsulated([b"\xff\xff\xff\xff"]), {}, "frame 1: Error -3"),
        (DEFLATED_FRAMES, encapsulated([deflated(bytes(64))[:-4]]), {}, "cut off, or more than its pixels"),
        (DEFLATED_FRAMES, encapsulated([deflated(bytes(1 << 20))]), {}, "cut off, or more than its pixels"),
        (DEFLATED_FRAMES, encapsulated([deflated(bytes(9))]), {}, "it has 9 bytes where 64 are needed"),
        (RLE, encapsulated([bytes(64)]), {"bits": 1}, "pixels of 1 bit have no RLE form"),
        (RLE, encapsulated([bytes(70_000)]), {}, "has 70000 in its compressed form"),
        (JPEG_LS, encapsulated([b"\xff\xd8"]), {}, "frame 1: its JPEG header cannot be read"),
        (
            RLE,
            element(0x7FE00010, b"OB", item(b""), length=0xFFFFFFFF)[:12] + b"abcd\0\0\0\0",
            {},
            "an item should",
        ),
        (RLE, encapsulated([])[:12] + encapsulated([])[-8:], {}, "its pixel data has no offset table"),
    ],
)
def test_frames_that_are_not_what_they_should_be(
    transfer_syntax, pixel_data, attributes, words, tmp_path
) -> None:
    data = image(pixel_data, **{"rows": 8, "columns": 8, **attributes})
    error = failure(stored(tmp_path, data, transfer_syntax))
    assert error.slug == "transcode.failed"
    assert words in error.message
