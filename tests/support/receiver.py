"""A running `dicomtls storescp`, with what it prints to wait for."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import cli
from tests.support.output import Output
from tests.support.scripted import LIMIT


@dataclass
class Scp:
    """A running `dicomtls storescp`, on loopback."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    out: Output
    err: Output

    @property
    def port(self) -> int:
        return int(self.ready["port"])

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def ends_with(self) -> int:
        return self.process.wait(LIMIT)

    def event(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.wait_for(f'"event": "{kind}"'))
        return found


# What a service manager does: the sockets become descriptors 3, 4, ..., and the variables say whose they are.
_HAND_OVER = """
import fcntl, os, sys
given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1].split(",")]
for number, descriptor in enumerate(given, 3):
    os.dup2(descriptor, number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given))}
os.execv(sys.argv[2], sys.argv[2:])
"""


# Not by `preexec_fn`: between fork and exec it would run Python where other threads held locks, and hang at times.
_LIMITED = """
import json, os, resource, sys
for number, limits in json.loads(sys.argv[1]).items():
    resource.setrlimit(int(number), tuple(limits))
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a compiled module cut off by the limit would be everybody's
os.execv(sys.argv[2], sys.argv[2:])
"""


def limited(limits: Mapping[int, tuple[int, int]]) -> list[str]:
    """Return the words before a command that give it these resource limits (soft, hard)."""
    return [sys.executable, "-c", _LIMITED, json.dumps(limits)] if limits else []


def command(*words: object, sockets: Sequence[socket.socket] = ()) -> list[str]:
    """Return the words that start `dicomtls storescp`; it is handed `sockets`, which have to be passed on."""
    handed = ",".join(str(sock.fileno()) for sock in sockets)
    first = [sys.executable, "-c", _HAND_OVER, handed] if sockets else []
    return [*first, sys.executable, "-m", "dicomtls_cli", "storescp", *map(str, words)]


@contextlib.contextmanager
def storescp(
    *words: object,
    place: tuple[str, ...] = ("--port", "0"),
    limits: Mapping[int, tuple[int, int]] | None = None,
    sockets: Sequence[socket.socket] = (),
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Scp]:
    """Run it in the current folder; unless told otherwise it is plain and stores into `output`."""
    ready = Path("ready.json")
    ready.unlink(missing_ok=True)
    where: list[str] = [] if "--ignore" in words or "--output" in words else ["--output", "output"]
    if "--cert" not in words:
        where.append("--no-tls")
    if not sockets:
        where += place
    process = subprocess.Popen(
        [*limited(limits or {}), *command("--ready-file", ready, *where, *words, sockets=sockets)],
        env=cli.environment() | dict(env or {}),
        pass_fds=[*(sock.fileno() for sock in sockets), *pass_fds],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = Output(process.stdout), Output(process.stderr)
    try:
        err.wait_for("listening on ")
        yield Scp(process, json.loads(ready.read_text()), out, err)
    finally:
        process.kill()
        process.wait()
        out.close()
        err.close()


def until_nobody_listens(port: int) -> None:
    never = threading.Event()
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionError:
            return
        never.wait(0.01)
    raise AssertionError("it still listens")
