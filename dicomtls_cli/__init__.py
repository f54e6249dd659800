"""DICOM over TLS from the shell and from Python.

The names below are the public ones; they are imported when they are first used, so that the command line
starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dicomtls_cli.errors import DicomTlsError, ExitCode
    from dicomtls_cli.services.peer import TlsOptions, tls_context
    from dicomtls_cli.tls.policy import Identity, PeerCheck, Role

__all__ = ["DicomTlsError", "ExitCode", "Identity", "PeerCheck", "Role", "TlsOptions", "tls_context"]

_HOMES = {
    "DicomTlsError": "errors",
    "ExitCode": "errors",
    "Identity": "tls.policy",
    "PeerCheck": "tls.policy",
    "Role": "tls.policy",
    "TlsOptions": "services.peer",
    "tls_context": "services.peer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
