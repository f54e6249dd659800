"""`dicomtls demo`: what it claims has happened, and it fails when it has not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomtls_cli.services import demo as module
from dicomtls_cli.services.demo import DemoFailed, Step, run_demo
from tests.support import cli
from tests.support.output import Output

TITLES = [
    "Two identities, each a key and a certificate",
    "The certificates both sides trust",
    "A receiver that requires certificates",
    "C-ECHO over mutual TLS",
    "C-STORE of generated images",
    "A pynetdicom program, secured by the same contexts",
    "A stranger is refused, and told why",
    "The receiver still serves",
    "The receiver ends in order",
]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have temporary folders made where they can be seen, and let its processes find the package."""
    monkeypatch.setenv("PYTHONPATH", cli.environment()["PYTHONPATH"])
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_all_of_it(scratch) -> None:
    result = cli.run_process("demo", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    steps = result.records
    assert [step["step"] for step in steps] == TITLES
    assert all(step["ok"] for step in steps)
    told = dict(zip(TITLES, (step["output"] for step in steps), strict=True))
    for title in ("C-ECHO over mutual TLS", "The receiver still serves"):
        assert "C-ECHO success" in told[title]
        assert "TLSv1.3" in told[title]
        assert "identified by pin" in told[title]
    assert "5 stored, 0 with a warning, 0 failed" in told["C-STORE of generated images"]
    refusal = told["A stranger is refused, and told why"]
    assert "error: " in refusal
    assert "(exit code 12)" in refusal
    assert list(scratch.iterdir()) == []  # nothing is left behind


def test_for_people(dicomtls) -> None:
    result = dicomtls("demo")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [f"{n}. {title}" in result.stdout for n, title in enumerate(TITLES, 1)] == [True] * 9
    assert result.stdout.endswith("all 9 steps went as they should\n")
    assert result.stdout.count("   $ dicomtls ") == 7


def children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_when_its_receiver_is_killed_it_fails_and_says_so(scratch) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "dicomtls_cli", "demo", "--json"],
        env={**cli.environment(), "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = Output(process.stdout), Output(process.stderr)
        out.wait_for(TITLES[2])
        for pid in children(process.pid):
            with contextlib.suppress(FileNotFoundError):
                if b"storescp" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        code = process.wait(cli.LIMIT)
        out.close()
        err.close()
    assert code == 1
    records = [json.loads(line) for line in out.lines()]
    assert records[-1]["ok"] is False
    assert records[-1]["error"]["code"] == "demo.failed"
    assert len(records) < len(TITLES)
    assert "Traceback" not in err.text
    assert list(scratch.iterdir()) == []


def steps_until_failure(demo: Iterator[Step]) -> tuple[list[str], DemoFailed]:
    titles = []
    try:
        titles.extend(step.title for step in demo)
    except DemoFailed as error:
        return titles, error
    raise AssertionError("the demo claims that all went well")


def test_images_that_arrive_otherwise_than_they_were_sent_are_noticed(monkeypatch, scratch) -> None:
    expect = module._Demo.expect_stored

    def tampered(self: module._Demo, images: list[Path]) -> None:
        stored = next((self.folder / "received").rglob("*.dcm"))
        stored.write_bytes(stored.read_bytes()[:-1] + b"\xff")
        expect(self, images)

    monkeypatch.setattr(module._Demo, "expect_stored", tampered)
    _, error = steps_until_failure(run_demo())
    assert "did not arrive as it was sent" in error.message
    assert list(scratch.iterdir()) == []


def test_a_stranger_that_gets_in_is_noticed(monkeypatch) -> None:
    refused = module._Demo.refused_stranger
    monkeypatch.setattr(
        module._Demo,
        "refused_stranger",
        lambda self, line: refused(self, line.replace("stranger", "scanner")),
    )
    titles, error = steps_until_failure(run_demo())
    assert titles == TITLES[:6]
    assert "not refused" in error.message


def test_a_stranger_that_is_stopped_by_anything_else_is_noticed(monkeypatch) -> None:
    """A closed port refuses strangers too; that shows nothing."""
    refused = module._Demo.refused_stranger
    monkeypatch.setattr(
        module._Demo, "refused_stranger", lambda self, line: refused(self, line.replace(str(self.port), "1"))
    )
    _, error = steps_until_failure(run_demo())
    assert "peer.connection-refused" in error.message


def test_who_stops_looking_leaves_no_receiver_running() -> None:
    demo = run_demo()
    for _ in range(3):
        step = next(demo)
    port = int(step.output.rsplit(" ", 1)[1])
    result = cli.run("echoscu", "--no-tls", f"127.0.0.1:{port}")
    assert result.exit_code != 10  # it listens
    demo.close()  # type: ignore[attr-defined]
    assert cli.run("echoscu", "--no-tls", f"127.0.0.1:{port}").exit_code == 10
