"""An open association with a peer, or why there is none."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from typing import Any, NamedTuple

from dicomtls_cli.errors import AssociationLost, ConnectionFailed, DicomTlsError, ExitCode
from dicomtls_cli.services.diagnose import Stage, diagnose
from dicomtls_cli.services.peer import Peer, Requestor, Timeouts
from dicomtls_cli.tls.context import client_context
from dicomtls_cli.tls.handshake import TlsFacts, handshake, messages
from dicomtls_cli.tls.names import is_address
from dicomtls_cli.tls.policy import PeerCheck, Role, TlsPolicy
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.failures import AssociationRejected, ConnectionBroken
from dicomtls_cli.upperlayer.header import NotDicom
from dicomtls_cli.upperlayer.items import (
    AsyncOperations,
    ImplementationClassUID,
    ImplementationVersion,
    MaximumLength,
)
from dicomtls_cli.upperlayer.pdu import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    AssociateAccept,
    AssociateRequest,
    PresentationContext,
)

logger = logging.getLogger("dicomtls.association")

_PROBE_SECONDS = 2.0
_NO_REASON = {(1, 1), (2, 1)}  # how a user is refused: PS3.8 9.3.4 has no reason that says so


class Established(NamedTuple):
    """An open association, what was asked for, the peer's answer, and how it is secured (None: plain)."""

    association: Association
    request: AssociateRequest
    accept: AssociateAccept
    tls: TlsFacts | None


def associate(
    peer: Peer, contexts: tuple[PresentationContext, ...], requestor: Requestor, *, window: int = 1
) -> Established:
    """Connect to `peer`, secure the connection and open an association that proposes `contexts`.

    `window` above 1 asks for that many outstanding operations (PS3.7 D.3.3.3). Raises DicomTlsError with the
    cause, whatever the stage.
    """
    sock, facts = connect(peer, requestor)
    return negotiate(sock, facts, peer, contexts, requestor, window=window)


def negotiate(
    sock: socket.socket,
    facts: TlsFacts | None,
    peer: Peer,
    contexts: tuple[PresentationContext, ...],
    requestor: Requestor,
    *,
    window: int = 1,
) -> Established:
    """Open an association on `sock`, what `connect` returned with `facts`; the rest is as for `associate`."""
    information = (
        MaximumLength(requestor.maximum_length),
        ImplementationClassUID(IMPLEMENTATION_CLASS_UID),
        *((AsyncOperations(window, 1),) if window > 1 else ()),
        ImplementationVersion(IMPLEMENTATION_VERSION),
        *(() if requestor.user is None else (requestor.user,)),
    )
    request = AssociateRequest(peer.called_aet, requestor.calling_aet, contexts, information)
    association = Association(
        sock,
        acse_timeout=requestor.timeouts.acse,
        dimse_timeout=requestor.timeouts.dimse,
        maximum_length=requestor.maximum_length,
    )
    logger.info("Requesting Association")
    try:
        accept = association.request(request, limit=requestor.send_limit)
    except AssociationRejected as error:
        raise _rejection(error, peer, requestor) from error
    except (ConnectionBroken, NotDicom) as error:
        raise _why_refused(error, peer, requestor, facts) from error
    except AssociationLost as error:
        raise diagnose(error, role=Role.REQUESTOR, stage=Stage.ASSOCIATION, peer=str(peer)) from error
    except BaseException:
        association.close()
        raise
    logger.info("Association Accepted (Max Send PDV: %d)", association.max_send_pdv)
    if requestor.user is not None and requestor.user.response_requested:
        _expect_confirmation(accept, association, peer)
    return Established(association, request, accept, facts)


def _expect_confirmation(accept: AssociateAccept, association: Association, peer: Peer) -> None:
    """Abort the association unless the peer confirmed the user, as it was asked to.

    PS3.7 D.3.3.7 lets an acceptor without user identification accept and say nothing, and leaves it to the
    requestor to go on. Whoever asked wanted to know before anything is sent; DCMTK's `-rsp` gives up too.
    """
    if accept.user_identity_response is not None:
        logger.info("User Identity Confirmed")
        return
    association.abort()
    raise AssociationLost(
        f"`{peer}` accepted the association, but did not confirm the user as it was asked to",
        "many peers do not look at the user: leave out `--user-rsp` if that is good enough",
        slug="association.user-not-confirmed",
        exit_code=ExitCode.REJECTED,
    )


def connect(peer: Peer, requestor: Requestor) -> tuple[socket.socket, TlsFacts | None]:
    """Connect to `peer` and make the TLS handshake, where there is to be one; raise DicomTlsError."""
    sock = _connect_tcp(peer, requestor)
    if requestor.context is None:
        return sock, None
    try:
        secured = _wrap(sock, requestor.context, peer.host)
    except (OSError, ValueError) as error:
        sock.close()
        raise diagnose(error, role=Role.REQUESTOR, stage=Stage.TLS, peer=str(peer)) from error
    try:
        return secured, handshake(secured, time.monotonic() + requestor.timeouts.tls)
    except OSError as error:
        requested = messages(secured).certificate_requested
        secured.close()
        raise diagnose(
            error,
            role=Role.REQUESTOR,
            stage=Stage.TLS,
            peer=str(peer),
            requested_certificate=requested,
            showed_certificate=requestor.shows_certificate,
        ) from error
    except BaseException:
        secured.close()
        raise


def _wrap(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    # The name is sent (SNI) where it is one; the identity check gets it in any case.
    name = host.partition("%")[0].rstrip(".")  # without the zone of an IPv6 address
    return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)


def _connect_tcp(peer: Peer, requestor: Requestor) -> socket.socket:
    deadline = time.monotonic() + requestor.timeouts.connect
    try:
        addresses = resolve(peer, requestor.family, deadline)
    except (OSError, UnicodeError) as error:
        raise diagnose(error, role=Role.REQUESTOR, stage=Stage.RESOLVE, peer=str(peer)) from error
    failure: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        # What time there is left is shared by the addresses that are left: one dead address is not the end.
        share = max(deadline - time.monotonic(), 0.001) / (len(addresses) - number)
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # this machine lacks the family
            failure = error
            continue
        try:
            sock.settimeout(share)
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise diagnose(failure, role=Role.REQUESTOR, stage=Stage.CONNECT, peer=str(peer)) from failure


def resolve(peer: Peer, family: socket.AddressFamily, deadline: float) -> list[Any]:
    """Return `getaddrinfo` entries for `peer` before `deadline` (`time.monotonic()` seconds).

    They are asked for in a thread of its own: it knows no deadline. Raises OSError or UnicodeError.
    """
    outcome: list[Any] = []

    def look_up() -> None:
        try:
            outcome.append(socket.getaddrinfo(peer.host, peer.port, family, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            outcome.append(error)

    if is_address(peer.host):
        look_up()
    else:
        thread = threading.Thread(target=look_up, daemon=True)
        thread.start()
        thread.join(max(deadline - time.monotonic(), 0))
    if not outcome:
        raise socket.gaierror(socket.EAI_AGAIN, "the name was not resolved in time")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    found: list[Any] = outcome[0]
    return found


def _rejection(error: AssociationRejected, peer: Peer, requestor: Requestor) -> DicomTlsError:
    hints = {
        7: f"the peer does not know the called AE title `{peer.called_aet}`; give its own with `--aec`",
        3: f"the peer does not know the calling AE title `{requestor.calling_aet}`; give one it knows "
        "with `--aet`, or add it there",
    }
    by_user = error.reject.source == 1
    otherwise = "see the peer's log for the reason" if by_user else "try again later, with fewer associations"
    hint = hints.get(error.reject.reason, otherwise) if by_user else otherwise
    if requestor.user is not None and (error.reject.source, error.reject.reason) in _NO_REASON:
        hint = "it may not take this user or the passcode: check `--user`, and see its log"
    return AssociationLost(f"`{peer}`: {error.message}", hint, slug=error.slug, exit_code=ExitCode.REJECTED)


def _why_refused(
    error: ConnectionBroken | NotDicom, peer: Peer, requestor: Requestor, facts: TlsFacts | None
) -> DicomTlsError:
    """Say why the peer broke off where its A-ASSOCIATE-AC was due, asking it once more where it did not say.

    Under TLS 1.3 a refused certificate shows only now, and its alert is lost when the peer resets first:
    a second connection that reads before it writes gets it. A peer that hangs up on plain DICOM may want TLS.
    """
    cause: BaseException = error
    if isinstance(error, ConnectionBroken) and not isinstance(error.error, ssl.SSLError):
        if requestor.context is not None:
            cause = _alert_of(peer, requestor) or error
        elif _speaks_tls(peer, requestor):
            return ConnectionFailed(
                f"no plain DICOM with `{peer}`: it speaks TLS on this port",
                "drop `--no-tls`",
                slug="association.peer-speaks-tls",
                exit_code=ExitCode.NO_COMMON_TLS,
            )
    return diagnose(
        cause,
        role=Role.REQUESTOR,
        stage=Stage.ASSOCIATION,
        peer=str(peer),
        requested_certificate=facts is not None and facts.certificate_requested,
        showed_certificate=requestor.shows_certificate,
    )


def _alert_of(peer: Peer, requestor: Requestor) -> ssl.SSLError | None:
    try:
        sock, _ = connect(peer, _quick(requestor))
    except DicomTlsError:
        return None
    with sock:
        sock.settimeout(_PROBE_SECONDS)
        try:
            sock.recv(1)
        except ssl.SSLError as alert:
            return alert
        except OSError:
            return None
    return None


def _speaks_tls(peer: Peer, requestor: Requestor) -> bool:
    """Tell whether the peer answers a TLS ClientHello with TLS, were it to refuse it by an alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: the question is what speaks there
    try:
        sock = _connect_tcp(peer, _quick(requestor))
    except DicomTlsError:
        return False
    sock.settimeout(_PROBE_SECONDS)
    try:
        with context.wrap_socket(sock, do_handshake_on_connect=False) as secured:
            secured.do_handshake()
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    finally:
        sock.close()


def _quick(requestor: Requestor) -> Requestor:
    timeouts = requestor.timeouts._replace(connect=_PROBE_SECONDS, tls=_PROBE_SECONDS)
    return requestor._replace(timeouts=timeouts)


def peer_certificate(peer: Peer, timeouts: Timeouts) -> bytes:
    """Return the certificate (DER) that `peer` shows, whoever it is: nothing is verified, and nothing sent.

    Also that of a peer which wants one of ours: its own comes first. Raises DicomTlsError.
    """
    policy = TlsPolicy(Role.REQUESTOR, peer_check=PeerCheck.IGNORE)
    sock = _connect_tcp(peer, Requestor(timeouts=timeouts))
    shown: bytes | None = None
    try:
        with _wrap(sock, client_context(policy), peer.host) as secured:
            try:
                shown = handshake(secured, time.monotonic() + timeouts.tls).certificate
            except OSError:
                shown = messages(secured).certificate
                if shown is None:
                    raise
    except (OSError, ValueError) as error:
        raise diagnose(error, role=Role.REQUESTOR, stage=Stage.TLS, peer=str(peer)) from error
    finally:
        sock.close()
    return shown or b""
