"""Compressed images and what they are converted to, read by pydicom."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from dicomtls_cli.services.files.scan import Instance, read_instance
from dicomtls_cli.services.transcoding.transcode import transcode
from tests.support.objects import element, file_meta
from tests.support.scripted import EXPLICIT

RLE = "1.2.840.10008.1.2.5"
PLAIN = "1.2.840.10008.1.2.1.98"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LS, JPEG_LS_NEAR, J2K_LOSSLESS, J2K, HTJ2K = (
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 70, 80, 81, 90, 91, 201)
)


def scanned(path: Path) -> Instance:
    found = read_instance(path, named=True)
    assert isinstance(found, Instance), found
    return found


def converted(instance: Instance, target: str = EXPLICIT) -> bytes:
    """Return the data set of `instance` in `target`."""
    file, length = transcode(instance, target)
    with file:
        data = file.read()
    assert len(data) == length
    assert length % 2 == 0
    return data


def as_file(data: bytes, transfer_syntax: str) -> bytes:
    return file_meta(transfer_syntax=transfer_syntax) + data


def read(data: bytes, transfer_syntax: str = EXPLICIT) -> Dataset:
    """Return what pydicom reads from a data set."""
    return pydicom.dcmread(BytesIO(as_file(data, transfer_syntax)))


def raw(found: Dataset) -> dict[int, Any]:
    """Return the values of a data set as their bytes, by tag, without padding and group lengths."""
    values: dict[int, Any] = {}
    for tag in found.keys():  # noqa: SIM118 - iterating reads every element
        one = found.get_item(tag)
        if tag.element == 0:
            continue
        if one.VR == "SQ" or (one.VR in (None, "UN") and _is_sequence(one.tag)):
            values[tag] = [raw(item) for item in found[tag].value or ()]
        else:  # pydicom needs the character set at once, and has it as text
            value = one.value or b""
            values[tag] = value.rstrip(b"\0 ") if isinstance(value, bytes) else value
    return values


def _is_sequence(tag: int) -> bool:
    return pydicom.datadict.dictionary_has_tag(tag) and pydicom.datadict.dictionary_VR(tag) == "SQ"


def us(tag: int, *values: int) -> bytes:
    return element(tag, b"US", struct.pack(f"<{len(values)}H", *values))


def item(data: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data


SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def encapsulated(fragments: Sequence[bytes], offsets: Sequence[int] = ()) -> bytes:
    """Return a Pixel Data element of these fragments, its offset table as given."""
    table = item(struct.pack(f"<{len(offsets)}L", *offsets))
    padded = [fragment + b"\0" * (len(fragment) % 2) for fragment in fragments]
    header = struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF)
    return header + table + b"".join(map(item, padded)) + SEQUENCE_END


def image(
    pixels: bytes,
    *,
    rows: int,
    columns: int,
    samples: int = 1,
    frames: str | None = None,
    bits: int = 8,
    stored: int | None = None,
    signed: int = 0,
    photometric: bytes = b"MONOCHROME2",
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Return a data set with `pixels`, a whole Pixel Data element."""
    planar = us(0x00280006, 0) if samples > 1 else b""
    count = element(0x00280008, b"IS", frames.encode()) if frames is not None else b""
    return b"".join(
        (
            element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.7"),
            element(0x00080018, b"UI", b"1.2.3"),
            before,
            us(0x00280002, samples),
            element(0x00280004, b"CS", photometric),
            planar,
            count,
            us(0x00280010, rows),
            us(0x00280011, columns),
            us(0x00280100, bits),
            us(0x00280101, stored or bits),
            us(0x00280102, max((stored or bits) - 1, 0)),
            us(0x00280103, signed),
            pixels,
            after,
        )
    )


def stored(folder: Path, data: bytes, transfer_syntax: str) -> Instance:
    """Write a file of a data set and return it as if it had been scanned."""
    path = folder / "image.dcm"
    meta = file_meta(transfer_syntax=transfer_syntax)
    path.write_bytes(meta + data)
    about = path.stat()
    return Instance(
        str(path), about.st_size, len(meta), "1.2", "1.2.3", transfer_syntax, modified=about.st_mtime_ns
    )
