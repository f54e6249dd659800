"""Collect certificates from many files into one trust file that every peer can read."""

from __future__ import annotations

import hashlib
import ssl
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import InputError, printable
from dicomtls_cli.pki.contents import Kind, read_contents
from dicomtls_cli.pki.keystore import Password
from dicomtls_cli.pki.load import CertificateFile, read_certificate_files


class BundledCertificate(NamedTuple):
    """One certificate: its DER, its subject (RFC 4514), its dates (UTC; all None if unreadable) and digest."""

    der: bytes
    subject: str | None
    not_after: datetime | None
    sha256: str
    not_before: datetime | None = None


class Bundle(NamedTuple):
    """Certificates, each once, in the order of the inputs; and what was left out of it."""

    certificates: tuple[BundledCertificate, ...]
    files: tuple[Path, ...]
    duplicates: int
    keys_dropped: int
    lists_dropped: int = 0


def collect(
    inputs: Sequence[Path], *, strip_keys: bool = False, password: Password = None, more: Sequence[bytes] = ()
) -> Bundle:
    """Read the certificates of `inputs`: files in PEM (any number in each), DER, PKCS#7, PKCS#12, or directories.

    `password` is for PKCS#12; `more` are certificates (DER) that come after those of the files. Raises
    `InputError` for what cannot be read, for a private key among them unless `strip_keys` drops it, and if
    there is no certificate at all.
    """
    files = read_certificate_files(inputs, allow_key_only=True, password=password)
    keys = sum(file.keys for file in files)
    if keys and not strip_keys:
        raise _holds_key(next(file for file in files if file.keys))
    found = [*(der for file in files for der in file.certificates), *more]
    if not found:
        raise InputError(
            "there is no certificate in the inputs",
            "name the peers' certificates, as in `dicomtls bundle a.crt b.crt -o trusted.crt`",
            slug="bundle.no-certificate",
        )
    unique = tuple(dict.fromkeys(found))
    certificates = tuple(describe(der) for der in unique)
    lists = sum(len(file.lists) for file in files)
    return Bundle(certificates, tuple(file.path for file in files), len(found) - len(unique), keys, lists)


def without(bundle: Bundle, wanted: Sequence[str], *, password: Password = None) -> Bundle:
    """Return `bundle` without the certificates `wanted`: each a SHA-256 digest, or a file with certificates.

    Raises `InputError` for one that is not in it, and if nothing is left.
    """
    gone: set[str] = set()
    present = {one.sha256 for one in bundle.certificates}
    for one in wanted:
        digits = one.replace(":", "").lower()
        if len(digits) == 64 and not set(digits) - set("0123456789abcdef"):
            named = {digits}
        else:
            files = read_certificate_files([Path(one)], password=password)
            named = {hashlib.sha256(der).hexdigest() for file in files for der in file.certificates}
        if not named <= present:
            raise InputError(
                f"`{one}` is not in the bundle",
                "`dicomtls bundle --list FILE` shows what is in it",
                slug="bundle.not-in-it",
            )
        gone |= named
    left = tuple(one for one in bundle.certificates if one.sha256 not in gone)
    if not left:
        raise InputError(
            "nothing would be left of the bundle",
            "remove the file itself, or bundle other certificates first",
            slug="bundle.no-certificate",
        )
    return bundle._replace(certificates=left)


def is_pkcs12(path: Path) -> bool:
    """Tell whether the file `path` is PKCS#12, and so to be written as such again."""
    return read_contents(path, "bundle").main_kind is Kind.PKCS12


def render(bundle: Bundle) -> bytes:
    """Return the PEM file (RFC 7468) of `bundle`: each block under comment lines, ASCII, newline-terminated.

    The same certificates in the same order give the same bytes.
    """
    blocks = []
    for one in bundle.certificates:
        end = "unreadable" if one.not_after is None else f"{one.not_after:%Y-%m-%dT%H:%M:%SZ}"
        head = f"# subject: {_comment(one.subject)}\n# expires: {end}\n# sha256: {one.sha256}\n"
        blocks.append(head + ssl.DER_cert_to_PEM_cert(one.der))
    return "\n".join(blocks).encode("ascii")


def _holds_key(file: CertificateFile) -> InputError:
    what = "a private key besides its certificate" if file.certificates else "a private key"
    return InputError(
        f"`{file.path}` holds {what}, and a bundle is handed around",
        "leave it out, or bundle the certificates alone with `--strip-keys`",
        slug="bundle.private-key",
    )


def _comment(text: str | None) -> str:
    """Return `text`, a peer's word, as harmless ASCII: one line, no PEM marker, no reader's line limit."""
    shown = printable("unreadable" if text is None else text, 200)
    shown = shown.encode("ascii", "backslashreplace").decode()
    return shown.replace("--", "- -").replace("--", "- -")[:240]


def describe(der: bytes) -> BundledCertificate:
    """Return what people ask of a certificate (DER, from anybody)."""
    from cryptography import x509

    subject: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    try:
        with warnings.catch_warnings():
            # What it deprecates (a negative serial number) does not concern what is shown here.
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            subject = certificate.subject.rfc4514_string()
    except (ValueError, x509.InvalidVersion):
        pass  # OpenSSL could parse it, so it stays; the comment says that it is odd
    return BundledCertificate(der, subject, not_after, hashlib.sha256(der).hexdigest(), not_before)
