"""Which files are DICOM instances, and what has to be known of each before it can be sent."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError, InputError
from dicomtls_cli.services.asking import ask_pydicom
from dicomtls_cli.services.head import FileMeta, HeadError, NeedMore, read_head, read_meta, read_odd_head
from dicomtls_cli.services.truncation import what_lacks
from dicomtls_cli.upperlayer.registry import is_uid

SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018
_WANTED = frozenset({SOP_CLASS, SOP_INSTANCE})
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory: a table of contents, never sent
_FIRST_READ = 8 * 1024
_HEAD_LIMIT = 1 << 20  # bytes of a file looked through for its UIDs
_MAGIC_END = 132
# A FIFO without a writer would otherwise be waited for.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Instance(NamedTuple):
    """A DICOM file that can be sent.

    `offset` is where its data set begins and `size` where the file ends, in bytes. The UIDs are the data
    set's; the file meta's stand in where those are missing. `remark` tells of a difference between the two.
    `modified` is when the file was last written, in nanoseconds since 1970.
    """

    path: Path
    size: int
    offset: int
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    remark: str = ""
    modified: int = 0


class Skipped(NamedTuple):
    """A file or folder that is not sent, and why.

    `expected` tells that somebody named this very path, or that it is DICOM and broken: a failure, where
    any other file among the images is just not one.
    """

    path: Path
    error: DicomTlsError
    expected: bool


def scan(paths: Iterable[Path], *, recurse: bool = True) -> Iterator[Instance | Skipped]:
    """Yield what is found at `paths`, folders in the order of their names.

    Hidden files and folders inside folders are passed over; `recurse` descends into folders in folders.
    """
    for path in paths:
        try:
            is_folder = path.is_dir()
        except OSError:  # too long, or behind a folder that is shut: reading it says which
            is_folder = False
        if is_folder:
            yield from _scan_folder(path, recurse)
        else:
            yield read_instance(path, named=True)


def _scan_folder(folder: Path, recurse: bool) -> Iterator[Instance | Skipped]:
    pending: list[os.DirEntry[str] | Path] = [folder]  # no recursion: folders can be deeper than the stack
    while pending:
        found = pending.pop()
        path = Path(found)
        try:
            if isinstance(found, Path) or found.is_dir(follow_symlinks=False):
                # A link to a folder may lead back up: only real folders are descended into.
                if recurse or found is folder:
                    pending += _listed(path)
            elif found.is_file():
                yield read_instance(path)
        except OSError as error:
            yield Skipped(path, _unreadable(path, error), expected=True)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in `folder` and not hidden, the last name first."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name, reverse=True)


def read_instance(path: Path, *, named: bool = False) -> Instance | Skipped:
    """Read what has to be known of the file at `path`; `named` says that somebody named this very file."""
    try:
        file = os.open(path, _READ)
        try:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                return Skipped(path, _not_dicom(path, "it is no regular file"), expected=named)
            data = os.read(file, _FIRST_READ)
            if data[128:_MAGIC_END] != b"DICM":
                return Skipped(path, _not_dicom(path, _what_instead(data)), expected=named)
            found = _read_head(path, file, data, about.st_size)
            return found._replace(modified=about.st_mtime_ns) if isinstance(found, Instance) else found
        finally:
            os.close(file)
    except (OSError, ValueError) as error:  # ValueError: an embedded NUL
        return Skipped(path, _unreadable(path, error), expected=True)


def _read_head(path: Path, file: int, data: bytes, size: int) -> Instance | Skipped:
    meta: FileMeta | NeedMore = NeedMore(0)
    while True:
        try:
            meta = read_meta(data)
            if isinstance(meta, NeedMore):
                need = meta.need
            else:
                head = read_head(
                    data[meta.offset :], meta.transfer_syntax, _WANTED, complete=len(data) >= size
                )
                if not head.need:
                    lacking = what_lacks(file, data, size, meta.offset, meta.transfer_syntax)
                    return _truncated(path, lacking) if lacking else _instance(path, size, meta, head.values)
                need = meta.offset + head.need
        except HeadError as error:
            if isinstance(meta, FileMeta):
                # pydicom would make do with half a UID.
                lacking = what_lacks(file, data, size, meta.offset, meta.transfer_syntax)
                if lacking:
                    return _truncated(path, lacking)
            return _read_oddity(path, size, meta, str(error))
        if len(data) >= min(size, _HEAD_LIMIT):
            return _read_oddity(path, size, meta, "the file ends, or goes on too long, before its UIDs")
        wanted = min(max(need, 8 * len(data)), _HEAD_LIMIT)
        more = os.pread(file, wanted - len(data), len(data))
        if not more:
            return _read_oddity(path, size, meta, "the file ends before its UIDs")
        data += more


def _instance(path: Path, size: int, meta: FileMeta, values: Mapping[int, str]) -> Instance | Skipped:
    own_class, own_instance = values.get(SOP_CLASS, ""), values.get(SOP_INSTANCE, "")
    sop_class = own_class or meta.media_storage_sop_class
    sop_instance = own_instance or meta.media_storage_sop_instance
    if sop_class == _DIRECTORY:
        return Skipped(path, _not_dicom(path, "it is a DICOMDIR"), expected=False)
    for uid, name in ((sop_class, "SOP Class UID"), (sop_instance, "SOP Instance UID")):
        if not is_uid(uid):
            return Skipped(path, _broken(path, f"it has no valid {name} (`{uid}`)"), expected=True)
    if not is_uid(meta.transfer_syntax):
        return Skipped(path, _broken(path, "its file meta has no transfer syntax"), expected=True)
    remark = ""
    if meta.media_storage_sop_instance not in ("", sop_instance):
        remark = f"the file meta has another SOP Instance UID ({meta.media_storage_sop_instance})"
    elif meta.media_storage_sop_class not in ("", sop_class):
        remark = f"the file meta has another SOP Class UID ({meta.media_storage_sop_class})"
    return Instance(path, size, meta.offset, sop_class, sop_instance, meta.transfer_syntax, remark)


def _read_oddity(path: Path, size: int, meta: FileMeta | NeedMore, reason: str) -> Instance | Skipped:
    """Find the UIDs of a file that is not as its meta says: pydicom knows more ways to be broken than we."""
    if isinstance(meta, NeedMore):
        return Skipped(path, _broken(path, reason), expected=True)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_LIMIT)  # what a length in it says is not followed any further
        values = read_odd_head(head[meta.offset :], _WANTED, SOP_INSTANCE)
        values = values or ask_pydicom(BytesIO(head), _WANTED, meta.transfer_syntax)
    except HeadError as error:
        return Skipped(path, _broken(path, f"{reason}; {error}"), expected=True)
    if SOP_INSTANCE not in values:  # pydicom makes something of any bytes
        return Skipped(path, _broken(path, reason), expected=True)
    return _instance(path, size, meta, values)


def _what_instead(data: bytes) -> str:
    if not data:
        return "it is empty"
    if b"-----BEGIN " in data:
        return "it is a PEM file"
    return "it has no `DICM` after 128 bytes"


def _not_dicom(path: Path, why: str) -> DicomTlsError:
    return InputError(
        f"`{path}` is not a DICOM file: {why}", "name DICOM files, or folders of them", slug="input.not-dicom"
    )


def _broken(path: Path, why: str) -> DicomTlsError:
    return InputError(
        f"`{path}` is a broken DICOM file: {why}",
        "write it anew from its source; `dcmdump` shows how far it can be read",
        slug="input.broken-dicom",
    )


def _truncated(path: Path, lacking: str) -> Skipped:
    error = InputError(
        f"`{path}` is a DICOM file without its end: {lacking}",
        "get it again from its source; sent as it is, the archive would hold an incomplete image",
        slug="input.truncated",
    )
    return Skipped(path, error, expected=True)


def _unreadable(path: Path, error: OSError | ValueError) -> DicomTlsError:
    reason = error.strerror if isinstance(error, OSError) else error
    return InputError(
        f"cannot read `{path}`: {reason}", "check the path and its rights", slug="input.unreadable"
    )
