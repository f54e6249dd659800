"""What a ClientHello says, for whoever has to explain why the two sides share nothing.

OpenSSL has refused by then: nothing is decided here, and what cannot be read says nothing.
"""

from __future__ import annotations

from typing import NamedTuple

# RFC 8446 4.1.2, 4.2; RFC 5246 7.4.1
_SUPPORTED_VERSIONS = 43
_LAST_NAMED = 0x0303  # the last version that a hello has in its own field
_VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}


class Offer(NamedTuple):
    """What a requestor offers: TLS versions as people write them, lowest first, and numbers of suites.

    One that knows no TLS 1.3 names the highest version only.
    """

    versions: tuple[str, ...]
    suites: tuple[int, ...]


def read_offer(message: bytes) -> Offer | None:
    """Return what the ClientHello `message` (its four bytes of header included) offers, None if it is none."""
    reader = _Reader(message)
    try:
        reader.take(4)
        legacy = reader.number(2)
        reader.take(32)
        reader.block(1)
        suites = reader.block(2)
        reader.block(1)
        chosen = _extension(reader, _SUPPORTED_VERSIONS)
    except _Short:
        return None
    numbers = _numbers(chosen[1:]) if chosen else (min(legacy, _LAST_NAMED),)
    known = tuple(_VERSIONS[number] for number in sorted(set(numbers)) if number in _VERSIONS)
    return Offer(known, _numbers(suites))


class _Short(Exception):
    """A message ends before what it announces."""


class _Reader:
    """Takes bytes off the front of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._place

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _Short
        self._place += count
        return self._data[self._place - count : self._place]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> bytes:
        """Take what follows a length of `size` bytes."""
        return self.take(self.number(size))


def _extension(reader: _Reader, wanted: int) -> bytes:
    """Return the data of the first extension `wanted`, b"" where there is none."""
    if not reader.left:
        return b""
    extensions = _Reader(reader.block(2))
    while extensions.left:
        kind, data = extensions.number(2), extensions.block(2)
        if kind == wanted:
            return data
    return b""


def _numbers(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data) - 1, 2))
