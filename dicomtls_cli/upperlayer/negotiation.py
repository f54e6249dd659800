"""What we propose and what we accept, as pure functions (PS3.8 sections 7.1.1 and 9.3, PS3.7 Annex D.3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dicomtls_cli.errors import ProtocolError, UsageError
from dicomtls_cli.upperlayer.header import OWN_MAXIMUM, AbortReason
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
from dicomtls_cli.upperlayer.pdu import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    AssociateAccept,
    AssociateRequest,
    ContextResult,
    PresentationContext,
)
from dicomtls_cli.upperlayer.registry import (
    DEFLATED,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    VERIFICATION,
    is_storage,
)
from dicomtls_cli.upperlayer.words import NOT_ANSWERED, result_words

MOST_CONTEXTS = 128
"""How many presentation contexts one association can have: ids are the odd numbers to 255."""

ACCEPTED = 0
USER_REJECTION = 1
ABSTRACT_SYNTAX_REFUSED = 3
TRANSFER_SYNTAXES_REFUSED = 4

Proposal = tuple[str, tuple[str, ...]]
"""An abstract syntax with the transfer syntaxes proposed for it."""

_AE_LENGTH = 16
_IDENTITY_LENGTH = 1024


def ae_title(text: str) -> str:
    """Return `text` as an AE title, without the spaces around it.

    Raise `UsageError` (`usage.ae-title`) unless 1 to 16 printable ASCII characters without a backslash
    remain. PS3.5 section 6.2, VR AE.
    """
    title = text.strip(" ")
    if 0 < len(title) <= _AE_LENGTH and title.isascii() and title.isprintable() and "\\" not in title:
        return title
    raise UsageError(
        f"`{text}` is not an AE title",
        "an AE title has 1 to 16 ASCII characters, not only spaces, and no backslash or control character",
        slug="usage.ae-title",
    )


# --- requestor -------------------------------------------------------------------------------------------


class AcceptedContext(NamedTuple):
    """A presentation context both sides agreed on."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


def user_identity(
    name: str, passcode: str | None = None, *, response_requested: bool = False
) -> UserIdentity:
    """Return the user identity item for a user name, with its passcode unless that is None.

    `response_requested` asks the peer to say that it took the user. Raise `UsageError`
    (`usage.user-identity`) unless the name is printable, not blank, and both fit into 1024 bytes of UTF-8.
    PS3.7 section D.3.3.7.1.
    """
    try:
        fields = [text.encode() for text in (name, passcode or "")]
    except UnicodeEncodeError:
        raise _not_a_user("is no text") from None
    if not name.isprintable() or not name.strip():
        raise _not_a_user("is blank or not printable")
    if max(map(len, fields)) > _IDENTITY_LENGTH:
        raise _not_a_user(f"is longer than {_IDENTITY_LENGTH} bytes")
    kind = 1 if passcode is None else 2
    return UserIdentity(kind, response_requested, *fields)


def _not_a_user(why: str) -> UsageError:
    # Neither is shown: what stands where the name is due may be the passcode.
    return UsageError(
        f"the user name or the passcode {why}",
        "check what `--user` and the passcode are; a shell variable may hold something else",
        slug="usage.user-identity",
    )


def propose(proposals: Iterable[Proposal]) -> tuple[PresentationContext, ...]:
    """Return the presentation contexts, with ids 1, 3, 5..., that propose `proposals` in their order.

    Repeated proposals count once. Raise `ValueError` on none, on more than 128, and on
    one without a transfer syntax.
    """
    unique = tuple(dict.fromkeys(proposals))
    if not 0 < len(unique) <= MOST_CONTEXTS:
        raise ValueError(f"{len(unique)} presentation contexts instead of 1 to {MOST_CONTEXTS}")
    for abstract_syntax, transfer_syntaxes in unique:
        if not transfer_syntaxes:
            raise ValueError(f"no transfer syntax proposed for {abstract_syntax}")
    return tuple(
        PresentationContext(2 * index + 1, abstract_syntax, transfer_syntaxes)
        for index, (abstract_syntax, transfer_syntaxes) in enumerate(unique)
    )


def accepted_contexts(request: AssociateRequest, accept: AssociateAccept) -> dict[int, AcceptedContext]:
    """Return by id the contexts of `request` that `accept` grants; one it does not mention is refused.

    Raise `ProtocolError` on an id or a transfer syntax never proposed and on a result outside 0-4.
    PS3.8 sections 7.1.1.14 and 9.3.3.2.
    """
    proposed = {context.context_id: context for context in request.contexts}
    granted: dict[int, AcceptedContext] = {}
    for answer_ in accept.results:
        context = proposed.get(answer_.context_id)
        if context is None:
            raise _bad_answer(f"answers presentation context {answer_.context_id}, which was never proposed")
        if not ACCEPTED <= answer_.result <= TRANSFER_SYNTAXES_REFUSED:
            raise _bad_answer(
                f"answers presentation context {context.context_id} with result {answer_.result}"
            )
        if answer_.result != ACCEPTED:
            continue
        if answer_.transfer_syntax not in context.transfer_syntaxes:
            raise _bad_answer(
                f"accepts presentation context {context.context_id} in transfer syntax "
                f"`{answer_.transfer_syntax}`, which was never proposed for it"
            )
        granted[context.context_id] = AcceptedContext(
            context.context_id, context.abstract_syntax, answer_.transfer_syntax
        )
    return granted


def refused_contexts(request: AssociateRequest, accept: AssociateAccept) -> dict[int, str]:
    """Return by id, in words, why `accept` does not grant a context of `request`. PS3.8 section 9.3.3.2."""
    results = {result.context_id: result.result for result in accept.results}
    reasons: dict[int, str] = {}
    for context in request.contexts:
        result = results.get(context.context_id)
        if result != ACCEPTED:
            reasons[context.context_id] = NOT_ANSWERED if result is None else result_words(result)
    return reasons


def _bad_answer(what: str) -> ProtocolError:
    return ProtocolError(f"the peer {what}", abort_reason=AbortReason.INVALID_PARAMETER)


# --- acceptor --------------------------------------------------------------------------------------------


class AcceptRules(NamedTuple):
    """What an acceptor takes: Verification, and storage in any transfer syntax that carries a data set.

    `transfer_syntaxes` restricts storage to these; Verification is always taken in the uncompressed ones.
    `storage` off leaves an acceptor that only answers C-ECHO.
    """

    transfer_syntaxes: tuple[str, ...] | None = None
    storage: bool = True

    def takes(self, abstract_syntax: str) -> bool:
        """Tell whether `abstract_syntax` is one this acceptor serves."""
        return abstract_syntax == VERIFICATION or (self.storage and is_storage(abstract_syntax))

    def choose(self, context: PresentationContext) -> str | None:
        """Return the transfer syntax to accept `context` in, or None.

        The proposer's order decides, except that a deflated data set is taken only where nothing else is.
        """
        usable = TRANSFER_SYNTAXES if self.transfer_syntaxes is None else self.transfer_syntaxes
        if context.abstract_syntax == VERIFICATION:
            usable = UNCOMPRESSED
        deflated: str | None = None
        for syntax in context.transfer_syntaxes:
            if syntax in usable and syntax in TRANSFER_SYNTAXES:
                if syntax not in DEFLATED:
                    return syntax
                deflated = deflated or syntax
        return deflated


def negotiate(request: AssociateRequest, rules: AcceptRules) -> tuple[ContextResult, ...]:
    """Return the result for each presentation context of `request`, in its order. PS3.8 section 9.3.3.2.

    A context whose SOP class the requestor wants to serve only (role selection without the SCU role) is
    rejected: this acceptor never invokes operations, so nobody could use it.
    """
    roles = request.roles
    return tuple(_judge(context, rules, roles.get(context.abstract_syntax)) for context in request.contexts)


def _judge(context: PresentationContext, rules: AcceptRules, role: RoleSelection | None) -> ContextResult:
    # A refusal carries a transfer syntax that nobody reads; the first proposed one, as most peers do.
    unread = next(iter(context.transfer_syntaxes), "")
    if not rules.takes(context.abstract_syntax):
        return ContextResult(context.context_id, ABSTRACT_SYNTAX_REFUSED, unread)
    syntax = rules.choose(context)
    if syntax is None:
        return ContextResult(context.context_id, TRANSFER_SYNTAXES_REFUSED, unread)
    if role is not None and not role.scu:
        return ContextResult(context.context_id, USER_REJECTION, unread)
    return ContextResult(context.context_id, ACCEPTED, syntax)


def answer(
    request: AssociateRequest, rules: AcceptRules, own_maximum: int = OWN_MAXIMUM, *, most_invoked: int = 1
) -> AssociateAccept:
    """Return the A-ASSOCIATE-AC for `request`.

    `own_maximum` is the maximum length we offer, in bytes; `most_invoked` how many operations we let the
    requestor have outstanding, where it asks for a window. Window, roles and the response to a user
    identity are answered only when asked; extended negotiation is not. PS3.8 section 9.3.3, PS3.7 D.3.3.
    """
    results = negotiate(request, rules)
    information: list[UserItem] = [
        MaximumLength(own_maximum),
        ImplementationClassUID(IMPLEMENTATION_CLASS_UID),
    ]
    window = request.async_operations
    if window is not None:
        # 0 asks for no limit.
        information.append(AsyncOperations(min(window.invoked or most_invoked, most_invoked), 1))
    information.extend(_granted_roles(request, results))
    information.append(ImplementationVersion(IMPLEMENTATION_VERSION))
    identity = request.user_identity
    if identity is not None and identity.response_requested:
        information.append(UserIdentityResponse())
    return AssociateAccept(request.called_ae, request.calling_ae, results, tuple(information))


def _granted_roles(request: AssociateRequest, results: tuple[ContextResult, ...]) -> Iterator[RoleSelection]:
    """Yield our answer to each role selection for a class we accepted: its SCU role, never the SCP role."""
    accepted = {result.context_id for result in results if result.result == ACCEPTED}
    classes = {context.abstract_syntax for context in request.contexts if context.context_id in accepted}
    for role in request.roles.values():
        if role.sop_class in classes:
            yield RoleSelection(role.sop_class, role.scu, False)
