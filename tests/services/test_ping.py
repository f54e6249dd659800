"""Several peers verified again and again, and the figures of it."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.dimse.command import echo_request, encode, response
from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.services.echo import EchoResult, echo
from dicomtls_cli.services.peer import Peer, Requestor, Target, Timeouts
from dicomtls_cli.services.ping import PHASES, Statistics, phases, ping
from tests.support.repeating import repeating
from tests.support.scripted import LIMIT, Scripted, p_data, pdv
from tests.support.server import serving

PLAIN = Requestor(timeouts=Timeouts(connect=20, acse=20, dimse=20))


def targets(*ports: int) -> list[Target]:
    return [Target(Peer("127.0.0.1", port), PLAIN) for port in ports]


def test_every_peer_gets_every_turn() -> None:
    with serving(None) as one, serving(None) as other:
        replies = list(ping(targets(one.port, other.port), count=3, interval=0.001))
    assert sorted((reply.peer, reply.sequence) for reply in replies) == [
        (peer, sequence) for peer in (0, 1) for sequence in (1, 2, 3)
    ]
    assert all(isinstance(reply.outcome, EchoResult) for reply in replies)


def test_a_hundred_peers_at_once() -> None:
    with serving(None) as server:
        replies = list(ping(targets(server.port) * 100, count=2, interval=0.001))
    assert Counter(reply.peer for reply in replies) == dict.fromkeys(range(100), 2)


def test_a_peer_that_is_not_there_keeps_nobody_waiting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with serving(None) as server:
        found = {reply.peer: reply.outcome for reply in ping(targets(port, server.port))}
    assert isinstance(found[0], DicomTlsError)
    assert found[0].slug == "peer.connection-refused"
    assert isinstance(found[1], EchoResult)


def test_at_the_deadline_what_is_under_way_has_failed() -> None:
    """The silent peer takes the connection and says nothing for as long as the test runs."""
    with serving(None) as server, socket.create_server(("127.0.0.1", 0)) as silent:
        peers = targets(silent.getsockname()[1], server.port)
        replies = list(ping(peers, count=None, interval=0.01, deadline=0.5))
    (failed,) = [reply for reply in replies if isinstance(reply.outcome, DicomTlsError)]
    assert (failed.peer, failed.sequence, failed.outcome.slug) == (0, 1, "peer.deadline")
    assert {reply.peer for reply in replies if isinstance(reply.outcome, EchoResult)} == {1}


def test_the_deadline_is_no_failure_of_who_has_just_been_asked_again() -> None:
    """One association follows the other: there is always one under way."""
    with serving(None) as server:
        replies = list(ping(targets(server.port), count=None, interval=0.0001, deadline=0.5))
    assert all(isinstance(reply.outcome, EchoResult) for reply in replies)
    assert len(replies) > 1


def test_at_the_deadline_who_answered_once_and_is_silent_since_has_failed() -> None:
    def play(peer: Scripted) -> None:
        if scripted.connections == 1:
            peer.accept()
            context, _, _ = peer.expect_message()
            peer.send(p_data(pdv(context, encode(response(echo_request(1), 0)), command=True)))
            peer.release()
        else:
            over.wait(LIMIT)

    over = threading.Event()
    with repeating(play) as scripted:
        first, last = ping(targets(scripted.port), count=None, interval=0.001, deadline=1.9)
        over.set()
    assert isinstance(first.outcome, EchoResult)
    assert isinstance(last.outcome, DicomTlsError)
    assert (last.sequence, last.outcome.slug) == (2, "peer.deadline")


def test_the_deadline_is_no_failure_of_who_has_answered() -> None:
    with serving(None) as server:
        replies = list(ping(targets(server.port), count=None, interval=60, deadline=0.5))
    assert [(reply.sequence, isinstance(reply.outcome, EchoResult)) for reply in replies] == [(1, True)]


def test_the_deadline_ends_peers_that_are_quicker_than_who_listens() -> None:
    """There is always a reply waiting here, since each is followed by a C-ECHO of our own."""
    with serving(None) as server:
        peers = targets(server.port) * 8
        for number, _ in enumerate(ping(peers, count=None, interval=0.001, deadline=0.2)):
            assert number < 3000, "it goes on without end"
            echo(*peers[0])


def test_leaving_early_begins_no_further_turn() -> None:
    with serving(None) as server:
        before = set(threading.enumerate())
        replies = ping(targets(server.port), count=None, interval=0.001)
        assert next(replies).sequence == 1
        workers = [thread for thread in set(threading.enumerate()) - before if "_work" in thread.name]
        replies.close()
        assert workers
        for thread in workers:
            thread.join(20)
            assert not thread.is_alive()


def result(*seconds: float, tls: bool = False) -> EchoResult:
    total, connect, secure, associate, echo = seconds
    return EchoResult(Peer("h", 1), object() if tls else None, "", echo, total, connect, secure, associate)  # type: ignore[arg-type]


def test_phases_without_tls_have_no_tls() -> None:
    assert list(phases(result(5, 1, 0, 2, 1))) == [phase for phase in PHASES if phase != "tls"]
    assert phases(result(5, 1, 3, 2, 1, tls=True))["tls"] == 3


@given(st.lists(st.floats(0, 1e3, allow_nan=False, allow_subnormal=False), min_size=1, max_size=50))
def test_statistics_are_those_of_the_library(values: list[float]) -> None:
    found = Statistics()
    for value in values:
        found.add(result(value, value, value, value, value))
    spread = found.summary()["total"]
    assert (spread.least, spread.greatest, found.last) == (min(values), max(values), values[-1])
    assert spread.mean == pytest.approx(statistics.fmean(values))
    assert spread.deviation == pytest.approx(statistics.pstdev(values), abs=1e-6)


def test_failures_are_counted_and_have_no_times() -> None:
    found = Statistics()
    found.add(DicomTlsError("no", slug="peer.silent"))
    assert (found.sent, found.answered, found.failed, found.summary()) == (1, 0, 1, {})


def test_the_time_of_each_phase_is_its_own() -> None:
    """A peer that lets us wait for the answer to the A-ASSOCIATE-RQ shows it in that phase and in the total."""
    with serving(None) as server:
        (reply,) = ping(targets(server.port))
    outcome = reply.outcome
    assert isinstance(outcome, EchoResult)
    parts = phases(outcome)
    assert parts["connect"] + parts["association"] + parts["echo"] <= parts["total"]
    assert time.monotonic() > parts["total"] > 0
