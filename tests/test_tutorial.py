"""docs/tutorial.md does what it says, from its first command to its last, with a real Orthanc."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.transcript import Session, Step, matches, parse

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
_CHANGING = [
    (r"[0-9a-f]{64}", "<hash>"),
    (r"(?<=localhost, ).*(?=, 127)", "<host>"),
    (r"\d+(?:[.:-]\d+)*", "<n>"),
]


def alike(text: str) -> str:
    """Return a text with what differs between two runs made equal."""
    for pattern, same in _CHANGING:
        text = re.sub(pattern, same, text)
    return text


class Terminal(Session):
    """A shell that shows what goes to stdout and to stderr as one, as a terminal does."""

    def _run(self, command: str) -> tuple[str, str, int]:
        if not command.endswith("&") and not command.startswith("kill"):
            command = f"{{ {command}; }} 2>&1"
        stdout, stderr, exit_code = super()._run(command)
        return f"{stdout.rstrip()}\n" if stdout else "", stderr, exit_code  # the prompt begins a line anyhow

    def _compare(self, step: Step, stdout: str, stderr: str, exit_code: int) -> None:
        expected = dataclasses.replace(step, stdout=alike(step.stdout), stderr=alike(step.stderr))
        super()._compare(expected, alike(stdout), alike(stderr), exit_code)


def test_what_is_alike() -> None:
    assert matches(
        alike("C-ECHO success in 0.3 ms, until 2027-05-01 08:00:00\n"),
        alike("C-ECHO success in 12 ms, until 2026-11-28 02:43:44\n"),
    )
    assert not matches(alike("exit code\n"), alike("exit codes\n"))


@pytest.mark.interop
def test_the_tutorial(tmp_path: Path) -> None:
    peers.installed("curl")
    text = TUTORIAL.read_text()
    shown = "".join(re.findall(r"^```console\n(.*?)^```$", text, flags=re.M | re.S))
    configurations = re.findall(r"`(\w+\.json)`(?:(?!```).)*?```json\n(.*?)^```$", text, flags=re.M | re.S)
    assert [name for name, _ in configurations] == ["orthanc.json", "anonymous.json"]
    files = {name: re.sub(r'"/[^"]*/', '"', written) for name, written in configurations}
    transcript = parse(shown.replace("\n$", "\n\n$"))
    assert len(transcript.steps) > 12
    Terminal(tmp_path).play(dataclasses.replace(transcript, files=files))
