"""Raw peers of an SCU: a port that does whatever a test wants of it, as plain bytes or behind `ssl`."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from dicomtls_cli.dimse import command as dimse
from tests.support import scripted
from tests.support.pki import Identity

LIMIT = 30.0
Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """Let `serve` handle each connection to the port that is yielded, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def handle(sock: socket.socket) -> None:
            with contextlib.suppress(OSError, AssertionError), sock:
                sock.settimeout(LIMIT)
                serve(sock)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    threads.append(threading.Thread(target=handle, args=(sock,), daemon=True))
                    threads[-1].start()

        threads = [threading.Thread(target=accept, daemon=True)]
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(LIMIT)
                assert not thread.is_alive()


def echo(sock: socket.socket) -> None:
    """Be an SCP for one C-ECHO."""
    script = scripted.Scripted(sock)
    script.accept()
    context_id, command, _ = script.expect_message()
    reply = dimse.encode(dimse.response(dimse.decode(command), 0))
    script.send(scripted.p_data(scripted.pdv(context_id, reply, command=True)))
    script.expect(scripted.RELEASE)
    script.send(scripted.RELEASE_RP)
    sock.recv(1)


def says(data: bytes) -> Serve:
    """Return a peer that says `data` at once and then waits for the other side to leave."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(data)
        listens(sock)

    return serve


def answers(data: bytes) -> Serve:
    """Return a peer that says `data` once it was spoken to, and then waits for the other side to leave."""

    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(data)
        listens(sock)

    return serve


def listens(sock: socket.socket) -> None:
    """Say nothing until the other side leaves."""
    while sock.recv(65536):
        pass


def leaves(_sock: socket.socket) -> None:
    """Close at once."""


def hangs_up(sock: socket.socket) -> None:
    """Read what comes first, and leave without a word."""
    sock.recv(65536)


def resets(sock: socket.socket) -> None:
    """Read what comes first, and break the connection off."""
    sock.recv(65536)
    scripted.Scripted(sock).reset()


def server_context(
    identity: Identity,
    *,
    lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ciphers: str = "DEFAULT",
    trusted: Path | None = None,
    group: Path | None = None,
) -> ssl.SSLContext:
    """Return a context of the standard library's; with `trusted` it requires a certificate that is in there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")  # faulty peers are wanted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old versions are deprecated
        context.minimum_version, context.maximum_version = lowest, highest
    context.load_cert_chain(identity.cert, identity.key)
    if group is not None:
        context.load_dh_params(group)
    if trusted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(trusted)
    return context


def behind(context: ssl.SSLContext, serve: Serve = echo) -> Serve:
    """Return a peer that makes a TLS handshake, and then does as `serve`."""

    def secured(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as tls:
            tls.do_handshake()
            serve(tls)

    return secured
