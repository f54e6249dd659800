"""C-ECHO as an SCU, against an SCP that answers whatever a script says."""

from __future__ import annotations

import pytest

from dicomtls_cli.dimse.command import Command, decode, echo_request, encode, response, store_request
from dicomtls_cli.errors import DicomTlsError, ExitCode
from dicomtls_cli.services.echo import EchoResult, echo
from dicomtls_cli.services.peer import Peer, Requestor, Timeouts, TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.codec import decode as decode_pdu
from dicomtls_cli.upperlayer.pdu import AssociateRequest
from tests.support.scripted import (
    CT,
    IMPLICIT,
    PROVIDER,
    RELEASE_RQ,
    RELEASED,
    RQ,
    USER,
    VERIFICATION,
    Scripted,
    abort,
    accept_of,
    listening,
    p_data,
    pdv,
    reject,
)
from tests.support.server import Events, serving


def run(*scripts, **more: object) -> EchoResult:
    with listening(*scripts) as port:
        return echo(Peer("127.0.0.1", port, "PACS"), Requestor(calling_aet="ME", **more))  # type: ignore[arg-type]


def failing(*scripts, **more: object) -> DicomTlsError:
    with listening(*scripts) as port, pytest.raises(DicomTlsError) as caught:
        echo(Peer("127.0.0.1", port, "PACS"), Requestor(calling_aet="ME", **more))  # type: ignore[arg-type]
    assert f"127.0.0.1:{port}" in caught.value.message or "the peer" in caught.value.message
    return caught.value


def answering(command: Command, context: int = 1):
    def script(peer: Scripted) -> None:
        peer.accept()
        peer.expect_message()
        peer.send(p_data(pdv(context, encode(command), command=True)))
        peer.release()

    return script


def aborted_after(command: Command | bytes, reason: int, context: int = 1):
    data = command if isinstance(command, bytes) else encode(command)

    def script(peer: Scripted) -> None:
        peer.accept()
        peer.expect_message()
        peer.send(p_data(pdv(context, data, command=True)))
        peer.expect_abort(PROVIDER, reason)

    return script


def test_what_is_asked_and_answered() -> None:
    def script(peer: Scripted) -> None:
        asked = decode_pdu(RQ, peer.expect(RQ))
        assert isinstance(asked, AssociateRequest)
        assert (asked.called_ae, asked.calling_ae) == ("PACS", "ME")
        assert [(c.context_id, c.abstract_syntax, c.transfer_syntaxes) for c in asked.contexts] == [
            (1, VERIFICATION, (IMPLICIT,))
        ]
        peer.send(accept_of((1, 0, IMPLICIT)))
        context_id, command, data = peer.expect_message()
        assert (context_id, decode(command), data) == (1, echo_request(1), b"")
        peer.send(p_data(pdv(1, encode(response(echo_request(1), 0)), command=True)))
        peer.release()

    result = run(script)
    assert result.tls is None
    assert 0 <= result.seconds <= result.total_seconds


def test_the_peer_says_what_it_is(pki) -> None:
    context = tls_context(Role.ACCEPTOR, TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,)))
    ours = tls_context(Role.REQUESTOR, TlsOptions(cert=pki.scu.cert, key=pki.scu.key, trust=(pki.trusted,)))
    with serving(None, Events(), context=context) as server:
        result = echo(Peer("127.0.0.1", server.port), Requestor(context=ours))
    assert result.implementation.startswith("DICOMTLS_")
    assert result.tls is not None
    assert result.tls.version == "TLSv1.3"
    assert result.tls.fingerprint == pki.scp.fingerprint
    assert result.tls.identified_by == "pin"


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0xB123])
def test_success_and_warnings_verify_the_peer(status) -> None:
    assert run(answering(response(echo_request(1), status))).seconds >= 0


@pytest.mark.parametrize("status", [0x0122, 0xA700, 0xC000, 0xFE00, 0xFF00, 0x0211])
def test_any_other_status_is_a_failure_after_an_orderly_release(status) -> None:
    error = failing(answering(response(echo_request(1), status, "because\x1b[2J")))
    assert error.slug == "dimse.failure-status"
    assert error.exit_code == ExitCode.STATUS
    assert f"0x{status:04X}" in error.message
    assert "because" in error.message
    assert "\x1b" not in error.message


def test_a_peer_that_does_not_take_verification() -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept_of((1, 3, "")))
        peer.expect_abort(USER, 0)

    error = failing(script)
    assert error.slug == "association.no-context"
    assert error.exit_code == ExitCode.NO_CONTEXT


@pytest.mark.parametrize(
    ("answered", "reason"),
    [
        pytest.param(response(echo_request(2), 0), 0, id="of another message"),
        pytest.param(echo_request(1), 0, id="a request"),
        pytest.param(response(store_request(2, CT, "1.2"), 0), 0, id="of another operation and message"),
        pytest.param(b"", 6, id="empty"),
        pytest.param(b"\xff" * 40, 6, id="garbage"),
    ],
)
def test_a_wrong_answer_is_aborted(answered, reason) -> None:
    error = failing(aborted_after(answered, reason))
    assert error.slug == "association.protocol-error"
    assert error.exit_code == ExitCode.ABORTED


def test_an_answer_on_a_context_that_is_none() -> None:
    error = failing(aborted_after(response(echo_request(1), 0), 6, context=3))
    assert error.slug == "association.protocol-error"


@pytest.mark.parametrize(
    ("numbers", "hint"),
    [
        ((1, 1, 7), "called AE title `PACS`"),
        ((1, 1, 3), "calling AE title `ME`"),
        ((2, 3, 2), "later"),
    ],
)
def test_a_rejection_says_what_to_change(numbers, hint) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(reject(*numbers))
        peer.expect_end()

    error = failing(script)
    assert error.slug == "association.rejected"
    assert error.exit_code == ExitCode.REJECTED
    assert hint in error.hint


def accepted_then(end):
    def script(peer: Scripted) -> None:
        peer.accept()
        peer.expect_message()
        end(peer)

    return script


def releasing(peer: Scripted) -> None:
    peer.send(RELEASE_RQ)
    peer.expect(RELEASED)
    peer.expect_end()


@pytest.mark.parametrize(
    ("end", "slug"),
    [
        (lambda peer: peer.send(abort(PROVIDER, 2)), "association.aborted"),
        (lambda peer: peer.close(), "association.lost"),
        (lambda peer: peer.reset(), "association.lost"),
        (lambda peer: peer.expect_abort(PROVIDER, 0), "association.timeout"),
        (releasing, "association.released"),
    ],
    ids=["A-ABORT", "close", "reset", "silence", "release"],
)
def test_a_peer_that_ends_it_instead_of_answering(end, slug) -> None:
    error = failing(accepted_then(end), timeouts=Timeouts(dimse=0.3))
    assert error.slug == slug
    assert error.exit_code == ExitCode.ABORTED


def test_a_peer_that_leaves_instead_of_answering_the_release() -> None:
    def script(peer: Scripted) -> None:
        peer.accept()
        peer.expect_message()
        peer.send(p_data(pdv(1, encode(response(echo_request(1), 0)), command=True)))

    error = failing(script)
    assert error.slug == "association.lost"
