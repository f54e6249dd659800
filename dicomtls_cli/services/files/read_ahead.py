"""Files between the look at them and their sending.

Small ones were read as a whole by then, and to open them again costs as much as to send them.
"""

from __future__ import annotations

import os
from io import BytesIO, FileIO
from typing import Protocol

from dicomtls_cli.errors import InputError

_MOST = 512  # files: more than are known ahead
_LARGEST = 8 * 1024  # bytes of a file: of one with an odd head more is read, up to a megabyte


class _File(Protocol):
    """What tells one state of one file from all others; an `Instance` does."""

    @property
    def file(self) -> str:
        """Return its path."""

    @property
    def size(self) -> int:
        """Return its length in bytes."""

    @property
    def modified(self) -> int:
        """Return when it was last written, in nanoseconds since 1970."""


class ReadAhead:
    """Keeps what was read of the files that were looked at last, for whoever sends them next; the oldest give way."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, int], bytes] = {}

    def keep(self, file: _File, data: bytes) -> None:
        """Keep `data`, what was read of the beginning of `file`, if that is all of it and not much."""
        if len(data) == file.size <= _LARGEST:
            if len(self._kept) == _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[file.file, file.size, file.modified] = data

    def open(self, file: _File) -> FileIO | BytesIO:
        """Do as `reopen`, without opening what is kept: once, it is let go of then."""
        whole = self._kept.pop((file.file, file.size, file.modified), None)
        if whole is None:
            return reopen(file)
        _refuse_change(file, os.stat(file.file))  # noqa: PTH116 - a Path costs as much as opening it
        return BytesIO(whole)


def reopen(file: _File) -> FileIO:
    """Open `file` again. Raises InputError where it changed after it was looked at, OSError where it is gone."""
    opened = FileIO(file.file)  # a third of the cost of Path.open
    try:
        _refuse_change(file, os.fstat(opened.fileno()))
    except BaseException:
        opened.close()
        raise
    return opened


def _refuse_change(file: _File, about: os.stat_result) -> None:
    if about.st_size != file.size or about.st_mtime_ns != file.modified:
        raise InputError(
            f"`{file.file}` changed after it was looked at",
            "send it again once nothing writes to it",
            slug="input.file-changed",
        )
