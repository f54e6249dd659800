"""Asking a peer once more, when it broke off without a reason: one connection, at most two seconds.

Loaded after a failure only. What is asked says nothing about us: a ClientHello without a certificate, or an
A-ASSOCIATE-RQ with the AE titles that everybody has.
"""

from __future__ import annotations

import shlex
import socket
import ssl
import time
from typing import Any

from dicomtls_cli.errors import ConnectionFailed, DicomTlsError, ExitCode, printable
from dicomtls_cli.services.connect import connect_tcp, wrap
from dicomtls_cli.services.diagnosis.causes import (
    CLOSED_AT_ONCE,
    HUNG_UP,
    NO_COMMON,
    NOT_TRUSTED,
    SILENT,
    VERIFY_CODES,
    begins_tls,
    protocol_of,
)
from dicomtls_cli.services.diagnosis.diagnose import (
    ClosedAtOnce,
    Stage,
    diagnose,
    failed,
    has_alert,
    plain_peer,
)
from dicomtls_cli.services.diagnosis.own import explain_own
from dicomtls_cli.services.diagnosis.suites import explain_choice
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.tls.context import IdentityError
from dicomtls_cli.tls.flights import SERVER_HELLO, ServerHello, read_server_hello
from dicomtls_cli.tls.handshake import HandshakeMessages, TlsFacts, handshake
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.tls.profiles import DEFAULT_PROFILE
from dicomtls_cli.upperlayer.codec import encode
from dicomtls_cli.upperlayer.failures import ConnectionBroken
from dicomtls_cli.upperlayer.header import OWN_MAXIMUM, NotDicom
from dicomtls_cli.upperlayer.items import ImplementationClassUID, MaximumLength
from dicomtls_cli.upperlayer.negotiation import propose
from dicomtls_cli.upperlayer.pdu import IMPLEMENTATION_CLASS_UID, Abort, AssociateRequest
from dicomtls_cli.upperlayer.registry import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

SECONDS = 2.0
"""The longest that a peer is asked once more."""

_LISTEN_FIRST = 0.2  # seconds in which whoever speaks, or hangs up, unasked does so
_OF_STRICTNESS = 80  # verify codes from here on are about extensions, and come with X509_STRICT
_HANDSHAKE = 22  # RFC 8446 B.2


def explain_handshake(
    error: OSError | ValueError, seen: HandshakeMessages | None, peer: Peer, requestor: Requestor
) -> DicomTlsError:
    """Say why no handshake with `peer` came about; `seen` is what its messages showed, None without any."""
    seen = seen or HandshakeMessages()
    found = diagnose(
        error,
        role=Role.REQUESTOR,
        stage=Stage.TLS,
        peer=str(peer),
        requested_certificate=seen.certificate_requested,
        showed_certificate=requestor.shows_certificate,
        start=seen.start,
        own_certificate=requestor.certificate_file,
    )
    if found.slug in (HUNG_UP.slug, SILENT.slug) and not seen.start:
        return explain_silence(found, peer, requestor)
    if found.slug == NO_COMMON.slug:
        choice = chosen_of_all(peer, requestor)
        if choice is not None and requestor.context is not None:
            return failed(explain_choice(choice, requestor.context), str(peer))
        if isinstance(error, ssl.SSLError) and error.reason == "TLSV1_ALERT_PROTOCOL_VERSION":
            return failed(NO_COMMON._replace(cause="it takes neither TLS 1.2 nor TLS 1.3"), str(peer))
        return found
    if isinstance(error, ssl.SSLCertVerificationError) and not isinstance(error, IdentityError):
        return _name_certificate(found, error, seen.certificate, peer)
    return explain_own(found, requestor.certificate_file)


def explain_broken(
    error: ConnectionBroken | NotDicom, peer: Peer, requestor: Requestor, facts: TlsFacts | None
) -> DicomTlsError:
    """Say why `peer` broke off where its A-ASSOCIATE-AC was due; `facts` is how it was secured (None: plain).

    Under TLS 1.3 a refused certificate shows only now, and its alert is lost when the peer resets first.
    """
    cause: BaseException = error
    if isinstance(error, ConnectionBroken) and not has_alert(error):
        if facts is None:
            if (found := _explain_plain(peer, requestor)) is not None:
                return found
        elif facts.version == "TLSv1.3":
            cause = alert_of(peer, requestor) or error
    return explain_own(
        diagnose(
            cause,
            role=Role.REQUESTOR,
            stage=Stage.ASSOCIATION,
            peer=str(peer),
            requested_certificate=facts is not None and facts.certificate_requested,
            showed_certificate=requestor.shows_certificate,
            own_certificate=requestor.certificate_file,
        ),
        requestor.certificate_file,
    )


def explain_silence(found: DicomTlsError, peer: Peer, requestor: Requestor) -> DicomTlsError:
    """Say what it is that answered our ClientHello by nothing at all."""
    start = what_speaks(peer, requestor)
    if start is None or (not start and found.slug == SILENT.slug):  # the first time it did not hang up
        return found
    if not start:
        return diagnose(ClosedAtOnce(), role=Role.REQUESTOR, stage=Stage.TLS, peer=str(peer))
    return failed(plain_peer(start, Role.REQUESTOR), str(peer))


def alert_of(peer: Peer, requestor: Requestor) -> ssl.SSLError | None:
    """Return the alert that `peer` sends after a handshake with `requestor`: read before anything is written."""
    deadline = time.monotonic() + SECONDS
    assert requestor.context is not None
    try:
        sock = _dial(peer, requestor)
        with sock, wrap(sock, requestor.context, peer.host) as secured:
            handshake(secured, deadline)
            secured.settimeout(max(deadline - time.monotonic(), 0.001))
            secured.recv(1)
    except ssl.SSLEOFError:
        return None
    except ssl.SSLError as alert:
        return alert
    except (OSError, DicomTlsError):
        return None
    return None


def what_speaks(peer: Peer, requestor: Requestor) -> bytes | None:
    """Return how `peer` begins where it speaks no TLS, b"" if it hangs up unasked, None if it cannot be told.

    It is listened to first, and then asked in plain DICOM, as anybody would: none of our words, no AE title of
    ours, and no data.
    """
    deadline = time.monotonic() + SECONDS
    try:
        with _dial(peer, requestor) as sock:
            start = _first_bytes(sock, min(deadline, time.monotonic() + _LISTEN_FIRST))
            if start is not None:
                return start
            contexts = propose([(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))])
            information = (MaximumLength(OWN_MAXIMUM), ImplementationClassUID(IMPLEMENTATION_CLASS_UID))
            sock.sendall(encode(AssociateRequest("ANY-SCP", "DICOMTLS", contexts, information)))
            start = _first_bytes(sock, deadline)
            if not start or begins_tls(start):
                return None
            if protocol_of(start) == "plain DICOM":
                sock.sendall(encode(Abort(0, 0)))
            return start
    except DicomTlsError as error:
        return b"" if error.slug == CLOSED_AT_ONCE.slug else None
    except OSError:
        return None


def chosen_of_all(peer: Peer, requestor: Requestor) -> ServerHello | None:
    """Return what `peer` chooses where it may choose among all suites of TLS 1.2 and 1.3, None if nothing."""
    hello = b""

    def note(_sock: Any, direction: str, _version: Any, kind: Any, message_type: Any, data: bytes) -> None:
        nonlocal hello
        if direction == "read" and kind == _HANDSHAKE and message_type == SERVER_HELLO:
            hello = bytes(data)

    _ask_in_tls(peer, requestor, note)
    return read_server_hello(hello)


def _ask_in_tls(
    peer: Peer, requestor: Requestor, note: Any = None, *, listening: float = 0.0
) -> Exception | None:
    """Make a handshake in which everything is taken; return what it failed by.

    `listening` are seconds in which the peer may hang up unasked: ClosedAtOnce.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: the question is what speaks there
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join((*DEFAULT_PROFILE.suites, "ALL:!aNULL:!eNULL:@SECLEVEL=0")))
    if note is not None and hasattr(ssl.SSLContext, "_msg_callback"):
        context._msg_callback = note  # type: ignore[attr-defined]
    deadline = time.monotonic() + SECONDS
    try:
        with _dial(peer, requestor) as sock:
            if listening and _first_bytes(sock, time.monotonic() + listening) == b"":
                return ClosedAtOnce()
            with wrap(sock, context, peer.host) as secured:
                secured.settimeout(max(deadline - time.monotonic(), 0.001))
                secured.do_handshake()
    except (OSError, DicomTlsError) as error:
        return ClosedAtOnce() if getattr(error, "slug", "") == CLOSED_AT_ONCE.slug else error
    return None


def _dial(peer: Peer, requestor: Requestor) -> socket.socket:
    return connect_tcp(peer, requestor._replace(timeouts=requestor.timeouts._replace(connect=SECONDS)))


def _first_bytes(sock: socket.socket, deadline: float) -> bytes | None:
    """Return the first bytes that come, b"" if the peer hangs up, None if neither happens before `deadline`."""
    sock.settimeout(max(deadline - time.monotonic(), 0.001))
    try:
        return sock.recv(16)
    except TimeoutError:
        return None
    except OSError:
        return b""


def _explain_plain(peer: Peer, requestor: Requestor) -> DicomTlsError | None:
    """Say why a peer hung up on plain DICOM, if it speaks TLS or hangs up on everybody."""
    error = _ask_in_tls(peer, requestor, listening=_LISTEN_FIRST)
    if isinstance(error, ClosedAtOnce):
        return diagnose(error, role=Role.REQUESTOR, stage=Stage.TLS, peer=str(peer))
    if error is None or (isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")):
        return ConnectionFailed(
            f"no plain DICOM with `{peer}`: it speaks TLS on this port",
            "drop `--no-tls`, and name the certificate it has to show: `--trust FILE`",
            slug="association.peer-speaks-tls",
            exit_code=ExitCode.NO_COMMON_TLS,
        )
    return None


def _name_certificate(
    found: DicomTlsError, error: ssl.SSLCertVerificationError, certificate: bytes | None, peer: Peer
) -> DicomTlsError:
    """Add to a refusal by us which certificate it was about, and how to trust that one."""
    if certificate is None:
        return ConnectionFailed(
            f"{found.message}; certificate not available on this Python",
            found.hint,
            slug=found.slug,
            exit_code=found.exit_code,
        )
    from dicomtls_cli.pki.bundle import describe

    shown = describe(certificate)
    date = {9: shown.not_before, 10: shown.not_after}.get(error.verify_code)
    when = f" ({date:%Y-%m-%d %H:%M} UTC)" if date is not None else ""
    hint = found.hint
    if error.verify_code >= _OF_STRICTNESS:
        hint = (
            "leave out `--x509-strict`, or the peer needs one as RFC 5280 wants it: "
            "`dicomtls gencert NAME` makes such"
        )
    elif found.slug == NOT_TRUSTED.slug and error.verify_code not in VERIFY_CODES:
        hint = (
            f"if its owner says the same SHA-256: `dicomtls bundle --from {shlex.quote(str(peer))} "
            f"--fingerprint {shown.sha256} -o peer.crt`, and then `--trust peer.crt`"
        )
    return ConnectionFailed(
        f"{found.message}{when}: {printable(shown.subject or '(no subject)', 200)} (SHA-256 {shown.sha256})",
        hint,
        slug=found.slug,
        exit_code=found.exit_code,
    )
