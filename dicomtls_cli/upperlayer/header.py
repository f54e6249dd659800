"""Headers of PDUs and PDVs, and how much data fits into one (PS3.8 sections 9.3, D.1, E.2)."""

from __future__ import annotations

import struct
from enum import IntEnum

from dicomtls_cli.errors import ProtocolError


class PduType(IntEnum):
    """The seven PDU types of PS3.8 section 9.3.1."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class AbortReason(IntEnum):
    """Reasons of an A-ABORT by the service provider, PS3.8 section 9.3.8."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNISED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class NotDicom(ProtocolError):
    """The first bytes are those of another protocol; `protocol` names it: `TLS`, `HTTP`, `SSH`."""

    def __init__(self, protocol: str, hint: str) -> None:
        super().__init__(f"the peer speaks {protocol}", abort_reason=AbortReason.UNRECOGNISED_PDU)
        self.protocol = protocol
        self.hint = hint
        self.slug = f"association.peer-speaks-{protocol.lower()}"


PDU_HEADER = struct.Struct(">BxI")
PDV_HEADER = struct.Struct(">IBB")
_DATA_PDU = struct.Struct(">BxIIBB")

OWN_MAXIMUM = 131072
"""The maximum length we offer, and the most we ever put into one P-DATA PDU, in bytes."""

_ASSOCIATE_LIMIT = 1 << 20
_LEAST_MAXIMUM = 64
_IS_COMMAND = 1
_IS_LAST = 2

_HTTP_STARTS = tuple(b"HTTP/|GET |POST |HEAD |PUT |OPTION|DELETE|PATCH |CONNEC|PRI * ".split(b"|"))
# change_cipher_spec, alert, handshake, application_data: RFC 8446 section 5.1
_TLS_RECORDS = range(0x14, 0x18)

_TLS_HINT = "this side speaks plain DICOM; turn TLS on, or use the port where the peer speaks plain DICOM"
_OTHER_HINT = "this is not a DICOM port; check host and port"


def parse_pdu_header(
    header: bytes | bytearray | memoryview, data_limit: int = OWN_MAXIMUM
) -> tuple[int, int]:
    """Return type and length (bytes that follow) of the PDU that begins with the 6 bytes `header`.

    `data_limit` is the greatest length of a P-DATA PDU: the maximum length we offered. The other types
    are capped here: 1 MiB for A-ASSOCIATE, 4 bytes for the rest.
    Raise `NotDicom` where TLS, HTTP or SSH speaks, else `ProtocolError`. PS3.8 section 9.3.1.
    """
    pdu_type, length = PDU_HEADER.unpack(header)
    if pdu_type == PduType.P_DATA:
        if not PDV_HEADER.size <= length <= data_limit:
            raise _bad_length(pdu_type, length, f"{PDV_HEADER.size} to {data_limit}")
    elif pdu_type in (PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC):
        if length > _ASSOCIATE_LIMIT:
            raise _bad_length(pdu_type, length, f"at most {_ASSOCIATE_LIMIT}")
    elif PduType.ASSOCIATE_RJ <= pdu_type <= PduType.ABORT:
        if length != 4:
            raise _bad_length(pdu_type, length, "4")
    else:
        raise _unrecognised(bytes(header))
    return pdu_type, length


def _bad_length(pdu_type: int, length: int, allowed: str) -> ProtocolError:
    return ProtocolError(
        f"the peer announces a PDU of type 0x{pdu_type:02X} with {length} bytes; {allowed} are allowed",
        abort_reason=AbortReason.INVALID_PARAMETER,
    )


def _unrecognised(header: bytes) -> ProtocolError:
    if header[0] in _TLS_RECORDS and header[1] == 3:
        return NotDicom("TLS", _TLS_HINT)
    if header.startswith(_HTTP_STARTS):
        return NotDicom("HTTP", _OTHER_HINT)
    if header.startswith(b"SSH-"):
        return NotDicom("SSH", _OTHER_HINT)
    text = header.decode("latin-1")
    shown = text if text.isascii() and text.isprintable() else header.hex(" ")
    return ProtocolError(
        f"the peer sends `{shown}`, which begins no DICOM PDU", abort_reason=AbortReason.UNRECOGNISED_PDU
    )


def pdv_header(header: bytes | bytearray | memoryview) -> tuple[int, int, bool, bool]:
    """Return length of the data (bytes), context id, is-command, is-last of the PDV whose 6 bytes these are.

    Raise `ProtocolError` on a PDV length under 2. The reserved bits of the message control header are not
    tested. PS3.8 sections 9.3.5.1 and E.2.
    """
    length, context_id, control = PDV_HEADER.unpack(header)
    if length < 2:
        raise ProtocolError(
            f"the peer sends a PDV of length {length}; at least 2 is needed",
            abort_reason=AbortReason.INVALID_PARAMETER,
        )
    return length - 2, context_id, bool(control & _IS_COMMAND), bool(control & _IS_LAST)


def data_pdu_header(context_id: int, is_command: bool, is_last: bool, length: int) -> bytes:
    """Return the 12 bytes before `length` bytes of data: a P-DATA header and the header of its only PDV.

    PS3.8 sections 9.3.5 and E.2.
    """
    control = (_IS_COMMAND if is_command else 0) | (_IS_LAST if is_last else 0)
    return _DATA_PDU.pack(PduType.P_DATA, length + PDV_HEADER.size, length + 2, context_id, control)


def max_fragment(maximum_length: int, ours: int = OWN_MAXIMUM) -> int:
    """Return how many bytes of data to put into one PDV for a peer that allows `maximum_length`.

    `maximum_length` is the peer's, in bytes, 0 for no limit; `ours` the most we want to send in one PDU.
    The result is even, for every fragment must be (PS3.7 Annex F).
    Raise `ProtocolError` for a maximum under 64 that is not 0. PS3.8 section D.1.
    """
    if 0 < maximum_length < _LEAST_MAXIMUM:
        raise ProtocolError(
            f"the peer allows PDUs of {maximum_length} bytes only; fewer than {_LEAST_MAXIMUM} are of no use",
            abort_reason=AbortReason.INVALID_PARAMETER,
        )
    limit = min(maximum_length or ours, ours)
    return (limit - PDV_HEADER.size) & ~1
