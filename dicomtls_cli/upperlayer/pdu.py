"""PDUs as values, for both roles (PS3.8 section 9.3); their bytes are `codec`'s business.

P-DATA is not among them: `association` reads and writes it in place, with the headers of `header`.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from dicomtls_cli import __version__
from dicomtls_cli.upperlayer.items import (
    AsyncOperations,
    ImplementationClassUID,
    ImplementationVersion,
    MaximumLength,
    RoleSelection,
    UserIdentity,
    UserIdentityResponse,
    UserItem,
)

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS_UID = "2.25.274696005584770401194279963554177624180"
IMPLEMENTATION_VERSION = f"DICOMTLS_{__version__}"[:16]

_PROTOCOL_VERSION = 1
_UNSTATED_MAXIMUM = 16384

ItemT = TypeVar("ItemT", bound=UserItem)


class PresentationContext(NamedTuple):
    """A proposal: one abstract syntax with the transfer syntaxes it may travel in. PS3.8 section 9.3.2.2."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class ContextResult(NamedTuple):
    """The answer to a proposal: result 0 is acceptance, in `transfer_syntax`. PS3.8 section 9.3.3.2.

    `transfer_syntax` means nothing where the result is not 0.
    """

    context_id: int
    result: int
    transfer_syntax: str


class _Negotiation:
    """What both sides say in their user information, by name; of a repeated item the first counts."""

    __slots__ = ()
    user_information: tuple[UserItem, ...]

    def _first(self, kind: type[ItemT]) -> ItemT | None:
        return next((item for item in self.user_information if isinstance(item, kind)), None)

    @property
    def maximum_length(self) -> int:
        """Bytes the sender receives in one P-DATA PDU, 0 for no limit; 16,384 where it did not say."""
        item = self._first(MaximumLength)
        return _UNSTATED_MAXIMUM if item is None else item.value

    @property
    def implementation_class_uid(self) -> str:
        """The sender's implementation class UID, or an empty string."""
        item = self._first(ImplementationClassUID)
        return item.uid if item else ""

    @property
    def implementation_version(self) -> str:
        """The sender's implementation version name, or an empty string."""
        item = self._first(ImplementationVersion)
        return item.name if item else ""

    @property
    def async_operations(self) -> AsyncOperations | None:
        """The asynchronous operations window, where one was asked for."""
        return self._first(AsyncOperations)

    @property
    def roles(self) -> dict[str, RoleSelection]:
        """Role selections by SOP class UID."""
        roles: dict[str, RoleSelection] = {}
        for item in self.user_information:
            if isinstance(item, RoleSelection):
                roles.setdefault(item.sop_class, item)
        return roles


class _Request(NamedTuple):
    called_ae: str
    calling_ae: str
    contexts: tuple[PresentationContext, ...]
    user_information: tuple[UserItem, ...]
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = _PROTOCOL_VERSION


class AssociateRequest(_Request, _Negotiation):
    """A-ASSOCIATE-RQ. PS3.8 section 9.3.2."""

    __slots__ = ()

    @property
    def speaks_version_1(self) -> bool:
        """Whether protocol version 1 is offered; no other bit is to be tested. PS3.8 section 9.3.2."""
        return bool(self.protocol_version & _PROTOCOL_VERSION)

    @property
    def user_identity(self) -> UserIdentity | None:
        """Who the requestor says it is, where it does."""
        return self._first(UserIdentity)


class _Accept(NamedTuple):
    called_ae: str
    calling_ae: str
    results: tuple[ContextResult, ...]
    user_information: tuple[UserItem, ...]
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = _PROTOCOL_VERSION


class AssociateAccept(_Accept, _Negotiation):
    """A-ASSOCIATE-AC. Its AE titles only echo the request and are not to be tested. PS3.8 section 9.3.3."""

    __slots__ = ()

    @property
    def user_identity_response(self) -> UserIdentityResponse | None:
        """The answer to our user identity, where a positive response was asked for and given."""
        return self._first(UserIdentityResponse)


class AssociateReject(NamedTuple):
    """A-ASSOCIATE-RJ. PS3.8 section 9.3.4; in words: `words.reject_words`."""

    result: int
    source: int
    reason: int


class _WithoutFields:
    """Equal to its own kind alone: an empty tuple would equal any other."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))


class ReleaseRequest(_WithoutFields):
    """A-RELEASE-RQ. PS3.8 section 9.3.6."""

    __slots__ = ()


class ReleaseResponse(_WithoutFields):
    """A-RELEASE-RP. PS3.8 section 9.3.7."""

    __slots__ = ()


class Abort(NamedTuple):
    """A-ABORT: source 0 the service user, 2 the service provider. PS3.8 section 9.3.8."""

    source: int
    reason: int


Pdu = AssociateRequest | AssociateAccept | AssociateReject | ReleaseRequest | ReleaseResponse | Abort
