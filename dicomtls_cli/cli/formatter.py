"""How help is laid out, from 20 columns up; imported when help is shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import click

_NARROWEST = 18
_UNBROKEN = "\N{NON-BREAKING HYPHEN}"


class HelpFormatter(click.HelpFormatter):
    """click's, which is 50 columns wide at least and breaks `--no-tls` after its `no-`."""

    def __init__(self, *, max_width: int) -> None:
        super().__init__(width=max(min(shutil.get_terminal_size().columns, max_width) - 2, _NARROWEST))

    def write_text(self, text: str) -> None:
        """Write a paragraph; words stay whole."""
        super().write_text(text.replace("-", _UNBROKEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write options or commands with what they are for; where there is little room, one below the other."""
        whole = [(first, second.replace("-", _UNBROKEN)) for first, second in rows]
        super().write_dl(
            whole, min(col_max, max(4, self.width // 3)) if self.width < 60 else col_max, col_spacing
        )

    def getvalue(self) -> str:
        """Return what was written."""
        return super().getvalue().replace(_UNBROKEN, "-")


def help_text(command: click.Command, ctx: click.Context) -> str:
    """Return the help of `command` for the terminal at hand."""
    formatter = HelpFormatter(max_width=ctx.max_content_width or 80)
    command.format_help(ctx, formatter)
    return formatter.getvalue().rstrip("\n")
