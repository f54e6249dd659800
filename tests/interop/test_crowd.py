"""Our SCP in a crowd: whoever says nothing, or the wrong thing, disturbs nobody."""

from __future__ import annotations

import contextlib
import queue
import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomtls_cli.services.peer import Timeouts, TlsOptions, tls_context
from dicomtls_cli.services.receiving.events import Event, Refused
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.codec import encode
from dicomtls_cli.upperlayer.negotiation import propose
from dicomtls_cli.upperlayer.pdu import AssociateRequest
from dicomtls_cli.upperlayer.registry import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from tests.conftest import Pki
from tests.support import cli
from tests.support.receiver import Scp, storescp
from tests.support.server import Client
from tests.tls.wire import plain_context

LIMIT = 30.0
SILENT, HALF_WAY, PLAIN = 500, 200, 100
MOST_MEMORY = 150_000_000
IDLE = 200
MOST_OF_EACH = 300_000  # bytes; some 160,000 are usual
PLAIN_REQUEST = encode(
    AssociateRequest("ANY-SCP", "PLAIN", propose([(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))]), ())
)


@pytest.fixture
def _many_files() -> Iterator[None]:
    """The peers of this process are all its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if needed < SILENT + HALF_WAY + PLAIN + 200:
        pytest.skip(f"not more than {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_files")
def test_an_echo_in_a_crowd(pki: Pki) -> None:
    """All of them stay; an echo comes before the deadline of any, and the crowd costs little memory."""
    words = ("--json", "--ignore", *pki.scp_options, "--tls-timeout", f"{LIMIT:g}s")
    with storescp(*words) as scp, contextlib.ExitStack() as stack:
        silent, half_way = crowd(stack, scp.port, SILENT, HALF_WAY)
        others = [client(stack, scp.port, PLAIN_REQUEST) for _ in range(PLAIN)]
        others.append(client(stack, scp.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        client(stack, scp.port).reset()  # a port scan
        seen = 0
        for _ in others:
            seen = next_event(scp, "tls.peer-plain", seen)
        # One more who comes late: whoever is dropped, it is never the newest.
        result = cli.run("echoscu", scp.address, *pki.scu_options)
        assert result.exit_code == 0, result.stderr
        for event in ("opened", "closed"):
            next_event(scp, f'"event": "{event}"', seen)
        assert not [line for line in scp.out.lines() if "-silent" in line]  # no deadline has passed
        for one in (*silent, *half_way):
            one.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while one.sock.recv(65536):  # the acceptor's part of the handshake, and then nothing
                    pass
                raise AssertionError("it was dropped")
        assert memory(scp) < MOST_MEMORY


@pytest.mark.usefixtures("_many_files")
def test_an_idle_association_costs_little_memory(pki: Pki) -> None:
    context = tls_context(Role.REQUESTOR, TlsOptions(pki.scu.cert, pki.scu.key, trust=(pki.trusted,)))
    with storescp("--max-associations", "400", *pki.scp_options) as scp, contextlib.ExitStack() as stack:

        def associate(number: int) -> None:
            made = stack.enter_context(Client(scp.port))
            made.sock = context.wrap_socket(made.sock, server_hostname="localhost")
            assert made.associate().store(instance=f"1.2.{number}").status == 0

        for number in range(20):  # what the first ones bring along, all have
            associate(number)
        before = status(scp, "VmRSS") * 1024
        for number in range(20, 20 + IDLE):
            associate(number)
        each = (status(scp, "VmRSS") * 1024 - before) / IDLE
        assert 20_000 < each < MOST_OF_EACH  # less than its buffer would be a wrong measurement


def test_a_crowd_is_gone_at_its_deadline(pki: Pki) -> None:
    with storescp("--json", "--ignore", *pki.scp_options, "--tls-timeout", "500ms") as scp:
        files, threads = len(open_files(scp)), count_of_threads(scp)
        with contextlib.ExitStack() as stack:
            silent, half_way = crowd(stack, scp.port, 60, 40)
            for one in (*silent, *half_way):
                with contextlib.suppress(ConnectionError):
                    while one.sock.recv(65536):
                        pass
            never = threading.Event()
            while len(open_files(scp)) > files or count_of_threads(scp) > threads:
                never.wait(0.01)  # the limit of the test is that of pytest
        assert cli.run("echoscu", scp.address, *pki.scu_options).exit_code == 0


def client(stack: contextlib.ExitStack, port: int, said: bytes = b"") -> Client:
    made = stack.enter_context(Client(port))
    made.send(said)
    return made


def crowd(
    stack: contextlib.ExitStack, port: int, silent: int, half_way: int
) -> tuple[list[Client], list[Client]]:
    """Connect clients that say nothing, and others that begin a TLS handshake and do not go on with it."""
    outgoing = ssl.MemoryBIO()
    hello = plain_context(Role.REQUESTOR).wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    whole = outgoing.read()
    said = [whole, whole[:-1], whole[:1]]
    return (
        [client(stack, port) for _ in range(silent)],
        [client(stack, port, said[number % len(said)]) for number in range(half_way)],
    )


def next_event(scp: Scp, word: str, seen: int) -> int:
    """Wait for a line with `word` after the first `seen` of the output; return how many there are up to it."""
    scp.out.wait_for(word, seen)
    return next(number for number, line in enumerate(scp.out.lines()) if number >= seen and word in line) + 1


def status(scp: Scp, name: str) -> int:
    text = Path(f"/proc/{scp.process.pid}/status").read_text()
    return int(text.partition(f"\n{name}:")[2].split()[0])


def memory(scp: Scp) -> int:
    """Return the most memory it ever had, in bytes."""
    return status(scp, "VmHWM") * 1024


def count_of_threads(scp: Scp) -> int:
    return status(scp, "Threads")


def open_files(scp: Scp) -> list[Path]:
    return list(Path(f"/proc/{scp.process.pid}/fd").iterdir())


def test_when_too_many_wait_the_oldest_goes(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomtls_cli.services.receiving.server._WAITING", 3)
    context = tls_context(Role.ACCEPTOR, TlsOptions(pki.scp.cert, pki.scp.key, trust=(pki.trusted,)))
    options = ServerOptions(port=0, hosts=("127.0.0.1",), context=context, timeouts=Timeouts(tls=LIMIT))
    events: queue.Queue[Event] = queue.Queue()
    with StorageServer(options, events.put) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        crowd_ = [stack.enter_context(socket.create_connection(address, LIMIT)) for _ in range(5)]
        dropped = [events.get(timeout=LIMIT) for _ in range(2)]
        assert [event.error.slug for event in dropped if isinstance(event, Refused)] == ["peer.silent"] * 2
        assert [sock.recv(1) for sock in crowd_[:2]] == [b"", b""]  # closed
        assert cli.run("echoscu", f"localhost:{server.port}", *pki.scu_options).exit_code == 0
