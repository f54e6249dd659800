"""What a server's handshake messages say, read from their bytes, and a ClientHello beyond what OpenSSL offers. Pure.

Only what a diagnosis needs; whatever is cut off or contradicts itself reads as nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

# RFC 8446 4, RFC 5246 7.4: types of handshake messages.
SERVER_HELLO, CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST = 2, 11, 12, 13
_SUPPORTED_VERSIONS, _KEY_SHARE, _RENEGOTIATION_INFO = 43, 51, 0xFF01  # RFC 8446 4.2, RFC 5746
_HANDSHAKE_RECORD = 22  # RFC 8446 5.1
_NAMED_CURVE = 3  # RFC 8422 5.4

_VERSIONS = {0x0300: "SSLv3", 0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
# IANA, TLS supported groups: those that are met, in their usual names.
_GROUPS = {
    19: "P-192", 21: "P-224", 23: "P-256", 24: "P-384", 25: "P-521", 29: "X25519", 30: "X448",
    256: "ffdhe2048", 257: "ffdhe3072", 258: "ffdhe4096", 259: "ffdhe6144", 260: "ffdhe8192",
    4587: "SecP256r1MLKEM768", 4588: "X25519MLKEM768", 4589: "SecP384r1MLKEM1024",
}  # fmt: skip


class ServerHello(NamedTuple):
    """What a server chose: OpenSSL's name of the version, the number of the suite, the group if it is told here.

    `secure_renegotiation` tells whether RFC 5746 is spoken; under TLS 1.3 there is nothing to renegotiate.
    """

    version: str
    suite: int
    group: str
    secure_renegotiation: bool


def read_server_hello(message: bytes) -> ServerHello | None:
    """Read a ServerHello with its 4 bytes of header (RFC 5246 7.4.1.3, RFC 8446 4.1.3); None if it is none."""
    if len(message) < 42 or message[0] != SERVER_HELLO:
        return None
    at = 39 + message[38]  # behind the session id
    if len(message) < at + 3:
        return None
    version = int.from_bytes(message[4:6], "big")
    suite = int.from_bytes(message[at : at + 2], "big")
    group = 0
    renegotiation = False
    for kind, data in _extensions(message[at + 5 :]):
        if kind == _SUPPORTED_VERSIONS and len(data) == 2:
            version = int.from_bytes(data, "big")
        elif kind == _KEY_SHARE:
            group = int.from_bytes(data[:2], "big")
        elif kind == _RENEGOTIATION_INFO:
            renegotiation = True
    name = _VERSIONS.get(version, f"0x{version:04X}")
    return ServerHello(name, suite, group_name(group), renegotiation or version > 0x0303)


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while len(data) >= at + 4:
        kind, length = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        if len(data) < at + 4 + length:
            return
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def group_name(number: int) -> str:
    """Return the usual name of a key exchange group by its number; "" for 0."""
    return _GROUPS.get(number, f"group {number}") if number else ""


def read_key_exchange(message: bytes, suite: str) -> str:
    """Return the group of a ServerKeyExchange of TLS 1.2 and older, "" if it tells none.

    `suite` is OpenSSL's name of the suite, which decides how the message is laid out (RFC 5246 7.4.3, RFC 8422 5.4):
    a finite-field group is shown as its size, `DH 2048`.
    """
    if suite.startswith(("ECDHE-", "AECDH-")):
        if len(message) < 7 or message[4] != _NAMED_CURVE:
            return ""
        return group_name(int.from_bytes(message[5:7], "big"))
    if suite.startswith(("DHE-", "ADH-")):
        length = int.from_bytes(message[4:6], "big")
        prime = message[6 : 6 + length]
        return f"DH {int.from_bytes(prime, 'big').bit_length()}" if prime and len(prime) == length else ""
    return ""


# ---------------------------------------------------------------------- what OpenSSL does not offer

SUITES_13 = {
    0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384", 0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0x1304: "TLS_AES_128_CCM_SHA256", 0x1305: "TLS_AES_128_CCM_8_SHA256",
}  # fmt: skip
"""All suites of TLS 1.3 (RFC 8446 B.4), by their numbers: Python before 3.15 cannot choose among them."""

BROKEN_SUITES = {
    0xC012: "ECDHE-RSA-DES-CBC3-SHA", 0xC008: "ECDHE-ECDSA-DES-CBC3-SHA", 0x0016: "DHE-RSA-DES-CBC3-SHA",
    0x000A: "DES-CBC3-SHA", 0x001B: "ADH-DES-CBC3-SHA", 0xC011: "ECDHE-RSA-RC4-SHA", 0xC007: "ECDHE-ECDSA-RC4-SHA",
    0x0005: "RC4-SHA", 0x0004: "RC4-MD5", 0x0018: "ADH-RC4-MD5", 0x0009: "DES-CBC-SHA", 0x0015: "EDH-RSA-DES-CBC-SHA",
    0x0003: "EXP-RC4-MD5", 0x0006: "EXP-RC2-CBC-MD5", 0x0008: "EXP-DES-CBC-SHA",
}  # fmt: skip
"""Suites up to TLS 1.2 that current OpenSSL is built without, by their numbers: OpenSSL's names."""

SSL3_SUITES = {
    0x0035: "AES256-SHA",
    0x002F: "AES128-SHA",
    0x000A: "DES-CBC3-SHA",
    0x0005: "RC4-SHA",
    0x0004: "RC4-MD5",
}
"""Suites that a server of SSL 3.0 is likely to have."""

_NUMBERS = {name: number for number, name in _VERSIONS.items()}
_OFFERED_GROUPS = (29, 23, 24, 25, 30)
# RFC 8446 4.2.3: ECDSA, RSA-PSS and RSA-PKCS1 with SHA-256 to SHA-512, Ed25519, RSA and ECDSA with SHA-1.
_SIGNATURES = (0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0807, 0x0201, 0x0203)


def client_hello(version: str, suites: tuple[int, ...], host: str = "") -> bytes:
    """Return the record of a ClientHello that offers one `version` (OpenSSL's name) and `suites` by their numbers.

    It holds no key share: a server of TLS 1.3 that takes one of the suites answers by a HelloRetryRequest that names
    it (RFC 8446 4.1.4, 4.2.8). `host` is sent as server name where it is a DNS name.
    """
    number = min(_NUMBERS[version], 0x0303)
    chosen = b"".join(suite.to_bytes(2, "big") for suite in suites)
    extensions = b""
    if version != "SSLv3":
        groups = b"".join(group.to_bytes(2, "big") for group in _OFFERED_GROUPS)
        signatures = b"".join(kind.to_bytes(2, "big") for kind in _SIGNATURES)
        extensions = _extension(10, _counted(groups, 2)) + _extension(11, b"\1\0")
        extensions += _extension(13, _counted(signatures, 2)) + _extension(_RENEGOTIATION_INFO, b"\0")
        extensions += _extension(16, _counted(_counted(b"dicom", 1), 2))
        if host:
            extensions += _extension(0, _counted(b"\0" + _counted(host.encode("ascii", "ignore"), 2), 2))
    if version == "TLSv1.3":
        extensions += _extension(_SUPPORTED_VERSIONS, b"\2\3\4") + _extension(_KEY_SHARE, _counted(b"", 2))
    body = number.to_bytes(2, "big") + os.urandom(32) + b"\0" + _counted(chosen, 2) + b"\1\0"
    body += _counted(extensions, 2) if extensions else b""
    message = b"\1" + _counted(body, 3)
    return b"\x16" + min(number, 0x0301).to_bytes(2, "big") + _counted(message, 2)


def _counted(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + _counted(data, 2)


def read_answer(data: bytes) -> ServerHello | bool | None:
    """Read the first message of what a server sent: its ServerHello, False for a refusal, None if more is to come."""
    message = b""
    at = 0
    while len(data) >= at + 5:
        kind, length = data[at], int.from_bytes(data[at + 3 : at + 5], "big")
        if kind != _HANDSHAKE_RECORD or data[at + 1] != 3:
            return False  # an alert, or no TLS
        message += data[at + 5 : at + 5 + length]
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big"):
            return read_server_hello(message[: 4 + int.from_bytes(message[1:4], "big")]) or False
        if len(data) < at + 5 + length:
            return None
        at += 5 + length
    return None
