"""What a sender does beyond one after the other: windows, retries, several associations, an end in order."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import socket
import threading
from pathlib import Path

import pytest

from dicomtls_cli.dimse.command import decode, encode, response
from dicomtls_cli.errors import AssociationLost, ConnectionFailed
from dicomtls_cli.services.diagnosis.causes import HUNG_UP
from dicomtls_cli.services.diagnosis.diagnose import failed
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.services.receiving.events import Event, Received, Refused
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer
from dicomtls_cli.services.sending import agenda
from dicomtls_cli.services.sending import sender as module
from dicomtls_cli.services.sending.send import Wishes, send
from dicomtls_cli.upperlayer.codec import decode as decode_pdu
from dicomtls_cli.upperlayer.pdu import AssociateRequest
from tests.services.sending.test_send import (
    LOSSES,
    SOON,
    STORED,
    answering,
    instances,
    made,
    outcomes,
    reject_everything,
    scp,
    shrink_large_ones,
    slugs,
    statuses,
    take,
)
from tests.support.objects import data_set, write
from tests.support.scripted import (
    ABORT,
    LIMIT,
    MR,
    P_DATA,
    RELEASE,
    RELEASE_RP,
    RQ,
    Scripted,
    accept,
    listening,
    listening_at_once,
    p_data,
    pdv,
    reject,
)
from tests.support.server import Events, serving


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)


@pytest.fixture
def free_port():
    """A port where nothing listens, and nothing else can for as long."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


# --- asynchronous operations (PS3.7 D.3.3.3) ---------------------------------------------------------------


def backwards(count: int, window: int):
    """Return an SCP that takes `count` messages before it answers any, the last one first."""

    def script(peer: Scripted) -> None:
        asked = peer.accept(window=window)
        assert asked.async_operations is not None
        messages = [take(peer) for _ in range(count)]
        for context_id, command, _ in reversed(messages):
            STORED(peer, context_id, command)
        peer.release()

    return script


def test_as_many_as_the_peer_agrees_to_are_on_their_way_and_answers_may_come_in_any_order(tmp_path) -> None:
    wanted = made(tmp_path, 4)
    with listening(backwards(4, window=4)) as port:
        found = outcomes(port, wanted, window=4)
    assert slugs(found) == [""] * 4
    assert [outcome.instance for outcome in found] == wanted[::-1]


def test_no_more_than_the_peer_agrees_to(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        peer.accept(window=2)
        first = [take(peer), take(peer)]
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.read_pdu()
        peer.sock.settimeout(10)
        for context_id, command, _ in first:
            STORED(peer, context_id, command)
        context_id, command, _ = take(peer)
        STORED(peer, context_id, command)
        peer.release()

    with listening(script) as port:
        assert statuses(outcomes(port, made(tmp_path, 3), window=10)) == [0, 0, 0]


def test_a_peer_that_does_not_speak_of_a_window_gets_one_after_the_other(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        asked = decode_pdu(RQ, peer.expect(RQ))
        assert isinstance(asked, AssociateRequest)
        assert asked.async_operations is not None
        peer.send(accept(asked._replace(user_information=())))
        for _ in range(3):
            context_id, command, _ = take(peer)
            STORED(peer, context_id, command)
        peer.release()

    with listening(script) as port:
        assert statuses(outcomes(port, made(tmp_path, 3), window=10)) == [0, 0, 0]


def test_a_window_is_not_asked_for_unless_wanted(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        assert peer.accept().async_operations is None
        context_id, command, _ = take(peer)
        STORED(peer, context_id, command)
        peer.release()

    with listening(script) as port:
        outcomes(port, made(tmp_path, 1))


def test_an_answer_given_twice_is_against_the_protocol(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        peer.accept(window=2)
        context_id, command, _ = take(peer)
        take(peer)
        STORED(peer, context_id, command)
        STORED(peer, context_id, command)
        while peer.read_pdu()[0] != ABORT:
            pass
        peer.expect_end()

    with listening(script, scp(STORED)) as port:
        found = outcomes(port, made(tmp_path, 4), window=2)
    assert slugs(found) == ["", "association.protocol-error", "association.protocol-error", ""]


def test_a_lost_window_is_reported_whole(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        peer.accept(window=3)
        messages = [take(peer) for _ in range(3)]
        STORED(peer, messages[1][0], messages[1][1])
        take(peer)
        peer.reset()

    wanted = made(tmp_path, 5)
    with listening(script, scp(STORED)) as port:
        found = outcomes(port, wanted, window=3)
    stored = {outcome.instance: outcome.is_stored for outcome in found}
    assert stored == dict(zip(wanted, [False, True, False, False, True], strict=True))
    assert len(found) == 5


def test_a_file_that_cannot_be_read_on_costs_the_others_in_the_window_nothing(tmp_path, monkeypatch) -> None:
    """They are sent again, since half a data set was the end of their association; each is told of once."""
    made(tmp_path, 5)
    os.truncate(tmp_path / "003.dcm", 1 << 20)
    wanted = instances(tmp_path)
    shrink_large_ones(monkeypatch)

    def first(peer: Scripted) -> None:
        peer.accept(window=4)
        answered = take(peer)
        take(peer)
        STORED(peer, *answered[:2])
        while peer.read_pdu()[0] != ABORT:
            pass
        peer.expect_end()

    with listening(first, scp(STORED, STORED, STORED, STORED)) as port:
        found = outcomes(port, wanted, window=4)
    assert sorted(o.instance.sop_instance for o in found) == [f"1.2.{number}" for number in range(1, 6)]
    assert {o.instance.sop_instance for o in found if not o.is_stored} == {"1.2.3"}


# --- retries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("losing", "slug"), LOSSES)
def test_what_was_left_without_an_answer_is_sent_again(losing, slug, tmp_path) -> None:
    wanted = made(tmp_path, 3)
    with listening(scp(STORED, losing, release=False), scp(STORED, STORED)) as port:
        found = outcomes(port, wanted, timeouts=SOON, retries=1)
    assert slugs(found) == ["", "", ""]
    assert [outcome.instance for outcome in found] == wanted


@pytest.mark.parametrize(("losing", "slug"), LOSSES[:1])
def test_it_is_sent_again_so_often_and_no_more(losing, slug, tmp_path) -> None:
    script = scp(losing, release=False)
    with listening(script, script, script) as port:
        found = outcomes(port, made(tmp_path, 2), retries=2)
    assert slugs(found) == [slug, slug]


def test_a_final_status_is_never_asked_for_twice(tmp_path) -> None:
    with listening(scp(answering(0xA700), answering(0xC000), STORED)) as port:
        assert statuses(outcomes(port, made(tmp_path, 3), retries=5)) == [0xA700, 0xC000, 0]


def busy(peer: Scripted) -> None:
    peer.expect(RQ)
    peer.send(reject(2, 3, 2))  # transient, provider: local limit exceeded
    peer.expect_end()


def test_a_peer_that_is_away_for_a_while_is_waited_for(tmp_path) -> None:
    wanted = made(tmp_path, 2)
    with listening(busy, busy, scp(STORED, STORED)) as port:
        assert slugs(outcomes(port, wanted, retries=2)) == ["", ""]


def test_a_peer_that_took_our_tls_may_hang_up_while_it_starts_anew(tmp_path, monkeypatch) -> None:
    opened, calls = module.associate, itertools.count(1)

    def hanging_up(peer, *arguments, **more):
        if next(calls) == 2:
            raise failed(HUNG_UP, str(peer))
        return opened(peer, *arguments, **more)

    monkeypatch.setattr(module, "associate", hanging_up)
    wanted = made(tmp_path, 2)
    with listening(scp(STORED, LOSSES[0].values[0], release=False), scp(STORED)) as port:
        assert slugs(outcomes(port, wanted, retries=2)) == ["", ""]


def test_what_was_stored_since_makes_up_for_earlier_failures(tmp_path, monkeypatch) -> None:
    """Two associations, each of which comes about at the second try, where one further try is allowed."""
    monkeypatch.setattr(agenda, "MOST_CONTEXTS", 1)
    made(tmp_path, 1)
    write(tmp_path / "2.dcm", data_set("1.2.2", sop_class=MR), "1.2.2", sop_class=MR)
    with listening(busy, scp(STORED), busy, scp(STORED)) as port:
        assert slugs(outcomes(port, instances(tmp_path), retries=1, transcode=False)) == ["", ""]


def test_a_peer_that_rejects_for_good_is_not_asked_again(tmp_path) -> None:
    def refusing(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(reject(1, 1, 7))
        peer.expect_end()

    with listening(refusing) as port, pytest.raises(AssociationLost):
        outcomes(port, made(tmp_path, 1), retries=5)


def test_retries_end(tmp_path, free_port) -> None:
    with pytest.raises(ConnectionFailed):
        outcomes(free_port, made(tmp_path, 1), retries=3)


# --- several associations ----------------------------------------------------------------------------------


def test_jobs_are_associations_at_the_same_time(tmp_path) -> None:
    """None of the three answers before all of them got something."""
    together = threading.Barrier(3, timeout=20)
    wanted = made(tmp_path, 9)
    got: list[str] = []

    def script(peer: Scripted) -> None:
        peer.accept()
        is_first = True
        while True:
            pdu_type, body = peer.read_pdu()
            if pdu_type == RELEASE:
                peer.send(RELEASE_RP)
                return
            context_id, command, _ = take_from(peer, body)
            if is_first:
                together.wait()
                is_first = False
            got.append(command.sop_instance)
            STORED(peer, context_id, command)

    with listening_at_once(3, script) as port:
        found = outcomes(port, wanted, jobs=3)
    assert slugs(found) == [""] * 9
    assert sorted(got) == sorted(instance.sop_instance for instance in wanted)


def take_from(peer: Scripted, body: bytes):
    """Read the message whose first PDU was read already; each of its parts is in one PDU."""
    context_id, command = body[4], decode(body[6:])
    _, data = peer.read_pdu()
    return context_id, command, data


def test_jobs_send_everything_once(tmp_path) -> None:
    wanted = made(tmp_path / "in", 60)
    events = Events()
    with serving(tmp_path / "out", events) as server:
        found = outcomes(server.port, wanted, jobs=4)
    assert all(outcome.is_stored for outcome in found)
    assert sorted(o.instance.sop_instance for o in found) == sorted(i.sop_instance for i in wanted)
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 60


def test_a_peer_that_takes_fewer_associations_gets_everything_all_the_same(tmp_path, caplog) -> None:
    wanted = made(tmp_path / "in", 40)
    with serving(tmp_path / "out", max_associations=1) as server:
        found = outcomes(server.port, wanted, jobs=4)
    assert slugs(found) == [""] * 40
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 40


def test_nobody_waits_with_an_instance_that_others_could_send(tmp_path, monkeypatch) -> None:
    """A retry is for a peer that is away: this one is there, and takes one association."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 3600.0)
    wanted, events = made(tmp_path / "in", 10), Events()

    def one_after_the_rejection(event: Event) -> None:
        events(event)
        if isinstance(event, Received):
            events.wait_for(Refused)

    options = ServerOptions(port=0, hosts=("127.0.0.1",), max_associations=1)
    with StorageServer(options, one_after_the_rejection) as server:
        found = outcomes(server.port, wanted, jobs=2, retries=5)
    assert slugs(found) == [""] * 10


def test_a_late_rejection_loses_nothing(tmp_path) -> None:
    """The first association is through when the second is rejected, and so is every further one."""
    through, rejecting = threading.Event(), threading.Event()
    numbers = iter(range(3))

    def script(peer: Scripted) -> None:
        if next(numbers):
            peer.expect(RQ)
            rejecting.set()
            through.wait(20)
            peer.send(reject(2, 3, 2))
            peer.expect_end()
            return
        peer.accept()
        context_id, command, _ = take(peer)
        rejecting.wait(20)  # by now the second association holds an instance
        while True:
            STORED(peer, context_id, command)
            pdu_type, body = peer.read_pdu()
            if pdu_type == RELEASE:
                peer.send(RELEASE_RP)
                through.set()
                return
            context_id, command, _ = take_from(peer, body)

    wanted = made(tmp_path, 12)
    with listening_at_once(3, script) as port:
        found = outcomes(port, wanted, jobs=2)
    assert len(found) == 12
    assert sorted(slugs(found)) == [""] * 11 + ["association.rejected"]


def large(folder: Path, *numbers: int) -> None:
    """Write files that no buffer of a connection holds."""
    for number in numbers:
        name = f"1.2.{number}"
        write(folder / f"{number:03d}.dcm", data_set(name, pixels=bytes(32 << 20)), name)


def test_an_association_whose_peer_takes_nothing_keeps_no_other_from_sending(tmp_path) -> None:
    """The first gets a large object and reads nothing of it until the second has everything else."""
    made(tmp_path, 30)
    large(tmp_path, 0)
    all_else = threading.Event()
    numbers = iter(range(2))

    def script(peer: Scripted) -> None:
        is_first = next(numbers) == 0
        peer.accept()
        if is_first:
            assert all_else.wait(20)
            context_id, command, data = take(peer)
            assert len(data) > 32 << 20
            STORED(peer, context_id, command)
            peer.release()
            return
        for _ in range(30):
            context_id, command, _ = take(peer)
            STORED(peer, context_id, command)
        all_else.set()
        peer.release()

    with listening_at_once(2, script) as port:
        found = outcomes(port, instances(tmp_path), jobs=2)
    assert slugs(found) == [""] * 31
    assert found[-1].instance.sop_instance == "1.2.0"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_peer_that_takes_nothing_is_left_at_the_time_out(jobs, tmp_path) -> None:
    large(tmp_path, 1, 2)
    left = threading.Event()

    def script(peer: Scripted) -> None:
        peer.accept()
        assert left.wait(20)

    with listening_at_once(jobs if jobs > 1 else 2, script) as port:
        found = outcomes(port, instances(tmp_path), jobs=jobs, timeouts=SOON)
        left.set()
    assert slugs(found) == ["association.timeout"] * 2


def test_a_response_that_does_not_come_ends_its_own_association_alone(tmp_path) -> None:
    """The rest goes over the other, which answers only when the first has given up."""
    wanted = made(tmp_path, 6)
    given_up = threading.Event()
    numbers = iter(range(3))

    def script(peer: Scripted) -> None:
        is_first = next(numbers) == 0
        peer.accept()
        context_id, command, _ = take(peer)
        if is_first:
            assert peer.expect(ABORT)
            given_up.set()
            return
        while True:
            STORED(peer, context_id, command)
            pdu_type, body = peer.read_pdu()
            if pdu_type == RELEASE:
                peer.send(RELEASE_RP)
                return
            context_id, command, _ = take_from(peer, body)

    with listening_at_once(3, script) as port:
        found = outcomes(port, wanted, jobs=2, timeouts=SOON)
    assert given_up.is_set()
    assert sorted(slugs(found)) == [""] * 5 + ["association.timeout"]


def test_an_association_that_the_peer_leaves_unanswered_keeps_no_other_waiting(tmp_path) -> None:
    """The second is asked for and not answered before everything went over the first."""
    wanted = made(tmp_path, 20)
    through = threading.Event()
    numbers = iter(range(3))

    def script(peer: Scripted) -> None:
        if next(numbers) == 1:
            peer.expect(RQ)
            assert through.wait(20)
            peer.send(reject(2, 3, 2))
            peer.expect_end()
            return
        peer.accept()
        while True:
            pdu_type, body = peer.read_pdu()
            if pdu_type == RELEASE:
                peer.send(RELEASE_RP)
                through.set()
                return
            context_id, command, _ = take_from(peer, body)
            STORED(peer, context_id, command)

    with listening_at_once(3, script) as port:
        found = outcomes(port, wanted, jobs=2)
    assert slugs(found) == [""] * 20


def test_a_peer_that_is_not_there_is_told_of_once(tmp_path, free_port) -> None:
    with pytest.raises(ConnectionFailed):
        outcomes(free_port, made(tmp_path, 8), jobs=4)


def test_jobs_and_a_peer_that_rejects(tmp_path) -> None:
    with listening(reject_everything) as port, pytest.raises(AssociationLost):
        outcomes(port, made(tmp_path, 8), jobs=4)


def test_what_looking_for_instances_raises_comes_out_of_the_jobs_too(tmp_path) -> None:
    def source():
        yield from made(tmp_path / "in", 3)
        raise RuntimeError("the source broke")

    with serving(tmp_path / "out") as server, pytest.raises(RuntimeError, match="the source broke"):
        outcomes(server.port, source(), jobs=2)


def test_who_leaves_the_jobs_ends_them(tmp_path) -> None:
    def silent_after_one(peer: Scripted) -> None:
        peer.accept()
        context_id, command, _ = take(peer)
        STORED(peer, context_id, command)
        while peer.sock.recv(1 << 16):  # until the connection is shut down, by whoever left
            pass

    before = threading.active_count()
    with listening_at_once(2, silent_after_one) as port:
        sending = send(Peer("127.0.0.1", port), made(tmp_path, 20), Requestor(), Wishes(), jobs=2)
        next(sending)
        next(sending)
        sending.close()
    for thread in threading.enumerate():
        if thread.name.startswith("dicomtls-aside"):
            thread.join(10)
    assert threading.active_count() <= before


def test_half_a_response_keeps_no_other_association_from_going_on(tmp_path) -> None:
    """The first gets the rest of its response only when the second has everything else."""
    wanted = made(tmp_path, 30)
    all_else = threading.Event()
    numbers = iter(range(2))

    def script(peer: Scripted) -> None:
        is_first = next(numbers) == 0
        peer.accept()
        context_id, command, _ = take(peer)
        if is_first:
            answer = p_data(pdv(context_id, encode(response(command, 0)), command=True))
            peer.send(answer[:40])
            assert all_else.wait(10)
            peer.send(answer[40:])
        else:
            STORED(peer, context_id, command)
        answer_until_release(peer)
        all_else.set()

    with listening_at_once(2, script) as port:
        found = outcomes(port, wanted, jobs=2)
    assert slugs(found) == [""] * 30


def answer_until_release(peer: Scripted) -> None:
    while True:
        pdu_type, body = peer.read_pdu()
        if pdu_type == RELEASE:
            peer.send(RELEASE_RP)
            return
        context_id, command, _ = take_from(peer, body)
        STORED(peer, context_id, command)


def test_an_answer_is_in_time_however_late_it_is_looked_at(tmp_path) -> None:
    """Whoever takes the outcomes does so more slowly than a peer may answer, which was answered long ago."""
    wanted = made(tmp_path, 8)
    later = threading.Event()

    def script(peer: Scripted) -> None:
        peer.accept()
        answer_until_release(peer)

    with listening_at_once(3, script) as port:
        sending = send(Peer("127.0.0.1", port), wanted, Requestor(timeouts=SOON), Wishes(), jobs=3)
        found = []
        for outcome in sending:
            found.append(outcome)
            if len(found) in (3, 4):
                later.wait(SOON.dimse * 1.5)
    assert slugs(found) == [""] * 8


@pytest.mark.parametrize("is_large", [False, True])
def test_who_leaves_aborts_all_associations_at_once_and_keeps_no_file_open(is_large, tmp_path) -> None:
    """No peer closes its connection before all were told; none is told after another was waited for."""
    made(tmp_path, 1)
    if is_large:
        large(tmp_path, *range(100, 103))
    else:
        made(tmp_path, 4)
    told = threading.Barrier(3)
    numbers = iter(range(3))
    busy = threading.Barrier(3)

    def script(peer: Scripted) -> None:
        is_first = next(numbers) == 0
        peer.accept()
        if is_first:
            context_id, command, _ = take(peer)
            busy.wait(LIMIT)
            STORED(peer, context_id, command)
        else:
            peer.expect(P_DATA)
            busy.wait(LIMIT)
        with contextlib.suppress(OSError):
            while peer.sock.recv(1 << 20):
                pass
        told.wait(0.9)  # less than a peer is waited for

    with listening_at_once(3, script) as port:
        sending = send(Peer("127.0.0.1", port), instances(tmp_path), Requestor(), Wishes(), jobs=3)
        next(sending)
        gc.disable()
        try:
            sending.close()
            if Path("/proc/self/fd").exists():
                files = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]  # noqa: PTH208
                assert not [file for file in files if file.startswith(str(tmp_path))]
        finally:
            gc.enable()


# --- an end in order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_once_it_is_to_end_what_is_on_its_way_is_answered_and_the_rest_left(jobs, tmp_path) -> None:
    ending = threading.Event()

    def script(peer: Scripted) -> None:
        peer.accept()
        context_id, command, _ = take(peer)
        ending.set()
        STORED(peer, context_id, command)
        peer.release()

    with listening_at_once(1, script) as port:
        found = outcomes(port, made(tmp_path, 1 if jobs > 1 else 5), jobs=jobs, ending=ending)
    assert statuses(found) == [0]


def test_nothing_is_sent_on_an_association_that_opens_too_late(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(agenda, "MOST_CONTEXTS", 1)
    made(tmp_path, 1)
    write(tmp_path / "2.dcm", data_set("1.2.2", sop_class=MR), "1.2.2", sop_class=MR)
    ending = threading.Event()

    def late(peer: Scripted) -> None:
        asked = peer.expect(RQ)
        ending.set()
        peer.send(accept(decode_pdu(RQ, asked)))
        peer.release()

    with listening(scp(STORED), late) as port:
        found = outcomes(port, instances(tmp_path), transcode=False, ending=ending)
    assert statuses(found) == [0]


class SetByAHandler(threading.Event):
    """A handler that finds its own thread in `wait` would wait for the lock that this holds."""

    def wait(self, timeout: float | None = None) -> bool:
        raise AssertionError("it was waited for")


def test_a_pause_before_a_retry_ends_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 3600.0)
    ending = SetByAHandler()

    def script(peer: Scripted) -> None:
        peer.accept()
        take(peer)
        peer.reset()
        ending.set()

    with listening(script) as port:
        found = outcomes(port, made(tmp_path, 2), retries=3, ending=ending)
    assert slugs(found) == ["association.lost"]  # it was sent, and never answered
