"""The strict word check that every command runs before click sees a word.

click's fallback for unknown single-dash words is unsafe here: `-vc host` would become `-v -c host`, `-cf x`
would connect to `f`, `-nhR` would print help and exit 0. So every word that begins with `-` or `+` has to be
a declared spelling, exactly; the spellings of DCMTK and dcm4che that are no options of ours are *stated*
(accepted, with a note about what we do anyway) or *refused* (with what to write instead).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from dicomtls_cli.errors import UsageError

STATED_META_KEY = "dicomtls.stated"
"""Where `click.Context.meta` keeps the list of notes about stated options, in the order of the words."""

_AFTER_IT = "its values stand after it as words of their own"
WORDS_META_KEY = "dicomtls.words"
"""Where `click.Context.meta` keeps the words of the line as they were written."""

OPTIONS_META_KEY = "dicomtls.options"
"""Where `click.Context.meta` keeps the options and their values, where several peers are named."""

_NAMED = r"@[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class Refused(NamedTuple):
    """A spelling of another toolkit that is a usage error here.

    `why` completes "option `X` is refused: ..."; `hint` says what to write instead.
    """

    why: str
    hint: str


class Stated(NamedTuple):
    """A spelling that asks for what happens anyway, or for what has no meaning here: dropped, with a note.

    `note` says what is done; `nargs` is how many words the option takes along. When `only` is not empty,
    these are the values the note is true for, and any other is refused with the hint `otherwise`.
    """

    note: str
    nargs: int = 0
    only: tuple[str, ...] = ()
    otherwise: str = ""


class Dialect(NamedTuple):
    """What a command knows of DCMTK's and dcm4che's spellings beyond its own options.

    `no_command_files_from` is the index of the first positional word that cannot begin with `@` (DCMTK reads
    such a word as a file of arguments; a PEER may be `@NAME`); None leaves all of them alone.
    """

    refused: Mapping[str, Refused] = {}
    stated: Mapping[str, Stated] = {}
    no_command_files_from: int | None = None


def is_name(word: str) -> bool:
    """Tell whether a word that is no option names a peer of a peers file: `@NAME`."""
    return re.fullmatch(_NAMED, word) is not None


def of_click(error: click.UsageError) -> UsageError:
    """Return what click refuses as an error of ours."""
    hint = f"`{error.ctx.command_path if error.ctx else 'dicomtls'} --help` says what it takes"
    message = " ".join(error.format_message().split()).rstrip(".")  # click lists choices line by line
    return UsageError(message[:1].lower() + message[1:], hint, slug="usage.invalid")


def suggest(word: str, choices: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """Return the at most `limit` choices that are nearest to `word`, the nearest first.

    Choices that differ from `word` in their leading dashes or pluses alone come first: `-cf` means `+cf`.
    """
    import difflib  # only a mistake needs it

    known = sorted(set(choices))
    bare = word.lstrip("-+").lower()
    same = [choice for choice in known if bare and choice.lstrip("-+").lower() == bare]
    near = [choice for choice in difflib.get_close_matches(word, known, limit) if choice not in same]
    return tuple([*same, *near][:limit])


def did_you_mean(word: str, choices: Iterable[str], otherwise: str = "") -> str:
    """Return "did you mean `a` or `b`?" with the choices nearest to `word`; `otherwise` if none is near."""
    near = [f"`{choice}`" for choice in suggest(word, choices)]
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def check_words(
    words: Sequence[str],
    declared: Mapping[str, int],
    dialect: Dialect | None = None,
    *,
    program: str = "dicomtls",
    stop_at_positional: bool = False,
) -> tuple[list[str], list[str]]:
    """Check every word of a command line and return the words for click, and the notes to tell.

    `declared` maps each spelling to how many values it takes. In the words returned, stated options are gone
    and `-vv` is `-v -v`; else they are `words`. With `stop_at_positional` the check ends at the first word
    that is neither an option nor a value (the name of a subcommand). Raises UsageError with the slugs
    `usage.no-such-option`, `usage.option-value`, `usage.refused-option`, `usage.command-file`.
    """
    check = _WordCheck(words, declared, dialect or Dialect(), program)
    check.run(stop_at_positional)
    return check.passed, check.notes


class _WordCheck:
    """One pass over the words of one command line."""

    def __init__(
        self,
        words: Sequence[str],
        declared: Mapping[str, int],
        dialect: Dialect,
        program: str,
        long: Mapping[str, str] | None = None,
    ) -> None:
        self.words = list(words)
        self.long = long or {}
        self.declared = declared
        self.dialect = dialect
        self.program = program
        self.passed: list[str] = []
        self.notes: list[str] = []
        self.places: list[int] = []  # where in `passed` the words that are no options stand

    def run(self, stop_at_positional: bool) -> None:
        while self.words:
            word = self.words.pop(0)
            if word == "--":
                self.passed += [word, *self.words]
                return
            if word[:1] in ("-", "+") and word != "-":
                self._option(word)
                continue
            self._positional(word)
            if stop_at_positional:
                self.passed += self.words
                return

    def _positional(self, word: str) -> None:
        first = self.dialect.no_command_files_from
        if word.startswith("@") and first is not None and len(self.places) >= first:
            raise UsageError(
                f"command files such as `{word}` are not read",
                f"write the words themselves; a file of that name is `./{word}`",
                slug="usage.command-file",
            )
        self.places.append(len(self.passed))
        self.passed.append(word)

    def _option(self, word: str) -> None:
        if word in self.declared:
            self.passed += [self.long.get(word, word), *self._values(word, self.declared[word])]
        elif _is_verbosity(word) and self.declared.get("-v") == 0:
            self.passed += [self.long.get("-v", "-v")] * (len(word) - 1)
        elif word in self.dialect.refused:
            self._refuse(word)
        elif word in self.dialect.stated:
            self._state(word, self._values(word, self.dialect.stated[word].nargs))
        elif word.startswith("--") and "=" in word:
            self._attached(word)
        else:
            self._unknown(word)

    def _attached(self, word: str) -> None:
        """Handle `--opt=value`, which is for long options that take one value."""
        name, _, value = word.partition("=")
        if name in self.dialect.refused and name not in self.declared:
            self._refuse(name)
        stated = None if name in self.declared else self.dialect.stated.get(name)
        nargs = stated.nargs if stated else self.declared.get(name)
        if nargs is None:
            self._unknown(word)
        elif nargs != 1:
            raise UsageError(
                f"option `{name}` takes {_count(nargs)}, and none with `=`",
                _AFTER_IT if nargs else f"write `{name}` alone",
                slug="usage.option-value",
            )
        elif stated:
            self._state(name, [value])
        else:
            self.passed.append(word)

    def _values(self, word: str, nargs: int) -> list[str]:
        """Take the `nargs` values of option `word` off the words."""
        values = self.words[:nargs]
        for value in values:
            if self._is_option(value):
                shown = _shown(value)
                attach = (
                    f"write `{word}={shown}`"
                    if word.startswith("--")
                    else f"its long spelling takes `={shown}`"
                )
                raise UsageError(
                    f"option `{word}` takes {_count(nargs)}, but the option `{shown}` follows it",
                    f"if that is the value: {attach}" if nargs == 1 else _AFTER_IT,
                    slug="usage.option-value",
                )
        if len(values) < nargs:
            raise UsageError(
                f"option `{word}` takes {_count(nargs)}, but the line ends after it",
                f"`{self.program} --help` says what it takes",
                slug="usage.option-value",
            )
        del self.words[:nargs]
        return values

    def _is_option(self, word: str) -> bool:
        spelled = word.partition("=")[0] if word.startswith("--") else word
        known = (self.declared, self.dialect.refused, self.dialect.stated)
        return word == "--" or any(spelled in table for table in known) or _is_verbosity(word)

    def _state(self, word: str, values: list[str]) -> None:
        stated = self.dialect.stated[word]
        for value in values:
            if stated.only and value.upper() not in stated.only:
                raise UsageError(
                    f"option `{word}` is refused with `{value}`: only {' and '.join(stated.only)} is read",
                    stated.otherwise,
                    slug="usage.refused-option",
                )
        self.notes.append(f"`{word}`: {stated.note}")

    def _refuse(self, word: str) -> None:
        refused = self.dialect.refused[word]
        raise UsageError(
            f"option `{word}` is refused: {refused.why}", refused.hint, slug="usage.refused-option"
        )

    def _unknown(self, word: str) -> None:
        name, equals, _ = word.partition("=")
        shown = _shown(word)
        if equals and not word.startswith("--") and self.declared.get(name) == 1:
            hint = f"write `{name}` and its value as two words; only options with two dashes take `=`"
        else:
            known = [*self.declared, *self.dialect.stated]
            hint = did_you_mean(
                name, known, f"`{self.program} --help` lists the options; a file is `./{shown}`"
            )
        raise UsageError(f"no such option `{shown}`", hint, slug="usage.no-such-option")


def _is_verbosity(word: str) -> bool:
    """Tell whether `word` is `-v`, `-vv` and so on."""
    return word[:2] == "-v" and not word[1:].strip("v")


def _shown(word: str) -> str:
    """Return `word` without what follows an equals sign: it may be a password."""
    name, _, value = word.partition("=")
    return f"{name}=..." if value else word


def _count(nargs: int) -> str:
    return {0: "no value", 1: "a value"}.get(nargs, f"{nargs} values")


def declared_spellings(command: click.Command, ctx: click.Context) -> dict[str, int]:
    """Return every spelling of the options of `command`, with how many values each takes."""
    return {
        spelling: 0 if option.is_flag or option.count else option.nargs
        for option in command.get_params(ctx)
        if isinstance(option, click.Option)
        for spelling in (*option.opts, *option.secondary_opts)
    }


def _long_spellings(command: click.Command, ctx: click.Context) -> dict[str, str]:
    """Return a spelling with two dashes for each short one that has it.

    Of a short one click first believes that it is a long one it does not know, and looks for similar ones: 3 ms.
    """
    found: dict[str, str] = {}
    for option in command.get_params(ctx):
        long = next((spelling for spelling in option.opts if spelling.startswith("--")), None)
        if long is not None:
            found |= {spelling: long for spelling in option.opts if len(spelling) == 2}
    return found


class StrictCommand(click.Command):
    """A command that checks every word before click parses it.

    `dialect` holds the spellings of other toolkits that are stated or refused; an option declared on the
    command goes before them. Notes of stated options: `ctx.meta[STATED_META_KEY]`. With an option `--config`,
    `@NAME` is a peer of a peers file (see `named`); where several peers are on the line, that is left to the
    command, which finds its options in `ctx.meta[OPTIONS_META_KEY]`.
    """

    def __init__(self, *args: Any, dialect: Dialect | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dialect = dialect or Dialect()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Check `args`, then let click parse what is left. Raises UsageError (ours) or click's."""
        ctx.meta[WORDS_META_KEY] = tuple(args)
        if not ctx.resilient_parsing:  # completion: the line is not complete yet
            declared = declared_spellings(self, ctx)
            long = _long_spellings(self, ctx)
            check = _WordCheck(args, declared, self.dialect, ctx.command_path, long)
            check.run(stop_at_positional=False)
            ctx.meta.setdefault(STATED_META_KEY, []).extend(check.notes)
            args = check.passed
            if "--config" in declared and any(is_name(args[place]) for place in check.places):
                args = self._stand_in(ctx, args, check.places)
        return super().parse_args(ctx, args)

    def _stand_in(self, ctx: click.Context, args: list[str], places: list[int]) -> list[str]:
        if self.dialect.no_command_files_from is None and len(places) > 1:
            ctx.meta[OPTIONS_META_KEY] = [word for at, word in enumerate(args) if at not in places]
            return args
        if not is_name(args[places[0]]):
            return args
        from dicomtls_cli.cli.named import stand_in

        return stand_in(self, ctx, args, places[0])

    def get_help(self, ctx: click.Context) -> str:
        """Return the help, laid out for the terminal at hand."""
        from dicomtls_cli.cli.formatter import help_text

        return help_text(self, ctx)


class StrictGroup(click.Group):
    """A group that checks its own words and imports a command only when that command runs.

    `commands_table` maps each name to ("module:attribute", one line of help), in the order of the help.
    """

    def __init__(self, *args: Any, commands_table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_table = dict(commands_table)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Check the words before the command's name, then let click parse them."""
        if not ctx.resilient_parsing:
            declared = declared_spellings(self, ctx)
            args, _ = check_words(args, declared, program=ctx.command_path, stop_at_positional=True)
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        """Return the help, laid out for the terminal at hand."""
        from dicomtls_cli.cli.formatter import help_text

        return help_text(self, ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table, then what was added by hand."""
        return [*self.commands_table, *(name for name in self.commands if name not in self.commands_table)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, imported now if it has not been."""
        if cmd_name not in self.commands and cmd_name in self.commands_table:
            module, _, attribute = self.commands_table[cmd_name][0].partition(":")
            self.add_command(getattr(importlib.import_module(module), attribute), cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return name, command and its words. Raises UsageError `usage.no-such-command`."""
        names = self.list_commands(ctx)
        if args[0] not in names and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], names, f"the commands are {', '.join(names)}")
            raise UsageError(f"no such command `{args[0]}`", hint, slug="usage.no-such-command")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands: `--help` imports none of them."""
        if rows := self.summaries(ctx):
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Return name and line of each command that is not hidden, from the table and without an import."""
        return [
            (
                name,
                self.commands_table[name][1] if name in self.commands_table else command.get_short_help_str(),
            )
            for name in self.list_commands(ctx)
            for command in [self.commands.get(name, click.Command(name))]
            if not command.hidden
        ]
