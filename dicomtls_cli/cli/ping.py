"""`echoscu` as a ping: a line for each reply, or a live table of several peers, and statistics at the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

from dicomtls_cli.cli.progress import is_drawable
from dicomtls_cli.cli.terminal import Terminal, to_stdout
from dicomtls_cli.errors import DicomTlsError, error_record, printable
from dicomtls_cli.services.peer import Peer
from dicomtls_cli.services.ping import PHASES, Reply, Spread, Statistics, phases

_WORDS = {"tls": "TLS"}
_DRAWN_EVERY = 0.1  # seconds


class Replies:
    """Tells the replies of `peers` as they come, and sums them up."""

    def __init__(self, terminal: Terminal, peers: Sequence[Peer]) -> None:
        self._terminal = terminal
        self._peers = peers
        self._found = [Statistics() for _ in peers]
        self._told_hints: set[tuple[int, str]] = set()
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
        if self._terminal.as_json:
            record = {"ok": False, "peer": str(self._peers[reply.peer]), "sequence": reply.sequence}
            self._terminal.record({**record, "error": error_record(error)})
            return
        key = reply.peer, error.slug
        # What to do is told once for each cause: it would be the same every second.
        again = DicomTlsError(error.message, slug=error.slug, exit_code=error.exit_code)
        self._terminal.error(again if key in self._told_hints else error)
        self._told_hints.add(key)

    def finish(self) -> int:
        """Print the statistics and return the exit code: that of the first peer that failed at all."""
        code = 0
        if self._table is not None:
            self._table.draw()
        for peer, found in zip(self._peers, self._found, strict=True):
            if self._table is not None and found.failure is not None:
                self._terminal.error(found.failure)
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


class _Table:
    """A row for each peer, drawn over itself; what does not fit the screen is counted in the last line.

    The cursor is moved and never hidden: there is nothing to put right, however the command ends.
    """

    def __init__(self, peers: Sequence[Peer], found: Sequence[Statistics]) -> None:
        self._peers = peers
        self._found = found
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
        to_stdout(up + "\x1b[J" + "\n".join(lines), color=True)
        self._drawn, self._last = len(lines), time.monotonic()

    def _lines(self, columns: int, rows: int) -> list[str]:
        width = min(max(len(str(peer)) for peer in self._peers), 40)
        titles = ("sent", "failed", "last ms", "avg ms", "max ms")
        lines = [f"{'peer':<{width}} " + " ".join(f"{title:>8}" for title in titles)]
        pairs = list(zip(self._peers, self._found, strict=True))
        if len(pairs) > rows - 2:  # those that fail are what one looks for
            pairs.sort(key=lambda pair: not pair[1].failed)
            hidden = len(pairs) - (rows - 3)
            pairs = pairs[: rows - 3]
            more = [f"and {hidden} more"]
        else:
            more = []
        for peer, found in pairs:
            cells = [str(found.sent), str(found.failed), *_cells(found)]
            row = f"{str(peer)[:width]:<{width}} " + " ".join(f"{cell:>8}" for cell in cells)
            failure = found.failure
            lines.append(row + (f"  {printable(failure.slug)}" if failure is not None else ""))
        return [line[:columns] for line in (*lines, *more)]


def _cells(found: Statistics) -> list[str]:
    spread = found.summary().get("total")
    if spread is None or found.last is None:
        return ["-"] * 3
    return [f"{seconds * 1000:.1f}" for seconds in (found.last, spread.mean, spread.greatest)]
