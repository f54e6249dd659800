from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from dicomtls_cli.errors import DicomTlsError, InputError
from dicomtls_cli.pki.explain import explain_key_pair
from dicomtls_cli.pki.load import key_pair

from .conftest import Foreign, openssl


def explained(cert: Path, key: Path | None, passphrase: bytes | None = None) -> DicomTlsError:
    """Let OpenSSL refuse the files as they are, and ask why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, (lambda: passphrase or b""))
    except OSError as error:  # SSLError too
        return explain_key_pair(
            cert, key, error, passphrase=None if passphrase is None else lambda: passphrase
        )
    raise AssertionError("OpenSSL took it")


@pytest.fixture
def files(foreign: Foreign, other: Foreign, put) -> dict[str, Path]:
    return {
        "cert": put("f.crt", foreign.cert_pem),
        "key": put("f.key", foreign.key_pem),
        "other cert": put("o.crt", other.cert_pem),
        "other key": put("o.key", other.key_pem),
        "locked": put("locked.key", foreign.key(passphrase=b"secret")),
        "other locked": put("olocked.key", other.key(passphrase=b"secret")),
        "chain": put("chain.crt", other.cert_pem + foreign.cert_pem),
        "empty": put("empty", b""),
        "junk": put("junk", b"hello\n"),
        "der cert": put("der.pem", foreign.cert_der),
        "der key": put("derkey.pem", foreign.key(Encoding.DER)),
        "bad key": put("bad.key", foreign.key_pem.replace(b"MII", b"MIA")),
        "missing": Path("missing"),
    }


@pytest.mark.parametrize(
    ("cert", "key", "passphrase", "slug", "words"),
    [
        ("key", "cert", None, "key.swapped", "`{cert}` is a private key"),
        ("key", "key", None, "certificate.is-key", "`{cert}` is a private key"),
        ("cert", "other cert", None, "key.is-certificate", "`{key}` is a certificate"),
        ("cert", None, None, "key.not-given", "`{cert}` holds a certificate but no private key"),
        ("cert", "other key", None, "key.mismatch", "does not belong"),
        ("other cert", "key", None, "key.mismatch", "does not belong"),
        ("other cert", "locked", b"secret", "key.mismatch", "does not belong"),
        ("chain", "key", None, "key.mismatch", "does not belong"),
        ("cert", "locked", None, "key.encrypted", "`{key}` is encrypted"),
        ("cert", "locked", b"wrong", "key.wrong-passphrase", "does not open the private key `{key}`"),
        ("cert", "locked", b"", "key.wrong-passphrase", "does not open the private key `{key}`"),
        ("empty", "key", None, "certificate.empty", "`{cert}` is empty"),
        ("cert", "empty", None, "key.empty", "`{key}` is empty"),
        ("junk", "key", None, "certificate.not-a-certificate", "neither PEM nor DER"),
        ("cert", "junk", None, "key.not-a-key", "neither PEM nor DER"),
        ("der cert", "key", None, "certificate.is-der", "DER"),
        ("cert", "der key", None, "key.is-der", "DER"),
        ("cert", "bad key", None, "key.damaged", "`{key}` is damaged"),
        ("missing", "key", None, "file.missing", "`{cert}` does not exist"),
        ("cert", "missing", None, "file.missing", "`{key}` does not exist"),
    ],
)
def test_which_file_is_what(files, cert, key, passphrase, slug, words):
    paths = files[cert], files[key] if key else None
    error = explained(*paths, passphrase)
    assert error.slug == slug
    assert words.format(cert=paths[0], key=paths[1]) in error.message
    assert error.hint
    assert error.exit_code == 3


def test_the_certificate_a_stray_key_belongs_to_is_found(files):
    assert "certificate 2 in that file" in explained(files["chain"], files["key"]).hint
    files["chain"].unlink()
    files["cert"].with_name("damaged.pem").write_bytes(b"-----BEGIN CERTIFICATE-----")
    assert explained(files["cert"], files["other key"]).hint == f"it belongs to `{files['other cert']}`"
    files["other cert"].unlink()
    assert explained(files["cert"], files["other key"]).hint == "name the two files of one pair"


def test_der_is_no_reason_where_the_pair_does_not_match(files, other: Foreign, put):
    error = explained(files["der cert"], files["other key"])
    assert error.slug == "key.mismatch"
    der = put("o.der", other.key(Encoding.DER))
    with key_pair(files["cert"], der) as pair, pytest.raises(ssl.SSLError) as caught:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            pair.cert_file, pair.key_file, pair.passphrase
        )
    assert explain_key_pair(files["cert"], der, caught.value, passphrase=None).slug == "key.mismatch"


def test_a_damaged_certificate(files, foreign: Foreign, put):
    at = foreign.cert_der.index(b"\xa0\x03\x02\x01\x02")
    bad = foreign.cert_der[:at] + b"\xa0\x03\x0c\x01\xff" + foreign.cert_der[at + 5 :]
    cert = put("bad.crt", ssl.DER_cert_to_PEM_cert(bad).encode())
    assert explained(cert, files["key"]).slug == "certificate.damaged"
    assert explained(put("cut.crt", foreign.cert_pem[:300]), files["key"]).slug == "pem.damaged"


def test_a_short_rsa_key(put):
    # OpenSSL made small keys before cryptography stopped to.
    key = put("s.key", b"")
    openssl("genrsa", "-out", key, "1024")
    cert = key.with_name("s.crt")
    openssl("req", "-x509", "-new", "-key", key, "-subj", "/CN=x", "-out", cert)
    error = explained(cert, key)
    assert error.slug == "certificate.key-too-small"
    assert "1024 bits" in error.message


def test_a_weak_signature(put):
    key = rsa.generate_private_key(65537, 2048)
    path = put(
        "w.key",
        key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    ca, csr, cert = path.with_name("ca"), path.with_name("csr"), path.with_name("w.crt")
    openssl("req", "-x509", "-new", "-key", path, "-subj", "/CN=ca", "-out", ca)
    openssl("req", "-new", "-key", path, "-subj", "/CN=x", "-out", csr)
    openssl("x509", "-req", "-md5", "-in", csr, "-CA", ca, "-CAkey", path, "-CAcreateserial", "-out", cert)
    assert explained(cert, path).slug == "certificate.weak-signature"


def test_openssls_own_words_where_nothing_is_found_wrong(files):
    error = explain_key_pair(files["cert"], files["key"], ssl.SSLError(1, "odd"), passphrase=None)
    assert error.slug == "certificate.refused"
    assert "odd" in error.message


def test_our_own_errors_pass(files):
    ours = InputError("x", slug="key.encrypted")
    assert explain_key_pair(files["cert"], files["key"], ours, passphrase=None) is ours


def test_a_key_tls_cannot_use(files, put):
    key = files["cert"].with_name("x.key")
    openssl("genpkey", "-algorithm", "x25519", "-out", key)
    assert explained(files["cert"], key).slug == "key.mismatch"


def test_a_certificate_for_a_key_of_a_chain_from_der(foreign: Foreign, put):
    """The hint names a neighbour that is DER."""
    der = put("n.cer", foreign.cert_der)
    now = datetime.datetime.now(datetime.UTC)
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    error = explained(put("x.crt", cert.public_bytes(Encoding.PEM)), put("n.key", foreign.key_pem))
    assert error.hint == f"it belongs to `{der}`"
