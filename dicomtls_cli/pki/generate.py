"""Make a private key and the self-signed certificate that works as its own anchor everywhere."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from dicomtls_cli.errors import UsageError
from dicomtls_cli.pki.contents import MAX_PASSPHRASE
from dicomtls_cli.pki.hosts import is_address, subject_names
from dicomtls_cli.pki.subject import SubjectPart, common_name, parse_subject, show_subject

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

BACKDATED = timedelta(minutes=5)
"""A peer whose clock is a little behind accepts a new certificate at once."""

MAX_DAYS = 36500


class KeyType(StrEnum):
    """The kinds of key, as `--key-type` spells them. PS3.15 B.12 asks for RSA >= 2048 or ECC >= 256."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    P256 = "p256"
    P384 = "p384"
    ED25519 = "ed25519"


@dataclass(frozen=True)
class Profile:
    """What a certificate will say; checked, and nothing made yet."""

    name: str
    subject: tuple[SubjectPart, ...]
    names: tuple[str, ...]
    key_type: KeyType
    not_before: datetime
    not_after: datetime

    @property
    def subject_text(self) -> str:
        """The subject for people to read."""
        return show_subject(self.subject)


@dataclass(frozen=True)
class GeneratedPair:
    """A certificate and its key, both PEM; `sha256` is the hexadecimal digest of the certificate's DER."""

    profile: Profile
    certificate: bytes
    key: bytes = field(repr=False)
    sha256: str


def prepare(
    name: str,
    *,
    hosts: Sequence[str] = (),
    subject: str | None = None,
    days: int = 365,
    key_type: str = KeyType.RSA2048,
    now: datetime | None = None,
) -> Profile:
    """Check what a certificate is to say, without making it.

    `name` becomes the subject's CN unless `subject` (`/C=BE/CN=localhost`) is given; `hosts` are the names
    and addresses it is for (`subject_names` has the default); it is valid for `days` days from `now` (aware;
    default: the present). Raises `UsageError`.
    """
    if not 1 <= days <= MAX_DAYS:
        raise UsageError(
            f"a certificate cannot be valid for {days} days", f"1 to {MAX_DAYS}", slug="usage.invalid-days"
        )
    try:
        kind = KeyType(key_type)
    except ValueError:
        raise UsageError(
            f"`{key_type}` is not a key type", "one of: " + ", ".join(KeyType), slug="usage.invalid-key-type"
        ) from None
    start = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    return Profile(
        name,
        common_name(name) if subject is None else parse_subject(subject),
        subject_names(hosts),
        kind,
        start - BACKDATED,
        start + timedelta(days=days),
    )


def issue(profile: Profile, *, passphrase: bytes | None = None) -> GeneratedPair:
    """Make the key and the certificate that `profile` describes (RFC 5280 4).

    The key is PKCS#8 PEM, encrypted if a `passphrase` of 1 to 1023 bytes is given. Raises `UsageError` for
    any other passphrase.
    """
    from cryptography.hazmat.primitives import serialization

    if passphrase is not None:
        check_new_passphrase(passphrase)
    key = _new_key(profile.key_type)
    certificate = _self_signed(profile, key)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return GeneratedPair(
        profile,
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
        hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
    )


def check_new_passphrase(passphrase: bytes) -> None:
    """Raise `UsageError` unless `passphrase` can protect a new key: 1 to 1023 bytes."""
    if not 1 <= len(passphrase) <= MAX_PASSPHRASE:
        raise UsageError(
            f"a passphrase of {len(passphrase)} bytes cannot protect a key",
            f"1 to {MAX_PASSPHRASE} bytes; without a passphrase the key is not encrypted",
            slug="usage.invalid-passphrase",
        )


def generate(
    name: str,
    *,
    hosts: Sequence[str] = (),
    subject: str | None = None,
    days: int = 365,
    key_type: str = KeyType.RSA2048,
    passphrase: bytes | None = None,
    now: datetime | None = None,
) -> GeneratedPair:
    """Make a key and a self-signed certificate for both roles: `prepare`, then `issue`; see there."""
    profile = prepare(name, hosts=hosts, subject=subject, days=days, key_type=key_type, now=now)
    return issue(profile, passphrase=passphrase)


def _new_key(kind: KeyType) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if kind is KeyType.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if kind in (KeyType.P256, KeyType.P384):
        return ec.generate_private_key(ec.SECP256R1() if kind is KeyType.P256 else ec.SECP384R1())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


def _self_signed(profile: Profile, key: PrivateKey) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    public = key.public_key()
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(p.oid), p.value) for p in profile.subject])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(profile.not_before)
        .not_valid_after(profile.not_after)
    )
    for extension, critical in _extensions(profile, public):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, None if profile.key_type is KeyType.ED25519 else hashes.SHA256())


def _extensions(
    profile: Profile, public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions, each with whether it is critical."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usage = x509.KeyUsage(
        digital_signature=True,
        # RSA key transport is gone from our suites; peers with older ones look for this bit.
        key_encipherment=profile.key_type.startswith("rsa"),
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    roles = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    # Without the two key identifiers OpenSSL-based peers ignore a second certificate of the same subject.
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage(roles), False),
        (x509.SubjectAlternativeName([_general_name(name) for name in profile.names]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ]


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    return x509.IPAddress(ipaddress.ip_address(name)) if is_address(name) else x509.DNSName(name)
