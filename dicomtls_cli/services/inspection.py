"""What files hold and peers show, looked at together: who belongs to whom, who takes it, and what ends soon."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.pki.bundle import describe
from dicomtls_cli.pki.circumstances import Case, is_authority
from dicomtls_cli.pki.compatibility import Use, Verdict, judge
from dicomtls_cli.pki.description import CertificateFacts
from dicomtls_cli.pki.findings import Finding, find
from dicomtls_cli.pki.holding import Holding, read_holding, shown_holding
from dicomtls_cli.pki.keystore import Password
from dicomtls_cli.pki.relations import Relations
from dicomtls_cli.services.peer import Peer, Timeouts
from dicomtls_cli.services.shown import Shown, shown_by
from dicomtls_cli.tls.profiles import PROFILES

_WIDEST = PROFILES["bcp195"]  # a peer that is out of date is looked at all the same
_NAMESAKES = ("same-subject", "same-identifier")
_COMPARED = 500  # certificates: each is compared with all of its name


class Found(NamedTuple):
    """What is in one file (`shown` None), or what one peer showed and how its handshake came out."""

    holding: Holding
    shown: Shown | None = None


class Ending(NamedTuple):
    """A certificate or revocation list of `source` that ends too soon; `at` None where that cannot be read."""

    source: str
    subject: str
    at: datetime | None


def look_at(
    target: Path | Peer,
    password: Password = None,
    *,
    timeouts: Timeouts | None = None,
    family: socket.AddressFamily = socket.AF_UNSPEC,
) -> Found:
    """Read the file, or dial the peer, that `target` is; raise DicomTlsError where there is nothing to see."""
    if isinstance(target, Path):
        return Found(read_holding(target, password))
    shown = shown_by(target, timeouts or Timeouts(), family=family, profile=_WIDEST)
    return Found(shown_holding(str(target), shown.certificates), shown)


class Inspection:
    """Everything that was found, seen together, at one time (`now`, aware)."""

    def __init__(self, found: Sequence[Found], now: datetime | None = None) -> None:
        self.found = tuple(found)
        self.now = now or datetime.now(UTC)
        self.relations = Relations([one.holding for one in found])
        self._findings: dict[str, list[Finding]] | None = None

    def verdicts(self, certificate: CertificateFacts) -> list[Verdict]:
        """Return who takes `certificate`, trusted through its CA where that is here; none for a CA's.

        Whether it works as a program's own is asked where its private key is here.
        """
        if is_authority(certificate):
            return []
        above = self.relations.above(certificate)
        namesake = any(finding.code in _NAMESAKES for finding in self.findings(certificate))
        case = Case(certificate, self.now, above.issuers, above.complete, namesake=namesake)
        for held, key in self.relations.private_keys(certificate.key)[:1]:
            case = case._replace(key_encrypted=key.encrypted, pem=held.form == "PEM")
            return judge(case, tuple(Use))
        return judge(case)

    def findings(self, certificate: CertificateFacts) -> list[Finding]:
        """Return what `bundle --check` would find wrong with `certificate` among all that are here."""
        if self._findings is None:
            self._findings = defaultdict(list)
            unique = dict.fromkeys(one.der for found in self.found for one in found.holding.certificates)
            if len(unique) <= _COMPARED:
                for finding in find([describe(der) for der in unique], now=self.now):
                    self._findings[finding.certificate.sha256].append(finding)
        return self._findings.get(certificate.sha256, [])

    def endings(self, within: timedelta) -> list[Ending]:
        """Return what ends before `within` has passed, or has ended; what is found twice in one source counts once."""
        limit = self.now + within
        unique = dict.fromkeys(entry for one in self.found for entry in _dated(one.holding))
        return [entry for entry in unique if entry.at is None or entry.at <= limit]


def _dated(holding: Holding) -> Iterator[Ending]:
    for one in holding.certificates:
        yield Ending(holding.source, one.subject or "unreadable subject", one.not_after)
    for crl in holding.crls:
        if crl.next_update is not None:  # RFC 5280 wants one; a list without it never ends
            yield Ending(
                holding.source, f"revocation list of {crl.issuer or 'an unreadable issuer'}", crl.next_update
            )
