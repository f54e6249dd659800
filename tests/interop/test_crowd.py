"""Our SCP in a crowd: whoever says nothing, or the wrong thing, disturbs nobody."""

from __future__ import annotations

import contextlib
import queue
import resource
import socket
from collections.abc import Iterator

import pytest

from dicomtls_cli.services.events import Closed, Event, Opened, Refused
from dicomtls_cli.services.peer import Timeouts, TlsOptions, tls_context
from dicomtls_cli.services.server import ServerOptions, StorageServer
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.codec import encode
from dicomtls_cli.upperlayer.negotiation import propose
from dicomtls_cli.upperlayer.pdu import AssociateRequest
from dicomtls_cli.upperlayer.registry import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from tests.conftest import Pki
from tests.support import cli

LIMIT = 30.0
SILENT, PLAIN = 500, 100


@pytest.fixture
def _many_files() -> Iterator[None]:
    """Both ends of all connections are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if needed < 2 * (SILENT + PLAIN) + 200:
        pytest.skip(f"not more than {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_files")
def test_an_echo_in_a_crowd(pki: Pki) -> None:
    """500 silent clients, 100 plain ones and one of HTTP stay connected; an echo comes before their deadline."""
    context = tls_context(Role.ACCEPTOR, TlsOptions(pki.scp.cert, pki.scp.key, trust=(pki.trusted,)))
    options = ServerOptions(port=0, hosts=("127.0.0.1",), context=context, timeouts=Timeouts(tls=LIMIT))
    plain = encode(
        AssociateRequest("ANY-SCP", "PLAIN", propose([(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))]), ())
    )
    events: queue.Queue[Event] = queue.Queue()
    with StorageServer(options, events.put) as server, contextlib.ExitStack() as stack:

        def client(said: bytes = b"") -> socket.socket:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), LIMIT))
            sock.sendall(said)
            return sock

        silent = [client() for _ in range(SILENT)]
        others = [client(plain) for _ in range(PLAIN)] + [client(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")]
        refused = [events.get(timeout=LIMIT) for _ in others]
        assert all(isinstance(event, Refused) for event in refused)
        slugs = {event.error.slug for event in refused if isinstance(event, Refused)}
        assert slugs == {"tls.peer-plain"}

        result = cli.run("echoscu", f"localhost:{server.port}", *pki.scu_options)
        assert result.exit_code == 0, result.stderr
        seen = [events.get(timeout=LIMIT) for _ in range(2)]
        assert [type(event) for event in seen] == [
            Opened,
            Closed,
        ]  # no deadline has passed, nobody was dropped
        assert events.empty()
        for sock in silent:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)


def test_when_too_many_wait_the_oldest_goes(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomtls_cli.services.server._WAITING", 3)
    context = tls_context(Role.ACCEPTOR, TlsOptions(pki.scp.cert, pki.scp.key, trust=(pki.trusted,)))
    options = ServerOptions(port=0, hosts=("127.0.0.1",), context=context, timeouts=Timeouts(tls=LIMIT))
    events: queue.Queue[Event] = queue.Queue()
    with StorageServer(options, events.put) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        crowd = [stack.enter_context(socket.create_connection(address, LIMIT)) for _ in range(5)]
        dropped = [events.get(timeout=LIMIT) for _ in range(2)]
        assert [event.error.slug for event in dropped if isinstance(event, Refused)] == ["peer.silent"] * 2
        assert [sock.recv(1) for sock in crowd[:2]] == [b"", b""]  # closed
        assert cli.run("echoscu", f"localhost:{server.port}", *pki.scu_options).exit_code == 0
