"""Command sets: bytes <-> `Command` (PS3.7 sections 6.3, 9.3 and Annex E).

A command set is implicit VR little endian, in ascending order, with a group length and even values.
Written exactly so. Read more leniently where real peers are lax and no doubt is left: a wrong or absent
group length, elements out of order or unknown to us, odd lengths, padding, and Affected UIDs missing in a
response are taken. Malformed are: what is cut off, an element twice, an element of another group, a number
of the wrong size, and the lack of a field without which the message cannot be answered or matched.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from enum import IntEnum
from operator import attrgetter
from typing import Any, NamedTuple

from dicomtls_cli.errors import ProtocolError, printable
from dicomtls_cli.upperlayer.header import AbortReason

LONGEST_COMMAND = 65536
"""The most bytes of a command set we read; real ones have a few hundred."""

_NO_DATA = 0x0101
_HAS_DATA = 0x0001
_RESPONSE = 0x8000
_LAST_MESSAGE_ID = 0xFFFF
_LONGEST_COMMENT = 64  # VR LO

_ELEMENT = struct.Struct("<HHI")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_NUMBER = struct.Struct("<HHIH")  # an element of VR US, whole
_GROUP_LENGTH = struct.Struct("<HHII")


class CommandField(IntEnum):
    """Values of (0000,0100), PS3.7 section E.1. A response has bit 15 set."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


class Priority(IntEnum):
    """Values of (0000,0700), PS3.7 section E.1."""

    MEDIUM = 0
    HIGH = 1
    LOW = 2


class Command(NamedTuple):
    """A command set, of any DIMSE message; what it does not contain is None or empty.

    `field` is (0000,0100), also of an operation we do not know. `sop_class` and `sop_instance` are the
    Affected UIDs. `has_data` tells whether a data set follows.
    """

    field: int
    message_id: int | None = None
    responded_to: int | None = None
    sop_class: str = ""
    sop_instance: str = ""
    has_data: bool = False
    priority: int | None = None
    status: int | None = None
    error_comment: str = ""
    offending: tuple[tuple[int, int], ...] = ()
    move_originator: str = ""
    move_originator_id: int | None = None

    @property
    def is_response(self) -> bool:
        """Whether this answers a request."""
        return bool(self.field & _RESPONSE)

    @property
    def name(self) -> str:
        """The message as PS3.7 writes it, `C-STORE-RQ`, or its number."""
        try:
            return CommandField(self.field).name.replace("_", "-")
        except ValueError:
            return f"0x{self.field:04X}"


class MalformedCommand(ProtocolError):
    """A command set that is not as PS3.7 says.

    `command` is what could be read of a request, where that is enough to answer it with 0212H (message
    id, and whether data follows, are known); None where only an A-ABORT is left.
    """

    def __init__(self, what: str, command: Command | None = None) -> None:
        super().__init__(f"malformed command set: {what}", abort_reason=AbortReason.INVALID_PARAMETER)
        self.command = command


# Element of group 0000 -> (attribute of Command, VR), ascending. PS3.7 section E.1.
_ELEMENTS = {
    0x0002: ("sop_class", "UI"),
    0x0100: ("field", "US"),
    0x0110: ("message_id", "US"),
    0x0120: ("responded_to", "US"),
    0x0700: ("priority", "US"),
    0x0800: ("has_data", "US"),
    0x0900: ("status", "US"),
    0x0901: ("offending", "AT"),
    0x0902: ("error_comment", "LO"),
    0x1000: ("sop_instance", "UI"),
    0x1030: ("move_originator", "AE"),
    0x1031: ("move_originator_id", "US"),
}


_WRITTEN = tuple((element, vr) for element, (_, vr) in _ELEMENTS.items())
_VALUES = attrgetter(*(name for name, _ in _ELEMENTS.values()))


def echo_request(message_id: int) -> Command:
    """Return a C-ECHO-RQ. PS3.7 section 9.3.5.1."""
    return Command(CommandField.C_ECHO_RQ, message_id, sop_class="1.2.840.10008.1.1")


def store_request(
    message_id: int, sop_class: str, sop_instance: str, priority: int = Priority.MEDIUM
) -> Command:
    """Return a C-STORE-RQ for the instance of these UIDs, whose data set follows. PS3.7 section 9.3.1.1."""
    return Command(
        CommandField.C_STORE_RQ,
        message_id,
        sop_class=sop_class,
        sop_instance=sop_instance,
        has_data=True,
        priority=priority,
    )


def response(
    request: Command, status: int, comment: str = "", offending: tuple[tuple[int, int], ...] = ()
) -> Command:
    """Return the response to `request`, whatever operation it is, without a data set.

    `comment` is cut to the 64 characters of an Error Comment; `offending` are the (group, element) tags of
    attributes at fault. PS3.7 sections 9.3.1.2 and 9.3.5.2.
    """
    return Command(
        request.field | _RESPONSE,
        responded_to=request.message_id,
        sop_class=request.sop_class,
        sop_instance=request.sop_instance,
        status=status,
        error_comment=printable(comment, _LONGEST_COMMENT).replace("\\", "/"),
        offending=offending,
    )


def next_message_id(last: int, outstanding: Container[int] = ()) -> int:
    """Return the message id after `last` that is not `outstanding`; 1 follows 65,535. PS3.7 section E.1.

    Raise `ValueError` where all of them are outstanding.
    """
    for step in range(_LAST_MESSAGE_ID):
        candidate = (last + step) % _LAST_MESSAGE_ID + 1
        if candidate not in outstanding:
            return candidate
    raise ValueError("every message id is outstanding")


def encode(command: Command) -> bytes:
    """Return the bytes of `command`.

    Raise `ValueError` where a number does not fit 16 bits. PS3.7 section 6.3.
    """
    parts = []
    length = 0
    for (element, vr), value in zip(_WRITTEN, _VALUES(command), strict=True):
        if element == 0x0800:
            value = _HAS_DATA if value else _NO_DATA
        elif value is None or value == "" or value == ():
            continue
        if vr == "US":
            if not 0 <= value <= 0xFFFF:
                raise ValueError(f"{value} does not fit (0000,{element:04X})")
            parts.append(_NUMBER.pack(0, element, 2, value))
            length += _NUMBER.size
            continue
        if vr == "AT":
            content = b"".join(_U16.pack(group) + _U16.pack(number) for group, number in value)
        else:
            content = value.encode("latin-1", "replace")
            if len(content) % 2:
                content += b"\0" if vr == "UI" else b" "
        parts += (_ELEMENT.pack(0, element, len(content)), content)
        length += _ELEMENT.size + len(content)
    return b"".join((_GROUP_LENGTH.pack(0, 0, 4, length), *parts))


def decode(data: bytes | bytearray | memoryview) -> Command:
    """Return the command set that `data` encodes.

    Raise `MalformedCommand`, a `ProtocolError`; see there for whether it can be answered. PS3.7 section 6.3.
    """
    fields: dict[str, Any] = {}
    fault = _read_elements(bytes(data), fields)
    command: Command | None = None
    if "field" in fields and "has_data" in fields:
        command = Command(**fields)
        fault = fault or _lacking(command)
        if fault is None:
            return command
        if command.is_response or command.message_id is None:
            command = None
    raise MalformedCommand(fault or "no command field or no data set type", command)


def _read_elements(data: bytes, fields: dict[str, Any]) -> str | None:
    """Put what `data` holds into `fields`, by the names of `Command`; return the first fault, or None.

    Reading goes on after a fault inside one element, so that the request can still be answered.
    """
    if len(data) > LONGEST_COMMAND:
        return f"{len(data)} bytes"
    fault: str | None = None
    seen: set[int] = set()
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < _ELEMENT.size:
            return f"{end - offset} bytes after the last element"
        group, element, length = _ELEMENT.unpack_from(data, offset)
        offset += _ELEMENT.size
        if length > end - offset:
            return f"({group:04X},{element:04X}) claims {length} bytes, {end - offset} are left"
        if group or element in seen:
            return f"({group:04X},{element:04X}) " + ("is no command element" if group else "is there twice")
        seen.add(element)
        known = _ELEMENTS.get(element)
        if known is not None and length:
            name, vr = known
            if vr == "US" and length == 2:
                value: Any = _U16.unpack_from(data, offset)[0]
            else:
                value = _decode_value(vr, data[offset : offset + length])
            if value is None:
                fault = fault or f"(0000,{element:04X}) with {length} bytes"
            else:
                fields[name] = value != _NO_DATA if name == "has_data" else value
        offset += length
    return fault


def _decode_value(vr: str, content: bytes) -> Any:
    """Return the value of an element, or None where its size is wrong."""
    if vr == "US":
        return None  # two bytes were read already
    if vr == "AT":
        if len(content) % _U32.size:
            return None
        return tuple(struct.iter_unpack("<HH", content))
    return content.decode("latin-1").strip(" \0")


def _lacking(command: Command) -> str | None:
    """Return what `command` lacks for us to serve or match it, or None."""
    if command.is_response:
        if command.responded_to is None or command.status is None:
            return "a response without the message id it responds to, or without a status"
    elif command.field == CommandField.C_CANCEL_RQ:
        return None
    elif command.message_id is None:
        return "a request without a message id"
    elif command.field == CommandField.C_STORE_RQ:
        if not command.sop_class or not command.sop_instance:
            return "a C-STORE-RQ without the UID of the SOP class or instance"
        if not command.has_data:
            return "a C-STORE-RQ without a data set"
    return None
