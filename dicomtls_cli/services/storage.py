"""Where received instances go: `.incoming` while they stream, then a safe name, in one atomic step.

Nothing a peer sends decides about a path: names are made from an allow-list of characters and stay inside
the output directory.
"""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import itertools
import os
import re
from pathlib import Path
from typing import NamedTuple, Protocol

from dicomtls_cli.errors import OutputError
from dicomtls_cli.services.head import HeadError, encode_meta, read_head, read_odd_head
from dicomtls_cli.upperlayer.pdu import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

try:
    import fcntl
except ImportError:  # Windows has no flock: there, what a dead process left is not removed
    fcntl = None  # type: ignore[assignment]

SOP_CLASS, SOP_INSTANCE, STUDY_INSTANCE = 0x00080016, 0x00080018, 0x0020000D
_WANTED = frozenset({SOP_CLASS, SOP_INSTANCE, STUDY_INSTANCE})
_HEAD_LIMIT = 1 << 20  # bytes of a data set looked through for the values of its name
_ODD_HEAD = 64 * 1024  # bytes looked through of a data set that is not as its transfer syntax says
_FILE_MODE = 0o640
_FOLDER_MODE = 0o750
_MOST_TRIES = 1000  # to make a file that nobody else has or removes

_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
_SAFE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
# What Windows takes for a device, and our own word for an empty text.
_RESERVED_NAME = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d|unknown)(?:\..*)?", re.IGNORECASE)


class UnreadableHead(Exception):
    """The data set is not what its transfer syntax says, or does not name its study."""


class UidMismatch(Exception):
    """The data set has other UIDs than the command it came with."""


class NoRoom(Exception):
    """The file system takes no more: full, quota, file size, input/output error, read-only, gone."""


class Identifiers(NamedTuple):
    """What a C-STORE-RQ and its association say about the instance that follows."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    calling_aet: str
    called_aet: str


class Stored(NamedTuple):
    """A received instance; `path` is None where it was thrown away on purpose.

    `replaced` tells that a file of that name was there before, `identical` that it had the same bytes.
    """

    path: Path | None
    length: int
    replaced: bool = False
    identical: bool = False


class Incoming(Protocol):
    """One instance while it comes in: `write` every piece, then `commit`, or `discard` in any other case."""

    def write(self, piece: memoryview) -> None:
        """Take the next piece of the data set."""

    def commit(self) -> Stored:
        """Make the instance permanent."""

    def discard(self) -> None:
        """Leave no trace of it; harmless after `commit`."""


def safe_component(text: str) -> str:
    """Return `text` as one component of a path: letters, digits, dots and dashes, never hidden or `..`.

    A valid UID, or any other text that is such a component, stays as it is; what has to be changed gets a
    digest at its end, so that different texts stay apart. An empty text becomes `unknown`.
    """
    if not text:
        return "unknown"
    if _SAFE_NAME.fullmatch(text) and not _RESERVED_NAME.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_UNSAFE.sub('_', text).strip('_-')[:40] or 'unnamed'}_{digest}"


class Storage:
    """An output directory; safe for any number of threads and processes at once.

    Raises OutputError when the directory cannot be made or written to.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._incoming = directory / ".incoming"
        self._numbers = itertools.count(1)
        self._made = [path for path in (self._incoming, *self._incoming.parents) if not path.exists()]
        try:
            self._incoming.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            probe = self._incoming / f"{os.getpid()}.probe"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"cannot write to the output directory `{directory}`: {error.strerror}",
                "name a directory you may write to with `--output`",
                slug="output.directory",
            ) from error
        self._remove_orphans()

    def withdraw(self) -> None:
        """Remove the folders that were made for nothing: the server could not start."""
        for path in self._made:
            with contextlib.suppress(OSError):  # somebody uses it by now
                path.rmdir()

    def _remove_orphans(self) -> None:
        """Remove what a killed process left behind; what a living one still writes is locked."""
        if fcntl is None:
            return
        for path in self._incoming.glob("*.part"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def receive(self, identifiers: Identifiers) -> Incoming:
        """Begin to take an instance in. Raises NoRoom."""
        return _IncomingFile(self, identifiers, self.new_part())

    def new_part(self) -> Path:
        """Return a name in `.incoming` that this object did not give before."""
        return self._incoming / f"{os.getpid()}-{next(self._numbers)}.part"

    def path_for(self, study_instance: str, sop_instance: str) -> Path:
        """Return where the instance of these UIDs is stored."""
        return self.directory / safe_component(study_instance) / f"{safe_component(sop_instance)}.dcm"


class _IncomingFile:
    """An instance that is written to a `.part` file while it comes in."""

    def __init__(self, storage: Storage, identifiers: Identifiers, part: Path) -> None:
        self._storage = storage
        self._identifiers = identifiers
        self._part = part
        self._head = bytearray()
        self._values: dict[int, str] | None = None
        self._need = 0
        self._length = 0
        self._is_done = False
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
        try:
            for _ in range(_MOST_TRIES):
                try:
                    file = os.open(self._part, flags, _FILE_MODE)
                except FileExistsError:  # of a process with the same id, in another container
                    self._part = self._storage.new_part()
                    continue
                except FileNotFoundError:  # the directory was removed under us: it may be made again
                    self._part.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                    continue
                if fcntl is not None:
                    with contextlib.suppress(
                        OSError
                    ):  # a file system without locks: no orphan is removed either
                        fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file).st_nlink:
                    return file
                os.close(file)  # a process that just starts took it for an orphan, before it was locked
        except OSError as error:
            raise NoRoom(f"cannot write to {self._part.parent}: {error.strerror}") from error
        raise NoRoom(f"cannot make a file in {self._part.parent}")

    def write(self, piece: memoryview) -> None:
        """Append a piece. Raises NoRoom, UnreadableHead or UidMismatch; nothing is left behind then."""
        if self._values is None:
            self._head += piece
            if len(self._head) >= self._need:
                self._read_head(complete=False)
        self._write(piece)
        self._length += len(piece)

    def commit(self) -> Stored:
        """Move the file to its place. Raises NoRoom, UnreadableHead or UidMismatch."""
        if self._values is None:
            self._read_head(complete=True)
        assert self._values is not None
        target = self._storage.path_for(self._values[STUDY_INSTANCE], self._identifiers.sop_instance)
        try:
            target.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            replaced = target.is_file()
            identical = replaced and filecmp.cmp(self._part, target, shallow=False)
            if fcntl is None:  # there is no lock to keep, and Windows renames no open file
                self._close()
            self._part.replace(target)
        except OSError as error:
            self.discard()
            raise NoRoom(f"cannot write {target}: {error.strerror}") from error
        self._is_done = True
        self._close()
        return Stored(target, self._length, replaced, identical)

    def discard(self) -> None:
        """Remove the part, unless it was committed."""
        self._close()
        if not self._is_done:
            self._is_done = True
            with contextlib.suppress(OSError):
                self._part.unlink()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            self.discard()
            raise NoRoom(f"cannot write to {self._part.parent}: {error.strerror}") from error

    def _read_head(self, *, complete: bool) -> None:
        try:
            head = read_head(self._head, self._identifiers.transfer_syntax, _WANTED, complete=complete)
            values, need = head.values, head.need
        except HeadError as error:
            if not complete and len(self._head) < _ODD_HEAD:
                self._need = _ODD_HEAD
                return
            # pydicom knows more of these, but a peer's bytes could keep it busy for ever.
            values, need = read_odd_head(self._head, _WANTED, SOP_INSTANCE), 0
            if not values:
                raise UnreadableHead(str(error)) from error
        if need:
            if len(self._head) >= _HEAD_LIMIT:
                raise UnreadableHead("no Study Instance UID in the first MiB")
            # What the peer's lengths ask for does not decide how much is kept.
            self._need = min(max(need, 4 * len(self._head)), _HEAD_LIMIT)
            return
        named = self._identifiers
        for tag, said in ((SOP_CLASS, named.sop_class), (SOP_INSTANCE, named.sop_instance)):
            if values.get(tag, said) != said:
                raise UidMismatch(f"the data set has {values[tag]}, the command {said}")
        self._values = {STUDY_INSTANCE: values.get(STUDY_INSTANCE, "")}
        self._head = bytearray()


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
