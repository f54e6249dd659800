"""The listener: who is let in, who is held, dropped or rejected, and an end in order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicomtls_cli.errors import ExitCode, OutputError
from dicomtls_cli.services.echo import echo
from dicomtls_cli.services.files.scan import Instance, scan
from dicomtls_cli.services.peer import Peer, Requestor, Timeouts, TlsOptions, tls_context
from dicomtls_cli.services.receiving import server as module
from dicomtls_cli.services.receiving.events import Closed, Event, Opened, Received, Refused
from dicomtls_cli.services.receiving.listen import listen
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer
from dicomtls_cli.services.receiving.storage import Storage
from dicomtls_cli.services.sending.send import send
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.codec import encode
from tests.support.objects import data_set, write
from tests.support.receiver import until_nobody_listens
from tests.support.scripted import (
    CT,
    IMPLICIT,
    LIMIT,
    PROVIDER,
    RJ,
    USER,
    VERIFICATION,
    abort,
    request,
)
from tests.support.server import Client, Events, echoes, serving

PATIENT = Timeouts(tls=60.0, acse=60.0, dimse=60.0)


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


# --- one association after the other -------------------------------------------------------------------------


def test_what_an_association_tells(tmp_path) -> None:
    events = Events()
    with serving(tmp_path, events) as server, Client(server.port).associate() as client:
        assert client.store().status == 0
        client.end()
        closed = events.wait_for(Closed)
    assert [type(event) for event in events.told] == [Opened, Received, Closed]
    assert {(e.client.calling_aet, e.client.called_aet) for e in events.told} == {("SCU", "SCP")}
    assert closed.client.address.startswith("127.0.0.1:")
    assert (closed.instances, closed.error) == (1, None)
    received = events.wait_for(Received).instance
    assert received.stored is not None
    assert received.stored.path == tmp_path / "1.2.9" / "1.2.3.dcm"


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param(request(application_context="1.2.3"), (1, 1, 2), id="application context"),
        pytest.param(request(protocol_version=2), (1, 2, 2), id="protocol version"),
        pytest.param(request(called=" "), (1, 1, 7), id="called AE title"),
        pytest.param(request(called="\x1b[2J"), (1, 1, 7), id="called AE title of control characters"),
    ],
)
def test_a_request_that_cannot_be_is_rejected_with_the_reason(asked, answered) -> None:
    events = Events()
    with serving(None, events) as server:
        with Client(server.port) as client:
            client.send(encode(asked))
            assert tuple(client.expect(RJ)[1:]) == answered
            client.expect_end()
        refused = events.wait_for(Refused)
        assert refused.error.slug == "association.rejected"
        assert refused.error.exit_code == ExitCode.REJECTED
        assert "/".join(map(str, answered)) in refused.error.message
        assert refused.error.message.isprintable()
        assert echoes(server.port)


@pytest.mark.parametrize("field", [bytes(16), b" " * 16, b"A\\B".ljust(16), b"\x1b[2J".ljust(16)])
def test_a_calling_ae_title_that_is_none_is_rejected(field) -> None:
    asked = bytearray(encode(request()))
    asked[26:42] = field
    with serving(None) as server, Client(server.port) as client:
        client.send(bytes(asked))
        assert tuple(client.expect(RJ)[1:]) == (1, 1, 3)
        client.expect_end()


def test_only_bit_0_of_the_protocol_version_counts() -> None:
    with serving(None) as server, Client(server.port).associate(request(protocol_version=0xFFFF)) as client:
        client.end()


def test_a_maximum_length_under_64_is_aborted() -> None:
    events = Events()
    with serving(None, events) as server, Client(server.port) as client:
        client.send(encode(request(maximum=63)))
        client.expect_abort(PROVIDER, 6)
        assert events.wait_for(Refused).error.exit_code == ExitCode.ABORTED


# --- how many at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["release", "release without leaving", "abort", "close", "reset"])
def test_too_many_associations_are_rejected_until_one_ends(ending) -> None:
    events = Events()
    with serving(None, events, max_associations=2) as server:
        first, second = Client(server.port).associate(), Client(server.port).associate()
        with second, first:
            for _ in range(3):
                with Client(server.port) as third:
                    third.send(encode(request()))
                    assert tuple(third.expect(RJ)[1:]) == (2, 3, 2)
                    third.expect_end()
            if ending.startswith("release"):
                first.end(leave=ending == "release")
            elif ending == "abort":
                first.send(abort(USER, 0))
            elif ending == "reset":
                first.reset()
            if ending != "release without leaving":
                first.close()
                events.wait_for(Closed)
            # A peer that has its answer to the release counts no more, however long it takes to leave.
            assert echoes(server.port)
            assert second.echo().status == 0


def test_associations_one_after_the_other_never_meet_a_limit_of_one() -> None:
    with serving(None, max_associations=1) as server:
        for _ in range(50):
            with Client(server.port).associate() as client:
                client.end()


def test_many_concurrent_senders(tmp_path, pki) -> None:
    senders, each = 8, 20
    for sender in range(senders):
        for number in range(each):
            uid = f"1.2.{sender}.{number}"
            data = data_set(uid, study=f"1.9.{sender % 3}", pixels=uid.encode() * 2000)
            write(tmp_path / f"sender{sender}" / f"{number}.dcm", data, uid)
    output, events = tmp_path / "output", Events()
    context = tls_context(Role.ACCEPTOR, TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,)))
    ours = tls_context(Role.REQUESTOR, TlsOptions(cert=pki.scu.cert, key=pki.scu.key, trust=(pki.trusted,)))
    with serving(output, events, context=context, timeouts=PATIENT) as server:

        def run(sender: int) -> int:
            instances = [i for i in scan([tmp_path / f"sender{sender}"]) if isinstance(i, Instance)]
            peer = Peer("127.0.0.1", server.port)
            return sum(outcome.is_stored for outcome in send(peer, instances, Requestor(context=ours)))

        with ThreadPoolExecutor(senders) as pool:
            assert list(pool.map(run, range(senders))) == [each] * senders
        events.wait_for(Closed, senders)
    stored = {path.stem: path for path in output.rglob("*.dcm")}
    assert len(stored) == senders * each == len(files(output))
    for sender in range(senders):
        for number in range(each):
            uid = f"1.2.{sender}.{number}"
            assert stored[uid].parent.name == f"1.9.{sender % 3}"
            assert stored[uid].read_bytes().endswith(uid.encode() * 2000)


# --- those who do not get as far -----------------------------------------------------------------------------


def test_silent_connections_disturb_nobody_and_end_at_their_deadline() -> None:
    events = Events()
    with serving(None, events, timeouts=Timeouts(tls=0.3)) as server:
        silent = [Client(server.port) for _ in range(30)]
        assert echoes(server.port)
        for client in silent:
            client.expect_end()
            client.close()
        assert events.wait_for(Refused, 30).error.slug == "peer.silent"


def test_silent_connections_are_served_once_they_speak() -> None:
    with serving(None, timeouts=PATIENT) as server:
        silent = [Client(server.port) for _ in range(10)]
        assert echoes(server.port)
        for client in silent:
            client.associate()
            assert client.echo().status == 0
            client.end()
            client.close()


def test_when_too_many_wait_the_oldest_goes(monkeypatch) -> None:
    monkeypatch.setattr(module, "_WAITING", 3)
    events = Events()
    with serving(None, events, timeouts=PATIENT) as server:
        oldest = Client(server.port)
        others = [Client(server.port) for _ in range(3)]
        oldest.expect_end()
        assert events.wait_for(Refused).error.slug == "peer.silent"
        assert echoes(server.port)  # the next oldest has to go for it
        others[-1].associate().end()
        for client in (oldest, *others):
            client.close()


def test_when_too_many_are_half_way_the_oldest_goes(monkeypatch) -> None:
    """They have sent a byte each, and so hold a thread."""
    monkeypatch.setattr(module, "_UNFINISHED", 2)
    events = Events()
    with serving(None, events, timeouts=PATIENT) as server:
        half_way = [Client(server.port) for _ in range(2)]
        for client in half_way:
            client.send(b"\x01")
        assert echoes_once_both_are_in(server)
        half_way[0].expect_end()
        assert events.wait_for(Refused).error.slug == "peer.silent"
        for client in half_way:
            client.close()


def test_one_that_was_cut_off_does_not_have_to_go_twice(monkeypatch) -> None:
    """The listener may be faster than the threads of those it cuts off: what it cuts off next is another."""
    monkeypatch.setattr(module, "_UNFINISHED", 2)
    told, gate = Events(), threading.Event()

    def slow(event: Event) -> None:
        told(event)
        assert gate.wait(LIMIT)

    options = ServerOptions(port=0, hosts=("127.0.0.1",), timeouts=PATIENT)
    with StorageServer(options, slow) as server:
        half_way = []
        for _ in range(4):
            half_way.append(Client(server.port))
            half_way[-1].send(b"\x01")
        assert told.wait_for(Refused, 2)
        gate.set()
        for client in half_way:
            client.close()


def echoes_once_both_are_in(server: StorageServer) -> bool:
    """Wait until both are served by threads; only then is the third the one too many."""
    never = threading.Event()
    for _ in range(1000):
        if len(server._serving) == 2:
            return echoes(server.port)
        never.wait(0.01)
    raise AssertionError("the two are not served")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (encode(request()), "plain DICOM"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"SSH-2.0-x\r\n", "SSH"),
        (b"hello", "it sends `hello`, which begins no TLS handshake"),
    ],
)
def test_a_tls_server_names_what_is_not_tls(said, words, pki) -> None:
    context = tls_context(Role.ACCEPTOR, TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,)))
    events = Events()
    with serving(None, events, context=context) as server, Client(server.port) as client:
        client.send(said)
        client.expect_end()
        error = events.wait_for(Refused).error
        assert words in error.message
        assert error.slug == "tls.peer-plain"
        assert error.exit_code == ExitCode.NO_COMMON_TLS


def test_a_tls_server_takes_a_health_check_for_one(pki) -> None:
    context = tls_context(Role.ACCEPTOR, TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,)))
    events = Events()
    with serving(None, events, context=context) as server:
        Client(server.port).close()
        assert events.wait_for(Refused).error.slug == "peer.closed-at-once"


def test_a_plain_server_names_tls(pki) -> None:
    context = tls_context(Role.REQUESTOR, TlsOptions(trust=(pki.trusted,)))
    events = Events()
    with serving(None, events) as server:
        with pytest.raises(Exception, match="TLS"):
            echo(Peer("127.0.0.1", server.port), Requestor(context=context))
        error = events.wait_for(Refused).error
        assert error.slug == "association.peer-speaks-tls"
        assert error.exit_code == ExitCode.NO_COMMON_TLS
        assert echoes(server.port)


# --- defects, which must stay where they are -----------------------------------------------------------------


def test_a_defect_in_one_association_disturbs_nobody(tmp_path, monkeypatch) -> None:
    receive, events = Storage.receive, Events()

    def defective(self: Storage, identifiers: object) -> object:
        if identifiers.sop_instance == "1.2.666":  # type: ignore[attr-defined]
            raise ZeroDivisionError("a defect")
        return receive(self, identifiers)  # type: ignore[arg-type]

    monkeypatch.setattr(Storage, "receive", defective)
    with (
        serving(tmp_path, events) as server,
        Client(server.port).associate() as good,
        Client(server.port).associate() as bad,
    ):
        rest = good.begin_store()
        bad.begin_store(instance="1.2.666")
        bad.expect_abort(USER, 0)
        closed = events.wait_for(Closed)
        assert closed.error is not None
        assert closed.error.slug == "unexpected"
        assert "ZeroDivisionError" in closed.error.message
        assert good.end_store(rest).status == 0
        good.end()
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


def test_an_observer_that_fails_does_not_end_the_service(tmp_path) -> None:
    """The reader of our output may be gone: that is no reason to refuse images."""

    def broken(_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    options = ServerOptions(port=0, hosts=("127.0.0.1",), output=tmp_path, timeouts=Timeouts(tls=0.2))
    with StorageServer(options, broken) as server:
        with Client(server.port) as silent:
            silent.expect_end()  # reported from the listener's own thread
        with Client(server.port).associate() as client:
            assert client.store().status == 0
            client.end()
        assert echoes(server.port)


def test_no_more_threads_costs_one_connection(monkeypatch) -> None:
    events = Events()
    with serving(None, events) as server:
        start = threading.Thread.start

        def refuse(_: threading.Thread) -> None:
            monkeypatch.setattr(threading.Thread, "start", start)
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with Client(server.port) as client:
            client.send(encode(request()))
            with pytest.raises((AssertionError, ConnectionError)):
                client.read(1)
        assert "no more threads" in events.wait_for(Refused).error.message
        assert echoes(server.port)


# --- the end -------------------------------------------------------------------------------------------------


@contextmanager
def running(
    output: Path, events: Events, grace: float = 10.0
) -> Iterator[tuple[StorageServer, threading.Thread]]:
    """Run a server whose end the test brings about."""
    server = StorageServer(ServerOptions(port=0, hosts=("127.0.0.1",), output=output, grace=grace), events)
    server.start()
    runner = threading.Thread(target=server.run)
    runner.start()
    yield server, runner
    runner.join(LIMIT)
    assert not runner.is_alive()


def test_a_stop_lets_a_transfer_in_flight_finish_and_lets_nobody_in(tmp_path) -> None:
    events = Events()
    with running(tmp_path, events) as (server, runner):
        port = server.port
        with Client(port).associate() as client:
            rest = client.begin_store()
            server.stop()
            until_nobody_listens(port)
            assert client.end_store(rest).status == 0
            assert client.store(2, "1.2.4").status == 0
            assert runner.is_alive()
            client.end()
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm", "1.2.9/1.2.4.dcm"]
    assert events.wait_for(Closed).error is None


def test_a_stop_does_not_wait_longer_than_its_grace_time(tmp_path) -> None:
    """The transfer is still in the middle when the server has ended, and nothing of it is left."""
    events = Events()
    with running(tmp_path, events, 0.2) as (server, runner), Client(server.port).associate() as client:
        client.begin_store()
        server.stop()
        runner.join(LIMIT)
        assert not runner.is_alive()
        error = events.wait_for(Closed).error
        assert error is not None
        assert error.slug == "association.stopped"
        assert files(tmp_path) == []


def test_an_abort_ends_everything_at_once(tmp_path) -> None:
    with running(tmp_path, Events()) as (server, runner), Client(server.port).associate() as client:
        client.begin_store()
        server.stop()
        server.abort()
        runner.join(LIMIT)
        assert not runner.is_alive()
        assert files(tmp_path) == []


def test_stop_before_anybody_came_and_stop_again() -> None:
    with serving(None) as server:
        server.stop()
    server.stop()


# --- where to listen -----------------------------------------------------------------------------------------


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
            return True
    except OSError:
        return False


def listening_on(
    hosts: tuple[str, ...], family: socket.AddressFamily = socket.AF_UNSPEC
) -> list[tuple[str, int]]:
    listeners = listen(hosts, 0, family)
    try:
        return [sock.getsockname()[:2] for sock in listeners]
    finally:
        for sock in listeners:
            sock.close()


def test_port_0_is_one_free_port_for_all_addresses() -> None:
    addresses = listening_on(())
    assert len({port for _, port in addresses}) == 1
    assert {host for host, _ in addresses} == {"0.0.0.0", *(["::"] if has_ipv6() else [])}


def test_only_the_addresses_that_are_wanted() -> None:
    assert [host for host, _ in listening_on(("127.0.0.1",))] == ["127.0.0.1"]
    assert [host for host, _ in listening_on((), socket.AF_INET)] == ["0.0.0.0"]
    assert "127.0.0.1" in [host for host, _ in listening_on(("localhost",))]
    assert [host for host, _ in listening_on(("localhost", "127.0.0.1"), socket.AF_INET)] == ["127.0.0.1"]


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6_only() -> None:
    assert [host for host, _ in listening_on((), socket.AF_INET6)] == ["::"]
    assert [host for host, _ in listening_on(("::1",))] == ["::1"]


def test_a_free_port_that_is_taken_on_the_next_address_is_tried_anew(monkeypatch) -> None:
    from dicomtls_cli.services.receiving import listen as listening

    bind, refused = listening._bind, []

    def taken_once(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket | None:
        if address[1] and not refused:
            refused.append(address)
            raise OSError(98, "Address already in use")
        return bind(family, address)

    monkeypatch.setattr(listening, "_bind", taken_once)
    addresses = listening_on(("127.0.0.1", "127.0.0.2"))
    assert refused
    assert [host for host, _ in addresses] == ["127.0.0.1", "127.0.0.2"]
    assert len({port for _, port in addresses}) == 1


@pytest.mark.parametrize(
    ("host", "slug"),
    [
        ("192.0.2.1", "listen.failed"),
        *((host, "listen.unknown-address") for host in ("no-such-host.invalid", "a..b", "\x00")),
    ],
)
def test_an_address_that_is_not_ours(host, slug) -> None:
    with pytest.raises(OutputError) as caught:
        StorageServer(ServerOptions(port=0, hosts=(host,))).start()
    assert caught.value.slug == slug
    assert caught.value.exit_code == ExitCode.CANNOT_LISTEN


def test_a_server_that_cannot_start_leaves_no_folder(tmp_path) -> None:
    output = tmp_path / "a" / "b"
    with serving(None) as server, pytest.raises(OutputError):
        StorageServer(ServerOptions(port=server.port, hosts=("127.0.0.1",), output=output)).start()
    assert list(tmp_path.iterdir()) == []


def test_a_stop_does_not_wait_for_an_association_that_only_stays_open(tmp_path, monkeypatch) -> None:
    """Neither for it nor for a handshake that does not go on: both still stand when the server has ended."""
    monkeypatch.setattr(module, "_IDLE", 0.1)
    with running(tmp_path, Events(), 10 * LIMIT) as (server, runner), Client(server.port).associate():
        server.stop()
        runner.join(LIMIT)
        assert not runner.is_alive()


def test_a_port_that_is_taken() -> None:
    with serving(None) as server, pytest.raises(OutputError, match=str(server.port)) as caught:
        StorageServer(ServerOptions(port=server.port, hosts=("127.0.0.1",))).start()
    assert caught.value.exit_code == ExitCode.CANNOT_LISTEN


def test_storage_is_taken_in_any_syntax_and_echo_in_the_uncompressed_ones() -> None:
    asked = request((VERIFICATION, ("1.2.840.10008.1.2.4.50", IMPLICIT)), (CT, ("1.2.840.10008.1.2.4.90",)))
    with serving(None) as server, Client(server.port).associate(asked) as client:
        assert client.echo().status == 0
        client.end()
