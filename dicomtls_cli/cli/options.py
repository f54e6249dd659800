"""What every set of shared options is made of, and the set about what is printed.

Each set is one decorator that hands its command one object: `output_options` gives `terminal`,
`tls.tls_options(role)` gives `tls`, `association.association_options(role)` gives `link`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from dicomtls_cli.cli.terminal import Terminal, wanted_color
from dicomtls_cli.cli.values import FILE
from dicomtls_cli.cli.version import version_option
from dicomtls_cli.cli.words import STATED_META_KEY
from dicomtls_cli.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def with_options(function: Callable[..., Any], options: Sequence[Any], prepare: Callable[..., Any]) -> Any:
    """Return `function` with `options`, whose values `prepare` turns into the arguments it gets instead."""

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        return function(**prepare(values))

    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(options):
        command = option(command)
    return command


class Switch:
    """One setting that an option and DCMTK's flags can write; contradicting ones are a usage error.

    The flags are not in the help: they would bury the option, whose own text names them.
    """

    def __init__(self, name: str, flags: dict[tuple[str, ...], str]) -> None:
        self.name = name
        self.values = {f"{name}_{number}": value for number, value in enumerate(flags.values())}
        option = f"--{name.replace('_', '-')}"
        self.options = [
            click.option(
                *spellings, variable, is_flag=True, hidden=True, help=f"The same as {option} {value}."
            )
            for spellings, (variable, value) in zip(flags, self.values.items(), strict=True)
        ]

    def flags(self, function: Callable[..., Any]) -> Any:
        """Add the flags to a command, as a decorator."""
        for option in reversed(self.options):
            function = option(function)
        return function

    def take(self, values: dict[str, Any]) -> str | None:
        """Take the flags and the option off `values`; return the one value they agree on."""
        chosen = {value for variable, value in self.values.items() if values.pop(variable)}
        named = values.pop(self.name)
        chosen |= {named} if named is not None else set()
        if len(chosen) > 1:
            raise UsageError(
                f"contradicting options for `--{self.name.replace('_', '-')}`: {', '.join(sorted(chosen))}",
                "give one of them",
                slug="usage.contradiction",
            )
        return chosen.pop() if chosen else None


# ---------------------------------------------------------------------- output

_DCMTK_LEVELS = {"fatal": -1, "error": -1, "warn": 0, "info": 1, "debug": 2, "trace": 2}

_OUTPUT = [
    click.option(
        "-v", "--verbose", count=True, help="Say what happens; -vv also dumps the A-ASSOCIATE PDUs."
    ),
    click.option("-d", "--debug", is_flag=True, help="Say everything, and show tracebacks."),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    click.option(
        "-ll", "--log-level", type=click.Choice(list(_DCMTK_LEVELS)), help="The same in DCMTK's words."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print results and errors as JSON lines on stdout."),
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        help="Colour the output [auto: on a terminal, unless NO_COLOR is set; everywhere if FORCE_COLOR is].",
    ),
    click.option("--log-file", type=FILE, help="Append the log to this file, with times."),
    version_option,
]


def output_options(function: Callable[..., Any]) -> Any:
    """Add the options about what is printed; the command gets `terminal`."""
    return with_options(function, _OUTPUT, _prepare_output)


def _prepare_output(values: dict[str, Any]) -> dict[str, Any]:
    verbose, debug, quiet = values.pop("verbose"), values.pop("debug"), values.pop("quiet")
    level = values.pop("log_level")
    if quiet and (verbose or debug):
        raise UsageError(
            "`--quiet` contradicts `--verbose` and `--debug`", "give one of them", slug="usage.contradiction"
        )
    verbosity = -1 if quiet else 2 if debug else min(verbose, 2)
    if level is not None:
        verbosity = max(verbosity, _DCMTK_LEVELS[level]) if verbosity > 0 else _DCMTK_LEVELS[level]
    color = wanted_color(values.pop("color"))
    terminal = Terminal(verbosity, values.pop("as_json"), color, values.pop("log_file"))
    terminal.start(click.get_current_context().meta.get(STATED_META_KEY, []))
    return {**values, "terminal": terminal}
