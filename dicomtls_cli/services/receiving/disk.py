"""What a file system is asked for: space, folders, locks, a name that nobody else has, durability."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("dicomtls.association")

_SPACE_SECONDS = 1.0  # between two looks where nothing is to stay free
_LITTLE_SPACE = 1 << 30  # bytes under which free space is warned of, or under 5 % of the whole
# Of file systems that know no hard links: FAT, some network shares.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
# Of file systems (proc(5), mountinfo) that reserve the space for what is written while it is written.
_LOCAL = frozenset(("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs"))


class NoRoom(Exception):
    """The file system takes no more: full, quota, file size, input/output error, read-only, gone."""


class Space:
    """The free space of the file system of `directory`, of which `min_free` bytes are to stay free."""

    def __init__(self, directory: Path, min_free: int = 0) -> None:
        self._directory = directory
        self._min_free = min_free
        self._is_short = False
        self._look_again = 0.0

    def check(self) -> None:
        """Warn once when the space gets short; raise NoRoom where less is left than is to stay free."""
        now = time.monotonic()
        if now < self._look_again and not self._min_free:
            return  # only to warn, it need not be asked for each instance: it may be far away
        self._look_again = now + _SPACE_SECONDS
        free, total = _free_space(self._directory)
        if free < self._min_free:
            raise NoRoom(
                f"{_in_words(free)} free in {self._directory}, less than the {_in_words(self._min_free)} "
                "that are to stay free"
            )
        little = min(_LITTLE_SPACE, total // 20) + self._min_free
        if free >= 2 * little:
            self._is_short = False
        elif free < little and not self._is_short:
            self._is_short = True
            logger.warning("%s free in %s", _in_words(free), self._directory)


def _free_space(directory: Path) -> tuple[int, int]:
    """Return how many bytes are free for us in the file system of `directory`, and how many it has."""
    try:
        if hasattr(os, "statvfs"):
            found = os.statvfs(directory)
            return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        import shutil

        usage = shutil.disk_usage(directory)
    except OSError:  # it was removed: whether it can be made again is found out by whoever writes
        return 1 << 62, 1 << 62
    return usage.free, usage.total


def _in_words(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def make_folders(folder: Path, mode: int, *, exact: bool = False, sync: bool = False) -> list[Path]:
    """Make `folder` and those above it where they are missing; return the new ones, outermost first.

    `exact` gives them `mode` whatever the umask, `sync` makes their names durable. Raises OSError,
    and has made none then. `Path.mkdir(parents=True)` would make the outer ones readable by everybody.
    """
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            with contextlib.suppress(
                FileExistsError
            ):  # another thread was faster, or it is a file: the next fails
                path.mkdir(mode=mode)
                made.append(path)
                if exact:
                    path.chmod(mode)
        if sync:
            for parent in {path.parent for path in made}:
                sync_folder(parent)
    except OSError:
        remove_folders(made)
        raise
    return made


def remove_folders(made: list[Path]) -> None:
    """Remove what `make_folders` made, as far as nothing came into it."""
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir()


def can_lock() -> bool:
    """Tell whether this system has locks that end with the process that holds them."""
    return fcntl is not None


def lock(file: int, *, wait: bool = True) -> None:
    """Lock an open file for this process, where `can_lock`; it is unlocked when it is closed.

    Raises OSError where the file system has no locks, or, unless it may `wait`, where another one has it.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def give_name(part: str, target: str) -> bool:
    """Move `part` to `target`; return False, and do nothing, where something is there. Raises OSError.

    Without hard links two processes, though not two who hold one lock, may both find nothing there.
    """
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            return False
        Path(part).replace(target)
        return True
    with contextlib.suppress(OSError):  # it is where it belongs; an orphan is removed at the next start
        os.unlink(part)  # noqa: PTH108 - as a Path it would cost more than the call
    return True


def is_local(folder: Path) -> bool:
    """Tell whether `folder` is on a file system of this machine that tells of a full disk when it is written to.

    Where that cannot be found out it is not, as with a network share, which may tell when the file is closed.
    """
    place = folder.resolve()
    try:
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        # Of mounts on one folder the last one counts. A blank in its name is written as an octal number.
        found = {_plain(words[4]): words[words.index("-") + 1] for words in mounts}
    except (OSError, ValueError, IndexError):
        return False
    return next((found[str(path)] in _LOCAL for path in (place, *place.parents) if str(path) in found), False)


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can. Raises OSError."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
