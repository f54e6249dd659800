"""What storescu does besides one association with one receiver: several at once, Orthanc, looking at files."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from dicomtls_cli.services.files.scan import Instance, scan
from tests.benchmarks import tools
from tests.benchmarks.loads import Load
from tests.benchmarks.tools import OURS, QUIET, Keys, Receiver, environment, timed
from tests.support.peers import orthanc, orthanc_tls

JOBS = 4
SCANNED = 20_000

Measurement = tuple[str, str, Callable[[], float]]


def jobs_measurements(keys: Keys, load: Load, receivers: list[Receiver]) -> list[Measurement]:
    """Several associations at once: ours in one process, and several processes of each tool."""
    found: list[Measurement] = []
    quarters = _quarters(load)
    whole = [*OURS, "storescu", "-q", *keys.options("scu"), "localhost"]
    theirs = ["/usr/bin/storescu", "+sd", "+r", *keys.options("scu"), "localhost"]
    tuned = {**os.environ, "TCP_NODELAY": "1"}
    for receiver in receivers:
        port = str(receiver.port)
        found += [
            (f"ours --jobs {JOBS}", receiver.name,
             _side_by_side([[*whole, port, str(load.folder), "--jobs", str(JOBS)]], environment())),
            (f"ours, {JOBS} processes", receiver.name,
             _side_by_side([[*whole, port, str(folder)] for folder in quarters], environment())),
            (f"DCMTK tuned, {JOBS} processes", receiver.name,
             _side_by_side([[*theirs, port, str(folder)] for folder in quarters], tuned)),
        ]  # fmt: skip
    return found


def _quarters(load: Load) -> list[Path]:
    """Deal the files of `load` out to as many folders as there are processes."""
    folders = [load.folder.with_name(f"{load.name}-{number}-of-{JOBS}") for number in range(JOBS)]
    for folder in folders:
        folder.mkdir()
    for number, path in enumerate(sorted(load.folder.iterdir())):
        os.link(path, folders[number % JOBS] / path.name)
    return folders


def _side_by_side(commands: list[list[str]], env: dict[str, str]) -> Callable[[], float]:
    def run() -> None:
        processes = [subprocess.Popen(words, env=env, **QUIET) for words in commands]
        codes = [process.wait() for process in processes]
        assert not any(codes), codes

    return lambda: timed(run)


@contextlib.contextmanager
def orthancs(keys: Keys, folder: Path) -> Iterator[list[Receiver]]:
    """Run an Orthanc with Nagle off and one as it is; they store what they get."""
    options = orthanc_tls(keys.folder / "scp.crt", keys.folder / "scp.key", keys.folder / "trusted.crt")
    with contextlib.ExitStack() as stack:
        found = []
        for name, nodelay in (("Orthanc tuned", "1"), ("Orthanc untuned", None)):
            before = os.environ.pop("TCP_NODELAY", None)
            if nodelay:
                os.environ["TCP_NODELAY"] = nodelay  # DCMTK in it reads that
            try:
                peer = stack.enter_context(orthanc(folder / name.replace(" ", "-"), **options))
            finally:
                os.environ.pop("TCP_NODELAY", None)
                if before is not None:
                    os.environ["TCP_NODELAY"] = before
            found.append(Receiver(name, peer.dicom_port, None))
        yield found


def orthanc_measurements(keys: Keys, load: Load, receivers: list[Receiver]) -> list[Measurement]:
    """The part of `load` to each Orthanc, by both tools. DCMTK's own sender is tuned as its receiver is."""
    part = [str(load.part)]
    found: list[Measurement] = []
    for receiver in receivers:
        is_tuned = receiver.name.endswith(" tuned")
        found += [
            ("ours", receiver.name,
             lambda port=receiver.port: timed(lambda: tools.our_command(keys, port, part))),
            (f"DCMTK {'tuned' if is_tuned else 'untuned'}", receiver.name,
             lambda port=receiver.port, tuned=is_tuned: timed(
                 lambda: tools.dcmtk_send(keys, port, part, tuned=tuned))),
        ]  # fmt: skip
    return found


def scan_measurements(folder: Path) -> list[Measurement]:
    """Looking at the heads of many small files, without a connection; the library alone."""

    def look() -> None:
        count = sum(isinstance(found, Instance) for found in scan([folder]))
        assert count == SCANNED, count

    return [(f"scan of {SCANNED:,} files", "-", lambda: timed(look))]
