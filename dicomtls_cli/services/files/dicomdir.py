"""The files that a DICOMDIR lists (PS3.3 Annex F, PS3.10 8): record by record, none outside of its folder.

Its records are read in the order they stand in, in use or not, and the offsets that link them are not followed:
wrong ones lose no file, and there is no going in circles. Nothing but a window on it is held in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.services.files import elements
from dicomtls_cli.services.files.elements import UNDEFINED, HeadError, ShortError
from dicomtls_cli.services.files.instance import Directory
from dicomtls_cli.services.files.skipped import Skipped, broken_directory, outside, unreadable
from dicomtls_cli.services.files.syntax import transfer_syntax as syntax_of
from dicomtls_cli.services.files.window import Window

MOST_RECORDS = 1 << 20
"""How many records are read at most."""
_LARGEST = 512 << 20  # bytes
_LONGEST_ID = 4096  # bytes
_MOST_REFUSED = 16
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_RECORDS, _IN_USE, _FILE_ID = 0x00041220, 0x00041410, 0x00041500


class Referenced(NamedTuple):
    """A file that a DICOMDIR lists; `real` is its path without links and relative parts."""

    path: Path
    real: str


def follow(directory: Directory) -> Iterator[Referenced | Skipped]:
    """Yield the files that `directory` lists, and what is wrong with it; whether they are there is not looked at."""
    folder = _Folder(directory.path.parent)
    refused = 0
    try:
        with directory.path.open("rb", buffering=0) as file:
            for file_id in file_ids(
                file.fileno(), directory.size, directory.offset, directory.transfer_syntax
            ):
                found = folder.file(file_id)
                if found is not None:
                    yield found
                    continue
                yield outside(directory.path, file_id)
                refused += 1
                if refused >= _MOST_REFUSED:
                    raise HeadError(f"it lists {refused} files outside of its folder, and maybe more")
    except HeadError as error:
        yield broken_directory(directory.path, str(error))
    except OSError as error:
        yield unreadable(directory.path, error)


def file_ids(file: int, size: int, offset: int, transfer_syntax: str) -> Iterator[str]:
    """Yield the Referenced File ID (0004,1500) of each record in use, as it stands there (latin-1).

    `file` is a descriptor, `size` the size of the file, `offset` where its data set begins, in bytes. Raises
    HeadError where the records cannot be read on, or are too many.
    """
    syntax = syntax_of(transfer_syntax)
    if size > _LARGEST or syntax.deflated:
        raise HeadError(f"it has {size} bytes" if size > _LARGEST else "it is deflated")
    window = Window(file, b"", size, elements.of_syntax(syntax), limit=2 * _LARGEST)
    try:
        at, end = _records(window, offset)
        for _ in range(MOST_RECORDS):
            if at == end:
                return
            tag, length = window.item_at(at)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise HeadError(f"{elements.name_of(tag)} stands at byte {at} where a record should begin")
            file_id, at = _record(window, at + 8, length)
            if file_id:
                yield file_id
    except ShortError:
        raise HeadError(f"it ends at byte {size}, in the middle of its records") from None
    raise HeadError(f"it has more than {MOST_RECORDS} records")


def _records(window: Window, at: int) -> tuple[int, int]:
    """Return where the Directory Record Sequence begins and ends, -1 where only a delimiter says so."""
    while True:
        element = window.element_at(at)
        if element.tag == _RECORDS:
            break
        if element.tag > _RECORDS:
            raise HeadError("it has no directory records")
        at = window.end_of(element, at)
    return element.value_at, -1 if element.length == UNDEFINED else element.value_at + element.length


def _record(window: Window, at: int, length: int) -> tuple[str, int]:
    """Return the file ID of the record at byte `at`, "" if it has none or is not in use, and where it ends."""
    end = -1 if length == UNDEFINED else at + length
    file_id, is_in_use = "", True
    while at != end:
        if window.item_at(at)[0] == _ITEM_END and end < 0:
            at += 8
            break
        element = window.element_at(at)
        if element.tag == _IN_USE:
            is_in_use = window.bytes_at(element.value_at, 2) != b"\0\0"
        elif element.tag == _FILE_ID:
            if element.length > _LONGEST_ID:
                raise HeadError(f"a file ID at byte {at} has {element.length} bytes")
            file_id = window.bytes_at(element.value_at, element.length).decode("latin-1").strip("\0 ")
        at = window.end_of(element, at)
        if end >= 0 and (element.tag > _FILE_ID or at > end):
            if at > end:
                raise HeadError(f"a record goes on past its end at byte {end}")
            at = end
    return file_id if is_in_use else "", at


class _Folder:
    """The folder of a DICOMDIR."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._real = os.path.realpath(path).rstrip(os.sep) + os.sep
        self._parent: str | None = None  # that of the last file: the next is mostly beside it
        self._real_parent = ""

    def file(self, file_id: str) -> Referenced | None:
        """Return the file of that ID in the folder; None where it would lie elsewhere."""
        parts = [os.fsdecode(part.strip(" ").encode("latin-1")) for part in re.split(r"[\\/]", file_id)]
        if any(part in ("", ".", "..") or "\0" in part or os.path.splitdrive(part)[0] for part in parts):
            return None
        path = self._path.joinpath(*parts)
        if not os.path.lexists(path):
            # Linux shows the names of a CD without Rock Ridge in small letters.
            small = self._path.joinpath(*map(str.lower, parts))
            path = small if os.path.lexists(small) else path
        real = self._realpath(str(path))
        return Referenced(path, real) if real.startswith(self._real) else None

    def _realpath(self, path: str) -> str:
        parent, name = os.path.split(path)
        if parent != self._parent:
            self._parent, self._real_parent = parent, os.path.realpath(parent)
        is_link = os.path.islink(path)  # noqa: PTH114
        return os.path.realpath(path) if is_link else os.path.join(self._real_parent, name)  # noqa: PTH118
