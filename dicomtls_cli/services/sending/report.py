"""The report of a sending: what became of every instance, a JSON line each, and going on from it (docs/report.md).

Lines are written unbuffered as the instances get their final outcome: a run that was killed leaves whole ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

from dicomtls_cli import __version__
from dicomtls_cli.dimse.status import StatusClass, classify
from dicomtls_cli.errors import DicomTlsError, InputError, OutputError, error_record
from dicomtls_cli.pki.files import check_targets, open_regular
from dicomtls_cli.services.files.scan import Instance, Skipped
from dicomtls_cli.services.peer import Peer
from dicomtls_cli.services.sending.send import Outcome

try:
    import fcntl
except ImportError:  # Windows has no flock: there, two runs may write the same report
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("dicomtls.association")

VERSION = 1
"""Of the format; a reader refuses a higher one."""

STORED, WARNED, FAILED, ALREADY_STORED = "stored", "warned", "failed", "already_stored"

_BEFORE = ("path", "size", "mtime", "sop_class", "sop_instance", "transfer_syntax", "remark")
_MARK = "dicomtls_report"  # the key that makes a line a header; its value is the version
_LINE_LIMIT = 1 << 20  # bytes; a path of 4096 bytes takes at most 24 KB of it
_NANO = 10**9
_APPEND = os.O_APPEND | getattr(os, "O_BINARY", 0)
_encode = json.JSONEncoder().encode  # ASCII: what is no UTF-8 in a path comes back as it was


# ---------------------------------------------------------------------- records


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return what became of an instance that was sent, or was to be, as JSON has it."""
    word = FAILED if outcome.error is not None else WARNED if outcome.is_warning else STORED
    record = _record(
        outcome.instance.file, outcome.instance, word, outcome.error, outcome.status, outcome.length, outcome.seconds
    )  # fmt: skip
    if outcome.transfer_syntax:
        record["transfer_syntax"] = outcome.transfer_syntax
    return record


def skipped_record(skipped: Skipped) -> dict[str, Any]:
    """Return what a file failed of before it could be sent; what was not found out of it is null."""
    return _record(str(skipped.path), None, FAILED, skipped.error)


def already_stored_record(instance: Instance) -> dict[str, Any]:
    """Return what a new report says of an instance that an earlier one says is stored."""
    return _record(instance.file, instance, ALREADY_STORED)


def planned_record(instance: Instance) -> dict[str, Any]:
    """Return what is known of an instance before it is sent, as JSON has it."""
    record = _record(instance.file, instance, "")
    return {name: record[name] for name in _BEFORE}


def _record(
    path: str,
    instance: Instance | None,
    word: str,
    error: DicomTlsError | None = None,
    status: int | None = None,
    length: int = 0,
    seconds: float = 0.0,
) -> dict[str, Any]:
    return {
        "path": path,
        "size": instance and instance.size,
        "mtime": instance and _mtime(instance.modified),
        "sop_class": instance and instance.sop_class,
        "sop_instance": instance and instance.sop_instance,
        "transfer_syntax": instance and instance.transfer_syntax,
        "remark": instance and (instance.remark or None),
        "outcome": word,
        "status": None if status is None else f"{status:04X}",
        "bytes": length,
        "seconds": round(seconds, 6),
        "error": error and error_record(error),
    }


def _mtime(nanoseconds: int) -> str:
    # Text, as `stat -c %.9Y` prints it: most JSON readers make a float of any number, and lose its end.
    return f"{nanoseconds // _NANO}.{nanoseconds % _NANO:09d}"


# ---------------------------------------------------------------------- reading


class StoredBefore:
    """The instances that a report says are stored, with a success or a warning: asked by `in`.

    An instance whose file was changed since (size or time) is not in it. Some 150 bytes an instance.
    """

    def __init__(self) -> None:
        self.end = 0  # offset behind the last whole line, in bytes
        self._keys: set[bytes] = set()
        self._here = _here()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, instance: Instance) -> bool:
        path = _absolute(instance.file, self._here)
        return _key(path, instance.size, _mtime(instance.modified), instance.sop_instance) in self._keys

    def add(self, record: dict[str, Any]) -> None:
        """Take in a line of a report."""
        if _says_stored(record):
            self._keys.add(_key(*(record.get(name) for name in ("path", "size", "mtime", "sop_instance"))))


def read_report(path: Path, peer: Peer) -> StoredBefore:
    """Return what the report `path` says is stored at `peer`. A torn last line is passed over.

    Raises InputError: what is no file that can be read, no report, or the report of another peer.
    """
    found = StoredBefore()
    unreadable = 0
    with open_regular(path, "report") as file:
        if _marked(_parse(file.readline(_LINE_LIMIT))) is None:
            raise _not_a_report(path, "it does not begin as one")
        file.seek(0)
        offset = 0
        while line := file.readline(_LINE_LIMIT):
            offset += len(line)
            is_whole = line.endswith(b"\n")
            record = _parse(line)
            if not is_whole and len(line) == _LINE_LIMIT:
                raise _not_a_report(path, f"a line in it has more than {_LINE_LIMIT} bytes")
            if is_whole or record is not None:
                found.end = offset
            if _marked(record) is not None:
                _check_header(path, record or {}, peer)
            elif record is not None and "outcome" in record:
                found.add(record)
            elif is_whole:
                unreadable += 1
    if unreadable:
        logger.warning("`%s`: %d lines tell nothing; what they were about is sent again", path, unreadable)
    return found


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _marked(record: dict[str, Any] | None) -> object:
    return None if record is None else record.get(_MARK)


def _check_header(path: Path, header: dict[str, Any], peer: Peer) -> None:
    """Check one of the headers: each run that went on with the report wrote its own."""
    if header[_MARK] != VERSION:
        raise _not_a_report(path, f"its format {header[_MARK]!r} is not known here, but {VERSION} is")
    if (header.get("peer"), header.get("called_aet")) != (str(peer), peer.called_aet):
        raise InputError(
            f"`{path}` is the report of a sending to `{header.get('called_aet')}@{header.get('peer')}`, "
            f"not to `{peer.called_aet}@{peer}`",
            "name the peer as it stands there, or leave `--resume` out to send everything",
            slug="input.report-of-another-peer",
        )


def _says_stored(record: dict[str, Any]) -> bool:
    if record["outcome"] == ALREADY_STORED:
        return True
    try:
        status = classify(int(record["status"], 16))
    except (KeyError, TypeError, ValueError):
        return False
    return record["outcome"] in (STORED, WARNED) and status in (StatusClass.SUCCESS, StatusClass.WARNING)


def _key(*facts: object) -> bytes:
    """Return 16 bytes that stand for the facts about a file: a set of these is small."""
    text = "\0".join(map(str, facts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed: nothing is found from here anyhow
        return ""


def _absolute(path: str, here: str) -> str:
    """Return `path` from the root, so that a report means the same from every folder; links stay as named."""
    # A Path of each would cost ten times as much.
    return path if os.path.isabs(path) else f"{here.rstrip('/')}/{path}"  # noqa: PTH117


def _not_a_report(path: Path, why: str) -> InputError:
    return InputError(
        f"`{path}` is no report of storescu that can be gone on from: {why}",
        "name a file that `--report` wrote, or leave `--resume` out to send everything",
        slug="input.not-report",
    )


# ---------------------------------------------------------------------- writing


class Report:
    """A report that is being written; `open_reports` makes one.

    A line that finds no room does not stop the sending: `failure` is the first error, `lost` the number of
    instances that are missing in the report. `continues` tells that it goes on with an earlier one.
    """

    def __init__(
        self,
        path: Path,
        descriptor: int,
        peer: Peer,
        *,
        is_new: bool = False,
        continues: bool = False,
        break_first: bool = False,
    ) -> None:
        self.failure: OutputError | None = None
        self.lost = 0
        self.continues = continues
        self._path = path
        self._descriptor: int | None = descriptor
        self._here = _here()
        self._is_empty = is_new
        # Until there is room for it, every line tries to bring the header along.
        self._due = b"\n" * break_first + _header(peer)
        self._append(b"")

    def write(self, record: dict[str, Any]) -> None:
        """Write the record of an instance; its path is written from the root."""
        path = _absolute(record["path"], self._here)
        line = _encode(record if path is record["path"] else {**record, "path": path})
        if self._append(line.encode() + b"\n"):
            self._is_empty = False
        else:
            self.lost += 1

    def close(self) -> None:
        """Close it; a new one in which no instance stands is removed. Harmless when done again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if self._is_empty:
            with contextlib.suppress(OSError):
                self._path.unlink()
        try:
            os.close(descriptor)
        except OSError as error:  # network file systems tell of a full disk here
            self._note(error)

    def _append(self, line: bytes) -> bool:
        """Write `line` whole or not at all; tell whether it was."""
        assert self._descriptor is not None
        data, done = self._due + line, 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError as error:
            if done:
                with contextlib.suppress(OSError):  # a pipe takes nothing back
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - done)
            self._note(error)
            return False
        self._due = b""
        return True

    def _note(self, error: OSError) -> None:
        self.failure = self.failure or OutputError(
            f"cannot write the report `{self._path}`: {error.strerror}; the sending goes on without it",
            "make room, then go on with `--resume`: what the report lacks is sent again",
            slug="output.report-incomplete",
        )


def open_reports(
    report: Path | None, resume: Path | None, peer: Peer
) -> tuple[Report | None, StoredBefore | None]:
    """Open the report to write and read the one to go on from, where they are wanted; they may be the same.

    Raises InputError as `read_report` does, OutputError as `check_report` does.
    """
    if report is not None and resume is not None and _is_same(report, resume):
        return _continued(report, peer)
    before = None if resume is None else read_report(resume, peer)
    return None if report is None else _created(report, peer), before


def check_report(report: Path, resume: Path | None = None) -> None:
    """Check that `report` can be written, without doing so.

    Raises OutputError for a file that exists, unless it is also `resume`, and for a place that is none.
    Devices and pipes are written to as they are.
    """
    if _is_stream(report) or (resume is not None and _is_same(report, resume)):
        return
    check_targets([report], force=True)
    if os.path.lexists(report):
        raise _exists(report)


def _created(path: Path, peer: Peer) -> Report:
    check_report(path)
    is_new = not _is_stream(path)
    # A pipe nobody reads is refused, not waited for. Paths may hold the names of patients: 0600.
    kind = os.O_CREAT | os.O_EXCL if is_new else getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, kind | os.O_WRONLY | _APPEND, 0o600)
    except FileExistsError:
        raise _exists(path) from None
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from error
    if is_new:
        _lock(descriptor, path)
    else:
        os.set_blocking(descriptor, True)
    return Report(path, descriptor, peer, is_new=is_new)


def _continued(path: Path, peer: Peer) -> tuple[Report, StoredBefore]:
    try:
        descriptor = os.open(path, os.O_RDWR | _APPEND | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        read_report(path, peer)  # says what is wrong with it
        raise _cannot_open(path, error) from error
    try:
        _lock(descriptor, path)  # first: nobody else adds to what is read now
        before = read_report(path, peer)
        os.ftruncate(descriptor, before.end)  # what a killed run left of a line
        break_first = os.pread(descriptor, 1, before.end - 1) != b"\n"
        return Report(path, descriptor, peer, continues=True, break_first=break_first), before
    except OSError as error:
        os.close(descriptor)
        raise _cannot_open(path, error) from error
    except BaseException:
        os.close(descriptor)
        raise


def _header(peer: Peer) -> bytes:
    record = {
        _MARK: VERSION,
        "peer": str(peer),
        "called_aet": peer.called_aet,
        "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "program": f"dicomtls {__version__}",
    }
    return _encode(record).encode() + b"\n"


def _lock(descriptor: int, path: Path) -> None:
    """Keep a second run from writing into the same report: each would send what the other does."""
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"another run writes the report `{path}` at this moment",
            "wait until it has ended, or name another file",
            slug="output.report-busy",
        ) from None
    except OSError:  # not every file system knows locks
        pass


def _is_same(one: Path, other: Path) -> bool:
    if one.absolute() == other.absolute():
        return True
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def _is_stream(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _exists(path: Path) -> OutputError:
    return OutputError(
        f"the report `{path}` exists already",
        "go on from it with `--resume` and `--report` naming it both, or name a new file",
        slug="output.exists",
    )


def _cannot_open(path: Path, error: OSError | ValueError) -> DicomTlsError:
    reason = error.strerror if isinstance(error, OSError) else error
    return OutputError(
        f"cannot write the report `{path}`: {reason}",
        "name a file in a folder you may write to",
        slug="output.report",
    )
