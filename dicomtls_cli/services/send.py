"""C-STORE as a service class user (PS3.4 Annex B, PS3.7 9.1.1): many files, few associations, no surprise."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO

from dicomtls_cli.dimse.command import Priority, encode, next_message_id, store_request
from dicomtls_cli.dimse.status import StatusClass, classify, words
from dicomtls_cli.errors import AssociationLost, DicomTlsError, ExitCode, InputError
from dicomtls_cli.services.connect import associate
from dicomtls_cli.services.diagnose import Stage, diagnose
from dicomtls_cli.services.echo import expect_response
from dicomtls_cli.services.modality import modality
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.services.scan import Instance
from dicomtls_cli.services.syntax import transfer_syntax
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.negotiation import batches, refused_contexts
from dicomtls_cli.upperlayer.pdu import PresentationContext

logger = logging.getLogger("dicomtls.association")

_FRUITLESS = 2  # associations in a row that stored nothing: the peer is at fault, not a file


@dataclass(frozen=True, slots=True)
class Outcome:
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
    instances: Sequence[Instance],
    requestor: Requestor,
    *,
    priority: Priority = Priority.MEDIUM,
    halt: bool = False,
) -> Iterator[Outcome]:
    """Send `instances` to `peer` and yield what became of each, in the order they are sent.

    Each is proposed exactly as it is stored; more than 128 presentation contexts take further associations.
    After a lost association the rest goes over a new one, unless two in a row stored nothing. `halt` ends
    with the first failure; what was not tried is then not yielded. Raises DicomTlsError when the very first
    association does not come about.
    """
    by_context = dict.fromkeys((i.sop_class, i.transfer_syntax) for i in instances)
    sender = _Sender(peer, requestor, priority)
    try:
        for contexts in batches((sop_class, (syntax,)) for sop_class, syntax in by_context):
            pairs = {(context.abstract_syntax, context.transfer_syntaxes[0]) for context in contexts}
            batch = [i for i in instances if (i.sop_class, i.transfer_syntax) in pairs]
            for outcome in sender.send_batch(contexts, batch):
                yield outcome
                if halt and not outcome.is_stored:
                    sender.close()
                    return
    finally:
        sender.abandon()


class _Sender:
    """The associations of one `send`, one after the other."""

    def __init__(self, peer: Peer, requestor: Requestor, priority: Priority) -> None:
        self.peer = peer
        self.requestor = requestor
        self.priority = priority
        self.association: Association | None = None
        self.context_ids: dict[tuple[str, str], int] = {}
        self.has_connected = False
        self.fruitless = 0
        self.message_id = 0

    def send_batch(
        self, contexts: tuple[PresentationContext, ...], batch: Sequence[Instance]
    ) -> Iterator[Outcome]:
        """Send a batch that fits one set of presentation contexts, reconnecting where it must."""
        position = 0
        while position < len(batch):
            try:
                refused = self._open(contexts)
            except DicomTlsError as error:
                if not self.has_connected:
                    raise
                yield from (_failed(instance, error) for instance in batch[position:])
                return
            stored = False
            while position < len(batch) and self.association is not None:
                outcome = self._send_one(self.association, batch[position], refused)
                position += 1
                stored = stored or outcome.is_stored
                yield outcome
                if not self.association.is_open:
                    self.association = None
                    self.fruitless = 0 if stored else self.fruitless + 1
                    if self.fruitless >= _FRUITLESS and outcome.error is not None:
                        yield from (_failed(instance, outcome.error) for instance in batch[position:])
                        return
            self.close()

    def _open(self, contexts: tuple[PresentationContext, ...]) -> dict[tuple[str, str], str]:
        """Open an association that proposes `contexts`; return why which of them are refused, in words."""
        self.association, request, accept, _ = associate(self.peer, contexts, self.requestor)
        self.has_connected = True
        granted = self.association.contexts
        self.context_ids = {(c.abstract_syntax, c.transfer_syntax): number for number, c in granted.items()}
        proposed = {context.context_id: context for context in contexts}
        return {
            (proposed[number].abstract_syntax, proposed[number].transfer_syntaxes[0]): reason
            for number, reason in refused_contexts(request, accept).items()
        }

    def _send_one(
        self, association: Association, instance: Instance, refused: dict[tuple[str, str], str]
    ) -> Outcome:
        pair = (instance.sop_class, instance.transfer_syntax)
        if pair in refused:
            return _failed(instance, _no_context(instance, refused[pair]))
        begun = time.monotonic()
        try:
            with instance.path.open("rb", buffering=0) as file:
                data, length = _data_set(file, instance)
                status, comment = self._store(association, instance, data, length)
        except DicomTlsError as error:
            found = error
            if isinstance(error, AssociationLost):
                found = diagnose(error, role=Role.REQUESTOR, stage=Stage.DIMSE, peer=str(self.peer))
                found = type(found)(
                    f"`{instance.path}` was not stored: {found.message}",
                    found.hint,
                    slug=found.slug,
                    exit_code=found.exit_code,
                )
            return Outcome(instance, None, found, time.monotonic() - begun, 0)
        except OSError as error:
            return _failed(instance, _unreadable(instance, error))
        seconds = time.monotonic() - begun
        if classify(status) in (StatusClass.SUCCESS, StatusClass.WARNING):
            return Outcome(instance, status, None, seconds, length)
        failure = DicomTlsError(
            f"the peer did not store `{instance.path}`: {words(status, comment)}",
            "see the peer's log for the reason",
            slug="dimse.failure-status",
            exit_code=ExitCode.STATUS,
        )
        return Outcome(instance, status, failure, seconds, length)

    def _store(
        self, association: Association, instance: Instance, data: IO[bytes], length: int
    ) -> tuple[int, str]:
        context_id = self.context_ids[instance.sop_class, instance.transfer_syntax]
        self.message_id = next_message_id(self.message_id)
        request = store_request(self.message_id, instance.sop_class, instance.sop_instance, self.priority)
        if logger.isEnabledFor(logging.INFO):
            logger.info("Sending file: %s", instance.path)
            logger.info("Sending Store Request (MsgID %d, %s)", self.message_id, modality(instance.sop_class))
        association.send(context_id, encode(request), data, length)
        response = expect_response(association, context_id, self.message_id)
        assert response.status is not None
        if logger.isEnabledFor(logging.INFO):
            told = "Success" if response.status == 0 else words(response.status, response.error_comment)
            logger.info("Received Store Response (%s)", told)
        return response.status, response.error_comment

    def close(self) -> None:
        """Release the association in order; one that cannot be released any more is just closed."""
        association, self.association = self.association, None
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
        if self.association is not None and self.association.is_open:
            self.association.abort()


def _data_set(file: IO[bytes], instance: Instance) -> tuple[IO[bytes], int]:
    """Return where the data set of `instance` is read from, and how many bytes are to be sent.

    Every fragment has to be even (PS3.7 Annex F); a deflated stream of odd length gets one NUL after its
    end (PS3.5 A.5), any other data set of odd length is malformed.
    """
    if os.fstat(file.fileno()).st_size != instance.size:
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
