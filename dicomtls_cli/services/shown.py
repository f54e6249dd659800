"""What a peer shows of itself in a TLS handshake, whoever it is."""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

from dicomtls_cli.errors import ConnectionFailed, DicomTlsError
from dicomtls_cli.services.connect import connect_tcp, wrap
from dicomtls_cli.services.diagnosis.causes import HUNG_UP, PEER_PLAIN, SILENT
from dicomtls_cli.services.diagnosis.diagnose import Stage, diagnose
from dicomtls_cli.services.peer import Peer, Requestor, Timeouts
from dicomtls_cli.tls.context import client_context
from dicomtls_cli.tls.handshake import HandshakeMessages, handshake, messages
from dicomtls_cli.tls.policy import PeerCheck, Role, TlsPolicy
from dicomtls_cli.tls.profiles import DEFAULT_PROFILE, Profile


class Shown(NamedTuple):
    """What a peer showed of itself in a TLS handshake: its certificates (DER), its own first; how it came out.

    `version` and `cipher` are "" where the handshake failed, and `failure` says why: a peer that requires a
    certificate of ours fails under TLS 1.2 after it showed its own.
    """

    certificates: tuple[bytes, ...]
    certificate_requested: bool
    version: str = ""
    cipher: str = ""
    failure: DicomTlsError | None = None


def shown_by(
    peer: Peer,
    timeouts: Timeouts,
    *,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    profile: Profile = DEFAULT_PROFILE,
) -> Shown:
    """Return what `peer` shows, whoever it is: nothing is verified, and nothing of ours is shown or sent.

    Raises DicomTlsError where it shows nothing.
    """
    policy = TlsPolicy(Role.REQUESTOR, peer_check=PeerCheck.IGNORE, profile=profile)
    requestor = Requestor(timeouts=timeouts, family=family)
    sock = connect_tcp(peer, requestor)
    seen = HandshakeMessages()
    try:
        with wrap(sock, client_context(policy), peer.host) as secured:
            seen = messages(secured)
            facts = handshake(secured, time.monotonic() + timeouts.tls)
            own = (facts.certificate,) if facts.certificate else ()
            return Shown(seen.certificates or own, seen.certificate_requested, facts.version, facts.cipher)
    except (OSError, ValueError) as error:
        why = _explain(error, seen, peer, requestor)
        if not seen.certificates:
            raise why from error
        return Shown(seen.certificates, seen.certificate_requested, failure=why)
    finally:
        sock.close()


def _explain(
    error: OSError | ValueError, seen: HandshakeMessages, peer: Peer, requestor: Requestor
) -> DicomTlsError:
    """Say why no handshake came about with `peer`, to whom nothing of ours was shown."""
    why = diagnose(
        error,
        role=Role.REQUESTOR,
        stage=Stage.TLS,
        peer=str(peer),
        requested_certificate=seen.certificate_requested,
        showed_certificate=False,
        start=seen.start,
    )
    if why.slug in (HUNG_UP.slug, SILENT.slug) and not seen.start:
        from dicomtls_cli.services.diagnosis.probe import explain_silence

        why = explain_silence(why, peer, requestor)
    if why.slug != PEER_PLAIN.slug:
        return why
    hint = "name its port for DICOM over TLS: on others no certificate is shown"
    return ConnectionFailed(why.message, hint, slug=why.slug, exit_code=why.exit_code)


def peer_certificate(peer: Peer, timeouts: Timeouts) -> bytes:
    """Return the certificate (DER) that `peer` shows; see `shown_by`. b"" where it shows none."""
    return next(iter(shown_by(peer, timeouts).certificates), b"")
