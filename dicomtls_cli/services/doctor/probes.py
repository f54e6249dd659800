"""The connections to one peer: each counted, each with a deadline, none beyond what was said."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.tls.conversation import ask, survey
from dicomtls_cli.tls.survey import Ending, Offer, Seen, survey_context

logger = logging.getLogger("dicomtls.tls")

T = TypeVar("T")

_LISTEN = 1.0  # seconds in which a peer that refuses a certificate after the handshake says so
_ASSOCIATION = 2  # connections: the association, and one that asks why it was refused
_PHASES = 4  # of an association, each with a time-out of its own


class Limits(NamedTuple):
    """How far a walk may go: connections in all, and seconds."""

    connections: int = 80
    seconds: float = 60.0


class Probes:
    """Connections to `peer`, made as `requestor` would make them, within `limits`.

    `made` counts them; `cut_short` says which limit kept one from being made. `entry` (of `getaddrinfo`) is where they
    go to, once it is known.
    """

    def __init__(self, peer: Peer, requestor: Requestor, limits: Limits) -> None:
        self.peer = peer
        self.requestor = requestor
        self.made = 0
        self.cut_short = ""
        self.end = time.monotonic() + limits.seconds
        self.entry: Any = None
        self._most = limits.connections

    def may_connect(self, connections: int = 1) -> bool:
        """Tell whether so many more connections are within the limits, and note which limit forbids it."""
        if self.made + connections > self._most:
            self.cut_short = self.cut_short or "the connections that were allowed are used up"
        elif self._remaining() <= 0:
            self.cut_short = self.cut_short or "the time that was allowed is over"
        else:
            return True
        return False

    def dial(self, entry: Any) -> socket.socket:
        """Connect to one address; raises OSError."""
        family, kind, protocol, _, address = entry
        self.made += 1
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(min(self.requestor.timeouts.connect, self._remaining()), 0.001))
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def for_association(self, requestor: Requestor, most: float | None = None) -> Requestor | None:
        """Return `requestor` for one association, no time-out beyond `most` seconds; None beyond the limits."""
        if not self.may_connect(_ASSOCIATION):
            return None
        self.made += _ASSOCIATION
        logger.info("asking for an association")
        longest = max(round(self._remaining() / _PHASES, 1), 0.1)
        longest = longest if most is None else min(longest, most)
        spent = requestor.timeouts
        bounded = spent._replace(
            connect=min(spent.connect, longest),
            tls=min(spent.tls, longest),
            acse=min(spent.acse, longest),
            dimse=min(spent.dimse, longest),
        )
        return requestor._replace(timeouts=bounded)

    def converse(self, offer: Offer, *, listen: bool = False) -> Seen | None:
        """Make one connection and a handshake that offers `offer`; None beyond the limits.

        `listen` waits for what the peer says of our certificate after the handshake.
        """
        try:
            context = survey_context(offer)
        except (ssl.SSLError, ValueError):
            return Seen(Ending.NOT_OFFERED)
        what = f"{offer.lowest} to {offer.highest}" if offer.lowest != offer.highest else offer.lowest
        logger.info("offering %s%s", what, f" with {offer.group}" if offer.group else "")
        return self.converse_with(context, listen=listen)

    def converse_with(self, context: ssl.SSLContext, *, listen: bool = False) -> Seen | None:
        """Do the same with any `context`."""
        seconds = _LISTEN if listen else 0.0
        try:
            return self._with_connection(
                lambda sock, end: survey(sock, context, self.peer.host, end, listen=seconds)
            )
        except OSError as error:
            return Seen(Ending.RESET, error=error)

    def ask(self, version: str, suites: tuple[int, ...]) -> int | None:
        """Make one connection and a bare ClientHello, see `conversation.ask`; None beyond the limits, too."""
        logger.info("offering %s with %d suites", version, len(suites))
        try:
            return self._with_connection(lambda sock, end: ask(sock, version, suites, self.peer.host, end))
        except OSError:
            return None

    def _with_connection(self, use: Callable[[socket.socket, float], T]) -> T | None:
        if not self.may_connect():
            return None
        with self.dial(self.entry) as sock:
            return use(sock, time.monotonic() + min(self.requestor.timeouts.tls, self._remaining()))

    def _remaining(self) -> float:
        return self.end - time.monotonic()
