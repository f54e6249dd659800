"""A small CA in a folder: its key, its certificate, an index of what it issued, and its revocation list."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.errors import InputError, UsageError, printable
from dicomtls_cli.pki.contents import Kind
from dicomtls_cli.pki.files import NewFile, read_capped
from dicomtls_cli.pki.generate import Issuer, certify, key_pem, new_key, prepare
from dicomtls_cli.pki.load import read_certificate_files
from dicomtls_cli.pki.pair import encrypted_without_passphrase, open_key, read_pair

if TYPE_CHECKING:
    from cryptography import x509

CA_DAYS = 3650
"""How long a new CA is valid: its nodes' certificates are renewed under it many times."""

CRL_DAYS = 30
"""How long a revocation list is valid: a peer that checks it wants a newer one by then."""

_HEAD = "# serial\tvalid until\trevoked\tsha256\tsubject\n"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_LINE = re.compile(
    r"(?P<serial>[0-9a-f]{1,40})\t(?P<until>[0-9TZ:-]{20})\t(?P<revoked>-|[0-9TZ:-]{20})\t"
    r"(?P<sha256>[0-9a-f]{64})\t(?P<subject>[^\t]*)"
)


class Entry(NamedTuple):
    """One certificate the CA issued: its serial number, end, SHA-256, subject, and when it was revoked, if so."""

    serial: int
    until: datetime
    sha256: str
    subject: str
    revoked: datetime | None = None


class Authority(NamedTuple):
    """A CA called `name` in `folder`; `new` says that it is made by this call and nothing was written yet."""

    folder: Path
    name: str
    issuer: Issuer
    entries: tuple[Entry, ...]
    new: bool = False
    passphrase: bytes | None = None

    def path(self, kind: str) -> Path:
        """Return the path of its `key`, `crt`, `index` or `crl`."""
        return self.folder / f"{self.name}.{kind}"

    @property
    def ends(self) -> datetime:
        """When its own certificate ends; nothing it issues is valid longer."""
        return self.issuer.certificate.not_valid_after_utc

    @property
    def der(self) -> bytes:
        """Its own certificate."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.issuer.certificate.public_bytes(Encoding.DER)

    def own_files(self) -> list[NewFile]:
        """Return key and certificate, if they are new."""
        from cryptography.hazmat.primitives.serialization import Encoding

        if not self.new:
            return []
        pem = self.issuer.certificate.public_bytes(Encoding.PEM)
        key = key_pem(self.issuer.key, self.passphrase)
        return [NewFile(self.path("key"), key, private=True), NewFile(self.path("crt"), pem)]

    def index_with(self, certificates: Sequence[bytes]) -> NewFile:
        """Return the index with `certificates` (DER, just issued) added."""
        return _index(self, (*self.entries, *map(_entry, certificates)))


def open_authority(folder: Path, name: str, *, key_type: str, passphrase: bytes | None) -> Authority:
    """Return the CA `name` of `folder`, or a new one where there is none; writes nothing.

    A new one has a key of `key_type`, encrypted under `passphrase` if there is one. Raises `InputError` if
    its files are damaged, not those of a CA, or out of date.
    """
    key_path, cert_path = folder / f"{name}.key", folder / f"{name}.crt"
    if not (key_path.exists() or cert_path.exists()):
        return _new(folder, name, key_type, passphrase)
    from cryptography import x509

    pair = read_pair(cert_path, key_path)
    if pair.key.kind is Kind.ENCRYPTED_KEY and passphrase is None:
        raise encrypted_without_passphrase(key_path)
    key = open_key(pair.key, key_path, passphrase if pair.key.kind is Kind.ENCRYPTED_KEY else None)
    certificate = x509.load_der_x509_certificate(pair.certificates.certificates[0])
    if key.public_key() != certificate.public_key():
        raise InputError(
            f"the private key `{key_path}` does not belong to the certificate `{cert_path}`",
            "name the CA whose two files belong together",
            slug="key.mismatch",
        )
    _check(certificate, cert_path)
    issuer = Issuer(certificate, key)  # type: ignore[arg-type]  # a CA certificate's key signs
    return Authority(folder, name, issuer, tuple(_read_index(folder / f"{name}.index")))


def _new(folder: Path, name: str, key_type: str, passphrase: bytes | None) -> Authority:
    from cryptography import x509

    profile = replace(prepare(name, days=CA_DAYS, key_type=key_type), is_ca=True)
    key = new_key(profile)
    certificate = x509.load_der_x509_certificate(certify(profile, key.public_key(), None, key))
    return Authority(folder, name, Issuer(certificate, key), (), new=True, passphrase=passphrase)


def _check(certificate: x509.Certificate, path: Path) -> None:
    from cryptography import x509

    try:
        ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        may_sign = certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except (x509.ExtensionNotFound, ValueError):
        ca = may_sign = False
    if not (ca and may_sign):
        raise InputError(
            f"`{path}` is not the certificate of a CA",
            "choose another name for the CA: its files are NAME.key, NAME.crt and NAME.index",
            slug="authority.not-a-ca",
        )
    if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
        raise InputError(
            f"the CA `{path}` is valid from {certificate.not_valid_before_utc:%Y-%m-%d} "
            f"to {certificate.not_valid_after_utc:%Y-%m-%d}, and not now",
            "make a new CA under another name, and give its certificate to the peers",
            slug="authority.out-of-date",
        )


def _entry(der: bytes) -> Entry:
    from cryptography import x509

    one = x509.load_der_x509_certificate(der)
    subject = printable(one.subject.rfc4514_string(), 400)
    return Entry(one.serial_number, one.not_valid_after_utc, hashlib.sha256(der).hexdigest(), subject)


def _index(authority: Authority, entries: Sequence[Entry]) -> NewFile:
    lines = [
        f"{one.serial:x}\t{one.until:{_TIME}}\t{f'{one.revoked:{_TIME}}' if one.revoked else '-'}\t"
        f"{one.sha256}\t{one.subject}\n"
        for one in entries
    ]
    return NewFile(authority.path("index"), (_HEAD + "".join(lines)).encode(), replaces=True)


def _read_index(path: Path) -> Iterator[Entry]:
    if not path.exists():
        return
    lines = read_capped(path, "index").decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        found = _LINE.fullmatch(line)
        try:
            if found is None:
                raise ValueError
            revoked = None if found["revoked"] == "-" else _time(found["revoked"])
            serial = int(found["serial"], 16)
            yield Entry(serial, _time(found["until"]), found["sha256"], found["subject"], revoked)
        except ValueError:
            raise InputError(
                f"line {number} of the index `{path}` is damaged",
                "put the line right, or take the file from a backup: it says what was issued and revoked",
                slug="authority.index",
            ) from None


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def revoke(authority: Authority, certificates: Sequence[Path]) -> tuple[list[NewFile], list[Entry]]:
    """Return index and revocation list with the certificates in the files `certificates` revoked, and those.

    Without any the list is only made anew (RFC 5280 5), valid for `CRL_DAYS`. Raises `InputError` for a
    certificate of another CA.
    """
    from cryptography import x509

    now = datetime.now(UTC).replace(microsecond=0)
    entries = {one.serial: one for one in authority.entries}
    revoked = []
    for file in read_certificate_files(certificates):
        for der in file.certificates:
            certificate = x509.load_der_x509_certificate(der)
            try:
                if der == authority.der:  # signed by itself, and on no list of its own
                    raise ValueError
                certificate.verify_directly_issued_by(authority.issuer.certificate)
            except Exception:  # every way in which a signature can be odd means no
                raise InputError(
                    f"`{file.path}` was not issued by the CA `{authority.name}`",
                    "name its CA; a self-signed certificate is revoked by taking it out of the bundles",
                    slug="authority.not-issued",
                ) from None
            known = entries.get(certificate.serial_number, _entry(der))
            entries[certificate.serial_number] = known if known.revoked else known._replace(revoked=now)
            revoked.append(entries[certificate.serial_number])
    listed = _list(authority, [one for one in entries.values() if one.revoked], now)
    return [_index(authority, list(entries.values())), listed], revoked


def _list(authority: Authority, revoked: Sequence[Entry], now: datetime) -> NewFile:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding

    issuer = authority.issuer
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - timedelta(minutes=5))
        .next_update(now + timedelta(days=CRL_DAYS))
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.revoked or now)
        builder = builder.add_revoked_certificate(entry.build())
    hashed = None if isinstance(issuer.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    pem = builder.sign(issuer.key, hashed).public_bytes(Encoding.PEM)
    return NewFile(authority.path("crl"), pem, replaces=True)


def within(authority: Authority, not_after: datetime) -> datetime:
    """Return the end that a certificate can have under the CA; raise `UsageError` if the CA ends at once."""
    if authority.ends - datetime.now(UTC) < timedelta(days=1):
        raise UsageError(
            f"the CA `{authority.name}` ends within a day", "make a new one", slug="authority.ending"
        )
    return min(not_after, authority.ends)
