"""The one object that talks to the person: stdout for results, stderr for everything else."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dicomtls_cli.errors import DicomTlsError, OutputError, error_record, printable

_PREFIXES = {"dicomtls.tls": "T", "dicomtls.pki": "T"}
_NO_STDOUT = "output.standard-output"
_LEVELS = {logging.DEBUG: "D", logging.WARNING: "W", logging.ERROR: "E"}


@dataclass(eq=False, repr=False, match_args=False)  # each would be made at every start
class Terminal:
    """Where and how much to print.

    `verbosity` is -1 (errors only), 0, 1 (what happens, as DCMTK's `-v`) or 2 (A-ASSOCIATE in full).
    Under `as_json` stdout holds JSON lines and nothing else. What is printed on stderr is printed inside
    `aside()`: whoever draws there takes the drawing away meanwhile.
    """

    verbosity: int = 0
    as_json: bool = False
    color: bool | None = None
    log_file: Path | None = None
    aside: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext

    def start(self, notes: list[str]) -> None:
        """Connect the library's log to this terminal and, if wanted, to a file; tell the `notes` at -v.

        Raises OutputError when the log file cannot be opened.
        """
        log = logging.getLogger("dicomtls")
        for handler in list(log.handlers):  # of a command that ran in this process before
            log.removeHandler(handler)
            handler.close()
        log.propagate = False
        log.setLevel(logging.WARNING)
        level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(self.verbosity, logging.DEBUG)
        log.addHandler(_ToStderr(level, self))
        if self.log_file is not None:
            log.addHandler(_log_file_handler(self.log_file, min(level, logging.INFO), self))
        log.setLevel(min(handler.level for handler in log.handlers))
        for note in notes:
            log.info("%s", note)

    def reopen_log(self) -> None:
        """Go on in the file that has the name of the log now; the one so far may have been moved away."""
        for handler in logging.getLogger("dicomtls").handlers:
            if isinstance(handler, _LogFile):
                handler.reopen()

    def result(self, text: str) -> None:
        """Print the result for people, a line or several, on stdout."""
        if not self.as_json and self.verbosity >= 0:
            to_stdout(_lines(text), self.color)

    def heading(self, text: str) -> None:
        """Print a line that stands out above part of the result."""
        if not self.as_json and self.verbosity >= 0:
            to_stdout(click.style(printable(text), bold=True), self.color)

    def record(self, record: dict[str, Any]) -> None:
        """Print a record of the result for programs: one JSON line on stdout."""
        if self.as_json:
            to_stdout(_json(record))

    def note(self, text: str) -> None:
        """Say something on stderr that people may want to know."""
        if self.verbosity >= 0:
            self._say(_lines(text))

    def warning(self, text: str) -> None:
        """Warn on stderr."""
        if self.verbosity >= 0:
            self._say(f"{click.style('warning:', fg='yellow')} {printable(text)}")

    def error(self, error: DicomTlsError) -> None:
        """Report one failure of several, without ending the command."""
        with self.aside():
            report_error(error, as_json=self.as_json, color=self.color)

    def _say(self, text: str) -> None:
        with self.aside():
            _to_stderr(text, self.color)


def _json(record: dict[str, Any]) -> str:
    import json

    return json.dumps(record, ensure_ascii=True)


def report_error(error: DicomTlsError, *, as_json: bool, color: bool | None = None) -> None:
    """Print `error` as an `error:` and a `hint:` line on stderr, or as a JSON record on stdout."""
    if as_json and error.slug != _NO_STDOUT:
        # Where stdout is what fails, the words below are all that can be told.
        with contextlib.suppress(OutputError):
            to_stdout(_json({"ok": False, "error": error_record(error)}))
            return
    _to_stderr(f"{click.style('error:', fg='red', bold=True)} {error.message}", color)
    if error.hint:
        _to_stderr(f"{click.style('hint:', fg='cyan')} {error.hint}", color)


def to_stdout(text: str, color: bool | None = None) -> None:
    """Print on stdout; raise OutputError where it takes nothing (a full disk, a reader that left)."""
    try:
        click.echo(text, color=color)
    except OSError as error:
        raise standard_output_failed(error) from error


def show(text: str) -> None:
    """Print a text that is there to be read and nothing else; who leaves it early (`| head`) has seen enough."""
    try:
        to_stdout(text)
    except OutputError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise click.exceptions.Exit(int(error.exit_code)) from error
        raise


def wanted_color(chosen: str | None = None) -> bool | None:
    """Return whether to colour, by `--color` and the environment; None: where it is shown on a terminal."""
    if chosen in ("always", "never"):
        return chosen == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def standard_output_failed(error: OSError) -> OutputError:
    """Return the error for a standard output that takes nothing, and let nothing more go there."""
    # What is left in the buffer would fail again when Python exits, with a traceback.
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return OutputError(
        f"cannot write to standard output: {error.strerror or error}",
        "give it a reader that stays, or a file with room; what was done before that is done",
        slug=_NO_STDOUT,
    )


def _to_stderr(text: str, color: bool | None = None) -> None:
    with contextlib.suppress(OSError):  # there is nowhere left to complain to; the exit code tells
        click.echo(text, err=True, color=color)


def _lines(text: str) -> str:
    return "\n".join(printable(line, limit=10_000) for line in text.split("\n"))


class _ToStderr(logging.Handler):
    """Log records as DCMTK writes them: `I: Requesting Association`."""

    def __init__(self, level: int, terminal: Terminal) -> None:
        super().__init__(level)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            self._terminal.warning(record.getMessage())
            return
        with self._terminal.aside():
            _to_stderr(f"{_prefix(record)}: {printable(record.getMessage())}")
            if record.exc_info and self._terminal.verbosity > 1:
                _to_stderr(logging.Formatter().formatException(record.exc_info))


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = f"{time}.{int(record.msecs):03d} {_prefix(record)}: {printable(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _prefix(record: logging.LogRecord) -> str:
    return _LEVELS.get(record.levelno) or _PREFIXES.get(record.name, "I")


class _LogFile(logging.FileHandler):
    """A log file that may stop taking lines (a full disk) without stopping what it tells of."""

    def __init__(self, path: Path, terminal: Terminal) -> None:
        super().__init__(path, encoding="utf-8")
        self._terminal = terminal
        self._told = False

    def reopen(self) -> None:
        """Open the file anew under its name; where that cannot be, go on as before, with a warning."""
        try:
            before = self.setStream(self._open())
        except OSError as error:
            logging.getLogger("dicomtls").warning(
                "the log file `%s` cannot be opened anew, the old one goes on: %s",
                self.baseFilename,
                error.strerror,
            )
            return
        self._told = False
        if before is not None:
            before.close()

    def handleError(self, _record: logging.LogRecord) -> None:
        """Warn once, where `logging` would print a traceback for every line."""
        if not self._told:
            self._told = True
            why = sys.exc_info()[1]
            with self._terminal.aside():
                _to_stderr(f"warning: the log file `{printable(self.baseFilename)}` takes no more: {why}")


def _log_file_handler(path: Path, level: int, terminal: Terminal) -> logging.Handler:
    try:
        handler = _LogFile(path, terminal)
    except OSError as error:
        raise OutputError(
            f"cannot write the log file `{path}`: {error.strerror}",
            "name a file in a folder you may write to",
            slug="output.log-file",
        ) from error
    handler.setLevel(level)
    handler.setFormatter(_Lines())
    return handler


def counted(count: int, what: str) -> str:
    """Return how many there are of something whose plural ends in s: `1,200 files`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size_words(count: int | float) -> str:
    """Return a number of bytes as people read it, in powers of 1000: `1.2 GB`."""
    if count < 1000:
        return counted(round(count), "byte")
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def time_words(seconds: float) -> str:
    """Return a time as people read it, `0:01:23`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def is_interactive() -> bool:
    """Tell whether a person sits at both ends: a question may be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
