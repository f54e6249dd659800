"""Every file that pydicom ships, in one command, to Orthanc; what DCMTK's own storescu makes of them beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support import cli, images, peers

pytestmark = pytest.mark.interop

# Orthanc says A700 to what lacks the identifiers it files by, and C000 to what its DCMTK cannot read.
REASONS = {
    "input.dicomdir",
    "input.not-dicom",
    "dimse.failure-status",
    "input.broken-dicom",
    "input.truncated",
    "input.transfer-syntax",
    "input.odd-length",
}


@pytest.fixture
def orthanc(pki: Pki, tmp_path: Path) -> Iterator[peers.Orthanc]:
    options = peers.orthanc_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    with peers.orthanc(tmp_path / "orthanc", **options) as running:
        yield running


def dcmtks_own(pki: Pki, folder: Path, tmp_path: Path) -> dict[str, str]:
    """Return by file name what DCMTK's storescu says of each file of `folder`, sent to its own storescp."""
    options = peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    with peers.dcmtk_storescp(tmp_path / "theirs", *options, "+uf") as storescp:
        mine = peers.dcmtk_tls(pki.scu.cert, pki.scu.key, pki.trusted)
        done = peers.dcmtk("storescu", "-v", "-nh", "+sd", "+r", *mine, "localhost", storescp.port, folder)
    words: dict[str, str] = {}
    current = ""
    for line in done.stdout.splitlines() + done.stderr.splitlines():
        if found := re.search(r"Sending file: (.*)", line):
            current = Path(found[1]).name
            words[current] = "nothing said"
        elif found := re.search(r"Received Store Response \((.*)\)", line):
            words[current] = found[1]
        elif found := re.search(r"(?:Bad DICOM file|No presentation context).*", line):
            words[current or "?"] = found[0]
    return words


def test_every_file_of_pydicom_reaches_orthanc_or_is_named(
    pki: Pki, orthanc: peers.Orthanc, tmp_path: Path
) -> None:
    theirs = dcmtks_own(pki, images.FOLDER, tmp_path)
    result = cli.run("storescu", "--json", "localhost", orthanc.dicom_port, *pki.scu_options, images.FOLDER)
    *records, summary = result.records
    table = [
        f"{Path(r['path']).name:45} {r['status'] or '-':5} {r['error']['code'] if 'error' in r else 'stored':24} "
        f"DCMTK: {theirs.get(Path(r['path']).name, 'not sent')}"
        for r in records
    ]
    print("\n".join(table))  # noqa: T201 - shown where the test fails
    assert summary["stored"] + summary["warned"] + summary["failed"] == len(records) > 150
    failed = [record for record in records if not record["ok"]]
    assert {record["error"]["code"] for record in failed} <= REASONS
    stored = [record for record in records if record["ok"]]
    assert summary["stored"] == len(stored) > 130
    times = Counter(record["sop_instance"] for record in stored)
    ids = {
        found["MainDicomTags"]["SOPInstanceUID"]: found["ID"] for found in orthanc.json("/instances?expand")
    }
    assert ids.keys() == times.keys()
    compared = 0
    for record in stored:
        path = Path(record["path"])
        if times[record["sop_instance"]] == 1 and "DICM" in path.read_bytes()[:132].decode("latin-1"):
            arrived = images.instance(BytesIO(orthanc.get(f"/instances/{ids[record['sop_instance']]}/file")))
            if arrived.file_meta.TransferSyntaxUID == images.instance(path).file_meta.TransferSyntaxUID:
                assert arrived == images.instance(path), path.name
                compared += 1
    assert compared > 60
