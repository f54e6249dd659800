"""Which UIDs are storage SOP classes and which are transfer syntaxes (PS3.6 Annex A, PS3.4 Annex B).

Written out, because importing pydicom's dictionary costs more than an echo; a test compares the two.
"""

from __future__ import annotations

import functools
import re

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_DICOM_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."

VERIFICATION = "1.2.840.10008.1.1"

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"

UNCOMPRESSED = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
"""The transfer syntaxes every DICOM implementation reads or used to."""

DEFLATED = frozenset(
    (
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    )
)
"""Transfer syntaxes in which the whole data set is one deflate stream: no length in it can be trusted."""

TRANSFER_SYNTAXES = DEFLATED.union(
    UNCOMPRESSED,
    ("1.2.840.10008.1.2.1.98",),  # Encapsulated Uncompressed Explicit VR Little Endian
    (f"1.2.840.10008.1.2.4.{n}" for n in (*range(50, 67), 70, 80, 81)),  # JPEG, JPEG-LS
    (f"1.2.840.10008.1.2.4.{n}" for n in range(90, 95)),  # JPEG 2000, JPIP
    (f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109)),  # MPEG-2, MPEG-4 AVC, HEVC
    (f"1.2.840.10008.1.2.4.{n}.1" for n in range(100, 107)),  # the same, fragmentable
    (f"1.2.840.10008.1.2.4.{n}" for n in range(110, 113)),  # JPEG XL
    (f"1.2.840.10008.1.2.4.{n}" for n in range(201, 205)),  # HTJ2K
    ("1.2.840.10008.1.2.5",),  # RLE Lossless
    ("1.2.840.10008.1.2.8.1",),  # Deflated Image Frame Compression: deflates frames, not the data set
    ("1.2.840.10008.1.20",),  # Papyrus 3 Implicit VR Little Endian, retired
    ("1.2.840.113619.5.2",),  # GE private: implicit VR little endian, pixel data big endian
)
"""Every transfer syntax of a DICOM data set; not MIME and XML (1.2.840.10008.1.2.6.x) or SMPTE (1.2.7.x)."""

_STORAGE_ELSEWHERE = frozenset(
    (
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.5.1.1.27",  # Stored Print, retired
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image, retired
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image, retired
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction, Trial, retired
        "1.2.840.10008.5.1.4.34.7",  # RT Beams Delivery Instruction
        "1.2.840.10008.5.1.4.34.10",  # RT Brachy Application Setup Delivery Instruction
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
    )
)
_NOT_STORAGE_IN_ROOT = frozenset(
    (
        *(f"{_STORAGE_ROOT}200.{n}" for n in (4, 5, 6)),  # Protocol Approval FIND, MOVE, GET
        *(f"{_STORAGE_ROOT}201.{n}" for n in (2, 3, 4, 5, 6)),  # Inventory FIND, MOVE, GET, Creation, Query
    )
)


@functools.lru_cache(1024)
def is_uid(text: str) -> bool:
    """Tell whether `text` has a UID's form: 1 to 64 digits and dots, no empty component. PS3.5 section 9.

    Leading zeros in a component are wrong too, but in use, and do no harm.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_storage(sop_class: str) -> bool:
    """Tell whether objects of `sop_class` can be stored: a storage SOP class of DICOM's, or a private one.

    Classes newer or older than PS3.6 as we know it are under DICOM's root for them and count as storage.
    """
    if sop_class.startswith(_STORAGE_ROOT):
        return sop_class not in _NOT_STORAGE_IN_ROOT and is_uid(sop_class)
    if sop_class.startswith(_DICOM_ROOT):
        return sop_class in _STORAGE_ELSEWHERE
    return is_uid(sop_class)
