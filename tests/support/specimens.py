"""Certificates of every kind people have, to see which programs take them, and peers that show any of them."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dicomtls_cli.upperlayer.codec import encode
from tests.support import scripted

DAY = datetime.timedelta(days=1)
LIMIT = 30.0
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
BOTH = (SERVER, CLIENT)


@dataclass(frozen=True)
class Specimen:
    """One identity: `cert` is what it shows (with its chain), `trusted` what the other side is given to trust."""

    name: str
    cert: Path
    key: Path
    trusted: tuple[Path, ...]


@dataclass(frozen=True)
class _Made:
    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*words: str) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: name in words for name in names})


_SIGN = ("digital_signature", "key_encipherment")


def _make(
    name: str, key: Any, *, issuer: _Made | None = None, ca: bool | None = False, path_length: int | None = None,
    usages: tuple[x509.ObjectIdentifier, ...] = BOTH, key_usage: tuple[str, ...] = _SIGN,
    hosts: tuple[str, ...] = ("localhost",), valid: tuple[int, int] = (-1, 30),
    identifiers: bool = True, extra: tuple[x509.ExtensionType, ...] = (),
) -> _Made:  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer.certificate.subject if issuer else _name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0] * DAY)
        .not_valid_after(now + valid[1] * DAY)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), True)
    if key_usage:
        builder = builder.add_extension(_key_usage(*key_usage), True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    if hosts:
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    if identifiers:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(above, False)
    for extension in extra:
        builder = builder.add_extension(extension, True)
    edwards = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return _Made(builder.sign(signer, None if edwards else hashes.SHA256()), key)


def tlv(tag: int, *content: bytes) -> bytes:
    """Return one DER element."""
    data = b"".join(content)
    size = len(data)
    length = (
        bytes([size]) if size < 0x80 else bytes([0x81, size]) if size < 0x100 else b"\x82" + size.to_bytes(2)
    )
    return bytes([tag]) + length + data


_SHA256_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
_SHA1_RSA = bytes.fromhex("300d06092a864886f70d0101050500")


def _signed(body: bytes, algorithm: bytes, key: Any) -> x509.Certificate:
    hashed = hashes.SHA1() if algorithm == _SHA1_RSA else hashes.SHA256()
    signature = key.sign(body, padding.PKCS1v15(), hashed)
    return x509.load_der_x509_certificate(tlv(0x30, body, algorithm, tlv(3, b"\0", signature)))


def _with_sha1(made: _Made, signer: Any) -> _Made:
    """Return `made`, signed by `signer` with SHA-1, which `cryptography` does no more."""
    body = made.certificate.tbs_certificate_bytes.replace(_SHA256_RSA, _SHA1_RSA)
    return _Made(_signed(body, _SHA1_RSA, signer), made.key)


def _as_version_1(made: _Made) -> _Made:
    """Return `made` as X.509 version 1, without extensions, signed anew: no library makes these any more."""

    def time(at: datetime.datetime) -> bytes:
        return tlv(0x17, f"{at:%y%m%d%H%M%SZ}".encode())

    one = made.certificate
    name = one.subject.public_bytes()
    dates = tlv(0x30, time(one.not_valid_before_utc), time(one.not_valid_after_utc))
    public = made.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body = tlv(0x30, tlv(2, b"\x01\x02\x03"), _SHA256_RSA, name, dates, name, public)
    return _Made(_signed(body, _SHA256_RSA, made.key), made.key)


def make_specimens(folder: Path) -> dict[str, Specimen]:
    """Make one of each kind in `folder`; no two have the same subject."""
    key = rsa.generate_private_key(65537, 2048)
    small = rsa.generate_private_key(65537, 1024)
    root_key, middle_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    found: dict[str, Specimen] = {}
    authority: dict[str, Any] = {
        "ca": True, "usages": (), "key_usage": ("key_cert_sign", "crl_sign"), "hosts": ()
    }  # fmt: skip

    def add(name: str, made: _Made, *shown: _Made, trusted: tuple[_Made, ...] = ()) -> None:
        trust = folder / f"{name}.trusted.pem"
        trust.write_bytes(b"".join(one.pem for one in trusted or (made,)))
        found[name] = _write(folder, name, made, shown, trust)

    for name, options in _SELF_SIGNED.items():
        add(name, _make(name, key, **options))
    add("v1", _as_version_1(_make("v1", key)))
    add("sha1", _with_sha1(_make("sha1", key), key))
    for name, other in {
        "rsa1024": small,
        "rsa3072": rsa.generate_private_key(65537, 3072),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "ed448": ed448.Ed448PrivateKey.generate(),
    }.items():
        signing = _SIGN if isinstance(other, rsa.RSAPrivateKey) else _SIGN[:1]
        add(name, _make(name, other, key_usage=signing))

    root = _make("root", root_key, **authority)
    absent = _make("absent root", middle_key, **authority)
    middle = _make("middle", middle_key, issuer=root, **authority)
    add("leaf-alone", _make("leaf-alone", key, issuer=absent))
    rsa_absent = _make("absent rsa root", key, **authority)
    add("sha1-leaf-alone", _with_sha1(_make("sha1-leaf-alone", key, issuer=rsa_absent), key))
    past = _make("expired root", root_key, **{**authority, "valid": (-20, -10)})
    add("issued-by-expired", _make("issued-by-expired", key, issuer=past), trusted=(past,))
    no_ca = _make("no ca", key)
    add("issued-by-no-ca", _make("issued-by-no-ca", key, issuer=no_ca), trusted=(no_ca,))
    mute = _make("mute root", key, **{**authority, "key_usage": _SIGN})
    add("issued-by-mute-root", _make("issued-by-mute-root", key, issuer=mute), trusted=(mute,))
    bare = _make("bare root", key, **{**authority, "key_usage": ()})
    add("issued-by-bare-root", _make("issued-by-bare-root", key, issuer=bare), trusted=(bare,))
    add("leaf-and-root", _make("leaf-and-root", key, issuer=root), trusted=(root,))
    add("whole-chain", _make("whole-chain", key, issuer=middle), middle, trusted=(root,))
    hidden = _make("chain-not-shown", key, issuer=middle)
    add("chain-not-shown", hidden, trusted=(root, hidden))
    rsa_root = _make("rsa root", key, **authority)
    add("issued-sha1", _with_sha1(_make("issued-sha1", key, issuer=rsa_root), key), trusted=(rsa_root,))
    for name, options in _ISSUED.items():
        add(
            name,
            _make(name, small if name == "issued-rsa1024" else key, issuer=rsa_root, **options),
            trusted=(rsa_root,),
        )
    return found


def make_twins(folder: Path) -> tuple[Specimen, Specimen]:
    """Make two certificates of one subject without key identifiers, both trusted in one file, the first one first."""
    made = [_make("twin", rsa.generate_private_key(65537, 2048), identifiers=False) for _ in range(2)]
    trusted = folder / "twins.pem"
    trusted.write_bytes(b"".join(one.pem for one in made))
    return _write(folder, "twin-1", made[0], (), trusted), _write(folder, "twin-2", made[1], (), trusted)


def _write(folder: Path, name: str, made: _Made, shown: tuple[_Made, ...], trusted: Path) -> Specimen:
    cert, private = folder / f"{name}.crt", folder / f"{name}.key"
    cert.write_bytes(b"".join(one.pem for one in (made, *shown)))
    private.write_bytes(
        made.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Specimen(name, cert, private, (trusted,))


_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
_SELF_SIGNED: dict[str, dict[str, Any]] = {
    "good": {},
    "openssl-req": {"ca": True, "usages": (), "key_usage": (), "hosts": ()},
    "ca-signing": {"ca": True, "key_usage": (*_SIGN, "key_cert_sign")},
    "no-san": {"hosts": ()},
    "other-san": {"hosts": ("pacs.example.org",)},
    "expired": {"valid": (-20, -10)},
    "not-yet-valid": {"valid": (10, 20)},
    "server-only": {"usages": (SERVER,)},
    "client-only": {"usages": (CLIENT,)},
    "any-usage": {"usages": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)},
    "email-only": {"usages": (ExtendedKeyUsageOID.EMAIL_PROTECTION,)},
    "no-usages": {"usages": (), "key_usage": ()},
    "key-encipherment-only": {"key_usage": ("key_encipherment",)},
    "digital-signature-only": {"key_usage": ("digital_signature",)},
    "key-agreement-only": {"key_usage": ("key_agreement",)},
    "non-repudiation-only": {"key_usage": ("content_commitment",)},
    "no-constraints": {"ca": None},
    "no-identifiers": {"identifiers": False},
    "unknown-critical": {"extra": (_UNKNOWN,)},
}
_ISSUED: dict[str, dict[str, Any]] = {
    "issued-rsa1024": {},
    "issued-expired": {"valid": (-20, -10)},
    "issued-not-yet-valid": {"valid": (10, 20)},
    "issued-server-only": {"usages": (SERVER,)},
    "issued-client-only": {"usages": (CLIENT,)},
    "issued-any-usage": {"usages": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)},
    "issued-key-encipherment-only": {"key_usage": ("key_encipherment",)},
    "issued-key-agreement-only": {"key_usage": ("key_agreement",)},
    "issued-other-san": {"hosts": ("pacs.example.org",)},
    "issued-no-san": {"hosts": ()},
    "issued-unknown-critical": {"extra": (_UNKNOWN,)},
}


# ---------------------------------------------------------------------- peers that show them


def _context(specimen: Specimen, version: ssl.TLSVersion, *, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # whatever it is, it is shown
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(specimen.cert, specimen.key)
    return context


@dataclass
class Showing:
    """An SCP that shows a specimen; `accepted` once its only caller has sent an A-ASSOCIATE-RQ, or has left."""

    port: int
    _outcome: list[bool]
    _thread: threading.Thread

    @property
    def accepted(self) -> bool:
        self._thread.join(LIMIT)
        return any(self._outcome)


@contextlib.contextmanager
def showing_scp(specimen: Specimen, version: ssl.TLSVersion) -> Iterator[Showing]:
    """Serve one connection, showing `specimen` over TLS of this `version` only; hang up on what it asks for."""
    outcome: list[bool] = []
    context = _context(specimen, version, server=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                listener.close()  # whoever comes back to ask why is not kept waiting
                sock.settimeout(LIMIT)
                with sock, context.wrap_socket(sock, server_side=True) as secured:
                    outcome.append(secured.recv(1) == b"\x01")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Showing(listener.getsockname()[1], outcome, thread)


def is_taken_as_scu(specimen: Specimen, port: int, version: ssl.TLSVersion) -> bool:
    """Ask the SCP on `port` for an association, showing `specimen`; tell whether anything but an end comes back."""
    context = _context(specimen, version, server=False)
    with contextlib.suppress(OSError):
        sock = socket.create_connection(("127.0.0.1", port), LIMIT)
        with sock, context.wrap_socket(sock) as secured:
            secured.sendall(encode(scripted.request(called="ANY-SCP")))
            return bool(secured.recv(1))
    return False
