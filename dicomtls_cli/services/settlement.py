"""The name a received file gets, and what becomes of an instance that is there already.

No file is ever replaced by another instance, whatever the layout.
"""

from __future__ import annotations

import errno
import functools
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.services.disk import NoRoom, give_name, sync_folder
from dicomtls_cli.services.head import FileMeta, HeadError, read_meta
from dicomtls_cli.services.naming import Place
from dicomtls_cli.services.reception import Duplicate, Identifiers, OnDuplicate, StorageOptions, Stored

logger = logging.getLogger("dicomtls.association")

_MOST_TRIES = 1000  # to find a free name
_COMPARED = 1 << 20  # bytes of a file read at once
_META_LIMIT = 1 << 16  # bytes of file meta information that are looked through


class Part(NamedTuple):
    """A file that is complete and has no name yet: its data set begins at `offset` and has `length` bytes."""

    path: str
    offset: int
    length: int
    identifiers: Identifiers


class Settlement:
    """Gives parts their names below `directory`; safe for any number of threads and processes at once.

    `make_folders` makes a folder and returns those that were missing.
    """

    def __init__(
        self, directory: Path, options: StorageOptions, make_folders: Callable[[Path], list[Path]]
    ) -> None:
        # Joining paths costs as much as a system call, and most instances share their folder with the one before.
        self._folder = functools.lru_cache(maxsize=256)(lambda folders: directory.joinpath(*folders))
        self._options = options
        self._make_folders = make_folders
        self._locks = [threading.Lock() for _ in range(64)]

    def settle(self, part: Part, place: Place, made: list[Path]) -> Stored:
        """Give `part` its name, and tell what became of an instance that had it.

        Folders that are made for it are added to `made`. Raises NoRoom, Duplicate or OSError.
        """
        is_new_file = self._options.naming.always_new or self._options.on_duplicate is OnDuplicate.SUFFIX
        for target in itertools.islice(self._candidates(part, place, is_new_file), _MOST_TRIES):
            with self._locks[hash(target.name) % len(self._locks)]:
                try:
                    stored = self._settle_at(target, part, made, is_new_file)
                except FileNotFoundError:  # what was there was taken away meanwhile: the name is free now
                    stored = self._settle_at(target, part, made, is_new_file)
            if stored is not None:
                return stored
        raise NoRoom(f"there is no name left for {self.path(place)}")

    def _settle_at(self, target: Path, part: Part, made: list[Path], is_new_file: bool) -> Stored | None:
        """Give `part` the name `target`; return None where another file has it."""
        if self._put(part.path, target, made):
            self._sync(target)
            return Stored(target, part.length)
        if is_new_file:
            return None
        there = _meta_of(target)
        # Whatever the layout: what is there gives way to the same instance only.
        if there is None or there.media_storage_sop_instance != part.identifiers.sop_instance:
            return None
        return self._settle_duplicate(part, target, there)

    def path(self, place: Place, addition: str = "") -> Path:
        """Return the path of a file that goes to `place`."""
        return self._folder(place.folders) / place.name(addition)

    def _candidates(self, part: Part, place: Place, is_new_file: bool) -> Iterator[Path]:
        addition = self._options.naming.addition
        if is_new_file:
            yield from (self.path(place, addition(number)) for number in itertools.count(1))
        yield self.path(place)
        uid = f"_{part.identifiers.sop_instance}"
        yield from (self.path(place, uid + addition(number)) for number in itertools.count(1))

    def _settle_duplicate(self, part: Part, target: Path, there: FileMeta) -> Stored:
        mode = self._options.on_duplicate
        if mode is OnDuplicate.REFUSE:
            raise Duplicate(f"{target} is there already")
        identical = _is_identical(part, target, there)
        if mode is OnDuplicate.SKIP:
            if not identical:
                logger.warning("%s stays; another data set of the same instance was dropped", target)
            return Stored(target, part.length, identical=identical, kept=True)
        Path(part.path).replace(target)
        self._sync(target)
        return Stored(target, part.length, replaced=True, identical=identical)

    def _put(self, part: str, target: Path, made: list[Path]) -> bool:
        """Move the part to `target`; return False, and do nothing, where something is there."""
        for _ in range(3):  # a folder may be removed again before the part is in it
            try:
                return give_name(part, target)
            except FileNotFoundError:
                if not Path(part).exists():
                    raise
                made += self._make_folders(target.parent)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _sync(self, target: Path) -> None:
        if self._options.fsync:
            sync_folder(target.parent)


def _is_identical(part: Part, target: Path, there: FileMeta) -> bool:
    """Tell whether the file `target` has the data set of `part`; who sent it may differ."""
    if there.transfer_syntax != part.identifiers.transfer_syntax:
        return False
    with Path(part.path).open("rb") as ours, target.open("rb") as theirs:
        ours.seek(part.offset)
        theirs.seek(there.offset)
        while piece := ours.read(_COMPARED):
            if piece != theirs.read(len(piece)):
                return False
        return not theirs.read(1)


def _meta_of(path: Path) -> FileMeta | None:
    """Return the file meta of what is there, None where it is no DICOM file. Raises OSError."""
    with path.open("rb") as file:
        start = file.read(_META_LIMIT)
    try:
        found = read_meta(start)
    except HeadError:
        return None
    return found if isinstance(found, FileMeta) else None
