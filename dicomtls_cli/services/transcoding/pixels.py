"""What becomes of a data set whose encapsulated pixel data (PS3.5 A.4) turns into native pixels."""

from __future__ import annotations

from collections.abc import Iterator

from dicomtls_cli.services.files.elements import UNDEFINED, Element, Encoding, HeadError
from dicomtls_cli.services.transcoding.codecs import Decoder, Frame, Image
from dicomtls_cli.services.transcoding.fragments import Frames
from dicomtls_cli.services.transcoding.recode import BITS_ALLOCATED, PIXEL_DATA, PIXEL_REPRESENTATION, Plan
from dicomtls_cli.services.transcoding.source import Source

MAX_FRAME = 256 << 20
"""The longest frame, in bytes of native pixels, that is decoded: a codec takes several times that memory."""
MAX_RATIO = 1000
"""How many times longer pixel data may become, where it becomes longer than SMALL."""
SMALL = 64 << 20
"""Bytes of native pixels that are taken from however few encapsulated ones."""

_SAMPLES, _PHOTOMETRIC, _PLANAR = 0x00280002, 0x00280004, 0x00280006
_FRAMES, _ROWS, _COLUMNS, _BITS_STORED = 0x00280008, 0x00280010, 0x00280011, 0x00280101
_LOSSY = 0x00282110
_OFFSET_TABLES = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003})  # only of encapsulated pixel data
_GROUPS = frozenset({0x0028, 0x7FE0})
_SLACK = 1 << 16  # bytes beside twice its pixels that a compressed frame may have: headers, tables


class TooLargeError(Exception):
    """The pixels would take more than we are ready to give; the text says what."""


def plan_pixels(source: Source, encoding: Encoding, limit: int, decode: Decoder) -> Plan | None:
    """Return what becomes of the data set that stands next when its pixel data is decoded by `decode`.

    None where none of it is encapsulated. All frames but the first are decoded while the plan's blocks are
    taken. SOP Instance UID and all else stay; Photometric Interpretation, Planar Configuration and Lossy Image
    Compression become what the pixels are (PS3.3 C.7.6.3). Raises HeadError, NoCodecError, TooLargeError.
    """
    headers = source.survey(encoding, limit, _GROUPS)
    pixel_data = headers.get(PIXEL_DATA)
    if pixel_data is None or pixel_data.length != UNDEFINED:
        return None
    image = _describe(source, encoding, headers)
    frames = Frames(source, encoding, pixel_data, limit, image.frames)
    _check_size(image, frames.size)
    first = _decode(decode, frames, image, 0)
    values: dict[int, tuple[bytes, bytes]] = {}
    if first.photometric != image.photometric:
        text = first.photometric.encode()
        values[_PHOTOMETRIC] = b"CS", text + b" " * (len(text) % 2)
    if image.samples > 1:
        values[_PLANAR] = b"US", first.planar.to_bytes(2, "little")
    if first.lossy:
        values[_LOSSY] = b"CS", b"01"
    length = len(first.pixels) * image.frames
    vr = b"OW" if image.bits_allocated > 8 else b"OB"
    blocks = _blocks(decode, frames, image, first)
    return Plan(values, _OFFSET_TABLES, vr, length + length % 2, blocks)


def _describe(source: Source, encoding: Encoding, headers: dict[int, Element]) -> Image:
    def number(tag: int, default: int = 0) -> int:
        element = headers.get(tag)
        return source.number(element, encoding) if element is not None and element.length == 2 else default

    def text(tag: int) -> str:
        element = headers.get(tag)
        return source.value(element).decode("latin-1").strip("\0 ") if element is not None else ""

    count = text(_FRAMES) or "1"
    if not count.isdecimal() or not int(count):
        raise HeadError(f"it has pixel data and a Number of Frames of `{count}`")
    image = Image(
        rows=number(_ROWS),
        columns=number(_COLUMNS),
        samples=number(_SAMPLES, 1),
        frames=int(count),
        bits_allocated=number(BITS_ALLOCATED),
        bits_stored=number(_BITS_STORED, number(BITS_ALLOCATED)),
        signed=number(PIXEL_REPRESENTATION),
        photometric=text(_PHOTOMETRIC),
        planar=number(_PLANAR),
    )
    if not image.rows or not image.columns or image.samples not in (1, 3):
        size = f"{image.rows} rows, {image.columns} columns and {image.samples} samples"
        raise HeadError(f"pixels of {size} cannot be decoded")
    if image.bits_allocated not in (1, 8, 16, 32) or not 0 < image.bits_stored <= image.bits_allocated:
        raise HeadError(f"pixels of {image.bits_stored} bits in {image.bits_allocated} cannot be decoded")
    return image


def _check_size(image: Image, size: int) -> None:
    """Raise TooLargeError where `size` bytes cannot, or must not, become what the image says of itself."""
    frame, total = image.frame_bits // 8, image.frame_bits * image.frames // 8
    if frame > MAX_FRAME:
        raise TooLargeError(f"a frame of it has {frame} bytes of pixels, more than {MAX_FRAME}")
    if total >= UNDEFINED - 1:
        raise TooLargeError(f"its pixels would have {total} bytes, more than an element can (PS3.5 7.1)")
    if total > max(SMALL, size * MAX_RATIO):
        raise TooLargeError(f"{size} bytes of compressed pixels say that they are {total}")


def _decode(decode: Decoder, frames: Frames, image: Image, number: int) -> Frame:
    try:
        return decode(frames.read(number, image.frame_bits // 4 + _SLACK), image)
    except HeadError as error:
        raise HeadError(f"frame {number + 1}: {error}") from error
    except MemoryError:
        raise TooLargeError(f"there is not enough memory to decode frame {number + 1}") from None


def _blocks(decode: Decoder, frames: Frames, image: Image, first: Frame) -> Iterator[bytes]:
    yield first.pixels
    for number in range(1, image.frames):
        frame = _decode(decode, frames, image, number)
        if (frame.photometric, frame.planar) != (first.photometric, first.planar):
            raise HeadError(f"frame {number + 1} is {frame.photometric}, the first {first.photometric}")
        yield frame.pixels
    if len(first.pixels) * image.frames % 2:
        yield b"\0"
