"""How certificates, keys and requests belong together: chains, owners, duplicates. Pure."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.pki.algorithms import KeyFacts
from dicomtls_cli.pki.description import CertificateFacts
from dicomtls_cli.pki.holding import FoundKey, Holding
from dicomtls_cli.pki.issuer import issued_by

if TYPE_CHECKING:
    from cryptography import x509

_LONGEST = 16  # certificates of a chain
_NAMESAKES = 16  # CAs of one name that are tried as the issuer of a certificate


class Above(NamedTuple):
    """The certificates above one, nearest first, as far as they are known; `complete`: up to a self-signed one."""

    issuers: tuple[CertificateFacts, ...]
    complete: bool


class ChainFacts(NamedTuple):
    """Several certificates of one source, seen as one chain.

    `one` tells whether they are one, in whatever order; `in_order` whether each is issued by the next, as TLS
    sends them; `complete` whether the last one is self-signed; `wants` is the name of the issuer that is missing,
    "" where none is. `order` are their places in the right order.
    """

    one: bool
    in_order: bool = False
    complete: bool = False
    wants: str = ""
    order: tuple[int, ...] = ()


class Relations:
    """What the certificates and keys of several holdings have to do with each other."""

    def __init__(self, holdings: Sequence[Holding]) -> None:
        unique = {one.sha256: one for held in holdings for one in held.certificates}
        self._above = _above(unique)
        self._sources: dict[str, list[str]] = defaultdict(list)
        self._owners: dict[bytes, list[tuple[str, CertificateFacts]]] = defaultdict(list)
        self._keys: dict[bytes, list[tuple[Holding, FoundKey]]] = defaultdict(list)
        self._revoked: dict[str | None, set[int]] = defaultdict(set)
        for held in holdings:
            for digest, one in {one.sha256: one for one in held.certificates}.items():
                self._sources[digest].append(held.source)
                if one.key is not None:
                    self._owners[one.key.digest].append((held.source, one))
            for key in held.keys:
                if key.private and key.facts is not None:
                    self._keys[key.facts.digest].append((held, key))
            for crl in held.crls:
                self._revoked[crl.issuer] |= crl.revoked

    def above(self, certificate: CertificateFacts) -> Above:
        """Return what stands above `certificate` in all holdings."""
        return self._above[certificate.sha256]

    def chain(self, holding: Holding) -> ChainFacts | None:
        """Return what the certificates of `holding` are as a chain; None where it has none."""
        return _chain(holding.certificates) if holding.certificates else None

    def owners(self, key: KeyFacts | None) -> list[tuple[str, CertificateFacts]]:
        """Return the certificates of this key, each with the source it is in."""
        return self._owners.get(key.digest, []) if key is not None else []

    def private_keys(self, key: KeyFacts | None) -> list[tuple[Holding, FoundKey]]:
        """Return where the private half of this key is."""
        return self._keys.get(key.digest, []) if key is not None else []

    def others_with(self, certificate: CertificateFacts, source: str) -> list[str]:
        """Return the other sources that hold the same certificate."""
        return [other for other in self._sources[certificate.sha256] if other != source]

    def is_revoked(self, certificate: CertificateFacts) -> bool:
        """Tell whether a revocation list among the holdings, of the certificate's issuer by name, has it."""
        return bool(certificate.serial) and int(certificate.serial, 16) in self._revoked.get(
            certificate.issuer, ()
        )


def _above(certificates: Mapping[str, CertificateFacts]) -> dict[str, Above]:
    parsed = {one.sha256: found for one in certificates.values() if (found := _parse(one)) is not None}
    named: dict[str, list[str]] = defaultdict(list)
    for digest, one in certificates.items():
        if digest in parsed and one.subject is not None:
            named[one.subject].append(digest)
    issuer_of: dict[str, str] = {}
    for digest, certificate in parsed.items():
        facts = certificates[digest]
        if facts.self_signed:
            continue
        for other in named.get(facts.issuer or "", [])[:_NAMESAKES]:
            if other != digest and issued_by(certificate, parsed[other]):
                issuer_of[digest] = other
                break
    return {digest: _path(digest, issuer_of, certificates) for digest in certificates}


def _path(digest: str, issuer_of: Mapping[str, str], certificates: Mapping[str, CertificateFacts]) -> Above:
    path = [digest]
    while len(path) <= _LONGEST and (issuer := issuer_of.get(path[-1])) is not None and issuer not in path:
        path.append(issuer)
    issuers = tuple(certificates[one] for one in path[1:])
    return Above(issuers, certificates[path[-1]].self_signed)


def _chain(certificates: Sequence[CertificateFacts]) -> ChainFacts:
    unique = {one.sha256: one for one in certificates}
    if len(unique) > _LONGEST:
        return ChainFacts(one=False)
    places = {
        digest: place for place, digest in reversed(list(enumerate(one.sha256 for one in certificates)))
    }
    above = _above(unique)
    for leaf, path in above.items():
        digests = (leaf, *(one.sha256 for one in path.issuers))
        if len(digests) == len(unique):
            order = tuple(places[digest] for digest in digests)
            last = unique[digests[-1]]
            wants = "" if path.complete else last.issuer or "an unreadable issuer"
            return ChainFacts(True, tuple(unique) == digests, path.complete, wants, order)
    return ChainFacts(one=False)


def _parse(facts: CertificateFacts) -> x509.Certificate | None:
    from cryptography import x509

    if not facts.readable:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(facts.der)
