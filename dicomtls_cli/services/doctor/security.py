"""How a peer speaks TLS, judged: versions, suites, groups, who it is, and whom it lets in. Pure."""

from __future__ import annotations

import hashlib
from datetime import datetime

from dicomtls_cli.errors import ExitCode, printable
from dicomtls_cli.services.doctor.certificates import judge_certificates
from dicomtls_cli.services.doctor.facts import Facts
from dicomtls_cli.services.doctor.judgement import Step, found, passed, skipped, stopped, warned
from dicomtls_cli.services.doctor.rules import RECOMMENDED, VERSION_WORDS, Violation
from dicomtls_cli.tls.survey import VERSIONS, Ending, Seen

_IDENTITY_SLUGS = ("tls.name-mismatch", "tls.peer-not-pinned", "tls.pin-mismatch")
_NOT_LOOKED_AT = "the certificate is not looked at, as was asked for"
_GIVE_CERTIFICATE = "give `--cert FILE --key FILE` to see whether the peer takes it"
_IDENTIFIED = {
    "pin": "it is one of the trusted certificates itself",
    "name": "a trusted CA vouches for it, and it names the host",
    "chain": "its chain is trusted; who it is was not asked",
}


def judge_tls(facts: Facts, broken: list[Violation], now: datetime) -> list[Step]:
    """Return the steps about TLS, in the order of a handshake; `broken` are the rules that the peer breaks."""
    return [
        _versions(facts, broken),
        _suites(facts, broken),
        _groups(facts, broken),
        *judge_certificates(facts.chain, now),
        _handshake(facts),
        _trust(facts),
        _identity(facts),
        _client_certificate(facts),
        _stranger(facts),
        _alpn(facts),
    ]


def _with(step: Step, broken: list[Violation]) -> Step:
    """Return `step` with what it breaks; the rules it breaks decide its status."""
    about = [one for one in broken if one.step == step.name]
    if not about:
        return step
    worst = next((one for one in about if one.shall), about[0])
    judge = found if worst.shall else warned
    judged = judge(step.name, step.text, worst.fix, worst.slug)
    return judged._replace(notes=tuple(one.note for one in about))


def _versions(facts: Facts, broken: list[Violation]) -> Step:
    if not facts.versions:
        return skipped("versions", facts.untold)
    accepted = [
        f"{VERSION_WORDS[name]} ({facts.versions[name].cipher})"
        for name in VERSIONS
        if name in facts.accepted_versions
    ]
    unclear = [
        VERSION_WORDS[name]
        for name, seen in facts.versions.items()
        if name not in facts.accepted_versions and not _refuses(seen)
    ]
    unclear += [VERSION_WORDS[name] for name in VERSIONS if name not in facts.versions]
    if not accepted:
        why = facts.cut_short or "no version of TLS was chosen by the peer"
        return _with(skipped("versions", why), broken)
    text = f"accepted: {', '.join(accepted)}" + (f"; not told: {', '.join(unclear)}" if unclear else "")
    return _with(passed("versions", text), broken)


def _refuses(seen: Seen) -> bool:
    """Tell whether a version that was not chosen was refused, not merely left unanswered or never offered."""
    return seen.ending not in (Ending.SILENT, Ending.NOT_OFFERED, Ending.TOO_MUCH)


def _suites(facts: Facts, broken: list[Violation]) -> Step:
    parts = []
    if facts.suites_13:
        parts.append(f"TLS 1.3: {', '.join(facts.suites_13)}")
    if facts.suites:
        more = "" if facts.suites_complete else " and perhaps more"
        good = sum(name in RECOMMENDED for name in facts.suites)
        parts.append(f"TLS 1.2: {', '.join(facts.suites)}{more} ({good} of {len(facts.suites)} recommended)")
    if not parts:
        return skipped("suites", facts.untold)
    return _with(passed("suites", "; ".join(parts)), broken)


def _groups(facts: Facts, broken: list[Violation]) -> Step:
    accepted = [name for name, taken in facts.groups.items() if taken]
    others = sorted({group for group in facts.suites.values() if group.startswith("DH ")})
    if not accepted and not others:
        return _with(
            skipped("groups", "no suite with a group was chosen" if facts.suites else facts.untold), broken
        )
    refused = [name for name, taken in facts.groups.items() if not taken]
    text = f"accepted: {', '.join((*accepted, *others))}"
    return _with(passed("groups", text + (f"; refused: {', '.join(refused)}" if refused else "")), broken)


_HANDSHAKE_CODES = (ExitCode.NO_COMMON_TLS, ExitCode.UNREACHABLE)


def _handshake(facts: Facts) -> Step:
    """Judge the handshake that our own options lead to."""
    name, error = "handshake", facts.refusal
    if facts.tls is not None:
        return passed(name, f"as we would do it: {VERSION_WORDS[facts.tls.version]}, {facts.tls.cipher}")
    if error is None or error.exit_code not in _HANDSHAKE_CODES:
        return skipped(name, facts.cut_short or "it was ended, for the reason below")
    return stopped(name, error)


def _give_trust(facts: Facts) -> str:
    """Return how to come to trust the peer: its certificate was seen, and only its owner knows whether it is right."""
    if not facts.chain:
        return "give the peer's certificate, or its CA's, with `--trust FILE`"
    digest = hashlib.sha256(facts.chain[0]).hexdigest()
    return (
        "give the peer's certificate, or its CA's, with `--trust FILE`; if its owner says that its SHA-256 is "
        f"the one above, `dicomtls bundle --from {facts.peer} --fingerprint {digest} -o trusted.crt` makes the file"
    )


def _trust(facts: Facts) -> Step:
    if not facts.trusts:
        return skipped("trust", "nobody said which certificates are trusted", _give_trust(facts))
    if facts.tls is not None and not facts.tls.identified_by:
        return skipped("trust", _NOT_LOOKED_AT)
    if facts.tls is not None or (facts.ours is not None and facts.ours.handshake_done):
        return passed("trust", "the chain leads to a trusted certificate")
    error = facts.refusal
    if error is not None and error.exit_code is ExitCode.PEER_UNTRUSTED:
        if error.slug in _IDENTITY_SLUGS:
            return passed("trust", "the chain leads to a trusted certificate")
        step = stopped("trust", error)
        return step._replace(fix=_give_trust(facts)) if error.slug == "tls.peer-untrusted" else step
    return skipped("trust", "the handshake did not come so far")


def _identity(facts: Facts) -> Step:
    known = facts.tls.identified_by if facts.tls else facts.ours.identified_by if facts.ours else ""
    if facts.trusts and known:
        return passed("identity", _IDENTIFIED.get(known, printable(known)))
    error = facts.refusal
    if error is not None and error.slug in _IDENTITY_SLUGS:
        return stopped("identity", error)
    if not facts.trusts:
        return skipped("identity", "nobody said which certificates are trusted", "as for `trust`")
    if facts.tls is not None:
        return skipped("identity", _NOT_LOOKED_AT)
    return skipped("identity", "the handshake did not come so far")


def _requested(facts: Facts) -> bool:
    seen = [facts.hello, facts.ours, *facts.versions.values()]
    return any(one is not None and one.certificate_requested for one in seen) or (
        facts.tls is not None and facts.tls.certificate_requested
    )


def _without(facts: Facts) -> bool | None:
    """Tell whether the peer takes a client that shows no certificate; None where that is not known."""
    for seen in (facts.versions.get("TLSv1.2"), facts.hello):
        if seen is not None and seen.version:
            if seen.ending is Ending.DONE:
                return True
            if seen.certificate_requested and seen.ending in (Ending.ALERT, Ending.CLOSED, Ending.RESET):
                return False
    return None


def _client_certificate(facts: Facts) -> Step:
    name, error = "client-certificate", facts.refusal
    if error is not None and error.exit_code is ExitCode.REFUSED_BY_PEER:
        return stopped(name, error)
    if not _requested(facts):
        if facts.tls is None and not any(seen and seen.handshake_done for seen in (facts.hello, facts.ours)):
            return skipped(name, "the handshake did not come so far")
        return warned(
            name,
            "none is asked for: anybody may connect",
            "let the peer require certificates (Orthanc: DicomTlsRemoteCertificateRequired; DCMTK: -rc)",
            "doctor.anybody-connects",
        )
    without = _without(facts)
    ours = "" if not facts.shows_certificate else "; ours is accepted" if facts.associated else ""
    if without:
        return warned(
            name,
            f"one is asked for, but none is needed: anybody may connect{ours}",
            "let the peer require certificates (Orthanc: DicomTlsRemoteCertificateRequired; DCMTK: -rc)",
            "doctor.anybody-connects",
        )
    told = "one is required" if without is False else "one is asked for"
    if facts.shows_certificate and facts.associated is None:
        return skipped(name, f"{told}; whether ours is accepted was not told")
    if not facts.shows_certificate:
        return skipped(name, f"{told}, and none was given", _GIVE_CERTIFICATE)
    return passed(name, f"{told}{ours}")


def _stranger(facts: Facts) -> Step:
    name, seen = "stranger", facts.stranger
    if seen is None:
        if facts.asked_stranger:
            return skipped(name, facts.untold)
        return skipped(
            name, "not asked whether a certificate that nobody knows is taken", "`--probe-stranger` asks"
        )
    if not seen.certificate_requested:
        return skipped(name, "no certificate is asked for, so there is none to refuse")
    if seen.ending is Ending.DONE:
        return found(
            name,
            "a certificate that nobody can know is accepted: asking for one keeps nobody out",
            "let the peer verify certificates (Orthanc: DicomTlsTrustedCertificates; DCMTK: +cf with -rc)",
            "doctor.stranger-accepted",
        )
    if seen.ending in (Ending.ALERT, Ending.CLOSED, Ending.RESET):
        return passed(name, "a certificate that nobody knows is refused")
    return skipped(name, "the peer did not say what it makes of a certificate that nobody knows")


def _alpn(facts: Facts) -> Step:
    if facts.hello is None or not facts.hello.handshake_done:
        return skipped("alpn", "no handshake without a certificate came to an end")
    chosen = facts.hello.alpn
    return passed("alpn", f"`{printable(chosen)}` was chosen" if chosen else "not spoken, which does no harm")
