"""A receiver that is killed in the middle: what `--retry` and `--resume` make of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support import cli, images, peers
from tests.support.objects import data_set, write
from tests.support.output import Output

pytestmark = pytest.mark.interop

COUNT = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        uid = f"1.2.3.{number}"
        write(tmp_path / "in" / f"{number:03d}.dcm", data_set(uid, pixels=bytes([number]) * 300_000), uid)
    return tmp_path / "in"


@contextlib.contextmanager
def receiver(output: Path, port: int, pki: Pki) -> Iterator[tuple[subprocess.Popen[str], Output]]:
    words = ["storescp", "--json", "--port", str(port), "--output", str(output), *map(str, pki.scp_options)]
    process = subprocess.Popen(
        [sys.executable, "-m", "dicomtls_cli", *words], env=cli.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
    )  # fmt: skip
    assert process.stdout is not None
    log = Output(process.stdout)
    try:
        log.wait_for("listening on")
        yield process, log
    finally:
        process.kill()
        process.wait()
        log.close()


def sender(port: int, pki: Pki, *words: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "dicomtls_cli", "storescu", "-q", f"localhost:{port}"]
    return subprocess.Popen(
        [*line, *map(str, pki.scu_options), *map(str, words)], env=cli.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=peers.LIMIT)
    return process.returncode, errors


def has_stored(log: Output, count: int) -> None:
    log.wait_for(lambda line: log.text.count('"event": "received"') >= count)


def holds_everything_once(output: Path, folder: Path) -> None:
    files = [path for path in output.rglob("*.dcm") if ".incoming" not in path.parts]
    assert len(files) == COUNT
    theirs = {images.sop_instance(path): images.data_set(path) for path in files}
    assert theirs == {images.sop_instance(path): images.data_set(path) for path in folder.iterdir()}


@pytest.mark.parametrize("window", [1, 4])
def test_retry_goes_on_once_the_receiver_is_back(window: int, folder: Path, tmp_path: Path, pki: Pki) -> None:
    with peers.free_ports(1) as (port,):
        pass
    with receiver(tmp_path / "out", port, pki) as (first, log):
        process = sender(port, pki, "--retry", 20, "--async-window", window, folder)
        has_stored(log, 10)
        first.kill()
    with receiver(tmp_path / "out", port, pki):
        code, errors = ended(process)
    assert code == 0, errors
    holds_everything_once(tmp_path / "out", folder)


def test_resume_sends_what_the_report_does_not_say_is_stored(folder: Path, tmp_path: Path, pki: Pki) -> None:
    report = tmp_path / "report.jsonl"
    with peers.free_ports(1) as (port,):
        pass
    with receiver(tmp_path / "out", port, pki) as (first, log):
        process = sender(port, pki, "--report", report, folder)
        has_stored(log, 10)
        first.kill()
        code, errors = ended(process)
    assert code == 31, errors
    with receiver(tmp_path / "out", port, pki) as (_, log):
        process = sender(port, pki, "--report", report, "--resume", report, folder)
        assert ended(process)[0] == 0
        again = log.text.count('"event": "received"')
    assert (
        0 < again <= COUNT - 9
    )  # what was acknowledged was not sent again; the one in flight may be there twice
    holds_everything_once(tmp_path / "out", folder)
