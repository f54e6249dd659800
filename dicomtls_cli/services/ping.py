"""C-ECHO again and again: several peers at once, an association of its own each time."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError, ExitCode
from dicomtls_cli.services.echo import EchoResult, echo
from dicomtls_cli.services.peer import Peer, Requestor, Target

AT_ONCE = 32
"""How many peers are verified at the same time."""

PHASES = ("total", "connect", "tls", "association", "echo")
"""What is timed: the whole association from name to release, and its parts."""

_FAIR = 1.0  # seconds that a peer which has answered before may be under way at the deadline


class Reply(NamedTuple):
    """What came of one C-ECHO: `peer` counts from 0 as the peers were named, `sequence` from 1."""

    peer: int
    sequence: int
    outcome: EchoResult | DicomTlsError


def ping(
    targets: Sequence[Target],
    *,
    count: int | None = 1,
    interval: float = 1.0,
    deadline: float | None = None,
) -> Iterator[Reply]:
    """Verify each of `targets` `count` times (None: without end) and yield what comes of it, as it comes.

    `interval` is the time from one beginning to the next, `deadline` that after which all ends, in seconds:
    who has not answered by then is yielded as a failure; what has just begun with a peer that did answer counts
    for nothing. Leaving early leaves what is under way to threads that nobody waits for.
    """
    rounds = _Rounds(len(targets), count, interval)
    replies: SimpleQueue[Reply | None] = SimpleQueue()
    for _ in range(min(len(targets), AT_ONCE)):
        worker = threading.Thread(target=_work, args=(targets, rounds, replies), daemon=True)
        worker.start()
    at_work = min(len(targets), AT_ONCE)
    end = None if deadline is None else time.monotonic() + deadline
    try:
        while at_work:
            left = None if end is None else max(end - time.monotonic(), 0)
            if left == 0:
                rounds.stop()  # what has come by now counts; peers that are quick would go on without end
            reply = replies.get(timeout=left)
            if reply is None:
                at_work -= 1
            else:
                rounds.answered(reply)
                yield reply
    except Empty:
        pass
    finally:
        rounds.stop()
    for number, sequence in rounds.unanswered():
        assert deadline is not None
        yield Reply(number, sequence, _too_late(targets[number].peer, deadline))


class _Rounds:
    """Which peer is verified next, and when. Peers take turns, so that one that is slow delays few."""

    def __init__(self, peers: int, count: int | None, interval: float) -> None:
        now = time.monotonic()
        self._waiting = deque((now, number, 1) for number in range(peers))
        self._due = dict.fromkeys(range(peers), 1)  # the sequence number whose reply is awaited next, by peer
        self._under_way: dict[int, tuple[int, float]] = {}  # sequence number and when it began, by peer
        self._slowest: dict[int, float] = {}  # seconds that an answer took, by peer
        self._count = count
        self._interval = interval
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def next(self) -> tuple[int, int] | None:
        """Return peer and sequence number once it is their turn, None when there are no more for this thread."""
        with self._lock:
            if not self._waiting:
                return None  # those under way go on in the threads they are in
            due, number, sequence = self._waiting.popleft()
        if self._stopped.wait(max(due - time.monotonic(), 0)):
            return None
        with self._lock:
            self._under_way[number] = sequence, time.monotonic()
        return number, sequence

    def done(self, number: int, sequence: int, begun: float) -> None:
        """Put the peer at the end of the queue, unless that was its last time."""
        with self._lock:
            del self._under_way[number]
            if self._count is None or sequence < self._count:
                self._waiting.append((begun + self._interval, number, sequence + 1))

    def answered(self, reply: Reply) -> None:
        """Note that the reply was told."""
        self._due[reply.peer] = reply.sequence + 1
        if isinstance(reply.outcome, EchoResult):
            slowest = self._slowest.get(reply.peer, _FAIR)
            self._slowest[reply.peer] = max(slowest, reply.outcome.total_seconds)

    def unanswered(self) -> list[tuple[int, int]]:
        """Return peer and sequence number of what is under way too long, and of peers that never had their turn."""
        with self._lock:
            under_way = dict(self._under_way)
        now = time.monotonic()
        found = []
        for number, due in self._due.items():
            sequence, begun = under_way.get(number, (0, now))
            if due == 1 or (sequence == due and now - begun > self._slowest.get(number, 0)):
                found.append((number, due))
        return found

    def stop(self) -> None:
        """Let no further turn begin."""
        self._stopped.set()


def _work(targets: Sequence[Target], rounds: _Rounds, replies: SimpleQueue[Reply | None]) -> None:
    while (turn := rounds.next()) is not None:
        number, sequence = turn
        begun = time.monotonic()
        replies.put(Reply(number, sequence, _try(*targets[number])))
        rounds.done(number, sequence, begun)
    replies.put(None)


def _try(peer: Peer, requestor: Requestor) -> EchoResult | DicomTlsError:
    try:
        return echo(peer, requestor)
    except DicomTlsError as error:
        return error
    except Exception as error:  # a defect; the other peers are verified all the same
        return DicomTlsError(f"`{peer}`: unexpected {type(error).__name__}: {error}", slug="unexpected")


def _too_late(peer: Peer, deadline: float) -> DicomTlsError:
    return DicomTlsError(
        f"`{peer}` did not answer before the deadline of {deadline:g} s",
        "give it more time with `--deadline`, or see with `dicomtls echoscu -v` which phase takes it",
        slug="peer.deadline",
        exit_code=ExitCode.UNREACHABLE,
    )


class Statistics:
    """Least, mean, greatest and standard deviation of the times of one peer, by phase; counts of all."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered = 0
        self.failure: DicomTlsError | None = None  # the last one
        self.last: float | None = None  # seconds that the last answered one took
        self._sums: dict[str, _Sum] = {phase: _Sum() for phase in PHASES}

    @property
    def failed(self) -> int:
        """How many were not answered with success."""
        return self.sent - self.answered

    def add(self, outcome: EchoResult | DicomTlsError) -> None:
        """Count what came of one C-ECHO."""
        self.sent += 1
        if isinstance(outcome, DicomTlsError):
            self.failure = outcome
            return
        self.answered += 1
        self.last = outcome.total_seconds
        for phase, seconds in phases(outcome).items():
            self._sums[phase].add(seconds)

    def summary(self) -> dict[str, Spread]:
        """Return the times in seconds by phase, as far as there are any."""
        return {phase: found.spread() for phase, found in self._sums.items() if found.count}


class Spread(NamedTuple):
    """How some times are spread, in seconds; the deviation is that of all of them, not of a sample."""

    least: float
    mean: float
    greatest: float
    deviation: float


class _Sum:
    def __init__(self) -> None:
        self.count = 0
        self._mean = self._squares = 0.0  # Welford's way: no catastrophic cancellation, no list of all
        self._least, self._greatest = math.inf, -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        before = value - self._mean
        self._mean += before / self.count
        self._squares += before * (value - self._mean)
        self._least, self._greatest = min(self._least, value), max(self._greatest, value)

    def spread(self) -> Spread:
        return Spread(self._least, self._mean, self._greatest, math.sqrt(self._squares / self.count))


def phases(result: EchoResult) -> dict[str, float]:
    """Return the seconds that each phase of a verification took; without TLS there is no `tls`."""
    found = {
        "total": result.total_seconds,
        "connect": result.connect_seconds,
        "tls": result.tls_seconds,
        "association": result.associate_seconds,
        "echo": result.seconds,
    }
    if result.tls is None:
        del found["tls"]
    return found
