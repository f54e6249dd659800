"""Where received instances go: `.incoming` while they stream, then a safe name, in one atomic step.

Nothing a peer sends decides about a path: `naming` makes names that stay inside the output directory, and no
file is ever replaced by another instance, whatever the layout.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import logging
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from dicomtls_cli.errors import OutputError
from dicomtls_cli.services.disk import NoRoom, Space, give_name, make_folders, sync_folder
from dicomtls_cli.services.head import FileMeta, HeadError, encode_meta, read_head, read_meta, read_odd_head
from dicomtls_cli.services.naming import (
    DEFAULT_LAYOUT,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY_INSTANCE,
    Naming,
    Place,
    Subject,
)
from dicomtls_cli.upperlayer.pdu import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

try:
    import fcntl
except ImportError:  # Windows has no flock: there, what a dead process left is not removed
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("dicomtls.association")

_HEAD_LIMIT = 1 << 20  # bytes of a data set looked through for the values of its name
_ODD_HEAD = 64 * 1024  # bytes looked through of a data set that is not as its transfer syntax says
_FILE_MODE = 0o640
_MOST_TRIES = 1000  # to make a file that nobody else has or removes, or to find a free name
_COMPARED = 1 << 20  # bytes of a file read at once
_META_LIMIT = 1 << 16  # bytes of file meta information that are looked through
_SPACE_STEP = 64 << 20  # bytes written between two looks at the free space


class UnreadableHead(Exception):
    """The data set is not what its transfer syntax says, or does not hold what names its file."""


class UidMismatch(Exception):
    """The data set has other UIDs than the command it came with."""


class Duplicate(Exception):
    """The instance is there already, and duplicates are refused."""


class OnDuplicate(StrEnum):
    """What becomes of an instance that is there already."""

    OVERWRITE = "overwrite"
    SKIP = "skip"
    SUFFIX = "suffix"
    REFUSE = "refuse"


class StorageOptions(NamedTuple):
    """How instances are stored.

    `fsync` makes each durable against a power failure before it is acknowledged. `file_mode` is set on each
    file whatever the umask, None leaves 0640 to the umask. With less than `min_free` bytes free nothing is
    taken. `digest` computes the SHA-256 of each file.
    """

    naming: Naming = DEFAULT_LAYOUT
    on_duplicate: OnDuplicate = OnDuplicate.OVERWRITE
    fsync: bool = False
    file_mode: int | None = None
    min_free: int = 0
    digest: bool = False


class Identifiers(NamedTuple):
    """What a C-STORE-RQ and its association say about the instance that follows."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    calling_aet: str
    called_aet: str


class Stored(NamedTuple):
    """A received instance; `path` is None where it was thrown away on purpose.

    `replaced` tells that this instance was there before and gave way, `kept` that it was there and stayed;
    `identical` then whether it had the same data set, byte for byte. `study` is the Study Instance UID as the
    data set has it, at most 64 characters of it; `sha256` the digest of the file, where wanted.
    """

    path: Path | None
    length: int
    replaced: bool = False
    identical: bool = False
    kept: bool = False
    study: str = ""
    sha256: str = ""


class Incoming(Protocol):
    """One instance while it comes in: `write` every piece, then `commit`, or `discard` in any other case."""

    def write(self, piece: memoryview) -> None:
        """Take the next piece of the data set."""

    def commit(self) -> Stored:
        """Make the instance permanent."""

    def discard(self) -> None:
        """Leave no trace of it; harmless after `commit`."""


class Storage:
    """An output directory; safe for any number of threads and processes at once.

    Raises OutputError when the directory cannot be made or written to.
    """

    def __init__(self, directory: Path, options: StorageOptions | None = None) -> None:
        self.directory = directory
        self.options = options or StorageOptions()
        self.incoming = directory / ".incoming"
        self.wanted = self.options.naming.tags | {SOP_CLASS, SOP_INSTANCE, STUDY_INSTANCE}
        mode = _FILE_MODE if self.options.file_mode is None else self.options.file_mode
        # Who may read the files may find them, and nobody else: names of folders tell of patients.
        self._folder_mode = 0o700 | mode | (mode & 0o444) >> 2
        self._numbers = itertools.count(1)
        self._locks = [threading.Lock() for _ in range(64)]
        self.space = Space(directory, self.options.min_free)
        self._made = [path for path in (self.incoming, *self.incoming.parents) if not path.exists()]
        try:
            self.make_folders(self.incoming)
            probe = self.incoming / f"{os.getpid()}.probe"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"cannot write to the output directory `{directory}`: {error.strerror}",
                "name a directory you may write to with `--output`",
                slug="output.directory",
            ) from error
        self._remove_orphans()
        with contextlib.suppress(NoRoom):
            self.space.check()

    def withdraw(self) -> None:
        """Remove the folders that were made for nothing: the server could not start."""
        for path in self._made:
            with contextlib.suppress(OSError):  # somebody uses it by now
                path.rmdir()

    def _remove_orphans(self) -> None:
        """Remove what a killed process left behind; what a living one still writes is locked."""
        if fcntl is None:
            return
        for path in self.incoming.glob("*.part"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def receive(self, identifiers: Identifiers) -> Incoming:
        """Begin to take an instance in. Raises NoRoom."""
        self.space.check()
        return _IncomingFile(self, identifiers, self.new_part())

    def new_part(self) -> Path:
        """Return a name in `.incoming` that this object did not give before."""
        return self.incoming / f"{os.getpid()}-{next(self._numbers)}.part"

    def make_folders(self, folder: Path) -> list[Path]:
        """Make what is missing of `folder` and those above it; return the new ones, outermost first."""
        options = self.options
        return make_folders(
            folder, self._folder_mode, exact=options.file_mode is not None, sync=options.fsync
        )

    def lock(self, target: Path) -> threading.Lock:
        """Return the lock under which `target` is looked at and replaced."""
        return self._locks[hash(target) % len(self._locks)]


class _IncomingFile:
    """An instance that is written to a `.part` file while it comes in."""

    def __init__(self, storage: Storage, identifiers: Identifiers, part: Path) -> None:
        self._storage = storage
        self._options = storage.options
        self._identifiers = identifiers
        self._part = part
        self._head = bytearray()
        self._values: dict[int, str] | None = None
        self._need = 0
        self._length = 0
        self._space_checked = 0
        self._is_done = False
        self._digest = hashlib.sha256() if self._options.digest else None
        self._meta = encode_meta(
            sop_class=identifiers.sop_class,
            sop_instance=identifiers.sop_instance,
            transfer_syntax=identifiers.transfer_syntax,
            implementation_class=IMPLEMENTATION_CLASS_UID,
            implementation_version=IMPLEMENTATION_VERSION,
            source_ae=identifiers.calling_aet,
            sending_ae=identifiers.calling_aet,
            receiving_ae=identifiers.called_aet,
        )
        self._file = self._open()
        self._write(self._meta)

    def _open(self) -> int:
        flags = (
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        )
        mode = self._options.file_mode
        try:
            for _ in range(_MOST_TRIES):
                try:
                    file = os.open(self._part, flags, _FILE_MODE if mode is None else mode)
                except FileExistsError:  # of a process with the same id, in another container
                    self._part = self._storage.new_part()
                    continue
                except FileNotFoundError:  # the directory was removed under us: it may be made again
                    self._storage.make_folders(self._part.parent)
                    continue
                if mode is not None and hasattr(os, "fchmod"):
                    os.fchmod(file, mode)
                if fcntl is not None:
                    # A file system without locks: no orphan is removed either.
                    with contextlib.suppress(OSError):
                        fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file).st_nlink:
                    return file
                os.close(file)  # a process that just starts took it for an orphan, before it was locked
        except OSError as error:
            raise NoRoom(f"cannot write to {self._part.parent}: {error.strerror}") from error
        raise NoRoom(f"cannot make a file in {self._part.parent}")

    # ------------------------------------------------------------------ while it comes in

    def write(self, piece: memoryview) -> None:
        """Append a piece. Raises NoRoom, UnreadableHead or UidMismatch; nothing is left behind then."""
        if self._values is None:
            self._head += piece
            if len(self._head) >= self._need:
                self._read_head(complete=False)
        self._write(piece)
        self._length += len(piece)
        if self._length - self._space_checked >= _SPACE_STEP:
            self._space_checked = self._length
            try:
                self._storage.space.check()
            except NoRoom:
                self.discard()
                raise

    def discard(self) -> None:
        """Remove the part, unless it was committed."""
        self._close()
        if not self._is_done:
            self._is_done = True
            with contextlib.suppress(OSError):
                self._part.unlink()

    def _close(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            with contextlib.suppress(
                OSError
            ):  # what it could tell was asked for before the file got its name
                os.close(file)

    def _write(self, data: bytes | memoryview) -> None:
        if self._digest is not None:
            self._digest.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            self.discard()
            raise NoRoom(f"cannot write to {self._part.parent}: {error.strerror}") from error

    def _read_head(self, *, complete: bool) -> None:
        try:
            head = read_head(
                self._head, self._identifiers.transfer_syntax, self._storage.wanted, complete=complete
            )
            values, need = head.values, head.need
        except HeadError as error:
            if not complete and len(self._head) < _ODD_HEAD:
                self._need = _ODD_HEAD
                return
            # pydicom knows more of these, but a peer's bytes could keep it busy for ever.
            values, need = read_odd_head(self._head, self._storage.wanted, SOP_INSTANCE), 0
            if not values and not self._is_named_without():
                raise UnreadableHead(str(error)) from error
        if need and len(self._head) >= _HEAD_LIMIT:
            if not self._is_named_without():
                raise UnreadableHead("what names its file is not in the first MiB")
            need = 0
        if need:
            # What the peer's lengths ask for does not decide how much is kept.
            self._need = min(max(need, 4 * len(self._head)), _HEAD_LIMIT)
            return
        named = self._identifiers
        for tag, said in ((SOP_CLASS, named.sop_class), (SOP_INSTANCE, named.sop_instance)):
            if values.get(tag, said) != said:
                raise UidMismatch(f"the data set has {values[tag]}, the command {said}")
        self._values = dict(values)
        self._head = bytearray()

    def _is_named_without(self) -> bool:
        """Tell whether the command alone says where the file goes."""
        return self._options.naming.tags <= {SOP_CLASS, SOP_INSTANCE}

    # ------------------------------------------------------------------ when it is complete

    def commit(self) -> Stored:
        """Move the file to its place. Raises NoRoom, UnreadableHead, UidMismatch or Duplicate."""
        if self._values is None:
            self._read_head(complete=True)
        assert self._values is not None
        named = self._identifiers
        subject = Subject(
            named.sop_class,
            named.sop_instance,
            named.calling_aet,
            named.called_aet,
            self._values,
            datetime.now(),  # local time, as people look for their files
        )
        place = self._options.naming.place(subject)
        made: list[Path] = []
        try:
            if self._options.fsync:
                os.fsync(self._file)
            os.close(os.dup(self._file))  # NFS tells of a full disk only when a descriptor is closed
            if fcntl is None:  # there is no lock to keep, and Windows renames no open file
                self._close()
            stored = self._settle(place, made)
        except OSError as error:
            self._leave(made)
            raise NoRoom(f"cannot write {self._path(place)}: {error.strerror}") from error
        except (NoRoom, Duplicate):
            self._leave(made)
            raise
        self._is_done = not stored.kept
        self.discard()
        digest = "" if self._digest is None or stored.kept else self._digest.hexdigest()
        return stored._replace(study=self._values.get(STUDY_INSTANCE, "")[:64], sha256=digest)

    def _leave(self, made: list[Path]) -> None:
        """Leave no trace: neither the part nor folders that were made for it."""
        self.discard()
        for path in reversed(made):
            with contextlib.suppress(OSError):  # another instance has come into it
                path.rmdir()

    def _path(self, place: Place, addition: str = "") -> Path:
        return self._storage.directory.joinpath(*place.folders, place.name(addition))

    def _settle(self, place: Place, made: list[Path]) -> Stored:
        """Give the part its name, and tell what became of an instance that had it."""
        mode = self._options.on_duplicate
        is_new_file = self._options.naming.always_new or mode is OnDuplicate.SUFFIX
        for target in itertools.islice(self._candidates(place, is_new_file), _MOST_TRIES):
            with self._storage.lock(target):
                if self._put(target, made):
                    self._sync(target)
                    return Stored(target, self._length)
                if is_new_file:
                    continue
                there = _meta_of(target)
                # Whatever the layout: what is there gives way to the same instance only.
                if there is None or there.media_storage_sop_instance != self._identifiers.sop_instance:
                    continue
                return self._settle_duplicate(target, there, mode)
        raise NoRoom(f"there is no name left for {self._path(place)}")

    def _candidates(self, place: Place, is_new_file: bool) -> Iterator[Path]:
        addition = self._options.naming.addition
        if is_new_file:
            yield from (self._path(place, addition(number)) for number in itertools.count(1))
        yield self._path(place)
        uid = f"_{self._identifiers.sop_instance}"
        yield from (self._path(place, uid + addition(number)) for number in itertools.count(1))

    def _settle_duplicate(self, target: Path, there: FileMeta, mode: OnDuplicate) -> Stored:
        if mode is OnDuplicate.REFUSE:
            raise Duplicate(f"{target} is there already")
        identical = self._is_identical(target, there)
        if mode is OnDuplicate.SKIP:
            if not identical:
                logger.warning("%s stays; another data set of the same instance was dropped", target)
            return Stored(target, self._length, identical=identical, kept=True)
        self._part.replace(target)
        self._sync(target)
        return Stored(target, self._length, replaced=True, identical=identical)

    def _put(self, target: Path, made: list[Path]) -> bool:
        """Move the part to `target`; return False, and do nothing, where something is there."""
        for _ in range(3):  # a folder may be removed again before the part is in it
            try:
                return give_name(self._part, target)
            except FileNotFoundError:
                if not self._part.exists():
                    raise
                made += self._storage.make_folders(target.parent)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _sync(self, target: Path) -> None:
        if self._options.fsync:
            sync_folder(target.parent)

    def _is_identical(self, target: Path, there: FileMeta) -> bool:
        """Tell whether the file `target` has our data set; who sent it may differ."""
        if there.transfer_syntax != self._identifiers.transfer_syntax:
            return False
        with self._part.open("rb") as ours, target.open("rb") as theirs:
            ours.seek(len(self._meta))
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


class Ignored:
    """An instance that is received and thrown away (`--ignore`)."""

    def __init__(self) -> None:
        self._length = 0

    def write(self, piece: memoryview) -> None:
        """Count the bytes."""
        self._length += len(piece)

    def commit(self) -> Stored:
        """Say how many there were."""
        return Stored(None, self._length)

    def discard(self) -> None:
        """Do nothing: nothing was kept."""
