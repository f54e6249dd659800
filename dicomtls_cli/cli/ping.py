"""`echoscu` as a ping: a line for each reply, or a live table of several peers, and statistics at the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

from dicomtls_cli.cli.progress import is_drawable
from dicomtls_cli.cli.requestor import report_failure
from dicomtls_cli.cli.terminal import Terminal, to_stdout
from dicomtls_cli.errors import DicomTlsError, printable
from dicomtls_cli.services.peer import Peer
from dicomtls_cli.services.ping import PHASES, Reply, Spread, Statistics, phases

_WORDS = {"tls": "TLS"}
_DRAWN_EVERY = 0.1  # seconds
_LEAST_NAME, _GREATEST_NAME = 7, 40  # columns of a peer's name


class Replies:
    """Tells the replies of `peers` as they come, and sums them up."""

    def __init__(self, terminal: Terminal, peers: Sequence[Peer]) -> None:
        self._terminal = terminal
        self._peers = peers
        self._found = [Statistics() for _ in peers]
        self._told_hints: set[tuple[object, str]] = set()
        is_plain = terminal.verbosity == 0 and not terminal.as_json
        self._table = _Table(peers, self._found) if is_plain and len(peers) > 1 and _has_screen() else None

    def tell(self, replies: Iterable[Reply]) -> None:
        """Print each of `replies` as it comes."""
        for reply in replies:
            self._found[reply.peer].add(reply.outcome)
            if self._table is not None:
                self._table.draw_now_and_then()
            elif isinstance(reply.outcome, DicomTlsError):
                self._tell_failure(reply, reply.outcome)
            else:
                times = phases(reply.outcome)
                peer = self._peers[reply.peer]
                self._terminal.result(f"{peer}: seq {reply.sequence}, {_times(times)}")
                self._terminal.record(
                    {"ok": True, "peer": str(peer), "sequence": reply.sequence, "phases": _rounded(times)}
                )

    def _tell_failure(self, reply: Reply, error: DicomTlsError) -> None:
        # What to do is told once for each cause: it would be the same every second.
        if not self._terminal.as_json:
            error = self._hinting_once(error, (reply.peer, error.slug))
        report_failure(self._terminal, self._peers[reply.peer], error, sequence=reply.sequence)

    def _hinting_once(self, error: DicomTlsError, cause: tuple[object, str]) -> DicomTlsError:
        """Return `error`, without its hint where that was told of the same `cause` before."""
        if cause in self._told_hints:
            return DicomTlsError(error.message, slug=error.slug, exit_code=error.exit_code)
        self._told_hints.add(cause)
        return error

    def finish(self) -> int:
        """Print the statistics and return the exit code: that of the first peer that failed at all."""
        code = 0
        if self._table is not None:
            self._table.draw()
        for peer, found in zip(self._peers, self._found, strict=True):
            if self._table is not None and found.failure is not None:
                # Of forty peers that are down thirty-nine need no advice of their own.
                self._terminal.error(self._hinting_once(found.failure, ("", found.failure.hint)))
            if self._table is None:
                self._terminal.result(_summary(peer, found))
            spreads = {phase: _spread_record(spread) for phase, spread in found.summary().items()}
            self._terminal.record(
                {
                    "ok": not found.failed and found.sent > 0,
                    "peer": str(peer),
                    "sent": found.sent,
                    "answered": found.answered,
                    "failed": found.failed,
                    "phases": spreads,
                }
            )
            if found.failure is not None:
                code = code or int(found.failure.exit_code)
        return code


def _times(times: dict[str, float]) -> str:
    parts = ", ".join(f"{_WORDS.get(p, p)} {times[p] * 1000:.1f}" for p in PHASES[1:] if p in times)
    return f"{times['total'] * 1000:.1f} ms ({parts})"


def _rounded(times: dict[str, float]) -> dict[str, float]:
    return {phase: round(seconds, 6) for phase, seconds in times.items()}


def _spread_record(spread: Spread) -> dict[str, float]:
    names = ("min", "avg", "max", "stddev")
    return {name: round(seconds, 6) for name, seconds in zip(names, spread, strict=True)}


def _summary(peer: Peer, found: Statistics) -> str:
    lines = [f"--- {peer}: {found.sent} sent, {found.answered} answered, {found.failed} failed"]
    spreads = found.summary()
    if spreads:
        lines.append(f"{'ms':>13} {'min':>9} {'avg':>9} {'max':>9} {'stddev':>9}")
    for phase, spread in spreads.items():
        cells = " ".join(f"{seconds * 1000:9.2f}" for seconds in spread)
        lines.append(f"{_WORDS.get(phase, phase):>13} {cells}")
    return "\n".join(lines)


# ---------------------------------------------------------------------- on a terminal


def _has_screen() -> bool:
    """Tell whether standard output is a terminal that lines can be drawn over on."""
    return is_drawable() and sys.stdout.isatty()


def _screen_size() -> tuple[int, int]:
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        columns = rows = 0
    return columns or 80, rows or 24


_TITLES = ("sent", "failed", "last ms", "avg ms", "max ms")


class _Table:
    """A row for each peer, drawn over itself; what does not fit the screen is counted in the last line.

    The cursor is moved and never hidden: there is nothing to put right, however the command ends.
    """

    def __init__(self, peers: Sequence[Peer], found: Sequence[Statistics]) -> None:
        self._peers = peers
        self._found = found
        self._longest = max(len(printable(str(peer))) for peer in peers)
        self._drawn = 0
        self._last = 0.0

    def draw_now_and_then(self) -> None:
        """Draw, unless that was done a moment ago."""
        if time.monotonic() - self._last > _DRAWN_EVERY:
            self.draw()

    def draw(self) -> None:
        """Draw the table where it was drawn before."""
        columns, rows = _screen_size()
        lines = self._lines(columns - 1, max(rows - 2, 3))
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        try:
            # The terminal's own ^C may stand where the cursor is.
            to_stdout(f"\r{up}\x1b[J" + "\n".join(lines), color=True)
        finally:  # Ctrl-C may come when it is written already
            self._drawn, self._last = len(lines), time.monotonic()

    def _lines(self, columns: int, rows: int) -> list[str]:
        pairs = list(zip(self._peers, self._found, strict=True))
        if len(pairs) > rows - 2:  # those that fail are what one looks for
            pairs.sort(key=lambda pair: not pair[1].failed)
            hidden = len(pairs) - (rows - 3)
            pairs = pairs[: rows - 3]
            more = [f"and {hidden} more"]
        else:
            more = []
        name, cells = _fitting([_TITLES, *(_cells(found) for _, found in pairs)], columns, self._longest)
        names = ["peer", *(printable(str(peer)) for peer, _ in pairs)]
        ends = ["", *(f"  {found.failure.slug}" if found.failure else "" for _, found in pairs)]
        lines = [
            f"{peer[:name]:<{name}}{row}{end}" for peer, row, end in zip(names, cells, ends, strict=True)
        ]
        return [line[:columns] for line in (*lines, *more)]


def _fitting(table: list[Sequence[str]], columns: int, longest: int) -> tuple[int, list[str]]:
    """Return how wide the names may be, and the rows of `table`, cut down to the columns there is room for."""
    widths = [max(map(len, column)) + 1 for column in zip(*table, strict=True)]
    while len(widths) > 1 and sum(widths) + min(longest, _LEAST_NAME) > columns:
        widths.pop()
    rows = ["".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=False)) for row in table]
    return max(min(longest, _GREATEST_NAME, columns - sum(widths)), 1), rows


def _cells(found: Statistics) -> Sequence[str]:
    counts = [str(found.sent), str(found.failed)]
    spread = found.summary().get("total")
    if spread is None or found.last is None:
        return [*counts, "-", "-", "-"]
    times = (found.last, spread.mean, spread.greatest)
    return [*counts, *(f"{seconds * 1000:.1f}" for seconds in times)]
