"""The commands as the reference and the man pages have them, read off click's parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from dicomtls_cli.cli import group
from dicomtls_cli.cli.words import StrictGroup

_CTX = click.Context(group, info_name="dicomtls", **group.context_settings)


@dataclass(frozen=True)
class Paragraph:
    text: str
    is_verbatim: bool


@dataclass(frozen=True)
class Command:
    name: str
    about: str
    paragraphs: list[Paragraph]
    parameters: list[click.Parameter]

    @property
    def options(self) -> list[click.Option]:
        return [each for each in self.parameters if isinstance(each, click.Option)]


def _commands(parent: click.Group, ctx: click.Context, before: str = "") -> Iterator[Command]:
    """Yield the commands of a group in the order of its help; those of a group in it after the group."""
    abouts = dict(parent.summaries(ctx)) if isinstance(parent, StrictGroup) else {}
    for name in parent.list_commands(ctx):
        command = parent.get_command(ctx, name)
        assert command is not None
        if command.hidden:
            continue
        inside = click.Context(command, ctx, name)
        about = abouts.get(name) or command.get_short_help_str(200)
        full = f"{before}{name}"
        yield Command(full, about, list(_paragraphs(command.help or "")), command.get_params(inside))
        if isinstance(command, click.Group):
            yield from _commands(command, inside, f"{full}-")


def _paragraphs(text: str) -> Iterator[Paragraph]:
    """Yield the paragraphs of a help text; click leaves those as they are that begin with \\b."""
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text.split("\f")[0])):
        if part.startswith("\b"):
            lines = part.splitlines()[1:]
            indent = min(len(line) - len(line.lstrip()) for line in lines)
            yield Paragraph("\n".join(line[indent:] for line in lines), is_verbatim=True)
        else:
            yield Paragraph(part, is_verbatim=False)


COMMANDS = list(_commands(group, _CTX))


def arguments_of(command: Command) -> str:
    """Return how the positional words are called, each with a blank before it; an empty name is not told."""
    arguments = [each for each in command.parameters if isinstance(each, click.Argument)]
    names = [_plain_name(each) if each.metavar is None else each.metavar for each in arguments]
    return "".join(f" {name}" for name in names if name)


def _plain_name(argument: click.Argument) -> str:
    name = f"{(argument.name or '').upper()}{'...' if argument.nargs < 0 else ''}"
    return name if argument.required else f"[{name}]"


def value_of(option: click.Option) -> str:
    """Return how the value of an option is called, with a blank before it, or nothing."""
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return f" {option.metavar}"
    if isinstance(option.type, click.Choice):
        return " " + "|".join(map(str, option.type.choices))
    is_number = option.type.name.startswith(("integer", "float"))
    return " N" if is_number else f" {option.type.name.upper()}"


def about_of(option: click.Option) -> str:
    about = " ".join((option.help or "").split())
    if option.show_default and option.default is not None:
        about += f" [default: {option.default}]"
    return about


def option_rows(command: Command) -> Iterator[tuple[str, str]]:
    """Yield the options that help shows: spellings with value, in backquotes, and what they are for."""
    for option in command.options:
        if not option.hidden:
            spellings = [*option.opts, *option.secondary_opts]
            yield f"`{', '.join(spellings)}{value_of(option)}`", about_of(option)


def other_spellings(command: Command) -> list[str]:
    return [each for option in command.options if option.hidden for each in option.opts]


def markdown_cell(text: str) -> str:
    return text.replace("|", "\\|")
