"""C-ECHO as a service class user (PS3.4 Annex A, PS3.7 9.1.5)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from dicomtls_cli.dimse.command import Command, decode, echo_request, encode
from dicomtls_cli.dimse.status import StatusClass, classify, words
from dicomtls_cli.errors import AssociationLost, DicomTlsError, ExitCode, ProtocolError
from dicomtls_cli.services.connect import associate
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.tls.handshake import TlsFacts
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.negotiation import propose
from dicomtls_cli.upperlayer.registry import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

logger = logging.getLogger("dicomtls.association")

VERIFICATION_CONTEXTS = propose([(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))])


class EchoResult(NamedTuple):
    """A verified peer: how it is secured (None: plain DICOM), what it says of itself, how long it took.

    `seconds` is the time from the C-ECHO-RQ to its response, `total_seconds` that of the whole association,
    `connect_seconds`, `tls_seconds` (0 without TLS) and `associate_seconds` those of the phases before the echo.
    """

    peer: Peer
    tls: TlsFacts | None
    implementation: str
    seconds: float
    total_seconds: float
    connect_seconds: float
    tls_seconds: float
    associate_seconds: float


def echo(peer: Peer, requestor: Requestor) -> EchoResult:
    """Verify `peer` by one C-ECHO on an association of its own.

    Raises DicomTlsError with the cause where the peer does not answer with success.
    """
    begun = time.monotonic()
    opened = associate(peer, VERIFICATION_CONTEXTS, requestor)
    seconds = verify(opened.association, peer)
    accept = opened.accept
    return EchoResult(
        peer,
        opened.tls,
        accept.implementation_version or accept.implementation_class_uid,
        seconds,
        time.monotonic() - begun,
        opened.connect_seconds,
        opened.tls.seconds if opened.tls is not None else 0.0,
        opened.associate_seconds,
    )


def verify(association: Association, peer: Peer) -> float:
    """Make one C-ECHO on an open `association` with `peer`, release and close it; return the seconds of the C-ECHO.

    Raises DicomTlsError with the cause where the peer does not answer with success.
    """
    try:
        if not association.contexts:
            raise _no_context(association, peer)
        seconds = _exchange(association, peer)
        logger.info("Releasing Association")
        association.release()
        return seconds
    except AssociationLost as error:
        from dicomtls_cli.services.diagnosis.diagnose import Stage, diagnose

        raise diagnose(error, role=Role.REQUESTOR, stage=Stage.DIMSE, peer=str(peer)) from error
    finally:
        association.close()


def _exchange(association: Association, peer: Peer) -> float:
    (context_id,) = association.contexts
    sent = time.monotonic()
    logger.info("Sending Echo Request (MsgID 1)")
    association.send(context_id, encode(echo_request(1)))
    response = expect_response(association, {1: context_id})
    seconds = time.monotonic() - sent
    assert response.status is not None
    if classify(response.status) not in (StatusClass.SUCCESS, StatusClass.WARNING):
        association.release()
        raise DicomTlsError(
            f"`{peer}`: the peer answered the C-ECHO with {words(response.status, response.error_comment)}",
            "see the peer's log for the reason",
            slug="dimse.failure-status",
            exit_code=ExitCode.STATUS,
        )
    logger.info("Received Echo Response (%s)", "Success" if response.status == 0 else words(response.status))
    return seconds


def expect_response(
    association: Association,
    awaited: Mapping[int, int],
    read: Callable[[bytes], Command] = decode,
    *,
    until: float | None = None,
) -> Command:
    """Wait for the response to one of the requests that are outstanding and return it.

    `awaited` gives the presentation context id of each by its message id; `read` decodes; `until` (an instant of
    `time.monotonic()`) is when it has to begin, the DIMSE time-out from now unless given. Raises AssociationLost, or
    ProtocolError after an A-ABORT where something else comes (PS3.7 6.2).
    """
    received = association.receive(until=until)
    if received is None:
        raise AssociationLost(
            "the peer released the association instead of answering",
            "see the peer's log for the reason",
            slug="association.released",
        )
    came_on, data = received
    try:
        response = read(data)
        due = None if response.responded_to is None else awaited.get(response.responded_to)
        if not response.is_response or due != came_on:
            numbers = ", ".join(map(str, awaited))
            raise ProtocolError(f"{response.name} where the response to message {numbers} was due")
    except ProtocolError as error:
        association.abort(source=2, reason=error.abort_reason)
        raise
    return response


def _no_context(association: Association, peer: Peer) -> DicomTlsError:
    association.abort()
    return DicomTlsError(
        f"`{peer}`: the peer accepted the association but not Verification (C-ECHO)",
        "it may be a peer that only stores; `dicomtls storescu` can still work",
        slug="association.no-context",
        exit_code=ExitCode.NO_CONTEXT,
    )
