"""What decides who comes in, read from its files, and read anew while the server runs."""

from __future__ import annotations

import logging
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from dicomtls_cli.errors import DicomTlsError, UsageError
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.services.receiving.access import AccessRules
from dicomtls_cli.services.receiving.ae_map import load_ae_map
from dicomtls_cli.services.receiving.server import StorageServer
from dicomtls_cli.tls.policy import PeerCheck, Role

if TYPE_CHECKING:
    from dicomtls_cli.pki.validity import Validity

logger = logging.getLogger("dicomtls.tls")

_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Admission:
    """The TLS context and the access rules of an acceptor; `context` is None for plain DICOM (`tls` None).

    `called` is the only AE title that may be called (None: any), `calling` are those that may call (empty: any),
    `ae_map` is the file that says which certificate may call itself what. The files are read at once; raises
    UsageError for contradictions, InputError for files that are missing or not what they should be.
    """

    def __init__(
        self,
        tls: TlsOptions | None,
        *,
        called: str | None = None,
        calling: frozenset[str] = frozenset(),
        ae_map: Path | None = None,
    ) -> None:
        self._tls = tls
        self._rules = AccessRules(called, calling)
        self._ae_map = ae_map
        self._check_ae_map()
        self.context: ssl.SSLContext | None = None
        self._validity: Validity | None = None
        self.rules = self._rules
        self._read()

    def renew(self, server: StorageServer) -> bool:
        """Read the files anew and let `server` judge by them; tell whether that went well.

        If not, the reason is logged, and what was read before stays in force.
        """
        try:
            self._read()
        except DicomTlsError as error:
            hint = f"; {error.hint}" if error.hint else ""
            logger.error("nothing was reloaded, all stays as it was: %s%s", error.message, hint)
            return False
        server.replace(self.context, self.rules)
        return True

    def warn(self) -> None:
        """Warn of certificates that are out of date, or soon will be."""
        for text in self._validity.warnings() if self._validity else ():
            logger.warning("%s", text)

    def _read(self) -> None:
        ae_map = None if self._ae_map is None else load_ae_map(self._ae_map)
        context = None if self._tls is None else tls_context(Role.ACCEPTOR, self._tls)
        validity = self._read_validity()
        self.context, self.rules = context, self._rules._replace(ae_map=ae_map)
        self._validity = validity
        self.warn()

    def _read_validity(self) -> Validity | None:
        tls = self._tls
        if tls is None or tls.cert is None:
            return None
        from dicomtls_cli.pki.validity import read_validity

        try:
            return read_validity(
                Path(tls.cert),
                [Path(path) for path in (*tls.trust, *tls.authorities)],
                password=tls.passphrase,
                trust_password=tls.trust_passphrase,
                crls=[Path(path) for path in tls.crls],
                check_crls=tls.check_crls,
            )
        except DicomTlsError as error:  # OpenSSL took them: they serve, only nobody is warned in time
            logger.warning("the dates of our certificates are not watched: %s", error.message)
            return None

    def _check_ae_map(self) -> None:
        """Refuse an AE map where no peer shows a certificate: it would keep everybody out."""
        if self._ae_map is None or (self._tls is not None and self._tls.peer_check is not PeerCheck.IGNORE):
            return
        without = "--no-tls" if self._tls is None else "--peer-cert ignore"
        raise UsageError(
            f"`--ae-map` tells peers by their certificates, and with `{without}` they show none",
            f"drop `{without}`, or name the calling AE titles with `--allow`",
            slug="usage.contradiction",
        )


def default_hosts(tls: TlsOptions | None, family: socket.AddressFamily) -> tuple[str, ...]:
    """Return where to listen unless told, empty for all addresses: who lets strangers in does so on loopback."""
    if tls is not None and tls.peer_check == PeerCheck.REQUIRE:
        return ()
    return tuple(host for kind, host in _LOOPBACK.items() if family in (socket.AF_UNSPEC, kind))
