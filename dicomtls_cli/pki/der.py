"""Just enough DER (X.690) to tell what a file is, and where its first element ends."""

from __future__ import annotations

import math
from enum import Enum, auto

_INTEGER, _BITS, _OCTETS, _OID, _SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30
_CONTEXT_0, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_CONSTRUCTED, _DEEPEST = 0x20, 24
_PKCS7_OID = bytes.fromhex("2a864886f70d0107")


class Shape(Enum):
    """What the outer tags of a DER element look like; nothing inside is judged."""

    CERTIFICATE = auto()
    PRIVATE_KEY = auto()
    ENCRYPTED_KEY = auto()
    PUBLIC_KEY = auto()
    REQUEST = auto()
    CRL = auto()
    PKCS7 = auto()
    PKCS12 = auto()
    UNKNOWN = auto()


def first_element(data: bytes) -> bytes | None:
    """Return the SEQUENCE that `data` begins with, without what follows it; None if there is none."""
    if data[:1] != b"\x30":
        return None
    found = _element(data, 0)
    return None if found is None else data[: found[2]]


def shape(element: bytes) -> Shape:
    """Tell what the DER `element` looks like from the tags of its first two levels."""
    outer = _children(element)
    tags = [tag for tag, _ in outer]
    if tags == [_SEQUENCE, _SEQUENCE, _BITS]:
        return _signed(outer[0][1])
    if tags[:2] == [_SEQUENCE, _OCTETS]:
        return Shape.ENCRYPTED_KEY
    if tags == [_SEQUENCE, _BITS] or tags == [_INTEGER, _INTEGER]:
        return Shape.PUBLIC_KEY
    if tags[:2] == [_OID, _CONTEXT_0] and _value(outer[0][1]).startswith(_PKCS7_OID):
        return Shape.PKCS7
    if tags[:1] == [_INTEGER]:
        return _versioned(tags, _value(outer[0][1]))
    return Shape.UNKNOWN


def greatest_iterations(element: bytes) -> int:
    """Return the greatest cost of a key derivation in the DER `element`, 0 if there is none.

    In PKCS#12 (RFC 7292 4, B, C) and PBES2 (RFC 8018 A) alike it is the INTEGER after the OCTET STRING of a
    salt; of scrypt (RFC 7914 7) the product of the three after it. What is encrypted is not looked into.
    """
    greatest, waiting = 0, [(element, 0)]
    while waiting:
        outer, depth = waiting.pop()
        costs: list[int] | None = None  # the integers since a salt; None: something else stands between
        for tag, child in _children(outer, limit=1 << 16):
            content = _value(child)
            if tag == _INTEGER and costs is not None:
                costs.append(int.from_bytes(content))
                greatest = max(greatest, costs[0] if len(costs) < 3 else math.prod(costs[:3]))
            elif tag == _OCTETS:
                costs = []
            else:
                costs = None
            if depth < _DEEPEST:
                if tag & _CONSTRUCTED:
                    waiting.append((child, depth + 1))
                elif tag == _OCTETS and first_element(content) == content:
                    waiting.append((content, depth + 1))
    return greatest


def _versioned(tags: list[int], version: bytes) -> Shape:
    if version == b"\x03" and tags[1:2] == [_SEQUENCE]:
        return Shape.PKCS12  # RFC 7292 4
    pkcs8 = version in (b"\0", b"\x01") and tags[1:3] == [_SEQUENCE, _OCTETS]  # RFC 5958 2
    pkcs1 = tags[1:] == [_INTEGER] * (len(tags) - 1) and len(tags) >= 9  # RFC 8017 A.1.2
    sec1 = version == b"\x01" and tags[1:2] == [_OCTETS]  # RFC 5915 3
    return Shape.PRIVATE_KEY if pkcs8 or pkcs1 or sec1 else Shape.UNKNOWN


def _signed(body: bytes) -> Shape:
    """Tell a certificate, a request and a CRL apart: all are SEQUENCE, algorithm, signature."""
    tags = [tag for tag, _ in _children(body)]
    if tags[:1] == [_CONTEXT_0]:
        return Shape.CERTIFICATE  # version 2 or 3, RFC 5280 4.1
    if tags[:4] == [_INTEGER, _SEQUENCE, _SEQUENCE, _CONTEXT_0]:
        return Shape.REQUEST  # RFC 2986 4
    if tags[:5] == [_INTEGER] + [_SEQUENCE] * 4:
        return Shape.CERTIFICATE  # version 1 has no version field
    times = [tag for tag in tags[2:4] if tag in (_UTC_TIME, _GENERALIZED_TIME)]
    return Shape.CRL if times else Shape.UNKNOWN  # RFC 5280 5.1


def _children(element: bytes, limit: int = 16) -> list[tuple[int, bytes]]:
    """Return (tag, whole element) of what is directly inside `element`; stops where it is not DER."""
    outer = _element(element, 0)
    if outer is None:
        return []
    _, at, end = outer
    children: list[tuple[int, bytes]] = []
    while at < end and len(children) < limit:
        found = _element(element, at)
        if found is None or found[2] > end:
            return []
        children.append((found[0], element[at : found[2]]))
        at = found[2]
    return children


def _value(element: bytes) -> bytes:
    found = _element(element, 0)
    return b"" if found is None else element[found[1] : found[2]]


def _element(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return tag, start of content and end of the element at `at`; None if it does not fit in `data`."""
    if at + 2 > len(data):
        return None
    tag, length, start = data[at], data[at + 1], at + 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or start + count > len(data):
            return None
        length = int.from_bytes(data[start : start + count])
        start += count
    return None if start + length > len(data) else (tag, start, start + length)
