"""Files of instances that still come in: without a name where the file system has such files, else in `.incoming`.

Nobody finds either where instances are looked for. What has no name ends with the process that writes it, and so needs
neither a lock nor to be removed: half of the system calls that a small instance costs.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from dicomtls_cli.services.receiving.disk import can_lock, give_name, is_local, lock

FILE_MODE = 0o640
"""The mode of a file whose options name none, before the umask."""

_MOST_TRIES = 1000  # to make a file that nobody else has or removes
_FRESH = 1.0  # seconds; after them another file system may have been mounted where a part was prepared
# Of file systems without such files, and of kernels that take the flag for that of a directory (open(2)).
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
_WRITING = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NEW_NAMED = _WRITING | os.O_CREAT | os.O_EXCL
_NEW_UNNAMED = _WRITING | getattr(os, "O_TMPFILE", 0)  # Linux's


class Part(Protocol):
    """A file on its way to its name. `file` is its descriptor."""

    file: int

    def complete(self) -> None:
        """See to it that what was written is there, as far as the system can tell. Raises OSError."""

    def give_name(self, target: str) -> bool:
        """Move it to `target`; return False, and do nothing, where something is there. Raises OSError."""

    def replace(self, target: str) -> None:
        """Move it to `target` in place of what is there. Raises OSError."""

    def is_there(self) -> bool:
        """Tell whether it is still there, or was taken away."""

    def read(self) -> BinaryIO:
        """Open it to be read. Raises OSError."""

    def close(self) -> None:
        """Close it, and leave no trace of it unless it has its name; harmless when it was done."""


class Parts:
    """Makes the parts of one output directory, whose `.incoming` is `folder`; safe for any number of threads.

    `mode` is set on each file whatever the umask, None leaves 0640 to the umask. `make_folders` makes `folder` again
    where it was removed. Raises OSError where nothing can be written to it.
    """

    def __init__(self, folder: Path, mode: int | None, make_folders: Callable[[Path], list[Path]]) -> None:
        self._folder = folder
        self._path = str(folder)
        self._exact_mode = mode
        self._mode = FILE_MODE if mode is None else mode
        self._make_folders = make_folders
        self._numbers = itertools.count(1)
        self._prepared = threading.local()
        self._are_unnamed = self._try()
        self._remove_orphans()

    def _try(self) -> bool:
        """Write to the folder; return whether its file system has files without a name, and can name them."""
        probe = self._folder / f"{os.getpid()}.probe"
        probe.touch(mode=0o600)
        probe.unlink(missing_ok=True)  # of a process with the same id, in another container
        if not hasattr(os, "O_TMPFILE") or not is_local(self._folder):
            return False
        try:
            part = _Unnamed(os.open(self._folder, _NEW_UNNAMED, 0o600), self._name)
        except OSError:
            return False
        try:
            return part.give_name(str(probe))
        except OSError:  # there is no /proc
            return False
        finally:
            part.close()
            probe.unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Remove what a killed process left behind; what a living one still writes is locked."""
        if not can_lock():
            return
        for path in self._folder.glob("*.part"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                lock(file.fileno(), wait=False)
                path.unlink()

    def open(self) -> Part:
        """Return a new one, which this thread may have prepared. Raises OSError."""
        prepared: tuple[Part, float] | None = self._prepared.__dict__.pop("part", None)
        if prepared is not None:
            part, until = prepared
            if time.monotonic() < until:
                return part
            part.close()
        return self._make()

    def prepare(self) -> None:
        """Make the next one of this thread, where it leaves no trace; at the end of the thread it is closed."""
        if self._are_unnamed:
            try:
                part = self._make()
            except OSError:  # `open` tries again, and tells
                return
            if isinstance(part, _Unnamed):
                self._prepared.part = part, time.monotonic() + _FRESH
            else:  # they have names since
                part.close()

    def _make(self) -> Part:
        for _ in range(_MOST_TRIES):
            is_unnamed = self._are_unnamed
            try:
                part = self._open_unnamed() if is_unnamed else self._open_named()
            except FileNotFoundError:  # the directory was removed under us: it may be made again
                self._make_folders(self._folder)
                continue
            except OSError as error:
                if not (is_unnamed and error.errno in _NO_UNNAMED):
                    raise
                self._are_unnamed = False  # another file system was mounted there since
                continue
            if part is not None:
                if self._exact_mode is not None and hasattr(os, "fchmod"):
                    self._set_mode(part, self._exact_mode)
                return part
        raise OSError(None, "there is no name left")

    def _open_unnamed(self) -> Part:
        return _Unnamed(os.open(self._path, _NEW_UNNAMED, self._mode), self._name)

    def _open_named(self) -> Part | None:
        """Return a part that has a name in the folder, None where another process has it or took it."""
        path = self._new_name()
        try:
            file = os.open(path, _NEW_NAMED, self._mode)
        except FileExistsError:  # of a process with the same id, in another container
            return None
        # A file system without locks: no orphan is removed either.
        with contextlib.suppress(OSError):
            lock(file)
        if os.fstat(file).st_nlink:
            return _Named(file, path)
        os.close(file)  # a process that just starts took it for an orphan, before it was locked
        return None

    def _name(self, give_name: Callable[[str], bool]) -> str:
        """Have `give_name` give a name in the folder to what has none; return it. Raises OSError."""
        for _ in range(_MOST_TRIES):
            path = self._new_name()
            try:
                if give_name(path):
                    return path
            except FileNotFoundError:  # removed: it is empty as long as nothing is replaced
                self._make_folders(self._folder)
        raise OSError(None, "there is no name left")

    def _new_name(self) -> str:
        return f"{self._path}{os.sep}{os.getpid()}-{next(self._numbers)}.part"

    def _set_mode(self, part: Part, mode: int) -> None:
        try:
            os.fchmod(part.file, mode)
        except OSError:  # a file system without rights: neither descriptor nor part stays
            part.close()
            raise


class _Named:
    """A file in `.incoming`, locked as long as it is written."""

    def __init__(self, file: int, path: str) -> None:
        self.file = file
        self._path = path

    def complete(self) -> None:
        os.close(os.dup(self.file))  # NFS tells of a full disk only when a descriptor is closed
        if not can_lock():  # there is no lock to keep, and Windows renames no open file
            _close(self)

    def give_name(self, target: str) -> bool:
        if not give_name(self._path, target):
            return False
        self._path = ""
        return True

    def replace(self, target: str) -> None:
        Path(self._path).replace(target)
        self._path = ""

    def is_there(self) -> bool:
        return os.path.lexists(self._path)

    def read(self) -> BinaryIO:
        return Path(self._path).open("rb")

    def close(self) -> None:
        _close(self)
        if self._path:
            path, self._path = self._path, ""
            with contextlib.suppress(OSError):
                Path(path).unlink()


class _Unnamed(_Named):
    """A file without a name, on a file system that tells of a full disk when it is written to.

    Once it had a name and lost it, Linux gives it none any more: the one that `replace` needs stays until it is moved.
    """

    def __init__(self, file: int, name: Callable[[Callable[[str], bool]], str]) -> None:
        super().__init__(file, "")
        self._name = name

    def complete(self) -> None:
        """Do nothing: writing has told."""

    def give_name(self, target: str) -> bool:
        return super().give_name(target) if self._path else self._link(target)

    def replace(self, target: str) -> None:
        if not self._path:
            with contextlib.suppress(OSError):
                lock(self.file)  # while it has a name in `.incoming` it is no orphan
            self._path = self._name(self._link)
        super().replace(target)

    def is_there(self) -> bool:
        return not self._path or super().is_there()

    def read(self) -> BinaryIO:
        return Path(f"/proc/self/fd/{self.file}").open("rb")

    def _link(self, target: str) -> bool:
        # With a descriptor for a folder Python calls linkat, which follows the link in /proc; the path is absolute.
        try:
            os.link(f"/proc/self/fd/{self.file}", target, src_dir_fd=self.file, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def __del__(self) -> None:
        self.close()  # prepared, and not used


def _close(part: Part) -> None:
    """Close the file of `part`, once; what it could tell was asked for before it got its name."""
    if part.file >= 0:
        file, part.file = part.file, -1
        try:  # noqa: SIM105 - for each instance: `suppress` would cost more than the call
            os.close(file)
        except OSError:
            pass
