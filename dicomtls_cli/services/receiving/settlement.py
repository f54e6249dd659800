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

from dicomtls_cli.services.files.head import FileMeta, HeadError, read_meta
from dicomtls_cli.services.receiving.disk import NoRoom, sync_folder
from dicomtls_cli.services.receiving.naming import Place
from dicomtls_cli.services.receiving.parts import Part
from dicomtls_cli.services.receiving.reception import (
    Duplicate,
    Identifiers,
    OnDuplicate,
    StorageOptions,
    Stored,
)

logger = logging.getLogger("dicomtls.association")

_MOST_TRIES = 1000  # to find a free name
_COMPARED = 1 << 20  # bytes of a file read at once
_META_LIMIT = 1 << 16  # bytes of file meta information that are looked through


class Whole(NamedTuple):
    """An instance that is complete and has no name yet: its data set begins at `offset` and has `length` bytes."""

    part: Part
    offset: int
    length: int
    identifiers: Identifiers
    study: str


class Settlement:
    """Gives parts their names below `directory`; safe for any number of threads and processes at once.

    `make_folders` makes a folder and returns those that were missing.
    """

    def __init__(
        self, directory: Path, options: StorageOptions, make_folders: Callable[[Path], list[Path]]
    ) -> None:
        # Paths are texts here: joining Paths costs as much as a system call.
        self._folder = functools.lru_cache(maxsize=256)(lambda folders: str(directory.joinpath(*folders)))
        self._options = options
        self._makes_new_files = options.naming.always_new or options.on_duplicate is OnDuplicate.SUFFIX
        self._make_folders = make_folders
        self._locks = [threading.Lock() for _ in range(64)]

    def settle(self, whole: Whole, place: Place, made: list[Path]) -> Stored:
        """Give `whole` its name, and tell what became of an instance that had it.

        Folders that are made for it are added to `made`. Raises NoRoom, Duplicate or OSError.
        """
        for target in itertools.islice(self._candidates(whole, place), _MOST_TRIES):
            with self._locks[hash(target) % len(self._locks)]:
                try:
                    stored = self._settle_at(target, whole, made)
                except FileNotFoundError:  # what was there was taken away meanwhile: the name is free now
                    stored = self._settle_at(target, whole, made)
            if stored is not None:
                return stored
        raise NoRoom(f"there is no name left for {self.path(place)}")

    def _settle_at(self, target: str, whole: Whole, made: list[Path]) -> Stored | None:
        """Give `whole` the name `target`; return None where another file has it."""
        if self._put(whole.part, target, made):
            if self._options.fsync:
                sync_folder(Path(target).parent)
            return Stored(target, whole.length, study=whole.study)
        if self._makes_new_files:
            return None
        there = _meta_of(target)
        # Whatever the layout: what is there gives way to the same instance only.
        if there is None or there.media_storage_sop_instance != whole.identifiers.sop_instance:
            return None
        return self._settle_duplicate(whole, target, there)

    def path(self, place: Place, addition: str = "") -> str:
        """Return the path of a file that goes to `place`."""
        return f"{self._folder(place.folders)}{os.sep}{place.name(addition)}"

    def _candidates(self, whole: Whole, place: Place) -> Iterator[str]:
        addition = self._options.naming.addition
        if self._makes_new_files:
            yield from (self.path(place, addition(number)) for number in itertools.count(1))
        yield self.path(place)
        uid = f"_{whole.identifiers.sop_instance}"
        yield from (self.path(place, uid + addition(number)) for number in itertools.count(1))

    def _settle_duplicate(self, whole: Whole, target: str, there: FileMeta) -> Stored:
        mode = self._options.on_duplicate
        if mode is OnDuplicate.REFUSE:
            raise Duplicate(f"{target} is there already")
        identical = _is_identical(whole, target, there)
        if mode is OnDuplicate.SKIP:
            if not identical:
                logger.warning("%s stays; another data set of the same instance was dropped", target)
            return Stored(target, whole.length, identical=identical, kept=True, study=whole.study)
        whole.part.replace(target)
        if self._options.fsync:
            sync_folder(Path(target).parent)
        return Stored(target, whole.length, replaced=True, identical=identical, study=whole.study)

    def _put(self, part: Part, target: str, made: list[Path]) -> bool:
        """Move the part to `target`; return False, and do nothing, where something is there."""
        for _ in range(3):  # a folder may be removed again before the part is in it
            try:
                return part.give_name(target)
            except FileNotFoundError:
                if not part.is_there():
                    raise
                made += self._make_folders(Path(target).parent)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _is_identical(whole: Whole, target: str, there: FileMeta) -> bool:
    """Tell whether the file `target` has the data set of `whole`; who sent it may differ."""
    if there.transfer_syntax != whole.identifiers.transfer_syntax:
        return False
    with whole.part.read() as ours, Path(target).open("rb") as theirs:
        ours.seek(whole.offset)
        theirs.seek(there.offset)
        while piece := ours.read(_COMPARED):
            if piece != theirs.read(len(piece)):
                return False
        return not theirs.read(1)


def _meta_of(path: str) -> FileMeta | None:
    """Return the file meta of what is there, None where it is no DICOM file. Raises OSError."""
    with Path(path).open("rb") as file:
        start = file.read(_META_LIMIT)
    try:
        found = read_meta(start)
    except HeadError:
        return None
    return found if isinstance(found, FileMeta) else None
