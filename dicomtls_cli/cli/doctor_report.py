"""The report of `dicomtls doctor` for people: lines on a terminal, or Markdown."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from datetime import datetime

import click

from dicomtls_cli.cli.terminal import Terminal, counted, to_stdout
from dicomtls_cli.errors import printable
from dicomtls_cli.services.doctor.facts import Facts
from dicomtls_cli.services.doctor.judgement import Status, Step
from dicomtls_cli.services.doctor.steps import decisive

_WORDS = {Status.OK: "OK", Status.WARN: "WARN", Status.FAIL: "FAIL", Status.SKIPPED: "-"}
_COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red", Status.SKIPPED: "white"}
_STATUS, _NAME = 6, 20  # columns
_MOST_COLUMNS = 110


def tell_lines(terminal: Terminal, facts: Facts, steps: list[Step]) -> None:
    """Print one block of lines per step, and what all of it comes to."""
    if terminal.as_json or terminal.verbosity < 0:
        return
    columns = min(shutil.get_terminal_size().columns, _MOST_COLUMNS)
    for step in steps:
        for line in _block(step, max(columns, _STATUS + _NAME + 20)):
            to_stdout(line, terminal.color)
    to_stdout(printable(_summary(facts, steps), 10_000), terminal.color)


def _block(step: Step, columns: int) -> Iterator[str]:
    indent = " " * (_STATUS + _NAME)
    status = click.style(f"{_WORDS[step.status]:<{_STATUS}}", fg=_COLOURS[step.status])
    first, *rest = _wrapped(step.text, columns) or [""]
    yield f"{status}{step.name:<{_NAME}}{first}".rstrip()
    for line in (*rest, *(line for note in step.notes for line in _wrapped(note, columns))):
        yield indent + line
    for line in _wrapped(f"fix: {step.fix}", columns) if step.fix else ():
        yield indent + click.style(line, fg="cyan")


def _wrapped(text: str, columns: int) -> list[str]:
    width = columns - _STATUS - _NAME
    # A fingerprint stays whole, however narrow the terminal: it is there to be copied.
    return textwrap.wrap(printable(text, 10_000), width, break_long_words=False, break_on_hyphens=False)


def _summary(facts: Facts, steps: list[Step]) -> str:
    counts = [
        f"{number} {_WORDS[status]}"
        for status in (Status.OK, Status.WARN, Status.FAIL)
        if (number := sum(step.status is status for step in steps))
    ]
    made = counted(facts.connections, "connection")
    ending = decisive(steps)
    why = f"; exit code {int(ending.exit_code)} for `{ending.name}`" if ending else ""
    return f"{facts.peer}: {', '.join(counts)}; {made}{why}"


def tell_markdown(terminal: Terminal, facts: Facts, steps: list[Step], now: datetime) -> None:
    """Print the report as Markdown, made at `now`."""
    to_stdout("\n".join(_markdown(facts, steps, now)), terminal.color)


def _markdown(facts: Facts, steps: list[Step], now: datetime) -> Iterator[str]:
    yield f"# DICOM TLS report of `{facts.peer}`"
    yield ""
    yield f"{now:%Y-%m-%d %H:%M} UTC. {_summary(facts, steps)}."
    yield ""
    yield "| step | result | found | fix |"
    yield "|---|---|---|---|"
    for step in steps:
        word = "not judged" if step.status is Status.SKIPPED else _WORDS[step.status]
        yield f"| {step.name} | {word} | {_cell('; '.join((step.text, *step.notes)))} | {_cell(step.fix)} |"
    for number, der in enumerate(facts.chain, 1):
        import ssl

        yield ""
        yield f"Certificate {number} of the peer:"
        yield ""
        yield "```"
        yield ssl.DER_cert_to_PEM_cert(der).rstrip()
        yield "```"


def _cell(text: str) -> str:
    """Return `text`, a peer's words among it, as the inside of a table cell."""
    shown = printable(text, 10_000)
    for character in "\\|<>*_[]":
        shown = shown.replace(character, f"\\{character}")
    return shown
