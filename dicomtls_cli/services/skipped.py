"""Why a file is not sent: one function for each reason, with its words."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError, InputError

_ROOM = 300  # characters of a path in a message: the reason behind it has to be seen


class Skipped(NamedTuple):
    """A file or folder that is not sent, and why.

    `expected` tells that somebody named this very path, or that it is DICOM and broken: a failure, where
    any other file among the images is just not one.
    """

    path: Path
    error: DicomTlsError
    expected: bool


def shown(path: Path | str) -> str:
    """Return `path` for a message, with a beginning that leaves room for the reason."""
    text = str(path)
    return text if len(text) <= _ROOM else f"{text[: _ROOM - 1]}…"


def not_dicom(path: Path, why: str, *, expected: bool) -> Skipped:
    """Return that `path` is no DICOM instance."""
    error = InputError(
        f"`{shown(path)}` is not a DICOM file: {why}",
        "name DICOM files, or folders of them",
        slug="input.not-dicom",
    )
    return Skipped(path, error, expected)


def hidden(path: Path, *, expected: bool) -> Skipped:
    """Return that `path`, in a folder, begins with a dot."""
    error = InputError(
        f"`{shown(path)}` is hidden, and not looked at",
        "name it if it is to be sent; without `--strict-files` it is passed over",
        slug="input.hidden",
    )
    return Skipped(path, error, expected)


def unreadable(path: Path, error: OSError | ValueError) -> Skipped:
    """Return that the system does not give `path` to us."""
    reason = error.strerror if isinstance(error, OSError) else error
    told = InputError(
        f"cannot read `{shown(path)}`: {reason}", "check the path and its rights", slug="input.unreadable"
    )
    return Skipped(path, told, expected=True)


def broken(path: Path, why: str) -> Skipped:
    """Return that `path` is DICOM, and cannot be read."""
    error = InputError(
        f"`{shown(path)}` is a broken DICOM file: {why}",
        "write it anew from its source; `dcmdump` shows how far it can be read",
        slug="input.broken-dicom",
    )
    return Skipped(path, error, expected=True)


def truncated(path: Path, lacks: str) -> Skipped:
    """Return that `path` lacks its end."""
    error = InputError(
        f"`{shown(path)}` is a DICOM file without its end: {lacks}",
        "get it again from its source; sent as it is, the archive would hold an incomplete image",
        slug="input.truncated",
    )
    return Skipped(path, error, expected=True)


def wrongly_encoded(path: Path, why: str) -> Skipped:
    """Return that there is no transfer syntax that is true of `path`."""
    error = InputError(
        f"no transfer syntax fits `{shown(path)}`: {why}",
        "write it anew from its source; sent as it is, the archive would hold an image that few can read",
        slug="input.transfer-syntax",
    )
    return Skipped(path, error, expected=True)
