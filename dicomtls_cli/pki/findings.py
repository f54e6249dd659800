"""What is wrong with the certificates of a bundle, or soon will be: found before a peer is refused."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.pki.bundle import BundledCertificate
from dicomtls_cli.pki.issuer import issued_by

if TYPE_CHECKING:
    from cryptography import x509

_WEAK_HASHES = frozenset({"md2", "md4", "md5", "sha1"})


class Finding(NamedTuple):
    """One fault of one certificate: a stable `code`, and what it is and does in words."""

    certificate: BundledCertificate
    code: str
    text: str


def find(
    certificates: Sequence[BundledCertificate], *, warn_days: int = 30, now: datetime | None = None
) -> list[Finding]:
    """Return what is wrong with `certificates`, those of one bundle, at `now` (aware; default: the present).

    A certificate that ends within `warn_days` days counts.
    """
    instant = now or datetime.now(UTC)
    parsed = [_parse(one.der) for one in certificates]
    subjects: dict[bytes, list[int]] = defaultdict(list)
    for number, one in enumerate(parsed):
        if one is not None:
            subjects[one.subject.public_bytes()].append(number)
    found = []
    for number, (bundled, certificate) in enumerate(zip(certificates, parsed, strict=True)):
        faults = [("unreadable", "cannot be read whole; other programs may refuse it")]
        if certificate is not None:
            same = [other for other in subjects[certificate.subject.public_bytes()] if other != number]
            namesakes = [other for at in same if (other := parsed[at]) is not None]
            above = subjects[certificate.issuer.public_bytes()]
            issuers = [issuer for at in above if (issuer := parsed[at]) is not None]
            faults = [
                *_dates(certificate, instant, warn_days),
                *_strength(certificate),
                *_use(certificate),
                *_names(certificate, namesakes),
                *_issuer(certificate, issuers),
            ]
        found += [Finding(bundled, code, text) for code, text in faults]
    return found


_Faults = Iterator[tuple[str, str]]


def _parse(der: bytes) -> x509.Certificate | None:
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            # All that is looked at later, so that it cannot fail there.
            _ = (
                certificate.subject,
                certificate.issuer,
                certificate.extensions,
                certificate.not_valid_after_utc,
            )
            return certificate
    except Exception:  # a stranger's certificate can be odd in any way
        return None


def _dates(certificate: x509.Certificate, now: datetime, warn_days: int) -> _Faults:
    ends = certificate.not_valid_after_utc
    if ends < now:
        yield "expired", f"expired on {ends:%Y-%m-%d}: peers that show it are refused"
    elif ends - now < timedelta(days=warn_days):
        yield "expires-soon", f"expires on {ends:%Y-%m-%d}, in {(ends - now).days} days"
    if certificate.not_valid_before_utc > now:
        yield "not-yet-valid", f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"


def _strength(certificate: x509.Certificate) -> _Faults:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    with suppress(ValueError, UnsupportedAlgorithm):
        key = certificate.public_key()
        least = {rsa.RSAPublicKey: 2048, ec.EllipticCurvePublicKey: 256, dsa.DSAPublicKey: 1 << 16}
        for kind, bits in least.items():
            if isinstance(key, kind) and getattr(key, "key_size", 0) < bits:
                yield (
                    "weak-key",
                    f"has a weak key ({getattr(key, 'key_size', 0)} bits): PS3.15 B.12 refuses it",
                )
    with suppress(ValueError, UnsupportedAlgorithm):
        hashed = certificate.signature_hash_algorithm
        if hashed is not None and hashed.name in _WEAK_HASHES:
            yield "weak-signature", f"is signed with {hashed.name.upper()}, which proves nothing any more"


def _use(certificate: x509.Certificate) -> _Faults:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if _is_ca(certificate):
        if not _may_sign(certificate):
            yield (
                "ca-true",
                "says CA:TRUE without keyCertSign, as `openssl req -x509` makes them: to OpenSSL and Java its "
                "holder can make certificates for any name",
            )
        return
    with suppress(x509.ExtensionNotFound):
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        # anyExtendedKeyUsage does not help: OpenSSL wants the very usage.
        for oid, role in (
            (ExtendedKeyUsageOID.SERVER_AUTH, "an SCP"),
            (ExtendedKeyUsageOID.CLIENT_AUTH, "an SCU"),
        ):
            if oid not in usages:
                yield "wrong-eku", f"may not be that of {role}, by its extended key usage"


def _names(certificate: x509.Certificate, namesakes: Sequence[x509.Certificate]) -> _Faults:
    """Two of one subject are told apart by their key identifiers, or OpenSSL looks at the first one only."""
    if not namesakes:
        return
    own = _identifiers(certificate)
    if None in own or any(None in _identifiers(other) for other in namesakes):
        yield (
            "same-subject",
            "another certificate has the same subject, and not both have key identifiers: OpenSSL-based peers "
            "see only one of them",
        )
    elif any(_identifiers(other)[0] == own[0] for other in namesakes):
        yield (
            "same-identifier",
            "another certificate has the same subject and key identifier: OpenSSL-based peers see only one of them",
        )


def _issuer(certificate: x509.Certificate, issuers: Sequence[x509.Certificate]) -> _Faults:
    if certificate.issuer == certificate.subject:
        return
    if any(issued_by(certificate, issuer) for issuer in issuers):
        return
    yield (
        "ca-absent",
        "was issued by a CA that is not in the bundle: Orthanc and DCMTK refuse it, and here it counts as a pin",
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    with suppress(x509.ExtensionNotFound):
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    return False


def _may_sign(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    with suppress(x509.ExtensionNotFound):
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    return False


def _identifiers(certificate: x509.Certificate) -> tuple[bytes | None, bytes | None]:
    """Return the subject's and the authority's key identifier."""
    from cryptography import x509

    subject = authority = None
    with suppress(x509.ExtensionNotFound):
        subject = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    with suppress(x509.ExtensionNotFound):
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        authority = extension.value.key_identifier
    return subject, authority
