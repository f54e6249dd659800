from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import shutil
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomtls_cli.errors import UsageError
from dicomtls_cli.pki.generate import KeyType, generate, prepare
from dicomtls_cli.pki.subject import parse_subject
from tests.support.peers import REQUIRED

from .conftest import openssl

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=datetime.UTC)
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None and not os.environ.get(REQUIRED), reason="no openssl command"
)


def parsed(pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


@pytest.mark.parametrize("kind", list(KeyType))
def test_the_profile(kind):
    pair = generate("orthanc", hosts=["*.example.org", "192.0.2.7", "::1"], key_type=kind, now=NOW)
    cert = parsed(pair)
    rsa = kind.startswith("rsa")
    assert cert.version is x509.Version.v3
    assert cert.subject == cert.issuer
    assert cert.subject.rfc4514_string() == "CN=orthanc"
    assert cert.not_valid_before_utc == NOW.replace(microsecond=0) - datetime.timedelta(minutes=5)
    assert cert.not_valid_after_utc == NOW.replace(microsecond=0) + datetime.timedelta(days=365)
    algorithm = cert.signature_hash_algorithm
    assert algorithm is None if kind == "ed25519" else isinstance(algorithm, hashes.SHA256)
    extensions = {extension.oid: extension for extension in cert.extensions}
    assert set(extensions) == {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
    critical = {oid for oid, extension in extensions.items() if extension.critical}
    assert critical == {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
    assert extensions[ExtensionOID.BASIC_CONSTRAINTS].value == x509.BasicConstraints(False, None)
    usage = extensions[ExtensionOID.KEY_USAGE].value
    assert usage.digital_signature
    assert usage.key_encipherment == rsa
    assert not usage.key_cert_sign
    assert not usage.crl_sign
    assert not usage.key_agreement
    assert list(extensions[ExtensionOID.EXTENDED_KEY_USAGE].value) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]
    san = extensions[ExtensionOID.SUBJECT_ALTERNATIVE_NAME].value
    assert san.get_values_for_type(x509.DNSName) == ["localhost", "*.example.org"]
    assert san.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(a) for a in ("192.0.2.7", "::1")]
    identifier = extensions[ExtensionOID.SUBJECT_KEY_IDENTIFIER].value
    assert identifier == x509.SubjectKeyIdentifier.from_public_key(cert.public_key())
    assert extensions[ExtensionOID.AUTHORITY_KEY_IDENTIFIER].value.key_identifier == identifier.digest


@pytest.mark.parametrize(
    ("kind", "bits"), [("rsa2048", 2048), ("rsa3072", 3072), ("rsa4096", 4096), ("p256", 256), ("p384", 384)]
)
def test_key_sizes(kind, bits):
    pair = generate("x", key_type=kind)
    key = serialization.load_pem_private_key(pair.key, None)
    assert key.key_size == bits
    assert key.public_key() == parsed(pair).public_key()
    assert pair.key.startswith(b"-----BEGIN PRIVATE KEY-----\n")


def test_what_the_pair_says_is_what_is_in_the_certificate():
    pair = generate("x", subject="/C=BE/CN=localhost", days=10, key_type="p256", now=NOW)
    cert = parsed(pair)
    assert pair.sha256 == hashlib.sha256(cert.public_bytes(serialization.Encoding.DER)).hexdigest()
    assert pair.profile.not_after == cert.not_valid_after_utc
    assert pair.profile.not_before == cert.not_valid_before_utc
    assert pair.profile.subject_text == "C=BE, CN=localhost"
    assert [a.value for a in cert.subject] == ["BE", "localhost"]
    assert "PRIVATE" not in repr(pair)


def test_serial_numbers_and_key_identifiers_differ():
    a, b = (parsed(generate("x", key_type="p256", now=NOW)) for _ in range(2))
    assert a.serial_number != b.serial_number
    assert a.serial_number.bit_length() > 64
    ski = [c.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value for c in (a, b)]
    assert ski[0] != ski[1]


def test_another_time_zone_is_the_same_instant():
    zone = datetime.timezone(datetime.timedelta(hours=9))
    assert prepare("x", now=NOW.astimezone(zone)) == prepare("x", now=NOW)


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "ed25519"])
def test_encrypted_key(kind):
    pair = generate("x", key_type=kind, passphrase=b"secret")
    assert pair.key.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    key = serialization.load_pem_private_key(pair.key, b"secret")
    assert key.public_key() == parsed(pair).public_key()


@pytest.mark.parametrize(
    ("wanted", "slug"),
    [
        ({"passphrase": b""}, "usage.invalid-passphrase"),
        ({"passphrase": b"x" * 1024}, "usage.invalid-passphrase"),
        ({"days": 0}, "usage.invalid-days"),
        ({"days": -1}, "usage.invalid-days"),
        ({"days": 36501}, "usage.invalid-days"),
        ({"key_type": "dsa"}, "usage.invalid-key-type"),
        ({"hosts": ["a b"]}, "usage.invalid-host"),
        ({"subject": "CN=x"}, "usage.invalid-subject"),
    ],
)
def test_refuses(wanted, slug):
    with pytest.raises(UsageError) as caught:
        generate("x", **wanted)
    assert caught.value.slug == slug
    assert caught.value.exit_code == 2


def test_too_long_a_common_name():
    with pytest.raises(UsageError, match="65 bytes"):
        generate("x" * 65)
    assert generate("x" * 64, key_type="p256")
    assert generate("x" * 65, subject="/CN=x", key_type="p256")


def test_a_century_from_now():
    assert parsed(generate("x", days=36500, key_type="p256")).not_valid_after_utc.year > 2100


VALUES = st.text(min_size=1, max_size=64).filter(lambda v: v.isprintable() and len(v.encode()) <= 64)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["CN", "O", "L", "UID"]), VALUES), min_size=1, max_size=4))
def test_any_subject_that_parses_can_be_made(parts):
    text = "".join(
        f"/{kind}=" + value.replace("\\", "\\\\").replace("/", "\\/").replace("+", "\\+")
        for kind, value in parts
    )
    pair = generate("x", subject=text, key_type="ed25519")
    assert [a.value for a in parsed(pair).subject] == [p.value for p in parse_subject(text)]


@needs_openssl
def test_every_subject_attribute_is_what_openssl_makes(put, tmp_path):
    text = (
        r"/C=BE/ST=Liège/L=Liège/street=Rue 1/postalCode=4000/O=A\/B \+ C/OU=x/CN=local host/SN=S"
        r"/title=Dr/GN=G/serialNumber=12/emailAddress=a@b.example/DC=example/UID=u"
    )
    ours = put("ours.crt", generate("x", subject=text, key_type="p256").certificate)
    key = tmp_path / "key"
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    openssl("req", "-x509", "-new", "-utf8", "-key", key, "-subj", text, "-out", tmp_path / "theirs.crt")
    show = ("x509", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb,utf8,show_type", "-in")
    assert openssl(*show, ours) == openssl(*show, tmp_path / "theirs.crt")


@needs_openssl
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384", "ed25519"])
def test_openssl_verifies_it_in_both_roles(put, kind):
    a = put("a.crt", generate("localhost", key_type=kind).certificate)
    b = put("b.crt", generate("localhost", key_type=kind).certificate)
    # Both of one subject, the other one first: only the key identifiers tell them apart.
    both = put("both.crt", a.read_bytes() + b.read_bytes())
    for purpose in ("sslserver", "sslclient"):
        for cert in (a, b):
            said = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", both, cert)
            assert said.endswith(": OK\n")
    said = openssl("verify", "-verify_hostname", "localhost", "-CAfile", both, b)
    assert said.endswith(": OK\n")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "ed25519"])
def test_a_mutual_handshake_over_loopback(put, tmp_path, kind, version):
    """Each side shows its own certificate and trusts the other's; the client checks the name too."""
    for name in ("scp", "scu"):
        pair = generate("localhost", key_type=kind)
        put(f"{name}.crt", pair.certificate)
        put(f"{name}.key", pair.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.verify_mode = ssl.CERT_REQUIRED
    for context, own, peer in ((server, "scp", "scu"), (client, "scu", "scp")):
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(tmp_path / f"{own}.crt", tmp_path / f"{own}.key")
        context.load_verify_locations(tmp_path / f"{peer}.crt")
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve():
            connection, _ = listener.accept()
            with server.wrap_socket(connection, server_side=True) as tls:
                seen.append(tls.getpeercert(binary_form=True))
                tls.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            socket.create_connection(listener.getsockname(), timeout=20) as raw,
            client.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            assert tls.recv(5) == b"hello"
            seen.append(tls.getpeercert(binary_form=True))
        thread.join(20)
    assert seen == [
        ssl.PEM_cert_to_DER_cert((tmp_path / f"{name}.crt").read_text()) for name in ("scu", "scp")
    ]
