"""What storescu makes of a DCMTK storescp that refuses, aborts or sleeps on demand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.conftest import Pki
from tests.support import cli, images, peers
from tests.support.objects import data_set, element, write

pytestmark = pytest.mark.interop

IMPLICIT = "1.2.840.10008.1.2"
NO_PIXELS = element(0x7FE00010, b"OB", b"")
EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"


def three(folder: Path) -> Path:
    for number in range(1, 4):
        write(folder / f"{number}.dcm", sop_instance=f"1.2.3.{number}")
    return folder


def faulty(pki: Pki, tmp_path: Path, *faults: object):
    return peers.dcmtk_storescp(
        tmp_path / "out", *peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted), *faults
    )


def send(pki: Pki, port: int, *words: object) -> cli.Result:
    return cli.run("storescu", "--json", "localhost", port, *pki.scu_options, *words)


def test_a_refused_association_is_one_error(pki: Pki, tmp_path: Path) -> None:
    with faulty(pki, tmp_path, "--refuse") as storescp:
        result = send(pki, storescp.port, three(tmp_path / "in"))
    assert result.exit_code == 20
    (record,) = result.records
    assert record["error"]["code"] == "association.rejected"


@pytest.mark.parametrize("fault", ["--abort-after", "--abort-during"])
def test_a_peer_that_aborts_every_time_stored_nothing(fault: str, pki: Pki, tmp_path: Path) -> None:
    with faulty(pki, tmp_path, fault) as storescp:
        result = send(pki, storescp.port, three(tmp_path / "in"))
    assert result.exit_code == 21
    *outcomes, summary = result.records
    assert [record["error"]["code"] for record in outcomes] == ["association.aborted"] * 3
    assert (summary["stored"], summary["failed"], summary["not_tried"]) == (0, 3, 0)


def test_a_peer_that_sleeps_is_left_when_the_time_is_up(pki: Pki, tmp_path: Path) -> None:
    """It would sleep for an hour; that the command ends is what shows the deadline."""
    with faulty(pki, tmp_path, "--sleep-during", 3600) as storescp:
        limits = ("-td", 0.5, "-ts", 0.5, "-ta", 0.5)
        result = send(pki, storescp.port, *limits, three(tmp_path / "in"))
    assert result.exit_code == 21
    assert result.records[0]["error"]["code"] == "association.timeout"
    assert result.records[-1]["failed"] == 3


def test_more_kinds_than_one_association_can_have(pki: Pki, tmp_path: Path) -> None:
    """150 private SOP classes, each in two transfer syntaxes: at least 300 contexts."""
    folder = tmp_path / "in"
    for number in range(300):
        sop_class, uid = f"1.2.826.0.1.3680043.10.99.{number // 2}", f"1.2.3.{number}"
        content = data_set(uid, sop_class=sop_class, pixels=b"")[: -len(NO_PIXELS)]
        syntax = EXPLICIT if number % 2 else JPEG
        write(folder / f"{number}.dcm", content, uid, sop_class=sop_class, transfer_syntax=syntax)
    with faulty(pki, tmp_path) as storescp:
        result = send(pki, storescp.port, folder)
    assert result.exit_code == 0, result.records[0]
    assert result.records[-1]["stored"] == 300
    assert len({images.sop_instance(path) for path in storescp.output.iterdir()}) == 300
    assert storescp.log.text.count("Association Acknowledged") >= 3


def test_a_peer_that_takes_implicit_little_endian_alone_gets_it(pki: Pki, tmp_path: Path) -> None:
    """DCMTK's `storescp` without `+xa`, and with `+xi`; what it stored, pydicom reads as it reads the originals."""
    sources = [images.FOLDER / name for name in ("CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm")]
    command = [str(peers.DCMTK / "storescp"), "+xi", "-od", str(tmp_path)]
    options = peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    peers.need(peers.DCMTK / "storescp")
    with peers.listening(lambda port: [*command, *options, str(port)]) as (port, _, _):
        result = send(pki, port, *sources)
        refused = send(pki, port, "--transcode", "never", *sources)
    assert result.exit_code == 0, result.stdout
    assert {record["transfer_syntax"] for record in result.records[:-1]} == {IMPLICIT}
    arrived = {images.sop_instance(path): path for path in tmp_path.glob("[A-Z]*.1.*")}
    for source in sources:
        theirs, ours = pydicom.dcmread(arrived[images.sop_instance(source)]), pydicom.dcmread(source)
        assert theirs.file_meta.TransferSyntaxUID == IMPLICIT
        assert theirs.PatientID == ours.PatientID
        assert np.array_equal(theirs.pixel_array, ours.pixel_array)
    assert refused.exit_code == 22
