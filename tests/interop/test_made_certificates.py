"""What `gencert` makes, against real verifiers: a CA's nodes, renewals and faults on Orthanc, DCMTK and ours."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.support import cli, peers

pytestmark = pytest.mark.interop

# What a client with this fault gets to hear, as our diagnosis has it.
CLIENT_FAULTS = {
    "expired": "tls.refused-expired",
    "not-yet-valid": "tls.refused-bad-certificate",
    "wrong-eku": "tls.refused-wrong-usage",
    "corrupt-signature": "tls.refused-bad-certificate",
    "weak-key": "certificate.key-too-small",  # OpenSSL does not even load it
}
SERVER_FAULTS = {
    "expired": "tls.peer-expired",
    "not-yet-valid": "tls.peer-not-yet-valid",
    "wrong-eku": "tls.peer-wrong-usage",
    "wrong-host": "tls.name-mismatch",
    "corrupt-signature": "tls.peer-untrusted",
    "weak-key": "tls.peer-weak",
    "sha1": "tls.peer-weak",
}
# What every receiver takes from a client (`cryptography` signs neither with SHA-1 nor version 1: OpenSSL made these
# two), and what DCMTK 3.6.7 and Orthanc 1.10.1 take besides, in both roles: docs/testing.md has the table.
TAKEN = ("wrong-host", "ca-true", "v1")
TAKEN_BY_OTHERS = ("weak-key", "sha1")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the CA `ward`, the nodes `pacs` and `scanner`, and one of each fault; RSA for DCMTK 3.6.7."""
    folder = tmp_path_factory.mktemp("ward")
    words: list[tuple[str, ...]] = [("pacs", "scanner")]
    words += [
        (fault, "--fault", fault)
        for fault in {**CLIENT_FAULTS, **SERVER_FAULTS, "ca-true": ""}
        if fault != "sha1"
    ]
    for line in words:
        made = cli.run("gencert", "--ca", "ward", *line, "--out-dir", folder)
        assert made.exit_code == 0, made.stderr
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    sign(folder, "sha1", "-sha1", "-extfile", folder / "names")
    sign(folder, "v1")
    return folder


def sign(folder: Path, name: str, *words: object) -> None:
    """Make a pair with OpenSSL and let the CA `ward` sign it; without extensions it is of version 1."""
    csr, key, cert, ca = (folder / file for file in (f"{name}.csr", f"{name}.key", f"{name}.crt", "ward.crt"))
    request = (
        "req",
        "-new",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-keyout",
        key,
        "-out",
        csr,
        "-subj",
        f"/CN={name}",
    )
    signed = (
        "x509",
        "-req",
        "-in",
        csr,
        "-CA",
        ca,
        "-CAkey",
        ca.with_suffix(".key"),
        "-out",
        cert,
        "-days",
        "9",
    )
    for line in (request, (*signed, *words)):
        run = subprocess.run(["openssl", *map(str, line)], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr


def options(ward: Path, name: str) -> tuple[object, ...]:
    return ("--cert", ward / f"{name}.crt", "--key", ward / f"{name}.key", "--trust", ward / "ward.crt")


@pytest.fixture(scope="module", params=["ours", "dcmtk", "orthanc"])
def server(
    request: pytest.FixtureRequest, ward: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """An SCP that requires a certificate of the CA; its port."""
    folder = tmp_path_factory.mktemp("scp")
    own = (ward / "pacs.crt", ward / "pacs.key", ward / "ward.crt")
    if request.param == "ours":
        with peers.our_storescp(folder, *options(ward, "pacs")) as ours:
            yield ours.port
    elif request.param == "dcmtk":
        with peers.dcmtk_storescp(folder, *peers.dcmtk_tls(*own)) as dcmtk:
            yield dcmtk.port
    else:
        with peers.orthanc(folder, **peers.orthanc_tls(*own)) as orthanc:
            yield orthanc.dicom_port


def test_a_node_of_the_ca_comes_in(server: int, ward: Path) -> None:
    result = cli.run("echoscu", "localhost", server, *options(ward, "scanner"))
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("fault", CLIENT_FAULTS)
def test_a_client_with_a_fault_does_not(fault: str, server: int, ward: Path) -> None:
    result = cli.run("echoscu", "localhost", server, *options(ward, fault), "--json")
    assert json.loads(result.stdout)["error"]["code"] == CLIENT_FAULTS[fault]


@pytest.fixture(scope="module")
def archive(ward: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Orthanc]:
    """An Orthanc of the CA, to connect from."""
    own = (ward / "pacs.crt", ward / "pacs.key", ward / "ward.crt")
    with peers.orthanc(tmp_path_factory.mktemp("archive"), **peers.orthanc_tls(*own)) as orthanc:
        yield orthanc


@pytest.mark.parametrize("fault", SERVER_FAULTS)
def test_a_server_with_a_fault_is_refused(
    fault: str, archive: peers.Orthanc, ward: Path, tmp_path: Path
) -> None:
    """By ours; DCMTK and Orthanc look at less, and at no names."""
    own = (ward / f"{fault}.crt", ward / f"{fault}.key", ward / "ward.crt")
    theirs = peers.dcmtk_tls(ward / "scanner.crt", ward / "scanner.key", ward / "ward.crt")
    with peers.dcmtk_storescp(tmp_path, *peers.dcmtk_tls(*own)) as dcmtk:
        result = cli.run("echoscu", "localhost", dcmtk.port, *options(ward, "scanner"), "--json")
        said = peers.dcmtk("echoscu", "-v", "localhost", dcmtk.port, *theirs).stderr
        archive.knows(fault, dcmtk.port)
        status, _ = archive.send("POST", f"/modalities/{fault}/echo", {})
    assert json.loads(result.stdout)["error"]["code"] == SERVER_FAULTS[fault]
    is_taken = fault in (*TAKEN, *TAKEN_BY_OTHERS)
    assert ("Received Echo Response (Success)" in said) == is_taken
    assert (status == 200) == is_taken


def echoes(port: int, cert: Path) -> bool:
    """Echo with pynetdicom and a bare context of Python, which shows what our commands would not even load."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(cert, cert.with_suffix(".key"))
    entity = AE()
    entity.add_requested_context(Verification)
    association = entity.associate("localhost", port, tls_args=(context, "localhost"))
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return "Status" in status and status.Status == 0


@pytest.mark.parametrize("fault", [*TAKEN, *TAKEN_BY_OTHERS])
def test_a_client_with_a_fault_that_is_taken(
    fault: str, server: int, ward: Path, request: pytest.FixtureRequest
) -> None:
    is_ours = request.node.callspec.params["server"] == "ours"
    assert echoes(server, ward / f"{fault}.crt") == (fault in TAKEN or not is_ours)


@pytest.mark.parametrize("fault", TAKEN_BY_OTHERS)
def test_a_weak_client_is_told_as_such(fault: str, ward: Path, tmp_path: Path) -> None:
    with peers.our_storescp(tmp_path, *options(ward, "pacs")) as scp:
        assert not echoes(scp.port, ward / f"{fault}.crt")
        assert scp.event("refused")["error"]["code"] == "tls.peer-weak"


def test_dcmtk_trusts_the_old_and_the_renewed_one(tmp_path: Path) -> None:
    for line in (("old",), ("new", "--renew", tmp_path / "old.crt"), ("scp",)):
        assert cli.run("gencert", *line, "--out-dir", tmp_path).exit_code == 0
    files = {name: tmp_path / f"{name}.crt" for name in ("old", "new", "scp")}
    own = (files["scp"], tmp_path / "scp.key", files["old"], files["new"])
    with peers.dcmtk_storescp(tmp_path / "dcmtk", *peers.dcmtk_tls(*own)) as dcmtk:
        for name in ("old", "new"):
            pair = ("--cert", files[name], "--key", tmp_path / "old.key", "--trust", files["scp"])
            assert cli.run("echoscu", "localhost", dcmtk.port, *pair).exit_code == 0


JAVA = """
import java.io.FileInputStream;
import java.security.KeyStore;
import javax.net.ssl.*;
class Client {
    static KeyStore store(String file, String password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(new FileInputStream(file), password.toCharArray());
        return store;
    }
    public static void main(String[] words) throws Exception {
        for (int at = 0; at < words.length; at += 3) {
            KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
            keys.init(store(words[at + 1], "secret"), "secret".toCharArray());
            TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
            trust.init(store(words[at + 2], ""));
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
            int port = Integer.parseInt(words[at]);
            SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("localhost", port);
            socket.getOutputStream().write(new byte[] {0x0A, 0, 0, 0, 0, 0});
            System.out.println(socket.getInputStream().read());
        }
    }
}
"""


def test_java_clients_with_our_stores(tmp_path: Path) -> None:
    """They show a certificate, verify ours, and get an A-ABORT (PDU type 7) for a PDU that does not exist."""
    java = shutil.which("java")
    if not (java and shutil.which("javac")):
        pytest.skip("there is no Java compiler")
    (tmp_path / "Client.java").write_text(JAVA)
    with contextlib.ExitStack() as stack:
        words = [java, str(tmp_path / "Client.java")]
        for signed in (True, False):
            folder = tmp_path / f"{signed}"
            folder.mkdir()
            ca = ("--ca", "ward") if signed else ()
            made = cli.run("gencert", "pacs", "viewer", *ca, "--p12", "--out-dir", folder)
            assert made.exit_code == 0, made.stderr
            anchors = ("ward",) if signed else ("pacs", "viewer")
            certs, store = [folder / f"{name}.crt" for name in anchors], folder / "trust.p12"
            assert cli.run("bundle", *certs, "-o", store, "--format", "p12").exit_code == 0
            own = ("--key-store", folder / "pacs.p12", "--trust-store", store)
            scp = stack.enter_context(peers.our_storescp(folder, *own))
            words += [str(scp.port), str(folder / "viewer.p12"), str(store)]
        said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert said.stdout == "7\n7\n", said.stderr
