"""A list of paths, as `find` and `ls` write it: read as it comes, however long it gets."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LONGEST = 32 * 1024
"""How many bytes of a path are read; no system opens one as long, and what follows of it is dropped."""


def read_paths(stream: IO[bytes]) -> Iterator[Path]:
    """Yield the paths that `stream` lists, separated by NULs where it has any, else by line ends (LF or CRLF).

    A list with NULs has one within LONGEST bytes, so that many are read before the first path is yielded;
    empty lines are passed over. A path that is too long is yielded cut off: nothing can be found there.
    Raises OSError where the stream cannot be read.
    """
    pending = _first(stream)
    separator = b"\0" if b"\0" in pending else b"\n"
    is_dropping = False  # the rest of a path that was too long
    while pending:
        *whole, rest = pending.split(separator)
        for one in whole:
            if not is_dropping:
                yield from _path(one, separator)
            is_dropping = False
        if len(rest) > LONGEST and not is_dropping:
            yield from _path(rest, separator)
            is_dropping = True
        more = _read(stream)
        if not more:
            if not is_dropping:
                yield from _path(rest, separator)
            return
        pending = more if is_dropping else rest + more


def _first(stream: IO[bytes]) -> bytes:
    """Read until a NUL has come, or LONGEST bytes, or the end."""
    first = b""
    while len(first) < LONGEST and b"\0" not in first and (more := _read(stream)):
        first += more
    return first


def _read(stream: IO[bytes]) -> bytes:
    more = stream.read(LONGEST)
    if more is None:  # somebody made it non-blocking; taken for the end, it would lose paths
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return more


def _path(one: bytes, separator: bytes) -> Iterator[Path]:
    text = one.removesuffix(b"\r") if separator == b"\n" else one
    if text:
        yield Path(os.fsdecode(text[: LONGEST + 1]))
