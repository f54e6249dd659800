"""One instance on its way from the socket into a file: only the beginning of it is looked at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dicomtls_cli.services.files.head import HeadError, encode_meta, read_odd_head
from dicomtls_cli.services.files.heads import HeadReader
from dicomtls_cli.services.receiving.disk import NoRoom, Space, remove_folders
from dicomtls_cli.services.receiving.naming import SOP_CLASS, SOP_INSTANCE, STUDY_INSTANCE, Subject
from dicomtls_cli.services.receiving.parts import Part, Parts
from dicomtls_cli.services.receiving.reception import (
    Duplicate,
    Identifiers,
    StorageOptions,
    Stored,
    UidMismatch,
    UnreadableHead,
)
from dicomtls_cli.services.receiving.settlement import Settlement, Whole
from dicomtls_cli.upperlayer.pdu import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

_HEAD_LIMIT = 1 << 20  # bytes of a data set looked through for the values of its name
_ODD_HEAD = 64 * 1024  # bytes looked through of a data set that is not as its transfer syntax says
_SPACE_STEP = 64 << 20  # bytes written between two looks at the free space


class Store(Protocol):
    """Where an instance comes in: what `storage` gives to each of them."""

    directory: Path
    options: StorageOptions
    parts: Parts
    settlement: Settlement
    space: Space
    wanted: frozenset[int]
    heads: HeadReader


class IncomingFile:
    """An instance that is written to a part while it comes in, from its first piece on."""

    def __init__(self, storage: Store, identifiers: Identifiers) -> None:
        self._storage = storage
        self._identifiers = identifiers
        self._part: Part | None = None
        self._head: bytearray | None = None  # what was looked through in vain
        self._values: Mapping[int, str] | None = None
        self._need = 0
        self._length = 0
        self._space_checked = 0
        self._digest = hashlib.sha256() if storage.options.digest else None
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

    # ------------------------------------------------------------------ while it comes in

    def write(self, piece: memoryview) -> None:
        """Append a piece. Raises NoRoom, UnreadableHead or UidMismatch; nothing is left behind then."""
        if self._values is None:
            self._look_at(piece)
        self._length += len(piece)
        if self._part is None:
            self._begin(piece)
        else:
            self._write(piece)
        if self._length - self._space_checked >= _SPACE_STEP:
            self._space_checked = self._length
            try:
                self._storage.space.check()
            except NoRoom:
                self.discard()
                raise

    def discard(self) -> None:
        """Remove the part, unless it was committed."""
        if self._part is not None:
            self._part.close()

    def finish(self) -> None:
        """Close the part, and prepare that of the next instance while the peer does the same."""
        self.discard()
        self._storage.parts.prepare()

    def _begin(self, piece: memoryview | bytes) -> None:
        """Make the part, and write the file meta with the first piece: the whole of a small instance."""
        try:
            self._part = self._storage.parts.open()
        except OSError as error:
            raise self._no_room(error) from error
        self._write(self._meta + piece)

    def _write(self, data: bytes | memoryview) -> None:
        assert self._part is not None
        if self._digest is not None:
            self._digest.update(data)
        try:
            written = os.write(self._part.file, data)
            while written < len(data):
                written += os.write(self._part.file, data[written:])
        except OSError as error:
            self.discard()
            raise self._no_room(error) from error

    def _no_room(self, error: OSError) -> NoRoom:
        return NoRoom(f"cannot write to {self._storage.directory}: {error.strerror}")

    def _look_at(self, piece: memoryview) -> None:
        """Look for the values of the name in what came so far: mostly the first piece shows them."""
        if self._head is not None:
            self._head += piece
            if len(self._head) < self._need:
                return
            self._read_head(self._head, complete=False)
        else:
            self._read_head(piece, complete=False)
            if self._values is None:
                self._head = bytearray(piece)

    def _read_head(self, data: bytes | bytearray | memoryview, *, complete: bool) -> None:
        try:
            head = self._storage.heads.read(data, self._identifiers.transfer_syntax, complete=complete)
            values, need = head.values, head.need
        except HeadError as error:
            if not complete and len(data) < _ODD_HEAD:
                self._need = _ODD_HEAD
                return
            # pydicom knows more of these, but a peer's bytes could keep it busy for ever.
            values, need = read_odd_head(data, self._storage.wanted, SOP_INSTANCE), 0
            if not values and not self._is_named_without():
                raise UnreadableHead(str(error)) from error
        if need and len(data) >= _HEAD_LIMIT:
            if not self._is_named_without():
                raise UnreadableHead("what names its file is not in the first MiB")
            need = 0
        if need:
            # What the peer's lengths ask for does not decide how much is kept.
            self._need = min(max(need, 4 * len(data)), _HEAD_LIMIT)
            return
        named = self._identifiers
        for tag, said in ((SOP_CLASS, named.sop_class), (SOP_INSTANCE, named.sop_instance)):
            if values.get(tag, said) != said:
                raise UidMismatch(f"the data set has {values[tag]}, the command {said}")
        self._values = values
        self._head = None

    def _is_named_without(self) -> bool:
        """Tell whether the command alone says where the file goes."""
        return self._storage.options.naming.tags <= {SOP_CLASS, SOP_INSTANCE}

    # ------------------------------------------------------------------ when it is complete

    def commit(self) -> Stored:
        """Move the file to its place. Raises NoRoom, UnreadableHead, UidMismatch or Duplicate."""
        if self._values is None:
            self._read_head(self._head or b"", complete=True)
        if self._part is None:
            self._begin(b"")
        assert self._values is not None
        assert self._part is not None
        named, storage = self._identifiers, self._storage
        subject = Subject(
            named.sop_class,
            named.sop_instance,
            named.calling_aet,
            named.called_aet,
            self._values,
            datetime.now(),  # local time, as people look for their files
        )
        place = storage.options.naming.place(subject)
        made: list[Path] = []
        try:
            if storage.options.fsync:
                os.fsync(self._part.file)
            self._part.complete()
            study = self._values.get(STUDY_INSTANCE, "")[:64]
            whole = Whole(self._part, len(self._meta), self._length, named, study)
            stored = storage.settlement.settle(whole, place, made)
        except OSError as error:
            self._leave(made)
            raise NoRoom(f"cannot write {storage.settlement.path(place)}: {error.strerror}") from error
        except (NoRoom, Duplicate):
            self._leave(made)
            raise
        if self._digest is None or stored.kept:
            return stored
        return stored._replace(sha256=self._digest.hexdigest())

    def _leave(self, made: list[Path]) -> None:
        """Leave no trace: neither the part nor folders that were made for it."""
        self.discard()
        remove_folders(made)
