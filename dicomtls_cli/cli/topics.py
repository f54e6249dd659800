"""Texts for `dicomtls help TOPIC`: passages of the documents, laid out for a terminal.

They are taken from docs/ by docs/make_reference.py and kept in texts/, in a small part of Markdown: headings,
paragraphs, lists, fenced blocks, and tables of two columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

TOPICS = {
    "tls": "Certificates, keys, profiles: what is shown, and what is offered.",
    "trust": "Whom we believe, and how a peer is known to be the right one.",
    "exit-codes": "What a command ends with, for scripts.",
}

_TEXTS = Path(__file__).with_name("texts")


def topic_text(name: str, width: int) -> str:
    """Return the text of a topic for a terminal of `width` columns."""
    return lay_out((_TEXTS / f"{name}.md").read_text(encoding="utf-8"), width)


def lay_out(text: str, width: int) -> str:
    """Return a Markdown text as lines of at most `width` columns; what is fenced stays as it is."""
    blocks = ["\n".join(_lines(block, width)) for block in blocks_of(text)]
    return "\n\n".join(blocks)


def blocks_of(text: str) -> Iterator[str]:
    """Yield what blank lines part in a Markdown text, a fenced block as one."""
    lines: list[str] = []
    fenced = False
    for line in [*text.splitlines(), ""]:
        fenced ^= line.startswith("```")
        if line or fenced:
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []


def rows_of(block: str) -> list[list[str]]:
    """Return the rows of a Markdown table, without its heading."""
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in block.splitlines()]
    return rows[2:]


def items_of(block: str) -> list[str]:
    """Return the items of a Markdown list."""
    return re.split(r"^- ", block, flags=re.M)[1:]


def _lines(block: str, width: int) -> Iterator[str]:
    if block.startswith("```"):
        yield from (f"  {line}" for line in block.splitlines()[1:-1])
    elif block.startswith("|"):
        rows = rows_of(block)
        column = max(len(plain(row[0])) for row in rows) + 2
        for first, second in rows:
            yield from _filled(plain(second), width, f"{plain(first):<{column}}", " " * column)
    elif block.startswith("- "):
        for item in items_of(block):
            yield from _filled(plain(item), width, "- ", "  ")
    else:
        yield from _filled(plain(block.lstrip("# ")), width)


def _filled(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    return wrap(
        text, max(width, 20), initial_indent=first, subsequent_indent=others,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def plain(text: str) -> str:
    """Return a paragraph without stress and line breaks."""
    return " ".join(text.replace("**", "").split())
