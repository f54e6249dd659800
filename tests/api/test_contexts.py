"""`tls_context` and `diagnose`: why a program that says nothing got no association."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from pynetdicom import AE, evt

from dicomtls_cli import DicomTlsError, Role, StorageServer, TlsOptions, diagnose, echo, tls_context
from tests.conftest import Pki

VERIFICATION = "1.2.840.10008.1.1"
VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name
)


def associate(context: ssl.SSLContext, port: int) -> Any:
    """Let an AE of pynetdicom ask for an association, and release it if there is one."""
    ae = AE("PYNETDICOM")
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("localhost", port, tls_args=(context, "localhost"))
    if association.is_established:
        association.release()
    return association


def slug_of(context: ssl.SSLContext) -> str | None:
    found = diagnose(context, peer="pacs:2762")
    assert found is None or "`pacs:2762`" in found.message
    return found.slug if found else None


@VERSIONS
@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({}, None),
        ({"cert": "stranger.crt", "key": "stranger.key"}, "tls.refused-unknown-ca"),
        ({"cert": None, "key": None}, "tls.refused-no-certificate"),
        ({"trust": ("stranger.crt",)}, "tls.peer-untrusted"),
        ({"pin": "00" * 32}, "tls.pin-mismatch"),
    ],
)
def test_why_pynetdicom_got_no_association(
    changes: dict[str, Any],
    slug: str | None,
    version: ssl.TLSVersion,
    server: StorageServer,
    own: TlsOptions,
    pki: Pki,
    tmp_path: Path,
) -> None:
    for path in (pki.stranger.cert, pki.stranger.key):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    context = tls_context(Role.REQUESTOR, own._replace(versions=frozenset({version}), **changes))
    assert associate(context, server.port).is_established is False  # released, or never there
    assert slug_of(context) == slug
    assert slug_of(context) is None, "a failure is told once"


def test_a_failure_is_of_the_last_connection(server: StorageServer, own: TlsOptions) -> None:
    context = tls_context(Role.REQUESTOR, own)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        associate(context, closed.getsockname()[1])
    assert slug_of(context) == "peer.connection-refused"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        associate(context, closed.getsockname()[1])
    associate(context, server.port)
    assert slug_of(context) is None


def test_a_rejection_is_no_failure_of_the_connection(peers: TlsOptions, own: TlsOptions) -> None:
    context = tls_context(Role.REQUESTOR, own)
    with StorageServer(None, tls=peers, port=0, allow=["SOMEBODY-ELSE"]) as server:
        assert associate(context, server.port).is_rejected
    assert slug_of(context) is None


@contextlib.contextmanager
def pynetdicom_scp(context: ssl.SSLContext) -> Iterator[tuple[int, SimpleQueue[DicomTlsError | None]]]:
    """Run an SCP of pynetdicom that asks why, whenever a connection ends."""
    reasons: SimpleQueue[DicomTlsError | None] = SimpleQueue()
    sockets: list[ssl.SSLSocket] = []

    def closed(event: Any) -> None:
        reasons.put(diagnose(context, peer=event.address[0]))

    ae = AE("PYNETDICOM")
    ae.add_supported_context(VERIFICATION)
    handlers = [
        (evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket.socket)),
        (evt.EVT_CONN_CLOSE, closed),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
    assert server is not None
    try:
        yield server.server_address[1], reasons
    finally:
        server.shutdown()
        for sock in sockets:
            sock.close()


def test_why_pynetdicom_let_somebody_not_in(own: TlsOptions, peers: TlsOptions, pki: Pki) -> None:
    stranger = TlsOptions(cert=pki.stranger.cert, key=pki.stranger.key, trust=(pki.trusted,))
    with pynetdicom_scp(tls_context(Role.ACCEPTOR, peers)) as (port, reasons):
        with pytest.raises(DicomTlsError):
            echo(f"127.0.0.1:{port}", tls=stranger)
        refused = reasons.get(timeout=30)
        assert echo(f"127.0.0.1:{port}", tls=own)
        assert reasons.get(timeout=30) is None
    assert refused is not None
    assert (refused.slug, refused.message.startswith("refused `127.0.0.1`")) == ("tls.peer-untrusted", True)


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (ConnectionRefusedError(), "peer.connection-refused"),
        (TimeoutError(), "peer.timeout"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "peer.unknown-host"),
        (DicomTlsError("as it was", slug="demo.failed"), "demo.failed"),
    ],
)
def test_an_exception_is_explained(error: BaseException, slug: str) -> None:
    assert diagnose(error, peer="pacs").slug == slug


def test_an_exception_of_ssl_is_explained(server: StorageServer, own: TlsOptions, pki: Pki) -> None:
    context = tls_context(Role.REQUESTOR, own._replace(trust=(pki.stranger.cert,)))
    with (
        socket.create_connection(("localhost", server.port), 30) as sock,
        pytest.raises(ssl.SSLCertVerificationError) as caught,
    ):
        context.wrap_socket(sock, server_hostname="localhost")
    assert diagnose(caught.value, peer="pacs").slug == "tls.peer-untrusted"
    assert slug_of(context) == "tls.peer-untrusted"


def send_for_ever(secured: ssl.SSLSocket, size: int = 100) -> None:
    """Send until it fails, as it has to once the peer's answer to what meets a closed connection is here."""
    for _ in range(1000):
        secured.send(bytes(size))


def test_an_alert_that_nobody_read_is_found(peers: TlsOptions, pki: Pki) -> None:
    """Who sends first under TLS 1.3 meets a closed connection, and the peer's reason waits unread before it."""
    stranger = TlsOptions(cert=pki.stranger.cert, key=pki.stranger.key, trust=(pki.trusted,))
    context = tls_context(Role.REQUESTOR, stranger)
    acceptor = tls_context(Role.ACCEPTOR, peers)

    def refuse(listener: socket.socket) -> None:
        with (
            listener.accept()[0] as sock,
            acceptor.wrap_socket(sock, server_side=True) as secured,
            contextlib.suppress(ssl.SSLError),
        ):
            secured.do_handshake()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        with (
            socket.create_connection(listener.getsockname(), 30) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as secured,
        ):
            thread.join(30)
            with pytest.raises(OSError):
                send_for_ever(secured)
    assert slug_of(context) == "tls.refused-unknown-ca"


def test_a_peer_that_is_slow_to_read_loses_nothing(peers: TlsOptions, own: TlsOptions) -> None:
    """What it has sent stays to be read by whoever could not send."""
    acceptor = tls_context(Role.ACCEPTOR, peers)
    over = threading.Event()

    def say_one_thing(listener: socket.socket) -> None:
        with listener.accept()[0] as sock, acceptor.wrap_socket(sock, server_side=True) as secured:
            secured.sendall(b"x")
            over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=say_one_thing, args=(listener,))
        thread.start()
        context = tls_context(Role.REQUESTOR, own)
        with (
            socket.create_connection(listener.getsockname(), 30) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as secured,
        ):
            secured.settimeout(0.1)
            with pytest.raises(TimeoutError):
                send_for_ever(secured, 1 << 16)
            assert secured.gettimeout() == 0.1
            secured.settimeout(30)
            assert secured.recv(1) == b"x"
            over.set()
    thread.join(30)


def test_a_connection_that_ends_without_a_word_is_lost(peers: TlsOptions, own: TlsOptions) -> None:
    context = tls_context(Role.REQUESTOR, own)
    acceptor = tls_context(Role.ACCEPTOR, peers)

    def leave(listener: socket.socket) -> None:
        with listener.accept()[0] as sock, acceptor.wrap_socket(sock, server_side=True) as secured:
            secured.do_handshake()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=leave, args=(listener,))
        thread.start()
        with (
            socket.create_connection(listener.getsockname(), 30) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as secured,
        ):
            thread.join(30)
            with pytest.raises(OSError):
                send_for_ever(secured)
    assert slug_of(context) == "association.lost"


def test_a_failure_keeps_no_socket(server: StorageServer, own: TlsOptions, pki: Pki) -> None:
    """pynetdicom forgets its sockets: what is noted must not keep one open."""
    context = tls_context(Role.REQUESTOR, own._replace(trust=(pki.stranger.cert,)))
    sock = socket.create_connection(("localhost", server.port), 30)
    secured = context.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)
    with pytest.raises(ssl.SSLCertVerificationError):
        secured.do_handshake()
    gone = weakref.ref(secured)
    secured.close()
    del secured
    assert gone() is None
    assert slug_of(context) == "tls.peer-untrusted"


def test_a_context_of_others_knows_nothing() -> None:
    assert diagnose(ssl.create_default_context(), peer="pacs") is None
