"""32 associations at once, from DCMTK, Orthanc, pynetdicom and ourselves, and what has to come of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import Pki
from tests.support import cli, peers
from tests.support.images import data_set as data_set_of
from tests.support.objects import element, write
from tests.support.receiver import Scp, storescp
from tests.support.scripted import CT, LIMIT

KINDS = ("dcmtk", "orthanc", "pynetdicom", "ours")
EACH = 8  # senders of a kind
MOST_GROWTH = 30_000_000  # bytes a receiver may have more after the last round than after the first

# A process for each association, forked once all is imported. Its reactor may take an answer off the queue before
# who waits for it does (its own comment on `_run_reactor` tells of the race), so it is made to put that back.
_PYNETDICOM = """
import multiprocessing, ssl, sys
from pathlib import Path
from pynetdicom import AE
port, cert, key, trust, *folders = sys.argv[1:]
def send(folder):
    tls = ssl.create_default_context(cafile=trust)
    tls.load_cert_chain(cert, key)
    ae = AE("PYNETDICOM")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = ae.associate("localhost", int(port), tls_args=(tls, "localhost"))
    assert association.is_established
    association._serve_request = lambda message, context: association.dimse.msg_queue.put((context, message))
    for path in Path(folder).iterdir():
        assert association.send_c_store(path).Status == 0
    association.release()
fork = multiprocessing.get_context("fork")
processes = [fork.Process(target=send, args=(folder,)) for folder in folders]
for process in processes: process.start()
for process in processes: process.join()
sys.exit(max(process.exitcode for process in processes))
"""


class Flood:
    """A receiver, and 32 senders with `count` instances each, which send all of them in every round."""

    def __init__(self, scp: Scp, orthanc: peers.Orthanc, pki: Pki, folder: Path, count: int) -> None:
        self._scp = scp
        self._orthanc = orthanc
        self._pki = pki
        self._output = Path("output").absolute()
        self._folders = {kind: [folder / f"{kind}{n}" for n in range(EACH)] for kind in KINDS}
        self._sent: dict[str, bytes] = {}
        for place, one in enumerate(one for ones in self._folders.values() for one in ones):
            for number in range(count):
                uid = f"1.2.{place}.{number}"
                self._sent[uid] = _instance(uid, place, size=(number * 7919) % 60_000)
                write(one / f"{number}.dcm", self._sent[uid], uid)
        self._uploaded = [
            [orthanc.upload(path) for path in one.iterdir()] for one in self._folders["orthanc"]
        ]
        orthanc.knows("ours", scp.port)

    def round(self) -> None:
        """Let all senders come at once; see that each instance is there, equal, and once."""
        seen = len(self._scp.out)
        with ThreadPoolExecutor(EACH) as pool, _held(self._scp.process.pid):
            programs = [subprocess.Popen(words, **_QUIET) for words in self._commands()]  # type: ignore[call-overload]
            answers = [pool.submit(self._let_orthanc_send, ids) for ids in self._uploaded]
            self._await_connections(len(KINDS) * EACH)
        ended = [(program.communicate(timeout=4 * LIMIT)[0], program.returncode) for program in programs]
        assert not [end for end in ended if end[1]], ended
        assert [answer.result() for answer in answers] == [200] * EACH
        self._check(seen)
        for path in self._output.iterdir():
            if not path.name.startswith("."):
                shutil.rmtree(path)

    def _commands(self) -> Iterator[list[str]]:
        pki, port = self._pki, str(self._scp.port)
        own = peers.dcmtk_tls(pki.scu.cert, pki.scu.key, pki.trusted)
        for folder in self._folders["dcmtk"]:
            yield [str(peers.DCMTK / "storescu"), "+sd", *own, "localhost", port, str(folder)]
        for folder in self._folders["ours"]:
            ours = [sys.executable, "-m", "dicomtls_cli", "storescu", "-q", *pki.scu_options]
            yield [*ours, f"localhost:{port}", str(folder)]
        files = [pki.scu.cert, pki.scu.key, pki.trusted, *self._folders["pynetdicom"]]
        yield [sys.executable, "-c", _PYNETDICOM, port, *map(str, files)]

    def _let_orthanc_send(self, ids: list[str]) -> int:
        return self._orthanc.send("POST", "/modalities/ours/store", ids)[0]

    def _await_connections(self, count: int) -> None:
        """Wait until so many stand in the queue of the receiver, which is held."""
        never = threading.Event()
        for _ in range(3000):
            if _established(self._scp.port) >= count:
                return
            never.wait(0.01)
        raise AssertionError(f"{_established(self._scp.port)} of {count} senders came")

    def _check(self, seen: int) -> None:
        closed = itertools.count(1)
        self._scp.out.wait_for(
            lambda line: '"event": "closed"' in line and next(closed) == len(KINDS) * EACH, seen
        )
        lines = self._scp.out.lines(seen)
        assert not [line for line in lines if '"event": "closed"' in line and '"error": null' not in line]
        stored = {path.stem: path for path in self._output.rglob("*.dcm")}
        assert not self._sent.keys() ^ stored.keys(), self._sent.keys() ^ stored.keys()
        for uid, path in stored.items():
            assert data_set_of(path) == self._sent[uid], path
        # None twice: no file replaced another, none has a name beside its own, nothing is left over.
        events = Counter(line.partition('"event": "')[2].partition('"')[0] for line in lines)
        assert events["received"] == len(self._sent), events
        assert not [line for line in lines if '"replaced": true' in line]
        assert len([path for path in self._output.rglob("*") if path.is_file()]) == len(self._sent)


_QUIET = {
    "env": cli.environment() | {"TCP_NODELAY": "1"},
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
}


@contextlib.contextmanager
def flood(pki: Pki, folder: Path, count: int) -> Iterator[tuple[Flood, Scp]]:
    """Run our storescp and Orthanc, and yield what floods the one, partly through the other."""
    peers.need(peers.DCMTK / "storescu")
    options = peers.orthanc_tls(pki.scu.cert, pki.scu.key, pki.trusted)
    with (
        storescp("--json", *pki.scp_options) as scp,
        peers.orthanc(folder / "orthanc", ConcurrentJobs=EACH, **options) as orthanc,
    ):
        yield Flood(scp, orthanc, pki, folder, count), scp


def memory(scp: Scp, name: str = "VmRSS") -> int:
    """Return how much memory the receiver has, or had at the most (`VmHWM`), in bytes."""
    text = Path(f"/proc/{scp.process.pid}/status").read_text()
    return int(text.partition(f"\n{name}:")[2].split()[0]) * 1024


@contextlib.contextmanager
def _held(pid: int) -> Iterator[None]:
    """Stop a process: who connects meanwhile stands in its queue, and all begin at once when it goes on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _established(port: int) -> int:
    wanted, count = f":{port:04X}", 0
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            count += fields[1].endswith(wanted) and fields[3] == "01"  # TCP_ESTABLISHED
    return count


def _instance(uid: str, place: int, size: int) -> bytes:
    values = {
        0x00080016: (b"UI", CT.encode()),
        0x00080018: (b"UI", uid.encode()),
        0x00100010: (b"PN", b"Test^Flood"),
        0x00100020: (b"LO", b"FLOOD"),
        0x0020000D: (b"UI", f"1.9.{place}".encode()),
        0x0020000E: (b"UI", f"1.9.{place}.1".encode()),
        0x7FE00010: (b"OB", uid.encode() * (size // len(uid))),
    }
    return b"".join(element(tag, vr, value) for tag, (vr, value) in values.items())
