"""What a running SCP tells of: one value per refusal, association and instance."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.pki.subject import subject_of
from dicomtls_cli.services.receiving.receive import InstanceReceived
from dicomtls_cli.tls.handshake import TlsFacts


class Client(NamedTuple):
    """A connected peer as far as it is known: its address, its AE titles, how the connection is secured.

    `certificate` is what it showed (DER), also where that was refused.
    """

    address: str
    calling_aet: str = ""
    called_aet: str = ""
    tls: TlsFacts | None = None
    certificate: bytes | None = None

    @property
    def host(self) -> str:
        """The address without its port."""
        return self.address.rpartition(":")[0]

    @property
    def subject(self) -> str:
        """The subject of the certificate, "" where none came."""
        if self.tls is not None and self.tls.subject:
            return self.tls.subject
        return subject_of(self.certificate) if self.certificate else ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hexadecimal digits, "" where none came."""
        return hashlib.sha256(self.certificate).hexdigest() if self.certificate else ""


class Refused(NamedTuple):
    """A connection that did not become an association, and why."""

    client: Client
    error: DicomTlsError

    @property
    def stage(self) -> str:
        """How far it had come: `connection`, `tls` or `association`."""
        group = self.error.slug.partition(".")[0]
        return {"tls": "tls", "association": "association", "access": "association"}.get(group, "connection")


class Opened(NamedTuple):
    """An association was accepted."""

    client: Client


class Received(NamedTuple):
    """An instance came, and was stored or not."""

    client: Client
    instance: InstanceReceived


class Closed(NamedTuple):
    """An association ended; `error` is None after a release."""

    client: Client
    instances: int
    seconds: float
    error: DicomTlsError | None


Event = Refused | Opened | Received | Closed


@dataclass
class Totals:
    """What all events of a run come to."""

    associations: int = 0
    refused: int = 0
    stored: int = 0
    replaced: int = 0
    not_stored: int = 0
    bytes: int = 0

    def add(self, event: Event) -> None:
        """Count `event`."""
        match event:
            case Received(instance=instance):  # the most by far, hence the first
                if instance.stored is None:
                    self.not_stored += 1
                else:
                    self.stored += 1
                    self.replaced += instance.stored.replaced
                    self.bytes += instance.stored.length
            case Opened():
                self.associations += 1
            case Refused():
                self.refused += 1

    def as_dict(self) -> dict[str, int]:
        """Return the counts by their names, in their order."""
        return asdict(self)
