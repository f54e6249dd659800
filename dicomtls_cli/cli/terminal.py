"""The one object that talks to the person: stdout for results, stderr for everything else."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dicomtls_cli.errors import DicomTlsError, OutputError, printable

_PREFIXES = {"dicomtls.tls": "T", "dicomtls.pki": "T"}
_LEVELS = {logging.DEBUG: "D", logging.WARNING: "W", logging.ERROR: "E"}


@dataclass
class Terminal:
    """Where and how much to print.

    `verbosity` is -1 (errors only), 0, 1 (what happens, as DCMTK's `-v`) or 2 (A-ASSOCIATE in full).
    Under `as_json` stdout holds JSON lines and nothing else.
    """

    verbosity: int = 0
    as_json: bool = False
    color: bool | None = None
    log_file: Path | None = None

    def start(self, notes: list[str]) -> None:
        """Connect the library's log to this terminal and, if wanted, to a file; tell the `notes` at -v.

        Raises OutputError when the log file cannot be opened.
        """
        log = logging.getLogger("dicomtls")
        log.handlers.clear()
        log.propagate = False
        log.setLevel(logging.WARNING)
        level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(self.verbosity, logging.DEBUG)
        log.addHandler(_ToStderr(level, self))
        if self.log_file is not None:
            log.addHandler(_log_file_handler(self.log_file, min(level, logging.INFO)))
        log.setLevel(min(handler.level for handler in log.handlers))
        for note in notes:
            log.info("%s", note)

    def result(self, text: str) -> None:
        """Print the result for people, a line or several, on stdout."""
        if not self.as_json and self.verbosity >= 0:
            click.echo(_lines(text), color=self.color)

    def heading(self, text: str) -> None:
        """Print a line that stands out above part of the result."""
        if not self.as_json and self.verbosity >= 0:
            click.secho(printable(text), bold=True, color=self.color)

    def record(self, record: dict[str, Any]) -> None:
        """Print a record of the result for programs: one JSON line on stdout."""
        if self.as_json:
            click.echo(_json(record))

    def note(self, text: str) -> None:
        """Say something on stderr that people may want to know."""
        if self.verbosity >= 0:
            click.echo(_lines(text), err=True, color=self.color)

    def warning(self, text: str) -> None:
        """Warn on stderr."""
        if self.verbosity >= 0:
            click.echo(
                f"{click.style('warning:', fg='yellow')} {printable(text)}", err=True, color=self.color
            )

    def error(self, error: DicomTlsError) -> None:
        """Report one failure of several, without ending the command."""
        report_error(error, as_json=self.as_json, color=self.color)


def _json(record: dict[str, Any]) -> str:
    import json

    return json.dumps(record, ensure_ascii=True)


def error_record(error: DicomTlsError) -> dict[str, Any]:
    """Return `error` as JSON output has it."""
    return {"code": error.slug, "exit": int(error.exit_code), "message": error.message, "hint": error.hint}


def report_error(error: DicomTlsError, *, as_json: bool, color: bool | None = None) -> None:
    """Print `error` as an `error:` and a `hint:` line on stderr, or as a JSON record on stdout."""
    if as_json:
        click.echo(_json({"ok": False, "error": error_record(error)}))
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True, color=color)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True, color=color)


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
        click.echo(f"{_prefix(record)}: {printable(record.getMessage())}", err=True)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        return f"{time}.{int(record.msecs):03d} {_prefix(record)}: {printable(record.getMessage())}"


def _prefix(record: logging.LogRecord) -> str:
    return _LEVELS.get(record.levelno) or _PREFIXES.get(record.name, "I")


def _log_file_handler(path: Path, level: int) -> logging.Handler:
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write the log file `{path}`: {error.strerror}",
            "name a file in a folder you may write to",
            slug="output.log-file",
        ) from error
    handler.setLevel(level)
    handler.setFormatter(_Lines())
    return handler


def is_interactive() -> bool:
    """Tell whether a person sits at both ends: a question may be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
