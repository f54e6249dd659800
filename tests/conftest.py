"""Fixtures for all tests; what they are made of is in tests/support/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import cli
from tests.support.pki import Identity, make_identity, write_bundle

# A loaded CI machine is slow in bursts: time says nothing about a property.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a folder of its own, on a dumb terminal, without our environment variables."""
    monkeypatch.chdir(tmp_path)
    for name, value in cli.PLAIN_TERMINAL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DICOMTLS_KEY_PASSPHRASE", raising=False)


@pytest.fixture
def dicomtls() -> Callable[..., cli.Result]:
    """Run a command line in this process: `dicomtls("echoscu", "localhost")`."""
    return cli.run


@dataclass(frozen=True)
class Pki:
    """Certificates most tests need: two peers, a stranger, and the bundle of the two."""

    scp: Identity
    scu: Identity
    stranger: Identity
    trusted: Path

    @property
    def scp_options(self) -> list[str]:
        return ["--cert", str(self.scp.cert), "--key", str(self.scp.key), "--trust", str(self.trusted)]

    @property
    def scu_options(self) -> list[str]:
        return ["--cert", str(self.scu.cert), "--key", str(self.scu.key), "--trust", str(self.trusted)]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """RSA certificates (Orthanc and DCMTK take EC ones over TLS 1.3 only), all of the same subject."""
    folder = tmp_path_factory.mktemp("pki")
    scp, scu, stranger = (make_identity(folder, name, ec_key=False) for name in ("scp", "scu", "stranger"))
    return Pki(scp, scu, stranger, write_bundle(folder / "trusted.crt", scp, scu))


@pytest.fixture
def scp(pki: Pki, tmp_path: Path) -> Iterator[cli.Receiver]:
    """Run our storescp with mutual TLS as a process of its own."""
    with cli.receiver(tmp_path / "scp", *pki.scp_options) as running:
        yield running
