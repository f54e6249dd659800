"""The SCU: C-ECHO and C-STORE as functions."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from dicomtls_cli.api.words import at_least, several
from dicomtls_cli.api.words import paths as named
from dicomtls_cli.dimse.command import Priority
from dicomtls_cli.errors import InputError
from dicomtls_cli.services import echo as echoing
from dicomtls_cli.services.echo import EchoResult
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.scan import Instance, Skipped, scan
from dicomtls_cli.services.peer import (
    Peer,
    Requestor,
    Timeouts,
    TlsOptions,
    parse_peer,
    parse_port,
    tls_context,
)
from dicomtls_cli.services.sending import send as sending
from dicomtls_cli.services.sending.outcome import Outcome
from dicomtls_cli.services.sending.sender import Wishes
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.items import UserIdentity
from dicomtls_cli.upperlayer.negotiation import ae_title

_AET = "DICOMTLS"
_TIMEOUTS = Timeouts()


def echo(
    peer: Peer | str,
    *,
    tls: TlsOptions | None,
    calling_aet: str = _AET,
    timeouts: Timeouts = _TIMEOUTS,
    user: UserIdentity | None = None,
) -> EchoResult:
    """Verify `peer` by a C-ECHO (PS3.4 Annex A).

    `peer` is a Peer, or `[AET@]host[:port]` with port 2762 unless given, 11112 without TLS; `user` is made by
    `user_identity`. Raises DicomTlsError with the cause where the peer does not answer with success.
    """
    return echoing.echo(_peer(peer, tls), _requestor(tls, calling_aet, timeouts, user))


def send(
    peer: Peer | str,
    paths: Iterable[Path | str] | Path | str,
    *,
    tls: TlsOptions | None,
    calling_aet: str = _AET,
    timeouts: Timeouts = _TIMEOUTS,
    user: UserIdentity | None = None,
    jobs: int = 1,
    window: int = 1,
    retries: int = 0,
    halt: bool = False,
    transcode: bool = True,
    priority: Priority = Priority.MEDIUM,
    recurse: bool = True,
    patterns: Collection[str] = (),
) -> Iterator[Outcome | Skipped]:
    """Send the DICOM files at `paths` to `peer` by C-STORE (PS3.4 Annex B); yield what became of each.

    `paths` are files, folders (`recurse` descends, `patterns` are names of files to look at) and DICOMDIRs. What
    was named or is broken, and cannot be sent, is yielded as Skipped; other files of a folder are passed over.
    `jobs` associations send at once, each with up to `window` instances on their way. `retries` is how often what
    a lost association left unanswered is sent again; `halt` ends with the first failure; `transcode` lets be
    converted what the peer does not take as it is.

    The files of `tls` are read at once, the connection is made when the first result is asked for; leaving early
    aborts. Raises DicomTlsError where the very first association does not come about, InputError
    (`input.nothing-to-send`) where there is nothing to send.
    """
    at_least(1, jobs=jobs, window=window)
    at_least(0, retries=retries)
    search = _Search(named(paths), recurse, several(patterns), halt)
    wishes = Wishes(priority, halt, window, retries, transcode)
    return search.send(_peer(peer, tls), _requestor(tls, calling_aet, timeouts, user), wishes, jobs)


class _Search:
    """The files of one `send`: those that can be sent, and those that cannot, from the same scan."""

    def __init__(self, paths: Sequence[Path], recurse: bool, patterns: Collection[str], halt: bool) -> None:
        self._read_ahead = ReadAhead()
        self._found = scan(paths, recurse=recurse, patterns=patterns, read_ahead=self._read_ahead)
        self._halt = halt
        self._skipped: deque[Skipped] = deque()
        self._is_empty = True

    def send(
        self, peer: Peer, requestor: Requestor, wishes: Wishes, jobs: int
    ) -> Iterator[Outcome | Skipped]:
        outcomes = sending.send(
            peer, self._instances(), requestor, wishes, jobs=jobs, read_ahead=self._read_ahead
        )
        for outcome in outcomes:
            yield outcome
            yield from self._told()
        yield from self._told()
        if self._is_empty:
            raise InputError(
                "there is no DICOM file to send",
                "name DICOM files, or folders of them",
                slug="input.nothing-to-send",
            )

    def _instances(self) -> Iterator[Instance]:
        """Yield what can be sent; keep what cannot."""
        for found in self._found:
            if not isinstance(found, Skipped):
                self._is_empty = False
                yield found
            elif found.expected:
                self._is_empty = False
                self._skipped.append(found)
                if self._halt:
                    return

    def _told(self) -> Iterator[Skipped]:
        while self._skipped:
            yield self._skipped.popleft()


def _peer(peer: Peer | str, tls: TlsOptions | None) -> Peer:
    """Return `peer` as a value, and checked; raise UsageError."""
    if isinstance(peer, str):
        return parse_peer(peer, aec=None, tls=tls is not None)[0]
    return Peer(peer.host, parse_port(str(peer.port)), ae_title(peer.called_aet))


def _requestor(
    tls: TlsOptions | None, calling_aet: str, timeouts: Timeouts, user: UserIdentity | None
) -> Requestor:
    return Requestor(
        calling_aet=ae_title(calling_aet),
        context=None if tls is None else tls_context(Role.REQUESTOR, tls),
        timeouts=timeouts,
        shows_certificate=tls is not None and tls.cert is not None,
        certificate_file="" if tls is None else tls.certificate_file,
        user=user,
    )
