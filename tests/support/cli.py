"""Run `dicomtls` as its users do: in this process for speed, or as a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicomtls_cli.cli import main

PLAIN_TERMINAL = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "80"}
LIMIT = 60.0


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The last JSON record on stdout."""
        return json.loads(self.stdout.strip().splitlines()[-1])

    @property
    def records(self) -> list[Any]:
        return [json.loads(line) for line in self.stdout.splitlines()]


def run(*words: object) -> Result:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DICOMTLS_")}
    return {**kept, **PLAIN_TERMINAL, "PYTHONPATH": str(Path(__file__).parents[2])}


def run_process(*words: object, cwd: Path | None = None, stdin: str = "") -> Result:
    """Run a command line as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "dicomtls_cli", *map(str, words)],
        cwd=cwd, env=environment(), input=stdin, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass
class Receiver:
    """A running `dicomtls storescp`."""

    process: subprocess.Popen[str]
    port: int
    output: Path
    log: Path

    def events(self) -> list[Any]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextlib.contextmanager
def receiver(folder: Path, *words: object) -> Iterator[Receiver]:
    """Run `dicomtls storescp --json` as a process of its own, storing into `folder`/received."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, log, output = folder / "ready", folder / "storescp.log", folder / "received"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicomtls_cli", "storescp", "--json", "--port", "0", "--ready-file", str(ready),
             "--output", str(output), *map(str, words)],
            stdout=sink, stderr=subprocess.PIPE, env=environment(), text=True,
        )  # fmt: skip
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.startswith("listening"):
                    break
            else:
                raise AssertionError("storescp did not start")
            yield Receiver(process, json.loads(ready.read_text())["port"], output, log)
        finally:
            process.kill()
            process.stderr.close()
            process.wait()
