"""One accepted association: C-STORE and C-ECHO as a service class provider (PS3.4 Annexes A and B)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from dicomtls_cli.dimse.command import (
    Command,
    CommandField,
    MalformedCommand,
    encode,
    response,
)
from dicomtls_cli.dimse.repeated import CommandReader, encode_success
from dicomtls_cli.dimse.status import (
    CANNOT_UNDERSTAND,
    DATA_SET_MISMATCH,
    DUPLICATE,
    INVALID_INSTANCE,
    MISTYPED_ARGUMENT,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNISED_OPERATION,
)
from dicomtls_cli.errors import ProtocolError
from dicomtls_cli.services.files.modality import modality
from dicomtls_cli.services.receiving.disk import NoRoom
from dicomtls_cli.services.receiving.faults import AbortedOnPurpose, Faults
from dicomtls_cli.services.receiving.reception import (
    Duplicate,
    Identifiers,
    Incoming,
    Stored,
    UidMismatch,
    UnreadableHead,
)
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.registry import VERIFICATION, is_uid

logger = logging.getLogger("dicomtls.association")

_NO_FAULTS = Faults()


class InstanceReceived(NamedTuple):
    """An instance that was sent to us and the answer it got; `stored` is None where it was not stored."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    status: int
    comment: str
    stored: Stored | None
    seconds: float


def serve(
    association: Association,
    calling_aet: str,
    called_aet: str,
    receive: Callable[[Identifiers], Incoming],
    report: Callable[[InstanceReceived], None],
    faults: Faults = _NO_FAULTS,
    idle_timeout: float | None = None,
) -> None:
    """Answer every request on an open `association` until the peer releases it.

    `receive` begins to store an instance, `report` is told of each; `faults` are done on purpose.
    `idle_timeout` (seconds, the DIMSE time-out unless given) bounds the wait for a message to begin. Raises
    AssociationLost when the association ends in any other way.
    """
    serving = _Serving(association, calling_aet, called_aet, receive, report, faults)
    while (message := association.receive(timeout=idle_timeout)) is not None:
        serving.answer(*message)
    logger.info("Association Release")


class _Serving:
    def __init__(
        self,
        association: Association,
        calling_aet: str,
        called_aet: str,
        receive: Callable[[Identifiers], Incoming],
        report: Callable[[InstanceReceived], None],
        faults: Faults,
    ) -> None:
        self.association = association
        self.calling_aet = calling_aet
        self.called_aet = called_aet
        self.receive = receive
        self.report = report
        self.faults = faults
        self.has_faults = faults != _NO_FAULTS
        self.commands = CommandReader()
        self.stores = 0
        self.stored: Incoming | None = None  # what is to be finished once it was answered

    def answer(self, context_id: int, data: bytes) -> None:
        """Answer one command set, and take in the data set that follows it."""
        try:
            command = self.commands.read(data)
        except MalformedCommand as error:
            if error.command is None:
                self.association.abort(source=2, reason=error.abort_reason)
                raise
            self._refuse(context_id, error.command, MISTYPED_ARGUMENT, error.message)
            return
        abstract_syntax = self.association.contexts[context_id].abstract_syntax
        if command.field == CommandField.C_STORE_RQ and abstract_syntax != VERIFICATION:
            self._store(context_id, command, abstract_syntax)
        elif command.is_response:
            self.association.abort(source=2, reason=5)
            raise ProtocolError(f"{command.name}, which answers nothing we asked", abort_reason=5)
        elif command.field == CommandField.C_CANCEL_RQ:
            pass  # what it would cancel is done by the time it is read
        elif command.field == CommandField.C_ECHO_RQ and abstract_syntax == VERIFICATION:
            logger.info("Received Echo Request (MsgID %d)", command.message_id or 0)
            self._refuse(context_id, command, SUCCESS, "")
        else:
            self._refuse(context_id, command, UNRECOGNISED_OPERATION, "not supported on this context")

    def _refuse(self, context_id: int, command: Command, status: int, comment: str) -> None:
        if command.has_data:
            self._drain(context_id)
        self.association.send(context_id, encode(response(command, status, comment)))

    def _drain(self, context_id: int) -> None:
        for _ in self.association.receive_data(context_id):
            pass

    def _store(self, context_id: int, command: Command, abstract_syntax: str) -> None:
        begun = time.monotonic()
        self.stores += 1
        syntax = self.association.contexts[context_id].transfer_syntax
        if logger.isEnabledFor(logging.INFO):
            kind = modality(command.sop_class)
            logger.info("Received Store Request (MsgID %d, %s)", command.message_id or 0, kind)
        stored: Stored | None = None
        if command.sop_class != abstract_syntax:
            self._drain(context_id)
            status, comment = SOP_CLASS_NOT_SUPPORTED, "not the SOP class of this presentation context"
        elif not is_uid(command.sop_instance):
            self._drain(context_id)
            status, comment = INVALID_INSTANCE, "the SOP Instance UID is no UID"
        else:
            named = Identifiers(
                command.sop_class, command.sop_instance, syntax, self.calling_aet, self.called_aet
            )
            status, comment, stored = self._take_in(context_id, named)
        if self.faults.delay:
            time.sleep(self.faults.delay)
        try:
            # Only now, with the instance in its place, does the peer hear that it was stored.
            is_plain = not status and not comment
            answer = encode_success(command) if is_plain else encode(response(command, status, comment))
            self.association.send(context_id, answer)
        finally:  # it is in its place also where the peer did not wait to hear it
            if self.stored is not None:
                self.stored.finish()
                self.stored = None
            seconds = time.monotonic() - begun
            self.report(
                InstanceReceived(
                    command.sop_class, command.sop_instance, syntax, status, comment, stored, seconds
                )
            )
        if self.faults.sleep_after:
            time.sleep(self.faults.sleep_after)

    def _take_in(self, context_id: int, named: Identifiers) -> tuple[int, str, Stored | None]:
        pieces = self._pieces(context_id)
        incoming: Incoming | None = None
        try:
            if self.has_faults and self.faults.keeps_nothing:
                for _ in pieces:
                    pass
                return self.faults.status, "refused on purpose", None
            incoming = self.receive(named)
            for piece in pieces:
                incoming.write(piece)
            stored = incoming.commit()
            if stored.file is not None and not stored.kept:
                logger.info("storing DICOM file: %s", stored.file)
            self.stored, incoming = incoming, None
            return self.faults.status, "", stored
        except NoRoom as error:
            logger.error("%s", error)
            status, comment = OUT_OF_RESOURCES, "cannot write"
        except Duplicate:
            status, comment = DUPLICATE, "this instance is there already"
        except UidMismatch as error:
            status, comment = DATA_SET_MISMATCH, str(error)
        except UnreadableHead as error:
            status, comment = CANNOT_UNDERSTAND, str(error)
        finally:
            if incoming is not None:
                incoming.discard()
        for _ in pieces:  # the peer sends all of it before it reads the answer
            pass
        return status, comment, None

    def _pieces(self, context_id: int) -> Iterator[memoryview]:
        """Return the data set that follows, piece by piece, as badly as we are told to."""
        pieces = self.association.receive_data(context_id)
        return self._faulty(pieces) if self.has_faults else pieces

    def _faulty(self, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        is_the_one = self.stores == self.faults.abort_on
        pause = self.faults.sleep_during
        for piece in pieces:
            yield piece
            if pause:
                time.sleep(pause)
                pause = 0.0
            if is_the_one and self.faults.abort_during:
                self._abort()
        if is_the_one and self.faults.abort_after:
            self._abort()

    def _abort(self) -> NoReturn:
        self.association.abort()
        raise AbortedOnPurpose
