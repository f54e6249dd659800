"""Test images: small, valid CT slices of nobody, made by pydicom once a series and by the byte after that."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dicomtls_cli.errors import OutputError
from dicomtls_cli.services.files.scan import Instance, read_instance

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from pydicom.dataset import Dataset

IMAGES_PER_SERIES = 100

_CT = "1.2.840.10008.5.1.4.1.1.2"
_SIDE = 64
_PIXEL_BYTES = 2 * _SIDE * _SIDE
_UID_LENGTH = 44


def write_test_images(folder: Path, count: int) -> list[Path]:
    """Write `count` CT slices of one study into `folder` and return their paths.

    Each is 64 x 64 pixels of 16 bits, explicit VR little endian, about 9 KB, in series of 100. All UIDs are
    new (2.25, PS3.5 B.2). Raises OutputError.
    """
    return [image.path for image in _write(folder, count)]


class GeneratedImages:
    """`count` test images, each written when it is asked for, into a temporary folder of their own.

    A context manager: the folder is there inside `with` (none for no images). Any number of images takes
    little room, given that each is discarded once it is done with.
    """

    def __init__(self, count: int) -> None:
        self._count = self.left = count
        """How many were not asked for yet."""
        self._temporary: TemporaryDirectory[str] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        if self._count:
            from tempfile import TemporaryDirectory

            try:
                self._temporary = TemporaryDirectory(prefix="dicomtls-images-", ignore_cleanup_errors=True)
            except OSError as error:
                raise _no_room("a temporary folder", error) from error
            self._folder = Path(self._temporary.name)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def __iter__(self) -> Iterator[Instance]:
        if self._folder is not None:
            for image in _write(self._folder, self._count):
                self.left -= 1
                yield image

    def discard(self, instance: Instance) -> None:
        """Remove the file of `instance`, if it is one of these images."""
        if self._folder is not None and instance.path.parent == self._folder:
            instance.path.unlink(missing_ok=True)


def _write(folder: Path, count: int) -> Iterator[Instance]:
    study = _new_uid()
    series = 0
    template: _Template | None = None
    for number in range(count):
        in_series = number % IMAGES_PER_SERIES + 1
        path = folder / f"slice{number + 1:06d}.dcm"
        try:
            if template is None or in_series == 1:
                series += 1
                template = _Template(study, series, path)
            image = template.write(path, in_series, number)
        except OSError as error:
            raise _no_room(f"`{folder}`", error) from error
        yield image


def _no_room(where: str, error: OSError) -> OutputError:
    return OutputError(
        f"test images cannot be written to {where}: {error.strerror or error}",
        "set TMPDIR to a folder with room that you may write to",
        slug="output.no-temporary",
    )


class _Template:
    """The images of one series: their bytes, and where these differ from image to image.

    What differs has the same length everywhere: UIDs of 44 characters, numbers of four.
    """

    def __init__(self, study: str, series: int, path: Path) -> None:
        import pydicom

        uid = _new_uid()
        pydicom.dcmwrite(path, _image(study, series, uid), enforce_file_format=True)
        instance = read_instance(path)
        assert isinstance(instance, Instance)
        self._instance = instance
        self._bytes = bytearray(path.read_bytes())
        path.unlink()
        meta = self._bytes.index(uid.encode())
        self._uids = (meta, self._bytes.index(uid.encode(), meta + 1))
        # Instance Number (0020,0013), and the last number of Image Position (0020,0032).
        self._numbers = tuple(self._bytes.index(head) + len(head) for head in (_NUMBER_HEAD, _POSITION_HEAD))
        self._pattern = _pattern()

    def write(self, path: Path, number: int, shift: int) -> Instance:
        """Write image `number` of the series, its pixels moved by `shift`."""
        uid = _new_uid()
        for at in self._uids:
            self._bytes[at : at + _UID_LENGTH] = uid.encode()
        for at in self._numbers:
            self._bytes[at : at + 4] = b"%-4d" % number
        first = 2 * (97 * shift % (_SIDE * _SIDE))
        self._bytes[-_PIXEL_BYTES:] = self._pattern[first : first + _PIXEL_BYTES]
        path.write_bytes(self._bytes)
        return self._instance._replace(file=str(path), sop_instance=uid, modified=path.stat().st_mtime_ns)


_NUMBER_HEAD = b"\x20\x00\x13\x00IS\x04\x00"
_POSITION_HEAD = b"\x20\x00\x32\x00DS\x08\x000\\0\\"


@cache
def _pattern() -> bytes:
    """Return the pixels of two images, one below the other: any part of it as long as one is an image."""
    return 2 * b"".join((x * y).to_bytes(2, "little") for y in range(_SIDE) for x in range(_SIDE))


def _new_uid() -> str:
    """Return a UID made of a random UUID (PS3.5 B.2), one of the seven in ten that have 44 characters."""
    from uuid import uuid4

    while len(uid := f"2.25.{uuid4().int}") != _UID_LENGTH:
        pass
    return uid


def _image(study: str, series: int, uid: str) -> Dataset:
    """Return a CT image (PS3.3 A.3), with nothing in it that could be taken for a patient's."""
    from time import strftime

    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = _CT, uid
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, _new_uid(), _new_uid()
    image.PatientName, image.PatientID = "Test^Image", "DICOMTLS-TEST"
    image.PatientComments, image.QualityControlSubject = "Test image, of no person", "YES"
    image.PatientBirthDate = image.PatientSex = image.PatientPosition = image.Laterality = ""
    image.StudyDate, image.StudyTime = strftime("%Y%m%d"), strftime("%H%M%S")
    image.StudyDescription, image.SeriesDescription = "dicomtls test images", "dicomtls test images"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "TEST", "", ""
    image.Modality, image.Manufacturer = "CT", "dicomtls"
    image.SeriesNumber, image.InstanceNumber, image.AcquisitionNumber = series, "1000", ""
    image.KVP = image.PositionReferenceIndicator = ""
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    image.ImagePositionPatient, image.ImageOrientationPatient = ["0", "0", "1000"], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = [1, 1], 1
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = _SIDE
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.RescaleIntercept, image.RescaleSlope = 0, 1
    image.WindowCenter, image.WindowWidth = 2000, 4000
    image.PixelData = bytes(_PIXEL_BYTES)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image
