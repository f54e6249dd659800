"""Real DICOM files, those that pydicom ships, and where in a file the data set is."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.filereader import _read_file_meta_info, read_preamble

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"

# Every kind of transfer syntax and some odd ones, each with a SOP Instance UID of its own.
VARIETY = (
    "CT_small.dcm",  # explicit little endian
    "MR_small.dcm",  # another SOP class
    "SC_rgb_rle_2frame.dcm",  # RLE, two frames
    "ExplVR_BigEnd.dcm",  # explicit big endian
    "693_J2KI.dcm",  # JPEG 2000
    "JPEG2000.dcm",
    "GDCMJ2K_TextGBR.dcm",  # JPEG 2000 lossless
    "examples_jpeg2k.dcm",
    "JPEG-lossy.dcm",  # JPEG extended, 12 bits
    "UN_sequence.dcm",  # JPEG lossless
    "examples_ybr_color.dcm",  # JPEG baseline, 30 frames
    "JPEGLSNearLossless_16.dcm",  # JPEG-LS
    "SC_rgb_jls_lossy_line.dcm",
    "image_dfl.dcm",  # deflated, of odd length
    "rtplan.dcm",  # implicit little endian; its file meta has another SOP Instance UID
    "badVR.dcm",  # the same
    "waveform_ecg.dcm",
    "test-SR.dcm",
    "examples_rgb_color.dcm",
    "liver_1frame.dcm",  # a segmentation
)


def variety() -> list[Path]:
    return [FOLDER / name for name in VARIETY]


def data_set(path: Path) -> bytes:
    """Return the bytes behind the file meta, if there is one, found by pydicom."""
    with path.open("rb") as file:
        read_preamble(file, force=True)
        _read_file_meta_info(file)
        return file.read()


def as_sent(path: Path) -> bytes:
    """Return the data set as it has to go over the wire: an odd deflated one gets a NUL (PS3.5 A.5)."""
    data = data_set(path)
    return data + b"\0" if len(data) % 2 else data


def instance(file: Path | BytesIO) -> pydicom.Dataset:
    """Return a file as pydicom reads it, but for what DCMTK puts right on its way, in Orthanc too.

    It renews group lengths, does not send trailing padding, and knows that encapsulated pixel data is OB
    (PS3.5 A.4), where some of these files say OW.
    """
    found = pydicom.dcmread(file)
    for tag in [tag for tag in found.keys() if tag.element == 0]:  # noqa: SIM118 - iterating reads every element
        del found[tag]
    found.pop("DataSetTrailingPadding", None)
    if found.file_meta.TransferSyntaxUID.is_encapsulated and "PixelData" in found:
        found["PixelData"].VR = "OB"
    return found


def sop_instance(path: Path) -> str:
    """Return the SOP Instance UID a file is sent under: the data set's, or else the file meta's."""
    found = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"])
    return str(found.get("SOPInstanceUID") or found.file_meta.MediaStorageSOPInstanceUID)
