"""A TLS handshake with a deadline, and what can be learnt from it, also when it failed."""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
import time
from typing import Any, NamedTuple

from dicomtls_cli.tls.names import subject_text

logger = logging.getLogger("dicomtls.tls")

# RFC 8446 B.2, B.3, the few numbers that are looked for in the messages of a handshake.
_ALERT, _HANDSHAKE = 21, 22
_CLIENT_HELLO, _CERTIFICATE, _CERTIFICATE_REQUEST = 1, 11, 13
_RECORD_HEADER = 0x100  # OpenSSL's own number, for the five bytes before a record
_MAX_CERTIFICATE = 1 << 20
_MAX_CHAIN = 64  # certificates


class HandshakeMessages:
    """What the messages of one handshake showed.

    `certificates` are what the peer showed (DER), its own first, also when it was refused;
    `certificate_requested` tells whether the acceptor asked for one; `alert` is the description (RFC 8446 6)
    of the last alert the peer sent. `start` are the first bytes that came, at most five, whatever protocol they
    are of; `client_hello` is the requestor's first message as the acceptor read it.
    """

    def __init__(self) -> None:
        self.start = b""
        self.client_hello = b""
        self.certificates: tuple[bytes, ...] = ()
        self.certificate_requested = False
        self.alert: int | None = None

    @property
    def certificate(self) -> bytes | None:
        """The peer's own certificate (DER), None if it showed none."""
        return self.certificates[0] if self.certificates else None


class TlsFacts(NamedTuple):
    """How a connection is secured, and by what the peer is known.

    `version` and `cipher` are OpenSSL's names. `certificate` is the peer's (DER), None if it showed none;
    `subject` is its subject, "" where the certificate was not looked at.
    `identified_by` is `pin`, `name`, `ca` or `chain`, "" if the peer was not identified. `vouched_by` are the
    SHA-256 digests (hexadecimal) of the CAs in its verified chain, nearest first; empty for a requestor.
    `seconds` is how long the handshake took.
    """

    version: str
    cipher: str
    certificate: bytes | None
    subject: str
    identified_by: str
    certificate_requested: bool
    vouched_by: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the peer's certificate in hexadecimal digits, "" where it showed none."""
        return hashlib.sha256(self.certificate).hexdigest() if self.certificate else ""


def watch_messages(context: ssl.SSLContext) -> None:
    """Make the sockets of `context` note what `messages` reports.

    Python hands out no certificate after a failed verification; the (underscored) message callback is the
    only place where it can be seen. Where a Python lacks it, the certificate is merely not reported.
    """
    if hasattr(ssl.SSLContext, "_msg_callback"):
        context._msg_callback = _note_message  # type: ignore[attr-defined]


def messages(connection: ssl.SSLSocket | ssl.SSLObject) -> HandshakeMessages:
    """Return what the handshake messages on `connection` have shown so far."""
    found = connection.__dict__.setdefault("handshake_messages", HandshakeMessages())
    assert isinstance(found, HandshakeMessages)
    return found


def handshake(sock: ssl.SSLSocket, deadline: float) -> TlsFacts:
    """Make the handshake on a connected `sock` before `deadline` (`time.monotonic()` seconds).

    Returns the facts. Raises ssl.SSLError (IdentityError included), TimeoutError or OSError; `messages`
    then still tells what was seen.
    """
    begun = time.monotonic()
    sock.settimeout(max(deadline - begun, 0.001))
    sock.do_handshake()
    seconds = time.monotonic() - begun
    seen = messages(sock)
    seen.client_hello = b""  # agreed on by now, and of any length
    known = sock.getpeercert()  # empty where it was not verified
    facts = TlsFacts(
        version=sock.version() or "",
        cipher=(sock.cipher() or ("", "", 0))[0],
        certificate=sock.getpeercert(True),
        subject=subject_text(known) if known else "",
        identified_by=getattr(sock, "identified_by", ""),
        certificate_requested=seen.certificate_requested,
        vouched_by=getattr(sock, "vouched_by", ()),
        seconds=seconds,
    )
    # Past the handshake the callback would be called for every record: a bare context has none.
    sock.context = _bare_context(server_side=bool(sock.server_side))
    logger.info("%s, %s", facts.version, facts.cipher)
    known_by = facts.identified_by or "-"
    logger.info("peer certificate SHA-256 %s, identified by %s", facts.fingerprint or "-", known_by)
    return facts


def first_byte(sock: socket.socket, deadline: float) -> bytes:
    """Return up to 16 bytes the peer sent first, without consuming them; b"" if it closed.

    Raises TimeoutError past `deadline`, OSError if the connection broke.
    """
    sock.settimeout(max(deadline - time.monotonic(), 0.001))
    return sock.recv(16, socket.MSG_PEEK)


_BARE: dict[bool, ssl.SSLContext] = {}


def _bare_context(*, server_side: bool) -> ssl.SSLContext:
    if server_side not in _BARE:
        protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
        _BARE[server_side] = ssl.SSLContext(protocol)
    return _BARE[server_side]


def _note_message(
    connection: Any, direction: str, _version: Any, content_type: Any, message_type: Any, data: bytes
) -> None:
    seen = messages(connection)
    if content_type == _HANDSHAKE and message_type == _CERTIFICATE_REQUEST:
        seen.certificate_requested = True
    elif direction == "read" and content_type == _RECORD_HEADER:
        seen.start = seen.start or bytes(data[:5])
    elif direction == "read" and content_type == _HANDSHAKE and message_type == _CLIENT_HELLO:
        seen.client_hello = seen.client_hello or bytes(data)
    elif direction == "read" and content_type == _HANDSHAKE and message_type == _CERTIFICATE:
        seen.certificates = read_certificates(data)
    elif direction == "read" and content_type == _ALERT and len(data) == 2:
        seen.alert = data[1]


def read_certificates(message: bytes) -> tuple[bytes, ...]:
    """Return the whole certificates (DER) of a Certificate message, the peer's own first.

    That is RFC 5246 7.4.2 or RFC 8446 4.4.2, by the lengths in it; at most 64 of them, of 1 MB each.
    """
    position = 4  # type and length of the message
    tls13 = int.from_bytes(message[4:7], "big") != len(message) - 7
    if tls13:
        position += 1 + sum(message[4:5])  # not the list's length: TLS 1.3 puts a request context first
    position += 3  # length of the list
    found: list[bytes] = []
    while len(found) < _MAX_CHAIN:
        length = int.from_bytes(message[position : position + 3], "big")
        certificate = message[position + 3 : position + 3 + length]
        if not 0 < length <= _MAX_CERTIFICATE or len(certificate) != length:
            break
        found.append(certificate)
        position += 3 + length
        if tls13:
            position += 2 + int.from_bytes(message[position : position + 2], "big")  # its extensions
    return tuple(found)
