from __future__ import annotations

import hashlib
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.pki.algorithms import describe_key
from dicomtls_cli.pki.description import describe_certificate, describe_crl, describe_request, serial_text
from tests.support.specimens import Specimen, make_specimens


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Specimen]:
    return make_specimens(tmp_path_factory.mktemp("specimens"))


def der_of(specimen: Specimen) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        specimen.cert.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )


def openssl(path: Path, *words: str) -> str:
    line = ["openssl", "x509", "-noout", "-in", str(path), *words]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def test_it_says_what_openssl_says(specimens: dict[str, Specimen]) -> None:
    path = specimens["good"].cert
    facts = describe_certificate(der_of(specimens["good"]))
    text = openssl(path, "-serial", "-fingerprint", "-sha1")
    assert f"serial={facts.serial.upper()}\n" in text
    assert facts.sha1 == text.split("Fingerprint=")[1].strip().replace(":", "").lower()
    assert facts.sha256 == hashlib.sha256(facts.der).hexdigest()
    dates = dict(line.split("=") for line in openssl(path, "-dates").splitlines())
    for said, name in ((facts.not_before, "notBefore"), (facts.not_after, "notAfter")):
        assert said == datetime.strptime(dates[name], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    extensions = openssl(path, "-ext", "subjectKeyIdentifier,authorityKeyIdentifier").replace(":", "").lower()
    assert facts.subject_key_id
    assert facts.subject_key_id in extensions
    assert facts.authority_key_id in extensions
    assert (facts.subject, facts.issuer, facts.self_signed) == ("CN=good", "CN=good", True)
    assert facts.names == (("DNS", "localhost"), ("IP", "127.0.0.1"))
    assert facts.key_usage == ("digitalSignature", "keyEncipherment")
    assert facts.extended_usage == ("serverAuth", "clientAuth")
    assert (facts.version, facts.ca, facts.path_length, facts.critical, facts.unread) == (
        3,
        False,
        None,
        (),
        (),
    )


@pytest.mark.parametrize(
    ("name", "key", "signature"),
    [
        ("good", "RSA, 2048 bits", "SHA-256 with RSA"),
        ("rsa1024", "RSA, 1024 bits", "SHA-256 with RSA"),
        ("sha1", "RSA, 2048 bits", "SHA-1 with RSA"),
        ("p256", "EC P-256, 256 bits", "SHA-256 with ECDSA"),
        ("p521", "EC P-521, 521 bits", "SHA-256 with ECDSA"),
        ("secp256k1", "EC secp256k1, 256 bits", "SHA-256 with ECDSA"),
        ("ed25519", "Ed25519", "Ed25519"),
        ("ed448", "Ed448", "Ed448"),
        ("leaf-and-root", "RSA, 2048 bits", "SHA-256 with ECDSA"),
    ],
)
def test_keys_and_signatures(name: str, key: str, signature: str, specimens: dict[str, Specimen]) -> None:
    facts = describe_certificate(der_of(specimens[name]))
    assert facts.key is not None
    assert facts.signature is not None
    assert (str(facts.key), facts.signature.text) == (key, signature)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "00"), (10, "0a"), (4096, "1000"), (1 << 159, "80" + "00" * 19), (-5, "-05")]
)
def test_serial_numbers(number: int, text: str) -> None:
    assert serial_text(number) == text


def test_odd_ones(specimens: dict[str, Specimen]) -> None:
    facts = {name: describe_certificate(der_of(one)) for name, one in specimens.items()}
    assert (facts["v1"].version, facts["v1"].ca, facts["v1"].key_usage) == (1, None, None)
    assert facts["unknown-critical"].critical == ("1.2.3.4.5",)
    assert facts["sha1"].self_signed, "who signed is one question, whether SHA-1 proves it another"
    assert not facts["issued-sha1"].self_signed
    assert facts["openssl-req"].ca is True
    assert all(one.readable and not one.unread for one in facts.values())


def test_what_is_no_certificate() -> None:
    for der in (b"", b"\x30\x03\x02\x01\x00", bytes(100)):
        facts = describe_certificate(der)
        assert not facts.readable
        assert facts.unread == ("certificate",)
        assert facts.sha256 == hashlib.sha256(der).hexdigest()


@given(st.binary(max_size=300))
def test_any_bytes_are_described(data: bytes) -> None:
    assert describe_certificate(data).der == data


@given(at=st.integers(0, 5000), byte=st.integers(0, 255))
def test_any_damage_is_described(at: int, byte: int, specimens: dict[str, Specimen]) -> None:
    whole = der_of(specimens["good"])
    damaged = bytearray(whole)
    damaged[at % len(whole)] = byte
    facts = describe_certificate(bytes(damaged))
    str(facts.key)
    assert facts.readable or facts.subject is None


def test_requests_and_lists(tmp_path: Path, specimens: dict[str, Specimen]) -> None:
    csr, key = tmp_path / "x.csr", specimens["good"].key
    line = [
        "openssl",
        "req",
        "-new",
        "-key",
        str(key),
        "-subj",
        "/CN=x",
        "-addext",
        "subjectAltName=DNS:pacs",
        "-out",
        str(csr),
    ]
    subprocess.run(line, check=True, capture_output=True)
    request = describe_request(x509.load_pem_x509_csr(csr.read_bytes()))
    assert (request.subject, request.names, request.whole) == ("CN=x", (("DNS", "pacs"),), True)
    certificate = x509.load_der_x509_certificate(der_of(specimens["good"]))
    assert request.key == describe_key(certificate.public_key())
    damaged = bytearray(x509.load_pem_x509_csr(csr.read_bytes()).public_bytes(Encoding.DER))
    damaged[-1] ^= 1
    assert not describe_request(x509.load_der_x509_csr(bytes(damaged))).whole


def test_a_revocation_list(dicomtls, tmp_path: Path) -> None:
    for line in (["scanner"], ["--revoke", tmp_path / "scanner.crt"]):
        made = dicomtls("gencert", "--ca", "ward", *line, "--out-dir", tmp_path)
        assert made.exit_code == 0, made.stderr
    crl = describe_crl(x509.load_pem_x509_crl((tmp_path / "ward.crl").read_bytes()))
    certificate = x509.load_pem_x509_certificate((tmp_path / "scanner.crt").read_bytes())
    assert crl.issuer == "CN=ward"
    assert crl.revoked == {certificate.serial_number}
    assert crl.last_update is not None
    assert crl.next_update is not None
    assert crl.next_update > crl.last_update
