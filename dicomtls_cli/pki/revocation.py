"""Revocation lists (RFC 5280 5): read strictly, and asked about the chain of a peer that is otherwise taken.

A list that cannot be relied on for every certificate of its CA is refused when it is read. What depends on the
moment or on the peer is asked at each handshake: whether the CA has a list, has signed it, and it is in force.
"""

from __future__ import annotations

import base64
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.errors import InputError, printable
from dicomtls_cli.material import Refusal
from dicomtls_cli.pki.contents import Item, Kind, read_contents
from dicomtls_cli.pki.files import word
from dicomtls_cli.pki.load import CertificateFile

if TYPE_CHECKING:
    from cryptography import x509

_log = logging.getLogger("dicomtls.pki")

_GET_NEWEST = (
    "get the newest list from the CA (`dicomtls gencert --ca NAME --crl` writes that of one's own); "
    "storescp reads it on SIGHUP"
)
_WEAK_HASHES = frozenset({"md5", "sha1"})


class RevocationList(NamedTuple):
    """One list: where it stands, as it was read, from when until when it is in force (UTC), and whom it names.

    `revoked` are serial numbers with the instants of their revocation.
    """

    path: Path
    crl: x509.CertificateRevocationList
    begins: datetime
    ends: datetime
    revoked: Mapping[int, datetime]

    @property
    def title(self) -> str:
        """What a sentence calls it."""
        return f"the revocation list `{self.path}` of `{_text(self.crl.issuer)}`"


def gather(files: Sequence[Path], trusted: Sequence[CertificateFile] = ()) -> list[RevocationList]:
    """Return the revocation lists in `files` (PEM, any number in each, or DER) and in the `trusted` files.

    Raises `InputError` for a file without one, and for a list that cannot be read or relied on.
    """
    found = [one for path in files for one in _lists_in(path)]
    return found + [_read(item, file.path) for file in trusted for item in file.lists]


def _lists_in(path: Path) -> Iterator[RevocationList]:
    contents = read_contents(path, "revocation list")
    items = [item for item in contents.items if item.kind is Kind.CRL]
    if not items:
        is_certificate = contents.main_kind is Kind.CERTIFICATE
        raise InputError(
            f"`{path}` is {contents.main_kind.value}, not a certificate revocation list",
            "a certificate is named with `--trust FILE`; the list comes from its CA" if is_certificate
            else "a list is PEM (`-----BEGIN X509 CRL-----`) or DER; `dicomtls gencert --ca NAME --crl` writes one",
            slug="crl.not-a-list",
        )  # fmt: skip
    for item in items:
        yield _read(item, path)


def _read(item: Item, path: Path) -> RevocationList:
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            der = item.der or base64.b64decode(b"".join(item.pem.splitlines()[1:-1]), validate=True)
            crl = x509.load_der_x509_crl(der)
            begins, ends, issuer = crl.last_update_utc, crl.next_update_utc, _text(crl.issuer)
            unfit = _unfit(crl)
            revoked = {one.serial_number: one.revocation_date_utc for one in crl}
    except Exception:  # a stranger's list can be odd in any way
        raise InputError(
            f"the revocation list `{path}` is damaged",
            f"see what `openssl crl -noout -text -in {word(path)}` says, and get it again from the CA",
            slug="crl.damaged",
        ) from None
    if unfit or ends is None:
        unfit = unfit or "does not say until when it is in force (nextUpdate)"
        raise InputError(
            f"the revocation list `{path}` of `{issuer}` {unfit}, so it cannot be relied on",
            "get a complete list from the CA: of all its certificates, signed by itself, with SHA-256",
            slug="crl.unsupported",
        )
    return RevocationList(path, crl, begins, ends, revoked)


def _unfit(crl: x509.CertificateRevocationList) -> str:
    """Return why `crl` does not speak for every certificate of its CA; "" if it does.

    RFC 5280 5.2 and 5.3 forbid to use a list with a critical extension that is not understood, on the whole or on
    one entry; those that are critical there by definition all narrow what the list covers.
    """
    from cryptography import x509

    for extension in crl.extensions:
        if isinstance(extension.value, x509.DeltaCRLIndicator):
            return "holds only what changed (delta)"
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            indirect = extension.value.indirect_crl
            return f"{'speaks for other CAs too (indirect)' if indirect else 'covers some certificates only'}"
        if extension.critical:
            return f"has a critical extension that is not understood ({extension.oid.dotted_string})"
    for entry in crl:
        for extension in entry.extensions:
            if isinstance(extension.value, x509.CertificateIssuer):
                return "speaks for other CAs too (indirect)"
            if extension.critical:
                return f"has an entry with a critical extension ({extension.oid.dotted_string})"
    hashed = crl.signature_hash_algorithm
    return f"is signed with {hashed.name.upper()}" if hashed and hashed.name in _WEAK_HASHES else ""


class RevocationLists:
    """The lists that are wanted, and what they say about a peer; `check` is a `material.RevocationCheck`.

    `anchors` are the trusted certificates (DER); the CA of a peer that is an anchor itself may be among them.
    """

    def __init__(self, lists: Sequence[RevocationList], anchors: Sequence[bytes]) -> None:
        self._by_issuer: dict[x509.Name, list[RevocationList]] = {}
        for one in lists:
            self._by_issuer.setdefault(one.crl.issuer, []).append(one)
        self._anchors = anchors
        self._signed: dict[tuple[int, bytes], bool] = {}  # verified once: a server asks for each association

    def check(self, chain: Sequence[bytes], pinned: bool, now: datetime | None = None) -> Refusal | None:
        """Return why the peer of the verified `chain` is not taken, None if it is, at `now` (the present).

        Every certificate below the anchor needs a list of its issuer that is in force, and must not be on it. A
        peer that is an anchor itself (`pinned`) needs none, and must not be on one there is.
        """
        instant = now or datetime.now(UTC)
        if pinned:
            return self._check_anchor(chain, instant)
        certificates = [one for der in chain if (one := _certificate(der)) is not None]
        if len(certificates) != len(chain) or len(chain) < 2:
            return Refusal(
                "tls.crl-unusable",
                "the certificates of the peer cannot be read, so that no revocation list can be asked about them",
                "see what is odd about them: `openssl x509 -noout -text -in FILE`",
            )
        for own, issuer in pairwise(certificates):
            refusal = self._check_issued(own, issuer, instant, certificates[0])
            if refusal is not None:
                return refusal
        return None

    def _check_anchor(self, chain: Sequence[bytes], now: datetime) -> Refusal | None:
        own = _certificate(chain[0]) if chain else None
        lists = [] if own is None else self._by_issuer.get(own.issuer, [])
        if own is None or not lists:
            return None
        for issuer in _issuers(own, (*chain[1:], *self._anchors)):
            newest = _newest(self._signed_by(issuer, lists), now)
            if newest is not None and own.serial_number in newest.revoked:
                return _revoked(own, newest, own)
        return None

    def _check_issued(
        self, own: x509.Certificate, issuer: x509.Certificate, now: datetime, peer: x509.Certificate
    ) -> Refusal | None:
        lists = self._by_issuer.get(issuer.subject, [])
        ca = f"`{_text(issuer.subject)}`"
        if not lists:
            return Refusal(
                "tls.crl-missing",
                f"there is no revocation list of {ca}, which issued {_shown(own, peer)}",
                "give the CA's list with `--crl FILE`, or trust the peer's own certificate with `--trust FILE`",
            )
        signed = self._signed_by(issuer, lists)
        if not signed:
            return Refusal("tls.crl-unusable", f"{lists[0].title} {_why_not_signed(issuer)}", _GET_NEWEST)
        newest = _newest(signed, now)
        if newest is None:
            return Refusal(
                "tls.crl-not-yet-valid",
                f"{signed[0].title} is not in force before {signed[0].begins:%Y-%m-%d %H:%M} UTC",
                "check both clocks",
            )
        if own.serial_number in newest.revoked:
            return _revoked(own, newest, peer)
        if newest.ends < now:
            return Refusal(
                "tls.crl-expired",
                f"{newest.title} was in force until {newest.ends:%Y-%m-%d %H:%M} UTC",
                _GET_NEWEST,
            )
        _log.info("%s does not name %s", printable(newest.title), printable(_text(own.subject)))
        return None

    def _signed_by(self, issuer: x509.Certificate, lists: Sequence[RevocationList]) -> list[RevocationList]:
        return [one for one in lists if self._is_signed_by(issuer, one)]

    def _is_signed_by(self, issuer: x509.Certificate, one: RevocationList) -> bool:
        from cryptography.hazmat.primitives.hashes import SHA256

        key = (id(one), issuer.fingerprint(SHA256()))
        if key not in self._signed:
            self._signed[key] = _may_sign_lists(issuer) and _verifies(issuer, one.crl)
        return self._signed[key]


def _newest(lists: Sequence[RevocationList], now: datetime) -> RevocationList | None:
    """Return the list that was issued last, even if it has ended: an older one may lack what it named."""
    begun = [one for one in lists if one.begins <= now]
    return max(begun, key=lambda one: one.begins, default=None)


def _issuers(certificate: x509.Certificate, candidates: Sequence[bytes]) -> Iterator[x509.Certificate]:
    for der in candidates:
        candidate = _certificate(der)
        if candidate is not None and candidate.subject == certificate.issuer:
            with suppress(Exception):  # every way in which a signature can be odd means no
                certificate.verify_directly_issued_by(candidate)
                yield candidate


def _may_sign_lists(issuer: x509.Certificate) -> bool:
    """RFC 5280 6.3.3 (f): the bit cRLSign, where there is a key usage at all."""
    from cryptography import x509

    with suppress(x509.ExtensionNotFound):
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    return True


def _verifies(issuer: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    with suppress(Exception):  # every way in which a signature can be odd means no
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    return False


def _why_not_signed(issuer: x509.Certificate) -> str:
    with suppress(Exception):
        if not _may_sign_lists(issuer):
            return "does not count: the CA's certificate does not let it sign lists (keyUsage cRLSign)"
    return "is not signed by that CA, or was changed"


def _revoked(own: x509.Certificate, by: RevocationList, peer: x509.Certificate) -> Refusal:
    return Refusal(
        "tls.peer-revoked",
        f"{_shown(own, peer)} was revoked on {by.revoked[own.serial_number]:%Y-%m-%d}, says {by.title}",
        "the peer needs a new certificate; its CA knows why this one was revoked",
    )


def _shown(own: x509.Certificate, peer: x509.Certificate) -> str:
    """Return what to call `own`, one of the certificates of the chain of `peer`."""
    from cryptography.hazmat.primitives.hashes import SHA256

    whose = "the peer's certificate" if own == peer else "the certificate of a CA above the peer's,"
    return f"{whose} {_text(own.subject)} (SHA-256 {own.fingerprint(SHA256()).hex()})"


def _text(name: x509.Name) -> str:
    return printable(name.rfc4514_string() or "(no subject)", 200)


def _certificate(der: bytes) -> x509.Certificate | None:
    """Return the certificate `der` if all of it that is asked for here can be read."""
    from cryptography import x509

    with suppress(Exception), warnings.catch_warnings():  # a stranger's certificate can be odd in any way
        warnings.simplefilter("ignore")
        certificate = x509.load_der_x509_certificate(der)
        _ = (certificate.subject, certificate.issuer, certificate.extensions, certificate.serial_number)
        return certificate
    return None
