"""What can go wrong, in words, with the exit code a script can rely on."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """The exit codes of every command (docs/exit-codes.md); they are API."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    INPUT = 3
    CANNOT_WRITE = 4
    CANNOT_LISTEN = 5
    UNREACHABLE = 10
    PEER_UNTRUSTED = 11
    REFUSED_BY_PEER = 12
    NO_COMMON_TLS = 13
    REJECTED = 20
    ABORTED = 21
    NO_CONTEXT = 22
    STATUS = 30
    PARTIAL = 31
    FINDING = 40
    INTERRUPTED = 130
    KILLED = 143


def printable(text: str, limit: int = 500) -> str:
    """Return `text` with every character a terminal or log could act upon escaped.

    `text` may come from a peer or from a file name. The result holds no control, format, surrogate or
    line-separating character and at most `limit` characters.
    """
    shown = text
    if not text.isprintable():
        shown = "".join(
            c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
        )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class DicomTlsError(Exception):
    """A failure that a person can act on.

    `message` says what failed and names the host or file, `hint` says what to do about it (may be empty),
    `slug` is the stable name of the cause (a heading of docs/troubleshooting.md), `exit_code` what the
    command ends with. Peer and file names inside the texts are made printable here, once for all.
    """

    exit_code = ExitCode.UNEXPECTED

    def __init__(self, message: str, hint: str = "", *, slug: str, exit_code: ExitCode | None = None) -> None:
        self.message = printable(message)
        self.hint = printable(hint)
        self.slug = slug
        if exit_code is not None:
            self.exit_code = exit_code
        super().__init__(self.message)


def error_record(error: DicomTlsError) -> dict[str, Any]:
    """Return `error` as JSON output and reports have it."""
    return {"code": error.slug, "exit": int(error.exit_code), "message": error.message, "hint": error.hint}


class UsageError(DicomTlsError):
    """What was asked for makes no sense."""

    exit_code = ExitCode.USAGE


class InputError(DicomTlsError):
    """A certificate, key, DICOM file or configuration cannot be read or is not valid."""

    exit_code = ExitCode.INPUT


class OutputError(DicomTlsError):
    """Something cannot be written, or would be overwritten."""

    exit_code = ExitCode.CANNOT_WRITE


class ConnectionFailed(DicomTlsError):
    """No usable association came about; the exit code tells the stage."""

    exit_code = ExitCode.UNREACHABLE


class AssociationLost(DicomTlsError):
    """An association was aborted, broke, timed out or was used against PS3.8."""

    exit_code = ExitCode.ABORTED


class ProtocolError(AssociationLost):
    """The peer sent what PS3.7 or PS3.8 does not allow.

    `abort_reason` is the reason of the A-ABORT (source 2, service provider) that answers it, PS3.8 9.3.8.
    """

    def __init__(self, message: str, *, abort_reason: int = 0) -> None:
        super().__init__(
            message,
            "the peer is not speaking DICOM as PS3.8 describes it; check that host and port are a DICOM peer's",
            slug="association.protocol-error",
        )
        self.abort_reason = abort_reason
