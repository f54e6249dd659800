"""Make a private key and its certificate: self-signed, the one that works as its own anchor everywhere, or a CA's."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.errors import UsageError
from dicomtls_cli.pki.contents import MAX_PASSPHRASE
from dicomtls_cli.pki.extensions import authority_key, ca_extensions, identifier_of_its_own, node_extensions
from dicomtls_cli.pki.hosts import subject_names
from dicomtls_cli.pki.subject import SubjectPart, common_name, parse_subject, show_subject

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

BACKDATED = timedelta(minutes=5)
"""A peer whose clock is a little behind accepts a new certificate at once."""

MAX_DAYS = 36500
_A_DAY = timedelta(days=1)
_EARLIEST = datetime(1950, 1, 1, tzinfo=UTC)  # that a certificate can say, RFC 5280 4.1.2.5.1


class KeyType(StrEnum):
    """The kinds of key, as `--key-type` spells them. PS3.15 B.12 asks for RSA >= 2048 or ECC >= 256."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    P256 = "p256"
    P384 = "p384"
    ED25519 = "ed25519"


class Fault(StrEnum):
    """What `--fault` makes wrong on purpose with a certificate for tests."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    WRONG_HOST = "wrong-host"
    WRONG_EKU = "wrong-eku"
    WEAK_KEY = "weak-key"
    CA_TRUE = "ca-true"
    CORRUPT_SIGNATURE = "corrupt-signature"


class Issuer(NamedTuple):
    """A CA: its certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey

    def __repr__(self) -> str:
        return f"Issuer({self.certificate.subject!r})"


@dataclass(frozen=True)
class Profile:
    """What a certificate will say; checked, and nothing made yet.

    `exact` is the subject of the certificate or request that this one follows, where `subject` only shows it.
    """

    name: str
    subject: tuple[SubjectPart, ...]
    names: tuple[str, ...]
    key_type: KeyType
    not_before: datetime
    not_after: datetime
    exact: x509.Name | None = None
    is_ca: bool = False
    fault: Fault | None = None

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


def faulty(profile: Profile, fault: Fault, now: datetime | None = None) -> Profile:
    """Return `profile` with `fault`, and with a subject that says so."""
    start = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    lasting = profile.not_after - profile.not_before
    marked = replace(profile, fault=fault, subject=(*parse_subject(f"/OU=faulty: {fault}"), *profile.subject))
    if fault is Fault.EXPIRED:
        begins = max(start - lasting - _A_DAY, _EARLIEST)
        return replace(marked, not_before=begins, not_after=start - _A_DAY)
    if fault is Fault.NOT_YET_VALID:
        return replace(marked, not_before=start + _A_DAY, not_after=start + lasting + _A_DAY)
    if fault is Fault.WRONG_HOST:
        return replace(marked, names=("wrong-host.invalid",))
    return marked


def issue(
    profile: Profile, *, passphrase: bytes | None = None, issuer: Issuer | None = None
) -> GeneratedPair:
    """Make the key and the certificate that `profile` describes (RFC 5280 4), signed by `issuer` or itself.

    The key is PKCS#8 PEM, encrypted if a `passphrase` of 1 to 1023 bytes is given. Raises `UsageError` for
    any other passphrase.
    """
    if passphrase is not None:
        check_new_passphrase(passphrase)
    key = new_key(profile)
    der = certify(profile, key.public_key(), issuer, key)
    return GeneratedPair(
        profile,
        ssl.DER_cert_to_PEM_cert(der).encode(),
        key_pem(key, passphrase),
        hashlib.sha256(der).hexdigest(),
    )


def key_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return `key` as PKCS#8 PEM, encrypted if there is a `passphrase`."""
    from cryptography.hazmat.primitives import serialization

    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def check_new_passphrase(passphrase: bytes) -> None:
    """Raise `UsageError` unless `passphrase` can protect a new key: 1 to 1023 bytes."""
    if not 1 <= len(passphrase) <= MAX_PASSPHRASE:
        raise UsageError(
            f"a passphrase of {len(passphrase)} bytes cannot protect a key",
            f"1 to {MAX_PASSPHRASE} bytes; without a passphrase the key is not encrypted, and with an empty one Java "
            "sees nothing in a key store",
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


def new_key(profile: Profile) -> PrivateKey:
    """Return a new key of the kind that `profile` asks for."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    kind = profile.key_type
    if profile.fault is Fault.WEAK_KEY:
        return rsa.generate_private_key(65537, 1024)  # noqa: S505 - asked for as a fault
    if kind is KeyType.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if kind in (KeyType.P256, KeyType.P384):
        return ec.generate_private_key(ec.SECP256R1() if kind is KeyType.P256 else ec.SECP384R1())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


def subject_name(profile: Profile) -> x509.Name:
    """Return the subject of `profile` as a certificate holds it."""
    from cryptography import x509

    if profile.exact is not None:
        return profile.exact
    return x509.Name([x509.NameAttribute(x509.ObjectIdentifier(p.oid), p.value) for p in profile.subject])


def certify(profile: Profile, public: PublicKey, issuer: Issuer | None, own: PrivateKey | None) -> bytes:
    """Return the certificate (DER) of the `public` key, signed by `issuer`, or without one by its `own` key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding

    signer = issuer.key if issuer else own
    assert signer is not None
    name, serial = subject_name(profile), x509.random_serial_number()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    if issuer is None and profile.exact is not None:
        identifier = identifier_of_its_own(public, serial)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(profile.not_before)
        .not_valid_after(profile.not_after)
    )
    extensions = ca_extensions() if profile.is_ca else _node_extensions(profile, public)
    # Without the two key identifiers OpenSSL-based peers ignore a second certificate of the same subject.
    identifiers = ((identifier, False), (authority_key(issuer, identifier), False))
    for extension, critical in (*extensions, *identifiers):
        builder = builder.add_extension(extension, critical)
    hashed = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    der = builder.sign(signer, hashed).public_bytes(Encoding.DER)
    if profile.fault is Fault.CORRUPT_SIGNATURE:
        return der[:-1] + bytes([der[-1] ^ 1])  # the signature is the last element, RFC 5280 4.1
    return der


def _node_extensions(profile: Profile, public: PublicKey) -> list[tuple[x509.ExtensionType, bool]]:
    is_for_tls, is_ca = profile.fault is not Fault.WRONG_EKU, profile.fault is Fault.CA_TRUE
    return node_extensions(profile.names, public, is_for_tls=is_for_tls, is_ca=is_ca)
