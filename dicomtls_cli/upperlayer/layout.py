"""Messages laid out in memory as PDUs, many to a block, so that one send carries them (PS3.8 9.3.5, Annex E)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import IO

from dicomtls_cli.errors import InputError
from dicomtls_cli.upperlayer.header import data_pdu_header

HEAD = 1024
"""Bytes kept free before the data, so that a command set and its data leave together."""

_MOST_SLOTS = 1024  # fragments one readv fills: IOV_MAX of Linux and macOS


def new_block(size: int, fragment: int) -> memoryview:
    """Return memory for about `size` bytes of P-DATA PDUs with `fragment` bytes of data each, at least one."""
    count = min(max(size // (fragment + 12), 1), _MOST_SLOTS)
    return memoryview(bytearray(HEAD + count * (fragment + 12)))


def command_pdus(context_id: int, command: bytes, fragment: int) -> bytes:
    """Return the P-DATA PDUs of a command set, `fragment` bytes of it in each."""
    parts = []
    for start in range(0, len(command), fragment):
        piece = command[start : start + fragment]
        last = start + len(piece) == len(command)
        parts += [data_pdu_header(context_id, True, last, len(piece)), piece]
    return b"".join(parts)


def lay_out(
    block: memoryview, fragment: int, context_id: int, head: bytes, data: IO[bytes], length: int
) -> Iterator[memoryview | bytes]:
    """Yield `head` and the PDUs of `length` bytes read from `data`, as far as they fit `block` at a time.

    Every view is of the same memory and valid until the next. Raises InputError when `data` cannot be read or
    ends early.
    """
    step = fragment + 12
    if len(head) > HEAD:
        yield head
        head = b""
    first = HEAD - len(head)
    block[first:HEAD] = head
    if 0 < length <= fragment:  # most small objects: one PDU, and nothing to remember for the next block
        end = HEAD + 12 + length
        block[HEAD : HEAD + 12] = data_pdu_header(context_id, False, True, length)
        _read_block(data, [block[HEAD + 12 : end]], length)
        yield block[first:end]
        return
    capacity = (len(block) - HEAD) // step
    full = data_pdu_header(context_id, False, False, fragment)
    slots: list[memoryview] = []
    left = length
    while True:
        count = min(capacity, max((left + fragment - 1) // fragment, 1))
        if len(slots) != count or left <= count * fragment:
            slots = []
            for number in range(count):
                at = HEAD + number * step
                size = min(fragment, left - number * fragment)
                last = left <= (number + 1) * fragment
                block[at : at + 12] = data_pdu_header(context_id, False, last, size) if last else full
                slots.append(block[at + 12 : at + 12 + size])
        total = sum(map(len, slots))
        _read_block(data, slots, total)
        yield block[first : HEAD + count * 12 + total]
        first = HEAD
        left -= total
        if left <= 0:
            return


def _read_block(data: IO[bytes], slots: list[memoryview], total: int) -> None:
    """Fill `slots`, `total` bytes in all, from `data`; raise InputError where it has less."""
    name = getattr(data, "name", "the data set")
    try:
        count = _read_into(data, slots)
    except OSError as error:
        raise InputError(
            f"cannot read `{name}`: {error.strerror or error}",
            "check the disk it is on",
            slug="input.unreadable",
        ) from error
    if count != total:
        raise InputError(
            f"`{name}` became shorter while it was sent",
            "send it again once nothing writes to it",
            slug="input.file-shrank",
        )


def _read_into(data: IO[bytes], slots: list[memoryview]) -> int:
    """Fill `slots` one after the other from `data`; return how many bytes there were."""
    wanted = sum(map(len, slots))
    count = 0
    if hasattr(os, "readv") and isinstance(data, io.FileIO):  # a buffered file is ahead of where it stands
        count = os.readv(data.fileno(), slots)
        if count in (0, wanted):
            return count
    position = 0
    for slot in slots:  # a short read, or no file: slot by slot
        done = min(max(count - position, 0), len(slot))
        position += len(slot)
        while done < len(slot):
            more = data.readinto(slot[done:])  # type: ignore[attr-defined]
            if not more:
                return count
            done += more
            count += more
    return count
