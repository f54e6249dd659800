"""The tables of docs/from-*.md: option by option, what another toolkit's spelling does here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
from reference import COMMANDS, about_of, markdown_cell

from dicomtls_cli.cli import group
from dicomtls_cli.cli.words import StrictCommand

SPELLINGS = tomllib.loads(Path(__file__).with_name("spellings.toml").read_text(encoding="utf-8"))
_TABLE = re.compile(r"(<!-- table: (\S+) (\S+) -->\n).*?(<!-- end -->)", re.S)
_THEIRS = {
    spelling
    for programs in SPELLINGS.values()
    for rows in programs.values()
    for row in rows
    for spelling in row.split()
}
_OPTIONS = {command.name: command.options for command in COMMANDS}


def fill_tables(text: str) -> str:
    """Return a document with its tables made anew."""
    return _TABLE.sub(lambda found: found[1] + table(found[2], found[3]) + found[4], text)


def table(kit: str, program: str) -> str:
    rows = [
        f"| {spelled} | {markdown_cell(kind)} | {markdown_cell(what)} |"
        for row in SPELLINGS[kit][program]
        for (kind, what), spelled in meanings(row.split(), program).items()
    ]
    return "\n".join(["| option | here | |", "|---|---|---|", *rows]) + "\n"


def meanings(spellings: list[str], program: str) -> dict[tuple[str, str], str]:
    """Return each meaning that spellings of one option have here (`-tls` is not `--disable-tls`), with these."""
    found: dict[tuple[str, str], list[str]] = {}
    for spelling in spellings:
        found.setdefault(meaning(spelling, program), []).append(f"`{spelling}`")
    return {what: ", ".join(spelled) for what, spelled in found.items()}


def meaning(spelling: str, program: str) -> tuple[str, str]:
    """Return what becomes of an option, in a word, and what it does or why it does not."""
    command = group.get_command(click.Context(group), program)
    assert isinstance(command, StrictCommand)
    for option in _OPTIONS[program]:
        if spelling in (*option.opts, *option.secondary_opts):
            return "taken", own_spelling(option) + about_of(option)
    if spelling in command.dialect.stated:
        stated = command.dialect.stated[spelling]
        only = f" (only {' and '.join(stated.only)}; otherwise: {stated.otherwise})" if stated.only else ""
        return "no effect", f"{stated.note}{only}"
    if spelling in command.dialect.refused:
        refused = command.dialect.refused[spelling]
        return "refused", f"{refused.why}: {refused.hint}"
    return "unknown", "no such option"


def own_spelling(option: click.Option) -> str:
    """Return the spelling that is ours alone, if there is one."""
    ours = [spelling for spelling in option.opts if spelling.startswith("--") and spelling not in _THEIRS]
    return f"`{ours[0]}`: " if ours and not option.hidden else ""
