"""What `pki` makes from files and `tls` builds contexts from; neither knows the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias


class KeyPair(NamedTuple):
    """Own certificate chain and private key, as `ssl.SSLContext.load_cert_chain` takes them.

    `cert_file` is PEM, own certificate first, then its chain; `key_file` is PEM and may be the same file.
    `passphrase` is called only when the key is encrypted.
    """

    cert_file: str
    key_file: str
    passphrase: Callable[[], bytes]

    def __repr__(self) -> str:
        return f"KeyPair({self.cert_file!r}, {self.key_file!r})"


class Prompt:
    """A passphrase that a person is asked for: once, and after everything that may open without asking."""

    def __init__(self, ask: Callable[[], bytes]) -> None:
        self._ask = ask
        self._answer: bytes | None = None

    def __call__(self) -> bytes:
        """Return the answer; a reload (SIGHUP) has nobody to ask, and gets the first one again."""
        if self._answer is None:
            self._answer = self._ask()
        return self._answer


class Refusal(NamedTuple):
    """Why a peer is not taken although its chain verifies: a slug, and a message and a hint for people."""

    slug: str
    message: str
    hint: str


RevocationCheck: TypeAlias = Callable[[Sequence[bytes], bool], Refusal | None]
"""Is a peer revoked? Asked with its verified chain (DER, its own first) and whether its certificate is an anchor."""


class Trust(NamedTuple):
    """The certificates a peer is measured by.

    `anchors` are DER certificates in the order of the files; each vouches for itself, and for what it
    signed if it is a CA. `authorities` are the SHA-256 digests of those the user named as CAs on purpose.
    `system` adds this machine's own CAs (they vouch by name only). `revocation` is asked about every peer
    that is otherwise taken; None: no revocation lists are wanted.
    """

    anchors: tuple[bytes, ...]
    authorities: frozenset[bytes] = frozenset()
    system: bool = False
    revocation: RevocationCheck | None = None

    @property
    def pins(self) -> frozenset[bytes]:
        """SHA-256 digests of all anchors."""
        return frozenset(hashlib.sha256(der).digest() for der in self.anchors)
