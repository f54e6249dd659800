"""DICOM over TLS from the shell and from Python.

The names below are the public ones (docs/api.md); they are imported when they are first used, so that the
command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dicomtls_cli.api.certificates import NodeFiles, bundle, generate
    from dicomtls_cli.api.contexts import diagnose, tls_context
    from dicomtls_cli.api.receiver import StorageServer
    from dicomtls_cli.api.requestor import echo, send
    from dicomtls_cli.dimse.command import Priority
    from dicomtls_cli.errors import DicomTlsError, ExitCode
    from dicomtls_cli.pki.bundle import Bundle
    from dicomtls_cli.pki.generate import Fault
    from dicomtls_cli.services.echo import EchoResult
    from dicomtls_cli.services.files.skipped import Skipped
    from dicomtls_cli.services.peer import Peer, Timeouts, TlsOptions
    from dicomtls_cli.services.receiving.events import Closed, Event, Opened, Received, Refused
    from dicomtls_cli.services.receiving.faults import Faults
    from dicomtls_cli.services.receiving.naming import parse_layout
    from dicomtls_cli.services.receiving.reception import OnDuplicate, StorageOptions
    from dicomtls_cli.services.sending.outcome import Outcome
    from dicomtls_cli.tls.policy import Identity, PeerCheck, Role
    from dicomtls_cli.tls.profiles import PROFILES
    from dicomtls_cli.upperlayer.negotiation import AcceptRules, user_identity

__all__ = [
    "PROFILES",
    "AcceptRules",
    "Bundle",
    "Closed",
    "DicomTlsError",
    "EchoResult",
    "Event",
    "ExitCode",
    "Fault",
    "Faults",
    "Identity",
    "NodeFiles",
    "OnDuplicate",
    "Opened",
    "Outcome",
    "Peer",
    "PeerCheck",
    "Priority",
    "Received",
    "Refused",
    "Role",
    "Skipped",
    "StorageOptions",
    "StorageServer",
    "Timeouts",
    "TlsOptions",
    "bundle",
    "diagnose",
    "echo",
    "generate",
    "parse_layout",
    "send",
    "tls_context",
    "user_identity",
]

_HOMES = {
    "AcceptRules": "upperlayer.negotiation",
    "Bundle": "pki.bundle",
    "Closed": "services.receiving.events",
    "DicomTlsError": "errors",
    "EchoResult": "services.echo",
    "Event": "services.receiving.events",
    "ExitCode": "errors",
    "Fault": "pki.generate",
    "Faults": "services.receiving.faults",
    "Identity": "tls.policy",
    "NodeFiles": "api.certificates",
    "OnDuplicate": "services.receiving.reception",
    "Opened": "services.receiving.events",
    "Outcome": "services.sending.outcome",
    "PROFILES": "tls.profiles",
    "Peer": "services.peer",
    "PeerCheck": "tls.policy",
    "Priority": "dimse.command",
    "Received": "services.receiving.events",
    "Refused": "services.receiving.events",
    "Role": "tls.policy",
    "Skipped": "services.files.skipped",
    "StorageOptions": "services.receiving.reception",
    "StorageServer": "api.receiver",
    "Timeouts": "services.peer",
    "TlsOptions": "services.peer",
    "bundle": "api.certificates",
    "diagnose": "api.contexts",
    "echo": "api.requestor",
    "generate": "api.certificates",
    "parse_layout": "services.receiving.naming",
    "send": "api.requestor",
    "tls_context": "api.contexts",
    "user_identity": "upperlayer.negotiation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
