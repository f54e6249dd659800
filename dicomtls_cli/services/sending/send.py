"""C-STORE as a service class user (PS3.4 Annex B): many files, few associations, no surprise."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.services.sending.agenda import Agenda, Kind, as_stored
from dicomtls_cli.services.sending.lines import THREAD, Aside, Lines, Wait
from dicomtls_cli.services.sending.outcome import Outcome, not_sent
from dicomtls_cli.services.sending.sender import Sender, Wishes
from dicomtls_cli.services.transcoding.transcode import fallbacks
from dicomtls_cli.upperlayer.negotiation import Proposal

__all__ = ["Outcome", "Wishes", "convertible", "send"]

logger = logging.getLogger("dicomtls.association")


def send(
    peer: Peer,
    instances: Iterable[Instance],
    requestor: Requestor,
    wishes: Wishes = Wishes(),  # noqa: B008 - a named tuple cannot change
    *,
    jobs: int = 1,
    ending: threading.Event | None = None,
    on_connected: Callable[[], None] = lambda: None,
    read_ahead: ReadAhead | None = None,
) -> Iterator[Outcome]:
    """Send `instances` to `peer` and yield what became of each, in the order that is known.

    Each is proposed exactly as it is stored and, unless `wishes` forbid it, in what it can be converted to,
    for a peer that refuses the first; more than 128 presentation contexts take further associations.
    `instances` may still be looked for while the first are sent, and what was read of small files is taken from
    `read_ahead`; `jobs` associations take from them at once.
    After a lost association the rest goes over a new one, unless two in a row stored nothing. Once `ending`
    is set, by whomever, what is on its way is still answered, and the rest not tried and not yielded.
    `on_connected` is called when the first association is open. Leaving early aborts: by then the next
    instance is on its way. Raises DicomTlsError when the very first association does not come about.
    """
    agenda = Agenda(instances, convertible if wishes.transcode else as_stored, read_ahead)
    ending = ending or threading.Event()
    crew = _Crew(peer, requestor, agenda, wishes, ending, on_connected)
    yield from crew.side_by_side(jobs) if jobs > 1 else crew.alone()


def convertible(kind: Kind) -> tuple[Proposal, ...]:
    """Return the presentation contexts that take instances of `kind` as they are stored, or converted."""
    others = fallbacks(kind[1])
    return (*as_stored(kind), (kind[0], others)) if others else as_stored(kind)


class _Crew:
    """The senders of one `send`."""

    def __init__(
        self,
        peer: Peer,
        requestor: Requestor,
        agenda: Agenda,
        wishes: Wishes,
        ending: threading.Event,
        on_connected: Callable[[], None],
    ) -> None:
        self.peer = peer
        self.requestor = requestor
        self.agenda = agenda
        self.wishes = wishes
        self.ending = ending
        self.on_connected = on_connected

    def sender(
        self,
        on_connected: Callable[[], None] = lambda: None,
        *,
        is_extra: bool = False,
        is_beside: bool = False,
    ) -> Sender:
        return Sender(
            self.peer,
            self.requestor,
            self.agenda,
            self.wishes,
            self.ending,
            on_connected,
            is_extra=is_extra,
            is_beside=is_beside,
        )

    def alone(self, *, is_first: bool = True) -> Iterator[Outcome]:
        """Let one sender work; where it `is_first` and gets no association, raise why."""
        sender = self.sender(self.on_connected)
        try:
            for step in sender.steps():
                if isinstance(step, Outcome):
                    yield step
        finally:
            sender.abandon()
        if sender.given_up is not None:
            if is_first and not sender.has_connected:
                raise sender.given_up
            yield from self.left_over(sender.given_up)

    def left_over(self, cause: DicomTlsError) -> Iterator[Outcome]:
        """Yield the outcome of what is on the agenda and will not be sent any more."""
        for instance in self.agenda.rest():
            if self.ending.is_set():
                return
            if self.wishes.halt:
                self.ending.set()
            yield not_sent(instance, cause)

    def side_by_side(self, jobs: int) -> Iterator[Outcome]:
        """Let `jobs` senders work at once; the first connects before the others do.

        So a peer that is not there is told of once, and one that takes fewer associations than `jobs` gets
        everything over those it takes.
        """
        lines = Lines[Outcome]()
        senders: list[Sender] = []
        failures: list[Exception] = []

        def start(on_connected: Callable[[], None] = lambda: None) -> None:
            sender = self.sender(on_connected, is_extra=bool(senders), is_beside=True)
            senders.append(sender)
            lines.add(self.line(sender, failures))

        def start_others() -> None:
            self.on_connected()
            for _ in range(min(jobs - 1, self.agenda.known)):
                start()

        start(start_others)
        try:
            yield from lines.run()
        finally:
            _abandon(senders)
        if failures:
            raise failures[0]
        yield from self.after(senders)

    def line(
        self, sender: Sender, failures: list[Exception]
    ) -> Generator[Outcome | Wait | Aside[Any], None, None]:
        """Let `sender` work; what it fails with ends the others in order."""
        try:
            yield from sender.steps()
        except Exception as error:
            failures.append(error)
            self.ending.set()
            sender.abandon()

    def after(self, senders: list[Sender]) -> Iterator[Outcome]:
        """Deal with what is left when all `senders` have ended."""
        gave_up = [sender.given_up for sender in senders if sender.given_up is not None]
        if not senders[0].has_connected and gave_up:
            raise gave_up[0]
        if len(gave_up) == len(senders):
            yield from self.left_over(gave_up[0])
            return
        for cause in gave_up:
            logger.warning("fewer associations than wanted: %s", cause.message)
        # What one that gave up handed back when the others were through.
        yield from self.alone(is_first=False)


def _abandon(senders: list[Sender]) -> None:
    """Abort what is still open, all of it at once: a peer that does not take it costs seconds."""
    threads = []
    for sender in senders:
        if not sender.is_open:
            sender.abandon()
            continue
        thread = threading.Thread(target=sender.abandon, daemon=True, name=THREAD)
        try:
            thread.start()
        except RuntimeError:  # this machine has no more threads
            sender.abandon()
        else:
            threads.append(thread)
    for thread in threads:
        thread.join()
