"""`orthanc --check` foretells what Orthanc does: each broken set-up is judged, and then Orthanc is started with it."""

from __future__ import annotations

import datetime
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.conftest import Pki
from tests.interop.conftest import Faults
from tests.support import cli, images, peers
from tests.support.pki import Identity, make_identity, write_bundle

pytestmark = pytest.mark.interop

CT = images.FOLDER / "CT_small.dcm"


@dataclass
class Setup:
    """A set-up of Orthanc that is right, until a case breaks it: its folder, keys, and further text of its file."""

    folder: Path
    pki: Pki
    faults: Faults
    dicom_port: int
    http_port: int
    keys: dict[str, Any] = field(default_factory=dict)
    text: str | None = None

    def __post_init__(self) -> None:
        self.keys = {
            "StorageDirectory": str(self.folder / "db"), "IndexDirectory": str(self.folder / "db"),
            "HttpPort": self.http_port, "DicomPort": self.dicom_port, "AuthenticationEnabled": False, "Plugins": [],
            **peers.orthanc_tls(self.pki.scp.cert, self.pki.scp.key, self.pki.trusted),
        }  # fmt: skip

    @property
    def path(self) -> Path:
        return self.folder / "orthanc.json"

    def file(self, name: str, data: bytes | str) -> str:
        """Write a file beside the configuration and return its path."""
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    def own(self, identity: Identity) -> None:
        self.keys |= {"DicomTlsCertificate": str(identity.cert), "DicomTlsPrivateKey": str(identity.key)}

    def trust(self, *identities: Identity) -> None:
        self.keys["DicomTlsTrustedCertificates"] = str(write_bundle(self.folder / "bundle.crt", *identities))

    def knows(self, port: int, **more: object) -> None:
        self.keys["DicomModalities"] = {"m": {"AET": "M", "Host": "localhost", "Port": port, **more}}

    def write(self) -> None:
        self.path.write_text(json.dumps(self.keys, indent=1) if self.text is None else self.text)


@pytest.fixture
def setup(pki: Pki, faults: Faults, tmp_path: Path) -> Setup:
    folder = tmp_path / "configuration"
    folder.mkdir()
    with peers.free_ports(2) as (dicom_port, http_port):
        return Setup(folder, pki, faults, dicom_port, http_port)


def foretold(path: Path, *, when: str) -> dict[str, str]:
    """Return the findings of one kind: message and fix by code."""
    result = cli.run("orthanc", "--check", path, "--json")
    found = result.json["findings"]
    assert result.exit_code == (40 if any(one["when"] != "note" for one in found) else 0), result.stdout
    assert all(one["message"] and "`" in one["fix"] for one in found), found
    return {one["code"]: f"{one['message']}; {one['fix']}" for one in found if one["when"] == when}


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def encoded(key: Any, encoding: serialization.Encoding, secret: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    found: bytes = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, encryption)
    return found


# ---------------------------------------------------------------------- it does not start

Broken = Callable[[Setup], object]
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


def changed(**keys: object) -> Broken:
    """Return what sets keys, and takes out those that are None."""

    def change(setup: Setup) -> None:
        setup.keys |= keys
        setup.keys = {key: value for key, value in setup.keys.items() if value is not None}

    return change


def pointed(key: str, name: str, data: Callable[[Setup], bytes | str]) -> Broken:
    """Return what lets `key` name a new file with this content."""
    return lambda setup: setup.keys.update({key: setup.file(name, data(setup))})


def written(text: Callable[[str], str]) -> Broken:
    """Return what edits the text of the configuration."""
    return lambda setup: setattr(setup, "text", text(json.dumps(setup.keys, indent=1)))


def modality(**keys: object) -> Broken:
    return changed(DicomModalities={"m": {"AET": "M", "Host": "h", "Port": 104, "UseDicomTls": True, **keys}})


CERT, KEY, TRUSTED = "DicomTlsCertificate", "DicomTlsPrivateKey", "DicomTlsTrustedCertificates"
NO_START: dict[str, tuple[Broken, str, str]] = {
    "a comma is missing": (written(lambda text: text.replace(",\n", "\n", 1)), "json", "not follow the JSON syntax"),
    "a hash comment": (written(lambda text: f"# mine\n{text}"), "json", "not follow the JSON syntax"),
    "single quotes": (written(lambda text: text.replace('"', "'")), "json", "not follow the JSON syntax"),
    "a list": (written(lambda _: "[]"), "json", "not follow the JSON syntax"),
    "an empty file": (written(lambda _: ""), "json", "Cannot parse JSON"),
    "an unset variable": (
        written(lambda text: text.replace(": true", ": ${DICOMTLS_NOWHERE}", 1)), "json", "not follow the JSON syntax",
    ),
    "a key in two files": (
        lambda setup: setup.file("b.json", '{"DicomTlsEnabled": true}'), "key-twice", "in 2 different configuration",
    ),
    "a broken file beside it": (lambda setup: setup.file("b.JSON", "{{"), "json", "not follow the JSON syntax"),
    "no certificate": (changed(**{CERT: None}), "file-not-set", "no certificate was provided"),
    "no key": (changed(**{KEY: None}), "file-not-set", "no certificate was provided"),
    "no trust": (changed(**{TRUSTED: None}), "file-not-set", "Cannot read file with trusted certificates"),
    "no trust, none required": (
        changed(**{TRUSTED: None, "DicomTlsRemoteCertificateRequired": False}), "file-not-set",
        "Cannot read file with trusted certificates",
    ),
    "missing certificate": (changed(**{CERT: "/nowhere/orthanc.crt"}), "file-missing", "Inexistent file"),
    "missing key": (changed(**{KEY: "/nowhere/orthanc.key"}), "file-missing", "Inexistent file"),
    "missing trust": (changed(**{TRUSTED: "/nowhere/trusted.crt"}), "file-missing", "Inexistent file"),
    "missing although TLS is off": (
        changed(**{TRUSTED: "/nowhere/trusted.crt", "DicomTlsEnabled": False}), "file-missing", "Inexistent file",
    ),
    "trust is a folder": (
        lambda setup: setup.keys.update({TRUSTED: str(setup.pki.trusted.parent)}), "trust-is-directory",
        "Inexistent file",
    ),
    "swapped": (
        lambda setup: setup.keys.update({CERT: setup.keys[KEY], KEY: setup.keys[CERT]}), "swapped",
        "Cannot parse PEM file with private key",
    ),
    "the key is encrypted": (
        pointed(KEY, "a.key", lambda setup: encoded(setup.pki.scp.private_key, PEM, b"secret")), "key-encrypted",
        "Cannot parse PEM file with private key",
    ),
    "the key is DER": (
        pointed(KEY, "a.key", lambda setup: encoded(setup.pki.scp.private_key, DER)), "key-format",
        "Cannot parse PEM file with private key",
    ),
    "the key is PKCS#12": (
        pointed(KEY, "a.p12", lambda setup: pkcs12.serialize_key_and_certificates(
            b"a", setup.pki.scp.private_key, setup.pki.scp.certificate, None,
            serialization.BestAvailableEncryption(b"secret"))),
        "key-format", "Cannot parse PEM file with private key",
    ),
    "the key is X25519": (
        pointed(KEY, "a.key", lambda _: encoded(x25519.X25519PrivateKey.generate(), PEM)), "key-kind",
        "Cannot parse PEM file with private key",
    ),
    "the key is cut off": (
        pointed(KEY, "a.key", lambda setup: setup.pki.scp.key.read_text()[:300]), "damaged",
        "Cannot parse PEM file with private key",
    ),
    "the key is another one": (
        lambda setup: setup.keys.update({KEY: str(setup.pki.scu.key)}), "mismatch", "doesn't match",
    ),
    "the chain stands first": (
        pointed(CERT, "a.crt", lambda setup: setup.pki.scu.pem + setup.pki.scp.pem), "mismatch", "doesn't match",
    ),
    "the certificate is DER": (
        pointed(CERT, "a.crt", lambda setup: setup.pki.scp.der), "certificate-format",
        "Cannot parse PEM file with own certificate",
    ),
    "the certificate is OpenSSL's trusted one": (
        pointed(CERT, "a.crt", lambda setup: setup.pki.scp.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
        "certificate-format", "Cannot parse PEM file with own certificate",
    ),
    "the certificate is a list of revoked ones": (
        pointed(CERT, "a.crt", lambda setup: setup.pki.scp.pem.replace("CERTIFICATE", "X509 CRL")),
        "not-a-certificate", "Cannot parse PEM file with own certificate",
    ),
    "the trust is DER": (
        pointed(TRUSTED, "t.crt", lambda setup: setup.pki.scu.der), "trust-der",
        "Cannot parse PEM file with trusted certificates",
    ),
    "the trust is empty": (
        pointed(TRUSTED, "t.crt", lambda _: ""), "trust-empty", "Cannot parse PEM file with trusted certificates",
    ),
    "the trust is garbage": (
        pointed(TRUSTED, "t.crt", lambda _: "hello"), "trust-empty", "Cannot parse PEM file with trusted certificates",
    ),
    "the trust is a key": (
        lambda setup: setup.keys.update({TRUSTED: str(setup.pki.scu.key)}), "trust-empty",
        "Cannot parse PEM file with trusted certificates",
    ),
    "the trust has joined lines": (
        pointed(TRUSTED, "t.crt", lambda setup: setup.pki.scp.pem.rstrip() + setup.pki.scu.pem), "trust-damaged",
        "Cannot parse PEM file with trusted certificates",
    ),
    "the trust is UTF-16": (
        pointed(TRUSTED, "t.crt", lambda setup: setup.pki.scu.pem.encode("utf-16")), "trust-damaged",
        "Cannot parse PEM file with trusted certificates",
    ),
    "the trust is cut off": (
        pointed(TRUSTED, "t.crt", lambda setup: setup.pki.scu.pem + setup.pki.scp.pem[:200]), "trust-damaged",
        "Cannot parse PEM file with trusted certificates",
    ),
    "TLS enabled in quotes": (changed(DicomTlsEnabled="true"), "wrong-kind", "Bad type for a parameter"),
    "a port in quotes": (changed(DicomPort="4242"), "wrong-kind", "Bad type for a parameter"),
    "a large port": (changed(DicomPort=2**32), "wrong-kind", "out of Int range"),
    "authentication in quotes": (
        changed(AuthenticationEnabled="false"), "wrong-kind", "Bad type for a parameter",
    ),
    "a storage folder that is none": (changed(StorageDirectory=1), "wrong-kind", "Bad type for a parameter"),
    "a path that is none": (changed(**{KEY: 1}), "wrong-kind", "Bad type for a parameter"),
    "a long AE title": (changed(DicomAet="SEVENTEEN_LETTERS"), "ae-title", "An application entity title (AET)"),
    "no AE title": (changed(DicomAet=""), "ae-title", "An application entity title (AET)"),
    "a modality's name": (
        changed(DicomModalities={"a b": ["M", "h", 104]}), "modality", "Only alphanumeric",
    ),
    "a modality's port": (modality(Port=65535), "modality", "A TCP port number must be"),
    "a modality without port": (
        changed(DicomModalities={"m": {"AET": "M", "Host": "h"}}), "modality", "Bad file format",
    ),
    "a modality's TLS in quotes": (modality(UseDicomTls="true"), "modality", "Boolean value expected"),
    "a short modality": (changed(DicomModalities={"m": ["M", "h"]}), "modality", "Bad file format"),
    "modalities in a list": (changed(DicomModalities=[]), "modality", "Bad format of the"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_START)
def test_what_will_not_start_does_not(case: str, setup: Setup) -> None:
    break_it, code, told = NO_START[case]
    break_it(setup)
    setup.write()
    assert code in foretold(setup.folder, when="start")
    with peers.orthanc_with(setup.folder, setup.dicom_port, setup.http_port) as (orthanc, answers):
        assert not answers
        orthanc.log.wait_for(lambda line: told.lower() in line.lower() or told in line)


@pytest.mark.parametrize("key", ["DicomPort", "HttpPort"])
def test_a_port_that_is_taken(key: str, setup: Setup) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        setup.keys[key] = taken.getsockname()[1]
        setup.write()
        assert "port-taken" in foretold(setup.path, when="start")
        with peers.orthanc_with(setup.path, setup.dicom_port, setup.http_port) as (orthanc, answers):
            assert not answers
            orthanc.log.wait_for("already in use")


def test_one_port_for_both(setup: Setup) -> None:
    setup.keys["HttpPort"] = setup.dicom_port
    setup.write()
    assert "port-taken" in foretold(setup.path, when="start")
    with peers.orthanc_with(setup.path, setup.dicom_port, setup.dicom_port) as (orthanc, _):
        orthanc.log.wait_for("already in use")


# ---------------------------------------------------------------------- it starts, and fails with a peer


def echo(orthanc: peers.Orthanc, identity: Identity, trusted: Path, *words: object) -> tuple[int, str]:
    """Return exit code and slug of an echo as `identity`; the slug is "" where it went well."""
    result = cli.run(
        "echoscu", "--json", "localhost", orthanc.dicom_port, "--cert", identity.cert, "--key", identity.key,
        "--trust", trusted, *words,
    )  # fmt: skip
    return result.exit_code, result.json.get("error", {}).get("code", "")


@pytest.fixture
def started(setup: Setup) -> Callable[[], Any]:
    """Write the configuration and run Orthanc with it, which starts."""
    import contextlib

    @contextlib.contextmanager
    def run() -> Iterator[peers.Orthanc]:
        setup.write()
        assert foretold(setup.folder, when="start") == {}
        with peers.orthanc_with(setup.folder, setup.dicom_port, setup.http_port) as (orthanc, answers):
            assert answers, orthanc.log.text
            yield orthanc

    return run


@pytest.mark.parametrize(
    ("own", "code", "slug"),
    [
        ("expired", "own-expired", "tls.peer-expired"),
        ("not_yet_valid", "own-not-yet-valid", "tls.peer-not-yet-valid"),
        ("server_wrong_usage", "own-wrong-eku", "tls.peer-wrong-usage"),
    ],
)
def test_its_certificate_that_we_refuse(
    own: str, code: str, slug: str, setup: Setup, started: Callable[[], Any]
) -> None:
    setup.own(getattr(setup.faults, own))
    setup.trust(setup.faults.good)
    with started() as orthanc:
        assert code in foretold(setup.folder, when="peer")
        assert echo(orthanc, setup.faults.good, setup.faults.trusted) == (11, slug)


def test_its_weak_certificate(setup: Setup, started: Callable[[], Any], tmp_path: Path) -> None:
    weak = make_identity(tmp_path, "weak", ec_key=False, key_size=1024)
    setup.own(weak)
    with started() as orthanc:
        assert "own-weak-key" in foretold(setup.folder, when="peer")
        assert echo(orthanc, setup.pki.scu, weak.cert)[0] == 11


def test_its_certificate_that_a_modality_refuses(
    setup: Setup, started: Callable[[], Any], tmp_path: Path
) -> None:
    """It may serve, so nobody notices until Orthanc sends something."""
    setup.own(setup.faults.client_wrong_usage)
    scp_options = [
        "--cert",
        setup.faults.good.cert,
        "--key",
        setup.faults.good.key,
        "--trust",
        setup.faults.trusted,
    ]
    with peers.our_storescp(tmp_path / "scp", *scp_options) as scp:
        setup.trust(setup.faults.good)
        setup.knows(scp.port, UseDicomTls=True)
        with started() as orthanc:
            assert "own-wrong-eku" in foretold(setup.folder, when="peer")
            assert echo(orthanc, setup.faults.good, setup.faults.trusted) == (0, "")
            assert orthanc.send("POST", "/modalities/m/echo", {})[0] == 500
            assert scp.event("refused")["error"]["code"] == "tls.peer-wrong-usage"


@pytest.mark.parametrize(
    ("its", "code", "slug"),
    [
        ("expired", "peer-expired", "tls.refused-expired"),
        ("not_yet_valid", "peer-not-yet-valid", "tls.refused-bad-certificate"),
        ("client_wrong_usage", "peer-wrong-eku", "tls.refused-wrong-usage"),
    ],
)
def test_a_trusted_certificate_that_it_refuses(
    its: str, code: str, slug: str, setup: Setup, started: Callable[[], Any]
) -> None:
    setup.trust(setup.pki.scp, getattr(setup.faults, its))
    with started() as orthanc:
        assert code in foretold(setup.folder, when="peer")
        assert echo(orthanc, getattr(setup.faults, its), setup.pki.scp.cert) == (12, slug)


def test_a_leaf_of_a_ca_alone(setup: Setup, started: Callable[[], Any], tmp_path: Path) -> None:
    ca = make_identity(tmp_path, "ca", subject="CA", ca=True, ec_key=False)
    leaf = make_identity(tmp_path, "leaf", issuer=ca, ec_key=False)
    setup.trust(leaf)
    with started() as orthanc:
        assert "peer-ca-absent" in foretold(setup.folder, when="peer")
        assert echo(orthanc, leaf, setup.pki.scp.cert) == (12, "tls.refused-unknown-ca")


def bare(folder: Path, name: str) -> Identity:
    """Make a self-signed certificate without key identifiers, as old tools do."""
    made = make_identity(folder, name, ec_key=False)
    old, key = made.certificate, made.private_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(key.public_key())
        .serial_number(old.serial_number)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
    )
    certificate = builder.sign(key, hashes.SHA256())
    made.cert.write_bytes(certificate.public_bytes(PEM))
    return Identity(made.cert, made.key, certificate, key)


def test_equal_subjects_without_key_identifiers(
    setup: Setup, started: Callable[[], Any], tmp_path: Path
) -> None:
    first, second = bare(tmp_path, "first"), bare(tmp_path, "second")
    setup.trust(first, second)
    with started() as orthanc:
        assert "peer-same-subject" in foretold(setup.folder, when="peer")
        assert echo(orthanc, first, setup.pki.scp.cert) == (0, "")
        assert echo(orthanc, second, setup.pki.scp.cert)[0] == 12


def test_a_list_of_revoked_certificates_is_no_trust(
    setup: Setup, started: Callable[[], Any], tmp_path: Path
) -> None:
    ca = make_identity(tmp_path, "ca", ca=True, ec_key=False)
    now = ca.certificate.not_valid_before_utc
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.certificate.subject)
    crl = (
        builder.last_update(now)
        .next_update(now + datetime.timedelta(days=90))
        .sign(ca.private_key, hashes.SHA256())
    )
    pointed(TRUSTED, "t.crl", lambda _: crl.public_bytes(PEM))(setup)
    with started() as orthanc:
        assert "trust-none" in foretold(setup.folder, when="peer")
        assert echo(orthanc, setup.pki.scu, setup.pki.scp.cert) == (12, "tls.refused-unknown-ca")


@pytest.mark.parametrize("enabled", [None, False])
def test_tls_that_is_off(enabled: bool | None, setup: Setup, started: Callable[[], Any]) -> None:
    """Where `false` is written, somebody may have meant it."""
    changed(DicomTlsEnabled=enabled)(setup)
    with started() as orthanc:
        assert "tls-off" in foretold(setup.folder, when="peer" if enabled is None else "note")
        assert echo(orthanc, setup.pki.scu, setup.pki.scp.cert)[0] == 13


def test_a_modality_without_tls(setup: Setup, started: Callable[[], Any], tmp_path: Path) -> None:
    with peers.our_storescp(tmp_path / "scp", *setup.pki.scu_options) as scp:
        setup.keys["DicomModalities"] = {"m": ["M", "localhost", scp.port]}
        with started() as orthanc:
            said = foretold(setup.folder, when="peer")["plain-modality"]
            assert orthanc.send("POST", "/modalities/m/echo", {})[0] == 500
        # And what is to be done about it is what helps.
        fixed = said.partition("write it as `")[2].partition("`")[0]
        setup.keys["DicomModalities"] = json.loads(f"{{{fixed}}}")
        with started() as orthanc:
            assert foretold(setup.folder, when="peer") == {}
            assert orthanc.send("POST", "/modalities/m/echo", {}) == (200, {})


@pytest.mark.parametrize(
    ("missing", "code", "status"), [(TRUSTED, "files-not-set", 500), ("", "mismatch", 400)]
)
def test_a_tls_modality_of_a_plain_orthanc(
    missing: str, code: str, status: int, setup: Setup, started: Callable[[], Any]
) -> None:
    """Its files are read when the first image goes there, not before."""
    changed(DicomTlsEnabled=False, **{KEY: str(setup.pki.scu.key), **({missing: None} if missing else {})})(
        setup
    )
    setup.knows(104, UseDicomTls=True)
    with started() as orthanc:
        assert code in foretold(setup.folder, when="peer")
        assert orthanc.send("POST", "/modalities/m/echo", {})[0] == status


# ---------------------------------------------------------------------- what is only noted


def test_an_ec_certificate_serves_tls_1_3_only(
    setup: Setup, started: Callable[[], Any], tmp_path: Path
) -> None:
    its = make_identity(tmp_path, "ec")
    setup.own(its)
    with started() as orthanc:
        assert "own-tls13-only" in foretold(setup.folder, when="note")
        assert echo(orthanc, setup.pki.scu, its.cert, "--tls13") == (0, "")
        assert echo(orthanc, setup.pki.scu, its.cert, "--tls12") == (13, "tls.no-common")


def test_a_called_ae_title_that_is_checked(setup: Setup, started: Callable[[], Any]) -> None:
    setup.keys |= {"DicomCheckCalledAet": True, "DicomAet": "ARCHIVE"}
    with started() as orthanc:
        said = foretold(setup.folder, when="note")["called-aet"]
        assert "--aec ARCHIVE" in said
        assert echo(orthanc, setup.pki.scu, setup.pki.scp.cert) == (20, "association.rejected")
        assert echo(orthanc, setup.pki.scu, setup.pki.scp.cert, "--aec", "ARCHIVE") == (0, "")


def test_no_certificate_required(setup: Setup, started: Callable[[], Any]) -> None:
    setup.keys["DicomTlsRemoteCertificateRequired"] = False
    with started() as orthanc:
        assert (
            "may show no certificate, an untrusted one never"
            in foretold(setup.folder, when="note")["not-required"]
        )
        anonymous = cli.run(
            "echoscu", "localhost", orthanc.dicom_port, "--anonymous-tls", "--trust", setup.pki.scp.cert
        )
        assert anonymous.exit_code == 0
        assert echo(orthanc, setup.pki.stranger, setup.pki.scp.cert) == (12, "tls.refused-unknown-ca")


# ---------------------------------------------------------------------- what is right


def commented(setup: Setup) -> None:
    keys = {**setup.keys, "DicomTlsCertificate": "${DICOMTLS_CERT:-" + setup.keys[CERT] + "}"}
    text = json.dumps(keys, indent=1).replace("{", "{ // Orthanc's\n/* own \" */", 1)
    setup.text = f"\ufeff{text.rstrip().rstrip('}')}, }} and whatever follows"


def both_in_one(setup: Setup) -> None:
    path = setup.file("both.pem", setup.pki.scp.cert.read_text() + setup.pki.scp.key.read_text())
    setup.keys |= {CERT: path, KEY: path}


RIGHT: dict[str, Broken] = {
    "as it is": changed(),
    "with Orthanc's liberties": commented,
    "certificate and key in one file": both_in_one,
    "Windows' line ends": pointed(
        TRUSTED, "t.crt", lambda setup: setup.pki.trusted.read_text().replace("\n", "\r\n")
    ),
    "text between the certificates": pointed(
        TRUSTED, "t.crt", lambda setup: f"\ufeffours\n{setup.pki.scp.pem}\ntheirs\n{setup.pki.scu.pem}end"
    ),
    "an END marker too many": pointed(
        TRUSTED, "t.crt", lambda setup: setup.pki.trusted.read_text() + "-----END CERTIFICATE-----\n"
    ),
    "another folder in it": lambda setup: (setup.folder / "old.json").mkdir(),
    "a file that is none of its": lambda setup: setup.file("notes.txt", "{{"),
    "a key twice in one file": written(lambda text: text.replace("{", '{"DicomTlsEnabled": 1,', 1)),
    "a modality's port in quotes": modality(Port="104"),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_works(case: str, setup: Setup, started: Callable[[], Any]) -> None:
    RIGHT[case](setup)
    with started() as orthanc:
        assert foretold(setup.folder, when="peer") == {}
        assert echo(orthanc, setup.pki.scu, setup.pki.scp.cert) == (0, "")


def test_a_fix_that_is_pasted_helps(setup: Setup, started: Callable[[], Any]) -> None:
    """The configuration that Debian installs, with a file of ours beside it."""
    general = {key: value for key, value in setup.keys.items() if not key.startswith("DicomTls")}
    ours = {key: value for key, value in setup.keys.items() if key.startswith("DicomTls")}
    general |= {"DicomTlsEnabled": False, "DicomTlsRemoteCertificateRequired": True, "Name": "last"}
    setup.file("dicom-tls.json", json.dumps(ours, indent=2))
    setup.keys = general
    setup.write()
    said = cli.run("orthanc", "--check", setup.folder, "--json").json["findings"]
    twice = [one for one in said if one["code"] == "key-twice"]
    assert len(twice) == 2
    for one in twice:
        assert "orthanc.json" in one["fix"]
        subprocess.run(["sh", "-ec", one["fix"].split("`")[1]], check=True, stdin=subprocess.DEVNULL)
    setup.text = setup.path.read_text()
    with started() as orthanc:
        assert echo(orthanc, setup.pki.scu, setup.pki.scp.cert) == (0, "")


# ---------------------------------------------------------------------- what we write


def test_the_file_we_write_beside_another(setup: Setup, tmp_path: Path) -> None:
    """Mutual TLS both ways: we echo, and Orthanc stores to our storescp."""
    setup.keys = {key: value for key, value in setup.keys.items() if not key.startswith("DicomTls")}
    setup.write()
    with peers.our_storescp(tmp_path / "scp", *setup.pki.scu_options) as scp:
        made = cli.run(
            "orthanc", *setup.pki.scp_options, "--modality", f"ours=OURS@localhost:{scp.port}",
            "-o", setup.folder / "dicom-tls.json",
        )  # fmt: skip
        assert made.exit_code == 0, made.stderr
        assert foretold(setup.folder, when="start") == foretold(setup.folder, when="peer") == {}
        with peers.orthanc_with(setup.folder, setup.dicom_port, setup.http_port) as (orthanc, answers):
            assert answers, orthanc.log.text
            assert echo(orthanc, setup.pki.scu, setup.pki.trusted) == (0, "")
            assert echo(orthanc, setup.pki.stranger, setup.pki.trusted) == (12, "tls.refused-unknown-ca")
            stored = orthanc.send("POST", "/modalities/ours/store", orthanc.upload(CT))
            assert stored[0] == 200, stored
            assert scp.event("received")["certificate_sha256"] == setup.pki.scp.fingerprint


def test_debians_own_configuration(setup: Setup) -> None:
    """It is read to its end, comments and all, and what we write meets the keys that are in it."""
    theirs = Path("/etc/orthanc/orthanc.json")
    if not theirs.exists():
        pytest.skip(f"there is no {theirs} here")
    shutil.copy(theirs, setup.folder)
    made = cli.run("orthanc", *setup.pki.scp_options, "-o", setup.folder / "dicom-tls.json")
    assert made.exit_code == 0
    assert "`DicomTlsEnabled` is in" in made.stderr
    with peers.orthanc_with(setup.folder, setup.dicom_port, setup.http_port) as (orthanc, answers):
        assert not answers
        orthanc.log.wait_for("is defined in 2 different configuration files")
