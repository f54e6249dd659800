"""Colour, width, encoding, and readers that leave: what a terminal and a pipe may be like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import cli
from tests.support.tty import on_terminal

RED = "\x1b[31m"
READ_ONLY = [
    ["--help"],
    ["--version"],
    ["storescu", "--help"],
    ["echoscu", "--list-ciphers"],
    ["echoscu", "--list-profiles"],
    ["help"],
    ["help", "trust"],
    ["help", "storescp"],
    ["completion", "bash"],
]


def left_early(*words: str) -> tuple[int, str]:
    """Run a command whose reader has left before it says anything; return exit code and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "dicomtls_cli", *words],
            env=cli.environment(), stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=cli.LIMIT, check=False,
        )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", READ_ONLY, ids=" ".join)
def test_who_has_read_enough_may_leave(words: list[str]) -> None:
    assert left_early(*words) == (4, "")


def test_who_leaves_before_the_result_is_told() -> None:
    code, told = left_early("gencert", "a", "--key-type", "p256")
    assert code == 4
    assert told.startswith("error: cannot write to standard output: Broken pipe\nhint: ")


# ---------------------------------------------------------------------- colour


@pytest.mark.parametrize(
    ("words", "variables", "is_coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
        (["--color", "never"], {}, False),
        (["--color=never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--no-such-option"], {"NO_COLOR": "1"}, False),
        (["--no-such-option"], {}, True),
        (["--no-such-option", "--color", "never"], {}, False),
    ],
)
def test_errors_on_a_terminal(words: list[str], variables: dict[str, str], is_coloured: bool) -> None:
    """Also before the options were understood."""
    given = {"term": variables.get("TERM", "xterm-256color"), "NO_COLOR": ""}
    given |= {name: value for name, value in variables.items() if name != "TERM"}
    with on_terminal("echoscu", *words, **given) as terminal:
        assert terminal.end() == 2
    assert "error:" in terminal.text
    assert (RED in terminal.text) is is_coloured


@pytest.mark.parametrize(
    ("variables", "is_coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": ""}, False)]
)
def test_errors_in_a_pipe(variables: dict[str, str], is_coloured: bool) -> None:
    environment = {**cli.environment(), "NO_COLOR": "", "TERM": "xterm", **variables}
    done = subprocess.run(
        [sys.executable, "-m", "dicomtls_cli", "echoscu"],
        env=environment, capture_output=True, text=True, timeout=cli.LIMIT, check=False,
    )  # fmt: skip
    assert (RED in done.stderr) is is_coloured


# ---------------------------------------------------------------------- width


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize(
    "words", [["--help"], ["demo", "--help"], ["gencert", "--help"], ["help"]], ids=" ".join
)
def test_help_fits_the_terminal(words: list[str], columns: int) -> None:
    with on_terminal(*words, columns=columns) as terminal:
        assert terminal.end() == 0
    for line in terminal.text.splitlines():
        assert len(line) <= min(columns, 110) or len(line.split()) <= 3, line  # `--key-type [rsa2048|...]`


def test_help_on_a_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    lines = cli.run("--help").stdout.splitlines()
    assert max(map(len, lines)) <= 22


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_names_of_options_stay_whole(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = cli.run("storescp", "--help").stdout + cli.run("storescu", "--help").stdout
    assert "\N{NON-BREAKING HYPHEN}" not in shown
    for line in shown.splitlines():
        assert not line.endswith("-"), line


# ---------------------------------------------------------------------- encoding


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=str,
)
def test_narrow_encodings(variables: dict[str, str]) -> None:
    """Names that cannot be shown are escaped; the files get them all the same."""
    environment = {**cli.environment(), **variables}

    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        line = [os.fsencode(word) for word in (sys.executable, "-m", "dicomtls_cli", *words)]
        return subprocess.run(line, env=environment, capture_output=True, timeout=cli.LIMIT, check=False)

    made = run("gencert", "x", "--key-type", "p256")
    assert (made.returncode, made.stderr) == (0, b"")
    bundled = run("bundle", "x.crt", "-o", "日本.crt")
    assert (bundled.returncode, bundled.stderr) == (0, b"")
    assert os.fsencode("日本.crt") in {os.fsencode(path) for path in Path().iterdir()}
    failed = run("echoscu", "h:104", "--trust", "ü.crt")
    assert failed.returncode == 3
    assert failed.stderr.startswith(b"error: the ")
    assert b"Traceback" not in failed.stderr
