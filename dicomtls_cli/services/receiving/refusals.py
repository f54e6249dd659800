"""Certificates that were refused: kept for whoever knows them, with the command that would trust them."""

from __future__ import annotations

import logging
import os
import shlex
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

from dicomtls_cli.errors import ConnectionFailed, DicomTlsError, OutputError
from dicomtls_cli.pki.files import NewFile, write_files
from dicomtls_cli.services.receiving.events import Client, Refused

logger = logging.getLogger("dicomtls.tls")

_TRUST_HELPS = {"tls.peer-untrusted", "tls.peer-not-pinned"}
_LARGEST = 64 * 1024  # bytes of a certificate that is kept
MOST_KEPT = 100
"""How many certificates a folder may hold: a stranger can show a new one on every connection."""


class Refusals:
    """Says of each refused certificate how it would be trusted; `folder` (None: nowhere) is where they are kept.

    `trust` are the files and folders that peers are trusted by. Raises OutputError where there is no such folder
    and none can be made.
    """

    def __init__(self, folder: Path | None, trust: Sequence[Path]) -> None:
        self._folder = folder
        self._trust = tuple(trust)
        self._lock = threading.Lock()
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot keep certificates in `{folder}`: {error.strerror}",
                "name a folder for `--refused-dir` that can be written into",
                slug="output.refused-directory",
            ) from error

    def advise(self, event: Refused) -> Refused:
        """Return `event` with what would let its peer in, where trusting its certificate would."""
        error = event.error
        certificate = event.client.certificate
        if error.slug not in _TRUST_HELPS or not certificate:
            return event
        kept = self._keep(event.client, certificate)
        file = "FILE" if kept is None else shlex.quote(str(kept))
        hint = f"if you know this fingerprint: {self._command(file, event.client.fingerprint)}"
        if kept is None:
            hint += "; `--refused-dir DIR` keeps the certificate, which is FILE here"
        told = ConnectionFailed(error.message, hint, slug=error.slug, exit_code=error.exit_code)
        return event._replace(error=told)

    def _command(self, file: str, fingerprint: str) -> str:
        """Return the command that makes us trust `file`, and what follows it."""
        reload = f"`kill -HUP {os.getpid()}`"
        target = next((path for path in self._trust if path.is_file()), None)
        if target is not None:
            return f"`dicomtls bundle {file} --append -o {shlex.quote(str(target))}`, and {reload}"
        target = next((path for path in self._trust if path.is_dir()), None)
        if target is not None:
            name = shlex.quote(str(target / f"{fingerprint}.crt"))
            return f"`dicomtls bundle {file} -o {name}`, and {reload}"
        return f"add `--trust {file}` to this command"

    def _keep(self, client: Client, certificate: bytes) -> Path | None:
        """Return the file of the certificate, None where it cannot be kept."""
        if self._folder is None or len(certificate) > _LARGEST:
            return None
        path = self._folder / f"{client.fingerprint}.crt"
        with self._lock:
            try:
                if os.path.lexists(path):
                    return path
                if not self._has_room(self._folder):
                    logger.warning(
                        "`%s` holds %d certificates: no more are kept until some are taken out",
                        self._folder,
                        MOST_KEPT,
                    )
                    return None
                write_files([NewFile(path, ssl.DER_cert_to_PEM_cert(certificate).encode())])
            except (OSError, DicomTlsError) as error:
                logger.warning("the refused certificate is not kept: %s", error)
                return None
        return path

    @staticmethod
    def _has_room(folder: Path) -> bool:
        found = 0
        with os.scandir(folder) as entries:
            for entry in entries:
                found += entry.name.endswith(".crt")
                if found >= MOST_KEPT:
                    return False
        return True
