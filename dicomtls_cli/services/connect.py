"""An open association with a peer, or why there is none."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from typing import Any, NamedTuple

from dicomtls_cli.errors import AssociationLost, DicomTlsError, ExitCode
from dicomtls_cli.services.peer import Peer, Requestor
from dicomtls_cli.tls.handshake import TlsFacts, handshake, messages
from dicomtls_cli.tls.names import is_address
from dicomtls_cli.tls.policy import Role
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

_NO_REASON = {(1, 1), (2, 1)}  # how a user is refused: PS3.8 9.3.4 has no reason that says so


class Established(NamedTuple):
    """An open association, what was asked for, the peer's answer, and how it is secured (None: plain).

    `associate_seconds` is the time from the A-ASSOCIATE-RQ to its answer, `connect_seconds` how long it took to
    resolve the name and connect; the handshake's are in `tls`.
    """

    association: Association
    request: AssociateRequest
    accept: AssociateAccept
    tls: TlsFacts | None
    associate_seconds: float
    connect_seconds: float = 0.0


def associate(
    peer: Peer, contexts: tuple[PresentationContext, ...], requestor: Requestor, *, window: int = 1
) -> Established:
    """Connect to `peer`, secure the connection and open an association that proposes `contexts`.

    `window` above 1 asks for that many outstanding operations (PS3.7 D.3.3.3). Raises DicomTlsError with the
    cause, whatever the stage.
    """
    begun = time.monotonic()
    sock, facts = connect(peer, requestor)
    seconds = time.monotonic() - begun - (facts.seconds if facts is not None else 0.0)
    established = negotiate(sock, facts, peer, contexts, requestor, window=window)
    return established._replace(connect_seconds=seconds)


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
    begun = time.monotonic()
    try:
        accept = association.request(request, limit=requestor.send_limit)
        seconds = time.monotonic() - begun
    except AssociationRejected as error:
        raise _rejection(error, peer, requestor) from error
    except (ConnectionBroken, NotDicom) as error:
        from dicomtls_cli.services.diagnosis.probe import explain_broken

        raise explain_broken(error, peer, requestor, facts) from error
    except AssociationLost as error:
        raise _diagnosed(error, "association", peer) from error
    except BaseException:
        association.close()
        raise
    logger.info("Association Accepted (Max Send PDV: %d)", association.max_send_pdv)
    if requestor.user is not None and requestor.user.response_requested:
        _expect_confirmation(accept, association, peer)
    return Established(association, request, accept, facts, seconds)


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
    sock = connect_tcp(peer, requestor)
    if requestor.context is None:
        return sock, None
    secured: ssl.SSLSocket | None = None
    try:
        secured = wrap(sock, requestor.context, peer.host)
        return secured, handshake(secured, time.monotonic() + requestor.timeouts.tls)
    except (OSError, ValueError) as error:
        (secured or sock).close()
        from dicomtls_cli.services.diagnosis.probe import explain_handshake

        raise explain_handshake(error, messages(secured) if secured else None, peer, requestor) from error
    except BaseException:
        (secured or sock).close()
        raise


def _diagnosed(error: BaseException, stage: str, peer: Peer) -> DicomTlsError:
    from dicomtls_cli.services.diagnosis.diagnose import Stage, diagnose  # of no use where all goes well

    return diagnose(error, role=Role.REQUESTOR, stage=Stage(stage), peer=str(peer))


def wrap(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Return `sock`, connected to `host`, under TLS of `context`; the handshake is still to be made."""
    # The name is sent (SNI) where it is one; the identity check gets it in any case.
    name = _as_bytes(host.partition("%")[0].rstrip("."))  # without the zone of an IPv6 address
    return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)


def _as_bytes(host: str) -> str | bytes:
    """Return a name of plain letters as bytes, for which Python does not load its tables of all others (2 ms)."""
    return host.encode() if host.isascii() else host


def connect_tcp(peer: Peer, requestor: Requestor) -> socket.socket:
    """Return a TCP connection to `peer`, by whichever of its addresses; raise DicomTlsError."""
    deadline = time.monotonic() + requestor.timeouts.connect
    try:
        addresses = resolve(peer, requestor.family, deadline)
    except (OSError, UnicodeError) as error:
        raise _diagnosed(error, "resolve", peer) from error
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
    raise _diagnosed(failure, "connect", peer) from failure


def resolve(peer: Peer, family: socket.AddressFamily, deadline: float) -> list[Any]:
    """Return `getaddrinfo` entries for `peer` before `deadline` (`time.monotonic()` seconds).

    They are asked for in a thread of its own: it knows no deadline. Raises OSError or UnicodeError.
    """
    outcome: list[Any] = []

    def look_up() -> None:
        try:
            name = _as_bytes(peer.host)
            outcome.append(socket.getaddrinfo(name, peer.port, family, socket.SOCK_STREAM))
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
    from dicomtls_cli.services.diagnosis.causes import rejection_hint

    why = (error.reject.source, error.reject.reason)
    hint = rejection_hint(*why, called=peer.called_aet, calling=requestor.calling_aet)
    if requestor.user is not None and why in _NO_REASON:
        hint = "it may not take this user or the passcode: check `--user`, and see its log"
    return AssociationLost(f"`{peer}`: {error.message}", hint, slug=error.slug, exit_code=ExitCode.REJECTED)
