"""What the tests against real peers share: certificates with one fault each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.pki import Identity, make_identity, write_bundle


@dataclass(frozen=True)
class Faults:
    """Certificates of one subject with one fault each, and the bundle that trusts all but the stranger.

    `client_wrong_usage` may only serve, `server_wrong_usage` may only connect.
    """

    good: Identity
    peer: Identity
    stranger: Identity
    expired: Identity
    not_yet_valid: Identity
    client_wrong_usage: Identity
    server_wrong_usage: Identity
    trusted: Path


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """RSA keys: neither Orthanc nor DCMTK 3.6.7 takes others over TLS 1.2."""
    folder = tmp_path_factory.mktemp("faults")

    def make(name: str, **options: object) -> Identity:
        return make_identity(folder, name, ec_key=False, **options)  # type: ignore[arg-type]

    good, peer, stranger = make("good"), make("peer"), make("stranger")
    expired, not_yet_valid = make("expired", valid=(-20, -10)), make("not-yet-valid", valid=(10, 20))
    server_only = make("server-only", usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    client_only = make("client-only", usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))
    trusted = write_bundle(
        folder / "trusted.crt", good, peer, expired, not_yet_valid, server_only, client_only
    )
    return Faults(good, peer, stranger, expired, not_yet_valid, server_only, client_only, trusted)
