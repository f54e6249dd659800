"""What was seen of a peer, before anybody judges it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.services.peer import Peer
from dicomtls_cli.tls.handshake import TlsFacts
from dicomtls_cli.tls.survey import Seen
from dicomtls_cli.upperlayer.pdu import AssociateAccept


class Speaks(StrEnum):
    """What answers on a port."""

    TLS = "TLS"
    DICOM = "plain DICOM"
    HTTP = "HTTP"
    SSH = "SSH"
    OTHER = "something else"
    HANGS_UP = "nothing: it closes the connection"
    SILENT = "nothing at all"


class Address(NamedTuple):
    """One address of the peer: how long TCP took to connect, or why it did not."""

    address: str
    seconds: float
    error: DicomTlsError | None = None


class Associated(NamedTuple):
    """An association that was accepted: the answer, and the seconds it took."""

    accept: AssociateAccept
    seconds: float


@dataclass
class Facts:
    """Everything that one walk found out; None and empty where it did not come so far.

    `trusts` and `shows_certificate` tell what we were given, `wants_tls` is false for plain DICOM. `said` are the first
    bytes that came. `hello` is the handshake that offers everything and shows no certificate, `ours` the one with our
    real context where the association's failed, `stranger` the one with a certificate nobody knows, `versions` one for
    each version by OpenSSL's name. `suites` are those up to TLS 1.2 in the order they were picked, each with its group
    where that was seen, `suites_13` those of TLS 1.3, `groups` tells whether each was accepted. `tls` is how the
    association is secured; `refusal` is why there was no C-ECHO. `stalled`: the peer does not finish handshakes, and no
    more were tried; `cut_short` says which limit left something out.
    """

    peer: Peer
    calling_aet: str = "DICOMTLS"
    wants_tls: bool = True
    trusts: bool = True
    shows_certificate: bool = True
    resolve_error: DicomTlsError | None = None
    resolve_seconds: float = 0.0
    addresses: list[Address] = field(default_factory=list)
    speaks: Speaks | None = None
    said: bytes = b""
    hello: Seen | None = None
    ours: Seen | None = None
    stranger: Seen | None = None
    asked_stranger: bool = False
    versions: dict[str, Seen] = field(default_factory=dict)
    suites: dict[str, str] = field(default_factory=dict)
    suites_complete: bool = False
    speaks_ssl3: bool = False
    suites_13: list[str] = field(default_factory=list)
    groups: dict[str, bool] = field(default_factory=dict)
    refusal: DicomTlsError | None = None
    tls: TlsFacts | None = None
    associated: Associated | None = None
    echo_seconds: float | None = None
    connections: int = 0
    stalled: bool = False
    cut_short: str = ""

    @property
    def accepted_versions(self) -> list[str]:
        """The versions that were accepted, lowest first (OpenSSL's names)."""
        return [name for name, seen in self.versions.items() if seen.version == name]

    @property
    def untold(self) -> str:
        """Why something is not known that a survey would have shown."""
        if self.stalled:
            return "the peer does not finish a handshake, so no further ones were tried"
        return self.cut_short or "TLS came to no end"

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The certificates (DER) the peer shows, its own first."""
        candidates = (self.hello, self.ours, *self.versions.values())
        return next((seen.chain for seen in candidates if seen and seen.chain), ())
