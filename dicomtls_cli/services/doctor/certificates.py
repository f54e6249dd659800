"""What is to be said of the certificates a peer shows: chain, dates, strength, use. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from dicomtls_cli.errors import printable
from dicomtls_cli.pki.bundle import BundledCertificate, describe
from dicomtls_cli.pki.findings import Finding, find
from dicomtls_cli.services.doctor.judgement import Step, found, passed, skipped, warned

_MOST_SHOWN = 8
_NEW_ONE = "the peer needs a new certificate: `dicomtls gencert NAME` makes one that fits"
_DATES = ("expired", "not-yet-valid", "expires-soon")
_STRENGTH = ("weak-key", "weak-signature", "unreadable")
_USE = ("ca-true", "wrong-eku")


def judge_certificates(chain: tuple[bytes, ...], now: datetime) -> Iterator[Step]:
    """Judge the `chain` (DER, the peer's own first) at `now` (aware)."""
    if not chain:
        for name in ("chain", "dates", "strength", "usage"):
            yield skipped(name, "the peer showed no certificate")
        return
    described = [describe(der) for der in chain]
    findings = find(described, now=now)
    yield passed("chain", _chain_words(described))
    yield _dates(described[0], findings, now)
    yield _strength(findings)
    yield _use(described[0], findings)


def _chain_words(described: list[BundledCertificate]) -> str:
    names = [_name(one) for one in described[:_MOST_SHOWN]]
    more = f", and {len(described) - _MOST_SHOWN} more" if len(described) > _MOST_SHOWN else ""
    sent = f"; with it {', '.join(names[1:])}{more}" if len(names) > 1 else ", sent alone"
    return f"{names[0]} (SHA-256 {described[0].sha256}){sent}"


def _name(one: BundledCertificate) -> str:
    return "unreadable subject" if one.subject is None else printable(one.subject, 200) or "(no subject)"


def _of(findings: list[Finding], codes: tuple[str, ...]) -> list[Finding]:
    return [one for one in findings if one.code in codes]


def _words(findings: list[Finding]) -> str:
    return "; ".join(f"{_name(one.certificate)} {one.text}" for one in findings[:_MOST_SHOWN])


def _dates(own: BundledCertificate, findings: list[Finding], now: datetime) -> Step:
    about = _of(findings, _DATES)
    if any(one.code != "expires-soon" for one in about):
        return found("dates", _words(about), f"{_NEW_ONE}; or a clock is wrong", "doctor.certificate-dates")
    if about:
        return warned("dates", _words(about), _NEW_ONE, "doctor.expires-soon")
    if own.not_before is None or own.not_after is None:
        return skipped("dates", "its dates cannot be read")
    days = (own.not_after - now.astimezone(UTC)).days
    return passed(
        "dates", f"valid from {own.not_before:%Y-%m-%d} to {own.not_after:%Y-%m-%d}, {days} more days"
    )


def _strength(findings: list[Finding]) -> Step:
    about = _of(findings, _STRENGTH)
    if about:
        return found("strength", _words(about), _NEW_ONE, "doctor.weak-certificate")
    return passed("strength", "key and signature are strong enough (RSA 2048 or ECC 256, SHA-256, or better)")


def _use(own: BundledCertificate, findings: list[Finding]) -> Step:
    about = [one for one in _of(findings, _USE) if one.certificate is own]
    if about:
        return warned("usage", _words(about), _NEW_ONE, "doctor.certificate-usage")
    return passed("usage", "made for both roles, SCP and SCU")
