"""The fault laboratory, pynetdicom's acceptor, over its own contexts and over none."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from tests.interop.conftest import Faults
from tests.support import cli
from tests.support.pki import Identity
from tests.support.told import failure

HOST = "localhost"


@contextlib.contextmanager
def acceptor(context: ssl.SSLContext | None = None, status: int = 0, **settings: object) -> Iterator[int]:
    """Run pynetdicom's AE for C-ECHO and yield its port; `settings` are attributes of the AE."""
    ae = AE("PYNETSCP")
    ae.add_supported_context(settings.pop("sop_class", Verification))  # type: ignore[arg-type]
    for name, value in settings.items():
        setattr(ae, name, value)
    handlers = [(evt.EVT_C_ECHO, lambda _event: status)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=context)  # type: ignore[arg-type]
    try:
        yield server.socket.getsockname()[1]  # type: ignore[union-attr]
    finally:
        server.shutdown()


def context_of(identity: Identity, faults: Faults, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    context.load_verify_locations(faults.trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    if version is not None:
        context.maximum_version = context.minimum_version = version
    return context


def shown(identity: Identity) -> list[str]:
    return ["--cert", str(identity.cert), "--key", str(identity.key)]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("ours", "its", "outcome"),
    [
        ("stranger", "peer", (12, "tls.refused-unknown-ca")),
        ("", "peer", (12, "tls.refused-no-certificate")),
        ("expired", "peer", (12, "tls.refused-expired")),
        ("good", "stranger", (11, "tls.peer-untrusted")),
        ("good", "expired", (11, "tls.peer-expired")),
    ],
)
def test_certificates(
    ours: str, its: str, outcome: tuple[int, str], version: ssl.TLSVersion, faults: Faults
) -> None:
    pair = shown(getattr(faults, ours)) if ours else []
    with acceptor(context_of(getattr(faults, its), faults, version)) as port:
        peer = f"{HOST}:{port}"
        told = failure("echoscu", peer, *pair, "--trust", faults.trusted, peer=peer)
        assert told.outcome == outcome
        if its == "peer":  # it serves who is right, or was put right
            assert cli.run("echoscu", peer, *shown(faults.good), "--trust", faults.trusted).exit_code == 0


def test_tls_to_its_plain_port(faults: Faults) -> None:
    with acceptor() as port:
        peer = f"{HOST}:{port}"
        told = failure("echoscu", peer, "--trust", faults.trusted, peer=peer)
        assert told.outcome == (13, "tls.peer-plain")
        assert "it speaks plain DICOM, not TLS" in told.message
        assert ["--no-tls"] in told.options
        assert cli.run("echoscu", peer, "--no-tls").exit_code == 0


def test_plain_to_its_tls_port(faults: Faults) -> None:
    with acceptor(context_of(faults.peer, faults)) as port:
        peer = f"{HOST}:{port}"
        told = failure("echoscu", peer, "--no-tls", peer=peer)
        assert told.outcome == (13, "association.peer-speaks-tls")
        assert cli.run("echoscu", peer, *shown(faults.good), "--trust", faults.trusted).exit_code == 0


@pytest.mark.parametrize(
    ("settings", "words", "reason", "mended"),
    [
        ({"require_called_aet": True}, ["--aec", "WRONG"], "1/1/7", ["--aec", "PYNETSCP"]),
        ({"require_calling_aet": ["KNOWN"]}, ["--aet", "WRONG"], "1/1/3", ["--aet", "KNOWN"]),
    ],
)
def test_ae_titles(settings: dict[str, object], words: list[str], reason: str, mended: list[str]) -> None:
    with acceptor(**settings) as port:  # type: ignore[arg-type]
        peer = f"{HOST}:{port}"
        told = failure("echoscu", peer, "--no-tls", *words, peer=peer)
        assert told.outcome == (20, "association.rejected")
        assert reason in told.message
        assert f"`{mended[0]}`" in told.hint
        assert cli.run("echoscu", peer, "--no-tls", *mended).exit_code == 0


def test_no_context_of_ours() -> None:
    with acceptor(sop_class=CTImageStorage) as port:
        peer = f"{HOST}:{port}"
        told = failure("echoscu", peer, "--no-tls", peer=peer)
    assert told.outcome == (22, "association.no-context")


def test_a_failure_status() -> None:
    with acceptor(status=0x0122) as port:
        peer = f"{HOST}:{port}"
        told = failure("echoscu", peer, "--no-tls", peer=peer)
    assert told.outcome == (30, "dimse.failure-status")
    assert "0x0122" in told.message
