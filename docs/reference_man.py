"""Man pages in roff, with the macros of man(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reference import COMMANDS, Command, about_of, arguments_of, value_of

from dicomtls_cli import __version__
from dicomtls_cli.cli import group
from dicomtls_cli.cli.topics import TOPICS, blocks_of, items_of, plain, rows_of

_CODE = re.compile(r"`([^`]+)`")


def program_page(topics: dict[str, str]) -> str:
    """Return dicomtls(1): the commands, and the topics of `dicomtls help`."""
    lines = [*_head("dicomtls", "DICOM over TLS from the shell"), ".SH SYNOPSIS", ".B dicomtls"]
    lines += [r"[\fB\-\-version\fR] [\fB\-\-help\fR] \fICOMMAND\fR [\fIOPTIONS\fR] ...", ".SH DESCRIPTION"]
    lines += [_text(" ".join((group.help or "").split())), ".SH COMMANDS"]
    for command in COMMANDS:
        lines += [".TP", rf"\fBdicomtls\-{_escaped(command.name)}\fR(1)", _text(command.about)]
    for name in TOPICS:
        lines += [f".SH {_TITLES.get(name, name).upper()}", *_topic(topics[name])]
    pages = [rf".BR dicomtls\-{_escaped(command.name)} (1)" for command in COMMANDS]
    return _page([*lines, ".SH SEE ALSO", *(f"{page}," for page in pages[:-1]), pages[-1]])


_TITLES = {"exit-codes": "exit status"}


def command_page(command: Command) -> str:
    """Return dicomtls-COMMAND(1)."""
    name = f"dicomtls-{command.name}"
    lines = [
        *_head(name, command.about.rstrip(".")),
        ".SH SYNOPSIS",
        rf".B dicomtls {_escaped(command.name)}",
    ]
    lines += [rf"[\fIOPTIONS\fR]{_escaped(arguments_of(command))}", ".SH DESCRIPTION"]
    for number, paragraph in enumerate(command.paragraphs):
        lines += [".PP"] if number and not paragraph.is_verbatim else []
        lines += list(_verbatim(paragraph.text)) if paragraph.is_verbatim else [_text(paragraph.text)]
    lines.append(".SH OPTIONS")
    for option in (each for each in command.options if not each.hidden):
        spellings = ", ".join(
            rf"\fB{_escaped(spelling)}\fR" for spelling in (*option.opts, *option.secondary_opts)
        )
        value = value_of(option)
        lines += [".TP", spellings + (rf" \fI{_breakable(value)}\fR" if value else "")]
        lines.append(_text(about_of(option)))
    lines += [".SH EXIT STATUS", "0 only if all of it went well; the others are in", ".BR dicomtls (1)."]
    return _page([*lines, ".SH SEE ALSO", ".BR dicomtls (1)"])


def _head(name: str, about: str) -> list[str]:
    title = f'.TH {_escaped(name.upper())} 1 "" "dicomtls {__version__}" "dicomtls manual"'
    return [title, ".nh", ".ad l", ".SH NAME", rf"{_escaped(name)} \- {_escaped(about)}"]


def _page(lines: list[str]) -> str:
    return "\n".join(['.\\" Made by docs/make_reference.py.', *lines]) + "\n"


def _topic(text: str) -> Iterator[str]:
    for number, block in enumerate(blocks_of(re.sub(r"\A## .*\n", "", text))):
        if block.startswith("```"):
            yield from _verbatim("\n".join(block.splitlines()[1:-1]))
        elif block.startswith("|"):
            for first, second in rows_of(block):
                yield f".TP\n.B {_escaped(plain(first))}\n{_text(plain(second))}"
        elif block.startswith("- "):
            for item in items_of(block):
                yield f".IP \\(bu 2\n{_text(plain(item))}"
        else:
            yield (".PP\n" if number else "") + _text(plain(block))


def _verbatim(text: str) -> Iterator[str]:
    yield ".PP\n.RS 4\n.nf"
    yield from (_guarded(_escaped(line)) for line in text.splitlines())
    yield ".fi\n.RE"


def _text(text: str) -> str:
    """Return a paragraph, what is in backquotes in bold."""
    parts = _CODE.split(" ".join(text.split()))
    marked = (
        rf"\fB{_escaped(part)}\fR" if number % 2 else _escaped(part) for number, part in enumerate(parts)
    )
    return _guarded("".join(marked))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")


def _breakable(value: str) -> str:
    """Return the name of a value, whose alternatives may stand in several lines."""
    return _escaped(value.strip()).replace("|", r"|\:")


def _guarded(line: str) -> str:
    """Return a line that is no request, whatever it begins with."""
    return rf"\&{line}" if line.startswith((".", "'")) else line
