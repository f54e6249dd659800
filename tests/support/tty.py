"""A process on a terminal of its own, and what is to be seen on that terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

from tests.support import cli

LIMIT = 30.0
COLUMNS, ROWS = 100, 40
DICOMTLS = (sys.executable, "-m", "dicomtls_cli")
_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Tty:
    """Runs `dicomtls`, or another `program`, with a terminal as stdin, stdout and stderr."""

    def __init__(
        self, *words: object, term: str = "xterm-256color", columns: int = COLUMNS,
        program: tuple[str, ...] = DICOMTLS, **variables: str,
    ) -> None:  # fmt: skip
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        self._before = termios.tcgetattr(slave)
        line = ["setsid", "--ctty", *program, *map(str, words)]
        environment = {**cli.environment(), "TERM": term, **variables}
        environment.pop("COLUMNS")
        self._process = subprocess.Popen(line, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.text = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def kill(self) -> None:
        self._process.kill()

    def wait_for(self, wanted: str, since: int = 0) -> int:
        """Read until `wanted` came after the first `since` characters; return where all that came ends."""
        end = time.monotonic() + LIMIT
        while wanted not in self.text[since:]:
            assert self._read(end), f"no {wanted!r} in {self.text!r}"
        return len(self.text)

    def end(self) -> int:
        """Read to the end; return the exit code."""
        end = time.monotonic() + LIMIT
        while self._read(end):
            pass
        return self._process.wait(LIMIT)

    @property
    def is_as_before(self) -> bool:
        """Whether the modes of the terminal are those it had."""
        return termios.tcgetattr(self._master) == self._before

    def screen(self) -> list[str]:
        return screen(self.text)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self, end: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]:
            raise AssertionError(f"nothing more came in {LIMIT} s, after {self.text!r}")
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the last process that had it open is gone
            return False
        self.text += data.decode()
        return bool(data)


@contextlib.contextmanager
def on_terminal(*words: object, **more: Any) -> Iterator[Tty]:
    terminal = Tty(*words, **more)
    try:
        yield terminal
    finally:
        terminal.close()


def screen(text: str, columns: int = COLUMNS) -> list[str]:
    """Return the lines a terminal shows after `text`; it knows line breaks, wrapping, erasing, and going up."""
    lines, row, column, at = [""], 0, 0, 0
    while at < len(text):
        sequence = _SEQUENCE.match(text, at)
        character = text[at]
        at = sequence.end() if sequence else at + 1
        if sequence:
            assert sequence[2] in "mKAJ", f"a terminal may do anything with {sequence[0]!r}"
            if sequence[2] in "KJ":
                lines[row] = lines[row][:column]
            if sequence[2] == "J":
                del lines[row + 1 :]
            if sequence[2] == "A":
                row = max(row - int(sequence[1] or 1), 0)
        elif character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        else:
            if column == columns:
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            lines[row] = f"{lines[row][:column]:{column}}{character}{lines[row][column + 1 :]}"
            column += 1
    return [line.rstrip() for line in lines]
