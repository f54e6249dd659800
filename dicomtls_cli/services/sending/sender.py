"""One line of associations that takes instances from an agenda and sends them (PS3.4 Annex B, PS3.7 9.1.1).

The order of work keeps the peer busy: what is next is read and laid out while the peer stores what it got,
and leaves before anybody is told how that went.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dicomtls_cli.dimse.command import (
    Command,
    Priority,
    next_message_id,
)
from dicomtls_cli.dimse.repeated import CommandReader
from dicomtls_cli.dimse.status import StatusClass, classify, words
from dicomtls_cli.errors import AssociationLost, DicomTlsError, ExitCode
from dicomtls_cli.services.connect import Established, associate
from dicomtls_cli.services.echo import expect_response
from dicomtls_cli.services.files.modality import modality
from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.services.sending.agenda import Agenda, Kind, kind_of
from dicomtls_cli.services.sending.lines import Aside, Wait
from dicomtls_cli.services.sending.outcome import Outcome, no_context, not_sent, unreadable
from dicomtls_cli.services.sending.staging import Staged, Way, stage
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.failures import AssociationRejected
from dicomtls_cli.upperlayer.negotiation import Proposal, propose, refused_contexts
from dicomtls_cli.upperlayer.pdu import PresentationContext

logger = logging.getLogger("dicomtls.association")

T = TypeVar("T")

_FRUITLESS = 2  # associations in a row that stored nothing: the peer is at fault, not a file
_QUICK = (
    1 << 20
)  # bytes that leave before the outcome of the last instance is told: a report must not lag behind
_FIRST_PAUSE = 1.0  # seconds before the first association that is tried again; twice as long for each further
_LONGEST_PAUSE = 30.0
_REST = 0.5  # seconds in which the rest of a response is not worth a thread
_GLANCE = 0.1  # seconds between two looks, in a pause, whether all is to end
if TYPE_CHECKING:
    _Waits = Generator[Wait | Aside[Any], None, None]

_TRANSIENT = 2  # the result of an A-ASSOCIATE-RJ that may pass, PS3.8 9.3.4


class Wishes(NamedTuple):
    """How instances are sent.

    `window` is how many may be on their way at once, where the peer agrees (PS3.7 D.3.3.3); `retries` how
    often an instance is sent again that a lost association left without an answer; `halt` ends with the
    first failure; `transcode` lets instances be converted where the peer refuses their own transfer syntax.
    """

    priority: Priority = Priority.MEDIUM
    halt: bool = False
    window: int = 1
    retries: int = 0
    transcode: bool = True


class _Sent(NamedTuple):
    """An instance whose response is awaited."""

    instance: Instance
    context_id: int
    transfer_syntax: str
    length: int
    begun: float


class Sender:
    """Associations with `peer`, one after the other, until `agenda` is through or `ending` is set.

    `on_connected` is called when the first is open. Afterwards `given_up` tells why instances were left on
    the agenda, None if they were not. One that `is_extra` helps others: where it gets no association it leaves
    the work to them, and does not try again. One that `is_beside` others waits for nothing by itself while they
    could go on.
    """

    def __init__(
        self,
        peer: Peer,
        requestor: Requestor,
        agenda: Agenda,
        wishes: Wishes,
        ending: threading.Event,
        on_connected: Callable[[], None] = lambda: None,
        *,
        is_extra: bool = False,
        is_beside: bool = False,
    ) -> None:
        self.given_up: DicomTlsError | None = None
        self.has_connected = False
        self._peer = peer
        self._requestor = requestor
        self._agenda = agenda
        self._wishes = wishes
        self._ending = ending
        self._on_connected = on_connected
        self._is_extra = is_extra
        self._is_beside = is_beside
        self._aside: Aside[Any] | None = None
        self._association: Association | None = None
        self._proposed: dict[Proposal, Way] = {}  # by the association that is open, if one is
        self._ways: dict[Kind, Way] = {}
        self._window = 1
        self._has_stored = False
        self._failures = 0  # associations in a row that stored nothing
        self._tries: Counter[Instance] = Counter()
        self._message_id = 0
        self._outstanding: dict[int, _Sent] = {}
        self._ahead: Instance | None = None  # the next one, where it is known already
        self._staged: Staged | None = None  # what of it is laid out already on the open association
        self._told: list[Outcome] = []
        self._responses = CommandReader()

    def steps(self) -> Iterator[Outcome | Wait | Aside[Any]]:
        """Send one instance after the other and yield what becomes of each, in the order of the answers.

        Between them it yields what it waits for; whoever goes on at once makes it wait.
        """
        while True:
            if self._staged is None or self._staged.length > _QUICK:
                yield from self._take_told()
            more = yield from self._fill()
            yield from self._take_told()
            if self._outstanding:
                self._look_ahead()
                yield from self._await_response()
            elif not more:
                break
        yield from self._part()

    def _take_told(self) -> list[Outcome]:
        told, self._told = self._told, []
        return told

    @property
    def is_open(self) -> bool:
        """Whether there is an association that `abandon` would abort."""
        return self._association is not None and self._association.is_open

    def abandon(self) -> None:
        """Abort what is still open: the sending was left in the middle."""
        self._unstage()
        if self._aside is not None:
            self._aside.abandon()
            if self._association is not None:  # a thread reads from it
                self._association.interrupt()
        elif self._association is not None and self._association.is_open:
            self._association.abort()

    # ------------------------------------------------------------------ the loop's three steps

    def _fill(self) -> Generator[Wait | Aside[Any], None, bool]:
        """Send as much as may be on its way at once; tell whether there can be more."""
        told = len(self._told)
        while len(self._outstanding) < self._window and len(self._told) == told:
            instance = None if self._ending.is_set() or self.given_up else self._next()
            if instance is None:
                return False
            way = self._way(instance)
            if way is None:
                if self._outstanding:  # their association ends only when they are answered
                    self._ahead = instance
                    return True
                if not (yield from self._reopen(instance)):
                    return False
                if self._ending.is_set():  # opening it may have taken its time
                    self._agenda.put_back(instance)
                    return False
                way = self._way(instance)
                assert way is not None
            if way.refusal:
                self._tell(no_context(instance, way.refusal))
                self._unstage()
            else:
                yield from self._transmit(instance, way)
                if self._association is None:  # lost: what became of the last ones is told before a new one
                    break
        return True

    def _look_ahead(self) -> None:
        """Do for the next instances what can be done while the peer works on this one."""
        self._agenda.look_further()
        if self._ahead is not None or self._ending.is_set():
            return
        # What fails here fails again when its turn has come, and is told then. (`suppress` is slow.)
        try:
            self._ahead = self._agenda.next(self._proposed)
        except Exception:
            return
        way = self._ahead and self._way(self._ahead)
        if self._ahead is not None and way and not way.refusal:
            try:
                self._staged = self._stage(self._ahead, way)
            except (DicomTlsError, OSError):
                self._staged = None

    def _await_response(self) -> _Waits:
        association = self._association
        assert association is not None
        awaited = {number: sent.context_id for number, sent in self._outstanding.items()}
        until = time.monotonic() + association.dimse_timeout

        def expect() -> Command:
            return expect_response(association, awaited, self._responses.read, until=until)

        try:
            if not self._is_beside or (yield from self._is_here(association, until)):
                response = expect()
            else:  # half of one, or none, or a farewell: whatever it is, no other line waits for it
                response = yield from self._set_aside(Aside(expect, drop=lambda _: association.close()))
        except AssociationLost as error:
            yield from self._lose(error)
            return
        assert response.responded_to is not None
        self._tell(self._judge(self._outstanding.pop(response.responded_to), response))

    def _is_here(self, association: Association, until: float) -> Generator[Wait, None, bool]:
        """Wait for a response; tell whether it can be taken without a further wait."""
        if not association.has_buffered:
            yield Wait(association, False, until)
        while (is_here := association.has_command()) is None and time.monotonic() < until:
            if association.has_buffered:  # the rest of a response that has begun has a deadline of its own
                until = min(until, time.monotonic() + _REST)
            yield Wait(association, False, until)
        return bool(is_here)

    # ------------------------------------------------------------------ associations

    def _next(self) -> Instance | None:
        instance, self._ahead = self._ahead, None
        if instance is None:
            try:
                instance = self._agenda.next(self._proposed)
            except Exception:
                if self._outstanding:  # they are answered first; the failure comes again
                    return None
                raise
        return instance

    def _way(self, instance: Instance) -> Way | None:
        """Return how `instance` travels on the open association, None where that did not propose its kind."""
        kind = kind_of(instance)
        way = self._ways.get(kind)
        if way is None:
            needs = self._agenda.needs(kind)
            if not all(need in self._proposed for need in needs):
                return None
            ways = [self._proposed[need] for need in needs]
            way = next((way for way in ways if not way.refusal), ways[0])
            self._ways[kind] = way
        return way

    def _reopen(self, instance: Instance) -> Generator[Wait | Aside[Any], None, bool]:
        """Open an association that proposes what `instance` and those known ahead need; tell whether it is."""
        yield from self._part()
        while True:
            contexts = propose(self._agenda.proposals(instance))
            try:
                opened = yield from self._set_aside(self._opening(contexts))
                break
            except DicomTlsError as error:
                self._failures += 1
                if not (self._may_retry(error) and (yield from self._pause(error))):
                    self._agenda.put_back(instance)
                    self.given_up = error
                    return False
        self._association = opened.association
        refused = refused_contexts(opened.request, opened.accept)
        accepted = opened.association.contexts
        for number, abstract_syntax, transfer_syntaxes in contexts:
            syntax = accepted[number].transfer_syntax if number in accepted else ""
            way = Way(number, syntax, refused.get(number, ""))
            self._proposed[abstract_syntax, transfer_syntaxes] = way
        granted = opened.accept.async_operations
        self._window = min(self._wishes.window, (granted.invoked or self._wishes.window) if granted else 1)
        self._has_stored = False
        if not self.has_connected:
            self.has_connected = True
            self._on_connected()
        return True

    def _opening(self, contexts: tuple[PresentationContext, ...]) -> Aside[Established]:
        return Aside(
            lambda: associate(self._peer, contexts, self._requestor, window=self._wishes.window),
            drop=lambda opened: opened.association.abort(),
        )

    def _set_aside(self, step: Aside[T]) -> Generator[Aside[T], None, T]:
        """Let `step` be done and return, or raise, what came of it."""
        self._aside = step
        yield step
        self._aside = None
        return step.result()

    def _may_retry(self, error: DicomTlsError) -> bool:
        """Tell whether an association that did not come about is tried again."""
        from dicomtls_cli.services.diagnosis.causes import HUNG_UP

        if self._is_extra and not self.has_connected:
            return False  # the instance it took would wait with it, and others can send that
        # A peer that took our TLS before and hangs up now is about to start or to end.
        may_pass = _may_pass(error) or (self.has_connected and error.slug == HUNG_UP.slug)
        return may_pass and self._failures <= self._wishes.retries

    def _pause(self, error: DicomTlsError) -> Generator[Wait, None, bool]:
        """Wait before an association is tried again; tell whether that is still wanted afterwards."""
        seconds = min(_FIRST_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE)
        logger.warning("%s; trying again in %g s", error.message, seconds)
        end = time.monotonic() + seconds
        # Not `wait`: a signal handler may set it in this very thread, while that holds the lock inside.
        while not self._ending.is_set() and (left := end - time.monotonic()) > 0:
            glance = time.monotonic() + min(left, _GLANCE)
            yield Wait(None, False, glance)
            time.sleep(max(glance - time.monotonic(), 0.0))
        return not self._ending.is_set()

    def _lose(self, error: AssociationLost, *more: Instance) -> _Waits:
        """Decide on what the lost association left without an answer: again, or not at all."""
        from dicomtls_cli.services.diagnosis.diagnose import Stage, diagnose

        cause = diagnose(error, role=Role.REQUESTOR, stage=Stage.DIMSE, peer=str(self._peer))
        unanswered = [*(sent.instance for sent in self._outstanding.values()), *more]
        self._outstanding.clear()
        self._let_go()
        again = []
        for instance in unanswered:
            self._tries[instance] += 1
            if self._tries[instance] > self._wishes.retries:
                self._tell(not_sent(instance, cause, "stored"))
            else:
                again.append(instance)
        self._failures += not self._has_stored
        is_over = self._failures >= max(_FRUITLESS, self._wishes.retries + 1)
        if again and not is_over:
            self._failures = max(self._failures, 1)
        if again and (is_over or not (yield from self._pause(cause))):
            for instance in again:
                self._tell(not_sent(instance, cause, "stored"))
            again = []
        self._put_back(again)
        if is_over:
            self.given_up = cause

    def _put_back(self, instances: list[Instance]) -> None:
        """Hand `instances` back to the agenda, and after them the one that was to be the next."""
        ahead, self._ahead = self._ahead, None
        self._agenda.put_back(*instances, *([] if ahead is None else [ahead]))

    def _let_go(self) -> Association | None:
        """Have no association any more; return the one that was open."""
        self._unstage()
        association, self._association = self._association, None
        self._proposed, self._ways = {}, {}
        return association

    def _part(self) -> _Waits:
        """Release the association in order; one that cannot be released any more is just closed."""
        association = self._let_go()
        if association is not None and association.is_open:
            yield from self._set_aside(Aside(lambda: self._release(association)))

    def _release(self, association: Association) -> None:
        try:
            logger.info("Releasing Association")
            association.release()
        except AssociationLost as error:
            # Every instance has its final status already: nothing is lost with the parting.
            logger.warning("%s: %s", self._peer, error.message)
        finally:
            association.close()

    # ------------------------------------------------------------------ one instance

    def _transmit(self, instance: Instance, way: Way) -> _Waits:
        """Send `instance`; its response is awaited then, unless its outcome is known already."""
        association = self._association
        assert association is not None
        begun = time.monotonic()
        try:
            staged, self._staged = self._staged or self._stage(instance, way), None
            with staged.data:
                self._tell_request(instance, staged.message_id)
                while not association.transmit(wait=not self._is_beside):
                    yield Wait(association, True, time.monotonic() + association.dimse_timeout)
        except AssociationLost as error:
            yield from self._lose(error, instance)
        except DicomTlsError as error:
            self._tell(Outcome(instance, None, error))
            if not association.is_open:  # we ended it, for a file that could not be read on
                self._put_back([sent.instance for sent in self._outstanding.values()])
                self._outstanding.clear()
                self._let_go()
        except OSError as error:
            self._tell(unreadable(instance, error))
        else:
            sent = _Sent(instance, way.context_id, way.transfer_syntax, staged.length, begun)
            self._outstanding[staged.message_id] = sent

    def _stage(self, instance: Instance, way: Way) -> Staged:
        assert self._association is not None
        self._message_id = next_message_id(self._message_id, self._outstanding)
        return stage(
            self._association, instance, way, self._message_id, self._wishes.priority, self._agenda.read_ahead
        )

    def _unstage(self) -> None:
        if self._staged is not None:
            self._staged.data.close()
            self._staged = None

    def _judge(self, sent: _Sent, response: Command) -> Outcome:
        status, comment = response.status, response.error_comment
        assert status is not None
        if logger.isEnabledFor(logging.INFO):
            logger.info("Received Store Response (%s)", "Success" if status == 0 else words(status, comment))
        failure = None
        if classify(status) in (StatusClass.SUCCESS, StatusClass.WARNING):
            self._has_stored = True
            self._failures = 0
        else:
            failure = DicomTlsError(
                f"the peer did not store `{sent.instance.file}`: {words(status, comment)}",
                "see the peer's log for the reason",
                slug="dimse.failure-status",
                exit_code=ExitCode.STATUS,
            )
        seconds = time.monotonic() - sent.begun
        return Outcome(sent.instance, status, failure, seconds, sent.length, sent.transfer_syntax)

    def _tell(self, outcome: Outcome) -> None:
        if self._wishes.halt and not outcome.is_stored:
            self._ending.set()
        self._told.append(outcome)

    def _tell_request(self, instance: Instance, message_id: int) -> None:
        if logger.isEnabledFor(logging.INFO):
            logger.info("Sending file: %s", instance.file)
            logger.info("Sending Store Request (MsgID %d, %s)", message_id, modality(instance.sop_class))


def _may_pass(error: DicomTlsError) -> bool:
    """Tell whether the reason why no association came about may be gone a little later."""
    cause = error.__cause__
    if isinstance(cause, AssociationRejected):
        return cause.reject.result == _TRANSIENT
    return error.exit_code in (ExitCode.UNREACHABLE, ExitCode.ABORTED)
