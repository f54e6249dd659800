"""What the tests against real peers share: certificates with one fault each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import peers
from tests.support.pki import Identity, make_identity, write_bundle

_Peer = TypeVar("_Peer")


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


@contextlib.contextmanager
def once_each(start: Callable[..., AbstractContextManager[_Peer]]) -> Iterator[Callable[..., _Peer]]:
    """Yield what starts a peer for a set of options, or returns the one that runs with them already."""
    running: dict[tuple[str, ...], _Peer] = {}
    with contextlib.ExitStack() as stack:

        def started(*words: str) -> _Peer:
            if words not in running:
                running[words] = stack.enter_context(start(*words))
            return running[words]

        yield started


@pytest.fixture(scope="module")
def dcmtk_storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., peers.Storescp]]:
    """Start DCMTK's storescp once per set of options, for all tests of a module."""
    with once_each(lambda *words: peers.dcmtk_storescp(tmp_path_factory.mktemp("dcmtk"), *words)) as start:
        yield start


@pytest.fixture(scope="module")
def our_storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., peers.OurStorescp]]:
    """Start our storescp once per set of options, for all tests of a module."""
    with once_each(lambda *words: peers.our_storescp(tmp_path_factory.mktemp("ours"), *words)) as start:
        yield start


@pytest.fixture(scope="module")
def requiring(faults: Faults, tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Orthanc]:
    """Run an Orthanc that wants a certificate of its bundle, for all tests of a module."""
    options = peers.orthanc_tls(faults.peer.cert, faults.peer.key, faults.trusted)
    with peers.orthanc(tmp_path_factory.mktemp("requiring"), **options) as running:
        yield running
