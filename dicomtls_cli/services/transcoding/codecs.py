"""Frames of compressed pixel data as native pixels, by what decodes them.

JPEG, JPEG-LS and JPEG 2000 are decoded by pydicom with the plugins of our extra `codecs`, after a look at the
codestream; RLE, deflated and plain frames need none and are unpacked here.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from dicomtls_cli.services.files.elements import HeadError
from dicomtls_cli.services.transcoding import codestream
from dicomtls_cli.services.transcoding.codestream import Codestream

_SUBSAMPLED, _YBR = "YBR_FULL_422", ("YBR_FULL", "YBR_FULL_422")
_RETIRED = frozenset({"YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK"})
_ROWS_AT_ONCE = 1 << 18  # pixels whose colours are converted at a time: that takes 24 bytes for each


class NoCodecError(Exception):
    """The plugin that decodes this pixel data is not installed."""


class Image(NamedTuple):
    """The attributes that say what pixels look like (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: int
    photometric: str
    planar: int

    @property
    def frame_bits(self) -> int:
        """How many bits a frame of native pixels has, all samples in full resolution."""
        return self.rows * self.columns * self.samples * self.bits_allocated


class Frame(NamedTuple):
    """The native pixels of a frame, little endian, and what they are: `lossy` where the codestream shows it."""

    pixels: bytes
    photometric: str
    planar: int
    lossy: bool = False


Decoder = Callable[[bytes, Image], Frame]
"""Takes a frame of the image apart. Raises HeadError, NoCodecError; MemoryError."""


def decoder(transfer_syntax: str) -> Decoder | None:
    """Return what decodes frames of `transfer_syntax`, None where nothing does."""
    return _DECODERS.get(transfer_syntax)


# ---------------------------------------------------------------------- without a codec


def _plain(frame: bytes, image: Image) -> Frame:
    """Take a frame of Encapsulated Uncompressed (PS3.5 A.4.11), which is padded to an even length at most."""
    bits = image.frame_bits * 2 // 3 if image.photometric == _SUBSAMPLED else image.frame_bits
    if bits % 8 or len(frame) not in (bits // 8, bits // 8 + bits // 8 % 2):
        raise HeadError(f"it has {len(frame)} bytes where {bits / 8:g} are needed")
    return Frame(frame[: bits // 8], image.photometric, image.planar)


def _deflated(frame: bytes, image: Image) -> Frame:
    """Inflate a frame of Deflated Image Frame Compression (PS3.5 A.4.13)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        pixels = inflater.decompress(frame, image.frame_bits // 8 + 2)
    except zlib.error as error:
        raise HeadError(str(error)) from None
    if not inflater.eof:
        raise HeadError("its deflated bytes are cut off, or more than its pixels")
    return _plain(pixels, image)


def _rle(frame: bytes, image: Image) -> Frame:
    if image.bits_allocated % 8:
        raise HeadError(f"pixels of {image.bits_allocated} bit have no RLE form")
    pixels = codestream.unpack_rle(
        frame, image.rows * image.columns, image.samples, image.bits_allocated // 8
    )
    photometric = "YBR_FULL" if image.photometric == _SUBSAMPLED else image.photometric
    return Frame(pixels, photometric, 0)


# ---------------------------------------------------------------------- by pydicom and its plugins


def _by_plugin(
    read_header: Callable[[bytes], Codestream],
    transfer_syntax: str,
    plugins: tuple[str, ...],
    frame: bytes,
    image: Image,
) -> Frame:
    plugin = _installed(transfer_syntax, plugins)
    stream = read_header(frame)
    size = f"{stream.rows} x {stream.columns} pixels of {stream.samples} samples in {stream.precision} bits"
    if stream[:3] != (image.rows, image.columns, image.samples) or stream.precision > image.bits_allocated:
        raise HeadError(f"it has {size}, which is not what the data set says")
    if image.bits_allocated % 8 or image.photometric in _RETIRED:
        what = f"{image.photometric} in {image.bits_allocated} bits"
        raise HeadError(f"pixels of {what} cannot be decoded")
    pixels, photometric = _ask_pydicom(transfer_syntax, plugin, frame, image, stream.precision)
    return Frame(pixels, photometric, 0, stream.lossy)


def _installed(transfer_syntax: str, plugins: tuple[str, ...]) -> str:
    try:
        import numpy  # noqa: F401 - what comes out of pydicom's decoders is an array of it
        from pydicom.pixels import get_decoder

        available = get_decoder(transfer_syntax).available_plugins
    except ImportError as error:  # numpy is not there, or what is installed of the plugins is broken
        raise NoCodecError(str(error)) from error
    for plugin in plugins:
        if plugin in available:
            return plugin
    raise NoCodecError(" or ".join(plugins))


def _ask_pydicom(
    transfer_syntax: str, plugin: str, frame: bytes, image: Image, precision: int
) -> tuple[bytes, str]:
    """Return the pixels of a frame, colour by pixel, and their photometric interpretation."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    options: dict[str, Any] = {
        "rows": image.rows,
        "columns": image.columns,
        "samples_per_pixel": image.samples,
        "number_of_frames": 1,
        "bits_allocated": image.bits_allocated,
        "bits_stored": image.bits_stored,
        "pixel_representation": image.signed,
        "photometric_interpretation": image.photometric,
        "planar_configuration": image.planar,
    }
    if precision > image.bits_stored:  # what is above the stored bits was compressed too: an overlay, maybe
        options["correct_unused_bits"] = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it grumbles at what it puts right; the result is what counts
            pixels, found = get_decoder(transfer_syntax).as_array(
                encapsulate([frame], has_bot=False), index=0, raw=True, decoding_plugin=plugin, **options
            )
            photometric = str(found["photometric_interpretation"])
            if photometric in _YBR and transfer_syntax in _LOSSY_JPEG:
                return b"".join(_as_rgb(pixels)), "RGB"
            data: bytes = pixels.tobytes()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # plugins in Rust panic past Exception
        reason = str(error).strip().rpartition("\n")[2].strip() or type(error).__name__
        raise HeadError(f"it cannot be decoded: {reason}") from error
    if len(data) * 8 != image.frame_bits:
        raise HeadError(f"{len(data)} bytes of pixels came out instead of {image.frame_bits // 8}")
    return data, "YBR_FULL" if photometric == _SUBSAMPLED else photometric


def _as_rgb(pixels: Any) -> Iterator[bytes]:
    """Yield the pixels in RGB, a few rows at a time.

    JPEG stores colours as YBR, and uncompressed nearly nobody expects them so: DCMTK and pydicom convert too.
    """
    from pydicom.pixels import convert_color_space

    step = max(_ROWS_AT_ONCE // pixels.shape[1], 1)
    for row in range(0, pixels.shape[0], step):
        yield convert_color_space(pixels[row : row + step], "YBR_FULL", "RGB").tobytes()


_JPEG = "1.2.840.10008.1.2.4."
_LOSSY_JPEG = frozenset({_JPEG + "50", _JPEG + "51"})


def _table() -> dict[str, Decoder]:
    found: dict[str, Decoder] = {
        "1.2.840.10008.1.2.5": _rle,
        "1.2.840.10008.1.2.1.98": _plain,
        "1.2.840.10008.1.2.8.1": _deflated,
    }
    libjpeg, jpeg_ls, openjpeg = ("pylibjpeg",), ("pyjpegls", "pylibjpeg"), ("pylibjpeg",)
    for number, processes, plugins in (
        (50, codestream.BASELINE, libjpeg),
        (51, codestream.EXTENDED, libjpeg),
        (57, codestream.LOSSLESS, libjpeg),
        (70, codestream.LOSSLESS, libjpeg),
        (80, codestream.JPEG_LS, jpeg_ls),
        (81, codestream.JPEG_LS, jpeg_ls),
    ):
        header = partial(codestream.jpeg, processes=processes)
        found[f"{_JPEG}{number}"] = partial(_by_plugin, header, f"{_JPEG}{number}", plugins)
    for number in (90, 91, 201, 202, 203):
        uid = f"{_JPEG}{number}"
        found[uid] = partial(_by_plugin, codestream.jpeg_2000, uid, openjpeg)
    return found


_DECODERS = _table()
