"""The three recipes of the Orthanc book, DCMTK's and dcm4che's, word for word with `dicomtls` in front.

https://orthanc.uclouvain.be/book/faq/dicom-tls.html
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import cli, peers
from tests.support.images import FOLDER

pytestmark = pytest.mark.interop

MUTUAL = "echoscu -v -aet DCMTK localhost 4242 +tls dcmtk.key dcmtk.crt +cf orthanc.crt"
MUTUAL_CONFIGURATION = """{
  "DicomTlsEnabled" : true,
  "DicomTlsCertificate" : "orthanc.crt",
  "DicomTlsPrivateKey" : "orthanc.key",
  "DicomTlsTrustedCertificates" : "dcmtk.crt",
  "DicomModalities" : {
    "dmctk" : {
      "Host" : "localhost",
      "Port" : 4242,
      "AET" : "DCMTK",
      "UseDicomTls" : true
    }
  }
}"""

ANONYMOUS = "echoscu -v localhost 4242 --anonymous-tls +cf /tmp/k/orthanc.crt"
ANONYMOUS_CONFIGURATION = """{
  "DicomTlsEnabled" : true,
  "DicomTlsCertificate" : "orthanc.crt",
  "DicomTlsPrivateKey" : "orthanc.key",
  "DicomTlsTrustedCertificates" : "orthanc.crt",
  "DicomTlsRemoteCertificateRequired" : false
}"""

RECIPES = {"mutual": (MUTUAL, MUTUAL_CONFIGURATION), "anonymous": (ANONYMOUS, ANONYMOUS_CONFIGURATION)}

CT = FOLDER / "CT_small.dcm"

DCMTKS_LINES = [
    "I: Requesting Association",
    "I: Association Accepted (Max Send PDV: 16372)",
    "I: Sending Echo Request (MsgID 1)",
    "I: Received Echo Response (Success)",
    "I: Releasing Association",
]


def openssl_req(folder: Path) -> None:
    """Make the certificates with the book's own command."""
    for name in ("orthanc", "dcmtk"):
        command = (
            "openssl req -x509 -nodes -days 365 -newkey rsa:2048 "
            f'-keyout {name}.key -out {name}.crt -subj "/C=BE/CN=localhost"'
        )
        subprocess.run(shlex.split(command), cwd=folder, check=True, capture_output=True)


def gencert(folder: Path) -> None:
    made = cli.run("gencert", "orthanc", "dcmtk", "--out-dir", folder)
    assert made.exit_code == 0, made.stderr


def gencert_and_bundle(folder: Path) -> None:
    """Replace each certificate file by the bundle of both, which both sides then trust."""
    gencert(folder)
    bundled = cli.run("bundle", folder / "orthanc.crt", folder / "dcmtk.crt", "-o", folder / "trusted.crt")
    assert bundled.exit_code == 0, bundled.stderr


def configuration(text: str, folder: Path, *, bundle: bool) -> dict[str, object]:
    """Make the paths of the book's configuration absolute: Orthanc resolves them against its own folder."""
    options: dict[str, object] = json.loads(text)
    if bundle:
        options["DicomTlsTrustedCertificates"] = "trusted.crt"
    paths = {
        name: str(folder / str(options[name]))
        for name in options
        if str(options[name]).endswith(("crt", "key"))
    }
    return {**options, **paths}


def words(recipe: str, folder: Path, port: int, *, bundle: bool) -> list[str]:
    """Return the recipe's words with this test's port and, in the second, its folder for /tmp/k."""
    replaced = {"4242": str(port), "/tmp/k/orthanc.crt": str(folder / "orthanc.crt")}
    if bundle:
        replaced |= {"orthanc.crt": "trusted.crt", "/tmp/k/orthanc.crt": str(folder / "trusted.crt")}
    return [replaced.get(word, word) for word in shlex.split(recipe)]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("make", [openssl_req, gencert, gencert_and_bundle])
def test_a_recipe_prints_dcmtks_five_lines(recipe: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    peers.need(peers.ORTHANC)
    make(tmp_path)
    command, text = RECIPES[recipe]
    bundle = make is gencert_and_bundle
    with peers.orthanc(tmp_path / "orthanc", **configuration(text, tmp_path, bundle=bundle)) as orthanc:
        result = cli.run(*words(command, tmp_path, orthanc.dicom_port, bundle=bundle))
        orthanc.log.wait_for(f"Association Received from AET {'DCMTK' if recipe == 'mutual' else 'DICOMTLS'}")
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("I: ")] == DCMTKS_LINES
    assert all(line.startswith(("I: ", "T: ")) for line in lines), "nothing else is said"
    assert result.stdout.startswith(f"localhost:{orthanc.dicom_port}: C-ECHO success in ")


@pytest.mark.parametrize("recipe", RECIPES)
def test_dcmtk_says_the_same_to_the_same_words(recipe: str, tmp_path: Path) -> None:
    command, text = RECIPES[recipe]
    openssl_req(tmp_path)
    with peers.orthanc(tmp_path / "orthanc", **configuration(text, tmp_path, bundle=False)) as orthanc:
        tool, *rest = words(command, tmp_path, orthanc.dicom_port, bundle=False)
        dcmtks = peers.dcmtk(tool, *rest)
        ours = cli.run(tool, *rest)
    assert (dcmtks.returncode, ours.exit_code) == (0, 0)
    assert [line for line in ours.stderr.splitlines() if line.startswith("I: ")] == dcmtks.stderr.splitlines()


def test_an_invalid_certificate_is_refused_where_none_is_required(tmp_path: Path) -> None:
    """The book's last remark: if the modality provides an invalid certificate, Orthanc never accepts it."""
    openssl_req(tmp_path)
    options = configuration(ANONYMOUS_CONFIGURATION, tmp_path, bundle=False)
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        result = cli.run(*words(MUTUAL, tmp_path, orthanc.dicom_port, bundle=False))
        orthanc.log.wait_for("TLS error: certificate verify failed")
    assert result.exit_code == 12
    assert "it does not trust our certificate" in result.stderr


DCM4CHE = (
    "storescu -c ORTHANC@localhost:4242 --tls --trust-store ./orthanc.p12 --key-store ./dcm4che.p12 "
    '--trust-store-pass "" --key-store-pass "" sample.dcm'
)
DCM4CHE_CONFIGURATION = MUTUAL_CONFIGURATION.replace("dcmtk.crt", "dcm4che.crt").replace("DCMTK", "STORESCU")


def test_dcm4ches_recipe(tmp_path: Path) -> None:
    """The stores are made as the book makes them: Orthanc's holds its private key, which we warn of."""
    peers.need(peers.ORTHANC)
    for name in ("orthanc", "dcm4che"):
        for command in (
            "openssl req -x509 -nodes -days 365 -newkey rsa:2048 "
            f'-keyout {name}.key -out {name}.crt -subj "/C=BE/CN=localhost"',
            f'openssl pkcs12 -export -in {name}.crt -inkey {name}.key -out {name}.p12 -password pass:""',
        ):
            subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "sample.dcm").write_bytes(CT.read_bytes())
    options = configuration(DCM4CHE_CONFIGURATION, tmp_path, bundle=False)
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        line = DCM4CHE.replace("4242", str(orthanc.dicom_port))
        result = cli.run_process(*shlex.split(line), cwd=tmp_path)
        assert len(orthanc.instances()) == 1
    assert result.exit_code == 0, result.stderr
    assert "warning: the trust file `orthanc.p12` also holds a private key" in result.stderr
    assert "process list" not in result.stderr, "an empty password is no secret"
