"""Own certificate and key: which file is what, before OpenSSL sees either."""

from __future__ import annotations

import base64
import binascii
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.errors import InputError
from dicomtls_cli.pki.contents import KEYS, Contents, Item, Kind
from dicomtls_cli.pki.files import word
from dicomtls_cli.pki.keystore import Password, check_iterations, read_opened

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_BOTH_FILES = "give the certificate with `--cert` and its private key with `--key`"
_TO_PKCS12 = (
    "convert it to PKCS#12: "
    "`keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12`"
)
_NOT_CERTIFICATE: dict[Kind, tuple[str, str]] = {
    Kind.EMPTY: ("certificate.empty", "make a pair with `dicomtls gencert NAME`"),
    Kind.PRIVATE_KEY: ("certificate.is-key", _BOTH_FILES),
    Kind.PUBLIC_KEY: ("certificate.is-public-key", _BOTH_FILES),
    Kind.REQUEST: ("certificate.is-request", "name the certificate that was issued for this request"),
    Kind.CRL: ("certificate.is-crl", _BOTH_FILES),
    Kind.JAVA_KEYSTORE: ("certificate.is-jks", _TO_PKCS12),
}
_NOT_CERTIFICATE[Kind.ENCRYPTED_KEY] = _NOT_CERTIFICATE[Kind.PRIVATE_KEY]
_NOT_CERTIFICATE[Kind.OPENSSH_KEY] = _NOT_CERTIFICATE[Kind.PRIVATE_KEY]
_NOT_KEY: dict[Kind, tuple[str, str]] = {
    Kind.EMPTY: ("key.empty", "make a pair with `dicomtls gencert NAME`"),
    Kind.CERTIFICATE: ("key.is-certificate", _BOTH_FILES),
    Kind.PUBLIC_KEY: ("key.is-public-key", _BOTH_FILES),
    Kind.REQUEST: ("key.is-request", _BOTH_FILES),
    Kind.OPENSSH_KEY: ("key.is-openssh", "convert a copy of it: `ssh-keygen -p -m PKCS8 -f COPY`"),
    Kind.JAVA_KEYSTORE: ("key.is-jks", _TO_PKCS12),
}


class Pair(NamedTuple):
    """The files of one identity: what is in each, and the private key to be used."""

    certificates: Contents
    key_contents: Contents
    key: Item

    @property
    def key_path(self) -> Path:
        """The file that holds the key."""
        return self.key_contents.path


def read_pair(cert: Path, key: Path | None, password: Password = None) -> Pair:
    """Read certificate and key, and see that each file is what it should be.

    `key` None means that the key is in `cert`. `password` is for PKCS#12 (`read_opened`). Whether the key
    belongs to the certificate is not looked at. Raises `InputError` that says what a file really is; swapped
    files are told as such.
    """
    certificates = read_opened(cert, "certificate", password)
    if key is None:
        if not certificates.certificates:
            raise _not(certificates, "certificate")
        if not certificates.keys:
            raise InputError(
                f"`{cert}` holds a certificate but no private key",
                "name the file of the key with `--key`",
                slug="key.not-given",
            )
        return Pair(certificates, certificates, _usable_key(certificates))
    keys = read_opened(key, "private key", password)
    if not certificates.certificates and certificates.keys and keys.certificates and not keys.keys:
        right, its_key = word(key), word(cert)
        raise InputError(
            f"certificate and key are swapped: `{key}` is a certificate, `{cert}` is a private key",
            f"write `--cert {right} --key {its_key}`, or as DCMTK has it, key first, `+tls {its_key} {right}`",
            slug="key.swapped",
        )
    if not certificates.certificates:
        raise _not(certificates, "certificate")
    return Pair(certificates, keys, _usable_key(keys))


def _usable_key(contents: Contents) -> Item:
    for item in contents.keys:
        if item.kind is not Kind.OPENSSH_KEY:
            return item
    raise _not(contents, "private key")


def _not(contents: Contents, part: str) -> InputError:
    kind = contents.main_kind
    if part == "certificate":
        slug, hint = _NOT_CERTIFICATE.get(
            kind,
            ("certificate.not-a-certificate", "a certificate is PEM (`-----BEGIN CERTIFICATE-----`) or DER"),
        )
    else:
        if kind in KEYS:
            kind = Kind.OPENSSH_KEY
        slug, hint = _NOT_KEY.get(
            kind, ("key.not-a-key", "a private key is PEM (`-----BEGIN PRIVATE KEY-----`) or DER")
        )
    return InputError(f"`{contents.path}` is {kind.value}, not a {part} in PEM or DER", hint, slug=slug)


def encrypted_without_passphrase(path: Path) -> InputError:
    """Return the error for an encrypted key that nobody gave a passphrase for."""
    return InputError(
        f"the private key `{path}` is encrypted and no passphrase was given",
        "put the passphrase into a file of mode 0600 and name it with `--key-passphrase-file`",
        slug="key.encrypted",
    )


def wrong_passphrase(path: Path) -> InputError:
    """Return the error for an encrypted key that the passphrase does not open."""
    return InputError(
        f"the passphrase does not open the private key `{path}`",
        f"try it with `openssl pkey -noout -in {word(path)}`; the passphrase is the first line of its file",
        slug="key.wrong-passphrase",
    )


def _without_blank_lines(pem: bytes) -> bytes:
    # Where there are headers (RFC 1421), the blank line after them means something.
    return pem if b":" in pem else b"\n".join(line for line in pem.splitlines() if line.strip()) + b"\n"


def _encrypted_der(key: Item) -> bytes:
    """Return what tells how an encrypted key is derived; of the old form (one round of MD5) bytes that say nothing."""
    if key.der:
        return key.der
    body = b"\n".join(line.strip() for line in key.pem.splitlines()[1:-1])
    if b":" in body:
        body = body.partition(b"\n\n")[2]  # behind the headers, RFC 1421 4.4
    with suppress(binascii.Error):
        return base64.b64decode(b"".join(body.split()), validate=True)
    return b""


def open_key(key: Item, source: Path, passphrase: bytes | None) -> PrivateKeyTypes:
    """Parse the private `key` found in `source`; `passphrase` is for an encrypted one only.

    Raises `InputError` for a wrong passphrase, a damaged key and a kind of key TLS cannot use.
    """
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if passphrase is not None:
        check_iterations(_encrypted_der(key), source)
    try:
        with warnings.catch_warnings():
            # Its deprecation notes are about old ciphers; here the question is only what the file holds.
            warnings.simplefilter("ignore")
            if key.pem:
                return serialization.load_pem_private_key(_without_blank_lines(key.pem), passphrase)
            return serialization.load_der_private_key(key.der, passphrase)
    except UnsupportedAlgorithm as error:
        raise InputError(
            f"the private key `{source}` is of a kind that cannot be used: {error}",
            "make an RSA or EC key: `dicomtls gencert NAME`",
            slug="key.unsupported",
        ) from None
    except (ValueError, TypeError, InternalError):  # the last for parameters that OpenSSL itself chokes on
        if key.kind is Kind.ENCRYPTED_KEY:
            raise wrong_passphrase(source) from None
        raise InputError(
            f"the private key in `{source}` is damaged",
            "get the key file again, or make a new pair with `dicomtls gencert NAME`",
            slug="key.damaged",
        ) from None
