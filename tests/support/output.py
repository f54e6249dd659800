"""What a running process prints, read as it comes, so that a test waits for a line instead of a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import IO

LIMIT = 30.0


class Output:
    """The lines of a stream, collected by a thread of its own; `len()` is a place to wait from."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._lines)

    def lines(self, since: int = 0) -> list[str]:
        with self._changed:
            return self._lines[since:]

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines())

    def wait_for(self, wanted: str | Callable[[str], object], since: int = 0) -> str:
        """Return the first line after the first `since` that holds `wanted`, or for which it is true."""
        is_wanted = wanted if callable(wanted) else lambda line: wanted in line
        with self._changed:
            checked = since
            while True:
                for line in self._lines[checked:]:
                    if is_wanted(line):
                        return line
                checked = len(self._lines)
                if self._ended or not self._changed.wait(LIMIT):
                    told = "\n".join(self._lines[since:][-60:])
                    what = "it ended" if self._ended else f"{LIMIT:.0f} s passed"
                    raise AssertionError(f"{what} without a line with {wanted!r}, after:\n{told}")

    def close(self) -> None:
        """Read what is left; the process has to have ended. Harmless when done again."""
        self._thread.join()
        self._stream.close()
