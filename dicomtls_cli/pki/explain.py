"""Say why `ssl` refused a certificate and key, by reading both files again with `cryptography`."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

from dicomtls_cli.errors import DicomTlsError, InputError
from dicomtls_cli.pki.contents import Kind, read_contents
from dicomtls_cli.pki.issuer import certificate_key_digest, private_key_digest
from dicomtls_cli.pki.keystore import Password
from dicomtls_cli.pki.load import SUFFIXES
from dicomtls_cli.pki.pair import Pair, encrypted_without_passphrase, open_key, read_pair, wrong_passphrase

_NEIGHBOURS = 200  # files looked through for the certificate that a stray key belongs to


def explain_key_pair(
    cert: Path, key: Path | None, error: Exception, *, passphrase: Password
) -> DicomTlsError:
    """Return the error that says what is wrong with `cert` and `key`, which `ssl` refused with `error`.

    `key` None means that the key is in `cert`; `passphrase` is what `key_pair` was given.
    Never raises; where nothing is found wrong, OpenSSL's own words are passed on.
    """
    if isinstance(error, DicomTlsError):
        return error
    try:
        pair = read_pair(cert, key, passphrase)
        encrypted = pair.key.kind is Kind.ENCRYPTED_KEY
        if encrypted and passphrase is None:
            return encrypted_without_passphrase(pair.key_path)
        reason = str(getattr(error, "reason", None) or "")
        found = _by_reason(pair, reason) or _by_reading(pair, encrypted)
        return found or _by_openssl(cert, error, reason)
    except DicomTlsError as found_while_reading:
        return found_while_reading


def _by_reason(pair: Pair, reason: str) -> DicomTlsError | None:
    """Judge by what OpenSSL says, where it says it unmistakably."""
    path = pair.certificates.path
    if reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL"):
        return InputError(
            f"the certificate `{path}` has too small a key ({_key_size(pair)})",
            "PS3.15 B.12 asks for RSA of 2048 bits or more: make a new pair with `dicomtls gencert NAME`",
            slug="certificate.key-too-small",
        )
    if reason in ("EE_MD_TOO_WEAK", "CA_MD_TOO_WEAK"):
        return InputError(
            f"the certificate `{path}` is signed with too weak a hash",
            "PS3.15 B.12 asks for SHA-256 or better: make a new pair with `dicomtls gencert NAME`",
            slug="certificate.weak-signature",
        )
    # OpenSSL keeps one slot per kind of key: with an EC key the slot of an RSA certificate is another one.
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return _mismatch(pair)
    return None


def _by_reading(pair: Pair, encrypted: bool) -> DicomTlsError | None:
    """Judge by parsing both files."""
    for number, der in enumerate(pair.certificates.certificates, 1):
        if certificate_key_digest(der) is None:
            return InputError(
                f"certificate {number} in `{pair.certificates.path}` cannot be parsed",
                "get the certificate again, or make a new pair with `dicomtls gencert NAME`",
                slug="certificate.damaged",
            )
    if encrypted:
        return wrong_passphrase(pair.key_path)
    if _owned(pair) != certificate_key_digest(pair.certificates.certificates[0]):
        return _mismatch(pair)
    for contents, slug in ((pair.certificates, "certificate.is-der"), (pair.key_contents, "key.is-der")):
        if not contents.openssl_ready:
            return InputError(
                f"`{contents.path}` is DER, or PEM that OpenSSL cannot read",
                "hand it over through `dicomtls_cli.pki.load.key_pair`, which converts it",
                slug=slug,
            )
    return None


def _by_openssl(cert: Path, error: Exception, reason: str) -> DicomTlsError:
    return InputError(
        f"OpenSSL refuses the certificate and key of `{cert}`: {reason or error}",
        "make a new pair with `dicomtls gencert NAME` and see whether that is accepted",
        slug="certificate.refused",
    )


def _mismatch(pair: Pair) -> DicomTlsError:
    certificates, key_path = pair.certificates, pair.key_path
    message = f"the private key `{key_path}` does not belong to the certificate `{certificates.path}`"
    hint = "name the two files of one pair"
    if pair.key.kind is not Kind.ENCRYPTED_KEY:
        key = _owned(pair)
        for number, der in enumerate(certificates.certificates[1:], 2):
            if certificate_key_digest(der) == key:
                hint = f"it belongs to certificate {number} in that file: put that one first"
                return InputError(message, hint, slug="key.mismatch")
        owner = _owner_nearby(key, certificates.path, key_path)
        hint = f"it belongs to `{owner}`" if owner else hint
    return InputError(message, hint, slug="key.mismatch")


def _owner_nearby(key: bytes, *near: Path) -> Path | None:
    """Look for the certificate of the public `key` among the files beside `near`."""
    directories = dict.fromkeys(path.parent for path in near)
    candidates: list[Path] = []
    with suppress(OSError):
        for directory in directories:
            candidates += sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES)
    for path in candidates[:_NEIGHBOURS]:
        try:
            certificates = read_contents(path, "certificate").certificates
        except DicomTlsError:
            continue
        if certificates and certificate_key_digest(certificates[0]) == key:
            return path
    return None


def _owned(pair: Pair) -> bytes:
    """Return the digest of the public half of the (unencrypted) private key."""
    return private_key_digest(open_key(pair.key, pair.key_path, None))


def _key_size(pair: Pair) -> str:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    sizes: list[int] = []
    with warnings.catch_warnings(), suppress(ValueError, UnsupportedAlgorithm):
        warnings.simplefilter("ignore")
        for der in pair.certificates.certificates:
            public = x509.load_der_x509_certificate(der).public_key()
            sizes.append(getattr(public, "key_size", 1 << 16))
    return f"{min(sizes)} bits" if sizes else "of unknown size"
