"""What the tests of the Python API share: options of the two peers, and a receiver to talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomtls_cli import StorageServer, TlsOptions
from tests.conftest import Pki


@pytest.fixture
def own(pki: Pki) -> TlsOptions:
    return TlsOptions(cert=pki.scu.cert, key=pki.scu.key, trust=(pki.trusted,))


@pytest.fixture
def peers(pki: Pki) -> TlsOptions:
    return TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,))


@pytest.fixture
def server(peers: TlsOptions, tmp_path: Path) -> Iterator[StorageServer]:
    with StorageServer(tmp_path / "received", tls=peers, port=0, hosts="localhost") as running:
        yield running
