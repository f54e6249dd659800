"""Items inside A-ASSOCIATE PDUs: framing, and the user information (PS3.8 Annex D, PS3.7 Annex D.3.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Self

from dicomtls_cli.errors import ProtocolError
from dicomtls_cli.upperlayer.header import AbortReason

_HEADER = struct.Struct(">BxH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_PAIR = struct.Struct(">HH")
_LARGEST_ITEM = 0xFFFF


def malformed(what: str) -> ProtocolError:
    """Return the error for an A-ASSOCIATE PDU that is not as PS3.8 says; `what` names the fault."""
    return ProtocolError(f"malformed A-ASSOCIATE: {what}", abort_reason=AbortReason.INVALID_PARAMETER)


def split_items(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (type, start, end) of each item's content in `data[start:end]`; all are offsets into `data`.

    Raise `ProtocolError` where an item overruns, or where the rest is too short for an item. Reserved
    bytes are not tested. PS3.8 section 9.3.1.
    """
    while start < end:
        if end - start < _HEADER.size:
            raise malformed(f"{end - start} bytes after the last item")
        item_type, length = _HEADER.unpack_from(data, start)
        start += _HEADER.size
        if start + length > end:
            raise malformed(f"item 0x{item_type:02X} claims {length} bytes, {end - start} are left")
        yield item_type, start, start + length
        start += length


def join_item(item_type: int, content: bytes) -> bytes:
    """Return one item with its header. Raise `ValueError` where `content` is over 65,535 bytes."""
    if len(content) > _LARGEST_ITEM:
        raise ValueError(f"item 0x{item_type:02X} cannot hold {len(content)} bytes")
    return _HEADER.pack(item_type, len(content)) + content


def text_of(value: bytes) -> str:
    """Return `value` as text, without the padding peers put after UIDs and names.

    Latin-1, because what a peer sends outside ASCII is wrong but must not raise, and must survive an echo.
    """
    return value.decode("latin-1").rstrip(" \0")


class MaximumLength(NamedTuple):
    """The most bytes the sender takes in the variable field of one P-DATA PDU; 0: no limit. PS3.8 D.1."""

    value: int

    def content(self) -> bytes:
        """Return the item without its header."""
        return _U32.pack(self.value)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the item that `content` encodes, or raise `ProtocolError`."""
        if len(content) != _U32.size:
            raise malformed(f"maximum length of {len(content)} bytes instead of 4")
        return cls(*_U32.unpack(content))


class ImplementationClassUID(NamedTuple):
    """Which software speaks, as a UID. PS3.7 section D.3.3.2.1."""

    uid: str

    def content(self) -> bytes:
        """Return the item without its header."""
        return self.uid.encode("latin-1")

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the item that `content` encodes."""
        return cls(text_of(content))


class AsyncOperations(NamedTuple):
    """How many operations may be outstanding; 0 is no limit. PS3.7 section D.3.3.3."""

    invoked: int
    performed: int

    def content(self) -> bytes:
        """Return the item without its header."""
        return _PAIR.pack(self.invoked, self.performed)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the item that `content` encodes, or raise `ProtocolError`."""
        if len(content) != _PAIR.size:
            raise malformed(f"asynchronous operations window of {len(content)} bytes instead of 4")
        return cls(*_PAIR.unpack(content))


class RoleSelection(NamedTuple):
    """Which roles the requestor takes for a SOP class. PS3.7 section D.3.3.4."""

    sop_class: str
    scu: bool
    scp: bool

    def content(self) -> bytes:
        """Return the item without its header."""
        uid = self.sop_class.encode("latin-1")
        return _U16.pack(len(uid)) + uid + bytes((self.scu, self.scp))

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the item that `content` encodes, or raise `ProtocolError`."""
        uid, rest = _take_counted(content, "role selection")
        if len(rest) != 2:
            raise malformed(f"role selection with {len(rest)} bytes of roles instead of 2")
        return cls(text_of(uid), rest[0] == 1, rest[1] == 1)


class ImplementationVersion(NamedTuple):
    """Which version of the software speaks, at most 16 characters. PS3.7 section D.3.3.2.3."""

    name: str

    def content(self) -> bytes:
        """Return the item without its header."""
        return self.name.encode("latin-1")

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the item that `content` encodes; longer names than 16 characters are met and taken."""
        return cls(text_of(content))


class UserIdentity(NamedTuple):
    """Who the requestor says it is. PS3.7 section D.3.3.7.1.

    `identity_type`: 1 username, 2 username and passcode, 3 Kerberos ticket, 4 SAML assertion, 5 JSON web
    token. `primary` and `secondary` are kept out of the representation: they hold secrets.
    """

    identity_type: int
    response_requested: bool
    primary: bytes
    secondary: bytes = b""

    def __repr__(self) -> str:
        return f"UserIdentity({self.identity_type}, {self.response_requested})"

    def content(self) -> bytes:
        """Return the item without its header."""
        return b"".join(
            (
                bytes((self.identity_type, self.response_requested)),
                _counted(self.primary),
                _counted(self.secondary),
            )
        )

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the item that `content` encodes, or raise `ProtocolError`."""
        if len(content) < 2:
            raise malformed("user identity without type")
        primary, rest = _take_counted(content[2:], "user identity")
        secondary, rest = _take_counted(rest, "user identity")
        if rest:
            raise malformed(f"user identity with {len(rest)} bytes too many")
        return cls(content[0], content[1] == 1, primary, secondary)


class UserIdentityResponse(NamedTuple):
    """What the acceptor answers to a user identity; empty for a name. PS3.7 section D.3.3.7.2."""

    response: bytes = b""

    def __repr__(self) -> str:
        return "UserIdentityResponse()"  # what Kerberos and SAML answer is between the two

    def content(self) -> bytes:
        """Return the item without its header."""
        return _counted(self.response)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the item that `content` encodes, or raise `ProtocolError`."""
        response, rest = _take_counted(content, "user identity response")
        if rest:
            raise malformed(f"user identity response with {len(rest)} bytes too many")
        return cls(response)


class OpaqueItem(NamedTuple):
    """An item we keep but do not read: extended negotiation (0x56, 0x57) and every unknown type."""

    item_type: int
    data: bytes

    def content(self) -> bytes:
        """Return the item without its header."""
        return self.data


KnownItem = (
    MaximumLength
    | ImplementationClassUID
    | AsyncOperations
    | RoleSelection
    | ImplementationVersion
    | UserIdentity
    | UserIdentityResponse
)
UserItem = KnownItem | OpaqueItem

_KNOWN: dict[int, type[KnownItem]] = {
    0x51: MaximumLength,
    0x52: ImplementationClassUID,
    0x53: AsyncOperations,
    0x54: RoleSelection,
    0x55: ImplementationVersion,
    0x58: UserIdentity,
    0x59: UserIdentityResponse,
}
_TYPES = {kind: item_type for item_type, kind in _KNOWN.items()}


def type_of(item: UserItem) -> int:
    """Return the item type of `item`, a byte. PS3.8 Annex D, PS3.7 Annex D.3.3."""
    return item.item_type if isinstance(item, OpaqueItem) else _TYPES[type(item)]


def encode_user_information(items: tuple[UserItem, ...]) -> bytes:
    """Return the content of the user information item. PS3.8 section 9.3.2.3."""
    return b"".join(join_item(type_of(item), item.content()) for item in items)


def decode_user_information(data: bytes, start: int, end: int) -> tuple[UserItem, ...]:
    """Return the items in `data[start:end]` in order, or raise `ProtocolError`. PS3.8 section 9.3.2.3."""
    items: list[UserItem] = []
    for item_type, first, last in split_items(data, start, end):
        known = _KNOWN.get(item_type)
        content = data[first:last]
        items.append(known.parse(content) if known else OpaqueItem(item_type, content))
    return tuple(items)


def _counted(value: bytes) -> bytes:
    if len(value) > _LARGEST_ITEM:
        raise ValueError(f"a field of user information cannot hold {len(value)} bytes")
    return _U16.pack(len(value)) + value


def _take_counted(content: bytes, where: str) -> tuple[bytes, bytes]:
    """Split `content` into the field its first two bytes measure and the rest."""
    if len(content) < _U16.size:
        raise malformed(f"{where} too short for the length of a field")
    length = int(_U16.unpack_from(content)[0])
    value, rest = content[_U16.size : _U16.size + length], content[_U16.size + length :]
    if len(value) < length:
        raise malformed(f"{where} with a field of {length} bytes, {len(value)} are left")
    return value, rest
