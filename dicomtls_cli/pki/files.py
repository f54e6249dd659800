"""Read small files with a cap; write new ones whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dicomtls_cli.errors import InputError, OutputError

READ_LIMIT = 16 * 1024 * 1024
"""Bytes: far more than any certificate bundle, far less than hurts."""

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_DIRECTORY = {errno.ENOENT, errno.ENOTDIR}


class NewFile(NamedTuple):
    """A file to be written: `private` ones are 0600 from their creation, others 0644 less the umask.

    `replaces` says that it takes the place of an older one of ours, whatever `force` says of the others.
    """

    path: Path
    data: bytes
    private: bool = False
    replaces: bool = False

    def __repr__(self) -> str:
        return f"NewFile({self.path})"  # never the data: it may be a key


def read_capped(path: Path, what: str, *, limit: int = READ_LIMIT) -> bytes:
    """Return the content of the regular file `path`, at most `limit` bytes.

    `what` is the file's part in the sentence ("certificate", "trusted certificates"). Raises `InputError`
    as `open_regular` does, and for what is too large.
    """
    with open_regular(path, what) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InputError(
            f"the {what} file `{path}` has more than {limit} bytes",
            "check that it is the file you mean",
            slug="file.too-large",
        )
    return data


@contextmanager
def open_regular(path: Path, what: str) -> Iterator[BinaryIO]:
    """Open the regular file `path` for reading; `what` is its part in the sentence.

    Raises `InputError` for what is missing, unreadable, a directory or not a regular file, also where it
    turns out to be unreadable later. Never waits: a FIFO or a device is refused before it is read.
    """
    shown = f"the {what} file `{path}`"
    try:
        _check_readable_kind(path.stat().st_mode, path, shown)
        # O_NONBLOCK: should a FIFO take the file's place after the check, opening it does not hang.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            _check_readable_kind(os.fstat(file.fileno()).st_mode, path, shown)
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{shown} does not exist", f"look for it from the directory `{_here()}`", slug="file.missing"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"{shown} cannot be read: {reason}",
            f"check it with `ls -l {word(path)}`",
            slug="file.unreadable",
        ) from None


def word(path: Path) -> str:
    """Return `path` as one word of a command line, never to be taken for an option."""
    import shlex  # only what goes wrong needs it

    text = str(path)
    return shlex.quote(f"./{text}" if text[:1] in ("-", "+", "~") else text)


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "."


def _check_readable_kind(mode: int, path: Path, shown: str) -> None:
    if stat.S_ISDIR(mode):
        raise InputError(
            f"{shown} is a directory", f"name one file in it, as in `{path}/NAME`", slug="file.is-directory"
        )
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{shown} is a device, pipe or socket",
            "write its content to a regular file and name that",
            slug="file.not-regular",
        )


def check_targets(paths: Sequence[Path], *, force: bool) -> None:
    """Check that `write_files` has a place for each of `paths`; writes nothing.

    Without `force` nothing may be there yet; with it a regular file, or a symbolic link to one or to
    nothing, may. Raises `OutputError` naming the first path that is no place for a new file.
    """
    for path in paths:
        with _told(path):
            _check_directory(path)
            _check_target(path, force=force)


def _check_directory(path: Path) -> None:
    parent = path.parent
    if not stat.S_ISDIR(parent.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _check_target(path: Path, *, force: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        # /dev/stdout and its kin: replacing the link would break the machine, not write to the terminal.
        to_process = str(path.readlink()).startswith("/proc/")
        with suppress(FileNotFoundError):
            mode = path.stat().st_mode
        odd = to_process or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode))
    else:
        odd = not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    if stat.S_ISDIR(mode):
        raise OutputError(
            f"cannot write `{path}`: it is a directory",
            f"name a file in it, as in `{path}/NAME`",
            slug="output.is-directory",
        )
    if odd:
        raise OutputError(
            f"cannot write `{path}`: it is a device, pipe or socket",
            "name a regular file",
            slug="output.not-regular",
        )
    if not force:
        raise _exists(path)


def refuse_output_among_inputs(output: Path, inputs: Sequence[Path]) -> None:
    """Raise `OutputError` if `output` is one of the files `inputs`, under whatever name."""
    for path in inputs:
        same = output.absolute() == path.absolute()
        with suppress(OSError, ValueError):
            same = same or output.samefile(path)
        if same:
            raise OutputError(
                f"the output `{output}` is also an input (`{path}`)",
                "write to another file, then move it into place",
                slug="output.is-input",
            )


def write_files(files: Sequence[NewFile], *, force: bool = False) -> None:
    """Write all of `files`, or none: on any failure everything is as it was before.

    Each is written beside its place, a private one without a name where the system has such files, else under a
    hidden temporary name; with its final mode from its creation, flushed to the disk, and only then linked into
    place. Without `force` an existing path is never
    replaced, not even one that appears in between. With `force` a symbolic link is replaced, not followed.
    Raises `OutputError`.
    """
    from dicomtls_cli.pki.staged import Staged, stage  # who only reads needs none of it

    for file in files:
        check_targets([file.path], force=force or file.replaces)
    staged: list[Staged] = []
    complete = False
    try:
        for file in files:
            with _told(file.path):
                staged.append(stage(file.path, file.data, private=file.private))
        for one, file in zip(staged, files, strict=True):
            with _told(one.target):
                one.place(force=force or file.replaces)
        complete = True
    finally:
        for one in reversed(staged):
            if not complete:
                one.undo()
            one.discard()
    for directory in {file.path.parent for file in files}:
        _sync_directory(directory)


def _sync_directory(path: Path) -> None:
    # The names survive a power loss where the system lets a directory be synced; elsewhere nothing is lost.
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exists(path: Path) -> OutputError:
    return OutputError(
        f"`{path}` exists already", "choose another name, or replace it with `--force`", slug="output.exists"
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn an `OSError` about `path` into words."""
    try:
        yield
    except FileExistsError:
        raise _exists(path) from None
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        if number in _NO_DIRECTORY and not path.parent.is_dir():
            raise OutputError(
                f"cannot write `{path}`: the directory `{path.parent}` does not exist",
                f"make it with `mkdir -p {word(path.parent)}`",
                slug="output.no-directory",
            ) from None
        if number in _NO_DIRECTORY:  # /proc and its kin: a file cannot be made there
            number, reason = errno.EPERM, os.strerror(errno.EPERM)
        if number in _NOT_WRITABLE:
            raise OutputError(
                f"cannot write `{path}`: {reason}",
                "choose a file and directory that you may write to",
                slug="output.not-writable",
            ) from None
        if number in _NO_SPACE:
            raise OutputError(
                f"cannot write `{path}`: {reason}",
                "free some space, or write elsewhere; nothing was left behind",
                slug="output.no-space",
            ) from None
        raise OutputError(
            f"cannot write `{path}`: {reason}", "nothing was left behind", slug="output.failed"
        ) from None
