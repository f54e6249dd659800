"""Bytes <-> PDUs, for both roles, without a socket (PS3.8 section 9.3).

What is tolerated, because real peers do it and PS3.8 says not to test it: reserved bytes, AE fields of an
A-ASSOCIATE-AC, the order of items, unknown items, the transfer syntax of a refused context, absent user
information, a context without any transfer syntax (negotiation refuses that context alone).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

from dicomtls_cli.errors import ProtocolError
from dicomtls_cli.upperlayer.header import PDU_HEADER, AbortReason, PduType
from dicomtls_cli.upperlayer.items import (
    UserItem,
    decode_user_information,
    encode_user_information,
    join_item,
    malformed,
    split_items,
    text_of,
)
from dicomtls_cli.upperlayer.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
    Pdu,
    PresentationContext,
    ReleaseRequest,
    ReleaseResponse,
)

_APPLICATION_CONTEXT_ITEM = 0x10
_CONTEXT_RQ_ITEM = 0x20
_CONTEXT_AC_ITEM = 0x21
_ABSTRACT_SYNTAX_ITEM = 0x30
_TRANSFER_SYNTAX_ITEM = 0x40
_USER_INFORMATION_ITEM = 0x50
_ASSOCIATE_ITEMS = frozenset(
    (_APPLICATION_CONTEXT_ITEM, _CONTEXT_RQ_ITEM, _CONTEXT_AC_ITEM, _USER_INFORMATION_ITEM)
)

_FIXED = struct.Struct(">Hxx16s16s32x")
_FOUR_BYTES = struct.Struct(">4B")
_AE_LENGTH = 16

ContextT = TypeVar("ContextT", PresentationContext, ContextResult)


def encode(pdu: Pdu) -> bytes:
    """Return the bytes of `pdu`, header included.

    Raise `ValueError` where a value does not fit its field (an AE title over 16 bytes, an item over
    65,535). PS3.8 section 9.3.
    """
    match pdu:
        case AssociateRequest():
            contexts = [_encode_context(context) for context in pdu.contexts]
            return _encode_associate(PduType.ASSOCIATE_RQ, pdu, contexts)
        case AssociateAccept():
            return _encode_associate(
                PduType.ASSOCIATE_AC, pdu, [_encode_result(result) for result in pdu.results]
            )
        case AssociateReject():
            return _encode_short(PduType.ASSOCIATE_RJ, pdu.result, pdu.source, pdu.reason)
        case ReleaseRequest():
            return _encode_short(PduType.RELEASE_RQ)
        case ReleaseResponse():
            return _encode_short(PduType.RELEASE_RP)
        case Abort():
            return _encode_short(PduType.ABORT, 0, pdu.source, pdu.reason)


def _encode_short(pdu_type: PduType, second: int = 0, third: int = 0, fourth: int = 0) -> bytes:
    return PDU_HEADER.pack(pdu_type, _FOUR_BYTES.size) + _FOUR_BYTES.pack(0, second, third, fourth)


def _encode_associate(
    pdu_type: PduType, pdu: AssociateRequest | AssociateAccept, contexts: list[bytes]
) -> bytes:
    body = b"".join(
        (
            _FIXED.pack(pdu.protocol_version, _ae_field(pdu.called_ae), _ae_field(pdu.calling_ae)),
            join_item(_APPLICATION_CONTEXT_ITEM, pdu.application_context.encode("latin-1")),
            *contexts,
            join_item(_USER_INFORMATION_ITEM, encode_user_information(pdu.user_information)),
        )
    )
    return PDU_HEADER.pack(pdu_type, len(body)) + body


def _ae_field(title: str) -> bytes:
    field = title.encode("latin-1")
    if len(field) > _AE_LENGTH:
        raise ValueError(f"AE title `{title}` is longer than {_AE_LENGTH} characters")
    return field.ljust(_AE_LENGTH)


def _encode_context(context: PresentationContext) -> bytes:
    content = [bytes((context.context_id, 0, 0, 0))]
    content.append(join_item(_ABSTRACT_SYNTAX_ITEM, context.abstract_syntax.encode("latin-1")))
    for syntax in context.transfer_syntaxes:
        content.append(join_item(_TRANSFER_SYNTAX_ITEM, syntax.encode("latin-1")))
    return join_item(_CONTEXT_RQ_ITEM, b"".join(content))


def _encode_result(result: ContextResult) -> bytes:
    head = bytes((result.context_id, 0, result.result, 0))
    syntax = join_item(_TRANSFER_SYNTAX_ITEM, result.transfer_syntax.encode("latin-1"))
    return join_item(_CONTEXT_AC_ITEM, head + syntax)


def decode(pdu_type: int, body: bytes | bytearray | memoryview) -> Pdu:
    """Return the PDU of type `pdu_type` whose variable field (without the 6 bytes of header) is `body`.

    Raise `ProtocolError` with the reason for an A-ABORT on anything malformed, on an unknown type, and
    on P-DATA, which is unexpected wherever a whole PDU is. PS3.8 section 9.3.
    """
    data = bytes(body)
    if pdu_type == PduType.ASSOCIATE_RQ:
        return _decode_request(data)
    if pdu_type == PduType.ASSOCIATE_AC:
        return _decode_accept(data)
    if pdu_type == PduType.P_DATA:
        raise ProtocolError("the peer sends P-DATA out of turn", abort_reason=AbortReason.UNEXPECTED_PDU)
    if not PduType.ASSOCIATE_RJ <= pdu_type <= PduType.ABORT:
        raise ProtocolError(f"unknown PDU type 0x{pdu_type:02X}", abort_reason=AbortReason.UNRECOGNISED_PDU)
    return _decode_short(pdu_type, data)


def _decode_short(pdu_type: int, data: bytes) -> Pdu:
    if len(data) != _FOUR_BYTES.size:
        raise ProtocolError(
            f"PDU of type 0x{pdu_type:02X} with {len(data)} bytes instead of 4",
            abort_reason=AbortReason.INVALID_PARAMETER,
        )
    _, second, third, fourth = data
    if pdu_type == PduType.ASSOCIATE_RJ:
        return AssociateReject(second, third, fourth)
    if pdu_type == PduType.ABORT:
        return Abort(third, fourth)
    return ReleaseRequest() if pdu_type == PduType.RELEASE_RQ else ReleaseResponse()


def _decode_request(data: bytes) -> AssociateRequest:
    associate = _decode_associate(data, _CONTEXT_RQ_ITEM, _decode_context)
    version, called, calling, application_context, contexts, user_information = associate
    if not contexts:
        raise malformed("no presentation context is proposed")
    return AssociateRequest(called, calling, contexts, user_information, application_context, version)


def _decode_accept(data: bytes) -> AssociateAccept:
    associate = _decode_associate(data, _CONTEXT_AC_ITEM, _decode_result)
    version, called, calling, application_context, results, user_information = associate
    return AssociateAccept(called, calling, results, user_information, application_context, version)


def _decode_associate(
    data: bytes, context_type: int, decode_one: Callable[[bytes, int, int], ContextT]
) -> tuple[int, str, str, str, tuple[ContextT, ...], tuple[UserItem, ...]]:
    """Return what A-ASSOCIATE-RQ and -AC share; `decode_one` reads their kind of presentation context."""
    if len(data) < _FIXED.size:
        raise malformed(f"{len(data)} bytes instead of at least {_FIXED.size}")
    version, called, calling = _FIXED.unpack_from(data)
    application_context: str | None = None
    user_information: tuple[UserItem, ...] | None = None
    contexts: dict[int, ContextT] = {}
    for item_type, start, end in split_items(data, _FIXED.size, len(data)):
        if item_type == context_type:
            context = decode_one(data, start, end)
            if context.context_id in contexts:
                raise malformed(f"presentation context {context.context_id} twice")
            contexts[context.context_id] = context
        elif item_type == _APPLICATION_CONTEXT_ITEM and application_context is None:
            application_context = text_of(data[start:end])
        elif item_type == _USER_INFORMATION_ITEM and user_information is None:
            user_information = decode_user_information(data, start, end)
        elif item_type in _ASSOCIATE_ITEMS:
            raise ProtocolError(
                f"malformed A-ASSOCIATE: item 0x{item_type:02X} does not belong here",
                abort_reason=AbortReason.UNEXPECTED_PARAMETER,
            )
    if application_context is None:
        raise malformed("no application context")
    return (
        version,
        _ae_title(called),
        _ae_title(calling),
        application_context,
        tuple(contexts.values()),
        user_information or (),
    )


def _ae_title(field: bytes) -> str:
    return field.decode("latin-1").strip(" \0")


def _decode_context(data: bytes, start: int, end: int) -> PresentationContext:
    if end - start < 4:
        raise malformed("presentation context of less than 4 bytes")
    context_id = data[start]
    if not context_id % 2:
        raise malformed(f"presentation context id {context_id} is even")
    abstract: list[str] = []
    transfer: list[str] = []
    for item_type, first, last in split_items(data, start + 4, end):
        if item_type == _TRANSFER_SYNTAX_ITEM:
            transfer.append(text_of(data[first:last]))
        elif item_type == _ABSTRACT_SYNTAX_ITEM:
            abstract.append(text_of(data[first:last]))
    if len(abstract) != 1:
        raise malformed(f"presentation context {context_id} has {len(abstract)} abstract syntaxes")
    return PresentationContext(context_id, abstract[0], tuple(transfer))


def _decode_result(data: bytes, start: int, end: int) -> ContextResult:
    if end - start < 4:
        raise malformed("presentation context of less than 4 bytes")
    context_id, result = data[start], data[start + 2]
    transfer = [
        text_of(data[first:last])
        for item_type, first, last in split_items(data, start + 4, end)
        if item_type == _TRANSFER_SYNTAX_ITEM
    ]
    if result == 0 and len(transfer) != 1:
        raise malformed(
            f"presentation context {context_id} is accepted with {len(transfer)} transfer syntaxes"
        )
    return ContextResult(context_id, result, transfer[0] if transfer else "")
