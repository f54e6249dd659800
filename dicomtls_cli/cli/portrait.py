"""What `inspect` found, in lines for people. Whatever a file or peer says is made printable here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from dicomtls_cli.cli.terminal import counted
from dicomtls_cli.errors import printable
from dicomtls_cli.pki.algorithms import KeyFacts
from dicomtls_cli.pki.circumstances import is_authority
from dicomtls_cli.pki.compatibility import Answer, Program, Use, Verdict
from dicomtls_cli.pki.contents import Kind
from dicomtls_cli.pki.description import CertificateFacts, CrlFacts, RequestFacts
from dicomtls_cli.pki.holding import FoundKey, Holding
from dicomtls_cli.pki.relations import ChainFacts
from dicomtls_cli.services.inspection import Found, Inspection
from dicomtls_cli.services.shown import Shown

_SHOWN_NAMES = 20
_LONGEST = 5000  # characters of a line
_PROGRAMS = {
    Program.OURS: "dicomtls",
    Program.ORTHANC: "Orthanc",
    Program.DCMTK: "DCMTK",
    Program.JAVA: "Java",
    Program.RUSTLS: "dicom-rs",
}
_TOLD = (
    "same-subject",
    "same-identifier",
    "weak-signature",
    "weak-key",
    "ca-true",
)  # the verdicts say the rest
_USES = {Use.SCP: "an SCP's", Use.SCU: "an SCU's", Use.OWN: "its own"}


def heading(found: Found) -> str:
    """Return the line above what is said of one file or peer."""
    held = found.holding
    parts = [
        _counted(len(held.certificates), "certificate"),
        _counted(sum(key.private for key in held.keys), "private key"),
        _counted(sum(not key.private for key in held.keys), "public key"),
        _counted(len(held.requests), "signing request"),
        _counted(len(held.crls), "revocation list"),
    ]
    return f"{_text(held.source)}: {held.form}, {', '.join(part for part in parts if part) or 'nothing'}"


def lines(found: Found, inspection: Inspection) -> Iterator[str]:
    """Yield what there is to say of one file or peer, line by line."""
    held = found.holding
    if found.shown is not None:
        yield from _peer_lines(found.shown)
    yield from _chain_lines(held, inspection.relations.chain(held))
    told: dict[str, int] = {}
    for number, one in enumerate(held.certificates, 1):
        if (first := told.setdefault(one.sha256, number)) != number:
            yield f" certificate {number}: the same as certificate {first}"
            continue
        if len(held.certificates) > 1:
            yield f" certificate {number}"
        yield from _certificate_lines(one, held, inspection)
    for key in held.keys:
        yield from _key_lines(key, inspection)
    if held.store_keys > 1:
        yield _line("note", f"it holds {held.store_keys} private keys; the first is told of, and used")
    for request in held.requests:
        yield from _request_lines(request, inspection)
    for crl in held.crls:
        yield from _crl_lines(crl, inspection.now)


def _peer_lines(shown: Shown) -> Iterator[str]:
    if shown.failure is None:
        yield _line("connection", f"{shown.version}, {shown.cipher}")
    else:
        yield _line("connection", f"it showed this, then: {shown.failure.message}")
    asks = "it asks for one of ours" if shown.certificate_requested else "it asks for none of ours"
    yield _line("client", asks)


def _chain_lines(held: Holding, chain: ChainFacts | None) -> Iterator[str]:
    if chain is None:
        return
    if held.duplicates:
        yield _line("duplicates", f"{counted(held.duplicates, 'certificate')} in it more than once")
    if len(held.certificates) - held.duplicates < 2:
        return
    if not chain.one:
        yield _line("chain", "these are not one chain")
        return
    order = "in order" if chain.in_order else f"out of order: write {_order(chain.order)}, own one first"
    end = "complete" if chain.complete else f"its end, `{_text(chain.wants)}`, is for the other side to have"
    yield _line("chain", f"{order}; {end}")


def _order(places: Sequence[int]) -> str:
    return ", ".join(str(place + 1) for place in places)


def _certificate_lines(one: CertificateFacts, held: Holding, inspection: Inspection) -> Iterator[str]:
    relations = inspection.relations
    if one.unread:
        yield _line("unreadable", ", ".join(one.unread))
    if one.readable:
        issuer = "itself (self-signed)" if one.self_signed else _text(one.issuer or "unreadable")
        yield _line("subject", _text(one.subject or ("unreadable" if one.subject is None else "(empty)")))
        yield _line("issuer", issuer)
        yield _line("names", _names(one.names))
        yield _line("valid", _validity(one.not_before, one.not_after, inspection.now))
        yield _line("serial", f"{one.serial or 'unreadable'}, X.509 version {one.version}")
        yield _line("key", str(one.key) if one.key else "unreadable, or of a kind unknown here")
        yield _line("signature", _text(one.signature.text) if one.signature else "unreadable")
        yield _line("usage", _usage(one))
        yield _line("constraints", _constraints(one))
        if one.critical:
            yield _line("critical", f"unknown extensions {', '.join(one.critical)}")
        yield _line("key id", f"{one.subject_key_id or 'none'}; issuer's {one.authority_key_id or 'none'}")
    yield _line("SHA-256", f"{one.sha256} (as `--pin` takes it)")
    yield _line("SHA-1", one.sha1)
    yield _line("private key", _keys(one.key, inspection))
    if others := relations.others_with(one, held.source):
        yield _line("also in", ", ".join(map(_text, others)))
    if relations.is_revoked(one):
        yield _line("revoked", "a revocation list here has it")
    for finding in inspection.findings(one):
        if finding.code in _TOLD:
            yield _line("note", finding.text)
    yield from _verdict_lines(one, inspection.verdicts(one))


def _keys(key: KeyFacts | None, inspection: Inspection) -> str:
    keys = inspection.relations.private_keys(key)
    return f"in {', '.join(_text(held.source) for held, _ in keys)}" if keys else "not here"


def _names(names: Sequence[tuple[str, str]]) -> str:
    if not names:
        return "none"
    shown = [_text(value) if kind in ("DNS", "IP") else f"{kind} {_text(value)}" for kind, value in names]
    more = f", and {len(shown) - _SHOWN_NAMES} more" if len(shown) > _SHOWN_NAMES else ""
    return ", ".join(shown[:_SHOWN_NAMES]) + more


def _validity(start: datetime | None, end: datetime | None, now: datetime) -> str:
    if start is None or end is None:
        return "unreadable"
    span = f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    if start > now:
        return f"{span}: NOT YET VALID"
    return f"{span}: {_left(end, now)}"


def _left(end: datetime, now: datetime) -> str:
    if end < now:
        return f"EXPIRED {counted((now - end).days, 'day')} ago"
    return f"{counted((end - now).days, 'day')} left"


def _usage(one: CertificateFacts) -> str:
    key_usage = "any" if one.key_usage is None else ", ".join(one.key_usage) or "none"
    extended = "any" if one.extended_usage is None else ", ".join(one.extended_usage) or "none"
    return f"{key_usage}; extended {extended}"


def _constraints(one: CertificateFacts) -> str:
    if one.ca is None:
        return "none"
    if not one.ca:
        return "CA:FALSE"
    limit = "" if one.path_length is None else f", at most {counted(one.path_length, 'CA')} below it"
    return f"CA:TRUE{limit}{'' if 'keyCertSign' in (one.key_usage or ()) else ', without keyCertSign'}"


def _verdict_lines(one: CertificateFacts, verdicts: Sequence[Verdict]) -> Iterator[str]:
    if is_authority(one):
        yield _line("works with", "a CA's: it vouches for what it signs, and is not shown as one's own")
        return
    uses = list(dict.fromkeys(verdict.use for verdict in verdicts))
    answers = {(verdict.program, verdict.use): verdict.answer for verdict in verdicts}
    yield _line("works with", "".join(f"{_USES[use]:<10}" for use in uses).rstrip())
    for program, name in _PROGRAMS.items():
        row = "".join(f"{answers.get((program, use), '-'):<10}" for use in uses)
        yield f"    {name:<11} {row}".rstrip()
    reasons: dict[tuple[Answer, str], list[str]] = {}
    for verdict in verdicts:
        for reason in verdict.reasons:
            place = f"{_PROGRAMS[verdict.program]} as {_USES[verdict.use]}"
            reasons.setdefault((verdict.answer, reason.text), []).append(place)
    for (answer, text), places in reasons.items():
        yield f"    {answer}: {printable(text)} ({_places(places)})"


def _places(places: Sequence[str]) -> str:
    """Return `A as an SCP's`, places with the same use together: `A, B as an SCP's`."""
    by_use: dict[str, list[str]] = {}
    for place in places:
        program, _, use = place.partition(" as ")
        by_use.setdefault(use, []).append(program)
    by_programs: dict[str, list[str]] = {}
    for use, programs in by_use.items():
        by_programs.setdefault(", ".join(programs), []).append(use)
    return "; ".join(f"{programs} as {' and '.join(uses)}" for programs, uses in by_programs.items())


def _key_lines(key: FoundKey, inspection: Inspection) -> Iterator[str]:
    what = "private key" if key.private else "public key"
    if key.kind is Kind.OPENSSH_KEY:
        yield _line(
            what,
            "in OpenSSH's form, which TLS does not read; convert a copy: `ssh-keygen -p -m PKCS8 -f COPY`",
        )
        return
    under = ", under a passphrase" if key.encrypted else ""
    if key.facts is None:
        yield _line(what, "under a passphrase: what it is and whose is told with `--passphrase-file FILE`")
    else:
        yield _line(what, f"{key.facts}{under}")
        yield _line("belongs to", _owners(key.facts, inspection))
    if key.encrypted:
        yield _line("works with", "all but Orthanc, which cannot be given a passphrase")


def _owners(key: KeyFacts, inspection: Inspection) -> str:
    owners = inspection.relations.owners(key)
    if owners:
        return ", ".join(
            f"{_text(one.subject or '(no subject)')} in {_text(source)}" for source, one in owners
        )
    present = any(found.holding.certificates for found in inspection.found)
    return "NONE of the certificates here" if present else "no certificate was named"


def _request_lines(request: RequestFacts, inspection: Inspection) -> Iterator[str]:
    yield _line("request", _text(request.subject or "(no subject)"))
    yield _line("names", _names(request.names))
    yield _line("key", str(request.key) if request.key else "unreadable, or of a kind unknown here")
    whole = "by its own key" if request.whole else "NOT by its own key, or damaged"
    yield _line(
        "signature", f"{_text(request.signature.text) if request.signature else 'unreadable'}, {whole}"
    )
    yield _line("private key", _keys(request.key, inspection))
    if request.key is not None and inspection.relations.owners(request.key):
        yield _line("issued", _owners(request.key, inspection))


def _crl_lines(crl: CrlFacts, now: datetime) -> Iterator[str]:
    yield _line("list of", _text(crl.issuer or "unreadable"))
    end = (
        "no end"
        if crl.next_update is None
        else f"{crl.next_update:%Y-%m-%d %H:%M} UTC: {_left(crl.next_update, now)}"
    )
    start = "unreadable" if crl.last_update is None else f"{crl.last_update:%Y-%m-%d %H:%M}"
    yield _line("valid", f"{start} to {end}")
    yield _line("signature", _text(crl.signature.text) if crl.signature else "unreadable")
    yield _line("number", "none" if crl.number is None else str(crl.number))
    yield _line("revoked", counted(len(crl.revoked), "certificate"))


def _counted(count: int, noun: str) -> str:
    return counted(count, noun) if count else ""


def _text(text: str) -> str:
    return printable(text, 200)


def _line(label: str, text: str) -> str:
    return f"  {label:<13} {printable(text, _LONGEST)}"  # an OID, say, may be as long as a certificate
