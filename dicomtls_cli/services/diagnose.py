"""From a failure, its stage and our role to a cause and the next step, in words. One table, pure.

The facts behind it: what OpenSSL reports as reason and verify code (never its text), in the handshake or, for
a certificate refused under TLS 1.3, at the first read after it.
"""

from __future__ import annotations

import socket
import ssl
from enum import StrEnum
from typing import NamedTuple

from dicomtls_cli.errors import AssociationLost, ConnectionFailed, DicomTlsError, ExitCode
from dicomtls_cli.tls.context import IdentityError
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.failures import ConnectionBroken
from dicomtls_cli.upperlayer.header import NotDicom
from dicomtls_cli.upperlayer.stream import PeerClosed


class Stage(StrEnum):
    """How far the connection had come."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    ASSOCIATION = "association"
    DIMSE = "dimse"


class Diagnosis(NamedTuple):
    """One row of the tables: stable name, cause, next step, exit code."""

    slug: str
    cause: str
    hint: str
    exit_code: ExitCode


_D = Diagnosis
_UNTRUSTED = ExitCode.PEER_UNTRUSTED
_REFUSED = ExitCode.REFUSED_BY_PEER
_NO_TLS = ExitCode.NO_COMMON_TLS

_NOT_TRUSTED = _D(
    "tls.peer-untrusted",
    "its certificate is not trusted here",
    "if the peer is right, give its certificate, or its CA's, with `--trust FILE`",
    _UNTRUSTED,
)
_WEAK = _D(
    "tls.peer-weak", "its certificate is too weak", "it needs RSA 2048 or ECC 256 and SHA-256", _UNTRUSTED
)
_WRONG_NAME = _D("tls.name-mismatch", "its certificate has another name", "dial a name it has", _UNTRUSTED)

# X509_V_ERR_* of OpenSSL -> what it means for the side that verified.
_VERIFY_CODES = {
    9: _D("tls.peer-not-yet-valid", "its certificate is not valid yet", "check both clocks", _UNTRUSTED),
    10: _D("tls.peer-expired", "its certificate has expired", "the peer needs a new certificate", _UNTRUSTED),
    26: _D(
        "tls.peer-wrong-usage",
        "its certificate is not made for this role (extended key usage)",
        "the peer needs one with serverAuth and clientAuth; `dicomtls gencert` makes such",
        _UNTRUSTED,
    ),
    62: _WRONG_NAME,
    64: _WRONG_NAME,
    66: _WEAK,
    67: _WEAK,
    68: _WEAK,
}

_SHOW_ONE = _D(
    "tls.refused-no-certificate",
    "it requires a certificate of ours",
    "give `--cert FILE --key FILE` and have that certificate trusted by the peer",
    _REFUSED,
)
_NO_COMMON = _D(
    "tls.no-common",
    "it shares no TLS version or cipher suite with us",
    "try another `--tls-profile`, or allow TLS 1.2 or 1.3 with ECDHE and AES-GCM on the peer",
    _NO_TLS,
)
_PEER_PLAIN = _D(
    "tls.peer-plain",
    "it does not speak TLS on this port",
    "use its TLS port, or `--no-tls` for plain DICOM",
    _NO_TLS,
)
_BAD_CERTIFICATE = _D(
    "tls.refused-bad-certificate",
    "it refused our certificate",
    "see the peer's log: ours may be not yet valid, of the wrong kind or damaged",
    _REFUSED,
)

# `SSLError.reason` -> cause, as the requestor sees it.
_REQUESTOR = {
    "TLSV1_ALERT_UNKNOWN_CA": _D(
        "tls.refused-unknown-ca",
        "it does not trust our certificate",
        "add our certificate to the peer's trusted ones (Orthanc: DicomTlsTrustedCertificates, DCMTK: +cf)",
        _REFUSED,
    ),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _SHOW_ONE,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _D(
        "tls.refused-expired", "our certificate has expired", "make a new one: `dicomtls gencert`", _REFUSED
    ),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _D(
        "tls.refused-revoked", "our certificate is revoked", "use another certificate", _REFUSED
    ),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _D(
        "tls.refused-wrong-usage",
        "our certificate is not made for this role (extended key usage)",
        "use one with serverAuth and clientAuth; `dicomtls gencert` makes such",
        _REFUSED,
    ),
    "SSLV3_ALERT_BAD_CERTIFICATE": _BAD_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _BAD_CERTIFICATE,
    "TLSV1_ALERT_ACCESS_DENIED": _BAD_CERTIFICATE,
    "TLSV1_ALERT_DECRYPT_ERROR": _BAD_CERTIFICATE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _NO_COMMON,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_COMMON,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": _NO_COMMON,
    "UNSUPPORTED_PROTOCOL": _NO_COMMON,
    "NO_SHARED_CIPHER": _NO_COMMON,
    "WRONG_VERSION_NUMBER": _PEER_PLAIN,
    "WRONG_SSL_VERSION": _PEER_PLAIN,
    "UNEXPECTED_MESSAGE": _PEER_PLAIN,
    "RECORD_LAYER_FAILURE": _PEER_PLAIN,
}

# ... and as the acceptor sees it.
_CLIENT_DISTRUSTS = _D(
    "tls.refused-unknown-ca",
    "it does not trust our certificate",
    "it needs our certificate as trusted",
    _REFUSED,
)
_ACCEPTOR = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": _D(
        "tls.peer-no-certificate",
        "it showed no certificate",
        "the peer needs one of its own; `--peer-cert verify` lets peers without one in",
        _UNTRUSTED,
    ),
    "TLSV1_ALERT_UNKNOWN_CA": _CLIENT_DISTRUSTS,
    "SSLV3_ALERT_BAD_CERTIFICATE": _CLIENT_DISTRUSTS,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _CLIENT_DISTRUSTS,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _D(
        "tls.refused-expired",
        "it says our certificate has expired",
        "make a new one: `dicomtls gencert`",
        _REFUSED,
    ),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _D(
        "tls.refused-wrong-usage",
        "it says our certificate is of the wrong kind",
        "use one with serverAuth",
        _REFUSED,
    ),
    "NO_SHARED_CIPHER": _NO_COMMON,
    "UNSUPPORTED_PROTOCOL": _NO_COMMON,
    "VERSION_TOO_LOW": _NO_COMMON,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": _NO_COMMON,
    "WRONG_VERSION_NUMBER": _PEER_PLAIN,
    "HTTP_REQUEST": _PEER_PLAIN,
    "HTTPS_PROXY_REQUEST": _PEER_PLAIN,
}

_HUNG_UP = _D(
    "tls.peer-hung-up",
    "it closed the connection during the TLS handshake",
    "it may speak plain DICOM on this port (use its TLS port, or `--no-tls`), or see its log",
    _NO_TLS,
)
_OTHER_TLS = "tls.failed"


def diagnose(
    error: BaseException,
    *,
    role: Role,
    stage: Stage,
    peer: str,
    requested_certificate: bool = False,
    showed_certificate: bool = True,
) -> DicomTlsError:
    """Return what `error`, raised at `stage` while talking to `peer` (its address), means for people.

    `requested_certificate` and `showed_certificate` tell whether the acceptor asked for the requestor's
    certificate and whether it got one: TLS 1.2 has the same alert for "none shown" and "no common cipher".
    """
    if isinstance(error, ConnectionBroken):
        if isinstance(error.error, ssl.SSLError):
            error = error.error
        elif stage is Stage.ASSOCIATION and isinstance(error.error, PeerClosed | ConnectionResetError):
            return _found(error, peer, "association.lost", f"{error.message} before it answered", error.hint)
    if isinstance(error, NotDicom) and error.protocol == "TLS":
        return _raise_to(error, peer, ExitCode.NO_COMMON_TLS)
    if isinstance(error, AssociationLost):
        return _raise_to(error, peer, error.exit_code)
    if isinstance(error, DicomTlsError):
        return error
    if isinstance(error, IdentityError):
        return ConnectionFailed(
            f"refused `{peer}`: {error.message}", error.hint, slug=error.slug, exit_code=_UNTRUSTED
        )
    if isinstance(error, ssl.SSLError) or stage is Stage.TLS:
        found = _tls_cause(error, role, requested_certificate and not showed_certificate)
        verb = "refused" if found.exit_code is _UNTRUSTED else "no TLS with"
        return ConnectionFailed(
            f"{verb} `{peer}`: {found.cause}", found.hint, slug=found.slug, exit_code=found.exit_code
        )
    return _network_cause(error, peer)


def _tls_cause(error: BaseException, role: Role, owes_certificate: bool) -> Diagnosis:
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _VERIFY_CODES.get(error.verify_code)
        if known is None:
            return _D(
                _NOT_TRUSTED.slug,
                f"{_NOT_TRUSTED.cause} ({error.verify_message})",
                _NOT_TRUSTED.hint,
                _UNTRUSTED,
            )
        return known
    if isinstance(error, TimeoutError):
        return _D(
            "tls.peer-silent",
            "it took the connection, but did not finish the TLS handshake in time",
            "it may be overloaded, or speak another protocol on this port",
            ExitCode.UNREACHABLE,
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        return _HUNG_UP
    reason = error.reason or ""
    if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE" and owes_certificate:
        return _SHOW_ONE
    table = _REQUESTOR if role is Role.REQUESTOR else _ACCEPTOR
    return table.get(reason) or _D(
        _OTHER_TLS,
        f"the TLS handshake failed ({reason or error})",
        "see the peer's log for the reason",
        _NO_TLS,
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


def _raise_to(error: AssociationLost, peer: str, exit_code: ExitCode) -> DicomTlsError:
    return _found(error, peer, error.slug, error.message, error.hint, exit_code)


def _found(
    error: AssociationLost, peer: str, slug: str, message: str, hint: str, exit_code: ExitCode | None = None
) -> DicomTlsError:
    found = AssociationLost(f"`{peer}`: {message}", hint, slug=slug, exit_code=exit_code or error.exit_code)
    found.__cause__ = error
    return found
