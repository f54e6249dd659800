"""May this certificate sign others? The one question `getpeercert()` leaves open. Pure.

A successful echo must not pay 40 ms for importing `cryptography`, so the three extensions that decide are
read here; whatever is not exactly as RFC 5280 4.1 writes it counts as "no".
"""

from __future__ import annotations

from collections.abc import Iterator

_BASIC_CONSTRAINTS = b"\x55\x1d\x13"
_KEY_USAGE = b"\x55\x1d\x0f"
_KEY_CERT_SIGN = 0x04  # bit 5 of the first octet, RFC 5280 4.2.1.3

_BOOLEAN, _INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _SEQUENCE = 0x01, 0x02, 0x03, 0x04, 0x06, 0x30
_EXTENSIONS = 0xA3


def may_sign_certificates(der: bytes) -> bool:
    """Tell whether `der` is a CA certificate that says so: CA:TRUE and keyUsage keyCertSign."""
    try:
        found = list(_extensions(der))
        extensions = dict(found)
        if len(extensions) != len(found):  # RFC 5280 4.2: not more than one instance of each
            return False
        return _is_ca(extensions[_BASIC_CONSTRAINTS]) and _has_cert_sign(extensions[_KEY_USAGE])
    except (KeyError, IndexError, ValueError):
        return False


def _extensions(der: bytes) -> Iterator[tuple[bytes, bytes]]:
    certificate = _only(der, _SEQUENCE)
    body = _expect(list(_elements(certificate))[0], _SEQUENCE)  # noqa: RUF015 - IndexError, not StopIteration
    for tag, content in _elements(body):
        if tag == _EXTENSIONS:
            for extension in _elements(_only(content, _SEQUENCE)):
                parts = list(_elements(_expect(extension, _SEQUENCE)))
                yield _expect(parts[0], _OID), _expect(parts[-1], _OCTET_STRING)


def _is_ca(extension: bytes) -> bool:
    parts = list(_elements(_only(extension, _SEQUENCE)))
    if any(tag != _INTEGER for tag, _ in parts[1:2]) or len(parts) > 2:
        return False
    return parts[:1] == [(_BOOLEAN, b"\xff")]


def _has_cert_sign(extension: bytes) -> bool:
    bits = _only(extension, _BIT_STRING)
    unused = bits[0]
    if unused > 7 or bits[-1] & ((1 << unused) - 1):  # X.690 11.2.1: the unused bits are zero
        return False
    return bool(bits[1] & _KEY_CERT_SIGN)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        tag, length, position = data[position], data[position + 1], position + 2
        if length >= 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[position : position + size], "big")
            position += size
            if not 1 <= size <= 4 or length < 0x80 or length >> 8 * (size - 1) == 0:
                raise ValueError("length form")
        if position + length > len(data):
            raise ValueError("overrun")
        yield tag, data[position : position + length]
        position += length


def _expect(element: tuple[int, bytes], tag: int) -> bytes:
    if element[0] != tag:
        raise ValueError("tag")
    return element[1]


def _only(data: bytes, tag: int) -> bytes:
    (element,) = _elements(data)
    return _expect(element, tag)
