"""`dicomtls storescu` against an SCP that answers as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from dicomtls_cli.dimse.command import decode, encode, response
from tests.support import cli
from tests.support.objects import write
from tests.support.scripted import LIMIT, USER, Scripted, abort, listening, p_data, pdv

Script = Callable[[Scripted], None]


def scp(*statuses: int | None, comment: str = "") -> Script:
    """Return an SCP that takes everything and answers with `statuses`; None: it aborts and leaves."""

    def script(peer: Scripted) -> None:
        peer.accept()
        for status in statuses:
            if status is None:
                peer.expect_message()
                peer.send(abort(USER, 0))
                return
            answer(peer, status, comment)
        peer.release()

    return script


def answer(peer: Scripted, status: int, comment: str = "", *, gate: threading.Event | None = None) -> None:
    """Take an instance and answer with `status`, once the `gate` is open."""
    context_id, command, _ = peer.expect_message()
    assert gate is None or gate.wait(LIMIT)
    answered = encode(response(decode(command), status, comment))
    peer.send(p_data(pdv(context_id, answered, command=True)))


def made(folder: Path, count: int) -> Path:
    for number in range(1, count + 1):
        write(folder / f"{number}.dcm", sop_instance=f"1.2.{number}")
    return folder


def run(*words: object, scripts: tuple[Script, ...]) -> cli.Result:
    with listening(*scripts) as port:
        return cli.run("storescu", "--no-tls", f"127.0.0.1:{port}", *words)


def summary(result: cli.Result) -> str:
    return result.stdout.splitlines()[-1].partition(": ")[2]
