"""What is generated from the commands is up to date, and can be read: docs/cli.md, tables, man pages."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from dicomtls_cli.cli import group
from dicomtls_cli.cli.words import StrictCommand
from tests.support import cli, peers

ROOT = Path(__file__).parents[1]
MAN = ROOT / "docs" / "man"
PAGES = sorted(MAN.glob("*.1"))


def test_it_is_up_to_date() -> None:
    """If not: python docs/make_reference.py."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_reference.py", "--check"],
        env=cli.environment(), capture_output=True, text=True, timeout=cli.LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def shown_options(name: str) -> list[str]:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return [
        spelling
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
        for spelling in option.opts
    ]


def test_every_command_has_its_section_and_page() -> None:
    headings = re.findall(r"^## (\S+)$", (ROOT / "docs" / "cli.md").read_text(), flags=re.M)
    names = group.list_commands(click.Context(group))
    assert set(names) <= set(headings)
    assert {f"dicomtls-{name}" for name in names} | {"dicomtls"} <= {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_man_shows_the_page(page: Path) -> None:
    done = subprocess.run(
        [peers.installed("man", "man-db"), "--warnings=w", "-E", "UTF-8", "-l", str(page)],
        env={**cli.environment(), "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
        capture_output=True, text=True, timeout=cli.LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(".\b", "", done.stdout)
    assert re.search(rf"^NAME\n +{page.stem} - \w", shown, flags=re.M)
    name = page.stem.partition("-")[2]
    if name and isinstance(group.get_command(click.Context(group), name), StrictCommand):
        for spelling in shown_options(name):
            assert re.search(rf"(?:^ +|, ){re.escape(spelling)}(?:$|[ ,])", shown, flags=re.M), spelling


def test_what_the_dialects_answer_is_in_the_tables() -> None:
    """A spelling that is stated or refused and in no list of theirs would be in no table."""
    listed = tomllib.loads((ROOT / "docs" / "spellings.toml").read_text())
    theirs = {
        spelling
        for programs in listed.values()
        for rows in programs.values()
        for row in rows
        for spelling in row.split()
    }
    for name in ("echoscu", "storescu", "storescp"):
        command = group.get_command(click.Context(group), name)
        assert isinstance(command, StrictCommand)
        assert command.dialect.refused.keys() | command.dialect.stated.keys() <= theirs


@pytest.mark.interop
@pytest.mark.parametrize("name", ["echoscu", "storescu", "storescp"])
def test_the_tables_go_through_all_of_the_installed_dcmtk(name: str) -> None:
    text = peers.dcmtk(name, "--help").stdout
    theirs = re.findall(r"^ +([-+]\S+)(?: +(--\S+))?  ", text, flags=re.M)
    listed = tomllib.loads((ROOT / "docs" / "spellings.toml").read_text())["dcmtk"][name]
    assert len(theirs) > 40
    assert {" ".join(filter(None, found)) for found in theirs} <= set(listed)
