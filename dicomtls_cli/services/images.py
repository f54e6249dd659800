"""Test images: small, valid CT slices of nobody, made by pydicom."""

from __future__ import annotations

from pathlib import Path

_CT = "1.2.840.10008.5.1.4.1.1.2"
_SIDE = 64


def write_test_images(folder: Path, count: int) -> list[Path]:
    """Write `count` CT slices of one study into `folder` and return their paths.

    Each is 64 x 64 pixels of 16 bits, explicit VR little endian, about 9 KB.
    """
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    study, series, frame = generate_uid(prefix=None), generate_uid(prefix=None), generate_uid(prefix=None)
    paths = []
    for number in range(1, count + 1):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = _CT, generate_uid(prefix=None)
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.Modality, image.PatientName, image.PatientID = "CT", "Test^Image", "DICOMTLS"
        image.StudyDate = image.StudyTime = image.AccessionNumber = image.ReferringPhysicianName = ""
        image.PatientBirthDate = image.PatientSex = image.StudyID = ""
        image.SeriesNumber, image.InstanceNumber = 1, number
        image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [1, 1], 1
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows = image.Columns = _SIDE
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 0
        image.RescaleIntercept, image.RescaleSlope = 0, 1
        rows = (
            ((x * y + 97 * number) & 0xFFFF).to_bytes(2, "little") for y in range(_SIDE) for x in range(_SIDE)
        )
        image.PixelData = b"".join(rows)
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"slice{number:03d}.dcm"
        pydicom.dcmwrite(path, image, enforce_file_format=True)
        paths.append(path)
    return paths
