"""One instance on its way from the socket into a file: only the beginning of it is looked at."""

from __future__ import annotations

import contextlib
import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dicomtls_cli.services.disk import NoRoom, Space, can_lock, lock, remove_folders
from dicomtls_cli.services.head import HeadError, encode_meta, read_head, read_odd_head
from dicomtls_cli.services.naming import SOP_CLASS, SOP_INSTANCE, STUDY_INSTANCE, Subject
from dicomtls_cli.services.reception import (
    Duplicate,
    Identifiers,
    StorageOptions,
    Stored,
    UidMismatch,
    UnreadableHead,
)
from dicomtls_cli.services.settlement import Part, Settlement
from dicomtls_cli.upperlayer.pdu import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

_HEAD_LIMIT = 1 << 20  # bytes of a data set looked through for the values of its name
_ODD_HEAD = 64 * 1024  # bytes looked through of a data set that is not as its transfer syntax says
_MOST_TRIES = 1000  # to make a file that nobody else has or removes
_SPACE_STEP = 64 << 20  # bytes written between two looks at the free space
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

FILE_MODE = 0o640
"""The mode of a file whose options name none, before the umask."""


class Store(Protocol):
    """Where an instance comes in: what `storage` gives to each of them."""

    options: StorageOptions
    settlement: Settlement
    space: Space
    wanted: frozenset[int]

    def new_part(self) -> str:
        """Return a name in `.incoming` that was not given before."""

    def make_folders(self, folder: Path) -> list[Path]:
        """Make what is missing of `folder` and those above it; return the new ones, outermost first."""


class IncomingFile:
    """An instance that is written to a `.part` file while it comes in."""

    def __init__(self, storage: Store, identifiers: Identifiers, part: str) -> None:
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
        mode = self._options.file_mode
        try:
            for _ in range(_MOST_TRIES):
                try:
                    file = os.open(self._part, _FLAGS, FILE_MODE if mode is None else mode)
                except FileExistsError:  # of a process with the same id, in another container
                    self._part = self._storage.new_part()
                    continue
                except FileNotFoundError:  # the directory was removed under us: it may be made again
                    self._storage.make_folders(Path(self._part).parent)
                    continue
                if mode is not None and hasattr(os, "fchmod"):
                    self._set_mode(file, mode)
                # A file system without locks: no orphan is removed either.
                with contextlib.suppress(OSError):
                    lock(file)
                if os.fstat(file).st_nlink:
                    return file
                os.close(file)  # a process that just starts took it for an orphan, before it was locked
        except OSError as error:
            raise NoRoom(f"cannot write to {Path(self._part).parent}: {error.strerror}") from error
        raise NoRoom(f"cannot make a file in {Path(self._part).parent}")

    def _set_mode(self, file: int, mode: int) -> None:
        try:
            os.fchmod(file, mode)
        except OSError:  # a file system without rights: neither descriptor nor part stays
            os.close(file)
            with contextlib.suppress(OSError):
                Path(self._part).unlink()
            raise

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
                os.unlink(self._part)  # noqa: PTH108 - as a Path it would cost more than the call

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
            raise NoRoom(f"cannot write to {Path(self._part).parent}: {error.strerror}") from error

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
            if not can_lock():  # there is no lock to keep, and Windows renames no open file
                self._close()
            part = Part(self._part, len(self._meta), self._length, named)
            stored = self._storage.settlement.settle(part, place, made)
        except OSError as error:
            self._leave(made)
            raise NoRoom(f"cannot write {self._storage.settlement.path(place)}: {error.strerror}") from error
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
        remove_folders(made)
