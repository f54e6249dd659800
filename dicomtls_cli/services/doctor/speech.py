"""Which protocol answers on a port, from what it says first. Pure."""

from __future__ import annotations

from dicomtls_cli.errors import ConnectionFailed, DicomTlsError, ExitCode
from dicomtls_cli.services.diagnosis.causes import begins_tls
from dicomtls_cli.services.doctor.facts import Speaks
from dicomtls_cli.services.peer import Peer

_HTTP = (b"HTTP/", b"<!DOCTYPE", b"<html", b"<HTML")
# How a plain DICOM peer answers a ClientHello: it is no PDU, so A-ASSOCIATE-RJ or A-ABORT (PS3.8 9.3.4, 9.3.8).
_DICOM = (bytes((3, 0, 0, 0, 0, 4)), bytes((7, 0, 0, 0, 0, 4)))

_BY_SLUG = {
    "association.aborted": Speaks.DICOM,
    "association.released": Speaks.DICOM,
    "association.no-context": Speaks.DICOM,
    "association.user-not-confirmed": Speaks.DICOM,
    "association.peer-speaks-http": Speaks.HTTP,
    "association.peer-speaks-ssh": Speaks.SSH,
    "association.peer-speaks-tls": Speaks.TLS,
    "association.protocol-error": Speaks.OTHER,
    "association.lost": Speaks.HANGS_UP,
    "association.timeout": Speaks.SILENT,
}


def name_protocol(start: bytes) -> Speaks | None:
    """Return what a peer speaks whose first bytes, after a TLS ClientHello, are `start`; None if it said nothing."""
    if not start:
        return None
    if begins_tls(start):
        return Speaks.TLS
    if start.startswith(_HTTP):
        return Speaks.HTTP
    if start.startswith(b"SSH-"):
        return Speaks.SSH
    if start.startswith(_DICOM):
        return Speaks.DICOM
    return Speaks.OTHER


def speech_of(error: DicomTlsError | None) -> Speaks | None:
    """Return what a peer speaks that answered a plain A-ASSOCIATE-RQ with `error` (None: with success)."""
    if error is None or error.exit_code in (ExitCode.REJECTED, ExitCode.STATUS):
        return Speaks.DICOM
    return _BY_SLUG.get(error.slug)


def plain_refusal(speaks: Speaks, error: DicomTlsError, peer: Peer) -> DicomTlsError:
    """Return why there is no TLS with `peer`, which `speaks` something else; `error` is what OpenSSL made of it."""
    if speaks in (Speaks.SILENT, Speaks.HANGS_UP):
        does = "says nothing" if speaks is Speaks.SILENT else "closes the connection"
        return ConnectionFailed(
            f"no TLS with `{peer}`: it {does}, whether TLS or plain DICOM is spoken to it",
            "see its log: it may take known addresses only, be overloaded, or be no DICOM peer",
            slug=error.slug,
            exit_code=error.exit_code,
        )
    hint = "check host and port: this is not a DICOM port"
    if speaks is Speaks.DICOM:
        hint = (
            f"turn TLS on in the peer or use its TLS port; `dicomtls doctor {peer} --no-tls` examines it as it is, "
            "without any protection"
        )
    return ConnectionFailed(
        f"no TLS with `{peer}`: it speaks {speaks} on this port",
        hint,
        slug="tls.peer-plain",
        exit_code=ExitCode.NO_COMMON_TLS,
    )
