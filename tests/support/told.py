"""What a failed command told, and whether it told it as it should: one host, one documented message, one hint."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from dicomtls_cli.cli import group
from tests.support import cli

TROUBLESHOOTING = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
# What stands for something in a message there: words in capitals, what is quoted, numbers, and the last words
# where they are REASON or the like.
_VARIABLE = re.compile(
    r"`[^`]*`|\b[A-Z]{2,}(?:[-:][A-Z]{2,})*\b|\bN\b|\b0x[\dA-F]+|\b\d[\d.:/-]*\b|…|'OPTION'"
)
_FIXED = {
    "TLS",
    "DICOM",
    "HTTP",
    "SSH",
    "AE",
    "PDU",
    "SHA",
    "SOP",
    "UID",
    "UTC",
    "PEM",
    "CA",
    "CSR",
    "DER",
    "ECHO",
}


@dataclass(frozen=True)
class Told:
    """The error of a command line: exit code, slug, message and hint."""

    exit_code: int
    slug: str
    message: str
    hint: str

    @property
    def outcome(self) -> tuple[int, str]:
        """What scripts rely on."""
        return self.exit_code, self.slug

    @property
    def commands(self) -> list[list[str]]:
        """The command lines of ours that the hint gives, each without `dicomtls`."""
        return [shlex.split(line) for line in re.findall(r"`dicomtls ([^`]+)`", self.hint)]

    @property
    def options(self) -> list[list[str]]:
        """The options of ours that the hint gives, each with its value."""
        return [shlex.split(words) for words in re.findall(r"`([-+][^`]+)`", self.hint)]


def failure(*words: object, peer: str) -> Told:
    """Run a command line that has to fail because of `peer`; return what it told, seen to be well told."""
    name, *rest = words
    result = cli.run(name, "--json", *rest)
    assert result.stderr == "" or result.stderr.startswith("warning:"), result.stderr
    error: dict[str, Any] = result.records[0]["error"]
    told = Told(result.exit_code, error["code"], error["message"], error["hint"])
    check(told, peer)
    assert error["exit"] == result.exit_code
    return told


def check(told: Told, peer: str) -> None:
    """See that the message names `peer` and is the documented one, and that the hint can be followed."""
    assert peer in told.message, told
    assert told.hint, told
    for text in (told.message, told.hint):
        assert text.isprintable()
        assert len(text) < 500, "cut off"
    pattern = documented(told.slug)
    assert pattern.fullmatch(told.message), (
        f"{told.message!r} is not what {told.slug} says: {pattern.pattern}"
    )
    for line in told.commands:
        parses(line)


def parses(words: list[str]) -> None:
    """Let click parse a command line of a hint, whose capital words stand for something."""
    parent = click.Context(group, info_name="dicomtls", **group.context_settings)
    _, command, rest = group.resolve_command(parent, words)
    assert command is not None
    command.make_context(words[0], rest, parent=parent)


@cache
def documented(slug: str) -> re.Pattern[str]:
    """Return what docs/troubleshooting.md says the messages of `slug` look like."""
    return re.compile("|".join(map(_pattern, _messages()[slug])))


def _pattern(text: str) -> str:
    parts, end = [], 0
    for found in _VARIABLE.finditer(text):
        if found[0] in _FIXED:
            continue
        parts += [re.escape(text[end : found.start()]), "`[^`]*`" if found[0][0] == "`" else ".+"]
        end = found.end()
    return "".join([*parts, re.escape(text[end:])])


@cache
def _messages() -> dict[str, list[str]]:
    """Return the messages of each heading: its quoted lines, one message a paragraph."""
    entries = re.split(r"^## (.+)$", TROUBLESHOOTING.read_text(), flags=re.M)[1:]
    found = {}
    for slug, body in zip(entries[::2], entries[1::2], strict=True):
        quoted = "\n".join(line[1:].strip() for line in body.splitlines() if line.startswith(">"))
        found[slug] = [" ".join(text.split()) for text in quoted.split("\n\n")]
    return found
