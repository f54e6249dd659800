"""From a failure, its stage and our role to a cause and the next step, in words. Pure; `causes` has the tables.

OpenSSL reports a reason in the handshake or, for a certificate refused under TLS 1.3, at the first read after it.
"""

from __future__ import annotations

import shlex
import socket
import ssl
from enum import StrEnum

from dicomtls_cli.errors import AssociationLost, ConnectionFailed, DicomTlsError, ExitCode
from dicomtls_cli.services.diagnosis.causes import (
    ACCEPTOR,
    BAD_CERTIFICATE,
    CAME_AND_WENT,
    CLOSED_AT_ONCE,
    GARBLED,
    HUNG_UP,
    NOT_TRUSTED,
    PEER_PLAIN,
    PROTOCOLS,
    REQUESTOR,
    SHOW_ONE,
    SILENT,
    STALLED,
    VERIFY_CODES,
    Diagnosis,
    begins_tls,
    protocol_of,
)
from dicomtls_cli.tls.context import IdentityError
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.failures import AssociationAborted, AssociationTimeout, ConnectionBroken
from dicomtls_cli.upperlayer.header import NotDicom


class Stage(StrEnum):
    """How far the connection had come."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    ASSOCIATION = "association"
    DIMSE = "dimse"


class ClosedAtOnce(ConnectionError):
    """The peer connected, or let us connect, and closed before anything was said."""


def diagnose(
    error: BaseException,
    *,
    role: Role,
    stage: Stage,
    peer: str,
    requested_certificate: bool = False,
    showed_certificate: bool = True,
    start: bytes = b"",
    own_certificate: str = "",
) -> DicomTlsError:
    """Return what `error`, raised at `stage` while talking to `peer` (its address), means for people.

    `requested_certificate` and `showed_certificate` tell whether the acceptor asked for the requestor's
    certificate and whether it got one: TLS 1.2 has the same alert for "none shown" and "no common cipher".
    `start` are the first bytes that came from the peer, `own_certificate` is the file of ours, for the hints.
    """
    if isinstance(error, ConnectionBroken) and has_alert(error):
        error = error.error
    if isinstance(error, AssociationLost):
        return _lost(error, role, stage, peer)
    if isinstance(error, DicomTlsError):
        return error
    if isinstance(error, IdentityError):
        return ConnectionFailed(
            f"refused `{peer}`: {error.message}",
            error.hint,
            slug=error.slug,
            exit_code=ExitCode.PEER_UNTRUSTED,
        )
    if isinstance(error, ssl.SSLError) or stage is Stage.TLS:
        found = _tls_cause(error, role, requested_certificate, showed_certificate, start)
        return failed(found, peer, own_certificate)
    return _network_cause(error, peer)


def _hint_of(error: AssociationLost, stage: Stage) -> str:
    """Return the hint of `error` with what a requestor can do about it at `stage`."""
    if isinstance(error, AssociationAborted) and stage is Stage.DIMSE:
        return (
            f"{error.hint} (Orthanc aborts where `AllowEcho` or `AllowStore` of `DicomModalities` forbids it)"
        )
    if isinstance(error, AssociationTimeout):
        option = "--acse-timeout 60" if stage is Stage.ASSOCIATION else "--dimse-timeout 300"
        return f"the peer may be overloaded or may have stopped; `{option}` waits longer"
    return error.hint


def has_alert(broken: ConnectionBroken) -> bool:
    """Tell whether `ssl` knows why the connection broke, by an alert of the peer's, and not only that it did."""
    ends = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return isinstance(broken.error, ssl.SSLError) and not isinstance(broken.error, ends)


def failed(found: Diagnosis, peer: str, own_certificate: str = "") -> ConnectionFailed:
    """Return the error that tells `found` of `peer`; `own_certificate` is the file of ours, for the hint."""
    verb = "no connection to" if found.slug.startswith("peer.") else "no TLS with"
    if found.exit_code is ExitCode.PEER_UNTRUSTED:
        verb = "refused"
    hint = found.hint.replace("{own}", shlex.quote(own_certificate or "OUR.crt"))
    return ConnectionFailed(
        f"{verb} `{peer}`: {found.cause}", hint, slug=found.slug, exit_code=found.exit_code
    )


def plain_peer(start: bytes, role: Role) -> Diagnosis:
    """Return what it means that a peer begins with `start`, where it should speak TLS."""
    protocol = protocol_of(start)
    if protocol:
        hint = PROTOCOLS[protocol][role is Role.ACCEPTOR]
        return PEER_PLAIN._replace(cause=f"it speaks {protocol}, not TLS", hint=hint)
    hint = PEER_PLAIN.hint if role is Role.REQUESTOR else "only TLS clients are served on this port"
    if not start:
        return PEER_PLAIN._replace(hint=hint)
    text = start[:5].decode("latin-1")
    shown = text if text.isascii() and text.isprintable() else start[:5].hex(" ")
    return PEER_PLAIN._replace(cause=f"it sends `{shown}`, which begins no TLS handshake", hint=hint)


def _tls_cause(
    error: BaseException, role: Role, requested_certificate: bool, showed_certificate: bool, start: bytes
) -> Diagnosis:
    if isinstance(error, ssl.SSLCertVerificationError):
        known = VERIFY_CODES.get(error.verify_code)
        if known is None:
            return NOT_TRUSTED._replace(cause=f"{NOT_TRUSTED.cause} ({error.verify_message})")
        return known
    if isinstance(error, TimeoutError):
        return SILENT if role is Role.REQUESTOR else STALLED
    if isinstance(error, ClosedAtOnce):
        return CLOSED_AT_ONCE if role is Role.REQUESTOR else CAME_AND_WENT
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        return HUNG_UP
    if getattr(error, "library", "") is None:  # not OpenSSL's: `ssl` saw the end before it began
        return HUNG_UP
    reason = error.reason or ""
    if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE" and requested_certificate and role is Role.REQUESTOR:
        # It came as far as asking for ours, so that version and suite were agreed on.
        return BAD_CERTIFICATE if showed_certificate else SHOW_ONE
    found = (REQUESTOR if role is Role.REQUESTOR else ACCEPTOR).get(reason)
    if found is PEER_PLAIN:
        return GARBLED if begins_tls(start) else plain_peer(start, role)
    return found or Diagnosis(
        GARBLED.slug,
        f"the TLS handshake failed ({reason or error})",
        "see the peer's log for the reason",
        ExitCode.NO_COMMON_TLS,
    )


def _network_cause(error: BaseException, peer: str) -> DicomTlsError:
    if isinstance(error, socket.gaierror | UnicodeError):  # UnicodeError: no name at all, by IDNA's rules
        reason = error.strerror if isinstance(error, OSError) else "it is not a host name"
        return ConnectionFailed(
            f"cannot find the host of `{peer}`: {reason}",
            "check the name, or give the address",
            slug="peer.unknown-host",
        )
    if isinstance(error, TimeoutError):
        return ConnectionFailed(
            f"no connection to `{peer}`: nothing answered in time",
            "check address and port, and that no firewall is between",
            slug="peer.timeout",
        )
    if isinstance(error, ConnectionResetError):
        return failed(CLOSED_AT_ONCE, peer)
    if isinstance(error, ConnectionRefusedError):
        return ConnectionFailed(
            f"no connection to `{peer}`: nothing listens there",
            "check the port, and that the peer runs",
            slug="peer.connection-refused",
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConnectionFailed(
        f"no connection to `{peer}`: {reason}", "check address and network", slug="peer.unreachable"
    )


def _lost(error: AssociationLost, role: Role, stage: Stage, peer: str) -> DicomTlsError:
    if isinstance(error, ConnectionBroken) and stage is Stage.ASSOCIATION:
        how = "reset" if isinstance(error.error, ConnectionResetError) else "closed"
        message = f"the peer {how} the connection before it answered"
        return _found(error, peer, "association.lost", message, error.hint)
    if isinstance(error, NotDicom) and error.protocol == "TLS":
        return _found(error, peer, error.slug, error.message, error.hint, ExitCode.NO_COMMON_TLS)
    hint = _hint_of(error, stage) if role is Role.REQUESTOR else error.hint
    return _found(error, peer, error.slug, error.message, hint, error.exit_code)


def _found(
    error: AssociationLost, peer: str, slug: str, message: str, hint: str, exit_code: ExitCode | None = None
) -> DicomTlsError:
    found = AssociationLost(f"`{peer}`: {message}", hint, slug=slug, exit_code=exit_code or error.exit_code)
    found.__cause__ = error
    return found
