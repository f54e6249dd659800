"""Which instance is sent next, and which presentation contexts its association proposes. No network.

The scan of a folder and the sending from it go on side by side: a few instances are known ahead, enough to
propose their contexts at once; the rest is looked at while the peer works on what it got. Several
associations may take from one agenda.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.upperlayer.negotiation import MOST_CONTEXTS, Proposal

LOOK_AHEAD = 256
"""How many instances are known ahead: their heads take some 20 ms, less than one TLS handshake."""

Kind = tuple[str, str]
"""SOP class and transfer syntax: what decides how an instance can be sent."""


def kind_of(instance: Instance) -> Kind:
    """Return what decides how `instance` can be sent."""
    return instance.sop_class, instance.transfer_syntax


def as_stored(kind: Kind) -> tuple[Proposal, ...]:
    """Return the one presentation context that takes instances of `kind` exactly as they are stored."""
    return ((kind[0], (kind[1],)),)


class Agenda:
    """The instances still to be sent, in the order that needs the fewest associations.

    `contexts` says which presentation contexts instances of a kind may need, the best first; `read_ahead` has what
    was read of small files already.
    """

    def __init__(
        self,
        instances: Iterable[Instance],
        contexts: Callable[[Kind], tuple[Proposal, ...]] = as_stored,
        read_ahead: ReadAhead | None = None,
    ) -> None:
        self.read_ahead = read_ahead or ReadAhead()
        self._source = iter(instances)
        self._contexts = contexts
        self._queue: deque[Instance] = deque()
        self._later: deque[Instance] = deque()
        self._needs: dict[Kind, tuple[Proposal, ...]] = {}
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
        self.needs(kind_of(instance))
        return True

    def needs(self, kind: Kind) -> tuple[Proposal, ...]:
        """Return the presentation contexts that instances of `kind` may need, the best first."""
        found = self._needs.get(kind)
        if found is None:
            found = self._needs[kind] = self._contexts(kind)
        return found

    def next(self, proposed: Collection[Proposal]) -> Instance | None:
        """Return the next instance for an association that proposed these contexts, None at the end.

        One that does not fit waits for a later association where this one has no context left; else it is
        returned, and takes a new association, which can then propose more.
        """
        while self._queue or self.look_further() or self._begin_again():
            instance = self._queue.popleft()
            if self._is_fresh or self._fits(instance, proposed):
                self._is_fresh = False
                return instance
            self._later.append(instance)
        if self._failure is not None:
            raise self._failure
        return None

    def _fits(self, instance: Instance, proposed: Collection[Proposal]) -> bool:
        missing = sum(need not in proposed for need in self.needs(kind_of(instance)))
        return not missing or len(proposed) + missing <= MOST_CONTEXTS

    def _begin_again(self) -> bool:
        """Turn to what did not fit; the first of it opens a new association."""
        self._queue, self._later = self._later, self._queue
        self._is_fresh = True
        return bool(self._queue)

    def put_back(self, *instances: Instance) -> None:
        """Take back what was taken and could not be sent; it is the next then, in this order."""
        self._queue.extendleft(reversed(instances))

    def proposals(self, instance: Instance) -> list[Proposal]:
        """Return what an association for `instance` proposes: its own contexts, those of the instances known
        ahead, and those that were needed before, as far as 128 go.
        """  # noqa: D205 - one sentence, two lines
        found: dict[Proposal, None] = dict.fromkeys(self.needs(kind_of(instance)))
        for kind in dict.fromkeys([*map(kind_of, self._queue), *self._needs]):
            more = dict.fromkeys(self.needs(kind))
            if len(found | more) <= MOST_CONTEXTS:
                found |= more
        return list(found)

    @property
    def known(self) -> int:
        """How many instances are known and not taken yet."""
        return len(self._queue) + len(self._later)

    def rest(self) -> Iterator[Instance]:
        """Yield everything that was not taken yet."""
        yield from self._queue
        yield from self._later
        yield from self._source
