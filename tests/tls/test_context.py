"""Whoever holds one of our contexts gets the identity check: no application byte passes before it.

The peer is the standard library's. The bad one shows a certificate that a bundled `openssl req -x509`
certificate has signed: OpenSSL accepts it, the identity rules do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicomtls_cli.material import Refusal, Trust
from dicomtls_cli.tls.context import DicomTlsSocket, IdentityError, client_context, server_context
from dicomtls_cli.tls.policy import Identity, PeerCheck, Role, TlsPolicy
from tests.tls.conftest import Zoo
from tests.tls.named import KEY_PEM, Names
from tests.tls.wire import HOST, TLS12, TLS13, caught, connect, key_pair, plain_context, trust, write_pem

LIMIT = 20.0
FROM_PEER, FROM_US = b"bytes of the peer", b"bytes of ours"
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS1.2", "TLS1.3"])
ROLES = pytest.mark.parametrize("role", list(Role))


def _ours(role: Role, zoo: Zoo, **choices: object) -> ssl.SSLContext:
    policy = TlsPolicy(role, key_pair(zoo["own"]), trust(*zoo.all("openssl self ca")), **choices)  # type: ignore[arg-type]
    return client_context(policy) if role is Role.REQUESTOR else server_context(policy)


def _other(role: Role) -> Role:
    return Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR


@dataclass
class Peer:
    """The other end in a thread: makes the handshake, sends its bytes, reads until we close."""

    sock: socket.socket
    context: ssl.SSLContext
    role: Role
    received: bytearray = field(default_factory=bytearray)

    def run(self) -> None:
        self.sock.settimeout(LIMIT)
        server_side = self.role is Role.ACCEPTOR
        with (
            contextlib.suppress(OSError),
            self.sock,
            self.context.wrap_socket(self.sock, server_side=server_side) as secured,
        ):
            secured.sendall(FROM_PEER)
            while chunk := secured.recv(1024):
                self.received += chunk


@contextlib.contextmanager
def _connection(
    role: Role, animal: str, zoo: Zoo, version: ssl.TLSVersion = TLS13
) -> Iterator[tuple[DicomTlsSocket, Peer]]:
    """Yield our socket, its handshake not made yet, and the peer that shows the certificate `animal`."""
    here, there = socket.socketpair()
    peer = Peer(there, plain_context(_other(role), key_pair(zoo[animal]), version), _other(role))
    thread = threading.Thread(target=peer.run, daemon=True)
    thread.start()
    here.settimeout(LIMIT)
    secured = _ours(role, zoo).wrap_socket(
        here,
        server_side=role is Role.ACCEPTOR,
        server_hostname=HOST if role is Role.REQUESTOR else None,
        do_handshake_on_connect=False,
    )
    assert isinstance(secured, DicomTlsSocket)
    try:
        yield secured, peer
    finally:
        secured.close()
        thread.join(LIMIT)
        assert not thread.is_alive()


def _recv_into(sock: DicomTlsSocket) -> bytes:
    buffer = bytearray(100)
    try:
        return bytes(buffer[: sock.recv_into(buffer)])
    finally:
        assert bytes(buffer).rstrip(b"\0") in (b"", FROM_PEER)


def _read_into(sock: DicomTlsSocket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: sock.read(100, buffer)])


def _send_file(sock: DicomTlsSocket) -> None:
    with Path("file").open("wb") as file:
        file.write(FROM_US)
    with Path("file").open("rb") as file:
        sock.sendfile(file)


def _write_through_a_file(sock: DicomTlsSocket) -> None:
    with sock.makefile("wb", buffering=0) as file:
        file.write(FROM_US)


READS: dict[str, Callable[[DicomTlsSocket], bytes]] = {
    "recv": lambda sock: sock.recv(100),
    "recv_into": _recv_into,
    "read": lambda sock: sock.read(100),
    "read_into": _read_into,
    "makefile": lambda sock: sock.makefile("rb", buffering=0).read(100) or b"",
    "buffered": lambda sock: sock.makefile("rb").read1(100),
}
WRITES: dict[str, Callable[[DicomTlsSocket], object]] = {
    "send": lambda sock: sock.send(FROM_US),
    "sendall": lambda sock: sock.sendall(FROM_US),
    "write": lambda sock: sock.write(FROM_US),
    "sendfile": _send_file,
    "makefile": _write_through_a_file,
}
ACTIONS: dict[str, Callable[[DicomTlsSocket], object]] = {
    **{f"read by {name}": action for name, action in READS.items()},
    **{f"write by {name}": action for name, action in WRITES.items()},
    "do_handshake": lambda sock: sock.do_handshake(),
}


@pytest.mark.parametrize("action", ACTIONS)
@VERSIONS
@ROLES
def test_no_byte_passes_with_a_stranger(role: Role, version: ssl.TLSVersion, action: str, zoo: Zoo) -> None:
    with _connection(role, "child", zoo, version) as (sock, peer):
        for _ in range(2):  # a second try changes nothing
            with pytest.raises(IdentityError):
                ACTIONS[action](sock)
        for other in ACTIONS.values():
            with pytest.raises(IdentityError):
                other(sock)
    assert peer.received == b""


@pytest.mark.parametrize("name", READS)
@VERSIONS
@ROLES
def test_the_first_read_makes_the_handshake(role: Role, version: ssl.TLSVersion, name: str, zoo: Zoo) -> None:
    with _connection(role, "leaf", zoo, version) as (sock, _):
        assert READS[name](sock) == FROM_PEER
        assert sock.identified_by == ("name" if role is Role.REQUESTOR else "ca")


@pytest.mark.parametrize("name", WRITES)
@VERSIONS
@ROLES
def test_the_first_write_makes_the_handshake(
    role: Role, version: ssl.TLSVersion, name: str, zoo: Zoo
) -> None:
    with _connection(role, "self", zoo, version) as (sock, peer):
        WRITES[name](sock)
        assert sock.identified_by == "pin"
        sock.recv(100)
    assert peer.received == FROM_US


@ROLES
def test_datagram_methods_stay_shut(role: Role, zoo: Zoo) -> None:
    with _connection(role, "child", zoo) as (sock, peer):
        for action in (
            lambda: sock.sendto(FROM_US, "peer"),
            lambda: sock.recvfrom(100),
            lambda: sock.recvfrom_into(bytearray(100)),
            lambda: sock.sendmsg([FROM_US]),
            lambda: sock.recvmsg(100),
        ):
            with pytest.raises((ValueError, NotImplementedError)):
                action()
    assert peer.received == b""


# ---------------------------------------------------------------------- sockets that connect or accept by themselves


@pytest.fixture
def _bounded() -> Iterator[None]:
    """Give the sockets that `accept` returns a time-out; they take none from their listener."""
    socket.setdefaulttimeout(LIMIT)
    yield
    socket.setdefaulttimeout(None)


@contextlib.contextmanager
def _listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        yield listener


@pytest.mark.parametrize("way", ["connect", "connect_ex"])
@pytest.mark.parametrize("animal", ["child", "stranger"])
@VERSIONS
def test_a_refused_connect_leaves_no_open_connection(
    way: str, animal: str, version: ssl.TLSVersion, zoo: Zoo
) -> None:
    """As pynetdicom does it. ssl.SSLSocket goes on in the clear after its handshake failed in `connect`."""
    raw = bytearray()

    def serve() -> None:
        sock, _ = listener.accept()
        sock.settimeout(LIMIT)
        server = plain_context(Role.ACCEPTOR, key_pair(zoo[animal]), version)
        with contextlib.suppress(OSError), sock:
            secured = server.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            with contextlib.suppress(OSError):
                secured.do_handshake()
            with socket.socket(fileno=secured.detach()) as bare:
                bare.settimeout(LIMIT)
                while chunk := bare.recv(1024):
                    raw.extend(chunk)

    with _listener() as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        sock = _ours(Role.REQUESTOR, zoo).wrap_socket(socket.socket(), server_hostname=HOST)
        sock.settimeout(LIMIT)
        with pytest.raises(ssl.SSLCertVerificationError):
            getattr(sock, way)(listener.getsockname())
        for action in (
            lambda: sock.sendall(FROM_US),
            lambda: sock.send(FROM_US),
            lambda: sock.recv(1),
            lambda: sock.recvfrom(1),
        ):
            with pytest.raises(OSError):
                action()
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert FROM_US not in raw


@pytest.mark.parametrize("way", ["connect", "connect_ex"])
def test_a_good_peer_is_connected_to(way: str, zoo: Zoo) -> None:
    with _listener() as listener:

        def serve() -> None:
            peer = Peer(
                listener.accept()[0], plain_context(Role.ACCEPTOR, key_pair(zoo["self"])), Role.ACCEPTOR
            )
            peer.run()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with _ours(Role.REQUESTOR, zoo).wrap_socket(socket.socket(), server_hostname=HOST) as sock:
            sock.settimeout(LIMIT)
            assert not getattr(sock, way)(listener.getsockname())
            assert sock.recv(100) == FROM_PEER
        thread.join(LIMIT)


def test_a_closed_port_is_the_operating_systems_error(zoo: Zoo) -> None:
    with _listener() as listener:
        address = listener.getsockname()
    sock = _ours(Role.REQUESTOR, zoo).wrap_socket(socket.socket(), server_hostname=HOST)
    with pytest.raises(ConnectionRefusedError):
        sock.connect(address)
    with _ours(Role.REQUESTOR, zoo).wrap_socket(socket.socket(), server_hostname=HOST) as sock:
        assert sock.connect_ex(address)


@pytest.mark.usefixtures("_bounded")
@pytest.mark.parametrize(("animal", "expected"), [("child", None), ("self", FROM_PEER)])
def test_accept_does_not_wait_for_the_handshake(animal: str, expected: bytes | None, zoo: Zoo) -> None:
    """A listening socket wrapped by our context hands out sockets whose first use makes the handshake."""
    with _listener() as plain, _ours(Role.ACCEPTOR, zoo).wrap_socket(plain, server_side=True) as listener:
        listener.settimeout(LIMIT)
        with socket.create_connection(listener.getsockname(), LIMIT) as silent:
            accepted, _ = listener.accept()  # although it says nothing
            accepted.close()
            del silent
        client = socket.create_connection(listener.getsockname(), LIMIT)
        peer = Peer(client, plain_context(Role.REQUESTOR, key_pair(zoo[animal])), Role.REQUESTOR)
        thread = threading.Thread(target=peer.run, daemon=True)
        thread.start()
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(LIMIT)
            if expected is None:
                with pytest.raises(IdentityError):
                    accepted.recv(100)
            else:
                assert accepted.recv(100) == expected
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_a_requestors_context_makes_the_handshake_when_it_wraps(zoo: Zoo) -> None:
    here, there = socket.socketpair()
    peer = Peer(there, plain_context(Role.ACCEPTOR, key_pair(zoo["child"])), Role.ACCEPTOR)
    thread = threading.Thread(target=peer.run, daemon=True)
    thread.start()
    here.settimeout(LIMIT)
    with pytest.raises(IdentityError):
        _ours(Role.REQUESTOR, zoo).wrap_socket(here, server_hostname=HOST)
    thread.join(LIMIT)
    assert peer.received == b""


def test_a_socket_that_does_not_block_waits_for_nobody(zoo: Zoo) -> None:
    here, there = socket.socketpair()
    with there, here:
        here.setblocking(False)
        with _ours(Role.ACCEPTOR, zoo).wrap_socket(here, server_side=True) as sock:
            with pytest.raises(ssl.SSLWantReadError):
                sock.recv(1)
            with pytest.raises(ssl.SSLWantReadError):
                sock.send(b"x")


# ---------------------------------------------------------------------- memory, asyncio


@VERSIONS
@ROLES
def test_no_byte_passes_over_memory(role: Role, version: ssl.TLSVersion, zoo: Zoo) -> None:
    theirs = plain_context(_other(role), key_pair(zoo["child"]), version)
    ours = _ours(role, zoo)
    ends = connect(ours, theirs) if role is Role.REQUESTOR else connect(theirs, ours)
    us, peer = ends if role is Role.REQUESTOR else ends[::-1]
    assert peer.done
    peer.tls.write(FROM_PEER)
    for _ in range(2):
        for action in (
            lambda: us.tls.read(100),
            lambda: us.tls.read(100, bytearray(100)),
            lambda: us.tls.write(FROM_US),
            lambda: us.tls.do_handshake(),
        ):
            assert isinstance(caught(action), IdentityError)
    assert isinstance(caught(lambda: peer.tls.read(100)), ssl.SSLWantReadError)


@VERSIONS
@ROLES
def test_bytes_pass_over_memory_once_the_peer_is_known(role: Role, version: ssl.TLSVersion, zoo: Zoo) -> None:
    theirs = plain_context(_other(role), key_pair(zoo["self"]), version)
    ours = _ours(role, zoo)
    ends = connect(ours, theirs) if role is Role.REQUESTOR else connect(theirs, ours)
    us, peer = ends if role is Role.REQUESTOR else ends[::-1]
    peer.tls.write(FROM_PEER)
    assert us.tls.read(100) == FROM_PEER
    us.tls.write(FROM_US)
    assert peer.tls.read(100) == FROM_US


def _talk(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[bytes, bytes, BaseException | None]:
    """Let an asyncio server and client greet each other; return what each got, and the client's error."""

    async def talk() -> tuple[bytes, bytes, BaseException | None]:
        at_server: list[bytes] = []
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                writer.write(b"from the server")
                at_server.append(await reader.read(100))
            served.set()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
        port = listener.sockets[0].getsockname()[1]
        at_client, error = b"", None
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname=HOST
            )
            with contextlib.suppress(OSError):
                writer.write(b"from the client")
                at_client = await reader.read(100)
            writer.close()
            if at_client:
                await served.wait()
        except OSError as failed:
            error = failed
        listener.close()
        return b"".join(at_server), at_client, error

    async def bounded() -> tuple[bytes, bytes, BaseException | None]:
        return await asyncio.wait_for(talk(), LIMIT)

    return asyncio.run(bounded())


def test_asyncio_gets_the_check_too(zoo: Zoo) -> None:
    def plain(role: Role, animal: str) -> ssl.SSLContext:
        return plain_context(role, key_pair(zoo[animal]))

    good = _talk(plain(Role.ACCEPTOR, "leaf"), _ours(Role.REQUESTOR, zoo))
    assert good == (b"from the client", b"from the server", None)
    good = _talk(_ours(Role.ACCEPTOR, zoo), plain(Role.REQUESTOR, "leaf"))
    assert good == (b"from the client", b"from the server", None)

    at_server, at_client, error = _talk(plain(Role.ACCEPTOR, "child"), _ours(Role.REQUESTOR, zoo))
    assert (at_server, at_client) == (b"", b"")
    assert isinstance(error, IdentityError)
    at_server, at_client, _ = _talk(_ours(Role.ACCEPTOR, zoo), plain(Role.REQUESTOR, "child"))
    assert (at_server, at_client) == (b"", b"")


# ---------------------------------------------------------------------- who vouches


@pytest.mark.parametrize(
    ("animal", "trusted", "choices", "expected"),
    [
        ("self", "self ca", {}, ""),
        ("leaf", "self ca", {}, "ca"),
        ("leaf", "self ca", {"peer_check": PeerCheck.VERIFY}, "ca"),
        ("leaf", "self ca", {"peer_check": PeerCheck.IGNORE}, ""),
        ("deep", "self intermediate", {}, "intermediate"),
        ("child", "openssl", {"identity": Identity.NONE}, "openssl"),
    ],
)
@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS1.2", "TLS1.3"])
def test_the_acceptor_knows_the_cas_of_the_verified_chain(
    animal: str, trusted: str, choices: dict[str, object], expected: str, version: ssl.TLSVersion, zoo: Zoo
) -> None:
    ours = server_context(
        TlsPolicy(Role.ACCEPTOR, key_pair(zoo["own"]), trust(*zoo.all(trusted)), **choices)  # type: ignore[arg-type]
    )
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo[animal]), version)
    _, accepted = connect(theirs, ours)
    assert accepted.done
    assert accepted.tls.vouched_by == tuple(zoo[name].fingerprint for name in expected.split())  # type: ignore[attr-defined]


def test_the_chain_goes_up_to_the_root(zoo: Zoo) -> None:
    """Also what the peer sends along counts, once a trusted CA vouches for it."""
    ours = server_context(TlsPolicy(Role.ACCEPTOR, key_pair(zoo["own"]), trust(zoo["ca"])))
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo["deep"], (zoo["intermediate"], zoo["openssl"])))
    _, accepted = connect(theirs, ours)
    assert accepted.tls.vouched_by == (zoo["intermediate"].fingerprint, zoo["ca"].fingerprint)  # type: ignore[attr-defined]


def test_a_resumed_session_has_the_cas_of_the_first(zoo: Zoo) -> None:
    ours = _ours(Role.ACCEPTOR, zoo)
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo["leaf"]), TLS12)
    first, accepted = connect(theirs, ours)
    again, resumed = connect(theirs, ours, session=first.tls.session)
    assert again.tls.session_reused, "the test tests nothing"
    assert resumed.tls.vouched_by == accepted.tls.vouched_by == (zoo["ca"].fingerprint,)  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- session resumption


@pytest.mark.parametrize(
    ("animal", "choices", "expected"),
    [
        ("self", {}, "pin"),
        ("leaf", {}, "ca"),
        ("leaf", {"peer_check": PeerCheck.VERIFY}, "ca"),
        ("child", {}, "tls.peer-not-pinned"),
        ("leaf", {"identity": Identity.PINNED}, "tls.peer-not-pinned"),
    ],
)
def test_a_resumed_session_is_judged_as_the_first_one(
    animal: str, choices: dict[str, object], expected: str, zoo: Zoo
) -> None:
    """TLS 1.2 session ids, as Java's clients use them while an earlier connection is open."""
    ours = _ours(Role.ACCEPTOR, zoo, **choices)
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo[animal]), TLS12)
    first, accepted = connect(theirs, ours)
    assert accepted.outcome == expected
    again, resumed = connect(theirs, ours, session=first.tls.session)
    assert again.tls.session_reused, "the test tests nothing"
    assert resumed.outcome == expected
    assert caught(lambda: resumed.tls.read(1)).__class__ is (
        IdentityError if expected.startswith("tls.") else ssl.SSLWantReadError
    )


def test_a_session_is_no_way_into_another_context(zoo: Zoo) -> None:
    """SIGHUP makes a new context; who was let in by the old one is judged anew."""
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo["leaf"]), TLS12)
    first, accepted = connect(theirs, _ours(Role.ACCEPTOR, zoo))
    assert accepted.outcome == "ca"
    narrower = server_context(TlsPolicy(Role.ACCEPTOR, key_pair(zoo["own"]), trust(zoo["self"])))
    again, refused = connect(theirs, narrower, session=first.tls.session)
    assert not again.tls.session_reused
    assert refused.outcome == "tls.peer-untrusted"


@VERSIONS
def test_our_acceptor_hands_out_no_tickets(version: ssl.TLSVersion, zoo: Zoo) -> None:
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo["self"]), version)
    client, server = connect(theirs, _ours(Role.ACCEPTOR, zoo))
    server.tls.write(b"x")
    assert client.tls.read(1) == b"x"  # a ticket would have come before it
    assert client.tls.session is not None
    assert not client.tls.session.has_ticket


@pytest.mark.parametrize(
    ("animal", "host", "expected"),
    [
        ("self", HOST, "pin"),
        ("leaf", HOST, "name"),
        ("leaf", "elsewhere.test", "tls.name-mismatch"),
        ("child", HOST, "tls.peer-not-pinned"),
    ],
)
@VERSIONS
def test_a_session_of_our_requestor_is_judged_too(
    animal: str, host: str, expected: str, version: ssl.TLSVersion, zoo: Zoo
) -> None:
    ours = _ours(Role.REQUESTOR, zoo)
    theirs = plain_context(Role.ACCEPTOR, key_pair(zoo[animal]), version)
    first, accepted = connect(ours, theirs, HOST)
    if first.done:
        accepted.tls.write(b"x")
        first.tls.read(1)  # TLS 1.3: the ticket comes with the first data
    assert first.tls.session is not None
    again, _ = connect(ours, theirs, host, session=first.tls.session)
    if first.done or version is TLS12:
        assert again.tls.session_reused, "the test tests nothing"
    assert again.outcome == expected


# ---------------------------------------------------------------------- names that cannot be decoded


def test_names_that_are_no_text_are_no_names(tmp_path: Path) -> None:
    """`getpeercert()` raises UnicodeDecodeError on such a certificate; it can be pinned all the same."""
    der = Names((b"peer\xff.test", HOST)).der()
    server = plain_context(Role.ACCEPTOR, write_pem(tmp_path / "odd.pem", der, KEY_PEM))
    for identity, expected in ((Identity.AUTO, "pin"), (Identity.NAME, "tls.name-mismatch")):
        policy = TlsPolicy(Role.REQUESTOR, None, Trust((der,)), identity=identity)
        ours, _ = connect(client_context(policy), server)
        assert ours.outcome == expected


# ---------------------------------------------------------------------- revocation


class Asked:
    """A revocation check that refuses whoever is in `refused`, and keeps what it was asked."""

    def __init__(self, *refused: bytes) -> None:
        self.refused = refused
        self.questions: list[tuple[tuple[bytes, ...], bool]] = []

    def __call__(self, chain: Sequence[bytes], pinned: bool) -> Refusal | None:
        self.questions.append((tuple(chain), pinned))
        return Refusal("tls.peer-revoked", "revoked", "hint") if chain[0] in self.refused else None


def _asking(role: Role, zoo: Zoo, asked: Asked, **choices: object) -> ssl.SSLContext:
    trusted = trust(*zoo.all("openssl self ca"))._replace(revocation=asked)
    policy = TlsPolicy(role, key_pair(zoo["own"]), trusted, **choices)  # type: ignore[arg-type]
    return client_context(policy) if role is Role.REQUESTOR else server_context(policy)


@ROLES
@VERSIONS
@pytest.mark.parametrize(
    ("animal", "pinned", "above"),
    [("leaf", False, "ca"), ("self", True, "")],
)
def test_revocation_is_asked_with_the_verified_chain(
    animal: str, pinned: bool, above: str, role: Role, version: ssl.TLSVersion, zoo: Zoo
) -> None:
    for asked in (Asked(), Asked(zoo[animal].der)):
        ours = _asking(role, zoo, asked)
        theirs = plain_context(_other(role), key_pair(zoo[animal]), version)
        ends = connect(ours, theirs) if role is Role.REQUESTOR else connect(theirs, ours)
        end = ends[0] if role is Role.REQUESTOR else ends[1]
        assert asked.questions[0] == ((zoo[animal].der, *(one.der for one in zoo.all(above))), pinned)
        if asked.refused:
            assert end.outcome == "tls.peer-revoked"
            assert isinstance(caught(lambda end=end: end.tls.write(b"x")), IdentityError)
        else:
            assert end.done


def test_revocation_is_asked_of_nobody_who_is_refused_or_unknown(zoo: Zoo) -> None:
    asked = Asked()
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo["child"]))
    assert connect(theirs, _asking(Role.ACCEPTOR, zoo, asked))[1].outcome == "tls.peer-not-pinned"
    bare = plain_context(Role.REQUESTOR)
    assert connect(bare, _asking(Role.ACCEPTOR, zoo, asked, peer_check=PeerCheck.VERIFY))[1].outcome == ""
    assert asked.questions == []


def test_revocation_is_asked_again_of_a_resumed_session(zoo: Zoo) -> None:
    """A list ends, or a certificate comes on it, while a peer resumes on and on."""
    asked = Asked()
    ours = _asking(Role.ACCEPTOR, zoo, asked)
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo["leaf"]), TLS12)
    first, accepted = connect(theirs, ours)
    assert accepted.outcome == "ca"
    asked.refused = (zoo["leaf"].der,)
    again, resumed = connect(theirs, ours, session=first.tls.session)
    assert again.tls.session_reused, "the test tests nothing"
    assert resumed.outcome == "tls.peer-revoked"
    assert asked.questions[0] == asked.questions[1]
