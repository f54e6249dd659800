"""The one reader of PEM and DER files: what is in this file? Standard library only."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import InputError
from dicomtls_cli.pki import der
from dicomtls_cli.pki.files import read_capped


class Kind(Enum):
    """What a PEM block or a whole file is; the value is how a sentence calls it."""

    CERTIFICATE = "a certificate"
    PRIVATE_KEY = "a private key"
    ENCRYPTED_KEY = "an encrypted private key"
    OPENSSH_KEY = "an OpenSSH private key"
    PUBLIC_KEY = "a public key"
    REQUEST = "a certificate signing request"
    CRL = "a certificate revocation list"
    PKCS7 = "PKCS#7"
    PKCS12 = "PKCS#12"
    JAVA_KEYSTORE = "a Java key store (JKS)"
    DICOM = "a DICOM file"
    EMPTY = "empty"
    UNKNOWN = "neither PEM nor DER"
    OTHER = "another kind of PEM block"


MAX_PASSPHRASE = 1023
"""Bytes: neither `ssl` nor `cryptography` takes more for a key."""

KEYS = frozenset({Kind.PRIVATE_KEY, Kind.ENCRYPTED_KEY, Kind.OPENSSH_KEY})
"""The kinds that must not be handed around."""


class Item(NamedTuple):
    """One thing found in a file: its kind, and its PEM text (without a marker's surroundings) or DER.

    `der` is set for certificates and for what came from a DER file; `pem` for what came from a PEM file.
    """

    kind: Kind
    der: bytes = b""
    pem: bytes = b""

    def __repr__(self) -> str:
        return f"Item({self.kind})"  # never the data: it may be a key


class Store(NamedTuple):
    """What was in a PKCS#12 file besides its items: how many private keys, and how many certificates our chain has.

    The chain are the first certificates; 0 where none belongs to the key.
    """

    keys: int
    chain: int


class Contents(NamedTuple):
    """What is in one file, in its order.

    `openssl_ready` says that OpenSSL can read the file by itself: PEM, each marker alone on its line, no
    blank line in a block. `store` is set where the file was PKCS#12, and has been opened.
    """

    path: Path
    items: tuple[Item, ...]
    openssl_ready: bool = False
    store: Store | None = None

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The certificates, DER."""
        return tuple(item.der for item in self.items if item.kind is Kind.CERTIFICATE)

    @property
    def keys(self) -> tuple[Item, ...]:
        """The private keys."""
        return tuple(item for item in self.items if item.kind in KEYS)

    @property
    def main_kind(self) -> Kind:
        """What to call the file when it is not what was expected."""
        return next((item.kind for item in self.items if item.kind is not Kind.OTHER), Kind.OTHER)


def read_contents(path: Path, what: str) -> Contents:
    """Read the file `path` and tell what is in it; `what` names its part for the messages.

    Raises `InputError` if it cannot be read, or if it is PEM and damaged.
    """
    return parse_contents(read_capped(path, what), path)


def parse_contents(data: bytes, path: Path) -> Contents:
    """Tell what is in `data`, the content of `path` (named in messages only).

    PEM (RFC 7468) is read with the tolerance files from the field need: any line ends, text around and
    between blocks, a missing line end between two blocks, a byte order mark, UTF-16. Raises `InputError`
    if a block is cut off or is not base64.
    """
    if not data.strip():
        return Contents(path, (Item(Kind.EMPTY),))
    whole = der.first_element(data)
    if whole is not None and not data[len(whole) :].strip(b"\0 \t\r\n"):
        return Contents(path, (Item(_DER_KINDS.get(der.shape(whole), Kind.UNKNOWN), der=whole),))
    text = _as_ascii(data)
    items = tuple(_blocks(text, path))
    if not items:
        return Contents(path, (Item(_magic(data)),))
    return Contents(path, items, openssl_ready=text is data and _openssl_reads(data, items))


def _openssl_reads(data: bytes, items: tuple[Item, ...]) -> bool:
    # A blank line ends the headers of an encrypted key (RFC 1421 4.4); OpenSSL takes it for that anywhere.
    blank = any(_BLANK_LINE.search(item.pem) and b":" not in item.pem for item in items)
    return len(_MARKER_LINE.findall(data)) == 2 * len(items) and not blank and b"\0" not in data


_MARKER = re.compile(rb"-----(BEGIN|END) ([^\r\n-]{1,64})-----")
_MARKER_LINE = re.compile(rb"(?:^|(?<=\n))-----(?:BEGIN|END) [^\r\n-]{1,64}-----[ \t]*\r?(?:\n|$)")
_BLANK_LINE = re.compile(rb"\n[ \t]*\r?\n")
_CERTIFICATE_LABELS = {b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"}
_LABELS = {
    b"ENCRYPTED PRIVATE KEY": Kind.ENCRYPTED_KEY,
    b"OPENSSH PRIVATE KEY": Kind.OPENSSH_KEY,
    b"CERTIFICATE REQUEST": Kind.REQUEST,
    b"NEW CERTIFICATE REQUEST": Kind.REQUEST,
    b"X509 CRL": Kind.CRL,
    b"PKCS7": Kind.PKCS7,
    b"PKCS #7 SIGNED DATA": Kind.PKCS7,
    b"CMS": Kind.PKCS7,
}
_DER_KINDS = {
    der.Shape.CERTIFICATE: Kind.CERTIFICATE,
    der.Shape.PRIVATE_KEY: Kind.PRIVATE_KEY,
    der.Shape.ENCRYPTED_KEY: Kind.ENCRYPTED_KEY,
    der.Shape.PUBLIC_KEY: Kind.PUBLIC_KEY,
    der.Shape.REQUEST: Kind.REQUEST,
    der.Shape.CRL: Kind.CRL,
    der.Shape.PKCS7: Kind.PKCS7,
    der.Shape.PKCS12: Kind.PKCS12,
}


def _as_ascii(data: bytes) -> bytes:
    """Return `data` itself, or a copy without the byte order mark and in one byte per character."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # PowerShell's `>` writes UTF-16
        return data.decode("utf-16", "replace").encode("ascii", "replace")
    return data.removeprefix(b"\xef\xbb\xbf") if data.startswith(b"\xef\xbb\xbf") else data


def _blocks(text: bytes, path: Path) -> Iterator[Item]:
    # One pass over the markers: a file of a million BEGIN lines costs no more than reading it.
    begun: re.Match[bytes] | None = None
    for marker in _MARKER.finditer(text):
        begins = marker[1] == b"BEGIN"
        if begins == (begun is not None) or (begun is not None and marker[2] != begun[2]):
            raise _damaged(path, f"`{marker[0].decode('ascii', 'replace')}` stands where none can be")
        if begun is not None:
            yield _item(begun[2].strip(), text[begun.end() : marker.start()], path)
        begun = marker if begins else None
    if begun is not None:
        raise _damaged(path, f"`{begun[0].decode('ascii', 'replace')}` has no END line")


def _item(label: bytes, body: bytes, path: Path) -> Item:
    pem = b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, body.strip(), label)
    if label in _CERTIFICATE_LABELS:
        # The first element only: TRUSTED CERTIFICATE has OpenSSL's own data behind it.
        data = der.first_element(_decode(body, path))
        if data is None:
            raise _damaged(path, "a certificate block is not DER inside")
        return Item(Kind.CERTIFICATE, der=data, pem=pem)
    if label in _LABELS:
        return Item(_LABELS[label], pem=pem)
    if label.endswith(b"PRIVATE KEY"):
        encrypted = re.match(rb"\s*Proc-Type:\s*4\s*,\s*ENCRYPTED", body) is not None
        return Item(Kind.ENCRYPTED_KEY if encrypted else Kind.PRIVATE_KEY, pem=pem)
    return Item(Kind.PUBLIC_KEY if label.endswith(b"PUBLIC KEY") else Kind.OTHER, pem=pem)


def _decode(body: bytes, path: Path) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise _damaged(path, "a certificate block is not base64 inside") from None


def _magic(data: bytes) -> Kind:
    if data[128:132] == b"DICM":
        return Kind.DICOM
    if data[:4] in (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"):
        return Kind.JAVA_KEYSTORE
    return Kind.UNKNOWN


def _damaged(path: Path, how: str) -> InputError:
    return InputError(
        f"`{path}` is damaged: {how}",
        "get the file again; a block runs from its `-----BEGIN` to its `-----END` line, both whole",
        slug="pem.damaged",
    )
