"""Throw-away certificates for the tests of somebody else's program."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from dicomtls_cli.api.certificates import NodeFiles, bundle, generate
from dicomtls_cli.pki.generate import Fault
from dicomtls_cli.services.peer import TlsOptions

_HOSTS = ("127.0.0.1", "::1")
_CA = "ca"


class Pki:
    """Certificates in `folder`, for `localhost` and its addresses, with RSA keys: every peer takes those.

    `own` and `peer` are self-signed, and `signed` is signed by a CA; all three are trusted by whoever trusts the
    bundle `trusted`, which holds the first two and the CA.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = self._make("own")
        self.peer = self._make("peer")
        self.signed = self._make("signed", ca=_CA)
        self.trusted = folder / "trusted.crt"
        assert self.signed.ca is not None
        bundle([self.own.cert, self.peer.cert, self.signed.ca], self.trusted)
        self._faulty: dict[Fault, NodeFiles] = {}

    @cached_property
    def stranger(self) -> NodeFiles:
        """A node that is in no bundle."""
        return self._make("stranger")

    def faulty(self, fault: Fault | str) -> NodeFiles:
        """Return a node whose certificate has `fault`, and would be trusted without it: the CA signed it."""
        kind = Fault(fault)
        if kind not in self._faulty:
            self._faulty[kind] = self._make(str(kind), ca=_CA, fault=kind)
        return self._faulty[kind]

    def tls(self, node: NodeFiles) -> TlsOptions:
        """Return the options of `node`, which trusts the bundle."""
        return TlsOptions(cert=node.cert, key=node.key, trust=(self.trusted,))

    @property
    def own_tls(self) -> TlsOptions:
        """The options of `own`."""
        return self.tls(self.own)

    @property
    def peer_tls(self) -> TlsOptions:
        """The options of `peer`."""
        return self.tls(self.peer)

    def _make(self, name: str, *, ca: str | None = None, fault: Fault | None = None) -> NodeFiles:
        return generate(name, hosts=_HOSTS, folder=self.folder, ca=ca, fault=fault)
