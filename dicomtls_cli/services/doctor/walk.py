"""The walk through a peer, from its name to a C-ECHO, and what its TLS has to offer.

What a C-ECHO needs comes first, so that the rest may be cut short.
"""

from __future__ import annotations

import contextlib
import time

from dicomtls_cli.errors import ConnectionFailed, DicomTlsError, ExitCode
from dicomtls_cli.services.connect import connect, negotiate, resolve
from dicomtls_cli.services.diagnosis.causes import CLOSED_AT_ONCE
from dicomtls_cli.services.diagnosis.diagnose import Stage, diagnose
from dicomtls_cli.services.doctor.facts import Address, Associated, Facts, Speaks
from dicomtls_cli.services.doctor.inventory import (
    show_a_stranger,
    survey_groups,
    survey_suites,
    survey_versions,
)
from dicomtls_cli.services.doctor.probes import Limits, Probes
from dicomtls_cli.services.doctor.rules import RECOMMENDED
from dicomtls_cli.services.doctor.speech import name_protocol, plain_refusal, speech_of
from dicomtls_cli.services.echo import VERIFICATION_CONTEXTS, verify
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.tls.survey import Ending, Offer

_MOST_ADDRESSES = 8
_ANY = "ANY-SCP"
_PLAIN_SECONDS = 5.0  # for a peer that said nothing to TLS and may speak plain DICOM
_STALLED = (Ending.SILENT, Ending.TOO_MUCH)
_LEFT = (Ending.CLOSED, Ending.RESET)


def examine(
    peer: Peer, requestor: Requestor, limits: Limits, *, trusts: bool = True, probe_stranger: bool = False
) -> Facts:
    """Find out about `peer` what can be found out by connecting to it, and return that unjudged.

    `requestor` is how an SCU would connect, without a context for plain DICOM. `trusts` False says that its context
    takes any certificate, because nobody said which to trust. `probe_stranger` shows the peer a certificate that nobody
    knows. Never raises for what the peer does.
    """
    facts = Facts(
        peer,
        requestor.calling_aet,
        wants_tls=requestor.context is not None,
        trusts=trusts,
        shows_certificate=requestor.shows_certificate,
        asked_stranger=probe_stranger,
    )
    probes = Probes(peer, requestor, limits)
    _walk(probes, facts)
    facts.connections, facts.cut_short = probes.made, probes.cut_short
    return facts


def _walk(probes: Probes, facts: Facts) -> None:
    _reach(probes, facts)
    if probes.entry is None:
        return
    if not facts.wants_tls:
        if _associate(probes, facts):
            facts.speaks = speech_of(facts.refusal)
        return
    _greet(probes, facts)
    if facts.speaks is not Speaks.TLS:
        return
    _associate_securely(probes, facts)
    if facts.stalled:
        return
    survey_versions(probes, facts)
    if facts.asked_stranger and facts.accepted_versions:
        show_a_stranger(probes, facts)
    survey_suites(probes, facts)
    survey_groups(probes, facts)


def _diagnosed(error: BaseException, stage: Stage, facts: Facts) -> DicomTlsError:
    return diagnose(error, role=Role.REQUESTOR, stage=stage, peer=str(facts.peer))


# ---------------------------------------------------------------------- name, TCP, what speaks there


def _reach(probes: Probes, facts: Facts) -> None:
    """Try each address the name has."""
    begun = time.monotonic()
    deadline = min(begun + probes.requestor.timeouts.connect, probes.end)
    try:
        entries = resolve(facts.peer, probes.requestor.family, deadline)
    except (OSError, UnicodeError) as error:
        facts.resolve_error = _diagnosed(error, Stage.RESOLVE, facts)
        return
    facts.resolve_seconds = time.monotonic() - begun
    for entry in entries[:_MOST_ADDRESSES]:
        if not probes.may_connect():
            return
        failure = None
        begun = time.monotonic()
        try:
            with contextlib.suppress(ConnectionResetError):  # it stood, or there were nothing to reset
                probes.dial(entry).close()
            probes.entry = probes.entry or entry
        except OSError as error:
            failure = _diagnosed(error, Stage.CONNECT, facts)
        facts.addresses.append(Address(str(entry[4][0]), time.monotonic() - begun, failure))


def _greet(probes: Probes, facts: Facts) -> None:
    """Offer all that TLS has, and see what comes back."""
    seen = probes.converse(Offer(), listen=True)
    if seen is not None and not seen.start and seen.ending in _LEFT:
        # Some peers, and what stands before them, drop whoever offers what is broken.
        seen = probes.converse(Offer(lowest="TLSv1.2", suites=RECOMMENDED), listen=True) or seen
    facts.hello = seen
    if seen is None:
        return
    facts.speaks, facts.said = name_protocol(seen.start), seen.start
    if facts.speaks is Speaks.TLS:
        facts.stalled = seen.ending in _STALLED  # each further handshake would take as long
        return
    asked = facts.speaks is None and _ask_plainly(probes, facts)
    facts.speaks = facts.speaks or (Speaks.SILENT if seen.ending is Ending.SILENT else Speaks.HANGS_UP)
    if seen.error is not None and facts.refusal is None:
        error = _diagnosed(seen.error, Stage.TLS, facts)
        nothing = facts.speaks in (Speaks.SILENT, Speaks.HANGS_UP)
        facts.refusal = error if nothing and not asked else plain_refusal(facts.speaks, error, facts.peer)


def _ask_plainly(probes: Probes, facts: Facts) -> bool:
    """Find out whether a peer that said nothing to a ClientHello speaks plain DICOM; tell whether that was tried.

    It is asked as anybody would: with no word of ours, no AE title and no user.
    """
    anybody = Requestor(timeouts=probes.requestor.timeouts, family=probes.requestor.family)
    peer = probes.peer._replace(called_aet=_ANY)
    plain = probes.for_association(anybody, _PLAIN_SECONDS)
    if plain is None:
        return False
    try:
        sock, _ = connect(peer, plain)
        established = negotiate(sock, None, peer, VERIFICATION_CONTEXTS, plain)
        verify(established.association, peer)
        facts.speaks = Speaks.DICOM
    except DicomTlsError as error:
        if error.slug == CLOSED_AT_ONCE.slug:  # whatever is said to it: that is no matter of TLS
            facts.refusal = error
        found = speech_of(error)
        facts.speaks = None if found in (Speaks.TLS, Speaks.HANGS_UP) else found
    return True


# ---------------------------------------------------------------------- the association


def _associate_securely(probes: Probes, facts: Facts) -> None:
    hello = facts.hello
    if facts.stalled and hello is not None and hello.error is not None:
        facts.refusal = _diagnosed(hello.error, Stage.TLS, facts)
        return
    if not facts.trusts and probes.requestor.user is not None:
        facts.refusal = ConnectionFailed(
            f"no association with `{facts.peer}`: nobody said whom to trust, and the user's name is not for anybody",
            "give the peer's certificate, or its CA's, with `--trust FILE`",
            slug="doctor.user-untrusted",
            exit_code=ExitCode.PEER_UNTRUSTED,
        )
        return
    _associate(probes, facts)
    context = probes.requestor.context
    if facts.tls is None and facts.refusal is not None and context is not None:
        facts.ours = probes.converse_with(context, listen=True)


def _associate(probes: Probes, facts: Facts) -> bool:
    """Open an association and make a C-ECHO, as far as it goes; tell whether that was tried."""
    requestor = probes.for_association(probes.requestor)
    if requestor is None:
        return False
    try:
        sock, facts.tls = connect(facts.peer, requestor)
        begun = time.monotonic()
        established = negotiate(sock, facts.tls, facts.peer, VERIFICATION_CONTEXTS, requestor)
        facts.associated = Associated(established.accept, time.monotonic() - begun)
        facts.echo_seconds = verify(established.association, facts.peer)
    except DicomTlsError as error:
        facts.refusal = error
    return True
