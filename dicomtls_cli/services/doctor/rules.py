"""PS3.15 B.12 and what it refers to (BCP 195: RFC 8996, RFC 9325) as rules over what was seen. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dicomtls_cli.services.doctor.facts import Facts

PROFILE = "PS3.15 B.12"
VERSION_WORDS = {"TLSv1": "TLS 1.0", "TLSv1.1": "TLS 1.1", "TLSv1.2": "TLS 1.2", "TLSv1.3": "TLS 1.3"}

RECOMMENDED = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""The TLS 1.2 suites that RFC 9325 4.2, and with it B.12, recommends (OpenSSL's names)."""

_LEAST_DH = 2048  # bits, RFC 9325 4.5
_SET_VERSIONS = (
    "allow TLS 1.2 and 1.3 only "
    "(Orthanc 1.12.4 and later: DicomTlsMinimumProtocolVersion; DCMTK: +pg, else +py)"
)
_SET_SUITES = (
    "leave it ECDHE with AES-GCM only (Orthanc 1.12.4 and later: DicomTlsCiphersAccepted; DCMTK: +pg)"
)


class Violation(NamedTuple):
    """What breaks which rule, at which step of the walk; `shall` False marks advice (SHOULD) instead of a duty.

    `text` is the rule in words, `names` what it is broken by, where that is a list.
    """

    step: str
    slug: str
    rule: str
    text: str
    fix: str
    shall: bool = True
    names: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The rule and where it is written."""
        return f"{self.text} ({self.rule})"

    @property
    def note(self) -> str:
        """The rule, where it is written, and what breaks it."""
        return f"{self.headline}: {', '.join(self.names)}" if self.names else self.headline


def violations(facts: Facts) -> list[Violation]:
    """Return what breaks the profile in how the peer of `facts` speaks TLS; certificates are judged elsewhere."""
    return [*_versions(facts), *_suites(facts), *_groups(facts), *_renegotiation(facts)]


def _versions(facts: Facts) -> Iterator[Violation]:
    accepted = facts.accepted_versions
    old = ["SSL 3.0"] if facts.speaks_ssl3 else []
    old += [VERSION_WORDS[name] for name in accepted if name in ("TLSv1", "TLSv1.1")]
    if old:
        yield Violation(
            "versions",
            "doctor.old-version",
            "RFC 8996" if accepted else "RFC 7568",
            f"{' and '.join(old)} must not be used",
            _SET_VERSIONS,
        )
    surveyed = facts.versions.get("TLSv1.2")
    if accepted and surveyed is not None and "TLSv1.2" not in accepted:
        yield Violation(
            "versions", "doctor.no-tls12", PROFILE, "TLS 1.2 shall be supported", "allow TLS 1.2 in the peer"
        )
    hello = facts.hello
    if "TLSv1.3" in accepted and hello is not None and hello.version not in ("", "TLSv1.3"):
        yield Violation(
            "versions",
            "doctor.prefers-older",
            PROFILE,
            f"TLS 1.3 shall be preferred, and {VERSION_WORDS.get(hello.version, hello.version)} was chosen",
            "let the peer choose the highest version that is offered",
        )


def suite_rule(name: str) -> tuple[str, bool] | None:
    """Return what is wrong with a TLS 1.2 suite (OpenSSL's name) and whether it is forbidden; None if nothing is."""
    kind = name.partition("-")[0]
    if "NULL" in name:
        return "without encryption", True
    if kind in ("ADH", "AECDH"):
        return "without authentication", True
    if "RC4" in name or kind == "EXP" or name.startswith(("DES-CBC-", "EDH-RSA-DES-CBC-")):
        return "that are broken (RC4, export, DES)", True
    if "DES-CBC3" in name:
        return "of less than 128 bits (3DES)", False
    if kind in ("DHE", "EDH"):
        return "with finite-field DH", False
    if kind != "ECDHE":
        return "without forward secrecy (static RSA)", False
    return None


def _suites(facts: Facts) -> Iterator[Violation]:
    judged = {name: rule for name in facts.suites if (rule := suite_rule(name))}
    for what, forbidden in sorted(dict.fromkeys(judged.values()), key=lambda rule: not rule[1]):
        yield Violation(
            "suites",
            "doctor.broken-suite" if forbidden else "doctor.weak-suite",
            "RFC 9325 4.1",
            f"suites {what} {'must' if forbidden else 'should'} not be used",
            _SET_SUITES,
            forbidden,
            tuple(name for name, rule in judged.items() if rule[0] == what),
        )
    if facts.suites and facts.suites_complete and not set(facts.suites) & set(RECOMMENDED):
        yield Violation(
            "suites",
            "doctor.no-recommended-suite",
            "RFC 9325 4.2",
            "none of the recommended suites (ECDHE with AES-GCM) is accepted",
            "allow ECDHE with AES-GCM in the peer",
            shall=False,
        )


def _groups(facts: Facts) -> Iterator[Violation]:
    seen = (facts.hello, *facts.versions.values())
    shown = {*facts.suites.values(), *(one.group for one in seen if one is not None)}
    weak = sorted(group for group in shown if group.startswith("DH ") and int(group[3:]) < _LEAST_DH)
    if weak:
        yield Violation(
            "groups",
            "doctor.weak-group",
            "RFC 9325 4.5",
            f"groups of less than {_LEAST_DH} bits must not be used",
            "give the peer a group of 2048 bits or more, or leave it ECDHE only",
            names=tuple(weak),
        )


def _renegotiation(facts: Facts) -> Iterator[Violation]:
    if any(seen.version and not seen.secure_renegotiation for seen in facts.versions.values()):
        yield Violation(
            "versions",
            "doctor.insecure-renegotiation",
            "RFC 9325 3.5",
            "secure renegotiation (RFC 5746) is not spoken, and current OpenSSL refuses such a peer",
            "update the TLS library of the peer",
        )
