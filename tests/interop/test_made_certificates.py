"""What `gencert` makes, against real verifiers: a CA's nodes, renewals and faults on Orthanc, DCMTK and ours."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
# Of those that our commands do not even load (`cryptography` signs neither with SHA-1 nor version 1: OpenSSL made
# them), with what our receiver refuses a client that shows one; None: it is taken. DCMTK 3.6.7 and Orthanc 1.10.1
# take all four.
UNGUARDED = {"weak-key": "tls.peer-weak", "sha1": "tls.peer-weak", "v1": None, "ca-true": None}


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


@pytest.mark.parametrize("fault", SERVER_FAULTS)
def test_a_server_with_a_fault_is_refused(fault: str, ward: Path, tmp_path: Path) -> None:
    own = (ward / f"{fault}.crt", ward / f"{fault}.key", ward / "ward.crt")
    with peers.dcmtk_storescp(tmp_path, *peers.dcmtk_tls(*own)) as dcmtk:
        result = cli.run("echoscu", "localhost", dcmtk.port, *options(ward, "scanner"), "--json")
    assert json.loads(result.stdout)["error"]["code"] == SERVER_FAULTS[fault]


def test_clients_that_show_anything(ward: Path, tmp_path: Path) -> None:
    """A bare Python, which shows what ours would not."""
    with peers.our_storescp(tmp_path, *options(ward, "pacs")) as scp:
        for fault, expected in UNGUARDED.items():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.load_cert_chain(ward / f"{fault}.crt", ward / f"{fault}.key")
            seen = len(scp.log)
            with socket.create_connection(("localhost", scp.port)) as sock, context.wrap_socket(sock) as tls:
                with contextlib.suppress(OSError):
                    tls.sendall(b"\x0a\0\0\0\0\0")  # a PDU that does not exist
                code = scp.event("refused", seen)["error"]["code"]
            assert code == (expected or "association.protocol-error"), fault


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
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store(words[1], "secret"), "secret".toCharArray());
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(store(words[2], ""));
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("localhost", Integer.parseInt(words[0]));
        socket.getOutputStream().write(new byte[] {0x0A, 0, 0, 0, 0, 0});
        System.out.println(socket.getInputStream().read());
    }
}
"""


@pytest.mark.parametrize("signed", [True, False], ids=["ca", "self-signed"])
def test_a_java_client_with_our_stores(signed: bool, tmp_path: Path) -> None:
    """It shows a certificate, verifies ours, and gets an A-ABORT (PDU type 7) for a PDU that does not exist."""
    java = shutil.which("java")
    if not (java and shutil.which("javac")):
        pytest.skip("there is no Java compiler")
    ca = ("--ca", "ward") if signed else ()
    made = cli.run("gencert", "pacs", "viewer", *ca, "--p12", "--out-dir", tmp_path)
    assert made.exit_code == 0, made.stderr
    anchors = ("ward",) if signed else ("pacs", "viewer")
    certs = [tmp_path / f"{name}.crt" for name in anchors]
    store = tmp_path / "trust.p12"
    assert cli.run("bundle", *certs, "-o", store, "--format", "p12").exit_code == 0
    (tmp_path / "Client.java").write_text(JAVA)
    with peers.our_storescp(tmp_path, "--key-store", tmp_path / "pacs.p12", "--trust-store", store) as scp:
        words = [java, str(tmp_path / "Client.java"), str(scp.port), str(tmp_path / "viewer.p12"), str(store)]
        said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert said.stdout == "7\n", said.stderr
