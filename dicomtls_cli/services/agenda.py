"""Which instance is sent next, and which presentation contexts its association proposes. Pure.

The scan of a folder and the sending from it go on side by side: a few instances are known ahead, enough to
propose their contexts at once; the rest is looked at while the peer works on what it got.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from dicomtls_cli.services.scan import Instance
from dicomtls_cli.upperlayer.negotiation import MOST_CONTEXTS, Proposal

LOOK_AHEAD = 256
"""How many instances are known ahead: their heads take some 20 ms, less than one TLS handshake."""


def proposal(instance: Instance) -> Proposal:
    """Return the presentation context that takes `instance` exactly as it is stored."""
    return instance.sop_class, (instance.transfer_syntax,)


class Agenda:
    """The instances still to be sent, in the order that needs the fewest associations."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._source = iter(instances)
        self._queue: deque[Instance] = deque()
        self._later: deque[Instance] = deque()
        self._seen: dict[Proposal, None] = {}
        self._is_fresh = True
        self._failure: Exception | None = None
        while len(self._queue) < LOOK_AHEAD and self.look_further():
            pass

    def look_further(self) -> bool:
        """Get to know one more instance; tell whether there was one, or room for one.

        What the source of instances raises is kept: `next` raises it when those known by then are through.
        """
        if len(self._queue) >= LOOK_AHEAD or self._failure is not None:
            return False
        try:
            instance = next(self._source, None)
        except Exception as error:
            self._failure = error
            return False
        if instance is None:
            return False
        self._queue.append(instance)
        self._seen[proposal(instance)] = None
        return True

    def next(self, proposed: Collection[Proposal]) -> Instance | None:
        """Return the next instance for an association that proposed these contexts, None at the end.

        One that does not fit waits for a later association where this one has no context left; else it is
        returned, and takes a new association, which can then propose more.
        """
        while self._queue or self.look_further() or self._begin_again():
            instance = self._queue.popleft()
            if proposal(instance) in proposed or len(proposed) < MOST_CONTEXTS or self._is_fresh:
                self._is_fresh = False
                return instance
            self._later.append(instance)
        if self._failure is not None:
            raise self._failure
        return None

    def _begin_again(self) -> bool:
        """Turn to what did not fit; the first of it opens a new association."""
        self._queue, self._later = self._later, self._queue
        self._is_fresh = True
        return bool(self._queue)

    def proposals(self, instance: Instance) -> list[Proposal]:
        """Return what an association for `instance` proposes: its own context, those of the instances known
        ahead, and those that were needed before, as far as 128 go.
        """  # noqa: D205 - one sentence, two lines
        known = (proposal(ahead) for ahead in self._queue)
        return list(dict.fromkeys([proposal(instance), *known, *self._seen]))[:MOST_CONTEXTS]

    def rest(self) -> Iterator[Instance]:
        """Yield everything that was not taken yet."""
        yield from self._queue
        yield from self._later
        yield from self._source
