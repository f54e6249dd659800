"""One call after the other, where each makes a file anew from what it reads in it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicomtls_cli.errors import OutputError


@contextlib.contextmanager
def locked(folder: Path, seconds: float = 30.0) -> Iterator[None]:
    """Keep other calls away that read a file of `folder` and write it anew: the index of a CA, a bundle.

    Raises OutputError if another keeps the folder for longer than `seconds`.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield  # whoever writes there says what is wrong
        return
    try:
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):  # a file system without locks
            while not _try_lock(fcntl, descriptor):
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"another call has been working on the files in `{folder}` for {seconds:g} s",
                        "wait for it, or end it: `ps` shows it",
                        slug="output.busy",
                    )
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _try_lock(fcntl: Any, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
