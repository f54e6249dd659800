from __future__ import annotations

import datetime
import hashlib
import shutil
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import InputError
from dicomtls_cli.pki.bundle import collect, render
from dicomtls_cli.pki.load import load_trust

from .conftest import Foreign, openssl

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def certificate(subject: str) -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + datetime.timedelta(1))
    return builder.sign(key, None).public_bytes(Encoding.DER)


def refused(slug: str, inputs, **kwargs) -> InputError:
    with pytest.raises(InputError) as caught:
        collect(inputs, **kwargs)
    assert caught.value.slug == slug
    assert caught.value.hint
    return caught.value


def test_in_order_once_and_readable_by_everybody(foreign: Foreign, other: Foreign, put, tmp_path):
    put("d/b.cer", other.cert_der)
    put("d/a.pem", foreign.ca_pem.replace(b"\n", b"\r\n"))
    many = put("many.pem", (b"\xef\xbb\xbf" + foreign.cert_pem.rstrip(b"\n") + foreign.ca_pem))
    collected = collect([many, tmp_path / "d", many])
    assert [c.der for c in collected.certificates] == [foreign.cert_der, foreign.ca_der, other.cert_der]
    assert collected.duplicates == 3
    assert collected.keys_dropped == 0
    data = render(collected)
    assert data == render(collect([many, tmp_path / "d"]))
    assert data.endswith(b"-----END CERTIFICATE-----\n")
    assert b"\r" not in data
    out = put("trusted.crt", data)
    assert load_trust([out]).anchors == (foreign.cert_der, foreign.ca_der, other.cert_der)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(out)
    assert context.cert_store_stats()["x509"] == 3
    assert len(x509.load_pem_x509_certificates(data)) == 3
    if shutil.which("openssl"):
        assert openssl("storeutl", "-noout", "-certs", out).endswith("Total found: 3\n")


def test_comments(put):
    der = certificate("Orthanc")
    lines = render(collect([put("a.der", der)])).decode().splitlines()
    assert lines[:4] == [
        "# subject: CN=Orthanc",
        "# expires: 2026-01-03T03:04:05Z",
        f"# sha256: {hashlib.sha256(der).hexdigest()}",
        "-----BEGIN CERTIFICATE-----",
    ]


@pytest.mark.parametrize(
    "subject",
    [
        "x\n-----BEGIN CERTIFICATE-----\nMIIB",
        "-----BEGIN CERTIFICATE-----",
        "a-----END CERTIFICATE-----b",
        "\r\u2028\x1b[31m\x00",
        "Köln 病院",
        "-" * 64,
    ],
)
def test_a_hostile_subject_stays_in_its_comment(put, subject):
    der = certificate(subject)
    data = render(collect([put("a.der", der)]))
    assert data.count(b"-----BEGIN") == 1
    assert data.isascii()
    assert data.replace(b"\n", b"").decode().isprintable()
    assert load_trust([put("out.pem", data)]).anchors == (der,)
    assert all(len(line) < 250 for line in data.splitlines())


@given(st.text(min_size=1, max_size=16, alphabet=st.characters(codec="utf-8")))
def test_any_subject_stays_in_its_comment(tmp_path_factory, subject):
    der = certificate(subject)
    path = tmp_path_factory.mktemp("b") / "a.der"
    path.write_bytes(der)
    data = render(collect([path]))
    (path.parent / "out").write_bytes(data)
    assert load_trust([path.parent / "out"]).anchors == (der,)
    assert [line[:1] for line in data.splitlines()[:4]] == [b"#", b"#", b"#", b"-"]


def test_a_certificate_that_only_openssl_understands_stays(put):
    """A time with an impossible month: readable for OpenSSL, not for cryptography."""
    der = certificate("x").replace(b"260103030405Z", b"261303030405Z")
    collected = collect([put("a.der", der)])
    assert collected.certificates[0].not_after is None
    assert b"# expires: unreadable\n" in render(collected)


def test_private_keys(foreign: Foreign, other: Foreign, put):
    both = put("both.pem", foreign.key_pem + foreign.cert_pem)
    good = put("good.pem", other.cert_pem)
    for key in (foreign.key_pem, foreign.key(Encoding.DER), foreign.key(passphrase=b"x")):
        path = put("some.key", key)
        error = refused("bundle.private-key", [good, path])
        assert str(path) in error.message
        assert "--strip-keys" in error.hint
        collected = collect([both, path, good], strip_keys=True)
        assert [c.der for c in collected.certificates] == [foreign.cert_der, other.cert_der]
        assert collected.keys_dropped == 2
        assert b"PRIVATE KEY" not in render(collected)
        refused("bundle.no-certificate", [path], strip_keys=True)
    assert "besides its certificate" in refused("bundle.private-key", [both]).message


def test_bad_inputs_are_named(foreign: Foreign, put, tmp_path):
    good = put("good.pem", foreign.cert_pem)
    for data, slug in {
        b"": "trust.empty",
        b"x": "trust.not-a-certificate",
        foreign.cert_pem[:300]: "pem.damaged",
    }.items():
        assert "bad.pem" in refused(slug, [good, put("bad.pem", data)]).message
    refused("file.missing", [good, tmp_path / "no"])
