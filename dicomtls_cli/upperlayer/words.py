"""PDUs in words: why a peer rejects or aborts, and the dump of an A-ASSOCIATE for `-d`."""

from __future__ import annotations

from collections.abc import Iterator

from dicomtls_cli.errors import printable
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
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
)

NOT_ANSWERED = "not answered, which means refused"

RESULT_WORDS = {
    0: "accepted",
    1: "rejected by the user",
    2: "no reason given",
    3: "abstract syntax not supported",
    4: "transfer syntaxes not supported",
}
"""Results of a presentation context, PS3.8 section 9.3.3.2."""

_REJECT_RESULTS = {1: "permanent", 2: "transient"}
_REJECT_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_ABORT_REASONS = {
    0: "no reason given",
    1: "unrecognised PDU",
    2: "unexpected PDU",
    4: "unrecognised PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}
_IDENTITY_TYPES = {
    1: "username",
    2: "username and passcode",
    3: "Kerberos ticket",
    4: "SAML assertion",
    5: "JSON web token",
}


def result_words(result: int) -> str:
    """Return what the result of a presentation context means. PS3.8 section 9.3.3.2."""
    return RESULT_WORDS.get(result, f"result {result}, which PS3.8 does not know")


def reject_words(reject: AssociateReject) -> str:
    """Return why a peer rejected, with the three numbers of the A-ASSOCIATE-RJ. PS3.8 section 9.3.4.

    For example `called AE title not recognised, permanent, 1/1/7`.
    """
    why = _REJECT_REASONS.get((reject.source, reject.reason), "a reason PS3.8 does not know")
    lasting = _REJECT_RESULTS.get(reject.result, "a result PS3.8 does not know")
    return f"{why}, {lasting}, {reject.result}/{reject.source}/{reject.reason}"


def abort_words(abort: Abort) -> str:
    """Return who aborted and why, with the two numbers of the A-ABORT. PS3.8 section 9.3.8.

    For example `by the upper layer: unexpected PDU, 2/2`.
    """
    numbers = f"{abort.source}/{abort.reason}"
    if abort.source == 0:  # the service user's reason is not significant
        return f"by the application, {numbers}"
    return (
        f"by the upper layer: {_ABORT_REASONS.get(abort.reason, 'a reason PS3.8 does not know')}, {numbers}"
    )


def describe(pdu: AssociateRequest | AssociateAccept) -> Iterator[str]:
    """Yield the facts of an A-ASSOCIATE, a line each, printable whatever the peer sent, without secrets."""
    yield "A-ASSOCIATE-RQ" if isinstance(pdu, AssociateRequest) else "A-ASSOCIATE-AC"
    yield f"  protocol version: {pdu.protocol_version}"
    yield f"  calling AE title: {printable(pdu.calling_ae)}"
    yield f"  called AE title: {printable(pdu.called_ae)}"
    yield f"  application context: {printable(pdu.application_context)}"
    for item in pdu.user_information:
        yield f"  {printable(_item_words(item))}"
    if isinstance(pdu, AssociateRequest):
        for context in pdu.contexts:
            yield f"  presentation context {context.context_id}: {printable(context.abstract_syntax)}"
            for syntax in context.transfer_syntaxes:
                yield f"    transfer syntax: {printable(syntax)}"
    else:
        for result in pdu.results:
            yield f"  presentation context {result.context_id}: {printable(_outcome(result))}"


def _outcome(result: ContextResult) -> str:
    words = result_words(result.result)
    return f"{words} in {result.transfer_syntax}" if result.result == 0 else words


def _item_words(item: UserItem) -> str:
    match item:
        case MaximumLength(value):
            return f"maximum length: {value or 'no limit'}"
        case ImplementationClassUID(uid):
            return f"implementation class UID: {uid}"
        case ImplementationVersion(name):
            return f"implementation version: {name}"
        case AsyncOperations(invoked, performed):
            return f"asynchronous operations (0 is no limit): invoked {invoked}, performed {performed}"
        case RoleSelection(sop_class, scu, scp):
            return f"roles: {sop_class} SCU {_yes(scu)}, SCP {_yes(scp)}"
        case UserIdentity(identity_type, response_requested):
            kind = _IDENTITY_TYPES.get(identity_type, f"type {identity_type}")
            return f"user identity: {kind} (not shown), response requested {_yes(response_requested)}"
        case UserIdentityResponse(response):
            return f"user identity accepted, response of {len(response)} bytes (not shown)"
        case _:
            return f"item 0x{item.item_type:02X}: {len(item.data)} bytes"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
