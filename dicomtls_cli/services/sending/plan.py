"""What a sending would be, without a connection: files, presentation contexts, associations, bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.services.sending.agenda import Kind, as_stored
from dicomtls_cli.upperlayer.negotiation import MOST_CONTEXTS, Proposal


class PlannedContext(NamedTuple):
    """A presentation context that is needed, for how many instances and bytes of data sets."""

    sop_class: str
    transfer_syntax: str
    instances: int
    length: int


class Plan:
    """The instances that would be sent; they are counted, not kept.

    `contexts` says which presentation contexts instances of a kind may need.
    """

    def __init__(self, contexts: Callable[[Kind], tuple[Proposal, ...]] = as_stored) -> None:
        self._needs = contexts
        self.instances = 0
        self.length = 0
        self._contexts: dict[tuple[str, str], PlannedContext] = {}

    def add(self, instance: Instance) -> None:
        """Count `instance` in."""
        context = instance.sop_class, instance.transfer_syntax
        length = instance.size - instance.offset
        before = self._contexts.get(context) or PlannedContext(*context, 0, 0)
        self._contexts[context] = PlannedContext(*context, before.instances + 1, before.length + length)
        self.instances += 1
        self.length += length

    @property
    def contexts(self) -> list[PlannedContext]:
        """The contexts by SOP class and transfer syntax."""
        return sorted(self._contexts.values())

    @property
    def associations(self) -> int:
        """The least number of associations with room for all contexts: 128 in each. PS3.8 section 9.3.2.2."""
        proposals = {need for kind in self._contexts for need in self._needs(kind)}
        return -(-len(proposals) // MOST_CONTEXTS)


def uid_name(uid: str) -> str:
    """Return the name that PS3.6 gives to `uid`, or `uid` itself where it has none (private, newer)."""
    from pydicom.uid import UID_dictionary

    return str(UID_dictionary[uid][0]) if uid in UID_dictionary else uid
