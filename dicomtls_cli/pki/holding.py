"""What is in one file, or was shown by one peer, described; and the errors for what is nothing of the kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dicomtls_cli.errors import InputError
from dicomtls_cli.pki.algorithms import KeyFacts, describe_key
from dicomtls_cli.pki.contents import Contents, Item, Kind, read_contents
from dicomtls_cli.pki.description import (
    CertificateFacts,
    CrlFacts,
    RequestFacts,
    describe_certificate,
    describe_crl,
    describe_request,
)
from dicomtls_cli.pki.files import word
from dicomtls_cli.pki.keystore import Password, opened
from dicomtls_cli.pki.load import SUFFIXES, certificate_paths
from dicomtls_cli.pki.pair import open_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

T = TypeVar("T")

OF_DIRECTORIES = SUFFIXES | {".key", ".csr", ".req", ".crl", ".p12", ".pfx", ".p7c"}
"""The files of a directory that are looked into, in any case of letters."""


class FoundKey(NamedTuple):
    """A key in a file: what the file has it as, what it is (None: not known), and whether it is under a passphrase."""

    kind: Kind
    facts: KeyFacts | None
    encrypted: bool = False

    @property
    def private(self) -> bool:
        """Whether it is more than the public half."""
        return self.kind is not Kind.PUBLIC_KEY


class Holding(NamedTuple):
    """What is in the file, or was shown by the peer, that `source` names.

    `form` is `PEM`, `DER`, `PKCS#12`, `PKCS#7` or `TLS`. `store_keys` is how many private keys a PKCS#12 file
    has, of which the first is in `keys`.
    """

    source: str
    form: str
    certificates: tuple[CertificateFacts, ...] = ()
    keys: tuple[FoundKey, ...] = ()
    requests: tuple[RequestFacts, ...] = ()
    crls: tuple[CrlFacts, ...] = ()
    store_keys: int = 0

    @property
    def duplicates(self) -> int:
        """How many of its certificates it has already."""
        return len(self.certificates) - len({one.sha256 for one in self.certificates})


def files_of(entry: Path) -> list[Path]:
    """Return `entry`, or if it is a directory the files in it that may hold certificates and keys, by name."""
    return certificate_paths(entry, OF_DIRECTORIES)


def read_holding(path: Path, password: Password = None) -> Holding:
    """Read the file `path` and describe all that is in it.

    `password` is for PKCS#12 (as `read_opened` takes it) and for encrypted keys; without one these are told
    as encrypted. Raises `InputError` for what cannot be read or opened, and for a file with nothing to describe.
    """
    contents = read_contents(path, "certificate or key")
    kind = contents.main_kind
    if kind in _NOTHING:
        slug, hint = _NOTHING[kind]
        raise InputError(f"`{path}` is {kind.value}, not a certificate or key", hint, slug=slug)
    form = "DER" if contents.items[0].der and not contents.items[0].pem else "PEM"
    if kind in (Kind.PKCS12, Kind.PKCS7):
        form = kind.value
    found = _described(opened(contents, password), password)
    if not (found.certificates or found.keys or found.requests or found.crls):
        raise InputError(
            f"`{path}` is {form} without a certificate or key in it",
            f"see what it is: `file {word(path)}`",
            slug="inspect.nothing",
        )
    return found._replace(form=form)


def shown_holding(source: str, certificates: Sequence[bytes]) -> Holding:
    """Describe the `certificates` (DER) that the peer `source` showed in its TLS handshake."""
    return Holding(source, "TLS", tuple(describe_certificate(der) for der in certificates))


_NOTHING: dict[Kind, tuple[str, str]] = {
    Kind.DICOM: (
        "inspect.dicom",
        "this command is about certificates; `dcmdump FILE` shows an image's elements, "
        "`dicomtls storescu HOST PORT FILE --dry-run` how it would be sent",
    ),
    Kind.JAVA_KEYSTORE: (
        "inspect.is-jks",
        "convert it to PKCS#12: "
        "`keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12`",
    ),
    Kind.EMPTY: ("inspect.nothing", "get the file again from its owner"),
    Kind.UNKNOWN: (
        "inspect.nothing",
        "PEM begins with `-----BEGIN`, DER with the byte 30; a peer is written `HOST:PORT`",
    ),
}


def _described(contents: Contents, password: Password) -> Holding:
    path = contents.path
    items = contents.items
    keys = [_key(item, path, password) for item in contents.keys]
    keys += [_public_key(item, path) for item in items if item.kind is Kind.PUBLIC_KEY]
    return Holding(
        str(path),
        "",
        tuple(describe_certificate(der) for der in contents.certificates),
        tuple(keys),
        tuple(_request(item, path) for item in items if item.kind is Kind.REQUEST),
        tuple(_crl(item, path) for item in items if item.kind is Kind.CRL),
        contents.store.keys if contents.store else 0,
    )


def _key(item: Item, path: Path, password: Password) -> FoundKey:
    encrypted = item.kind is Kind.ENCRYPTED_KEY
    if item.kind is Kind.OPENSSH_KEY or (encrypted and password is None):
        return FoundKey(item.kind, None, encrypted)
    key = open_key(item, path, password() if encrypted and password is not None else None)
    return FoundKey(item.kind, describe_key(key.public_key()), encrypted)


def _public_key(item: Item, path: Path) -> FoundKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_pem_public_key if item.pem else serialization.load_der_public_key
    try:
        key: PublicKeyTypes = load(item.pem or item.der)
        return FoundKey(item.kind, describe_key(key))
    except (ValueError, UnsupportedAlgorithm):
        raise _damaged(path, "public key") from None


def _request(item: Item, path: Path) -> RequestFacts:
    from cryptography import x509

    load = x509.load_pem_x509_csr if item.pem else x509.load_der_x509_csr
    return describe_request(_parsed(load, item, path, "signing request"))


def _crl(item: Item, path: Path) -> CrlFacts:
    from cryptography import x509

    load = x509.load_pem_x509_crl if item.pem else x509.load_der_x509_crl
    return describe_crl(_parsed(load, item, path, "revocation list"))


def _parsed(load: Callable[[bytes], T], item: Item, path: Path, what: str) -> T:
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(item.pem or item.der)
    except (ValueError, x509.InvalidVersion):
        raise _damaged(path, what) from None


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"the {what} in `{path}` is damaged", "get the file again from its owner", slug="inspect.damaged"
    )
