"""What is read of a compressed frame before a codec sees it, and RLE beside pydicom's."""

from __future__ import annotations

import contextlib
import struct

import numpy
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import generate_frames
from pydicom.pixels.encoders import RLELosslessEncoder

from dicomtls_cli.services.files.elements import HeadError
from dicomtls_cli.services.transcoding import codestream
from dicomtls_cli.services.transcoding.codestream import BASELINE, EXTENDED, JPEG_LS, LOSSLESS, Codestream
from tests.support import images

EOI = b"\xff\xd9"


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame_header(marker: int = 0xC0, rows: int = 3, columns: int = 5, samples: int = 1) -> bytes:
    components = b"".join(bytes((number, 0x11, 0)) for number in range(1, samples + 1))
    return segment(marker, struct.pack(">BHHB", 8, rows, columns, samples) + components)


def scan(samples: int = 1, near: int = 0) -> bytes:
    components = b"".join(bytes((number, 0)) for number in range(1, samples + 1))
    return segment(0xDA, bytes((samples,)) + components + bytes((near, 0, 0))) + b"\x12\xff\x00\x34"


def jpeg(*parts: bytes) -> bytes:
    return b"".join((b"\xff\xd8", *parts, EOI))


def size(rows: int = 3, columns: int = 5, *, tile: int = 64, samples: int = 1, step: int = 1) -> bytes:
    grid = struct.pack(">H8LH", 0, columns, rows, 0, 0, tile, tile, 0, 0, samples)
    return b"\xff\x4f" + segment(0x51, grid + bytes((7, step, step)) * samples)


def style(transformation: int = 1) -> bytes:
    return segment(0x52, bytes((0, 0, 0, 1, 0, 5, 4, 4, 0, transformation)))


TILE = segment(0x90, bytes(8)) + b"\xff\x93" + b"data"


def first_frame(name: str) -> tuple[bytes, pydicom.Dataset]:
    found = pydicom.dcmread(images.FOLDER / name)
    return next(generate_frames(found.PixelData, number_of_frames=int(found.get("NumberOfFrames", 1)))), found


@pytest.mark.parametrize(
    ("name", "processes", "precision", "lossy"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", BASELINE, 8, True),
        ("JPGExtended.dcm", EXTENDED, 12, True),
        ("SC_rgb_jpeg_gdcm.dcm", LOSSLESS, 8, False),
        ("MR_small_jpeg_ls_lossless.dcm", JPEG_LS, 16, False),
        ("JPEGLSNearLossless_16.dcm", JPEG_LS, 16, True),
        ("SC_rgb_jls_lossy_line.dcm", JPEG_LS, 8, True),
        ("MR_small_jp2klossless.dcm", None, 16, False),
        ("GDCMJ2K_TextGBR.dcm", None, 8, False),
        ("SC_rgb_gdcm_KY.dcm", None, 8, False),
        ("JPEG2000.dcm", None, 16, True),
    ],
)
def test_real_frames(name, processes, precision, lossy) -> None:
    frame, found = first_frame(name)
    read = codestream.jpeg_2000(frame) if processes is None else codestream.jpeg(frame, processes)
    assert read == Codestream(found.Rows, found.Columns, found.SamplesPerPixel, precision, lossy)


def test_jpegs_by_hand() -> None:
    expected = Codestream(3, 5, 1, 8, True)
    assert codestream.jpeg(jpeg(frame_header(), scan()), BASELINE) == expected
    # A thumbnail in an application segment is not the image; fill bytes may stand before markers.
    application = segment(0xE0, jpeg(frame_header(rows=9), scan()))
    assert codestream.jpeg(jpeg(application, b"\xff\xff", frame_header(), scan()), BASELINE) == expected
    assert codestream.jpeg(jpeg(frame_header(samples=3), scan(), scan(), scan()), BASELINE).samples == 3
    assert codestream.jpeg(jpeg(frame_header(), scan()) + bytes(40), BASELINE) == expected
    near = codestream.jpeg(jpeg(frame_header(0xF7), scan(near=2)), JPEG_LS)
    assert near.lossy
    assert not codestream.jpeg(jpeg(frame_header(0xF7), scan()), JPEG_LS).lossy


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", "no JPEG image"),
        (b"\xff\xd8", "cannot be read at byte 2"),
        (b"\xff\xd8\xff\xe0\xff\xff", "cannot be read at byte 2"),
        (jpeg(b"\x00", frame_header(), scan()), "cannot be read at byte 2"),
        (jpeg(scan()), "header is incomplete"),
        (jpeg(segment(0xC0, b"\x08\0"), scan()), "header is incomplete"),
        (jpeg(frame_header(0xC2), scan()), "marker c2"),  # progressive: any number of scans
        (jpeg(frame_header(0xC3), scan()), "marker c3"),
        (jpeg(segment(0xDE, bytes(6)), frame_header(), scan()), "marker de"),  # a hierarchy
        (jpeg(frame_header(), frame_header(rows=60000), scan()), "marker c0"),
        (jpeg(frame_header(), scan(), frame_header(rows=60000), scan()), "more than one JPEG image"),
        (jpeg(frame_header(), scan(), segment(0xDC, b"\xff\xff")), "more than one JPEG image"),  # lines
        (jpeg(frame_header(), scan(), scan()), "more than one JPEG image"),
        (jpeg(frame_header(), scan())[:-2], "cut off"),
        (jpeg(frame_header(), scan()) + b"\x01" * 40, "cut off"),
    ],
)
def test_no_jpeg(frame, words) -> None:
    with pytest.raises(HeadError, match=words):
        codestream.jpeg(frame, BASELINE)


def test_jpeg_2000_by_hand() -> None:
    whole = size() + style() + TILE + EOI
    assert codestream.jpeg_2000(whole) == Codestream(3, 5, 1, 8, False)
    assert codestream.jpeg_2000(size() + style(0) + TILE + EOI).lossy
    box = struct.pack(">L4s", 8, b"ftyp") + struct.pack(">L4s", 0, b"jp2c") + whole
    assert codestream.jpeg_2000(struct.pack(">L4sL", 12, b"jP  ", 0x0D0A870A) + box).rows == 3


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", "no JPEG 2000 codestream"),
        (size()[:40] + EOI, "no JPEG 2000 codestream"),
        (size(samples=0) + style() + bytes(20) + EOI, "header is incomplete"),
        (size(tile=0) + style() + TILE + EOI, "header is incomplete"),
        (size(samples=16000)[:100] + EOI, "header is incomplete"),
        (size(rows=60000, columns=60000, tile=1) + style() + TILE + EOI, "not as an image in DICOM"),
        (size(step=2) + style() + TILE + EOI, "not as an image in DICOM"),
        (size() + TILE + EOI, "no coding style"),
        (size() + style() + TILE, "cut off"),
        (struct.pack(">L4sL", 12, b"jP  ", 0x0D0A870A) + size(), "codestream cannot be found"),
        (struct.pack(">L4s", 12, b"jP  ") + b"pclr" + size(), "with a palette"),
    ],
)
def test_no_jpeg_2000(frame, words) -> None:
    with pytest.raises(HeadError, match=words):
        codestream.jpeg_2000(frame)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", size(), jpeg(frame_header(), scan())]))
def test_any_bytes_are_read_or_refused(data, before) -> None:
    for read in (lambda frame: codestream.jpeg(frame, BASELINE | JPEG_LS), codestream.jpeg_2000):
        with contextlib.suppress(HeadError):
            read(before + data)


# ---------------------------------------------------------------------- RLE


@given(st.integers(1, 9), st.integers(1, 40), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.data())
def test_rle_as_pydicom_encodes_it(rows, columns, samples, width, data) -> None:
    """Runs and noise, in every number of samples and bytes."""
    count = rows * columns * samples * width
    runs = data.draw(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 300)), min_size=1))
    pixels = b"".join(run * times for run, times in runs)
    pixels = (pixels * (count // len(pixels) + 1))[:count]
    shape = (rows, columns, samples) if samples > 1 else (rows, columns)
    frame = RLELosslessEncoder.encode(
        numpy.frombuffer(pixels, f"<u{width}").reshape(shape),
        encoding_plugin="pydicom",
        rows=rows, columns=columns, samples_per_pixel=samples, number_of_frames=1, pixel_representation=0,
        photometric_interpretation="RGB" if samples > 1 else "MONOCHROME2", planar_configuration=0,
        bits_allocated=8 * width, bits_stored=8 * width,
    )  # fmt: skip
    assert codestream.unpack_rle(frame, rows * columns, samples, width) == pixels


def rle(*segments: bytes, count: int | None = None, first: int = 64) -> bytes:
    starts = [first + sum(map(len, segments[:number])) for number in range(len(segments))]
    header = struct.pack(f"<{len(segments) + 1}L", len(segments) if count is None else count, *starts)
    return header.ljust(64, b"\0") + b"".join(segments)


def test_rle_by_hand() -> None:
    """Literals, runs, the code that means nothing, and padding behind the pixels."""
    assert codestream.unpack_rle(rle(b"\x01ab\xfdc\x80\x00d\x00"), 7, 1, 1) == b"abccccd"
    assert codestream.unpack_rle(rle(b"\xffa", b"\x01bc"), 2, 1, 2) == b"baca"


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", "0 RLE segments instead of 1"),
        (rle(b"\xffa", b"\xffb"), "2 RLE segments instead of 1"),
        (rle(b"\xffa", first=60), "not where its header says"),
        (rle(b"\xffa", first=1 << 31), "not where its header says"),
        (rle(b"\x80" * 50), "holds 0 bytes instead of 2"),
        (rle(b"\x7fa"), "holds 1 bytes instead of 2"),
    ],
)
def test_no_rle(frame, words) -> None:
    with pytest.raises(HeadError, match=words):
        codestream.unpack_rle(frame, 2, 1, 1)


@given(st.binary(max_size=300))
def test_any_rle_is_unpacked_or_refused(data) -> None:
    with contextlib.suppress(HeadError):
        assert len(codestream.unpack_rle(rle(data), 50, 1, 1)) == 50
