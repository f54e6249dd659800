"""Bytes in and out of one socket, with deadlines."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.upperlayer.stream import PeerClosed, Stream, lingering_close
from tests.support.scripted import LIMIT, Scripted, played

SOON, LATE = 0.2, 60.0
BUFFER = 64 * 1024


def later(seconds: float = LATE) -> float:
    return time.monotonic() + seconds


@contextmanager
def stream(script: Callable[[Scripted], None]) -> Iterator[Stream]:
    with played(script) as sock:
        yield Stream(sock)


def sends(*pieces: bytes) -> Callable[[Scripted], None]:
    """Return a script that sends `pieces` and leaves."""
    return lambda peer: peer.send(*pieces)


def until_left(peer: Scripted) -> None:
    """Be silent until the other side leaves."""
    while peer.sock.recv(1 << 16):
        pass


def pattern(length: int) -> bytes:
    return b"".join(n.to_bytes(4, "big") for n in range(length // 4 + 1))[:length]


steps = st.one_of(
    st.tuples(st.sampled_from(["fill", "take"]), st.integers(0, BUFFER)),
    st.tuples(st.sampled_from(["take_some", "read"]), st.integers(1, 200_000)),
)


@given(st.lists(steps, max_size=12), st.lists(st.integers(0, 200_000), max_size=4))
def test_however_it_is_read_the_bytes_come_in_order(wanted, cuts) -> None:
    data = pattern(sum(count for _, count in wanted))
    borders = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    writes = [data[a:b] for a, b in pairwise(borders)]
    at = 0
    with stream(sends(*writes)) as reading:
        for how, count in wanted:
            got = bytes(getattr(reading, how)(count, later()))
            assert got == data[at : at + len(got)]
            if how == "take_some":
                assert 0 < len(got) <= count
            else:
                assert len(got) == count
            if how == "fill":
                reading.take(count, later())
            at += len(got)
        assert reading.read(len(data) - at, later()) == data[at:]


def test_fill_takes_nothing() -> None:
    with stream(sends(b"abcdef")) as reading:
        assert bytes(reading.fill(3, later())) == b"abc"
        assert bytes(reading.fill(6, later())) == b"abcdef"
        assert reading.buffered == 6
        assert bytes(reading.take(2, later())) == b"ab"
        assert reading.buffered == 4
        reading.take(1, later())
        assert bytes(reading.take(3, later())) == b"def"
        assert reading.buffered == 0


def test_a_large_fragment_is_handed_on_in_large_pieces() -> None:
    size = 10 * BUFFER
    with stream(sends(pattern(size))) as reading:
        sizes = []
        while sum(sizes) < size:
            sizes.append(len(reading.take_some(size - sum(sizes), later())))
    assert sizes == [BUFFER] * 10


@pytest.mark.parametrize("how", ["fill", "take", "read", "take_some"])
def test_an_end_where_bytes_were_due(how) -> None:
    with stream(sends(b"abc")) as reading, pytest.raises(PeerClosed):
        getattr(reading, how)(4, later())


@pytest.mark.parametrize("how", ["fill", "take", "read", "take_some"])
def test_silence_ends_at_the_deadline(how) -> None:
    with stream(until_left) as reading, pytest.raises(TimeoutError):
        getattr(reading, how)(4, later(SOON))


@pytest.mark.parametrize("how", ["fill", "take", "read", "take_some"])
def test_bytes_that_keep_coming_do_not_move_the_deadline(how) -> None:
    gone = threading.Event()

    def script(peer: Scripted) -> None:
        while not gone.wait(0.02):
            peer.send(b"x")

    with stream(script) as reading:
        with pytest.raises(TimeoutError):
            getattr(reading, how)(60_000, later(SOON))
        gone.set()


def test_a_deadline_that_is_over_still_gives_what_is_here() -> None:
    with stream(sends(b"abcdef")) as reading:
        reading.fill(6, later())
        assert bytes(reading.take(6, later(-1))) == b"abcdef"
        with pytest.raises(TimeoutError):
            reading.take(1, later(-1))


def test_a_long_time_out_does_not_stay_where_a_short_one_is_due() -> None:
    def script(peer: Scripted) -> None:
        peer.send(b"a")
        until_left(peer)

    with stream(script) as reading:
        reading.send(b"x", LATE)
        reading.take(1, later(LATE))
        with pytest.raises(TimeoutError):
            reading.take(1, later(SOON))


def test_send_sends_everything() -> None:
    data = pattern(8 << 20)

    def script(peer: Scripted) -> None:
        assert peer.read(len(data)) == data

    with stream(script) as writing:
        quarter = len(data) // 4
        writing.send(data[:quarter], LATE)
        writing.send(bytearray(data[quarter : 2 * quarter]), LATE)
        writing.send(memoryview(data)[2 * quarter :], LATE)


def test_a_send_that_gets_nowhere_ends() -> None:
    left = threading.Event()
    with stream(lambda peer: left.wait(LIMIT)) as writing:  # type: ignore[arg-type,return-value]
        with pytest.raises(TimeoutError):
            writing.send(bytes(64 << 20), SOON)
        left.set()


# --- a lingering close ---------------------------------------------------------------------------------------


def test_a_wait_is_one_also_after_something_was_sent_without() -> None:
    left = threading.Event()
    with stream(lambda peer: left.wait(LIMIT)) as writing:  # type: ignore[arg-type,return-value]
        rest = writing.send_some(bytes(64 << 20))
        with pytest.raises(TimeoutError):
            writing.send(rest, 0.05)
        left.set()


def test_what_was_said_last_is_read_although_the_peer_went_on_sending() -> None:
    def script(peer: Scripted) -> None:
        peer.send(bytes(500_000))
        assert peer.read(10) == b"last words"
        peer.expect_end()

    for _ in range(20):
        with stream(script) as parting:
            parting.take(10, later())
            parting.send(b"last words", LATE)
            parting.linger()


def test_a_peer_that_does_not_leave_does_not_keep_us() -> None:
    gone = threading.Event()

    def script(peer: Scripted) -> None:
        peer.expect_end()
        assert gone.wait(LIMIT), "our side waits for a peer that stays"

    with played(script) as sock:
        lingering_close(sock)
        assert sock.fileno() == -1
        gone.set()


def test_a_peer_that_never_stops_sending_does_not_keep_us() -> None:
    def script(peer: Scripted) -> None:
        with pytest.raises(ConnectionError):  # we are gone in the middle of it
            peer.send(*[bytes(65536)] * 10_000)

    with played(script) as sock:
        lingering_close(sock)
        assert sock.fileno() == -1


def test_a_connection_that_is_broken_already_is_just_closed() -> None:
    with played(lambda peer: peer.reset()) as sock:
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        lingering_close(sock)
        assert sock.fileno() == -1


def test_close_is_at_once() -> None:
    with stream(until_left) as parting:
        parting.close()
        assert parting.socket.fileno() == -1


def test_memory_is_taken_with_the_first_byte_only() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        idle = Stream(ours)
        assert idle.buffered == 0
        assert len(idle._memory) == 0
        theirs.sendall(b"a")
        idle.take(1, later())
        assert BUFFER <= len(idle._memory) < 2 * BUFFER


class Armed(socket.socket):
    """A socket that notes before each read how much came already, and whether it is to be acknowledged at once."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.reads: list[tuple[int, bool]] = []
        self._is_armed = False

    def setsockopt(self, *args: int) -> None:  # type: ignore[override]
        self._is_armed |= args == (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        super().setsockopt(*args)

    def recv_into(self, *args: object) -> int:  # type: ignore[override]
        self.reads.append((unread(self), self._is_armed))
        self._is_armed = False
        return super().recv_into(*args)  # type: ignore[arg-type]


def unread(sock: socket.socket) -> int:
    try:
        return len(sock.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return 0


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="TCP_QUICKACK is Linux's")
def test_what_may_have_to_wait_is_acknowledged_at_once_and_the_middle_of_a_large_object_is_not() -> None:
    """A peer with Nagle's algorithm holds a last piece back for 40 ms; each acknowledgement costs a record's time."""
    all_of_it, whole_record = 300_000, 16 * 1024

    def script(peer: Scripted) -> None:
        peer.sock.recv(1)
        peer.send(bytes(all_of_it))

    with played(script) as plain, Armed(plain) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, all_of_it)  # which makes room for it
        sock.sendall(b"a")
        assert select.select([sock], [], [], LIMIT)[0]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        stream = Stream(sock)
        stream.read(all_of_it, later())
        assert all(is_armed for here, is_armed in sock.reads if here < whole_record)
        assert [is_armed for here, is_armed in sock.reads if here > all_of_it // 2].count(False)


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="TCP_QUICKACK is Linux's")
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((100,), [True, True, False]),
        ((100_000,), [True, True, True]),
        ((100_000, 100), [True, True, True]),
    ],
)
@pytest.mark.parametrize("how", ["send", "send_some"])
def test_what_may_still_be_leaving_does_not_end_the_quick_acknowledgements(how, sizes, expected) -> None:
    """Linux leaves that mode with each segment, also with those that had to wait in the socket."""
    seen = threading.Semaphore(0)

    def script(peer: Scripted) -> None:
        for length in (sum(sizes), 1):
            peer.read(length)
            for piece in (b"header", b"first", b"second"):
                peer.send(piece)
                assert seen.acquire(timeout=LIMIT)
        until_left(peer)

    def answer(stream: Stream, sock: Armed) -> list[bool]:
        known = len(sock.reads)
        for piece in (b"header", b"first", b"second"):
            assert stream.take(len(piece), later()) == piece
            seen.release()
        return [is_armed for _, is_armed in sock.reads[known:]]

    with played(script) as plain, Armed(plain) as sock:
        stream = Stream(sock)
        for size in sizes:
            rest = memoryview(bytes(size))
            while how == "send_some" and len(rest) and select.select([], [sock], [], LIMIT)[1]:
                rest = stream.send_some(rest)
            stream.send(rest, LATE)
        assert answer(stream, sock) == expected
        stream.send(b"a", LATE)
        assert answer(stream, sock) == [True, True, False]


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="TCP_QUICKACK is Linux's")
def test_small_pieces_of_data_are_acknowledged_at_once() -> None:
    """Linux takes them for full segments where they are all of one size, and waits for more of them."""
    pieces, size = 8, 500
    seen = threading.Semaphore(0)

    def script(peer: Scripted) -> None:
        for _ in range(pieces):
            peer.send(bytes(size))
            assert seen.acquire(timeout=LIMIT)

    with played(script) as plain, Armed(plain) as sock:
        stream = Stream(sock)
        for _ in range(pieces):
            stream.take(size, later())
            seen.release()
        assert [is_armed for _, is_armed in sock.reads] == [True] * pieces


def test_reading_on_from_a_closed_connection_fails_as_any_read_of_one_does() -> None:
    with stream(sends(bytes(5000))) as reading:
        reading.take(5000, later())
        reading.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            reading.take(1, later())
