"""What storing an instance is about: what is known of it, how it is to be stored, what became of it.

`storage` has the way into files, `Ignored` the way to nowhere.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from dicomtls_cli.services.receiving.naming import DEFAULT_LAYOUT, Naming


class UnreadableHead(Exception):
    """The data set is not what its transfer syntax says, or does not hold what names its file."""


class UidMismatch(Exception):
    """The data set has other UIDs than the command it came with."""


class Duplicate(Exception):
    """The instance is there already, and duplicates are refused."""


class OnDuplicate(StrEnum):
    """What becomes of an instance that is there already."""

    OVERWRITE = "overwrite"
    SKIP = "skip"
    SUFFIX = "suffix"
    REFUSE = "refuse"


class StorageOptions(NamedTuple):
    """How instances are stored.

    `fsync` makes each durable against a power failure before it is acknowledged. `file_mode` is set on each
    file whatever the umask, None leaves 0640 to the umask. With less than `min_free` bytes free nothing is
    taken. `digest` computes the SHA-256 of each file.
    """

    naming: Naming = DEFAULT_LAYOUT
    on_duplicate: OnDuplicate = OnDuplicate.OVERWRITE
    fsync: bool = False
    file_mode: int | None = None
    min_free: int = 0
    digest: bool = False


class Identifiers(NamedTuple):
    """What a C-STORE-RQ and its association say about the instance that follows."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    calling_aet: str
    called_aet: str


class Stored(NamedTuple):
    """A received instance; `file` is where it is, None where it was thrown away on purpose.

    `replaced` tells that this instance was there before and gave way, `kept` that it was there and stayed;
    `identical` then whether it had the same data set, byte for byte. `study` is the Study Instance UID as the
    data set has it, at most 64 characters of it; `sha256` the digest of the file, where wanted.
    """

    file: str | None
    length: int
    replaced: bool = False
    identical: bool = False
    kept: bool = False
    study: str = ""
    sha256: str = ""

    @property
    def path(self) -> Path | None:
        """`file` as a path, which most instances are never asked for."""
        return None if self.file is None else Path(self.file)


class Incoming(Protocol):
    """One instance while it comes in: `write` every piece, then `commit` and `finish`; `discard` in any other case."""

    def write(self, piece: memoryview) -> None:
        """Take the next piece of the data set."""

    def commit(self) -> Stored:
        """Make the instance permanent."""

    def discard(self) -> None:
        """Leave no trace of it; harmless after `commit`."""

    def finish(self) -> None:
        """Do what can wait until the peer was answered."""


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

    def finish(self) -> None:
        """Do nothing."""
