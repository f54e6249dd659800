"""Small DICOM objects, encoded by hand byte by byte, and files of them."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.support.scripted import CT, EXPLICIT

_LONG = {b"OB", b"OW", b"SQ", b"UN", b"UT"}


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """Return an element in explicit VR little endian; `length` may lie."""
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    said = len(value) if length is None else length
    return head + (struct.pack("<xxI", said) if vr in _LONG else struct.pack("<H", said)) + value


def data_set(
    sop_instance: str = "1.2.3",
    *,
    study: str | None = "1.2.9",
    sop_class: str | None = CT,
    pixels: bytes = bytes(1000),
    before_study: bytes = b"",
) -> bytes:
    """Return a data set in explicit VR little endian with the elements a receiver looks for."""
    parts = [
        element(0x00080016, b"UI", sop_class.encode()) if sop_class is not None else b"",
        element(0x00080018, b"UI", sop_instance.encode()),
        element(0x00100010, b"PN", b"Test^Object"),
        before_study,
        element(0x0020000D, b"UI", study.encode()) if study is not None else b"",
        element(0x7FE00010, b"OB", pixels),
    ]
    return b"".join(parts)


def file_meta(sop_instance: str = "1.2.3", *, sop_class: str = CT, transfer_syntax: str = EXPLICIT) -> bytes:
    group = b"".join(
        (
            element(0x00020001, b"OB", b"\0\1"),
            element(0x00020002, b"UI", sop_class.encode()),
            element(0x00020003, b"UI", sop_instance.encode()),
            element(0x00020010, b"UI", transfer_syntax.encode()),
        )
    )
    return bytes(128) + b"DICM" + element(0x00020000, b"UL", struct.pack("<I", len(group))) + group


def write(path: Path, data: bytes | None = None, sop_instance: str = "1.2.3", **meta: str) -> Path:
    """Write a DICOM file of `data`, a data set of that instance unless given, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_meta(sop_instance, **meta) + (data_set(sop_instance) if data is None else data))
    return path
