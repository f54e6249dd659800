"""What is offered to a TLS server to find out what it does: for `doctor` only.

These are the only contexts that ever offer TLS 1.0 and 1.1, suites without encryption or authentication and keys of any
size, and that verify nobody. No application data is sent through them, and what they learn is never trusted: it is
told. Everything else connects with a context of `tls.context`.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

from dicomtls_cli.material import KeyPair
from dicomtls_cli.tls.flights import CERTIFICATE, CERTIFICATE_REQUEST, SERVER_HELLO, SERVER_KEY_EXCHANGE

VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
"""What can be offered, lowest first, by OpenSSL's names."""

GROUPS = {
    "X25519MLKEM768": "X25519MLKEM768",
    "X25519": "X25519",
    "P-256": "prime256v1",
    "P-384": "secp384r1",
    "P-521": "secp521r1",
    "X448": "X448",
}
"""Key exchange groups that are offered one by one: usual name -> OpenSSL's, which may not know all of them."""

_ALERT, _HANDSHAKE = 21, 22
_KEPT = (SERVER_HELLO, CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST)
_MOST_MESSAGES = 16  # of the kinds that are kept
_LEGACY_SERVER = getattr(ssl, "OP_LEGACY_SERVER_CONNECT", 0x4)  # it has a name from Python 3.12 on


class Ending(StrEnum):
    """How a conversation ended."""

    DONE = "done"
    ALERT = "alert"
    CLOSED = "closed"
    RESET = "reset"
    SILENT = "silent"
    GARBAGE = "garbage"
    TOO_MUCH = "too-much"
    NOT_OFFERED = "not-offered"
    REFUSED = "refused"


class Offer(NamedTuple):
    """What is offered: versions from `lowest` to `highest`, suites up to TLS 1.2 (empty: all), one group (empty: all).

    Suites are OpenSSL's names, `group` a key of GROUPS.
    """

    lowest: str = "TLSv1"
    highest: str = "TLSv1.3"
    suites: tuple[str, ...] = ()
    group: str = ""
    key_pair: KeyPair | None = None


class Seen(NamedTuple):
    """What a server showed: `version` and `cipher` (OpenSSL's names, "" if it chose none), then what came of it.

    `start` are the first bytes it sent, `alert` is the description of its last alert (RFC 8446 6), `error` what ended
    the handshake, or the reading after it; `identified_by` as in TlsFacts. `handshake_done` stays true where the peer
    refused after the handshake. `seconds` are those of the handshake.
    """

    ending: Ending
    version: str = ""
    cipher: str = ""
    group: str = ""
    chain: tuple[bytes, ...] = ()
    certificate_requested: bool = False
    secure_renegotiation: bool = True
    alpn: str = ""
    start: bytes = b""
    alert: int | None = None
    error: OSError | None = None
    handshake_done: bool = False
    identified_by: str = ""
    seconds: float = 0.0


def survey_context(offer: Offer) -> ssl.SSLContext:
    """Return a context that offers exactly `offer` and takes any answer; never for a connection that is used.

    Raises ssl.SSLError or ValueError where this Python or OpenSSL cannot offer it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what is looked for
        context.minimum_version, context.maximum_version = VERSIONS[offer.lowest], VERSIONS[offer.highest]
    context.set_ciphers(":".join((*(offer.suites or old_suites()), "@SECLEVEL=0")))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET | _LEGACY_SERVER
    context.set_alpn_protocols(["dicom"])
    if offer.group:
        context.set_ecdh_curve(GROUPS[offer.group])
    if offer.key_pair is not None:
        pair = offer.key_pair
        context.load_cert_chain(pair.cert_file, pair.key_file, pair.passphrase)
    if hasattr(ssl.SSLContext, "_msg_callback"):
        context._msg_callback = _keep_message  # type: ignore[attr-defined]
    return context


@cache
def suite_names() -> dict[int, str]:
    """Return all suites this OpenSSL has, number -> name; those that need a shared secret are left out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:!PSK:!SRP:@SECLEVEL=0")
    return {suite["id"] & 0xFFFF: suite["name"] for suite in context.get_ciphers()}


def old_suites() -> tuple[str, ...]:
    """Return the suites up to TLS 1.2 that can be offered from here (OpenSSL's names), in OpenSSL's order."""
    return tuple(name for name in suite_names().values() if not name.startswith("TLS_"))


def _keep_message(
    connection: Any, direction: str, _version: Any, content_type: Any, message_type: Any, data: bytes
) -> None:
    if direction != "read":
        return
    if content_type == _HANDSHAKE and message_type in _KEPT:
        kept = connection.__dict__.setdefault("kept_messages", [])
        if len(kept) < _MOST_MESSAGES:
            kept.append((int(message_type), bytes(data)))
    elif content_type == _ALERT and len(data) == 2 and data[1]:  # 0 is close_notify
        connection.__dict__["kept_alert"] = data[1]


def kept_messages(connection: Any) -> Iterator[tuple[int, bytes]]:
    """Yield what `connection`, one of a survey context, has read of the handshake: type and bytes of each message."""
    yield from connection.__dict__.get("kept_messages", ())


def kept_alert(connection: Any) -> int | None:
    """Return the description of the last alert that `connection` has read."""
    alert: int | None = connection.__dict__.get("kept_alert")
    return alert
