"""A file on its way to its place: written whole first, beside it, and then given its name in one step.

A private one has no name until then (Linux's O_TMPFILE), so that a process which is killed leaves no key behind.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

# What `os.link` answers where the file system (FAT, network shares) or the system's rules do not allow it.
_NO_HARD_LINK = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass
class Staged:
    """One file without a name, or under a temporary one, on its way to its place.

    `unnamed` is the descriptor of a file without a name. What is replaced is kept, until all is in place, under
    the name `backup`, or as `old` where it is as private as the new one.
    """

    target: Path
    data: bytes = field(repr=False)  # it may be a key
    private: bool
    temporary: Path
    inode: tuple[int, int]
    unnamed: int | None = None
    backup: Path | None = None
    old: Staged | None = None

    def place(self, *, force: bool) -> None:
        """Give it its name, with `force` in place of what has it; raise OSError."""
        if force and os.path.lexists(self.target):
            self._keep_old()
            self._name(self.temporary)
            self.temporary.replace(self.target)
        elif self._name(self.target):
            return
        else:
            self._link()

    def _name(self, path: Path) -> bool:
        """Give a file that has no name the name `path`; False where it has one after all."""
        if self.unnamed is None:
            return False
        try:
            _name_it(self.unnamed, path)
            return True
        except OSError as error:
            if error.errno not in _NO_HARD_LINK:
                raise
        os.close(self.unnamed)
        self.unnamed, self.inode = None, _write_named(self.temporary, self.data, self.private)
        return False

    def _link(self) -> None:
        try:
            os.link(self.temporary, self.target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINK:
                raise
            self._place_without_link()

    def _place_without_link(self) -> None:
        # Claiming the name first keeps the promise that nothing is ever overwritten.
        os.close(os.open(self.target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            self.temporary.replace(self.target)
        except BaseException:
            self.target.unlink(missing_ok=True)
            raise

    def _keep_old(self) -> None:
        if self.unnamed is not None and not self.target.is_symlink():
            with suppress(OSError):
                self.old = stage(self.target, self.target.read_bytes(), private=True)
                return
        backup = _temporary_name(self.target)
        try:
            os.link(self.target, backup, follow_symlinks=False)
        except (OSError, NotImplementedError):
            self.target.rename(backup)
        self.backup = backup

    def undo(self) -> None:
        """Put back what was there before, as far as it is placed."""
        with suppress(OSError):
            if self.old is not None:
                self.old._name(self.old.temporary)
                self.old.temporary.replace(self.target)
            elif self.backup is not None:
                self.backup.replace(self.target)
            elif _inode(self.target.lstat()) == self.inode:
                self.target.unlink()

    def discard(self) -> None:
        """Remove what is left beside its place."""
        if self.old is not None:
            self.old.discard()
        if self.unnamed is not None:
            os.close(self.unnamed)
        for path in (self.temporary, self.backup):
            if path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def stage(target: Path, data: bytes, *, private: bool) -> Staged:
    """Write `data` beside `target`, whole and on the disk; raise OSError."""
    temporary = _temporary_name(target)
    unnamed = _open_unnamed(target.parent) if private else None
    if unnamed is None:
        return Staged(target, data, private, temporary, _write_named(temporary, data, private))
    try:
        inode = _write(unnamed, data, closefd=False)
    except BaseException:
        os.close(unnamed)
        raise
    return Staged(target, data, private, temporary, inode, unnamed)


def _write_named(path: Path, data: bytes, private: bool) -> tuple[int, int]:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600 if private else 0o644)
    try:
        return _write(descriptor, data, closefd=True)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(descriptor: int, data: bytes, *, closefd: bool) -> tuple[int, int]:
    with os.fdopen(descriptor, "wb", closefd=closefd) as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
        return _inode(os.fstat(out.fileno()))


def _temporary_name(target: Path) -> Path:
    # Not made from the target's name: that may already be as long as names can be.
    return target.with_name(f".dicomtls-{os.urandom(8).hex()}.tmp")


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _open_unnamed(directory: Path) -> int | None:
    """Return a descriptor of a new private file in `directory` that has no name; None where there is no such."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        return None
    try:
        descriptor = os.open(directory, flag | os.O_WRONLY, 0o600)
    except OSError:  # FAT, network shares; what else is wrong shows when the file is made with a name
        return None
    if os.access(_path(descriptor), os.F_OK):
        return descriptor
    os.close(descriptor)  # without /proc it would never get a name
    return None


def _name_it(descriptor: int, path: Path) -> None:
    """Give the file of `descriptor` the name `path`, where nothing may be yet; raise OSError."""
    # With a folder's descriptor Python calls linkat, which follows the link in /proc; the path is absolute.
    os.link(_path(descriptor), path, src_dir_fd=descriptor, follow_symlinks=True)


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
