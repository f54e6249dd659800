"""What a running SCP tells of: one value per refusal, association and instance."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.pki.subject import subject_of
from dicomtls_cli.services.receive import InstanceReceived
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
