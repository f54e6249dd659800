"""Images over mutual TLS to and from Orthanc: what arrives is what was sent, strangers stay out."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support import cli, images, peers

pytestmark = pytest.mark.interop

CT = images.FOLDER / "CT_small.dcm"
# Orthanc stores nothing without a Patient ID and the like, and reads what it gets: one is not as it says.
_NOT_FOR_ORTHANC = {
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "UN_sequence.dcm",
}
VARIETY = [path for path in images.variety() if path.name not in _NOT_FOR_ORTHANC]
# In their stead; these have SOP Instance UIDs that others have too.
FURTHER = [images.FOLDER / "MR_small_jpeg_ls_lossless.dcm", images.FOLDER / "SC_rgb_jpeg_gdcm.dcm"]


@pytest.fixture
def orthanc(pki: Pki, tmp_path: Path) -> Iterator[peers.Orthanc]:
    options = peers.orthanc_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    with peers.orthanc(tmp_path / "orthanc", **options) as running:
        yield running


@pytest.fixture
def our_storescp(pki: Pki, tmp_path: Path) -> Iterator[peers.OurStorescp]:
    with peers.our_storescp(tmp_path / "ours", *pki.scu_options) as running:
        yield running


def by_sop_instance(orthanc: peers.Orthanc) -> dict[str, str]:
    """Return Orthanc's id of each instance it has, by SOP Instance UID."""
    return {
        found["MainDicomTags"]["SOPInstanceUID"]: found["ID"] for found in orthanc.json("/instances?expand")
    }


# ---------------------------------------------------------------------- we send


@pytest.mark.parametrize("sources", [VARIETY, FURTHER], ids=["variety", "further"])
def test_every_kind_of_image_reaches_orthanc(sources: list[Path], pki: Pki, orthanc: peers.Orthanc) -> None:
    result = cli.run(
        "storescu", "-aet", "MODALITY", "-aec", "ARCHIVE", "localhost", orthanc.dicom_port, *pki.scu_options,
        *sources,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert f"{len(sources)} stored, 0 with a warning, 0 failed" in result.stdout
    found = by_sop_instance(orthanc)
    assert found.keys() == {images.sop_instance(path) for path in sources}
    for path in sources:
        instance = found[images.sop_instance(path)]
        sent = images.instance(path)
        metadata = orthanc.metadata(instance)
        assert (metadata["RemoteAET"], metadata["CalledAET"]) == ("MODALITY", "ARCHIVE")
        assert metadata["TransferSyntax"] == sent.file_meta.TransferSyntaxUID, path.name
        assert images.instance(BytesIO(orthanc.get(f"/instances/{instance}/file"))) == sent, path.name


def test_a_folder_goes_in_one_association(pki: Pki, orthanc: peers.Orthanc) -> None:
    """With several DICOMDIRs in it that list the same; the last record of one goes beyond its end."""
    folder = images.FOLDER / "dicomdirtests"
    result = cli.run("storescu", "localhost", orthanc.dicom_port, *pki.scu_options, folder)
    assert result.exit_code == 31, result.stderr
    assert "81 stored, 0 with a warning, 1 failed" in result.stdout
    assert "DICOMDIR-nooffset" in result.stderr
    assert orthanc.json("/statistics")["CountInstances"] == 81
    assert orthanc.log.text.count("Association Received from AET") == 1


def test_what_orthanc_does_not_store_is_told_with_its_status(pki: Pki, orthanc: peers.Orthanc) -> None:
    without_patient = images.FOLDER / "JPEGLSNearLossless_16.dcm"
    result = cli.run(
        "storescu", "--json", "localhost", orthanc.dicom_port, *pki.scu_options, CT, without_patient
    )
    stored, failed, summary = result.records
    assert (result.exit_code, summary["stored"], summary["failed"]) == (31, 1, 1)
    assert (stored["status"], failed["status"]) == ("0000", "A700")
    assert failed["error"]["code"] == "dimse.failure-status"
    orthanc.log.wait_for("required tags (PatientID, StudyInstanceUID, SeriesInstanceUID) are missing")


def test_a_dicomdir_alone_leads_to_all_it_lists(pki: Pki, orthanc: peers.Orthanc) -> None:
    disc = images.FOLDER / "dicomdirtests" / "TINY_ALPHA"
    result = cli.run("storescu", "localhost", orthanc.dicom_port, *pki.scu_options, disc / "DICOMDIR", disc)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "50 stored" in result.stdout
    assert orthanc.json("/statistics")["CountInstances"] == 50


# ---------------------------------------------------------------------- Orthanc sends


def test_orthanc_verifies_us(orthanc: peers.Orthanc, our_storescp: peers.OurStorescp, pki: Pki) -> None:
    orthanc.knows("ours", our_storescp.port, aet="OURS")
    assert orthanc.send("POST", "/modalities/ours/echo", {}) == (200, {})
    opened = our_storescp.event("opened")
    assert (opened["calling_aet"], opened["called_aet"]) == ("ORTHANC", "OURS")
    assert opened["certificate_sha256"] == pki.scp.fingerprint
    assert our_storescp.event("closed")["error"] is None


@pytest.mark.parametrize("sources", [VARIETY, FURTHER], ids=["variety", "further"])
def test_what_orthanc_sends_is_what_we_store(
    sources: list[Path], pki: Pki, orthanc: peers.Orthanc, our_storescp: peers.OurStorescp, tmp_path: Path
) -> None:
    """Orthanc writes some elements anew; what DCMTK gets from it shows the bytes it puts on the wire."""
    orthanc.knows("ours", our_storescp.port)
    instances = {path: orthanc.upload(path) for path in sources}
    with peers.dcmtk_storescp(
        tmp_path / "dcmtk", *peers.dcmtk_tls(pki.scu.cert, pki.scu.key, pki.trusted)
    ) as reference:
        orthanc.knows("reference", reference.port)
        for name in ("ours", "reference"):
            status, answer = orthanc.send("POST", f"/modalities/{name}/store", list(instances.values()))
            assert status == 200, answer
    theirs = {images.sop_instance(path): path for path in reference.output.iterdir()}
    for path, instance in instances.items():
        (stored,) = our_storescp.output.rglob(f"{images.sop_instance(path)}.dcm")
        assert images.data_set(stored) == images.data_set(theirs[images.sop_instance(path)]), path.name
        kept = BytesIO(orthanc.get(f"/instances/{instance}/file"))
        assert images.instance(stored) == images.instance(kept) == images.instance(path), path.name


def test_orthanc_stores_to_itself(orthanc: peers.Orthanc) -> None:
    """Its own round trip, as a check of the fixture: with TLS it works, without it does not."""
    instance = orthanc.upload(CT)
    for tls, wanted in ((True, 200), (False, 500)):
        orthanc.knows("itself", orthanc.dicom_port, aet="ORTHANC", tls=tls)
        assert orthanc.send("POST", "/modalities/itself/store", instance)[0] == wanted


# ---------------------------------------------------------------------- strangers


def test_orthanc_refuses_our_stranger_and_serves_on(pki: Pki, orthanc: peers.Orthanc) -> None:
    stranger = ["--cert", pki.stranger.cert, "--key", pki.stranger.key, "--trust", pki.trusted]
    refused = cli.run("storescu", "--json", "localhost", orthanc.dicom_port, *stranger, CT)
    assert (refused.exit_code, refused.json["error"]["code"]) == (12, "tls.refused-unknown-ca")
    orthanc.log.wait_for("TLS error: certificate verify failed")
    assert orthanc.instances() == []
    served = cli.run("storescu", "localhost", orthanc.dicom_port, *pki.scu_options, CT)
    assert (served.exit_code, len(orthanc.instances())) == (0, 1)


def test_we_refuse_orthanc_as_a_stranger_and_serve_on(
    pki: Pki, our_storescp: peers.OurStorescp, tmp_path: Path
) -> None:
    options = peers.orthanc_tls(pki.stranger.cert, pki.stranger.key, pki.trusted)
    with peers.orthanc(tmp_path / "stranger", **options) as stranger:
        stranger.knows("ours", our_storescp.port)
        status, answer = stranger.send("POST", "/modalities/ours/store", stranger.upload(CT))
        event = our_storescp.event("refused")
    assert status == 500
    assert "Peer aborted Association" in answer["Details"]
    assert event["error"]["code"] == "tls.peer-untrusted"
    assert event["certificate_sha256"] == pki.stranger.fingerprint
    assert list(our_storescp.output.rglob("*.dcm")) == []
    served = cli.run("echoscu", "localhost", our_storescp.port, *pki.scp_options)
    assert served.exit_code == 0, served.stderr


def test_we_refuse_a_stranger_that_answers_for_orthanc(pki: Pki, tmp_path: Path) -> None:
    options = peers.orthanc_tls(pki.stranger.cert, pki.stranger.key, pki.trusted)
    with peers.orthanc(tmp_path / "stranger", **options) as stranger:
        refused = cli.run("storescu", "--json", "localhost", stranger.dicom_port, *pki.scu_options, CT)
        stranger.log.wait_for("TLS error: tlsv1 alert unknown ca")
        assert stranger.instances() == []
    assert (refused.exit_code, refused.json["error"]["code"]) == (11, "tls.peer-untrusted")


def test_orthanc_refuses_a_stranger_that_answers_for_us(
    pki: Pki, orthanc: peers.Orthanc, tmp_path: Path
) -> None:
    stranger = ["--cert", pki.stranger.cert, "--key", pki.stranger.key, "--trust", pki.trusted]
    with peers.our_storescp(tmp_path / "stranger", *stranger) as scp:
        orthanc.knows("ours", scp.port)
        status, answer = orthanc.send("POST", "/modalities/ours/store", orthanc.upload(CT))
        event = scp.event("refused")
        assert list(scp.output.rglob("*.dcm")) == []
    assert status == 500
    assert "TLS error: certificate verify failed" in answer["Details"]
    assert event["error"]["code"] == "tls.refused-unknown-ca"
