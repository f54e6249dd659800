"""Connections until their first byte: accepted, held without a thread, dropped at their deadline.

Any number of silent ones disturbs nobody. When too many wait, the oldest of the address that has most goes, never
the newest.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from dicomtls_cli.services.receiving.events import Client

_T = TypeVar("_T")
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TICK = 0.25  # seconds between two looks at the deadlines


class Arrival(NamedTuple):
    """A connection: its socket, who it is, and when it came (`time.monotonic()`)."""

    sock: socket.socket
    client: Client
    begun: float

    @property
    def source(self) -> Hashable:
        """What stands for the address it comes from: of IPv6 the network, which one machine has for itself."""
        host = self.client.host.strip("[]").partition("%")[0]
        return socket.inet_pton(socket.AF_INET6, host)[:8] if ":" in host else host


class Arrivals:
    """The connections that came to some listening sockets and said nothing yet.

    Each may do so for `patience` seconds, and at most `most` of them at once; `dropped` is told of those that
    have to go, and why. `await_room` is called where the machine has no room for a further connection, and none
    waits here that could go for it.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        *,
        patience: float,
        most: int,
        dropped: Callable[[Client, str], None],
        await_room: Callable[[], None],
    ) -> None:
        self._listeners = list(listeners)
        self._patience = patience
        self._most = most
        self._dropped = dropped
        self._await_room = await_room
        self._waiting: dict[socket.socket, Arrival] = {}  # in the order of their coming
        self._selector = selectors.DefaultSelector()  # never `select`, which cannot count beyond 1,024
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        for listener in self._listeners:
            listener.setblocking(False)
        for sock in (*self._listeners, self._wake_reader):
            self._selector.register(sock, selectors.EVENT_READ)

    def next(self) -> list[Arrival]:
        """Wait until something happens; return the connections that began to speak, which are the caller's now."""
        ready = [key.fileobj for key, _ in self._selector.select(_TICK if self._waiting else None)]
        # First who speaks: whoever is accepted may need the room of one that does not.
        speaking = [self._take(sock) for sock in ready if sock in self._waiting]
        for sock in ready:
            if sock in self._listeners:
                self._accept(sock)
            elif sock is self._wake_reader:
                self._wake_reader.recv(4096)
        self._drop_silent()
        return speaking

    def wake(self) -> None:
        """Let `next` return; safe from any thread, from a signal handler, and after `close`."""
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    @contextlib.contextmanager
    def woken_by_signals(self) -> Iterator[None]:
        """Let `next` return when a signal comes, so that Python runs its handler.

        A signal between two steps of Python, or one that the system hands to another thread, does not end the wait by
        itself. Only the main thread runs handlers; in any other nothing is done.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def close(self) -> None:
        """Listen no more and let go of whoever said nothing."""
        for sock in (*self._listeners, *self._waiting, self._wake_reader, self._wake_writer):
            sock.close()
        self._waiting.clear()
        self._selector.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            # Make room, or the same connection would wake us for ever.
            if error.errno in _EXHAUSTED and not self._evict():
                self._await_room()
            return
        sock.setblocking(True)
        if len(self._waiting) >= self._most:
            self._evict()
        self._waiting[sock] = Arrival(sock, Client(_address_text(address)), time.monotonic())
        self._selector.register(sock, selectors.EVENT_READ)

    def _evict(self) -> bool:
        if not self._waiting:
            return False
        self._forget(first_of_most(list(self._waiting.values()), lambda arrival: arrival.source))
        return True

    def _drop_silent(self) -> None:
        too_long_ago = time.monotonic() - self._patience
        while self._waiting and (oldest := next(iter(self._waiting.values()))).begun < too_long_ago:
            self._forget(oldest, "it connected and said nothing")

    def _forget(self, arrival: Arrival, why: str = "it said nothing, and others wait") -> None:
        self._take(arrival.sock).sock.close()
        self._dropped(arrival.client, why)

    def _take(self, sock: socket.socket) -> Arrival:
        self._selector.unregister(sock)
        return self._waiting.pop(sock)


def first_of_most(items: Sequence[_T], source: Callable[[_T], Hashable]) -> _T:
    """Return the first of `items` whose source has no fewer of them than any other: who crowds others out goes."""
    sources = [source(item) for item in items]
    counts = Counter(sources)
    most = max(counts.values())
    return next(item for item, of in zip(items, sources, strict=True) if counts[of] == most)


def _address_text(address: tuple[str, int]) -> str:
    host, port = address[:2]
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
