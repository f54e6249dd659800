"""Every kind of certificate that `gencert` makes, self-signed and by a CA, before every verifier at hand.

Both ends of a pair have the same subject, and stand in one bundle where they are self-signed: the case that breaks
OpenSSL-based peers whose certificates have no key identifiers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import cli, peers

pytestmark = pytest.mark.interop

KINDS = ("rsa2048", "rsa3072", "p256", "p384", "ed25519")
LIVE = ("rsa2048", "p256", "ed25519")  # one of each family, before peers that have to be started


@dataclass(frozen=True)
class Made:
    """The files of an SCP and an SCU, and what both trust."""

    kind: str
    scp: Path
    scu: Path
    trusted: Path

    @property
    def versions(self) -> tuple[str, ...]:
        """DCMTK 3.6.7 and Orthanc have no suites for other than RSA keys in TLS 1.2."""
        return ("--tls12", "--tls13") if self.kind.startswith("rsa") else ("--tls13",)

    def options(self, own: Path) -> tuple[object, ...]:
        return ("--cert", own, "--key", own.with_suffix(".key"), "--trust", self.trusted)

    def dcmtk(self, own: Path) -> list[str]:
        return peers.dcmtk_tls(own, own.with_suffix(".key"), self.trusted)


def gencert(*words: object) -> None:
    made = cli.run("gencert", "--subject", "/C=BE/CN=localhost", *words)
    assert made.exit_code == 0, made.stderr


def make(folder: Path, kind: str, by: str) -> Made:
    ca = ("--ca", f"ca-{kind}") if by == "ca" else ()
    gencert(f"scp-{kind}", f"scu-{kind}", "--key-type", kind, *ca, "--out-dir", folder)
    scp, scu = folder / f"scp-{kind}.crt", folder / f"scu-{kind}.crt"
    if ca:
        return Made(kind, scp, scu, folder / f"ca-{kind}.crt")
    trusted = folder / f"trusted-{kind}.crt"
    assert cli.run("bundle", scp, scu, "-o", trusted).exit_code == 0
    return Made(kind, scp, scu, trusted)


@pytest.fixture(scope="module", params=["self-signed", "ca"])
def by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def everything(by: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp(by)
    return {kind: make(folder, kind, by) for kind in KINDS}


@pytest.fixture(params=LIVE)
def made(request: pytest.FixtureRequest, everything: dict[str, Made]) -> Made:
    return everything[request.param]


# ---------------------------------------------------------------------- Python and OpenSSL

_HANDSHAKES = """
import json, ssl, sys

def context(protocol, strict, version, cert, key, trusted):
    made = ssl.SSLContext(protocol)
    made.verify_mode = ssl.CERT_REQUIRED
    made.minimum_version = made.maximum_version = version
    if strict:
        made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_cert_chain(cert, key)
    made.load_verify_locations(trusted)
    return made

def handshake(client, server):
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(down, up, server_hostname="localhost")
    other = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for end in (one, other):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert one.getpeercert()["subject"] == other.getpeercert()["subject"]

for scp, scp_key, scu, scu_key, trusted in json.loads(sys.argv[1]):
    for strict in (False, True):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = context(ssl.PROTOCOL_TLS_CLIENT, strict, version, scu, scu_key, trusted)
            server = context(ssl.PROTOCOL_TLS_SERVER, strict, version, scp, scp_key, trusted)
            handshake(client, server)
print(ssl.OPENSSL_VERSION)
"""


def pythons() -> Iterator[str]:
    """Yield this Python and, if there is one, the newest other one on the machine (3.13 verifies strictly)."""
    yield sys.executable
    roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for minor in range(20, sys.version_info.minor, -1):
        on_path = shutil.which(f"python3.{minor}")
        for other in (on_path, *sorted(roots.glob(f"3.{minor}.*/bin/python3"))):
            asked = [str(other), "-c", "import ssl; print(1)"]
            # pyenv has words on the path for versions that are not there.
            if other and subprocess.run(asked, capture_output=True, check=False).stdout == b"1\n":
                yield str(other)
                return


@pytest.mark.parametrize("number", [0, 1], ids=["this-python", "newest-python"])
def test_python(number: int, everything: dict[str, Made]) -> None:
    """Its `ssl` alone, without our contexts, strict and not."""
    found = list(pythons())
    if number >= len(found):
        pytest.skip("there is no newer Python")
    files = [
        [one.scp, one.scp.with_suffix(".key"), one.scu, one.scu.with_suffix(".key"), one.trusted]
        for one in everything.values()
    ]
    words = [found[number], "-c", _HANDSHAKES, json.dumps(files, default=str)]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert said.stdout.startswith("OpenSSL"), said.stderr


def program(name: str) -> str:
    """Return the path of a verifier; all but Java's have to be there where peers are required."""
    if name == "keytool":
        return shutil.which(name) or pytest.skip("there is no Java")
    return peers.installed(name, "openssl" if name == "openssl" else "gnutls-bin")


def output(*words: object, stdin: str = "") -> str:
    """Run a program; return all that it says."""
    done = subprocess.run(
        [*map(str, words)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False, timeout=60,
    )  # fmt: skip
    return done.stdout


def test_openssl_verify(everything: dict[str, Made]) -> None:
    openssl = program("openssl")
    for made in everything.values():
        for purpose in ("sslserver", "sslclient"):
            words = ("-x509_strict", "-auth_level", "2", "-purpose", purpose, "-verify_hostname", "localhost")
            said = output(openssl, "verify", *words, "-CAfile", made.trusted, made.scp, made.scu)
            assert said == f"{made.scp}: OK\n{made.scu}: OK\n"


# ---------------------------------------------------------------------- DCMTK and Orthanc


def test_dcmtk_as_scp(made: Made, tmp_path: Path) -> None:
    with peers.dcmtk_storescp(tmp_path, *made.dcmtk(made.scp), "-rc") as dcmtk:
        for version in made.versions:
            echoed = cli.run("echoscu", "localhost", dcmtk.port, *made.options(made.scu), version)
            assert echoed.exit_code == 0, echoed.stderr


def test_dcmtk_as_scu(made: Made, tmp_path: Path) -> None:
    for version in made.versions:
        with peers.our_storescp(tmp_path / version, *made.options(made.scp), version) as scp:
            said = peers.dcmtk("echoscu", "-v", "localhost", scp.port, *made.dcmtk(made.scu))
            assert "Received Echo Response (Success)" in said.stdout + said.stderr
            assert scp.event("opened")["certificate_subject"] == "CN=localhost,C=BE"


def test_orthanc_in_both_roles(made: Made, tmp_path: Path) -> None:
    own = (made.scp, made.scp.with_suffix(".key"), made.trusted)
    with peers.orthanc(tmp_path, **peers.orthanc_tls(*own)) as orthanc:
        for version in made.versions:
            echoed = cli.run("echoscu", "localhost", orthanc.dicom_port, *made.options(made.scu), version)
            assert echoed.exit_code == 0, echoed.stderr
        with peers.our_storescp(tmp_path / "ours", *made.options(made.scu)) as scp:
            orthanc.knows("ours", scp.port)
            assert orthanc.send("POST", "/modalities/ours/echo", {}) == (200, {})


# ---------------------------------------------------------------------- GnuTLS and Java


def test_gnutls(made: Made, by: str, tmp_path: Path) -> None:
    certtool, client = program("certtool"), program("gnutls-cli")
    for cert in (made.scp, made.scu):
        words = (
            "--verify",
            "--load-ca-certificate",
            made.trusted,
            "--infile",
            cert,
            "--verify-hostname",
            "localhost",
        )
        said = output(certtool, *words)
        # For certtool, unlike the library, the anchor of a chain is a CA.
        right = (
            "Verified. The certificate is trusted." if by == "ca" else "The certificate issuer is not a CA."
        )
        assert right in said.partition("Chain verification output:")[2], said
    with peers.our_storescp(tmp_path, *made.options(made.scp)) as scp:
        own = ("--x509certfile", made.scu, "--x509keyfile", made.scu.with_suffix(".key"))
        said = output(client, "--x509cafile", made.trusted, *own, "--port", scp.port, "localhost")
        assert "Handshake was completed" in said, said
        assert "The certificate is trusted." in said
        assert scp.event("refused")["error"]["code"].startswith("association."), (
            "the handshake is over by then"
        )


def test_keytool(everything: dict[str, Made], tmp_path: Path) -> None:
    keytool, every = program("keytool"), tmp_path / "every.pem"
    every.write_text("".join(made.scp.read_text() for made in everything.values()))
    said = output(keytool, "-J-Duser.language=en", "-printcert", "-file", every)
    for words in ("Owner: CN=localhost, C=BE", "serverAuth", "clientAuth", "DNSName: localhost"):
        assert said.count(words) == len(everything), said
