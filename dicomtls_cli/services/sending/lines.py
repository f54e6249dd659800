"""Several lines of work in one thread: each tells what it waits for, and goes on once that is there.

With a thread for each they would fight for the interpreter at every system call, and be slower together than one
alone (docs/architecture.md has the figures).
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

THREAD = "dicomtls-aside"
"""How the threads are called in which something is done aside."""

_LONGEST_WAIT = 86400.0  # seconds; `poll` takes no more than 24 days


class _HasFile(Protocol):
    def fileno(self) -> int:
        """Return the descriptor of a socket, negative when it is closed."""


class Wait(NamedTuple):
    """A line cannot go on before `connection` can be read, or with `to_write` written, or before the time is `until`.

    `until` is an instant of `time.monotonic()`. Whoever lets the line go on all the same makes it wait by itself,
    where it has to.
    """

    connection: _HasFile | None
    to_write: bool
    until: float


class Aside(Generic[T]):
    """A step that may take its time, and that no other line is to wait for.

    `drop` gets rid of its result where nobody wants that any more.
    """

    def __init__(self, step: Callable[[], T], drop: Callable[[T], None] = lambda result: None) -> None:
        self._step = step
        self._drop = drop
        self._lock = threading.Lock()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._is_begun = self._is_dropped = False

    def run(self) -> None:
        """Do the step; what it raises is kept for `result`."""
        self._is_begun = True
        try:
            result = self._step()
        except BaseException as error:
            self._error = error
            return
        with self._lock:
            self._results.append(result)
            is_dropped = self._is_dropped
        if is_dropped:
            self._drop(result)

    def result(self) -> T:
        """Return or raise what came of the step, which is done here and now if nobody did it."""
        if not self._is_begun:
            self.run()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def abandon(self) -> None:
        """Want the result no more, whenever it comes."""
        with self._lock:
            self._is_dropped = True
            results = list(self._results)
        for result in results:
            self._drop(result)


if TYPE_CHECKING:
    Line = Generator[T | Wait | Aside[Any], None, None]
    """What yields something for whoever runs it, or what it waits for."""


class Lines(Generic[T]):
    """Lines of work that are run together; `add` may be called while they run."""

    def __init__(self) -> None:
        self._ready: deque[Line[T]] = deque()
        self._waiting: dict[Line[T], Wait] = {}
        self._back: deque[Line[T]] = deque()  # those whose step aside is done
        self._aside = 0
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)

    def add(self, line: Line[T]) -> None:
        """Let `line` run with the others."""
        self._ready.append(line)

    def run(self) -> Iterator[T]:
        """Yield what the lines yield, as it comes, until all have ended; what one raises is raised."""
        try:
            while True:
                while self._ready:
                    yield from self._go_on(self._ready.popleft())
                if not self._waiting and not self._aside:
                    return
                self._await_some()
        finally:
            for line in (*self._waiting, *self._ready):
                line.close()  # what it holds is let go of now, not when it is found to be garbage
            self._reader.close()
            self._writer.close()

    def _go_on(self, line: Line[T]) -> Iterator[T]:
        """Run `line` as far as it goes."""
        for item in line:
            if isinstance(item, Wait):
                self._waiting[line] = item
                return
            if isinstance(item, Aside):
                try:
                    threading.Thread(target=self._do, args=(line, item), daemon=True, name=THREAD).start()
                except RuntimeError:  # no more threads on this machine: the line does it, the others wait
                    continue
                self._aside += 1
                return
            yield item

    def _do(self, line: Line[T], aside: Aside[Any]) -> None:
        aside.run()
        self._back.append(line)
        try:
            self._writer.send(b"\0")
        except OSError:  # it is full, which wakes as well, or nobody runs the lines any more
            return

    def _await_some(self) -> None:
        """Wait until at least one line can go on."""
        until = min((wait.until for wait in self._waiting.values()), default=None)
        timeout = None if until is None else min(max(until - time.monotonic(), 0.0), _LONGEST_WAIT)
        readable, writable = [self._reader.fileno()], list[int]()
        for wait in self._waiting.values():
            if wait.connection is not None:
                (writable if wait.to_write else readable).append(wait.connection.fileno())
        found = _ready(readable, writable, timeout)
        now = time.monotonic()
        for line, wait in list(self._waiting.items()):
            if wait.until <= now or (wait.connection is not None and wait.connection.fileno() in found):
                del self._waiting[line]
                self._ready.append(line)
        if self._reader.fileno() in found:
            self._reader.recv(4096)
        while self._back:
            self._aside -= 1
            self._ready.append(self._back.popleft())


def _ready(readable: Collection[int], writable: Collection[int], timeout: float | None) -> set[int]:
    """Wait for at most `timeout` seconds; return which of these descriptors can be read, or written."""
    if not hasattr(select, "poll"):  # Windows, whose `select` takes as many as there are jobs
        return {file for files in select.select(readable, writable, [], timeout) for file in files}
    poll = select.poll()  # a new one costs less than to keep one up to date with sockets that come and go
    for file in readable:
        poll.register(file, select.POLLIN)
    for file in writable:
        poll.register(file, select.POLLOUT)
    return {file for file, _ in poll.poll(None if timeout is None else timeout * 1000)}
