"""How an association can end other than by release: one error each (PS3.8 7.3, 7.4)."""

from __future__ import annotations

from dicomtls_cli.errors import AssociationLost, ExitCode
from dicomtls_cli.upperlayer.pdu import Abort, AssociateReject
from dicomtls_cli.upperlayer.stream import PeerClosed
from dicomtls_cli.upperlayer.words import abort_words, reject_words


class ConnectionBroken(AssociationLost):
    """The connection failed under the association; `error` is the operating system's or `ssl`'s reason."""

    def __init__(self, error: OSError) -> None:
        closed = isinstance(error, PeerClosed)
        super().__init__(
            "the peer closed the connection" if closed else f"the connection broke: {error}",
            "see the peer's log for the reason",
            slug="association.lost",
        )
        self.error = error


class AssociationTimeout(AssociationLost):
    """The peer did not do in time what was due."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(
            f"time-out: {what} within {seconds:g} s",
            "the peer may be overloaded or may have stopped; a longer time-out can be given",
            slug="association.timeout",
        )


class AssociationAborted(AssociationLost):
    """The peer sent an A-ABORT (PS3.8 7.3, 9.3.8)."""

    def __init__(self, abort: Abort) -> None:
        super().__init__(
            f"the peer aborted the association ({abort_words(abort)})",
            "see the peer's log for the reason",
            slug="association.aborted",
        )
        self.abort = abort


class AssociationRejected(AssociationLost):
    """The peer answered with an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    exit_code = ExitCode.REJECTED

    def __init__(self, reject: AssociateReject) -> None:
        super().__init__(
            f"the peer rejected the association ({reject_words(reject)})",
            slug="association.rejected",
        )
        self.reject = reject
