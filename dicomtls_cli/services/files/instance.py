"""One file: whether it is a DICOM instance, and what has to be known of it before it can be sent."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.services.files.elements import VRS
from dicomtls_cli.services.files.head import (
    FileMeta,
    Head,
    HeadError,
    find_odd_head,
    guess_transfer_syntax,
    read_head,
    read_meta,
)
from dicomtls_cli.services.files.heads import HeadReader, MetaReader
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.skipped import (
    Skipped,
    broken,
    not_dicom,
    truncated,
    unreadable,
    wrongly_encoded,
)
from dicomtls_cli.services.files.syntax import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicomtls_cli.services.files.syntax import transfer_syntax as syntax_of
from dicomtls_cli.services.files.truncation import Ending, ending
from dicomtls_cli.upperlayer.registry import is_uid

SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018
_WANTED = frozenset({SOP_CLASS, SOP_INSTANCE})
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory: a table of contents, never sent
_FIRST_READ = 8 * 1024
_HEAD_LIMIT = 1 << 20  # bytes of a file looked through for its UIDs
_META_AT = 132  # after preamble and prefix
_LONGEST_UID = 64
_DICOM_SUFFIXES = (".dcm", ".dicom")
# A FIFO without a writer would otherwise be waited for.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_ENCODINGS = {
    IMPLICIT_LITTLE: "implicit VR little endian",
    EXPLICIT_LITTLE: "explicit VR little endian",
    EXPLICIT_BIG: "explicit VR big endian",
    DEFLATED_LITTLE: "deflated explicit VR little endian",
}
"""Transfer syntaxes that differ in the encoding of the data set alone, so that one may stand for another."""


class Instance(NamedTuple):
    """A DICOM file that can be sent.

    `file` is its path as a text: a `Path` for each costs as much as to open it. `offset` is where its data set
    begins and `size` where the file ends, in bytes. The UIDs are the data set's; the file meta's stand in where
    those are missing. `transfer_syntax` is the file meta's, unless that is missing or clearly wrong. `remark`
    tells what is odd about it. `modified` is when the file was last written, in nanoseconds since 1970.
    """

    file: str
    size: int
    offset: int
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    remark: str = ""
    modified: int = 0

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.file)


class Directory(NamedTuple):
    """A DICOMDIR (PS3.10 8.6): not sent, but it tells of files that are. `offset`: where its data set begins."""

    path: Path
    size: int
    offset: int
    transfer_syntax: str


def read_instance(path: Path, *, named: bool = False) -> Instance | Skipped:
    """Read what has to be known of the file at `path`; `named` says that somebody named this very file."""
    found = look_at(str(path), named=named)
    return passed_over(found) if isinstance(found, Directory) else found


def passed_over(directory: Directory) -> Skipped:
    """Return how a DICOMDIR itself counts."""
    return not_dicom(directory.path, "it is a DICOMDIR", expected=False)


class Readers(NamedTuple):
    """What remembers the files before, so that those of one series are looked at fast, and sent fast."""

    meta: MetaReader
    head: HeadReader
    read_ahead: ReadAhead


def readers(read_ahead: ReadAhead) -> Readers:
    """Return readers that have seen nothing yet; small files stay in `read_ahead`."""
    return Readers(MetaReader(), HeadReader(_WANTED), read_ahead)


def look_at(
    path: str, *, named: bool = False, readers: Readers | None = None
) -> Instance | Skipped | Directory:
    """As `read_instance`, with a DICOMDIR told apart; `readers` are those of the files before."""
    try:
        file = os.open(path, _READ)
        try:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                return not_dicom(Path(path), "it is no regular file", expected=named)
            opened = _File(path, file, about, named, readers)
            found = opened.judged()
        finally:
            os.close(file)
    except (OSError, ValueError) as error:  # ValueError: an embedded NUL
        return unreadable(Path(path), error)
    if readers is not None and isinstance(found, Instance):
        readers.read_ahead.keep(found, opened.data)
    return found


class _File:
    """An open file, and what was read of it from its start."""

    def __init__(
        self, name: str, file: int, about: os.stat_result, named: bool, readers: Readers | None
    ) -> None:
        self.name = name
        self.file = file
        self.size = about.st_size
        self.modified = about.st_mtime_ns
        self.named = named
        self.readers = readers
        self.data = os.read(file, _FIRST_READ)

    @property
    def path(self) -> Path:
        return Path(self.name)

    def judged(self) -> Instance | Skipped | Directory:
        data = self.data
        if data[128:_META_AT] == b"DICM":
            return self._with_meta()
        if data[:2] == b"\x02\x00" and data[4:6] in VRS:
            return self._without_preamble()
        if guessed := guess_transfer_syntax(data):
            return self._without_meta(guessed)
        return self._no_dicom(_what_instead(data))

    # ------------------------------------------------------------------ reading on

    def _meta(self, begin: int) -> FileMeta:
        known = self.readers.meta if self.readers is not None and begin == _META_AT else None
        while True:
            meta = known.read(self.data) if known is not None else read_meta(self.data, begin=begin)
            if isinstance(meta, FileMeta):
                return meta
            self._read_on(meta.need)

    def _head(self, offset: int, transfer_syntax: str) -> Head:
        """Return the head of the data set at `offset` with all that is wanted. Raises HeadError."""
        while True:
            is_whole = len(self.data) >= self.size
            data = self.data[offset:]
            if self.readers is not None:
                head = self.readers.head.read(data, transfer_syntax, complete=is_whole)
            else:
                head = read_head(data, transfer_syntax, _WANTED, complete=is_whole)
            if not head.need:
                return head
            self._read_on(offset + head.need)

    def _read_on(self, need: int) -> None:
        known = len(self.data)
        wanted = min(max(need, 8 * known), _HEAD_LIMIT)
        more = os.pread(self.file, wanted - known, known) if known < wanted else b""
        if not more:
            raise HeadError("the file ends, or goes on too long, before its UIDs")
        self.data += more

    def _ending(self, offset: int, transfer_syntax: str) -> Ending:
        return ending(self.file, self.data, self.size, offset, transfer_syntax)

    # ------------------------------------------------------------------ the three ways to begin

    def _with_meta(self) -> Instance | Skipped | Directory:
        try:
            meta = self._meta(_META_AT)
        except HeadError as error:
            return broken(self.path, str(error))
        return self._described(meta, "")

    def _without_preamble(self) -> Instance | Skipped | Directory:
        try:
            meta = self._meta(0)
        except HeadError:
            return self._no_dicom(_what_instead(self.data))
        if not is_uid(meta.transfer_syntax):
            return self._no_dicom(_what_instead(self.data))
        return self._described(meta, "it has no preamble and no `DICM` before its file meta")

    def _without_meta(self, guessed: str) -> Instance | Skipped:
        """Judge a bare data set: taken for one only if both its UIDs stand where they should."""
        values = self._uids_at(0, guessed)
        if not values:
            return self._no_dicom(_what_instead(self.data))
        told = f"it has no file meta; its data set is {_ENCODINGS[guessed]}"
        return self._sendable(FileMeta(guessed, "", "", 0), values, "", told)

    # ------------------------------------------------------------------ the data set

    def _described(self, meta: FileMeta, remark: str) -> Instance | Skipped | Directory:
        """Judge a file with file meta by its data set."""
        if meta.media_storage_sop_class == _DIRECTORY:
            return Directory(self.path, self.size, meta.offset, meta.transfer_syntax)
        head, reason = None, "its file meta has no transfer syntax"
        if is_uid(meta.transfer_syntax):
            try:
                head = self._head(meta.offset, meta.transfer_syntax)
            except HeadError as error:
                reason = str(error)
        if head is not None and not head.absent:
            return self._sendable(meta, head.values, _and(remark, *_differences(meta, head.values)))
        # Bytes in another encoding may look like a data set without these UIDs.
        actual = guess_transfer_syntax(self.data[meta.offset : meta.offset + 6])
        if (
            actual
            and not _is_same_encoding(actual, meta.transfer_syntax)
            and (values := self._uids_at(meta.offset, actual))
        ):
            return self._contradicting(meta, actual, values, remark)
        if head is not None:
            return self._lacking_uids(meta, head.values, remark)
        return self._odd(meta, reason, remark)

    def _uids_at(self, offset: int, transfer_syntax: str) -> Mapping[int, str]:
        """Return both UIDs of a data set that is in `transfer_syntax` beyond doubt, else nothing."""
        try:
            values = self._head(offset, transfer_syntax).values
        except HeadError:
            return {}
        return values if all(is_uid(values.get(tag, "")) for tag in _WANTED) else {}

    def _contradicting(
        self, meta: FileMeta, actual: str, values: Mapping[int, str], remark: str
    ) -> Instance | Skipped:
        """Judge a data set that is beyond doubt encoded otherwise than its file meta says."""
        stated, remark = meta.transfer_syntax, _and(remark, *_differences(meta, values))
        is_stated = is_uid(stated)
        if is_stated and not syntax_of(stated).known:  # a private one may be anything
            return self._sendable(meta, values, remark)
        says = f"says {_ENCODINGS.get(stated, stated)}" if is_stated else "has no transfer syntax"
        told = f"its file meta {says}; its data set is {_ENCODINGS[actual]}"
        # Of pixels that are said to be big endian among elements that are not, nobody knows which they are.
        is_order_in_doubt = is_stated and (stated == EXPLICIT_BIG) != (actual == EXPLICIT_BIG)
        if is_order_in_doubt or (is_stated and stated not in _ENCODINGS):
            return wrongly_encoded(self.path, told)
        return self._sendable(meta._replace(transfer_syntax=actual), values, remark, told)

    def _lacking_uids(self, meta: FileMeta, values: Mapping[int, str], remark: str) -> Instance | Skipped:
        """Judge a data set without one of its UIDs: the file meta's stand in, if it is a data set at all."""
        syntax = meta.transfer_syntax
        found = self._sendable(meta, values, _and(remark, *_differences(meta, values)))
        if values or isinstance(found, Skipped) or not syntax_of(syntax).known:
            return found
        if self._ending(meta.offset, syntax).is_sound:
            return found
        return broken(self.path, "its data set has no UIDs, and does not go to its end as its file meta says")

    def _odd(self, meta: FileMeta, reason: str, remark: str) -> Instance | Skipped:
        """Judge a data set that is not quite what the standard wants."""
        stated = syntax_of(meta.transfer_syntax)
        values: Mapping[int, str] = {}
        is_as_stated = False
        if is_uid(meta.transfer_syntax) and not stated.deflated:
            with contextlib.suppress(HeadError):
                self._read_on(_HEAD_LIMIT)
            data = self.data[meta.offset :]
            values, is_as_stated = find_odd_head(data, meta.transfer_syntax, _WANTED, SOP_INSTANCE)
        if not values:
            # Cut off in its UIDs, maybe.
            lacks = self._ending(meta.offset, meta.transfer_syntax).lacks
            return truncated(self.path, lacks) if lacks else broken(self.path, reason)
        if not is_as_stated and stated.known:
            return wrongly_encoded(self.path, f"its file meta says {meta.transfer_syntax}; {reason}")
        return self._sendable(meta, values, _and(remark, reason, *_differences(meta, values)))

    def _sendable(
        self, meta: FileMeta, values: Mapping[int, str], remark: str, told: str = ""
    ) -> Instance | Skipped:
        """Judge by its UIDs and its end a data set in the transfer syntax of `meta`.

        `told` says how that is known, where the file itself does not say so.
        """
        sop_class = values.get(SOP_CLASS) or meta.media_storage_sop_class
        sop_instance = values.get(SOP_INSTANCE) or meta.media_storage_sop_instance
        if sop_class == _DIRECTORY:
            return not_dicom(self.path, "it is a DICOMDIR", expected=False)
        how = self._ending(meta.offset, meta.transfer_syntax)
        if how.lacks:
            return truncated(self.path, how.lacks)
        for uid, name in ((sop_class, "SOP Class UID"), (sop_instance, "SOP Instance UID")):
            if not is_uid(uid):
                return broken(self.path, _what_is_wrong(uid, name))
        syntax = syntax_of(meta.transfer_syntax)
        if how.encapsulated is not None and how.encapsulated != syntax.encapsulated and syntax.known:
            pixels = f"its pixel data is {'' if how.encapsulated else 'not '}compressed"
            return wrongly_encoded(self.path, f"{told or f'its file meta says {syntax.uid}'}; {pixels}")
        return Instance(
            self.name,
            self.size,
            meta.offset,
            sop_class,
            sop_instance,
            syntax.uid,
            _and(told, remark),
            self.modified,
        )

    def _no_dicom(self, why: str) -> Skipped:
        # A file that calls itself DICOM is missed, whoever named it.
        expected = self.named or self.path.name.lower().endswith(_DICOM_SUFFIXES)
        return not_dicom(self.path, why, expected=expected)


def _differences(meta: FileMeta, values: Mapping[int, str]) -> list[str]:
    """Return in words where file meta and data set tell different UIDs, or one of them none."""
    told: list[str] = []
    for name, tag, in_meta in (
        ("SOP Instance UID", SOP_INSTANCE, meta.media_storage_sop_instance),
        ("SOP Class UID", SOP_CLASS, meta.media_storage_sop_class),
    ):
        own = values.get(tag, "")
        if own == in_meta:
            continue
        if own and in_meta:
            told.append(f"the file meta has another {name} ({in_meta})")
        else:
            told.append(f"the {'file meta' if own else 'data set'} has no {name}")
    return told


def _and(*remarks: str) -> str:
    return "; ".join(filter(None, remarks))


def _is_same_encoding(actual: str, stated: str) -> bool:
    one, other = syntax_of(actual), syntax_of(stated)
    return is_uid(stated) and one[1:4] == other[1:4]  # implicit, big_endian, deflated


def _what_is_wrong(uid: str, name: str) -> str:
    if not uid:
        return f"it has no {name}"
    if len(uid) > _LONGEST_UID:
        return f"its {name} has {len(uid)} characters, more than {_LONGEST_UID}"
    return f"its {name} is not valid (`{uid}`)"


def _what_instead(data: bytes) -> str:
    if not data:
        return "it is empty"
    if b"-----BEGIN " in data:
        return "it is a PEM file"
    return "it has no `DICM` after 128 bytes, and does not begin as a data set"
