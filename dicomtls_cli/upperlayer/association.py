"""One association on one connected socket, in either role (PS3.8), with a deadline for every wait.

Sending and receiving happen in the caller's thread; nothing polls, nothing runs beside it. Every failure is
one of the errors below, raised after the peer was told by A-ABORT where it still listens.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import IO, NoReturn, TypeVar

from dicomtls_cli.errors import AssociationLost, InputError, ProtocolError
from dicomtls_cli.upperlayer.codec import decode, encode
from dicomtls_cli.upperlayer.failures import (
    AssociationAborted,
    AssociationRejected,
    AssociationTimeout,
    ConnectionBroken,
)
from dicomtls_cli.upperlayer.header import (
    OWN_MAXIMUM,
    AbortReason,
    PduType,
    max_fragment,
    parse_pdu_header,
    pdv_header,
)
from dicomtls_cli.upperlayer.layout import command_pdus, lay_out, new_block
from dicomtls_cli.upperlayer.negotiation import AcceptedContext, accepted_contexts
from dicomtls_cli.upperlayer.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Pdu,
    ReleaseRequest,
    ReleaseResponse,
)
from dicomtls_cli.upperlayer.stream import PeerClosed, Stream
from dicomtls_cli.upperlayer.words import describe

logger = logging.getLogger("dicomtls.association")

T = TypeVar("T")
PduT = TypeVar("PduT", bound=Pdu)

_BLOCK = 256 * 1024  # bytes of P-DATA gathered into one send
_LARGE = 1 << 20  # bytes of a data set that a peer takes in while it comes, and not at once
_TURN = 4  # blocks that one of several associations sends before another has its turn
_SHORT_BLOCK = 64 * 1024  # ... where the time-out is short, so that progress is seen in time
_SHORT_TIMEOUT = 5.0  # seconds
_PARTING_TIMEOUT = 2.0  # seconds for an A-ABORT to leave, or for a reason to be read after a failed send
_AT_HAND = 0.1  # seconds to read what has already arrived
_COMMAND_LIMIT = 64 * 1024  # bytes of one command set
_LONG_COMMAND = 32 * 1024  # bytes of a PDU that is not taken for a command set before it is read
_EMPTY_PDVS = 64  # in a row
_FAILURES = (OSError, ProtocolError, AssociationAborted)


class Association:
    """An association over a connected `sock` (plain or TLS), as requestor or acceptor.

    `acse_timeout` bounds the negotiation and the release, `dimse_timeout` each wait for a message and each
    message once begun, in seconds. `maximum_length` is the greatest P-DATA PDU we take, in bytes.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        acse_timeout: float = 30.0,
        dimse_timeout: float = 60.0,
        maximum_length: int = OWN_MAXIMUM,
    ) -> None:
        self._stream = Stream(sock)
        self.acse_timeout = acse_timeout
        self.dimse_timeout = dimse_timeout
        self.maximum_length = maximum_length
        self.contexts: dict[int, AcceptedContext] = {}
        self.is_requestor = False
        self.is_open = False
        self._idle_since: float | None = None
        self.max_send_pdv = 0
        self._fragment = 0
        self._block = memoryview(b"")
        self._blocks: Iterator[memoryview | bytes] = iter(())
        self._staged: memoryview | bytes | None = None
        self._stuck_since: float | None = None  # when the connection took nothing any more
        self._pdu_left = 0  # bytes of the P-DATA PDU being read
        self._pdu_deadline = 0.0  # ... and until when they have to be here
        self._empty_pdvs = 0

    # ------------------------------------------------------------------ negotiation

    def request(self, request: AssociateRequest, *, limit: int = OWN_MAXIMUM) -> AssociateAccept:
        """Ask for an association and return the peer's A-ASSOCIATE-AC; `contexts` then holds what it took.

        `limit` is the most we put into one P-DATA PDU, in bytes. Raises AssociationRejected,
        AssociationLost or ProtocolError.
        """
        self.is_requestor = True
        deadline = time.monotonic() + self.acse_timeout
        self._dump(request)
        self._send(encode(request), self.acse_timeout)
        answer = self._guard(
            lambda: self._read_pdu(deadline), "no answer to the A-ASSOCIATE-RQ", self.acse_timeout
        )
        if isinstance(answer, AssociateReject):
            self._stream.close()
            raise AssociationRejected(answer)
        accept = self._guard(lambda: self._expect(answer, AssociateAccept), "", 0)
        self._dump(accept)
        self.contexts = self._guard(lambda: accepted_contexts(request, accept), "", 0)
        self._open(accept.maximum_length, limit)
        return accept

    def await_request(self) -> AssociateRequest:
        """Wait for the peer's A-ASSOCIATE-RQ and return it; answer with `accept` or `reject`."""
        deadline = time.monotonic() + self.acse_timeout
        pdu = self._guard(lambda: self._read_pdu(deadline), "no A-ASSOCIATE-RQ", self.acse_timeout)
        request = self._guard(lambda: self._expect(pdu, AssociateRequest), "", 0)
        self._dump(request)
        return request

    def accept(self, request: AssociateRequest, accept: AssociateAccept) -> None:
        """Answer `request` with `accept`; the association is then open."""
        self.contexts = accepted_contexts(request, accept)
        self._dump(accept)
        self._guard(lambda: max_fragment(request.maximum_length), "", 0)
        self._send(encode(accept), self.acse_timeout)
        self._open(request.maximum_length, OWN_MAXIMUM)

    def reject(self, reject: AssociateReject) -> None:
        """Answer the peer's request with `reject` and close, so that the peer reads why."""
        self._send(encode(reject), self.acse_timeout)
        self._stream.linger()

    def _open(self, peer_maximum: int, limit: int) -> None:
        self._fragment = self._guard(lambda: max_fragment(peer_maximum, limit), "", 0)
        self.max_send_pdv = (peer_maximum or OWN_MAXIMUM) - 12  # as DCMTK counts and prints it
        self.is_open = True

    # ------------------------------------------------------------------ sending

    def send(self, context_id: int, command: bytes, data: IO[bytes] | None = None, length: int = 0) -> None:
        """Send a command set, and after it `length` bytes (even) read from `data`; see `stage`."""
        if data is None:
            self._send(command_pdus(context_id, command, self._fragment), self.dimse_timeout)
            return
        self.stage(context_id, command, data, length)
        self.transmit()

    def stage(self, context_id: int, command: bytes, data: IO[bytes], length: int) -> None:
        """Prepare a message for `transmit`: its command set and the beginning of its data are read and laid out.

        That can be done while the response to the message before is still awaited. Raises InputError when
        `data` cannot be read or ends early; nothing was sent then, and the association goes on.
        """
        if not self._block:
            size = _SHORT_BLOCK if self.dimse_timeout < _SHORT_TIMEOUT else _BLOCK
            self._block = new_block(size, self._fragment)
        self._stream.keep_little_unsent(little=length > _LARGE)
        head = command_pdus(context_id, command, self._fragment)
        self._blocks = lay_out(self._block, self._fragment, context_id, head, data, length)
        self._staged = next(self._blocks)

    def transmit(self, *, wait: bool = True) -> bool:
        """Send what was staged, to its end; return True then.

        Without `wait`, False is returned when the connection takes no more for now, and after every few blocks, so
        that others have their turn: call again once it can be written, or when `dimse_timeout` is over. Data that
        cannot be read, or ends early, in the middle raises InputError after an A-ABORT: nothing is ever padded
        (PS3.7 Annex F), and nothing else can follow half a data set.
        """
        turn = _TURN
        while self._staged is not None:
            if wait:
                self._send(self._staged, self.dimse_timeout)
            elif turn == 0 or not self._send_some():
                return False
            turn -= 1
            try:
                self._staged = next(self._blocks, None)
            except InputError:
                self.abort()
                raise
        return True

    def _send_some(self) -> bool:
        """Send what leaves at once of the block that is staged; tell whether that was all of it."""
        block = self._staged
        assert block is not None
        late = self._stuck_since is not None and time.monotonic() - self._stuck_since >= self.dimse_timeout
        if late and not self._stream.is_writable():  # it may find some room all the same: that is no progress
            self._give_up_sending()
        try:
            self._staged = rest = self._stream.send_some(block)
        except OSError as error:
            self._explain_failed_send(ConnectionBroken(error), error)
        now = time.monotonic()
        if self._stuck_since is None or len(rest) < len(block):
            self._stuck_since = now
        if not rest:
            self._stuck_since = None
        elif now - self._stuck_since >= self.dimse_timeout:
            self._give_up_sending()
        return not rest

    def _give_up_sending(self) -> NoReturn:
        # Half a PDU may be out: no A-ABORT can follow it.
        failure = AssociationTimeout("the peer took nothing", self.dimse_timeout)
        self._explain_failed_send(failure, TimeoutError())

    # ------------------------------------------------------------------ receiving

    def fileno(self) -> int:
        """Return the descriptor of the connection, for whoever waits for several at once."""
        return self._stream.socket.fileno()

    @property
    def has_buffered(self) -> bool:
        """Whether something the peer sent is here already, and was read from the connection."""
        return self._stream.buffered > 0

    def has_command(self) -> bool | None:
        """Tell whether `receive` returns at once: a whole command set is here, in one PDU.

        False: something else has begun, for which `receive` may have to wait. None: too little came to tell; once the
        connection can be read, call again. Raises AssociationLost.
        """
        if self._pdu_left:
            return False
        begun = self._stream.at_hand(read=False)
        while (found := _is_command(begun)) is None:
            known = len(begun)
            begun = self._guard(
                lambda: self._stream.at_hand(read=True), "no message came", self.dimse_timeout
            )
            if len(begun) == known:  # DCMTK writes a message in two pieces: mostly the second is here too
                break
        return found

    def receive(
        self, *, timeout: float | None = None, until: float | None = None
    ) -> tuple[int, bytes] | None:
        """Wait for the next command set; return its context id and bytes, None when the peer releases.

        `timeout` (seconds, `dimse_timeout` unless given) bounds the wait for its beginning, `until` (an instant of
        `time.monotonic()`) ends a wait that began before. A release was already answered and the connection closed
        when None is returned.
        """
        wait = self.dimse_timeout if timeout is None else timeout
        deadline = time.monotonic() + wait if until is None else until
        try:
            return self._receive_command(deadline)
        except _FAILURES as error:
            self._fail(error, "no message came", wait)

    def _receive_command(self, deadline: float) -> tuple[int, bytes] | None:
        command = bytearray()
        context_id = None
        self._idle_since = time.monotonic()
        while True:
            pdv = self._next_pdv(deadline)
            self._idle_since = None
            if pdv is None:
                if context_id is not None:
                    raise ProtocolError(
                        "release in the middle of a message", abort_reason=AbortReason.UNEXPECTED_PDU
                    )
                self._answer_release()
                return None
            length, pdv_context, is_command, is_last = pdv
            if not is_command:
                raise ProtocolError("data without a command", abort_reason=AbortReason.UNEXPECTED_PARAMETER)
            if context_id not in (None, pdv_context):
                raise ProtocolError(
                    "a command set on two presentation contexts", abort_reason=AbortReason.INVALID_PARAMETER
                )
            context_id = pdv_context
            if len(command) + length > _COMMAND_LIMIT:
                raise ProtocolError(
                    f"a command set of more than {_COMMAND_LIMIT} bytes",
                    abort_reason=AbortReason.INVALID_PARAMETER,
                )
            command += self._stream.read(length, self._pdu_deadline)
            if is_last:
                return pdv_context, bytes(command)
            deadline = time.monotonic() + self.dimse_timeout

    def receive_data(self, context_id: int) -> Iterator[memoryview]:
        """Yield the data set that follows a command set on `context_id`, piece by piece.

        Each view is valid until the next piece is asked for. To leave early, `abort`.
        """
        is_last = False
        while not is_last:
            try:
                left, is_last = self._next_data_pdv(context_id)
                while left:
                    piece = self._stream.take_some(left, self._pdu_deadline)
                    left -= len(piece)
                    yield piece
            except _FAILURES as error:
                self._fail(error, "the data stopped", self.dimse_timeout)

    def _next_data_pdv(self, context_id: int) -> tuple[int, bool]:
        pdv = self._next_pdv(time.monotonic() + self.dimse_timeout)
        if pdv is None:
            raise ProtocolError(
                "release in the middle of a data set", abort_reason=AbortReason.UNEXPECTED_PDU
            )
        length, pdv_context, is_command, is_last = pdv
        if is_command:
            raise ProtocolError(
                "a command before the data of the last one ended",
                abort_reason=AbortReason.UNEXPECTED_PARAMETER,
            )
        if pdv_context != context_id:
            raise ProtocolError(
                "data on another presentation context than its command",
                abort_reason=AbortReason.INVALID_PARAMETER,
            )
        return length, is_last

    def _next_pdv(self, deadline: float) -> tuple[int, int, bool, bool] | None:
        """Return length, context, is-command, is-last of the next PDV; None: the peer asked for release.

        `deadline` bounds the wait for a PDU to begin. All of that PDU, however many PDVs it holds, then has
        to be here by one deadline of its own.
        """
        if self._pdu_left == 0:
            self._stream.fill(1, deadline)
            self._pdu_deadline = time.monotonic() + self.dimse_timeout
            header = self._stream.take(6, self._pdu_deadline)
            pdu_type, length = parse_pdu_header(header, self.maximum_length)
            if pdu_type != PduType.P_DATA:
                self._expect(
                    self._decode(pdu_type, self._stream.read(length, self._pdu_deadline)), ReleaseRequest
                )
                return None
            self._pdu_left = length
        if self._pdu_left < 6:
            raise ProtocolError("a PDV that does not fit its PDU", abort_reason=AbortReason.INVALID_PARAMETER)
        length, context_id, is_command, is_last = pdv_header(self._stream.take(6, self._pdu_deadline))
        self._pdu_left -= 6 + length
        if self._pdu_left < 0:
            raise ProtocolError("a PDV that does not fit its PDU", abort_reason=AbortReason.INVALID_PARAMETER)
        if context_id not in self.contexts:
            raise ProtocolError(
                f"a message on presentation context {context_id}, which was not accepted",
                abort_reason=AbortReason.INVALID_PARAMETER,
            )
        self._empty_pdvs = 0 if length else self._empty_pdvs + 1
        if self._empty_pdvs > _EMPTY_PDVS:
            raise ProtocolError("nothing but empty PDVs", abort_reason=AbortReason.INVALID_PARAMETER)
        return length, context_id, is_command, is_last

    @property
    def idle_seconds(self) -> float:
        """How long the next message has been waited for; 0 while one is under way."""
        since = self._idle_since
        return 0.0 if since is None else time.monotonic() - since

    # ------------------------------------------------------------------ ending

    def release(self) -> None:
        """End the association in order (PS3.8 7.2) and close the connection."""
        self.is_open = False
        deadline = time.monotonic() + self.acse_timeout
        self._send(encode(ReleaseRequest()), self.acse_timeout)
        self._guard(lambda: self._await_release_response(deadline), "no A-RELEASE-RP", self.acse_timeout)
        self._stream.close()

    def _await_release_response(self, deadline: float) -> None:
        answered = collided = False
        self._skip_rest_of_pdu(deadline)
        while not answered:
            pdu_type, length = self._read_header(deadline)
            if pdu_type == PduType.P_DATA:  # allowed until the peer saw our request, and of no use any more
                self._stream.read(length, deadline)
                continue
            pdu = self._decode(pdu_type, self._stream.read(length, deadline))
            if isinstance(pdu, ReleaseRequest) and not collided:
                # Collision, PS3.8 7.2.2.6: the requestor answers first, the acceptor waits for the answer.
                collided = True
                if self.is_requestor:
                    self._send(encode(ReleaseResponse()), self.acse_timeout)
            else:
                self._expect(pdu, ReleaseResponse)
                answered = True
        if collided and not self.is_requestor:
            self._send(encode(ReleaseResponse()), self.acse_timeout)

    def _answer_release(self) -> None:
        self.is_open = False
        with contextlib.suppress(
            OSError
        ):  # a peer that does not wait for the answer has released all the same
            self._stream.send(encode(ReleaseResponse()), self.acse_timeout)
        self._stream.linger()

    def abort(self, *, source: int = 0, reason: int = 0) -> None:
        """Send an A-ABORT (source 0: we as service user; 2: as provider, with `reason`) and close."""
        self.is_open = False
        if self._stuck_since is not None:  # half a PDU may be out: no A-ABORT can follow it
            self._stream.close()
            return
        with contextlib.suppress(OSError):
            self._stream.send(encode(Abort(source, reason)), _PARTING_TIMEOUT)
        self._stream.linger()

    def interrupt(self) -> None:
        """Make a wait in another thread end: the connection is shut down without a word."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._stream.socket, socket.SHUT_RDWR)  # not SSLSocket's: that forgets TLS

    def close(self) -> None:
        """Close the connection without a word; for use after a failure, and by `with closing(...)`."""
        self.is_open = False
        self._stream.close()

    # ------------------------------------------------------------------ the common ground

    def _read_header(self, deadline: float) -> tuple[int, int]:
        return parse_pdu_header(self._stream.take(6, deadline), self.maximum_length)

    def _skip_rest_of_pdu(self, deadline: float) -> None:
        """Drop what nobody waits for of the P-DATA PDU last begun."""
        self._stream.read(self._pdu_left, deadline)
        self._pdu_left = 0

    def _read_pdu(self, deadline: float) -> Pdu:
        pdu_type, length = self._read_header(deadline)
        if pdu_type == PduType.P_DATA:
            raise ProtocolError("P-DATA before the association", abort_reason=AbortReason.UNEXPECTED_PDU)
        return self._decode(pdu_type, self._stream.read(length, deadline))

    def _decode(self, pdu_type: int, body: bytes) -> Pdu:
        pdu = decode(pdu_type, body)
        if isinstance(pdu, Abort):
            raise AssociationAborted(pdu)
        return pdu

    def _expect(self, pdu: Pdu, kind: type[PduT]) -> PduT:
        if not isinstance(pdu, kind):
            raise ProtocolError(
                f"{type(pdu).__name__} where {kind.__name__} was due", abort_reason=AbortReason.UNEXPECTED_PDU
            )
        return pdu

    def _guard(self, step: Callable[[], T], what: str, seconds: float) -> T:
        """Run `step`; turn what goes wrong into one of our errors after telling the peer."""
        try:
            return step()
        except _FAILURES as error:
            self._fail(error, what, seconds)

    def _fail(self, error: OSError | AssociationLost, what: str, seconds: float) -> NoReturn:
        if isinstance(error, ProtocolError):
            self.abort(source=2, reason=error.abort_reason)
            raise error
        if isinstance(error, AssociationLost):
            self.close()
            raise error
        if isinstance(error, TimeoutError):
            self.abort(source=2, reason=AbortReason.NOT_SPECIFIED)
            raise AssociationTimeout(what, seconds) from error
        self.close()
        raise ConnectionBroken(error) from error

    def _send(self, data: bytes | memoryview, timeout: float) -> None:
        try:
            self._stream.send(data, timeout)
        except TimeoutError as error:
            # Half a PDU may be out: no A-ABORT can follow it.
            self._explain_failed_send(AssociationTimeout("the peer took nothing", timeout), error)
        except OSError as error:
            self._explain_failed_send(ConnectionBroken(error), error)

    def _explain_failed_send(self, failure: AssociationLost, error: OSError) -> NoReturn:
        """Raise why sending failed: what the peer said last is usually still there to be read."""
        self.is_open = False
        try:
            waited = isinstance(failure, AssociationTimeout)  # what it said is here by now, if anything
            self._read_last_words(time.monotonic() + (_AT_HAND if waited else _PARTING_TIMEOUT))
        except AssociationAborted:
            raise
        except (PeerClosed, TimeoutError, ProtocolError):
            raise failure from error
        except OSError as reason:
            raise ConnectionBroken(reason) from error
        finally:
            self.close()

    def _read_last_words(self, deadline: float) -> NoReturn:
        """Read until an A-ABORT, which may be behind an answer that came early, or until a failure."""
        self._skip_rest_of_pdu(deadline)
        while True:
            pdu_type, length = self._read_header(deadline)
            body = self._stream.read(length, deadline)
            if pdu_type == PduType.ABORT:
                self._decode(pdu_type, body)

    def _dump(self, pdu: AssociateRequest | AssociateAccept) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            for line in describe(pdu):
                logger.debug("%s", line)


def _is_command(begun: memoryview) -> bool | None:
    """Tell whether what has `begun` is a whole command set in one PDU, None where too little came to tell."""
    if len(begun) < 6:
        return None
    length = int.from_bytes(begun[2:6], "big")
    if begun[0] != PduType.P_DATA or not 6 <= length <= _LONG_COMMAND:
        return False
    if len(begun) < 6 + length:
        return None
    return int.from_bytes(begun[6:10], "big") == length - 4 and begun[11] & 3 == 3
