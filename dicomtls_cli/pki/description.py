"""What is asked of a certificate, a key, a signing request and a revocation list, as plain values.

All of it may be a stranger's. What cannot be read of one is None or empty in its value, and `unread` says so;
nothing here raises for it, and nothing here is made printable yet.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomtls_cli.pki.algorithms import KeyFacts, SignatureFacts, describe_key, describe_signature
from dicomtls_cli.pki.issuer import is_self_signed

if TYPE_CHECKING:
    from cryptography import x509

_MOST_NAMES = 100_000  # of one certificate: some megabytes of DER have no more


class CertificateFacts(NamedTuple):
    """What a certificate says. Times are aware (UTC); usages are RFC 5280's words, None where there is no extension.

    `names` are what it is made out to, each with its kind (`DNS`, `IP`, `email`, `URI`, `other`); `ca` is None
    without basic constraints. `critical` are the OIDs of the critical extensions that nothing here knows.
    `unread` are the parts that could not be read, `certificate` alone where it was none of them.
    """

    der: bytes
    sha256: str
    sha1: str
    version: int = 0
    serial: str = ""
    subject: str | None = None
    issuer: str | None = None
    self_signed: bool = False
    names: tuple[tuple[str, str], ...] = ()
    not_before: datetime | None = None
    not_after: datetime | None = None
    key: KeyFacts | None = None
    signature: SignatureFacts | None = None
    ca: bool | None = None
    path_length: int | None = None
    key_usage: tuple[str, ...] | None = None
    extended_usage: tuple[str, ...] | None = None
    subject_key_id: str = ""
    authority_key_id: str = ""
    critical: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether anything of it could be read."""
        return "certificate" not in self.unread


class RequestFacts(NamedTuple):
    """What a signing request asks for; `whole` tells whether it is signed by its own key."""

    subject: str | None
    names: tuple[tuple[str, str], ...] = ()
    key: KeyFacts | None = None
    signature: SignatureFacts | None = None
    whole: bool = False


class CrlFacts(NamedTuple):
    """What a revocation list says; `revoked` are the serial numbers on it."""

    issuer: str | None
    last_update: datetime | None = None
    next_update: datetime | None = None
    number: int | None = None
    signature: SignatureFacts | None = None
    revoked: frozenset[int] = frozenset()


def describe_certificate(der: bytes) -> CertificateFacts:
    """Return what the certificate `der` says."""
    from cryptography import x509

    digests = (hashlib.sha256(der).hexdigest(), hashlib.sha1(der, usedforsecurity=False).hexdigest())
    part = _Parts()
    found: dict[str, Any] = {}
    with _quiet():
        certificate: x509.Certificate | None = None
        with part("certificate"):
            certificate = x509.load_der_x509_certificate(der)
        if certificate is None:
            return CertificateFacts(der, *digests, unread=tuple(part.failed))
        with part("version"):
            found["version"] = certificate.version.value + 1
        with part("serial number"):
            found["serial"] = serial_text(certificate.serial_number)
        with part("subject"):
            found["subject"] = certificate.subject.rfc4514_string()
        with part("issuer"):
            found["issuer"] = certificate.issuer.rfc4514_string()
        with part("dates"):
            found["not_before"] = certificate.not_valid_before_utc
            found["not_after"] = certificate.not_valid_after_utc
        with part("key"):
            found["key"] = describe_key(certificate.public_key())
        with part("signature algorithm"):
            found["signature"] = describe_signature(certificate)
        with part("extensions"):
            found |= _extensions(certificate.extensions)
        found["self_signed"] = is_self_signed(certificate)
    return CertificateFacts(der, *digests, unread=tuple(part.failed), **found)


def describe_request(request: x509.CertificateSigningRequest) -> RequestFacts:
    """Return what `request` asks for."""
    from cryptography import x509

    part = _Parts()
    found: dict[str, Any] = {"subject": None}
    with _quiet():
        with part("subject"):
            found["subject"] = request.subject.rfc4514_string()
        with part("key"):
            found["key"] = describe_key(request.public_key())
        with part("signature algorithm"):
            found["signature"] = describe_signature(request)
        with part("extensions"):
            alternatives = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            found["names"] = tuple(_names(alternatives.value))
        with part("signature"):
            found["whole"] = request.is_signature_valid
    return RequestFacts(**found)


def describe_crl(crl: x509.CertificateRevocationList) -> CrlFacts:
    """Return what `crl` says."""
    from cryptography import x509

    part = _Parts()
    found: dict[str, Any] = {"issuer": None}
    with _quiet():
        with part("issuer"):
            found["issuer"] = crl.issuer.rfc4514_string()
        with part("dates"):
            found["last_update"], found["next_update"] = crl.last_update_utc, crl.next_update_utc
        with part("signature algorithm"):
            found["signature"] = describe_signature(crl)
        with part("entries"):
            found["revoked"] = frozenset(entry.serial_number for entry in crl)
        with part("extensions"):
            found["number"] = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    return CrlFacts(**found)


def serial_text(number: int) -> str:
    """Return a serial number in hexadecimal digits, two for each byte, as programs show it."""
    digits = f"{abs(number):x}"
    digits = digits.zfill(len(digits) + len(digits) % 2)
    return ("-" if number < 0 else "") + digits


class _Parts:
    """Reads one part after the other, and notes which of them could not be read."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception:  # a stranger's certificate can be odd in any way
            self.failed.append(name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what `cryptography` says about odd certificates: here the question is what is in them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _extensions(extensions: x509.Extensions) -> dict[str, Any]:
    from cryptography import x509

    found: dict[str, Any] = {}
    unknown = []
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            found["names"] = tuple(_names(value))
        elif isinstance(value, x509.BasicConstraints):
            found["ca"], found["path_length"] = value.ca, value.path_length
        elif isinstance(value, x509.KeyUsage):
            found["key_usage"] = tuple(word for word, name in _KEY_USAGES.items() if _says(value, name))
        elif isinstance(value, x509.ExtendedKeyUsage):
            found["extended_usage"] = tuple(
                _EXTENDED.get(one.dotted_string, one.dotted_string) for one in value
            )
        elif isinstance(value, x509.SubjectKeyIdentifier):
            found["subject_key_id"] = value.digest.hex()
        elif isinstance(value, x509.AuthorityKeyIdentifier):
            found["authority_key_id"] = (value.key_identifier or b"").hex()
        elif extension.critical and isinstance(value, x509.UnrecognizedExtension):
            unknown.append(extension.oid.dotted_string)
    return {**found, "critical": tuple(unknown)}


def _says(usage: x509.KeyUsage, name: str) -> bool:
    if name in ("encipher_only", "decipher_only") and not usage.key_agreement:
        return False  # undefined without it, and an error to ask for
    return bool(getattr(usage, name))


def _names(alternatives: x509.SubjectAlternativeName) -> Iterator[tuple[str, str]]:
    from cryptography import x509

    kinds: tuple[tuple[type[x509.GeneralName], str], ...] = (
        (x509.DNSName, "DNS"),
        (x509.IPAddress, "IP"),
        (x509.RFC822Name, "email"),
        (x509.UniformResourceIdentifier, "URI"),
    )
    for number, name in enumerate(alternatives):
        if number == _MOST_NAMES:
            return
        for kind, word in kinds:
            if isinstance(name, kind):
                yield word, str(name.value)
                break
        else:
            is_name = isinstance(name, x509.DirectoryName)
            yield "other", name.value.rfc4514_string() if is_name else type(name).__name__


_KEY_USAGES = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}
_EXTENDED = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}
