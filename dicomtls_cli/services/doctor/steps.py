"""What was seen of a peer, judged: one step after the other, each with what it means and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from dicomtls_cli.errors import ExitCode, printable
from dicomtls_cli.services.doctor.facts import Facts, Speaks
from dicomtls_cli.services.doctor.judgement import Status, Step, found, passed, skipped, stopped, warned
from dicomtls_cli.services.doctor.rules import PROFILE, Violation, violations
from dicomtls_cli.services.doctor.security import judge_tls
from dicomtls_cli.tls.names import is_address


def judge(facts: Facts, *, now: datetime) -> list[Step]:
    """Return every step of the walk with what is to be said of it, at `now` (aware), in the order of a connection."""
    broken = violations(facts)
    steps = [_resolve(facts), *_connect(facts), _protocol(facts)]
    if facts.wants_tls and facts.speaks is Speaks.TLS:
        steps += judge_tls(facts, broken, now)
    steps.append(_association(facts, steps))
    steps.append(_echo(facts, steps))
    steps.append(_latency(facts))
    steps += _budget(facts)
    steps.append(_profile(facts, steps, broken))
    return steps


def exit_code(steps: list[Step]) -> ExitCode:
    """Return what `doctor` ends with: what stops a C-ECHO, else FINDING where the profile is broken, else OK."""
    codes = [step.exit_code for step in steps if step.status is Status.FAIL and step.exit_code]
    return next((code for code in codes if code is not ExitCode.FINDING), codes[0] if codes else ExitCode.OK)


def decisive(steps: list[Step]) -> Step | None:
    """Return the step that the exit code comes from; None where all is well."""
    code = exit_code(steps)
    return next((step for step in reversed(steps) if code and step.exit_code is code), None)


# ---------------------------------------------------------------------- name, TCP, protocol


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _resolve(facts: Facts) -> Step:
    if facts.resolve_error is not None:
        return stopped("resolve", facts.resolve_error)
    if is_address(facts.peer.host):
        return passed("resolve", f"{facts.peer.host} is an address")
    addresses = ", ".join(one.address for one in facts.addresses) or "no address"
    return passed("resolve", f"{facts.peer.host} is {addresses} ({_milliseconds(facts.resolve_seconds)})")


def _connect(facts: Facts) -> Iterator[Step]:
    reached = [one for one in facts.addresses if one.error is None]
    refused = [one for one in facts.addresses if one.error is not None]
    if not reached:
        error = refused[0].error if refused else None
        yield stopped("connect", error) if error else skipped("connect", "there is no address to connect to")
        return
    said = ", ".join(f"{one.address} in {_milliseconds(one.seconds)}" for one in reached)
    if not refused:
        yield passed("connect", f"port {facts.peer.port} answers: {said}")
        return
    dead = ", ".join(one.address for one in refused)
    yield warned(
        "connect",
        f"port {facts.peer.port} answers: {said}; but not at {dead}",
        "let the peer listen on all its addresses, or take the others out of its name: some clients try them first",
        "doctor.dead-address",
    )


def _protocol(facts: Facts) -> Step:
    if facts.speaks is None:
        return skipped("protocol", "there was no connection to look at")
    if not facts.wants_tls:
        if facts.speaks is Speaks.DICOM:
            return warned(
                "protocol",
                "plain DICOM: everybody on the network can read and change what is sent",
                "turn TLS on in the peer, and leave out `--no-tls`",
                "doctor.no-protection",
            )
        return (
            skipped("protocol", str(facts.speaks))
            if facts.refusal is None
            else stopped("protocol", facts.refusal)
        )
    if facts.speaks is Speaks.TLS:
        return passed("protocol", "TLS")
    if facts.refusal is None:
        return skipped("protocol", f"it speaks {facts.speaks}")
    said = f"; it says `{_said(facts.said)}`" if facts.said and facts.speaks is not Speaks.DICOM else ""
    step = stopped("protocol", facts.refusal)
    return step._replace(text=f"{step.text}{said}")


def _said(start: bytes) -> str:
    line = start.split(b"\n")[0].rstrip()
    is_text = line[:4].isascii() and line[:4].decode("latin-1").isprintable()
    return printable(line.decode("latin-1"), 60) if line and is_text else start[:16].hex(" ")


# ---------------------------------------------------------------------- DICOM


def _stopped_before(steps: list[Step]) -> Step | None:
    return next((step for step in steps if step.exit_code not in (ExitCode.OK, ExitCode.FINDING)), None)


def _association(facts: Facts, steps: list[Step]) -> Step:
    name, before = "association", _stopped_before(steps)
    if before is not None:
        return skipped(name, f"not reached: see `{before.name}`")
    if facts.associated is None:
        if facts.refusal is not None:
            return stopped(name, facts.refusal)
        return skipped(name, facts.cut_short or "it was not tried")
    accept = facts.associated.accept
    unit = f"PDUs up to {accept.maximum_length} bytes" if accept.maximum_length else "PDUs of any length"
    who = accept.implementation_version or "(no version name)"
    return passed(
        name,
        f"`{facts.peer.called_aet}` accepts `{facts.calling_aet}`; {unit}; "
        f"{printable(who, 40)}, implementation class {printable(accept.implementation_class_uid, 80) or 'not told'}",
    )


def _echo(facts: Facts, steps: list[Step]) -> Step:
    before = _stopped_before(steps)
    if before is not None:
        return skipped("echo", f"not reached: see `{before.name}`")
    if facts.echo_seconds is not None:
        return passed("echo", f"success in {_milliseconds(facts.echo_seconds)}")
    if facts.refusal is not None:
        return stopped("echo", facts.refusal)
    return skipped("echo", facts.cut_short or "it was not tried")


def _latency(facts: Facts) -> Step:
    reached = [one.seconds for one in facts.addresses if one.error is None]
    phases = {
        "name": facts.resolve_seconds if facts.resolve_error is None else None,
        "TCP": reached[0] if reached else None,
        "TLS": facts.hello.seconds if facts.hello is not None and facts.hello.version else None,
        "association": facts.associated.seconds if facts.associated else None,
        "C-ECHO": facts.echo_seconds,
    }
    told = [f"{name} {_milliseconds(seconds)}" for name, seconds in phases.items() if seconds is not None]
    return passed("latency", ", ".join(told)) if told else skipped("latency", "nothing was reached")


def _budget(facts: Facts) -> Iterator[Step]:
    if facts.cut_short:
        yield warned(
            "completeness",
            f"not everything was tried: {facts.cut_short}",
            "`--max-connections N` and `--deadline SECONDS` allow more",
            "doctor.cut-short",
        )


def _profile(facts: Facts, steps: list[Step], broken: list[Violation]) -> Step:
    name = "profile"
    if not facts.accepted_versions:
        return skipped(name, f"{PROFILE} cannot be judged: no version of TLS was seen")
    duties = [one.headline for one in broken if one.shall]
    duties += [step.text for step in steps if step.slug == "doctor.weak-certificate"]
    advice = [one.headline for one in broken if not one.shall]
    fix = "see the fixes above"
    if duties:
        step = found(name, f"does not conform to {PROFILE}", fix, "doctor.not-conforming")
        return step._replace(notes=(*duties, *advice))
    told = "" if facts.suites_complete and facts.groups else ", as far as was tried"
    if advice:
        text = f"conforms to {PROFILE}{told}, but does not follow its advice"
        return warned(name, text, fix, "doctor.against-advice")._replace(notes=tuple(advice))
    return passed(name, f"conforms to {PROFILE} (BCP 195: RFC 8996, RFC 9325){told}")
