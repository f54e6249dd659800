"""A peer that plays one script on every connection, however many come: for those that connect again and again."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support.scripted import LIMIT, Scripted


@dataclass
class Repeating:
    """A port that plays a script, and how often it has."""

    port: int
    connections: int = 0


@contextlib.contextmanager
def repeating(script: Callable[[Scripted], None]) -> Iterator[Repeating]:
    """Play `script` on every connection, each in a thread, and yield the port.

    The other end may leave at any time: that ends a script, and is no failure.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Repeating(listener.getsockname()[1])
        failures: list[BaseException] = []

        def play(sock: socket.socket) -> None:
            with sock:
                try:
                    script(Scripted(sock))
                except OSError:
                    pass
                except BaseException as error:
                    failures.append(error)

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:  # the end of the test
                    return
                sock.settimeout(LIMIT)
                peer.connections += 1
                threading.Thread(target=play, args=(sock,), daemon=True).start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield peer
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(LIMIT)
    assert not failures, failures
