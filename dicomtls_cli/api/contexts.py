"""TLS contexts for pynetdicom, or any other program that uses `ssl`, and why connections over them failed."""

from __future__ import annotations

import socket
import ssl
from typing import overload

from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.services import peer as peers
from dicomtls_cli.services.diagnosis import diagnose as services
from dicomtls_cli.services.diagnosis.diagnose import Stage
from dicomtls_cli.services.peer import TlsOptions
from dicomtls_cli.tls.failures import Failure, keep_failures, take_failure
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.failures import ConnectionBroken
from dicomtls_cli.upperlayer.stream import PeerClosed


def tls_context(role: Role, options: TlsOptions) -> ssl.SSLContext:
    """Read the files of `options` and return the TLS context of `role`.

    Its sockets check who the peer is before a byte of it passes, and `diagnose` tells why one failed. Raises
    UsageError for contradictions, InputError for files that are missing or not what they should be.
    """
    return keep_failures(peers.tls_context(role, options))


@overload
def diagnose(failed: BaseException, *, peer: str, role: Role = Role.REQUESTOR) -> DicomTlsError: ...
@overload
def diagnose(failed: ssl.SSLContext, *, peer: str) -> DicomTlsError | None: ...
def diagnose(
    failed: BaseException | ssl.SSLContext, *, peer: str, role: Role = Role.REQUESTOR
) -> DicomTlsError | None:
    """Return what a failure with `peer` (its address, for the message) means: slug, message, hint.

    `failed` is an exception of `ssl` or `socket`, met in `role`; or a context of `tls_context`, for programs that
    catch it themselves, as pynetdicom does: the last failure on its sockets, told once, None where there was none.
    A requestor's context forgets it when its next connection begins.
    """
    if not isinstance(failed, ssl.SSLContext):
        return services.diagnose(failed, role=role, stage=_stage_of(failed), peer=peer)
    failure = take_failure(failed)
    return None if failure is None else _explain(failure, peer)


def _stage_of(error: BaseException) -> Stage:
    if isinstance(error, ssl.SSLError):
        return Stage.TLS
    return Stage.RESOLVE if isinstance(error, socket.gaierror) else Stage.CONNECT


def _explain(failure: Failure, peer: str) -> DicomTlsError:
    error: BaseException = failure.error
    stage = Stage.TLS if failure.connected else Stage.CONNECT
    if failure.secured:
        closed = isinstance(failure.error, ssl.SSLEOFError | ssl.SSLZeroReturnError | BrokenPipeError)
        error = ConnectionBroken(PeerClosed() if closed else failure.error)
        stage = Stage.DIMSE if failure.answered else Stage.ASSOCIATION
    return services.diagnose(
        error,
        role=failure.policy.role,
        stage=stage,
        peer=peer,
        requested_certificate=failure.certificate_requested,
        showed_certificate=failure.policy.key_pair is not None,
    )
