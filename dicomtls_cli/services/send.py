"""C-STORE as a service class user (PS3.4 Annex B, PS3.7 9.1.1): many files, few associations, no surprise."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain
from typing import IO, NamedTuple

from dicomtls_cli.dimse.command import Command, Priority, encode, next_message_id, store_request
from dicomtls_cli.dimse.status import StatusClass, classify, words
from dicomtls_cli.errors import AssociationLost, DicomTlsError, ExitCode, InputError
from dicomtls_cli.services.agenda import Agenda, proposal
from dicomtls_cli.services.connect import associate
from dicomtls_cli.services.diagnose import Stage, diagnose
from dicomtls_cli.services.echo import expect_response
from dicomtls_cli.services.modality import modality
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.services.scan import Instance
from dicomtls_cli.services.syntax import transfer_syntax
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.negotiation import Proposal, propose, refused_contexts

logger = logging.getLogger("dicomtls.association")

_FRUITLESS = 2  # associations in a row that stored nothing: the peer is at fault, not a file


class Outcome(NamedTuple):
    """What became of one instance.

    `status` is the peer's C-STORE status, None where it gave none; `error` says what went wrong and is None
    for success and warnings; `seconds` is the time from the request to its response, `length` the number of
    bytes of the data set.
    """

    instance: Instance
    status: int | None
    error: DicomTlsError | None
    seconds: float
    length: int

    @property
    def is_stored(self) -> bool:
        """Whether the peer said that it stored the instance, were it with a warning."""
        return self.error is None

    @property
    def is_warning(self) -> bool:
        """Whether the peer stored the instance with a warning."""
        return self.is_stored and self.status != 0


def send(
    peer: Peer,
    instances: Iterable[Instance],
    requestor: Requestor,
    *,
    priority: Priority = Priority.MEDIUM,
    halt: bool = False,
) -> Iterator[Outcome]:
    """Send `instances` to `peer` and yield what became of each, in the order they are sent.

    Each is proposed exactly as it is stored; more than 128 presentation contexts take further associations.
    `instances` may still be looked for while the first are sent. After a lost association the rest goes over
    a new one, unless two in a row stored nothing. `halt` ends with the first failure; what was not tried is
    then not yielded. Raises DicomTlsError when the very first association does not come about.
    """
    sender = _Sender(peer, requestor, priority, Agenda(instances))
    try:
        for outcome in sender.outcomes():
            yield outcome
            if halt and not outcome.is_stored:
                break
        sender.close()
    finally:
        sender.abandon()


class _Staged(NamedTuple):
    """An instance that is laid out on an association: its file, the bytes of its data set, its message id."""

    file: IO[bytes]
    length: int
    message_id: int


class _Sender:
    """The associations of one `send`, one after the other."""

    def __init__(self, peer: Peer, requestor: Requestor, priority: Priority, agenda: Agenda) -> None:
        self.peer = peer
        self.requestor = requestor
        self.priority = priority
        self.agenda = agenda
        self.association: Association | None = None
        self.context_ids: dict[Proposal, int] = {}
        self.refused: dict[Proposal, str] = {}
        self.proposed: frozenset[Proposal] = frozenset()  # by the association that is open, if one is
        self.has_connected = False
        self.has_stored = False
        self.fruitless = 0
        self.lost: DicomTlsError | None = None  # why the association ended, where we did not end it
        self.message_id = 0
        self.ahead: Instance | None = None  # the next one, where it is known already
        self.staged: _Staged | None = None  # what of it is laid out already on the open association

    def outcomes(self) -> Iterator[Outcome]:
        """Send one instance after the other, over a new association wherever one is needed."""
        while (instance := self.ahead or self.agenda.next(self.proposed)) is not None:
            self.ahead = None
            if proposal(instance) not in self.proposed:
                try:
                    self._reopen(instance)
                except DicomTlsError as error:
                    if not self.has_connected:
                        raise
                    yield from self._give_up(error, instance)
                    return
            yield self._send_one(instance)
            if self.association is not None and not self.association.is_open:
                self.close()
                lost, self.lost = self.lost, None
                if lost is None:  # we ended it, for a file that could not be read on: no fault of the peer's
                    continue
                self.fruitless = 0 if self.has_stored else self.fruitless + 1
                if self.fruitless >= _FRUITLESS:
                    yield from self._give_up(lost)
                    return

    def _give_up(self, error: DicomTlsError, *unsent: Instance) -> Iterator[Outcome]:
        ahead = () if self.ahead is None else (self.ahead,)
        everything = chain(unsent, ahead, self.agenda.rest())
        return (_failed(instance, _not_sent(instance, error)) for instance in everything)

    def _reopen(self, instance: Instance) -> None:
        """Open an association that proposes what `instance` and those known ahead need."""
        self.close()
        contexts = propose(self.agenda.proposals(instance))
        self.association, request, accept, _ = associate(self.peer, contexts, self.requestor)
        self.has_connected, self.has_stored = True, False
        proposed = {c.context_id: (c.abstract_syntax, c.transfer_syntaxes) for c in contexts}
        self.context_ids = {proposed[number]: number for number in self.association.contexts}
        self.refused = {proposed[n]: reason for n, reason in refused_contexts(request, accept).items()}
        self.proposed = frozenset(proposed.values())

    def _send_one(self, instance: Instance) -> Outcome:
        reason = self.refused.get(proposal(instance))
        if reason is not None:
            return _failed(instance, _no_context(instance, reason))
        association = self.association
        assert association is not None
        begun = time.monotonic()
        try:
            staged, self.staged = self.staged or self._stage(instance), None
            with staged.file:
                self._tell_request(instance, staged.message_id)
                association.transmit()
            self._look_ahead()
            context_id = self.context_ids[proposal(instance)]
            response = expect_response(association, context_id, staged.message_id)
        except DicomTlsError as error:
            found = error
            if isinstance(error, AssociationLost):
                self.lost = diagnose(error, role=Role.REQUESTOR, stage=Stage.DIMSE, peer=str(self.peer))
                found = _not_sent(instance, self.lost, "stored")
            return Outcome(instance, None, found, time.monotonic() - begun, 0)
        except OSError as error:
            return _failed(instance, _unreadable(instance, error))
        return self._judge(instance, response, time.monotonic() - begun, staged.length)

    def _stage(self, instance: Instance) -> _Staged:
        """Open `instance` and lay it out on the association."""
        assert self.association is not None
        file = open(instance.path, "rb", buffering=0)  # noqa: PTH123, SIM115 - half of Path.open's cost; kept open
        try:
            data, length = _data_set(file, instance)
            self.message_id = next_message_id(self.message_id)
            request = store_request(self.message_id, instance.sop_class, instance.sop_instance, self.priority)
            self.association.stage(self.context_ids[proposal(instance)], encode(request), data, length)
        except BaseException:
            file.close()
            raise
        return _Staged(file, length, self.message_id)

    def _look_ahead(self) -> None:
        """Do for the next instances what can be done while the peer works on this one."""
        self.agenda.look_further()
        with contextlib.suppress(Exception):  # the source's failure; it comes again when its turn is
            self.ahead = self.agenda.next(self.proposed)
        if self.ahead is not None and proposal(self.ahead) in self.context_ids:
            with contextlib.suppress(DicomTlsError, OSError):  # its turn will come, and tell what is wrong
                self.staged = self._stage(self.ahead)

    def _unstage(self) -> None:
        if self.staged is not None:
            self.staged.file.close()
            self.staged = None

    def _judge(self, instance: Instance, response: Command, seconds: float, length: int) -> Outcome:
        status, comment = response.status, response.error_comment
        assert status is not None
        if logger.isEnabledFor(logging.INFO):
            logger.info("Received Store Response (%s)", "Success" if status == 0 else words(status, comment))
        if classify(status) in (StatusClass.SUCCESS, StatusClass.WARNING):
            self.has_stored = True
            return Outcome(instance, status, None, seconds, length)
        failure = DicomTlsError(
            f"the peer did not store `{instance.path}`: {words(status, comment)}",
            "see the peer's log for the reason",
            slug="dimse.failure-status",
            exit_code=ExitCode.STATUS,
        )
        return Outcome(instance, status, failure, seconds, length)

    def _tell_request(self, instance: Instance, message_id: int) -> None:
        if logger.isEnabledFor(logging.INFO):
            logger.info("Sending file: %s", instance.path)
            logger.info("Sending Store Request (MsgID %d, %s)", message_id, modality(instance.sop_class))

    def close(self) -> None:
        """Release the association in order; one that cannot be released any more is just closed."""
        self._unstage()
        association, self.association, self.proposed = self.association, None, frozenset()
        if association is None or not association.is_open:
            return
        try:
            logger.info("Releasing Association")
            association.release()
        except AssociationLost as error:
            # Every instance has its final status already: nothing is lost with the parting.
            logger.warning("%s: %s", self.peer, error.message)
        finally:
            association.close()

    def abandon(self) -> None:
        """Abort what is still open: the sending was left in the middle."""
        self._unstage()
        if self.association is not None and self.association.is_open:
            self.association.abort()


def _data_set(file: IO[bytes], instance: Instance) -> tuple[IO[bytes], int]:
    """Return where the data set of `instance` is read from, and how many bytes are to be sent.

    Every fragment has to be even (PS3.7 Annex F); a deflated stream of odd length gets one NUL after its
    end (PS3.5 A.5), any other data set of odd length is malformed.
    """
    about = os.fstat(file.fileno())
    if about.st_size != instance.size or about.st_mtime_ns != instance.modified:
        raise InputError(
            f"`{instance.path}` changed after it was looked at",
            "send it again once nothing writes to it",
            slug="input.file-changed",
        )
    file.seek(instance.offset)
    length = instance.size - instance.offset
    if length % 2 == 0:
        return file, length
    if transfer_syntax(instance.transfer_syntax).deflated:
        return BytesIO(file.read() + b"\0"), length + 1
    raise InputError(
        f"`{instance.path}` is a broken DICOM file: its data set has an odd number of bytes",
        "write it anew from its source",
        slug="input.odd-length",
    )


def _failed(instance: Instance, error: DicomTlsError) -> Outcome:
    return Outcome(instance, None, error, 0.0, 0)


def _not_sent(instance: Instance, cause: DicomTlsError, what: str = "sent") -> DicomTlsError:
    return DicomTlsError(
        f"`{instance.path}` was not {what}: {cause.message}",
        cause.hint,
        slug=cause.slug,
        exit_code=cause.exit_code,
    )


def _no_context(instance: Instance, reason: str) -> DicomTlsError:
    return DicomTlsError(
        f"the peer does not take `{instance.path}` (SOP class {instance.sop_class}, transfer syntax "
        f"{instance.transfer_syntax}): {reason}",
        "the peer has to support this SOP class in this transfer syntax",
        slug="association.no-context",
        exit_code=ExitCode.NO_CONTEXT,
    )


def _unreadable(instance: Instance, error: OSError) -> DicomTlsError:
    return InputError(
        f"cannot read `{instance.path}`: {error.strerror}",
        "check the path and its rights",
        slug="input.unreadable",
    )
