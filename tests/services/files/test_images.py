"""Test images: valid, of nobody, all different, and gone once they are done with."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from dicomtls_cli.dimse.command import decode, encode, response
from dicomtls_cli.errors import OutputError
from dicomtls_cli.services.files.images import IMAGES_PER_SERIES, GeneratedImages, write_test_images
from dicomtls_cli.services.files.scan import Instance, read_instance
from tests.support import cli
from tests.support.scripted import LIMIT, Scripted, listening, p_data, pdv
from tests.support.server import serving

UID = re.compile(r"2\.25\.[1-9]\d{38}")
# PS3.3 A.3: what a CT image has to have with a value (type 1), and what may be empty (type 2).
TYPE_1 = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality ImageType "
    "SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation "
    "PixelData PixelSpacing ImageOrientationPatient ImagePositionPatient RescaleIntercept RescaleSlope"
)
TYPE_2 = (
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber SeriesNumber PositionReferenceIndicator Manufacturer InstanceNumber AcquisitionNumber KVP "
    "SliceThickness PatientPosition"
)


def made(folder: Path, count: int) -> list[Dataset]:
    folder.mkdir()
    return [dcmread(path) for path in write_test_images(folder, count)]


def test_every_image_is_another_one(tmp_path: Path) -> None:
    images = made(tmp_path / "a", IMAGES_PER_SERIES + 20) + made(tmp_path / "b", 3)
    assert len({image.SOPInstanceUID for image in images}) == len(images)
    assert all(image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID for image in images)
    studies = Counter(image.StudyInstanceUID for image in images)
    assert sorted(studies.values()) == [3, IMAGES_PER_SERIES + 20]
    series = Counter((image.SeriesInstanceUID, image.SeriesNumber) for image in images)
    assert sorted((number, count) for (_, number), count in series.items()) == [
        (1, 3),
        (1, IMAGES_PER_SERIES),
        (2, 20),
    ]
    places = {(i.SeriesInstanceUID, i.InstanceNumber, i.ImagePositionPatient[2], i.PixelData) for i in images}
    assert len(places) == len(images)
    assert {image.InstanceNumber for image in images} == set(range(1, IMAGES_PER_SERIES + 1))
    assert all(image.InstanceNumber == image.ImagePositionPatient[2] for image in images)


def test_an_image_is_valid_and_of_nobody(tmp_path: Path) -> None:
    image = made(tmp_path / "a", 1)[0]
    assert [name for name in TYPE_1.split() if image.get(name) in (None, "")] == []
    assert [name for name in TYPE_2.split() if name not in image] == []
    for element in image:
        if element.VR not in ("OW", "US"):
            values = element.value if element.VM > 1 else [element.value]
            for value in values:
                validate_value(element.VR, None if value is None else str(value), 2)  # 2: raise
    uids = [element.value for element in image if element.VR == "UI" and element.tag != 0x00080016]
    assert len(uids) == 4
    assert all(UID.fullmatch(uid) for uid in uids)
    assert "Test" in image.PatientName
    assert "TEST" in image.PatientID
    assert image.QualityControlSubject == "YES"
    assert len(image.PixelData) == 2 * image.Rows * image.Columns


def test_what_is_said_of_an_image_is_what_a_scan_finds(tmp_path: Path) -> None:
    with GeneratedImages(IMAGES_PER_SERIES + 2) as images:
        found = list(images)
        assert [read_instance(image.path) for image in found] == found
        assert [image.path for image in found] == sorted(image.path for image in found)


def test_little_room_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with GeneratedImages(2 * IMAGES_PER_SERIES) as images:
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        for image in images:
            assert list(folder.iterdir()) == [image.path]
            images.discard(image)
            images.discard(image)  # again is no error
        other = Instance(str(tmp_path / "other"), 1, 0, "1", "2", "3")
        other.path.touch()
        images.discard(other)
        assert other.path.exists(), "only its own"
        kept = next(iter(images))
        assert kept.path.exists()
    assert list(tmp_path.iterdir()) == [other.path]


def test_no_images_take_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with GeneratedImages(0) as images:
        assert list(images) == []
    with pytest.raises(OutputError) as caught, GeneratedImages(1):
        pass
    assert caught.value.slug == "output.no-temporary"


# --- storescu --generate ---------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def generate(port: int, *words: object) -> cli.Result:
    return cli.run("storescu", "--no-tls", f"127.0.0.1:{port}", *words)


def test_generated_images_are_sent(tmp_path: Path, temporary: Path) -> None:
    with serving(tmp_path / "output") as server:
        result = generate(server.port, "--generate", "5")
        assert result.stdout.endswith(": 5 stored, 0 with a warning, 0 failed\n"), result.stderr
        assert generate(server.port, "--generate", "5").exit_code == 0
    (first, second) = (tmp_path / "output").glob("2.25.*")  # a folder is a study
    assert len(list(first.iterdir())) == len(list(second.iterdir())) == 5
    assert list(temporary.iterdir()) == []


def test_they_go_beside_files(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "in").mkdir()
    write_test_images(tmp_path / "in", 2)
    with serving(tmp_path / "output") as server:
        result = generate(server.port, tmp_path / "in", "--json", "--generate", 3)
    assert result.json["stored"] == 5
    assert [Path(record["path"]).parent.parent for record in result.records[:-1]] == [tmp_path] * 2 + [
        temporary
    ] * 3


def test_many_do_not_pile_up(tmp_path: Path, temporary: Path) -> None:
    """However many there are, those that are there at any time are the few the sender looks ahead."""
    seen: list[int] = []
    with serving(
        None, lambda _: seen.append(sum(len(list(f.iterdir())) for f in temporary.iterdir()))
    ) as server:
        result = generate(server.port, "--generate", 400, "--json")
    assert result.json["stored"] == 400
    assert 0 < max(seen) < 300


def test_halt_makes_no_more_of_them(temporary: Path) -> None:
    """A million would take minutes: they are counted, not made."""
    left: list[int] = []

    def script(peer: Scripted) -> None:
        peer.accept()
        context_id, command, _ = peer.expect_message()
        peer.send(p_data(pdv(context_id, encode(response(decode(command), 0xA700)), command=True)))
        peer.release()
        left.extend(len(list(folder.iterdir())) for folder in temporary.iterdir())

    with listening(script) as port:
        result = generate(port, "--generate", 1_000_000, "--halt", "--json")
    assert (result.exit_code, result.json["failed"], result.json["not_tried"]) == (30, 1, 999_999)
    assert left[0] < 300
    assert list(temporary.iterdir()) == []


def test_ctrl_c_leaves_nothing_behind(temporary: Path) -> None:
    def script(peer: Scripted) -> None:
        peer.accept()
        context_id, command, _ = peer.expect_message()
        assert len(list(temporary.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        peer.send(p_data(pdv(context_id, encode(response(decode(command), 0)), command=True)))
        peer.release()

    with listening(script) as port:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicomtls_cli", "storescu", "--no-tls", f"127.0.0.1:{port}", "--generate", "9"],
            env={**cli.environment(), "TMPDIR": str(temporary)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.wait(LIMIT) == 130
    assert list(temporary.iterdir()) == []


def test_an_unreachable_peer_leaves_nothing_behind(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert generate(port, "--generate", 5).exit_code == 10
    assert list(temporary.iterdir()) == []


def test_no_room_for_them(tmp_path: Path, temporary: Path) -> None:
    with GeneratedImages(2) as images:
        shutil.rmtree(next(temporary.iterdir()))
        with pytest.raises(OutputError) as caught:
            next(iter(images))
        assert caught.value.slug == "output.no-temporary"
    temporary.rmdir()
    result = generate(1, "--generate", 5, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (4, "output.no-temporary")
