r"""Transcripts of a shell as tests: tests/transcripts/*.txt, to be read as documentation.

`$ ` begins a command, which goes on in the next line after a `\`. Below it stands what it prints: as it is on
stdout, after `2> ` on stderr, and at last `exit N` where its exit code is not 0. A command that ends with `&`
runs in the background from when it listens; what it printed stands below `$ kill %1`, which also ends it with
SIGTERM. `-- NAME --` begins a file that is there from the start, `# Files: NAME...` names DICOM files that
pydicom ships; other lines that begin with `#` are for the reader.

`...` alone stands for any lines, and `<sha256>` and the like (PLACEHOLDERS) for what differs from run to run.
Ports in the text are those of the books and manuals; others are used, and put back in what is printed.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import images, peers
from tests.support.cli import environment
from tests.support.output import Output

PLACEHOLDERS = {
    "<sha256>": r"[0-9a-f]{64}",
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)",
    "<date>": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    "<number>": r"\d+(?:\.\d+)?",
    "<version>": r"[0-9][0-9a-z.]*",
    "<client>": r"(?:127\.0\.0\.1|\[::1\]):\d{1,5}",
    "<, [::]:2762>": r"(?:, \[::\]:2762)?",  # where the machine has IPv6
    "<this machine>": r"[A-Za-z0-9.-]+",
    "<folder>": r"/\S+",
}
_PROGRAMS = {"Orthanc": peers.ORTHANC, "openssl": Path(shutil.which("openssl") or "/usr/bin/openssl")}
_DCMTK_TOOLS = ("echoscu", "storescu", "storescp")


@dataclass(frozen=True)
class Step:
    """A command, and what is to come of it."""

    command: str
    stdout: str
    stderr: str
    exit_code: int


@dataclass(frozen=True)
class Transcript:
    steps: list[Step]
    files: dict[str, str]
    images: list[str]

    @property
    def programs(self) -> list[Path]:
        """The programs it needs beside ours."""
        tools = {shlex.split(step.command)[0] for step in self.steps}
        dcmtk = [peers.DCMTK / tool for tool in _DCMTK_TOOLS if tool in tools]
        return dcmtk + [path for name, path in _PROGRAMS.items() if name in tools]


def parse(text: str) -> Transcript:
    """Read a transcript; raises ValueError where a line belongs to nothing."""
    script, *rest = re.split(r"^-- (\S+) --\n", text, flags=re.MULTILINE)
    files = dict(zip(rest[::2], rest[1::2], strict=True))
    named = re.search(r"^# Files: (.+)$", script, flags=re.MULTILINE)
    # What is below a command up to a blank line or the next command is what it prints.
    steps = []
    lines = iter(script.splitlines())
    block: list[str] = []
    for line in lines:
        if line.startswith("$ "):
            while line.endswith("\\"):
                line = line[:-1] + next(lines).strip()
            block = [line[2:]]
            steps.append(block)
        elif line and not line.startswith("#"):
            if not block:
                raise ValueError(f"belongs to no command: {line}")
            block.append(line)
    return Transcript([_step(block) for block in steps], files, named[1].split() if named else [])


def _step(block: list[str]) -> Step:
    command, *lines = block
    ends = re.fullmatch(r"exit (\d+)", lines[-1]) if lines else None
    if ends:
        lines.pop()
    errors = [line.removeprefix("2> ") for line in lines if line.startswith("2> ")]
    output = [line for line in lines if not line.startswith("2> ")]
    return Step(command, _text(output), _text(errors), int(ends[1]) if ends else 0)


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def matches(expected: str, actual: str) -> bool:
    """Tell whether `actual` is what `expected` says, placeholders and `...` filled in."""
    pattern = ""
    for line in expected.splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*?"
            continue
        parts = re.split("(" + "|".join(map(re.escape, PLACEHOLDERS)) + ")", line)
        pattern += "".join(PLACEHOLDERS.get(part) or re.escape(part) for part in parts) + r"\n"
    return re.fullmatch(pattern, actual) is not None


@dataclass
class Session:
    """A shell in `folder` that plays a transcript."""

    folder: Path
    ports: dict[str, str] = field(default_factory=dict)  # the one in the text -> the one that is used
    job: tuple[subprocess.Popen[str], Output] | None = None
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def play(self, transcript: Transcript) -> None:
        """Run every step; raises AssertionError at the first that differs."""
        for program in transcript.programs:
            peers.need(program)
        for name, text in transcript.files.items():
            (self.folder / name).write_text(text)
        for name in transcript.images:
            shutil.copy(images.FOLDER / name, self.folder / name)
        with self.stack:
            for step in transcript.steps:
                self._compare(step, *self._run(step.command))

    def _run(self, command: str) -> tuple[str, str, int]:
        if command.endswith("&"):
            self._start(command.removesuffix("&").strip())
            return "", "", 0
        if command == "kill %1":
            return self._end_job()
        done = subprocess.run(
            ["/bin/bash", "-c", f"umask 022; {self._with_real_ports(command)}"],
            cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=peers.LIMIT, check=False,
        )  # fmt: skip
        return self._with_written_ports(done.stdout), self._with_written_ports(done.stderr), done.returncode

    def _start(self, command: str) -> None:
        words = shlex.split(command)
        if words[0] == "Orthanc":
            self._start_orthanc(self.folder / words[1])
            return
        (written,) = (word for word in words if re.fullmatch(r"\d{4,5}", word))

        def line(port: int) -> list[str]:
            self.ports[written] = str(port)
            return ["/bin/bash", "-c", "exec " + self._with_real_ports(command)]

        started = peers.listening(line, env=self._environment(), cwd=self.folder)
        _, process, output = self.stack.enter_context(started)
        self.job = process, output

    def _start_orthanc(self, path: Path) -> None:
        options: dict[str, Any] = json.loads(path.read_text())
        for name, value in options.items():
            if str(value).endswith((".crt", ".key")):
                options[name] = str(self.folder / value)  # Orthanc looks beside its own program
        port = str(options.pop("DicomPort", 4242))
        running = self.stack.enter_context(peers.orthanc(self.folder / f".{path.stem}", **options))
        self.ports[port] = str(running.dicom_port)
        self.ports["8042"] = str(running.http_port)

    def _end_job(self) -> tuple[str, str, int]:
        assert self.job is not None, "nothing runs in the background"
        process, output = self.job
        process.send_signal(signal.SIGTERM)
        process.wait(peers.LIMIT)
        output.close()
        return self._with_written_ports(output.text), "", process.returncode

    def _environment(self) -> dict[str, str]:
        """Return an environment where `dicomtls` is ours and DCMTK's tools are DCMTK's."""
        programs = self.folder / ".bin"
        if not programs.exists():
            programs.mkdir()
            ours = programs / "dicomtls"
            ours.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dicomtls_cli "$@"\n')
            ours.chmod(0o755)
        path = os.pathsep.join([str(programs), str(peers.DCMTK), "/usr/sbin", "/bin"])
        return {**environment(), "PATH": path, "LC_ALL": "C", "TCP_NODELAY": "1"}

    def _with_real_ports(self, command: str) -> str:
        return re.sub(r"\b\d{4,5}\b", lambda found: self.ports.get(found[0], found[0]), command)

    def _with_written_ports(self, text: str) -> str:
        written = {used: port for port, used in self.ports.items()}
        return re.sub(r"(?<=:)\d{4,5}\b", lambda found: written.get(found[0], found[0]), text)

    def _compare(self, step: Step, stdout: str, stderr: str, exit_code: int) -> None:
        if exit_code == step.exit_code and matches(step.stdout, stdout) and matches(step.stderr, stderr):
            return
        expected = _told(step.stdout, step.stderr, step.exit_code)
        actual = _told(stdout, stderr, exit_code)
        difference = "\n".join(difflib.unified_diff(expected, actual, "transcript", "now", lineterm=""))
        raise AssertionError(f"$ {step.command}\n{difference}")


def _told(stdout: str, stderr: str, exit_code: int) -> list[str]:
    errors = [f"2> {line}" for line in stderr.splitlines()]
    return [*errors, *stdout.splitlines(), *([f"exit {exit_code}"] if exit_code else [])]
