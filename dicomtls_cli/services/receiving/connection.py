"""One connection of an SCP in its thread, from the first byte to the end: TLS, the association, its service."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

from dicomtls_cli.errors import AssociationLost, DicomTlsError, ExitCode
from dicomtls_cli.services.diagnosis.causes import NO_COMMON
from dicomtls_cli.services.diagnosis.diagnose import ClosedAtOnce, Stage, diagnose, failed, plain_peer
from dicomtls_cli.services.peer import Timeouts
from dicomtls_cli.services.receiving.access import AccessRules, Rejection, judge, rejected
from dicomtls_cli.services.receiving.arrivals import Arrival
from dicomtls_cli.services.receiving.events import Client, Closed, Event, Opened, Received, Refused
from dicomtls_cli.services.receiving.faults import Faults
from dicomtls_cli.services.receiving.receive import InstanceReceived, serve
from dicomtls_cli.services.receiving.reception import Identifiers, Incoming
from dicomtls_cli.tls.handshake import first_byte, handshake, messages
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.negotiation import AcceptRules, answer
from dicomtls_cli.upperlayer.pdu import AssociateRequest
from dicomtls_cli.upperlayer.stream import lingering_close

logger = logging.getLogger("dicomtls.association")


class Terms(NamedTuple):
    """What a connection is served by; `context` None is plain DICOM, `maximum_length` counts bytes.

    `faults` are done on purpose. `admit` gives an association its slot, or returns why it gets none. `receive`
    begins to store an instance, `tell` is told of every event. `certificate_file` is what the
    hints call our certificate.
    """

    context: ssl.SSLContext | None
    access: AccessRules
    timeouts: Timeouts
    maximum_length: int
    rules: AcceptRules
    faults: Faults
    admit: Callable[[Connection, Client], Rejection | None]
    receive: Callable[[Identifiers], Incoming]
    tell: Callable[[Event], None]
    certificate_file: str = ""


class Connection:
    """A connection that is served by the thread which calls `serve`.

    `has_association` tells whether it got a slot, `begun` is when it came (`time.monotonic()`).
    """

    def __init__(self, arrival: Arrival, terms: Terms) -> None:
        self.client = arrival.client
        self.source = arrival.source
        self.begun = arrival.begun
        self.has_association = False
        self._sock = arrival.sock
        self._terms = terms
        self._association: Association | None = None
        self._cut_off: AssociationLost | None = None
        self._count = 0

    @property
    def idle_seconds(self) -> float:
        """How long it has had no association, or no message on it."""
        if self._association is None:
            return time.monotonic() - self.begun
        return self._association.idle_seconds

    @property
    def is_cut(self) -> bool:
        """Whether `cut` ended it; its thread may need a moment to notice."""
        return self._cut_off is not None

    @property
    def takes_slot(self) -> bool:
        """Whether it counts as an open association: not while it only waits for the peer to leave."""
        return self.has_association and (self._association is None or self._association.is_open)

    def cut(self, why: AssociationLost) -> None:
        """End it at once, from another thread or a signal handler; `why` is what is told of it."""
        self._cut_off = self._cut_off or why
        with contextlib.suppress(OSError):
            # Wakes the thread that waits on it; past ssl, whose own shutdown would drop the encryption.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it without a word."""
        self._sock.close()

    def serve(self) -> None:
        """Serve the peer until it leaves or fails; nothing is raised, everything is told."""
        try:
            sock = self._secure()
        except OSError as error:
            self._refuse(error)
            return
        terms = self._terms
        association = Association(
            sock,
            acse_timeout=terms.timeouts.acse,
            dimse_timeout=terms.timeouts.dimse,
            maximum_length=terms.maximum_length,
        )
        begun = time.monotonic()
        try:
            request = association.await_request()
            logger.info("Association Received")
            if not self._answer(association, request):
                return
            serve(
                association,
                request.calling_ae,
                request.called_ae,
                terms.receive,
                self._report,
                terms.faults,
                idle_timeout=terms.timeouts.idle,
            )
            self._tell_closed(begun, None)
        except Exception as error:
            found = self._explain(association, error)
            if self._association is None:
                terms.tell(Refused(self.client, found))
            else:
                self._tell_closed(begun, found)
        finally:
            association.close()

    def _secure(self) -> socket.socket:
        """Return the socket to talk DICOM on: the TLS handshake, where there is to be one, was made."""
        terms = self._terms
        deadline = self.begun + terms.timeouts.tls
        start = first_byte(self._sock, deadline)
        if not start:
            raise ClosedAtOnce
        if terms.context is None:
            return self._sock
        if start[0] != 0x16:  # a TLS handshake record, RFC 8446 5.1
            raise _NotTls(start)
        sock = terms.context.wrap_socket(self._sock, server_side=True)
        self._sock = sock
        if self._cut_off is not None:  # it may have met the socket that was just wrapped
            raise ConnectionAbortedError(errno.ECONNABORTED, "cut off")
        facts = handshake(sock, deadline)
        self.client = self.client._replace(tls=facts, certificate=facts.certificate)
        return sock

    def _refuse(self, error: OSError) -> None:
        if isinstance(self._sock, ssl.SSLSocket):
            self.client = self.client._replace(certificate=messages(self._sock).certificate)
        address = self.client.address
        if self._cut_off is not None:
            found: DicomTlsError = self._cut_off
        elif isinstance(error, _NotTls):
            found = error.told(address)
        else:
            found = self._explain_handshake(error)
        # First the log, then the linger: the peer may take its time to leave.
        self._terms.tell(Refused(self.client, found))
        lingering_close(self._sock)

    def _explain_handshake(self, error: OSError) -> DicomTlsError:
        context, own = self._terms.context, self._terms.certificate_file
        found = diagnose(
            error, role=Role.ACCEPTOR, stage=Stage.TLS, peer=self.client.address, own_certificate=own
        )
        if found.exit_code is ExitCode.REFUSED_BY_PEER:
            from dicomtls_cli.services.diagnosis.own import explain_own

            return explain_own(found, own)
        if found.slug != NO_COMMON.slug or context is None or not isinstance(self._sock, ssl.SSLSocket):
            return found
        from dicomtls_cli.services.diagnosis.suites import explain_offer  # what hardly anybody needs
        from dicomtls_cli.tls.hello import read_offer

        offer = read_offer(messages(self._sock).client_hello)
        if offer is None:
            return found
        return failed(explain_offer(offer, context), self.client.address)

    def _answer(self, association: Association, request: AssociateRequest) -> bool:
        """Accept or reject `request`; tell which it was."""
        terms = self._terms
        self.client = self.client._replace(calling_aet=request.calling_ae, called_aet=request.called_ae)
        rejection = (
            judge(request, self.client, terms.access)
            or self._reject_on_purpose(request)
            or terms.admit(self, self.client)
        )
        if rejection is not None:
            # First the log here too, and told even where the peer did not wait for the answer.
            terms.tell(Refused(self.client, rejection.error))
            with contextlib.suppress(AssociationLost):
                association.reject(rejection.answer)
            return False
        association.accept(request, answer(request, terms.rules, terms.maximum_length))
        self._association = association
        logger.info("Association Acknowledged (Max Send PDV: %d)", association.max_send_pdv)
        terms.tell(Opened(self.client))
        return True

    def _reject_on_purpose(self, request: AssociateRequest) -> Rejection | None:
        answer = self._terms.faults.rejection_of(request)
        return None if answer is None else rejected(self.client, answer)

    def _report(self, instance: InstanceReceived) -> None:
        self._count += 1
        self._terms.tell(Received(self.client, instance))

    def _tell_closed(self, begun: float, error: DicomTlsError | None) -> None:
        self._terms.tell(Closed(self.client, self._count, time.monotonic() - begun, error))

    def _explain(self, association: Association, error: Exception) -> DicomTlsError:
        """Return what `error`, which ended the association, means for people."""
        address = self.client.address
        if self._cut_off is not None:
            return self._cut_off
        if isinstance(error, AssociationLost):
            stage = Stage.ASSOCIATION if self._association is None else Stage.DIMSE
            return diagnose(error, role=Role.ACCEPTOR, stage=stage, peer=address)
        # A defect: this peer is told, the others notice nothing.
        logger.exception("the association of %s failed", address)
        association.abort()
        return DicomTlsError(f"`{address}`: unexpected {error!r}", slug="unexpected")


class _NotTls(OSError):
    """The first bytes are no TLS handshake."""

    def __init__(self, start: bytes) -> None:
        super().__init__("no TLS")
        self._start = start

    def told(self, address: str) -> DicomTlsError:
        return failed(plain_peer(self._start, Role.ACCEPTOR), address)
