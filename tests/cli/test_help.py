"""`dicomtls help`: topics for a terminal, and the help of commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.cli.topics import TOPICS, lay_out
from dicomtls_cli.errors import ExitCode
from tests.support import cli


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_topic_fits_the_terminal(topic: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = cli.run("help", topic)
    assert (result.exit_code, result.stderr) == (0, "")
    for line in result.stdout.splitlines():
        assert len(line) <= min(columns, 100) or len(line.split()) <= 2, line  # a word that is longer
    for markup in ("**", "](", "<!--", "|", "##", "```"):
        assert markup not in result.stdout


def test_every_exit_code_is_told() -> None:
    lines = cli.run("help", "exit-codes").stdout.splitlines()
    for code in ExitCode:
        assert any(line.startswith(f"{int(code)} ") for line in lines), code


def test_the_help_of_a_command() -> None:
    assert cli.run("help", "echoscu").stdout == cli.run("echoscu", "--help").stdout
    assert cli.run("help", "help").stdout == cli.run("help", "-h").stdout


def test_without_a_word_it_lists_both() -> None:
    shown = cli.run("help").stdout
    for name in (*TOPICS, "echoscu", "completion"):
        assert f"\n  {name} " in shown


def test_no_such_topic() -> None:
    result = cli.run("help", "exit-code", "--json")
    assert result.exit_code == 2
    result = cli.run("help", "exit-code")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "error: no such topic or command `exit-code`",
        "hint: did you mean `exit-codes`?",
    ]
    assert "`dicomtls help` lists them" in cli.run("help", "zzz").stderr


def test_what_markdown_becomes() -> None:
    text = (
        "## A title\n\na **b**\nc\n\n- one\n  two\n- three\n\n"
        "```sh\nx  |  y\n```\n\n| a | b |\n|---|---|\n| 1 | `x` y |\n| 22 | z |\n"
    )
    assert lay_out(text, 40) == "A title\n\na b c\n\n- one two\n- three\n\n  x  |  y\n\n1   `x` y\n22  z"


_WORDS = st.lists(st.text("abc-`.", min_size=1, max_size=30), min_size=1, max_size=40)


@given(st.lists(_WORDS, min_size=1, max_size=4), st.integers(20, 120))
def test_no_word_is_lost_and_no_line_too_long(paragraphs: list[list[str]], width: int) -> None:
    """Paragraphs and lists of whatever words; none is broken, and one longer than the line has that for itself."""
    laid_out = lay_out("\n\n".join(" ".join(["x", *words]) for words in paragraphs), width)
    assert laid_out.split() == [word for words in paragraphs for word in ("x", *words)]
    assert all(len(line) <= width or " " not in line for line in laid_out.splitlines())
