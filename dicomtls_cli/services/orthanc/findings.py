"""What a check of Orthanc's configuration finds, and since when Orthanc knows what."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import UsageError

Version = tuple[int, int, int]

SINCE: dict[str, Version] = {
    "DicomTlsEnabled": (1, 9, 0),
    "DicomTlsCertificate": (1, 9, 0),
    "DicomTlsPrivateKey": (1, 9, 0),
    "DicomTlsTrustedCertificates": (1, 9, 0),
    "UseDicomTls": (1, 9, 0),
    "DicomTlsRemoteCertificateRequired": (1, 9, 3),
    "DicomTlsMinimumProtocolVersion": (1, 12, 4),
    "DicomTlsCiphersAccepted": (1, 12, 4),
}
"""The version of Orthanc that first knew an option; older ones pass over it in silence."""

IGNORES: Version = (1, 12, 4)
"""Since then `DicomTlsRemoteCertificateRequired: false` asks nobody for a certificate."""


class When(Enum):
    """When a fault shows; the value is its word in JSON."""

    START = "start"
    PEER = "peer"
    NOTE = "note"

    @property
    def words(self) -> str:
        """What a line about it begins with."""
        return _WHEN_WORDS[self]


_WHEN_WORDS = {
    When.START: "will not start",
    When.PEER: "will fail with a peer",
    When.NOTE: "note",
}


class Finding(NamedTuple):
    """One fault: when it shows, a stable `code`, what it is and does, what to do, and `FILE:LINE` if it has one."""

    when: When
    code: str
    text: str
    fix: str
    where: str = ""


def parse_version(text: str) -> Version:
    """Parse a version of Orthanc, `1.12.4` or `1.12`; raise UsageError."""
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", text, re.ASCII)
    if not found:
        raise UsageError(
            f"`{text}` is not a version of Orthanc",
            "write it as `1.12.4`; `Orthanc --version` shows it",
            slug="usage.orthanc-version",
        )
    return int(found[1]), int(found[2]), int(found[3] or 0)


def version_text(version: Version) -> str:
    """Return a version as people write it."""
    return ".".join(map(str, version))


def absolute(path: Path) -> Path:
    """Return `path` from the root, without `..`; if it is a symbolic link it stays one, which may be moved on."""
    return path.parent.resolve() / path.name if ".." in path.parts else path.absolute()
