"""Bytes in and out of one connected socket, with deadlines. No PDUs here.

The socket may be plain or TLS: only `recv_into`, `send`, `settimeout`, `setsockopt` and `fileno` are used until it is
closed, and `pending` of TLS.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time

_PIECE = 64 * 1024
_RECORD = 16 * 1024
_BUFFER = (
    _PIECE + _RECORD
)  # behind a whole piece there is still room for a TLS record: none is read in two steps
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_UNSENT = 32 * 1024  # bytes that wait in the socket for room at the peer
_DATA = 256  # bytes at once that are more than a header or a command; Linux may wait behind 536
_CERTAIN = _RECORD + 2048 + 5  # bytes in the socket that hold a whole record, RFC 5246 6.2.3
_WRAPPING = 256  # bytes, and more than a record has beside its content, unless the peer pads it
_TIMEOUT_SLACK = 0.05  # seconds a time-out already set may differ from the one wanted
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1 << 20


class PeerClosed(ConnectionError):
    """The peer closed the connection where more bytes were due."""


class Stream:
    """Buffered reading and progress-bound writing on a connected, blocking socket.

    Deadlines are instants of `time.monotonic()`; past them TimeoutError is raised. Other failures are the
    socket's own OSError (ssl.SSLError included), or PeerClosed.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._memory = memoryview(b"")  # allocated at the first read: an idle handshake costs no buffer
        self._start = self._end = 0
        # Setting a time-out costs a system call; one that is a few milliseconds off serves as well. None is set yet.
        self._least_timeout, self._greatest_timeout = 1.0, 0.0
        self._waits = True
        self._is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        # Peers in the field (DCMTK 3.6, Orthanc) leave Nagle on and write each message in two pieces; only
        # an immediate acknowledgement of the first lets them send the second without a 40 ms pause.
        # Linux leaves that mode whenever something is sent, and does not keep to it in the middle of large pieces.
        self._quickack = _QUICKACK if self._is_tcp else None
        self._keeps_little = False
        self._is_quick = False
        self._sent = 0  # bytes since the last read before them, some of which may still wait in the socket
        self._here = 0  # bytes that are in the socket, where the peer does not pad its records
        self._last_count = 0  # bytes of the last read, if nothing was sent since
        if self._is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def buffered(self) -> int:
        """Bytes that were read from the connection and not taken yet, the rest of a TLS record among them."""
        return (
            self._end - self._start + (self.socket.pending() if isinstance(self.socket, ssl.SSLSocket) else 0)
        )

    def at_hand(self, *, read: bool) -> memoryview:
        """Return a view of what was not taken yet, with `read` also of what the socket has, without a wait for it.

        Raises OSError, or PeerClosed where nothing more will come.
        """
        if read:
            if len(self._memory) - self._end < _RECORD:  # no rest of a record is left where nobody sees it
                self._make_room()
            if self._waits:
                self._set_timeout(0.0)
            if self._start < self._end and not self._is_quick:  # the peer may hold back the rest
                self._acknowledge_at_once()
            try:  # noqa: SIM105 - for each message: `suppress` takes longer
                self._read_into_memory()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
        return self._memory[self._start : self._end]

    def fill(self, count: int, deadline: float) -> memoryview:
        """Return a view of the next `count` bytes (at most 64 KiB) without taking them."""
        if self._start + count > len(self._memory):
            self._make_room()
        while self._end - self._start < count:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("timed out")
            if not self._least_timeout <= remaining <= self._greatest_timeout:
                self._set_timeout(remaining)
            if not (self._is_record_here() if self._last_count >= _DATA else self._is_quick):
                self._acknowledge_at_once()
            self._read_into_memory()
        return self._memory[self._start : self._start + count]

    def take(self, count: int, deadline: float) -> memoryview:
        """Take the next `count` bytes (at most 64 KiB); the view is valid until the next read."""
        if self._end - self._start < count:
            self.fill(count, deadline)
        start = self._start
        self._start = end = start + count
        return self._memory[start:end]

    def read(self, count: int, deadline: float) -> bytes:
        """Take the next `count` bytes, however many."""
        if count <= _PIECE:
            return bytes(self.take(count, deadline))
        parts = bytearray()
        while len(parts) < count:
            parts += self.take_some(count - len(parts), deadline)
        return bytes(parts)

    def take_some(self, limit: int, deadline: float) -> memoryview:
        """Take `limit` bytes (at least one), or 64 KiB where that is less, without copying them.

        So a large fragment is handed on in large pieces. The view is valid until the next read.
        """
        if self._start and self._end - self._start < limit:
            self._make_room()
        return self.take(min(limit, _PIECE), deadline)

    def keep_little_unsent(self, *, little: bool) -> None:
        """Let only `little` of what is sent next wait in the socket for room at the peer, or as much as fits.

        What waits there leaves when the peer acknowledges what came before: on one machine in the peer's own time,
        which is what bounds a large object. A small one is better out of the way. What is on its way is not limited.
        """
        if _NOTSENT_LOWAT is not None and self._is_tcp and little != self._keeps_little:
            self._keeps_little = little
            self.socket.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT if little else 0)

    def send(self, data: bytes | bytearray | memoryview, timeout: float) -> None:
        """Send all of `data`; raise TimeoutError when the next piece could not be sent in `timeout` seconds.

        A piece is what the socket takes at once; with TLS one record, 16 KiB at the most.
        """
        if not self._least_timeout <= timeout <= self._greatest_timeout:
            self._set_timeout(timeout)
        self._count_sent(len(data))
        view = memoryview(data)
        while view:
            view = view[self.socket.send(view) :]

    def send_some(self, data: bytes | memoryview) -> memoryview:
        """Send what the socket takes of `data` without waiting, and return the rest, to be sent next.

        Under TLS part of the rest may have left already: it must not change until it is sent.
        """
        if self._waits:
            self._set_timeout(0.0)
        self._count_sent(len(data))
        view = memoryview(data)
        try:
            while view:
                view = view[self.socket.send(view) :]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        return view

    def is_writable(self) -> bool:
        """Tell whether the system calls the socket writable now."""
        if not hasattr(select, "poll"):
            return bool(select.select([], [self.socket], [], 0)[1])
        poll = select.poll()
        poll.register(self.socket, select.POLLOUT)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close at once."""
        self.socket.close()

    def linger(self) -> None:
        """Close so that the peer still reads what was sent last.

        Closing over unread bytes resets the connection, and the peer loses our A-ABORT, A-ASSOCIATE-RJ or
        TLS alert; so the sending half is closed and the rest is dropped, at most 1 s or 1 MB of it.
        """
        lingering_close(self.socket)

    def _make_room(self) -> None:
        if not self._memory:
            self._memory = memoryview(bytearray(_BUFFER))
        rest = self._end - self._start
        if rest:
            self._memory[:rest] = bytes(self._memory[self._start : self._end])
        self._start, self._end = 0, rest

    def _read_into_memory(self) -> None:
        # How much fits is said twice: a TLS socket would go a longer way to find it out, for every record.
        count = self.socket.recv_into(self._memory[self._end :], _BUFFER - self._end)
        if not count:
            raise PeerClosed("the peer closed the connection")
        self._end += count
        self._here -= count + _WRAPPING
        self._last_count = count

    def _count_sent(self, count: int) -> None:
        """Note that `count` bytes are about to be sent, perhaps later than `send` returns."""
        if self._last_count:
            self._sent = self._last_count = 0
        self._sent += count
        self._is_quick = False

    def _is_record_here(self) -> bool:
        """Tell whether the next read need not wait; False where that is not certain."""
        if self._here < _CERTAIN and self._quickack is not None:
            self._here = _unread(self.socket)
        return self._here >= _CERTAIN

    def _acknowledge_at_once(self) -> None:
        """Have what came, and what comes next, acknowledged without a delay."""
        # What waits in the socket, for room at the peer or in step with BBR's pacing, ends that again once it leaves.
        # Of little that was sent nothing waits any more where something came since.
        self._is_quick = self._last_count > 0 and self._sent < _DATA
        if self._quickack is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, self._quickack, 1)

    def _set_timeout(self, seconds: float) -> None:
        self.socket.settimeout(seconds)
        self._waits = seconds > 0
        self._least_timeout = max(seconds - _TIMEOUT_SLACK, _TIMEOUT_SLACK)
        self._greatest_timeout = seconds + _TIMEOUT_SLACK if seconds > 0 else 0.0  # no wait serves for none


def _unread(sock: socket.socket) -> int:
    """Return how many bytes the system has for whoever reads from `sock`, those of TLS counted as they travel."""
    import fcntl  # only who receives much needs them
    import termios

    count = bytearray(struct.calcsize("i"))
    with contextlib.suppress(ValueError):  # it is closed, as whoever reads from it will be told
        fcntl.ioctl(sock, termios.FIONREAD, count)
    return int(struct.unpack("i", count)[0])


def lingering_close(sock: socket.socket) -> None:
    """Half-close `sock`, read and drop what still comes for at most 1 s or 1 MB, and close it."""
    deadline = time.monotonic() + _LINGER_SECONDS
    dropped = 0
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while dropped < _LINGER_BYTES and (remaining := deadline - time.monotonic()) > 0:
            sock.settimeout(remaining)
            count = len(sock.recv(_BUFFER))
            if not count:
                break
            dropped += count
    sock.close()
