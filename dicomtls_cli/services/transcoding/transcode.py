"""An instance in a transfer syntax that the peer takes, where it does not take the one it is stored in.

The data set stays what it was, element for element and value for value, with its SOP Instance UID: only how it
is encoded changes (`recode`), and compressed pixels become native ones (`pixels`).
"""

from __future__ import annotations

import errno
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO

from dicomtls_cli.errors import DicomTlsError, InputError, OutputError
from dicomtls_cli.services.files.read_ahead import reopen
from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.services.files.syntax import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    transfer_syntax,
)

# What converts is imported on need: `fallbacks` is asked at every start, and mostly nothing is converted.

MAX_INFLATED = 1 << 30
"""The longest data set, in bytes, that is inflated from a deflated one."""

_IN_MEMORY = 4 << 20  # bytes of a result that are kept in memory; more go to a temporary file
_BLOCK = 1 << 18
_OF_READING = (errno.EIO, errno.ESTALE)  # what can go wrong with a file that is open already
# What `codecs` decodes, by the last number of its UID. JPEG XL, JPEG 2000 part 2 and the retired JPEG processes
# are left out: nothing that pydicom can ask decodes them.
_JPEGS = (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)
_COMPRESSED = (
    *(f"1.2.840.10008.1.2.4.{number}" for number in _JPEGS),
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.1.98",  # encapsulated uncompressed
    "1.2.840.10008.1.2.8.1",  # deflated frames
)
_FALLBACKS = {
    EXPLICIT_LITTLE: (IMPLICIT_LITTLE,),
    IMPLICIT_LITTLE: (EXPLICIT_LITTLE,),
    **dict.fromkeys((EXPLICIT_BIG, DEFLATED_LITTLE, *_COMPRESSED), (EXPLICIT_LITTLE, IMPLICIT_LITTLE)),
}


def fallbacks(transfer_syntax: str) -> tuple[str, ...]:
    """Return the transfer syntaxes that a data set stored in `transfer_syntax` can be converted to, best first.

    Empty for video, JPIP, private and unknown ones, and for compressions that nothing here decodes. Whether
    the codecs are installed does not count.
    """
    return _FALLBACKS.get(transfer_syntax, ())


def transcode(instance: Instance, target: str, folder: Path | None = None) -> tuple[IO[bytes], int]:
    """Return the data set of `instance` in the transfer syntax `target`, and its length in bytes.

    The file is unnamed, stands at its begin and is the caller's to close; what does not fit into 4 MB of memory
    is in `folder`, or where temporary files are. Uncompressed data sets of any size take constant memory,
    compressed ones about eight times a frame, which may have 256 MB. Raises InputError for what cannot
    be read or converted, OutputError where there is no room for the result.
    """
    if target not in fallbacks(instance.transfer_syntax):
        raise InputError(
            f"`{instance.file}` cannot be converted from transfer syntax {instance.transfer_syntax} to {target}",
            f"send it to a peer that takes {instance.transfer_syntax}",
            slug="transcode.unsupported",
        )
    out = _temporary(folder)
    try:
        with BufferedReader(reopen(instance)) as file:
            length = _convert(file, instance, target, out, folder)
        out.seek(0)
    except BaseException as error:
        out.close()
        explained = _explained(error, instance, target)
        if explained is None:
            raise
        raise explained from error
    return out, length


def _temporary(folder: Path | None) -> IO[bytes]:
    from tempfile import SpooledTemporaryFile

    return SpooledTemporaryFile(_IN_MEMORY, dir=None if folder is None else str(folder))


def _convert(file: IO[bytes], instance: Instance, target: str, out: IO[bytes], folder: Path | None) -> int:
    from dicomtls_cli.services.files import elements
    from dicomtls_cli.services.transcoding import codecs
    from dicomtls_cli.services.transcoding.pixels import plan_pixels
    from dicomtls_cli.services.transcoding.recode import recode
    from dicomtls_cli.services.transcoding.source import Source

    syntax = transfer_syntax(instance.transfer_syntax)
    decode = codecs.decoder(instance.transfer_syntax)
    planner = None if decode is None else partial(plan_pixels, decode=decode)
    encoding = elements.IMPLICIT_LITTLE if syntax.implicit else elements.EXPLICIT_LITTLE
    if syntax.big_endian:
        encoding = elements.EXPLICIT_BIG
    is_implicit = transfer_syntax(target).implicit
    if not syntax.deflated:
        source = Source(file, instance.offset, instance.size)
        return recode(source, encoding, out, implicit=is_implicit, planner=planner)
    with _temporary(folder) as inflated:
        source = Source(inflated, 0, _inflate(file, instance, inflated))
        return recode(source, encoding, out, implicit=is_implicit)


def _inflate(file: IO[bytes], instance: Instance, out: IO[bytes]) -> int:
    """Write the data set that is deflated in `file` (PS3.5 A.5) to `out`, and return its length.

    Raises HeadError, and TooLargeError for more than MAX_INFLATED bytes.
    """
    import zlib

    from dicomtls_cli.services.files.elements import HeadError
    from dicomtls_cli.services.transcoding.pixels import TooLargeError

    file.seek(instance.offset)
    inflater, length, pending = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
    try:
        while not inflater.eof:
            given = pending or file.read(_BLOCK)
            data = inflater.decompress(given, _BLOCK)
            if not given and not data and not inflater.eof:
                raise HeadError("its deflated data set is cut off")
            pending = inflater.unconsumed_tail
            length += len(data)
            if length > MAX_INFLATED:
                raise TooLargeError(f"its data set has more than {MAX_INFLATED} bytes once it is inflated")
            out.write(data)
    except zlib.error as error:
        raise HeadError(f"its data set is not deflated: {error}") from None
    return length


def _explained(error: BaseException, instance: Instance, target: str) -> DicomTlsError | None:
    """Return what a person is told of `error`, None where it speaks for itself."""
    from dicomtls_cli.services.files.elements import HeadError
    from dicomtls_cli.services.transcoding.codecs import NoCodecError
    from dicomtls_cli.services.transcoding.pixels import TooLargeError

    what = (
        f"`{instance.file}` cannot be converted from transfer syntax {instance.transfer_syntax} to {target}"
    )
    if isinstance(error, NoCodecError):
        return InputError(
            f"{what}: the codec for it is not installed ({error})",
            "pip install 'dicomtls-cli[codecs]', or send it to a peer that takes it as it is",
            slug="transcode.no-codec",
        )
    if isinstance(error, HeadError):
        return InputError(
            f"{what}: {error}",
            "`dcmdump` shows how far it can be read; a peer that takes it as it is gets it all the same",
            slug="transcode.failed",
        )
    if isinstance(error, TooLargeError | MemoryError):
        return InputError(
            f"{what}: {error or 'there is not enough memory'}",
            "send it to a peer that takes it as it is",
            slug="transcode.too-large",
        )
    if isinstance(error, OSError) and error.errno not in _OF_READING and error.filename != instance.file:
        return OutputError(
            f"{what}: there is no room for the result: {error.strerror or error}",
            "set TMPDIR to a folder with more room",
            slug="transcode.no-space",
        )
    if isinstance(error, OSError | ValueError):
        reason = error.strerror if isinstance(error, OSError) else error
        return InputError(
            f"cannot read `{instance.file}`: {reason}",
            "check the path and its rights",
            slug="input.unreadable",
        )
    return None
