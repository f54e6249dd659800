"""DICOMDIRs, encoded by hand record by record, right or wrong."""

from __future__ import annotations

import struct

from tests.support.objects import element, file_meta

DIRECTORY = "1.2.840.10008.1.3.10"
UNDEFINED = 0xFFFFFFFF
ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def record(file_id: str = "", *, in_use: bool = True, next_at: int = 0, lower: int = 0) -> bytes:
    """Return the elements of a directory record; `file_id` has backslashes between its parts."""
    return b"".join(
        (
            element(0x00041400, b"UL", struct.pack("<L", next_at)),
            element(0x00041410, b"US", struct.pack("<H", 0xFFFF * in_use)),
            element(0x00041420, b"UL", struct.pack("<L", lower)),
            element(0x00041430, b"CS", b"IMAGE" if file_id else b"PATIENT"),
            element(0x00041500, b"CS", file_id.encode("latin-1")) if file_id else b"",
            element(0x00041510, b"UI", b"1.2.840.10008.5.1.4.1.1.2") if file_id else b"",
            element(0x00080005, b"CS", b"ISO_IR 100"),
        )
    )


def sequence(*records: bytes, defined: bool = True) -> bytes:
    """Return the Directory Record Sequence, its lengths defined or not."""
    length = len if defined else (lambda _: UNDEFINED)
    items = b"".join(
        struct.pack("<HHL", 0xFFFE, 0xE000, length(one)) + one + (b"" if defined else ITEM_END)
        for one in records
    )
    return element(0x00041220, b"SQ", items, length=length(items)) + (b"" if defined else SEQUENCE_END)


def directory(records: bytes) -> bytes:
    """Return a DICOMDIR with `records`, a sequence."""
    head = element(0x00041130, b"CS", b"TEST") + element(0x00041200, b"UL", struct.pack("<L", 0))
    return file_meta("1.2.30", sop_class=DIRECTORY) + head + records


def dicomdir(*file_ids: str, defined: bool = True) -> bytes:
    """Return a DICOMDIR that lists files by their IDs, behind the record of a patient."""
    return directory(sequence(record(), *map(record, file_ids), defined=defined))
