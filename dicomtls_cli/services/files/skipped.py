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

    @property
    def is_stored(self) -> bool:
        """False, as for any outcome that is none."""
        return False


def shown(path: Path | str) -> str:
    """Return `path` for a message, with a beginning that leaves room for the reason."""
    text = str(path)
    return text if len(text) <= _ROOM else f"{text[: _ROOM - 1]}…"


def not_dicom(path: Path, why: str, *, expected: bool) -> Skipped:
    """Return that `path` is no DICOM instance."""
    return _skipped(
        path,
        f"`{shown(path)}` is not a DICOM file: {why}",
        "name DICOM files, or folders of them",
        "input.not-dicom",
        expected=expected,
    )


def hidden(path: Path, *, expected: bool) -> Skipped:
    """Return that `path`, in a folder, begins with a dot."""
    return _skipped(
        path,
        f"`{shown(path)}` is hidden, and not looked at",
        "name it if it is to be sent; without `--strict-files` it is passed over",
        "input.hidden",
        expected=expected,
    )


def unreadable(path: Path, error: OSError | ValueError) -> Skipped:
    """Return that the system does not give `path` to us."""
    reason = error.strerror if isinstance(error, OSError) else error
    return _skipped(
        path, f"cannot read `{shown(path)}`: {reason}", "check the path and its rights", "input.unreadable"
    )


def broken(path: Path, why: str) -> Skipped:
    """Return that `path` is DICOM, and cannot be read."""
    return _skipped(
        path,
        f"`{shown(path)}` is a broken DICOM file: {why}",
        "write it anew from its source; `dcmdump` shows how far it can be read",
        "input.broken-dicom",
    )


def truncated(path: Path, lacks: str) -> Skipped:
    """Return that `path` lacks its end."""
    return _skipped(
        path,
        f"`{shown(path)}` is a DICOM file without its end: {lacks}",
        "get it again from its source; sent as it is, the archive would hold an incomplete image",
        "input.truncated",
    )


def wrongly_encoded(path: Path, why: str) -> Skipped:
    """Return that there is no transfer syntax that is true of `path`."""
    return _skipped(
        path,
        f"no transfer syntax fits `{shown(path)}`: {why}",
        "write it anew from its source; sent as it is, the archive would hold an image that few can read",
        "input.transfer-syntax",
    )


def outside(directory: Path, file_id: str) -> Skipped:
    """Return that the DICOMDIR `directory` lists a file that is not below its folder."""
    return _skipped(
        directory,
        f"`{shown(directory)}` lists `{shown(file_id)}`, which is not inside its folder",
        "a DICOMDIR leads to files below its own folder only; name the file itself if it is to be sent",
        "input.dicomdir",
    )


def broken_directory(directory: Path, why: str) -> Skipped:
    """Return that the DICOMDIR `directory` cannot be read to its end."""
    return _skipped(
        directory,
        f"`{shown(directory)}` is a DICOMDIR that cannot be followed to its end: {why}",
        "name the folders with the images instead; `dcmdump` shows how far it can be read",
        "input.dicomdir",
    )


def _skipped(path: Path, what: str, hint: str, slug: str, *, expected: bool = True) -> Skipped:
    return Skipped(path, InputError(what, hint, slug=slug), expected)
