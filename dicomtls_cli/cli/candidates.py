"""What may come next on a command line, found by what each command declares."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import click

from dicomtls_cli.cli.words import StrictGroup
from dicomtls_cli.errors import DicomTlsError


class Candidate(NamedTuple):
    """A word that may stand there, and what it is about in a line."""

    value: str
    about: str = ""


class Candidates(NamedTuple):
    """The words that may stand there; `files_after` is not None where the name of a file may.

    That name stands after `files_after`, which is empty or as `--trust=`.
    """

    words: Sequence[Candidate] = ()
    files_after: str | None = None


def find_candidates(program: click.Command, words: Sequence[str], begun: str) -> Candidates:
    """Return what may stand where the word `begun` has been begun.

    `program` is the whole command line's, and `words` are those between its name and the one that is begun.
    """
    command, ctx, rest = _find_command(program, list(words))
    if command is None:
        return Candidates()
    ctx.obj = rest
    options = _by_spelling(command, ctx)
    place = _find_place(rest, options)
    if place.option is not None:
        return _values(place.option, ctx, begun)
    name, equals, value = begun.partition("=")
    if not place.only_words and begun[:1] in ("-", "+") and begun:
        attached = options.get(name) if equals and name.startswith("--") else None
        if attached is not None and _values_taken(attached) == 1:
            return _after(f"{name}=", _values(attached, ctx, value))
        return Candidates(_option_words(options, set(rest), begun))
    return _positional(command, ctx, place.positionals, begun)


def _find_command(
    program: click.Command, words: list[str]
) -> tuple[click.Command | None, click.Context, list[str]]:
    """Return the command that `words` lead to (None: to none there is), its context and its own words."""
    command, ctx = program, click.Context(program, info_name="dicomtls", **program.context_settings)
    while isinstance(command, click.Group):
        names = [at for at, word in enumerate(words) if word[:1] not in ("-", "+")]
        if not names:
            break
        name, words = words[names[0]], words[names[0] + 1 :]
        found = command.get_command(ctx, name) if name in command.list_commands(ctx) else None
        if found is None:
            return None, ctx, []
        command, ctx = found, click.Context(found, ctx, name)
    return command, ctx, words


def _by_spelling(command: click.Command, ctx: click.Context) -> dict[str, click.Option]:
    return {
        spelling: option
        for option in command.get_params(ctx)
        if isinstance(option, click.Option)
        for spelling in (*option.opts, *option.secondary_opts)
    }


def _values_taken(option: click.Option) -> int:
    return 0 if option.is_flag or option.count else option.nargs


class _Place(NamedTuple):
    """Where the next word stands: a value of `option`, or after so many positional words."""

    option: click.Option | None
    positionals: int
    only_words: bool = False


def _find_place(words: Sequence[str], options: dict[str, click.Option]) -> _Place:
    at = positionals = 0
    while at < len(words):
        if words[at] == "--":
            return _Place(None, positionals + len(words) - at - 1, only_words=True)
        option = options.get(words[at])
        if option is not None:
            if at + _values_taken(option) >= len(words):
                return _Place(option, positionals)
            at += _values_taken(option)
        else:
            positionals += words[at][:1] not in ("-", "+")
        at += 1
    return _Place(None, positionals)


def _option_words(options: dict[str, click.Option], given: set[str], begun: str) -> list[Candidate]:
    """Return the spellings that begin so; those that help hides only when two letters or a plus ask for them."""
    asked = len(begun) > 1 or begun == "+"
    return [
        Candidate(spelling, _first_sentence(option.help))
        for spelling, option in options.items()
        if spelling.startswith(begun)
        and (asked or not option.hidden)
        and (option.multiple or option.count or given.isdisjoint((*option.opts, *option.secondary_opts)))
    ]


def _first_sentence(text: str | None) -> str:
    return re.split(r"\. |; | \[| \(", " ".join((text or "").split()))[0].rstrip(".")


def _positional(command: click.Command, ctx: click.Context, before: int, begun: str) -> Candidates:
    if isinstance(command, StrictGroup):
        return _matching((Candidate(*row) for row in command.summaries(ctx)), begun)
    for argument in command.get_params(ctx):
        if isinstance(argument, click.Argument):
            if argument.nargs < 0 or before < argument.nargs:
                return _values(argument, ctx, begun)
            before -= argument.nargs
    return Candidates()


# ---------------------------------------------------------------------- values


def _values(parameter: click.Parameter, ctx: click.Context, begun: str) -> Candidates:
    """Return what may be a value of `parameter`: one of its choices, or what its names stand for."""
    if isinstance(parameter.type, click.Choice):
        return _matching((Candidate(str(choice)) for choice in parameter.type.choices), begun)
    called = f"{parameter.metavar or ''} {parameter.type.name.upper()} {' '.join(parameter.opts)}"
    found = [give(ctx, begun) for kind, give in _KINDS if kind.search(called)]
    return Candidates(
        [word for candidates in found for word in candidates.words],
        next((each.files_after for each in found if each.files_after is not None), None),
    )


def _matching(candidates: Iterable[Candidate], begun: str) -> Candidates:
    return Candidates([word for word in candidates if word.value.startswith(begun)])


def _after(prefix: str, candidates: Candidates) -> Candidates:
    """Return `candidates` as what stands behind `prefix` in the same word."""
    words = [Candidate(prefix + word.value, word.about) for word in candidates.words]
    return Candidates(words, None if candidates.files_after is None else prefix)


def _files(_ctx: click.Context, _begun: str) -> Candidates:
    return Candidates(files_after="")


def _topics(ctx: click.Context, begun: str) -> Candidates:
    from dicomtls_cli.cli.topics import TOPICS

    commands = ctx.find_root().command
    rows = commands.summaries(ctx.find_root()) if isinstance(commands, StrictGroup) else []
    return _matching([Candidate(*row) for row in (*TOPICS.items(), *rows)], begun)


def _peers(ctx: click.Context, begun: str) -> Candidates:
    """Return the names of the peers file that the words of `ctx.obj` choose; one that cannot be read has none."""
    if not begun.startswith("@"):
        return Candidates()
    from dicomtls_cli.services.peers_file import load_peers, peers_files

    words = [part for word in ctx.obj for part in (word.split("=", 1) if word.startswith("--") else [word])]
    named = [value for word, value in pairwise(words) if word == "--config"]
    # The shell has not expanded what is still being typed.
    config = Path(os.path.expandvars(os.path.expanduser(named[-1]))) if named else None  # noqa: PTH111 - never raises
    try:
        peers = load_peers(peers_files(config))
    except DicomTlsError:
        return Candidates()
    return _matching((Candidate(f"@{name}", peer.called_address) for name, peer in peers.items()), begun)


def _suites(_ctx: click.Context, begun: str) -> Candidates:
    from dicomtls_cli.tls.profiles import SUITES, SUITES_13

    return _matching((Candidate(name) for name in (*SUITES_13, *SUITES)), begun)


# What the help calls a value, or its option -> what it may be. One row is all that a new kind takes.
_KINDS: list[tuple[re.Pattern[str], Callable[[click.Context, str], Candidates]]] = [
    (re.compile(r"\b(?:FILE|DIR|DIRECTORY|FOLDER|PATH|P12|CERT|CSR|OUT|INPUT|WHAT)\b"), _files),
    (re.compile(r"--(?:tls-)?cipher\b"), _suites),
    (re.compile(r"\bTOPIC\b"), _topics),
    (re.compile(r"\bPEER\b"), _peers),
]
