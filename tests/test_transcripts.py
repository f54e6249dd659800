"""Plays tests/transcripts/*.txt; how they are written: tests/support/transcript.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.transcript import Session, matches, parse

FOLDER = Path(__file__).parent / "transcripts"


def _parameters() -> list[object]:
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        marks = [pytest.mark.interop] if parse(path.read_text()).programs else []
        found.append(pytest.param(path, id=path.stem, marks=marks))
    return found


@pytest.mark.parametrize("path", _parameters())
def test_transcript(path: Path, tmp_path: Path) -> None:
    Session(tmp_path).play(parse(path.read_text()))


def test_a_transcript_is_read_as_it_is_meant() -> None:
    transcript = parse(
        "# For the reader.\n# Files: a.dcm b.dcm\n\n$ dicomtls \\\n  --version\nout\n2> err\nexit 2\n\n$ true\n"
        "-- c.json --\n{}\n"
    )
    first, second = transcript.steps
    assert (first.command, first.stdout, first.stderr, first.exit_code) == (
        "dicomtls --version",
        "out\n",
        "err\n",
        2,
    )
    assert (second.command, second.stdout, second.stderr, second.exit_code) == ("true", "", "", 0)
    assert (transcript.images, transcript.files) == (["a.dcm", "b.dcm"], {"c.json": "{}\n"})
    assert transcript.programs == []


def test_a_line_that_belongs_to_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="belongs to no command: out"):
        parse("out\n$ true\n")


@pytest.mark.parametrize(
    ("expected", "actual", "is_match"),
    [
        ("a\n", "a\n", True),
        ("a\n", "a\nb\n", False),
        ("a\n...\n", "a\nb\nc\n", True),
        ("", "a\n", False),
        ("at <number> ms\n", "at 1.5 ms\n", True),
        ("at <number> ms\n", "at once ms\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_matches(expected: str, actual: str, is_match: bool) -> None:
    assert matches(expected, actual) is is_match


@pytest.mark.parametrize(
    "wrong", ["$ echo a\nb\n", "$ echo a >&2\n", "$ false\n", "$ true\nexit 1\n", "$ kill %1\n"]
)
def test_a_wrong_transcript_fails(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Session(tmp_path).play(parse(wrong))
