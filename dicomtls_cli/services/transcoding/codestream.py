"""What a compressed frame says of itself, read before a codec gets to see it. Pure.

A codec allocates what the codestream asks for, before anybody compares that with the data set; a frame that
is cut off it mostly decodes to something. So size, depth and end of a frame are looked at beforehand.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dicomtls_cli.services.files.elements import HeadError


class Codestream(NamedTuple):
    """The image a codestream holds; `precision` in bits a sample, `lossy` where that can be seen."""

    rows: int
    columns: int
    samples: int
    precision: int
    lossy: bool


_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOS = 0xDA
BASELINE = frozenset({0xC0})
EXTENDED = frozenset({0xC0, 0xC1})
LOSSLESS = frozenset({0xC3})
JPEG_LS = frozenset({0xF7})
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
# Another image, a number of lines that comes later, or a hierarchy: the codec would decode more than we saw.
_MORE_IMAGES = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xd8\xdc\xde\xdf\xf7]")
_TAIL = 16  # bytes at the end of a frame where its end marker stands; a fragment may be padded


def jpeg(frame: bytes, processes: frozenset[int]) -> Codestream:
    """Read the headers of a JPEG or JPEG-LS frame (ISO 10918-1 annex B, ISO 14495-1 annex C).

    `processes` are the start of frame markers its transfer syntax allows. Raises HeadError for anything else,
    for a frame without its end, and for one with more than one image.
    """
    if not frame.startswith(_SOI):
        raise HeadError("it is no JPEG image")
    at, process, header = 2, 0, b""
    while True:
        marker, body, at = _segment(frame, at)
        if marker in processes and not header:
            process, header = marker, body
        elif marker in _FRAME_HEADERS or marker in (0xD8, 0xD9, 0xDC, 0xDE, 0xDF):
            raise HeadError(f"its JPEG process (marker {marker:02x}) is not that of its transfer syntax")
        elif marker == _SOS:
            break
    if len(header) < 6 or not body:
        raise HeadError("its JPEG header is incomplete")
    samples = header[5]
    if _MORE_IMAGES.search(frame, at) or frame.count(b"\xff\xda", at) >= max(samples, 1):
        raise HeadError("it has more than one JPEG image")
    _check_end(frame)
    near = body[1 + 2 * body[0]] if len(body) > 1 + 2 * body[0] else 0
    lossy = near > 0 if process in JPEG_LS else process not in LOSSLESS
    rows, columns = int.from_bytes(header[1:3]), int.from_bytes(header[3:5])
    return Codestream(rows, columns, samples, header[0], lossy)


def _segment(frame: bytes, at: int) -> tuple[int, bytes, int]:
    """Return the marker at byte `at`, what its segment holds, and where the next begins."""
    while frame[at : at + 2] == b"\xff\xff":  # fill bytes
        at += 1
    length = int.from_bytes(frame[at + 2 : at + 4])
    if frame[at : at + 1] != b"\xff" or length < 2 or len(frame) < at + 2 + length:
        raise HeadError(f"its JPEG header cannot be read at byte {at}")
    return frame[at + 1], frame[at + 4 : at + 2 + length], at + 2 + length


def jpeg_2000(frame: bytes) -> Codestream:
    """Read the main header of a JPEG 2000 or HTJ2K frame (ISO 15444-1 annex A). Raises HeadError.

    Some writers put the codestream into a JP2 file, against PS3.5 A.4.4; that is let pass without a palette.
    """
    at = _codestream_in_jp2(frame) if frame[4:8] == b"jP  " else 0
    if frame[at : at + 4] != b"\xff\x4f\xff\x51" or len(frame) < at + 45:
        raise HeadError("it is no JPEG 2000 codestream")
    size = [int.from_bytes(frame[at + 8 + 4 * n : at + 12 + 4 * n]) for n in range(8)]
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = size
    samples = int.from_bytes(frame[at + 40 : at + 42])
    parts = frame[at + 42 : at + 42 + 3 * samples]
    if not tile_width or not tile_height or len(parts) < 3 * samples or not samples:
        raise HeadError("its JPEG 2000 header is incomplete")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > 65535 or any(step != 1 for step in parts[1::3] + parts[2::3]):
        raise HeadError("its JPEG 2000 tiles or samples are not as an image in DICOM has them")
    precision = max(depth & 0x7F for depth in parts[::3]) + 1
    lossy = _is_irreversible(frame, at + 2)
    _check_end(frame)
    return Codestream(bottom - top, right - left, samples, precision, lossy)


def _codestream_in_jp2(frame: bytes) -> int:
    at = 0
    while at + 8 <= len(frame):
        length, kind = int.from_bytes(frame[at : at + 4]), frame[at + 4 : at + 8]
        if kind == b"jp2c":
            return at + 8
        if length < 8 or b"pclr" in frame[at : at + length]:
            break
        at += length
    raise HeadError("it is a JP2 file whose codestream cannot be found, or with a palette")


def _is_irreversible(frame: bytes, at: int) -> bool:
    """Tell whether the coding style names the 9-7 wavelet, which loses something."""
    while frame[at : at + 1] == b"\xff" and at + 4 <= len(frame):
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4])
        if marker == 0x52:
            return frame[at + 13 : at + 14] == b"\0"
        if marker == 0x90 or length < 2:
            break
        at += 2 + length
    raise HeadError("its JPEG 2000 header has no coding style")


def _check_end(frame: bytes) -> None:
    if _EOI not in frame.rstrip(b"\0")[-_TAIL:]:
        raise HeadError("it is cut off: the marker of its end is missing")


def unpack_rle(frame: bytes, pixels: int, samples: int, width: int) -> bytes:
    """Return the pixels of an RLE frame (PS3.5 annex G), colour by pixel, each sample little endian.

    `pixels` is their number, `samples` that of each, `width` the bytes of a sample. Raises HeadError.
    """
    planes = samples * width
    header = [int.from_bytes(frame[at : at + 4], "little") for at in range(0, 64, 4)]
    if header[0] != planes:
        raise HeadError(f"it has {header[0]} RLE segments instead of {planes}")
    ends = [*header[2 : planes + 1], len(frame)]
    result = bytearray(pixels * planes)
    for number, (start, end) in enumerate(zip(header[1 : planes + 1], ends, strict=True)):
        if not 64 <= start <= end <= len(frame):
            raise HeadError("its RLE segments are not where its header says")
        sample, byte = divmod(number, width)  # the most significant byte comes first
        result[sample * width + width - 1 - byte :: planes] = _unpack_bits(frame[start:end], pixels)
    return bytes(result)


def _unpack_bits(segment: bytes, count: int) -> bytearray:
    result, at, end = bytearray(), 0, len(segment)
    while at < end and len(result) < count:
        code = segment[at]
        if code < 128:
            result += segment[at + 1 : at + 2 + code]
            at += 2 + code
        else:
            if code > 128:
                result += segment[at + 1 : at + 2] * (257 - code)
            at += 2 if code > 128 else 1
    if len(result) < count:
        raise HeadError(f"an RLE segment holds {len(result)} bytes instead of {count}")
    del result[count:]
    return result
