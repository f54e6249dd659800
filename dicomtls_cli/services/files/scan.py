"""Which files are sent: those that are named, those in folders, and those that a DICOMDIR lists."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from dicomtls_cli.errors import InputError
from dicomtls_cli.services.files.dicomdir import follow
from dicomtls_cli.services.files.instance import (
    Directory,
    Instance,
    Readers,
    look_at,
    passed_over,
    read_instance,
    readers,
)
from dicomtls_cli.services.files.pattern import matcher
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.skipped import Skipped, hidden, not_dicom, shown, unreadable

__all__ = ["Instance", "Skipped", "read_instance", "scan"]

logger = logging.getLogger("dicomtls.scan")


def scan(
    paths: Iterable[Path],
    *,
    recurse: bool = True,
    patterns: Collection[str] = (),
    strict: bool = False,
    read_ahead: ReadAhead | None = None,
) -> Iterator[Instance | Skipped]:
    """Yield what is found at `paths`, folders in the order of their names.

    `recurse` descends into folders in folders; with `patterns`, those of a shell (POSIX fnmatch), only files
    whose name matches one of them are looked at there. Hidden files and folders in folders are passed over,
    but for files that match a pattern which begins with a dot; `strict` makes a failure of these and of other
    files that are no DICOM. A DICOMDIR leads to the files it lists. What a folder holds and a DICOMDIR lists
    is yielded once; what is named, as often as it is named. Small files stay in `read_ahead`, for `send`.
    """
    search = _Search(recurse, patterns, strict, readers(read_ahead or ReadAhead()))
    for path in paths:
        for found in search.at(path):
            if isinstance(found, Skipped) and not found.expected:
                logger.debug("passed over: %s", found.error.message)
            yield found


class _Search:
    """One scan, and what it has to remember so that nothing is found twice."""

    def __init__(self, recurse: bool, patterns: Collection[str], strict: bool, readers: Readers) -> None:
        self.recurse = recurse
        self.strict = strict
        self.patterns = patterns
        self.is_wanted = matcher(patterns)
        self.is_wanted_hidden = matcher([pattern for pattern in patterns if pattern.startswith(".")])
        self.readers = readers
        self.folders: set[str] = set()  # those that were named, as they are really called
        self.listed: set[str] = set()  # files outside of them that a DICOMDIR led to

    def at(self, path: Path) -> Iterator[Instance | Skipped]:
        """Yield what is found at a path that somebody named."""
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder on the way is shut
            self.folders.add(os.path.realpath(path))
            yield from self._in_folder(str(path))
        else:
            yield from self._followed(look_at(str(path), named=True))

    def _in_folder(self, folder: str) -> Iterator[Instance | Skipped]:
        pending = [self._entries(folder)]  # no recursion: folders can be deeper than the stack
        while pending:
            for found in pending[-1]:
                if isinstance(found, str):
                    pending.append(self._entries(found))
                    break
                yield found
            else:
                pending.pop()

    def _entries(self, folder: str) -> Iterator[Instance | Skipped | str]:
        """Yield what is found in `folder`, in the order of the names; a string is a folder to descend into."""
        try:
            with os.scandir(folder) as entries:
                # Of most entries the name is all that is kept: there may be a hundred thousand.
                kinds = {entry.name: _kind(entry) for entry in entries}
        except OSError as error:
            yield unreadable(Path(folder), error)
            return
        for name in sorted(kinds):
            # As `Path` would join them, at a fraction of its cost.
            kind, path = kinds[name], name if folder == os.curdir else os.path.join(folder, name)  # noqa: PTH118
            if kind == "folder":
                if name.startswith("."):
                    yield hidden(Path(path), expected=self.strict)
                elif self.recurse:
                    yield path
            elif self.patterns and not self._matches(name):
                continue
            elif name.startswith(".") and not self.patterns:
                yield hidden(Path(path), expected=self.strict)
            elif kind == "file":
                if not self.listed or os.path.realpath(path) not in self.listed:
                    yield from self._followed(look_at(path, named=self.strict, readers=self.readers))
            else:
                yield from self._special(path)

    def _special(self, path: str) -> Iterator[Instance | Skipped]:
        """Yield what is behind a link, or why this is no file: a device is not opened to find out."""
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except FileNotFoundError:
            yield self._no_file(path, "it is a link that leads nowhere")
        except OSError as error:
            yield unreadable(Path(path), error)
        else:
            if stat.S_ISDIR(mode):
                # It may lead back up: only real folders are descended into.
                yield self._no_file(path, "it is a link to a folder")
            elif not stat.S_ISREG(mode):
                yield self._no_file(path, "it is no regular file")
            elif not self.listed or os.path.realpath(path) not in self.listed:
                yield from self._followed(look_at(path, named=self.strict, readers=self.readers))

    def _no_file(self, path: str, why: str) -> Skipped:
        return not_dicom(Path(path), why, expected=self.strict)

    # ------------------------------------------------------------------ DICOMDIR

    def _followed(self, found: Instance | Skipped | Directory) -> Iterator[Instance | Skipped]:
        """Yield what was found; of a DICOMDIR also the files it lists that are not found anyway."""
        if not isinstance(found, Directory):
            yield found
            return
        yield passed_over(found)
        for file in follow(found):
            if isinstance(file, Skipped):
                yield file
            elif file.real not in self.listed and not self._is_found_anyway(file.real):
                self.listed.add(file.real)
                yield _listed_file(file.path, found.path)

    def _is_found_anyway(self, real: str) -> bool:
        """Tell whether the file of that real path is in a folder that is, or was, looked through."""
        folder, name = os.path.split(real)
        if not self._matches(name):
            return False
        while folder not in self.folders:
            folder, name = os.path.split(folder)
            if not self.recurse or not name or name.startswith("."):
                return False
        return os.path.isfile(real)  # noqa: PTH113

    def _matches(self, name: str) -> bool:
        """Tell whether a file of that name in a folder is to be looked at."""
        if name.startswith("."):
            return self.is_wanted_hidden(name) is not None
        return not self.patterns or self.is_wanted(name) is not None


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_file(follow_symlinks=False):
            return "file"
        return "folder" if entry.is_dir(follow_symlinks=False) else "special"
    except OSError:  # a file system that does not tell: reading it says what is wrong
        return "file"


def _listed_file(path: Path, directory: Path) -> Instance | Skipped:
    """Return what the file is that the DICOMDIR `directory` lists."""
    found = look_at(str(path), named=True)
    if isinstance(found, Directory):
        return not_dicom(path, f"it is a DICOMDIR that `{shown(directory)}` lists", expected=True)
    if isinstance(found, Skipped) and found.error.slug == "input.unreadable":
        error = InputError(
            f"{found.error.message}; `{shown(directory)}` lists it",
            "copy the whole medium: files that its DICOMDIR lists are not there",
            slug=found.error.slug,
        )
        return found._replace(error=error)
    return found
