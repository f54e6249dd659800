"""How far a sending is, while it lasts: a bar on a terminal, a line every 10 s elsewhere.

A thread of its own looks at the counts now and then, so that an instance costs nothing and a large one does not
stop the clock. The bar is one line, drawn over itself: the cursor is never hidden, so there is nothing to put
right after Ctrl-C or a kill, and what is printed meanwhile takes the line's place until it is drawn again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from dicomtls_cli.cli.terminal import Terminal, counted, size_words, time_words

logger = logging.getLogger("dicomtls.association")

_BAR_AFTER, _BAR_EVERY = 0.5, 0.2
_LINES_EVERY = 10.0
_WINDOW = 10.0  # seconds that the speed is taken over
_ERASE = "\r\x1b[K"
_MARGIN = 3  # columns: the `^C` that the terminal echoes behind the bar must not begin a line of its own


class State(NamedTuple):
    """How far it is: instances, bytes stored, and bytes of the files, done and known of so far.

    `is_final` tells that no more will be found.
    """

    done: int
    total: int
    is_final: bool
    stored: int
    done_size: int
    total_size: int
    failed: int


class Progress:
    """Shows what `state` returns until it is closed; `after` and `every` are seconds."""

    def __init__(
        self,
        terminal: Terminal,
        state: Callable[[], State],
        *,
        after: float | None = None,
        every: float | None = None,
    ) -> None:
        self._terminal = terminal
        self._state = state
        has_bar = is_drawable()
        self._after = after if after is not None else _BAR_AFTER if has_bar else _LINES_EVERY
        self._every = every if every is not None else _BAR_EVERY if has_bar else _LINES_EVERY
        self._make_painter: Callable[[Terminal], _Painter] = _Bar if has_bar else _Lines
        self._painter: _Painter | None = None
        self._pace = Pace()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._lock = threading.RLock()

    def start(self) -> None:
        """Begin, unless other lines tell what happens, or none are wanted."""
        if self._terminal.verbosity == 0 and not self._terminal.as_json:
            self._pace.add(self._state())
            self._terminal.aside = self._aside
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Take the bar away; whoever saw some progress is told where it ended. Harmless when done again."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._ended.set()
        thread.join(1.0)  # it may sit in a terminal that was stopped
        with self._aside():
            self._terminal.aside = contextlib.nullcontext
        state, seconds = self._state(), self._pace.seconds
        if self._painter is not None and state.done:
            amount, speed = size_words(state.stored), size_words(state.stored / seconds)
            self._terminal.note(
                f"{counted(state.done, 'file')}, {amount} in {time_words(seconds)}, {speed}/s"
            )

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        with self._lock:
            if self._painter is not None:
                self._painter.erase()
            yield

    def _run(self) -> None:
        try:
            if self._ended.wait(self._after):
                return
            painter = self._make_painter(self._terminal)
            while True:
                state = self._state()
                self._pace.add(state)
                text = painter.render(state, self._pace)
                with self._lock:
                    if self._ended.is_set():
                        return
                    self._painter = painter
                    painter.paint(text)
                if self._ended.wait(self._every):
                    return
        except Exception as error:  # the images matter more
            logger.warning("progress is shown no more: %s: %s", type(error).__name__, error)


class Pace:
    """Speed over the last seconds, and the time it leaves to go."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._samples: deque[tuple[float, State]] = deque()

    def add(self, state: State) -> None:
        """Take a sample."""
        now = self._clock()
        self._samples.append((now, state))
        while len(self._samples) > 2 and self._samples[1][0] <= now - _WINDOW:
            self._samples.popleft()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._begun

    @property
    def speed(self) -> float:
        """Bytes per second that are stored."""
        return self._per_second(lambda state: state.stored)

    @property
    def left(self) -> float | None:
        """Seconds to go, None where nobody can tell."""
        state, speed = self._samples[-1][1], self._per_second(lambda state: state.done_size)
        return (state.total_size - state.done_size) / speed if state.is_final and speed else None

    def _per_second(self, what: Callable[[State], int]) -> float:
        (first, before), (last, now) = self._samples[0], self._samples[-1]
        return (what(now) - what(before)) / (last - first) if last > first else 0.0


class _Painter(Protocol):
    def render(self, state: State, pace: Pace) -> str: ...

    def paint(self, text: str) -> None: ...

    def erase(self) -> None: ...


class _Lines:
    """A line each time, for a file or a terminal that cannot do more."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def render(self, state: State, pace: Pace) -> str:
        total = f"{'' if state.is_final else 'at least '}{counted(state.total, 'file')}"
        words = [f"{state.done:,} of {total}", size_words(state.stored), f"{size_words(pace.speed)}/s"]
        words += [f"{time_words(pace.left)} left"] if pace.left is not None else []
        return ", ".join([*words, f"{state.failed:,} failed"])

    def paint(self, text: str) -> None:
        self._terminal.note(text)

    def erase(self) -> None:
        """Lines stay."""


class _Bar:
    """One line of a terminal, drawn by rich."""

    def __init__(self, terminal: Terminal) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, no_color=terminal.color is False or None)
        self._is_drawn = False

    def render(self, state: State, pace: Pace) -> str:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(ratio=1)
        left = pace.left
        told = [
            Text(f"{state.done:,}/{state.total:,}{'' if state.is_final else '+'} files"),
            Text(size_words(state.stored), style="green"),
            Text(f"{size_words(pace.speed)}/s", style="red"),
            Text(
                "scanning" if not state.is_final else f"{'-:--' if left is None else time_words(left)} left"
            ),
            Text(f"{state.failed:,} failed", style="bold red" if state.failed else ""),
        ]
        for _ in told:
            grid.add_column(no_wrap=True)
        # What is not known yet in full is no share of anything.
        bar = ProgressBar(state.total_size or 1, state.done_size, pulse=not state.is_final)
        grid.add_row(bar, *told)
        with self._console.capture() as capture:
            self._console.print(grid, width=_columns() - _MARGIN, end="")
        return capture.get().partition("\n")[0]

    def paint(self, text: str) -> None:
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()
        self._is_drawn = True

    def erase(self) -> None:
        if self._is_drawn:
            with contextlib.suppress(OSError):
                sys.stderr.write(_ERASE)
                sys.stderr.flush()
            self._is_drawn = False


def is_drawable() -> bool:
    """Tell whether stderr is a terminal that can erase a line."""
    return (
        sys.stderr is not None
        and sys.stderr.isatty()
        and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    )


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
