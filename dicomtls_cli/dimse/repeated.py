"""The commands of a long association, which differ in message id and SOP Instance UID alone, made and read fast.

Each gives what `command` gives, which the tests hold it to; the first of a kind takes that way.
"""

from __future__ import annotations

import functools
import struct

from dicomtls_cli.dimse.command import Command, CommandField, decode, encode, response, store_request

_ELEMENT = struct.Struct("<HHI")
_U16 = struct.Struct("<H")


def encode_store_request(message_id: int, sop_class: str, sop_instance: str, priority: int) -> bytes:
    """Return the bytes of `store_request` with these values: the same, ten times faster from the second on.

    Raise `ValueError` where `message_id` does not fit 16 bits.
    """
    uid = sop_instance.encode("latin-1", "replace")
    if len(uid) % 2:
        uid += b"\0"
    if not 0 <= message_id <= 0xFFFF:
        raise ValueError(f"{message_id} does not fit (0000,0110)")
    before, between = _store_request_around(sop_class, len(uid), priority)
    return b"".join((before, _U16.pack(message_id), between, uid))


@functools.lru_cache(256)
def _store_request_around(sop_class: str, uid_length: int, priority: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the message id of a C-STORE-RQ, the SOP Instance UID left out."""
    whole = encode(store_request(0, sop_class, "0" * uid_length, priority))
    at = whole.index(_ELEMENT.pack(0, 0x0110, 2)) + _ELEMENT.size
    return whole[:at], whole[at + 2 : len(whole) - uid_length]


class CommandReader:
    """Decodes the commands of one peer, which mostly differ in message id and SOP Instance UID alone, and that fast."""

    def __init__(self) -> None:
        self._last = b""
        self._command: Command | None = None
        self._id_at = self._uid_at = 0

    def read(self, data: bytes) -> Command:
        """Return what `decode` returns for `data`, and raise what it raises."""
        last, at, uid_at = self._last, self._id_at, self._uid_at
        known = self._command
        if (
            known is not None
            and len(data) == len(last)
            and data[:at] == last[:at]
            and data[at + 2 : uid_at] == last[at + 2 : uid_at]
        ):
            uid = data[uid_at:].decode("latin-1").strip(" \0")
            if uid or known.field != CommandField.C_STORE_RQ:  # which is malformed without
                number = _U16.unpack_from(data, at)[0]
                # What `_replace` would return, in half of its time.
                if known.is_response:
                    return Command(known.field, known.message_id, number, known.sop_class, uid, *known[5:])
                return Command(known.field, number, known.responded_to, known.sop_class, uid, *known[5:])
        command = decode(data)
        self._learn(data, command)
        return command

    def _learn(self, data: bytes, command: Command) -> None:
        """Note where message id and SOP Instance UID stand, if the UID is there and the last element."""
        self._command = None
        uid = command.sop_instance.encode("latin-1")
        at = data.find(_ELEMENT.pack(0, 0x0120 if command.is_response else 0x0110, 2))
        uid_at = data.find(_ELEMENT.pack(0, 0x1000, len(uid) + len(uid) % 2)) + _ELEMENT.size
        if uid and 0 <= at < uid_at == len(data) - len(uid) - len(uid) % 2 and not command.error_comment:
            self._last, self._command, self._id_at, self._uid_at = data, command, at + _ELEMENT.size, uid_at


def encode_success(request: Command) -> bytes:
    """Return the bytes of the response to `request` that says success: as `encode` of `response`, but faster."""
    uid = request.sop_instance.encode("latin-1", "replace")
    if len(uid) % 2:
        uid += b"\0"
    if not uid or request.message_id is None:
        return encode(response(request, 0))
    before, between = _success_around(request.field, request.sop_class, len(uid))
    return b"".join((before, _U16.pack(request.message_id), between, uid))


@functools.lru_cache(256)
def _success_around(field: int, sop_class: str, uid_length: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the message id of a successful response, the UID left out."""
    whole = encode(response(Command(field, 0, sop_class=sop_class, sop_instance="0" * uid_length), 0))
    at = whole.index(_ELEMENT.pack(0, 0x0120, 2)) + _ELEMENT.size
    return whole[:at], whole[at + 2 : len(whole) - uid_length]
