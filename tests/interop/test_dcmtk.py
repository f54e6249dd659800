"""Images over mutual TLS to and from DCMTK's tools: what arrives is what was sent, strangers stay out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Pki
from tests.support import cli, images, peers
from tests.support.objects import file_meta
from tests.support.scripted import EXPLICIT

pytestmark = pytest.mark.interop


@pytest.fixture
def storescp(pki: Pki, tmp_path: Path) -> Iterator[peers.Storescp]:
    options = peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    with peers.dcmtk_storescp(tmp_path / "dcmtk", *options) as running:
        yield running


@pytest.fixture
def our_storescp(pki: Pki, tmp_path: Path) -> Iterator[peers.OurStorescp]:
    with peers.our_storescp(tmp_path / "ours", *pki.scp_options) as running:
        yield running


def scu_options(pki: Pki) -> list[str]:
    return peers.dcmtk_tls(pki.scu.cert, pki.scu.key, pki.trusted)


def data_sets(folder: Path) -> dict[str, bytes]:
    """Return what is stored below `folder`, by SOP Instance UID; nothing else may lie there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {images.sop_instance(path): images.data_set(path) for path in files}
    assert len(found) == len(files)
    return found


def sent() -> dict[str, bytes]:
    found = {images.sop_instance(path): images.as_sent(path) for path in images.variety()}
    assert len(found) == len(images.VARIETY)
    return found


# ---------------------------------------------------------------------- we send


def test_every_kind_of_image_reaches_dcmtk_as_it_is(pki: Pki, storescp: peers.Storescp) -> None:
    result = cli.run("storescu", "localhost", storescp.port, *pki.scu_options, *images.variety())
    assert result.exit_code == 0, result.stderr
    assert f"{len(images.VARIETY)} stored, 0 with a warning, 0 failed" in result.stdout
    assert data_sets(storescp.output) == sent()


def test_every_kind_of_image_reaches_us_as_it_is(pki: Pki, our_storescp: peers.OurStorescp) -> None:
    result = cli.run("storescu", "localhost", our_storescp.port, *pki.scu_options, *images.variety())
    assert result.exit_code == 0, result.stderr
    assert f"{len(images.VARIETY)} stored, 0 with a warning, 0 failed" in result.stdout
    assert data_sets(our_storescp.output) == sent()


def test_all_of_pydicoms_files_reach_dcmtk_in_one_command(pki: Pki, tmp_path: Path) -> None:
    """Several files have one SOP Instance UID, so DCMTK is told to number what it gets (`+uf`)."""
    options = [*peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted), "+uf"]
    with peers.dcmtk_storescp(tmp_path / "dcmtk", *options) as storescp:
        result = cli.run("storescu", "--json", "localhost", storescp.port, *pki.scu_options, images.FOLDER)
    summary = result.records[-1]
    outcomes = [record for record in result.records[:-1] if record["ok"]]
    # Without a SOP class, cut off in the middle of an element, or in no transfer syntax (JPEG with implicit VRs,
    # a byte before its data set): nothing that could be sent. A DICOMDIR goes beyond its end.
    assert {Path(record["path"]).name for record in result.records[:-1] if not record["ok"]} == {
        "DICOMDIR-nooffset",
        "MR_truncated.dcm",
        "SC_rgb_jpeg.dcm",
        "empty_charset_LEI.dcm",
        "meta_missing_tsyntax.dcm",
        "nested_priv_SQ.dcm",
        "no_meta.dcm",
        "rtplan_truncated.dcm",
    }
    assert (result.exit_code, summary["failed"], summary["not_tried"]) == (31, 8, 0)
    assert summary["stored"] == len(outcomes) > 150
    arrived = Counter(images.data_set(path) for path in storescp.output.iterdir())
    assert arrived == Counter(images.as_sent(Path(record["path"])) for record in outcomes)


@pytest.mark.parametrize(
    "pattern", ["*.dcm", "[!M]*_small*", "*[[:digit:]].dcm", "C[TR]_*.???", "MR_small?imp*"]
)
def test_a_pattern_finds_what_dcmtks_does(pattern: str, tmp_path: Path) -> None:
    with peers.dcmtk_storescp(tmp_path) as storescp:
        at = ("localhost", storescp.port)
        theirs = peers.dcmtk("storescu", "-v", "-nh", "+sd", "+sp", pattern, *at, images.FOLDER).stderr
        ours = cli.run("storescu", "-v", "--no-tls", "+sd", "+sp", pattern, *at, images.FOLDER).stderr

    def looked_at(log: str) -> set[str]:
        quoted = [
            line.partition("`")[2].partition("`")[0] for line in log.splitlines() if line[:6] == "error:"
        ]
        sent = [line.partition("Sending file: ")[2] for line in log.splitlines() if "Sending file: " in line]
        return {Path(name).name for name in (*quoted, *sent)}

    assert looked_at(ours) == looked_at(theirs)
    assert looked_at(ours)


def test_a_file_whose_meta_lies_arrives_as_what_it_is(tmp_path: Path) -> None:
    """Its data set is implicit: DCMTK could not read it under the transfer syntax its file meta states."""
    image = images.FOLDER / "MR_small_implicit.dcm"
    lying = tmp_path / "lying.dcm"
    lying.write_bytes(file_meta(transfer_syntax=EXPLICIT) + images.data_set(image))
    bare = tmp_path / "bare"
    bare.write_bytes(images.data_set(image))
    assert peers.dcmtk("dcmdump", lying).returncode != 0
    for path in (lying, bare):
        with peers.dcmtk_storescp(tmp_path / f"{path.stem}.out") as storescp:
            result = cli.run("storescu", "--no-tls", "localhost", storescp.port, path)
        assert result.exit_code == 0
        assert "its data set is implicit VR little endian" in result.stderr
        (arrived,) = storescp.output.iterdir()
        assert pydicom.dcmread(arrived).file_meta.TransferSyntaxUID.is_implicit_VR
        assert peers.dcmtk("dcmdump", arrived).returncode == 0
        assert images.data_set(arrived) == images.data_set(image)


def test_what_dcmtk_cannot_write_is_a_failure_with_its_status(pki: Pki, storescp: peers.Storescp) -> None:
    storescp.output.rmdir()
    image = images.FOLDER / "CT_small.dcm"
    result = cli.run("storescu", "--json", "localhost", storescp.port, *pki.scu_options, image)
    assert result.exit_code == 30
    assert result.records[0]["status"] == "A700"
    assert result.records[0]["error"]["code"] == "dimse.failure-status"


# ---------------------------------------------------------------------- DCMTK sends


def test_dcmtk_verifies_us(pki: Pki, our_storescp: peers.OurStorescp) -> None:
    done = peers.dcmtk("echoscu", "-v", *scu_options(pki), "-aet", "MODALITY", "localhost", our_storescp.port)
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        [
            "I: Requesting Association",
            "I: Association Accepted (Max Send PDV: 131060)",
            "I: Sending Echo Request (MsgID 1)",
            "I: Received Echo Response (Success)",
            "I: Releasing Association",
        ],
    )
    opened = our_storescp.event("opened")
    assert opened["calling_aet"] == "MODALITY"
    assert opened["certificate_sha256"] == pki.scu.fingerprint
    assert our_storescp.event("closed")["error"] is None


# DCMTK's storescu proposes compressed images only when told which; each file goes with its own flag.
DCMTK_FLAGS = {
    "CT_small.dcm": "-xe",
    "MR_small.dcm": "-x=",
    "rtplan.dcm": "-xi",
    "ExplVR_BigEnd.dcm": "-xb",
    "examples_ybr_color.dcm": "-xy",
    "JPEG-lossy.dcm": "-xx",
    "SC_rgb_jpeg_gdcm.dcm": "-xs",
    "GDCMJ2K_TextGBR.dcm": "-xv",
    "JPEG2000.dcm": "-xw",
    "SC_rgb_jls_lossy_line.dcm": "-xu",
    "SC_rgb_rle_2frame.dcm": "-xr",
    "waveform_ecg.dcm": "-xe",
}


@pytest.fixture(scope="module")
def receivers(
    pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[peers.OurStorescp, peers.Storescp]]:
    """Run ours and DCMTK's receiver: the latter shows which bytes a sender puts on the wire."""
    folder = tmp_path_factory.mktemp("receivers")
    options = peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    with (
        peers.our_storescp(folder / "ours", *pki.scp_options) as ours,
        peers.dcmtk_storescp(folder / "dcmtk", *options) as reference,
    ):
        yield ours, reference


@pytest.mark.parametrize("name", DCMTK_FLAGS)
def test_what_dcmtk_sends_is_what_we_store(
    name: str, pki: Pki, receivers: tuple[peers.OurStorescp, peers.Storescp]
) -> None:
    ours, reference = receivers
    image = images.FOLDER / name
    uid = images.sop_instance(image)
    place = len(ours.log)
    for port in (reference.port, ours.port):
        done = peers.dcmtk("storescu", *scu_options(pki), DCMTK_FLAGS[name], "localhost", port, image)
        assert done.returncode == 0, done.stderr
    (theirs,) = reference.output.glob(f"*.{uid}")
    event = ours.event("received", place)
    stored = Path(event["path"])
    assert images.data_set(stored) == images.data_set(theirs)
    assert (event["status"], event["bytes"]) == ("0000", len(images.data_set(theirs)))
    assert stored.name == f"{uid}.dcm"
    assert pydicom.dcmread(stored, specific_tags=[]).file_meta.TransferSyntaxUID == event["transfer_syntax"]
    assert images.instance(stored) == images.instance(image)


def test_dcmtk_sends_many_over_one_association(pki: Pki, our_storescp: peers.OurStorescp) -> None:
    sources = images.FOLDER / "dicomdirtests" / "TINY_ALPHA" / "PT000000"
    done = peers.dcmtk("storescu", *scu_options(pki), "+sd", "+r", "localhost", our_storescp.port, sources)
    assert done.returncode == 0, done.stderr
    closed = our_storescp.event("closed")
    files = [path for path in sources.rglob("*") if path.is_file()]
    assert closed["instances"] == len(files) == 50
    assert data_sets(our_storescp.output) == {
        images.sop_instance(path): images.data_set(path) for path in files
    }


# ---------------------------------------------------------------------- strangers


def test_dcmtk_refuses_our_stranger_and_serves_on(pki: Pki, storescp: peers.Storescp) -> None:
    stranger = ["--cert", pki.stranger.cert, "--key", pki.stranger.key, "--trust", pki.trusted]
    image = images.FOLDER / "CT_small.dcm"
    refused = cli.run("storescu", "--json", "localhost", storescp.port, *stranger, image)
    assert (refused.exit_code, refused.json["error"]["code"]) == (12, "tls.refused-unknown-ca")
    storescp.log.wait_for("TLS error: certificate verify failed")
    assert list(storescp.output.iterdir()) == []
    served = cli.run("storescu", "localhost", storescp.port, *pki.scu_options, image)
    assert (served.exit_code, len(list(storescp.output.iterdir()))) == (0, 1)


def test_we_refuse_dcmtks_stranger_and_serve_on(pki: Pki, our_storescp: peers.OurStorescp) -> None:
    stranger = peers.dcmtk_tls(pki.stranger.cert, pki.stranger.key, pki.trusted)
    image = images.FOLDER / "dicomdirtests" / "TINY_ALPHA" / "PT000000" / "ST000000" / "SE000000" / "IM000000"
    refused = peers.dcmtk("storescu", *stranger, "localhost", our_storescp.port, image)
    assert refused.returncode != 0
    event = our_storescp.event("refused")
    assert (event["error"]["code"], event["certificate_sha256"]) == (
        "tls.peer-untrusted",
        pki.stranger.fingerprint,
    )
    assert data_sets(our_storescp.output) == {}
    served = peers.dcmtk("storescu", *scu_options(pki), "localhost", our_storescp.port, image)
    assert served.returncode == 0, served.stderr
    assert data_sets(our_storescp.output) == {images.sop_instance(image): images.data_set(image)}


def test_we_refuse_a_stranger_that_answers_for_dcmtk(pki: Pki, tmp_path: Path) -> None:
    options = peers.dcmtk_tls(pki.stranger.cert, pki.stranger.key, pki.trusted)
    with peers.dcmtk_storescp(tmp_path / "dcmtk", *options) as storescp:
        refused = cli.run("echoscu", "--json", "localhost", storescp.port, *pki.scu_options)
        storescp.log.wait_for("unknown ca")
    assert (refused.exit_code, refused.json["error"]["code"]) == (11, "tls.peer-untrusted")


def test_dcmtk_refuses_a_stranger_that_answers_for_us(pki: Pki, tmp_path: Path) -> None:
    stranger = ["--cert", pki.stranger.cert, "--key", pki.stranger.key, "--trust", pki.trusted]
    with peers.our_storescp(tmp_path / "ours", *stranger) as scp:
        refused = peers.dcmtk("echoscu", *scu_options(pki), "localhost", scp.port)
        event = scp.event("refused")
        knowing = peers.dcmtk_tls(pki.scu.cert, pki.scu.key, pki.stranger.cert)
        served = peers.dcmtk("echoscu", *knowing, "localhost", scp.port)
    assert refused.returncode != 0
    assert event["error"]["code"] == "tls.refused-unknown-ca"
    assert served.returncode == 0, served.stderr
