"""The PATHs of a command line, and those of a list on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from dicomtls_cli.errors import InputError, UsageError
from dicomtls_cli.services.files.pathlist import read_paths


def _path_list() -> IO[bytes]:
    """Return standard input, unbuffered, as a list of paths; a person at a terminal is not waited for."""
    try:
        if not sys.stdin.isatty():
            return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
        why = "a terminal"
    except (AttributeError, ValueError):  # None or closed
        why = "closed"
    raise UsageError(
        f"`-` reads a list of paths on standard input, and that is {why}",
        "pipe one in: `find FOLDER -name '*.dcm' -print0 | dicomtls storescu PEER -`",
        slug="usage.no-list",
    )


def named_paths(paths: Sequence[str]) -> Iterator[Path]:
    """Return the paths of the line, those of the list on standard input where `-` stands.

    Raises UsageError `usage.no-list` where nothing is piped in.
    """
    return _named(paths, _path_list() if "-" in paths else None)


def _named(paths: Sequence[str], path_list: IO[bytes] | None) -> Iterator[Path]:
    for path in paths:
        if path != "-" or path_list is None:
            yield Path(path)
            continue
        try:
            yield from read_paths(path_list)
        except OSError as error:
            raise InputError(
                f"cannot read the list of paths on standard input: {error.strerror}",
                "pipe one in, or name the files",
                slug="input.unreadable",
            ) from error
