"""What a test receiver does wrong on purpose, so that a sender can be seen to bear it."""

from __future__ import annotations

from typing import NamedTuple

from dicomtls_cli.dimse.status import SUCCESS, StatusClass, classify
from dicomtls_cli.errors import AssociationLost
from dicomtls_cli.upperlayer.pdu import AssociateReject, AssociateRequest


class Faults(NamedTuple):
    """The faults of a receiver; as it stands, none.

    `refuse` rejects every association, `reject_nameless` those without an implementation class UID. `status`
    is what every C-STORE is answered with; where it is a failure, nothing is stored. In seconds: `delay`
    before each answer to a C-STORE, `sleep_after` after it, `sleep_during` once within each data set.
    `abort_during` and `abort_after` abort in the middle and at the end of the data set of the `abort_on`th
    C-STORE of an association, before it is stored.
    """

    refuse: bool = False
    reject_nameless: bool = False
    status: int = SUCCESS
    delay: float = 0.0
    sleep_after: float = 0.0
    sleep_during: float = 0.0
    abort_during: bool = False
    abort_after: bool = False
    abort_on: int = 1

    def told(self) -> list[str]:
        """Return the names of the faults that are on, as the options spell them."""
        names = {"reject_nameless": "reject"}
        return [
            names.get(name, name)
            for name, value, harmless in zip(self._fields, self, Faults(), strict=True)
            if value != harmless
        ]

    @property
    def keeps_nothing(self) -> bool:
        """Whether every instance is refused, and so must not be stored."""
        return classify(self.status) in (StatusClass.FAILURE, StatusClass.INVALID)

    def rejection_of(self, request: AssociateRequest) -> AssociateReject | None:
        """Return how `request` is rejected on purpose (user, permanent, no reason), or None."""
        nameless = self.reject_nameless and not request.implementation_class_uid
        return AssociateReject(1, 1, 1) if self.refuse or nameless else None


class AbortedOnPurpose(AssociationLost):
    """We aborted the association, as we were told to."""

    def __init__(self) -> None:
        super().__init__(
            "aborted on purpose",
            "leave `--abort-during` and `--abort-after` out where images are to be received",
            slug="association.test-abort",
        )
