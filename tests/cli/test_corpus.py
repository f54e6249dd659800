"""Real command lines against the real commands: the alias tables of docs/cli.md, pinned (corpus.txt)."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from dicomtls_cli.cli import group, requestor, storescu, tls
from dicomtls_cli.cli.options import Switch
from dicomtls_cli.cli.words import STATED_META_KEY, Dialect, StrictCommand, declared_spellings
from dicomtls_cli.errors import UsageError
from tests.support import peers

DCMTK_TOOLS = ("echoscu", "storescu", "storescp")
COMMANDS = (*DCMTK_TOOLS, "doctor")
IMPLIED = {
    "doctor": {"peers": ["ANY-SCP@h:104"]},
    "echoscu": {"peers": ["ANY-SCP@h:104"]},
    "storescu": {"peer": "ANY-SCP@h:104", "paths": ["f"]},
    "storescp": {},
}


def corpus() -> Iterator[tuple[str, str]]:
    """Yield each line of the corpus, expanded, and what is expected of it.

    `doctor` connects as `echoscu` does, so a line of the one with options that both have is one of the other.
    """
    only_echoscu = _declared("echoscu") - _declared("doctor")
    for line, expected in _written():
        yield line, expected
        if line.startswith("echoscu") and only_echoscu.isdisjoint(line.split()):
            yield line.replace("echoscu", "doctor", 1), expected


def _declared(name: str) -> set[str]:
    command = strict_command(name)
    parent = click.Context(group, info_name="dicomtls", **group.context_settings)
    return set(declared_spellings(command, click.Context(command, parent, name)))


def _written() -> Iterator[tuple[str, str]]:
    for line in Path(__file__).with_name("corpus.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        left, _, expected = line.partition("  =>  ")
        assert expected, f"no `  =>  ` in: {line}"
        parts = re.split(r"\{(.*?)\}", left)
        choices = [part.split("|") if at % 2 else [part] for at, part in enumerate(parts)]
        for chosen in itertools.product(*choices):
            yield "".join(chosen).strip(), expected


def strict_command(name: str) -> StrictCommand:
    return getattr(importlib.import_module(f"dicomtls_cli.cli.{name}"), name)


LINES = list(corpus())


def parse(words: list[str]) -> click.Context:
    """Parse as `dicomtls WORDS` does, without running the command."""
    parent = click.Context(group, info_name="dicomtls", **group.context_settings)
    return strict_command(words[0]).make_context(words[0], words[1:], parent=parent)


def flags_of(name: str) -> dict[str, str]:
    """Return what each flag sets that is only another spelling of an option with a value."""
    other_role = "_REQUESTOR" if name == "storescp" else "_ACCEPTOR"
    return {
        variable: value
        for module in (tls, importlib.import_module(f"dicomtls_cli.cli.{name}"))
        for key, switch in vars(module).items()
        if isinstance(switch, Switch) and not key.startswith(other_role)
        for variable, value in switch.values.items()
    }


def meaning(ctx: click.Context) -> dict[str, Any]:
    """Return everything that the line of `ctx` sets."""
    name, params = ctx.info_name or "", dict(ctx.params)
    flags = flags_of(name)
    found: dict[str, Any] = {}
    for key, value in params.items():
        if key == "words" or ctx.get_parameter_source(key) is not click.core.ParameterSource.COMMANDLINE:
            continue
        base = re.sub(r"_\d$", "", key) if key in flags else key
        found[base] = json.loads(json.dumps(flags.get(key, value), default=str))
    positional(name, params, found)
    if ctx.meta[STATED_META_KEY]:
        found["stated"] = [note.partition("`:")[0].lstrip("`") for note in ctx.meta[STATED_META_KEY]]
    return found


def positional(name: str, params: dict[str, Any], found: dict[str, Any]) -> None:
    if name == "storescp":
        return
    arguments = params["words"], params["connect"]
    secured = not params["no_tls"]
    if name in ("echoscu", "doctor"):
        peers = requestor.peers_from(*arguments, aec=params["aec"], tls=secured)
        found["peers"] = [f"{peer.called_aet}@{peer}" for peer in peers]
    else:
        peer, paths = storescu._peer_and_paths(*arguments, params["aec"], secured, params["generate"])
        found |= {"peer": f"{peer.called_aet}@{peer}", "paths": [str(path) for path in paths]}


@pytest.mark.parametrize(("line", "expected"), LINES, ids=[line for line, _ in LINES])
def test_line(line: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)
    if not expected.startswith("{"):
        with pytest.raises((UsageError, click.UsageError, click.exceptions.Exit)) as caught:
            meaning(parse(words))
        error = caught.value
        if isinstance(error, UsageError):
            assert error.slug == expected
            assert error.hint
        else:
            assert expected == ("exits" if isinstance(error, click.exceptions.Exit) else "usage.invalid")
        return
    wanted = IMPLIED[words[0]] | json.loads(expected)
    if words[0] in ("echoscu", "doctor") and "peer" in wanted:
        wanted["peers"] = [wanted.pop("peer")]
    assert meaning(parse(words)) == wanted
    assert not capsys.readouterr().out


def spellings(name: str) -> set[str]:
    command, declared = strict_command(name), _declared(name)
    assert not declared & (command.dialect.refused.keys() | command.dialect.stated.keys())
    return declared


@pytest.mark.parametrize("name", COMMANDS)
def test_every_spelling_is_in_the_corpus(name: str) -> None:
    used = {
        word.partition("=")[0] if word.startswith("--") else word
        for line, _ in LINES
        if line.startswith(name)
        for word in shlex.split(line)
    }
    dialect = strict_command(name).dialect
    assert spellings(name) | dialect.refused.keys() | dialect.stated.keys() <= used


@pytest.mark.parametrize("name", COMMANDS)
def test_hints_name_what_there_is(name: str) -> None:
    """A hint that names an option or command of ours that does not exist (yet) would lead nowhere."""
    dialect: Dialect = strict_command(name).dialect
    hints = [entry.hint for entry in dialect.refused.values()]
    hints += [text for entry in dialect.stated.values() for text in (entry.note, entry.otherwise)]
    for quoted in (quoted for hint in hints for quoted in re.findall("`(.*?)`", hint)):
        first, *rest = quoted.split()
        if first == "dicomtls":
            assert rest[0] in group.commands_table
        elif first[0] in "-+":
            assert first in spellings(name), quoted


# What DCMTK's own programs know and this slice does not: options of later issues, or of none.
LATER = {
    "echoscu": "",
    "storescu": "",
    "storescp": "",
}


@pytest.mark.interop
@pytest.mark.parametrize("name", DCMTK_TOOLS)
def test_every_option_of_the_installed_dcmtk_is_answered(name: str) -> None:
    text = peers.dcmtk(name, "--help").stdout
    theirs = {
        word
        for found in re.findall(r"^ +([-+]\S+)(?: +(--\S+))?  ", text, re.MULTILINE)
        for word in found
        if word
    }
    assert len(theirs) > 50
    dialect = strict_command(name).dialect
    ours = spellings(name) | dialect.refused.keys() | dialect.stated.keys()
    assert theirs - ours == set(LATER[name].split())
