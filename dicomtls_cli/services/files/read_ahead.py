"""Small files that were read as a whole when they were looked at: to open them again costs as much as to send them."""

from __future__ import annotations

from typing import Protocol

_MOST = 512  # files, of 8 KB at the most: more than are known ahead


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
        """Keep `data`, what was read of the beginning of `file`, if that is all of it."""
        if len(data) == file.size:
            if len(self._kept) == _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[file.file, file.size, file.modified] = data

    def take(self, file: _File) -> bytes | None:
        """Return all of `file` as it was when it was looked at, once; None where that was not kept."""
        return self._kept.pop((file.file, file.size, file.modified), None)
