"""Peers with a good certificate and bad manners: each is ended as PS3.8 has it, and the others notice nothing."""

from __future__ import annotations

import contextlib
import itertools
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomtls_cli.dimse.command import encode, store_request
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.codec import encode as encode_pdu
from tests.conftest import Pki
from tests.support.flood import memory
from tests.support.objects import data_set
from tests.support.receiver import Scp, storescp
from tests.support.scripted import CT, P_DATA, PROVIDER, RQ, abort, header, p_data, pdv
from tests.support.server import ASKED, ECHO, STORE, Client

UNEXPECTED_PARAMETER, INVALID, UNSPECIFIED, UNEXPECTED_PDU = 5, 6, 0, 2
MOST_MEMORY = 100_000_000
COMMAND = encode(store_request(1, CT, "1.2.3"))
SHORT = ("--dimse-timeout", "300ms", "--idle-timeout", "60s")


@pytest.fixture
def context(pki: Pki) -> ssl.SSLContext:
    return tls_context(Role.REQUESTOR, TlsOptions(pki.scu.cert, pki.scu.key, trust=(pki.trusted,)))


@contextlib.contextmanager
def client(scp: Scp, context: ssl.SSLContext, *, associated: bool = True) -> Iterator[Client]:
    with Client(scp.port) as made:
        made.sock = context.wrap_socket(made.sock, server_hostname="localhost")
        yield made.associate() if associated else made


WRONG = [
    pytest.param(header(P_DATA, 0xFFFFFFFE), INVALID, id="PDU of 4 GB"),
    pytest.param(header(P_DATA, 0), INVALID, id="empty PDU"),
    pytest.param(header(P_DATA, 6) + b"\xff\xff\xff\xff\x01\x03", INVALID, id="PDV of 4 GB"),
    pytest.param(p_data(pdv(ECHO, b"", last=False, command=True)) * 1000, INVALID, id="empty PDVs"),
    pytest.param(p_data(pdv(STORE, COMMAND, command=True)) + p_data(pdv(STORE, b"", last=False)) * 1000,
                 INVALID, id="empty PDVs of data"),
    pytest.param(p_data(pdv(99, COMMAND, command=True)), INVALID, id="context never negotiated"),
    pytest.param(p_data(pdv(STORE, COMMAND, command=True)) + p_data(pdv(ECHO, data_set())),
                 INVALID, id="data on another context"),
    pytest.param(p_data(pdv(STORE, data_set())), UNEXPECTED_PARAMETER, id="data before a command"),
    pytest.param(p_data(pdv(STORE, COMMAND, command=True)) * 2, UNEXPECTED_PARAMETER, id="two commands"),
    pytest.param(p_data(pdv(STORE, bytes(16_000), command=True, last=False)) * 8, INVALID, id="long command"),
    pytest.param(encode_pdu(ASKED), UNEXPECTED_PDU, id="associates again"),
]  # fmt: skip


def test_what_ps38_forbids_ends_that_association_alone(pki: Pki, context: ssl.SSLContext) -> None:
    """One after the other, while a good peer is in the middle of an instance."""
    with storescp("--json", *pki.scp_options) as scp, client(scp, context) as good:
        rest = good.begin_store(1, "1.2.99")
        for case in WRONG:
            said, reason = case.values
            seen = len(scp.out)
            with client(scp, context) as bad:
                bad.send(said)
                bad.expect_abort(PROVIDER, reason)
            line = scp.out.wait_for('"event": "closed"', seen)
            assert '"code": "association.protocol-error"' in line, case.id
        with client(scp, context, associated=False) as bad:
            bad.send(header(RQ, 0xFFFFFFFF))
            bad.expect_abort(PROVIDER, INVALID)
        with client(scp, context) as bad, contextlib.suppress(OSError):
            for _ in range(640):  # 10 MB of a command set; it is cut off long before
                bad.send(p_data(pdv(STORE, bytes(16_000), command=True, last=False)))
            raise AssertionError("all of it was taken")
        assert good.end_store(rest).status == 0
        good.end()
        assert memory(scp, "VmHWM") < MOST_MEMORY
        assert stored() == ["1.2.9/1.2.99.dcm"]


STALLS = [
    pytest.param(p_data(pdv(STORE, COMMAND, command=True))[:30], id="in mid-PDU"),
    pytest.param(header(P_DATA, 1000)[:3], id="in a header"),
    pytest.param(p_data(pdv(STORE, COMMAND[:20], command=True, last=False)), id="in a command"),
    pytest.param(p_data(pdv(STORE, COMMAND, command=True)), id="before the data"),
    pytest.param(
        p_data(pdv(STORE, COMMAND, command=True)) + p_data(pdv(STORE, data_set()[:600], last=False)),
        id="in the data",
    ),
]


def test_who_stops_is_aborted_in_time(pki: Pki, context: ssl.SSLContext) -> None:
    """All at once, while a good peer only keeps its association open."""
    with (
        storescp("--json", *pki.scp_options, *SHORT) as scp,
        client(scp, context) as good,
        contextlib.ExitStack() as stack,
    ):
        stalled = []
        for case in STALLS:
            stalled.append(stack.enter_context(client(scp, context)))
            stalled[-1].send(*case.values)
        for one in stalled:
            one.expect_abort(PROVIDER, UNSPECIFIED)
            one.close()
        assert good.store().status == 0
        good.end()
        closed = itertools.count(1)
        scp.out.wait_for(lambda line: '"event": "closed"' in line and next(closed) > len(STALLS))
        assert stored() == ["1.2.9/1.2.3.dcm"]


@pytest.mark.parametrize("how", ["stops", "drips"])
def test_a_tls_record_that_does_not_end(how: str, pki: Pki, context: ssl.SSLContext) -> None:
    """Bytes keep coming, or came, and yet no message begins: it is idle, and ends as such."""
    words = ("--dimse-timeout", "60s", "--idle-timeout", "300ms")
    with storescp("--json", *pki.scp_options, *words) as scp, Client(scp.port) as raw:
        tunnel = Tunnel(raw, context)
        tunnel.send(encode_pdu(ASKED))
        tunnel.wait_for(b"\2\0")  # A-ASSOCIATE-AC
        record = tunnel.sealed(bytes(16_000))
        raw.send(record[:100])
        if how == "drips":
            raw.drip(record[100:])
        tunnel.wait_for(abort(PROVIDER, UNSPECIFIED))
        assert '"code": "association.timeout"' in scp.out.wait_for('"event": "closed"')


class Tunnel:
    """A requestor whose TLS records are in the hands of the test."""

    def __init__(self, raw: Client, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                break
            self._exchange()
        self._raw.send(self._outgoing.read())

    def _exchange(self) -> None:
        self._raw.send(self._outgoing.read())
        data = self._raw.sock.recv(65536)
        assert data, "the connection ended"
        self._incoming.write(data)

    def sealed(self, data: bytes) -> bytes:
        """Return the TLS record that holds `data`, which is not sent."""
        self._tls.write(data)
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        self._raw.send(self.sealed(data))

    def wait_for(self, start: bytes) -> None:
        """Wait for data that begins so."""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                assert self._tls.read(65536).startswith(start)
                return
            self._exchange()


def test_sigterm_whatever_its_peers_are_at(pki: Pki, context: ssl.SSLContext) -> None:
    """All phases at once; nobody keeps it longer than its grace time, and nothing half is left."""
    words = ("--json", *pki.scp_options, "--grace", "300ms")
    with storescp(*words) as scp, contextlib.ExitStack() as stack:

        def peer(said: bytes = b"", *, associated: bool = True) -> Client:
            made = stack.enter_context(client(scp, context, associated=associated))
            made.send(said)
            return made

        stack.enter_context(Client(scp.port))  # silent
        stack.enter_context(Client(scp.port)).send(b"\x16\x03\x01")  # in the handshake
        peer(associated=False)
        peer(encode_pdu(ASKED)[:20], associated=False)
        idle = peer()
        assert idle.store(1, "1.2.77").status == 0
        for case in STALLS:
            peer(*case.values)
        peer(p_data(pdv(STORE, COMMAND, command=True), pdv(STORE, data_set()[:600], last=False)))
        scp.process.terminate()
        assert scp.ends_with() == 0
        total = scp.out.wait_for('"event": "total"')
        assert '"stored": 1, ' in total
        assert stored() == ["1.2.9/1.2.77.dcm"]


def stored() -> list[str]:
    output = Path("output")
    return sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
