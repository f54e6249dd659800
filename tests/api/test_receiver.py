"""`StorageServer` from Python."""

from __future__ import annotations

import logging
from pathlib import Path
from queue import SimpleQueue

import pytest

from dicomtls_cli import (
    AcceptRules,
    Closed,
    DicomTlsError,
    Event,
    Opened,
    PeerCheck,
    Received,
    Refused,
    StorageOptions,
    StorageServer,
    TlsOptions,
    echo,
    parse_layout,
    send,
)
from dicomtls_cli.services.files.images import write_test_images
from tests.conftest import Pki
from tests.support.pki import make_identity, write_bundle


def test_each_instance_is_told_of(peers: TlsOptions, own: TlsOptions, tmp_path: Path) -> None:
    (image,) = write_test_images(tmp_path, 1)
    arrivals: SimpleQueue[Received] = SimpleQueue()
    storing = StorageOptions(naming=parse_layout("{calling_aet}/{SOPInstanceUID}.dcm"), digest=True)
    output = str(tmp_path / "received")
    with StorageServer(output, tls=peers, port=0, on_instance=arrivals.put, storing=storing) as server:
        (outcome,) = send(f"ARCHIVE@localhost:{server.port}", image, tls=own, calling_aet="ME")
        assert outcome.is_stored
        received = arrivals.get(timeout=30)
    assert (received.client.calling_aet, received.client.called_aet) == ("ME", "ARCHIVE")
    stored = received.instance.stored
    assert stored is not None
    assert stored.path is not None
    assert stored.path == Path(output, "ME", f"{received.instance.sop_instance}.dcm")
    assert len(stored.sha256) == 64


def test_a_refusal_is_an_event(peers: TlsOptions, pki: Pki) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    stranger = TlsOptions(cert=pki.stranger.cert, key=pki.stranger.key, trust=(pki.trusted,))
    with StorageServer(None, tls=peers, port=0, on_event=events.put) as server:
        with pytest.raises(DicomTlsError):
            echo(f"localhost:{server.port}", tls=stranger)
        event = events.get(timeout=30)
    assert isinstance(event, Refused)
    assert event.error.slug == "tls.peer-untrusted"


def test_the_hints_name_the_certificate_that_is_refused(
    peers: TlsOptions, own: TlsOptions, tmp_path: Path
) -> None:
    """On either side, with the file of whoever it is refused."""
    past = make_identity(tmp_path, "past", valid=(-20, -10))
    trusted = write_bundle(tmp_path / "both.crt", past)
    expired = TlsOptions(cert=past.cert, key=past.key, trust=(*peers.trust, trusted))
    events: SimpleQueue[Event] = SimpleQueue()
    with (
        StorageServer(None, tls=expired, port=0, on_event=events.put) as server,
        pytest.raises(DicomTlsError),
    ):
        echo(f"localhost:{server.port}", tls=own._replace(trust=(trusted,)))
    event = events.get(timeout=30)
    assert isinstance(event, Refused)
    told = [event.error]
    with StorageServer(None, tls=peers._replace(trust=(trusted,)), port=0) as server:
        with pytest.raises(DicomTlsError) as caught:
            echo(f"localhost:{server.port}", tls=expired)
        told.append(caught.value)
    for error in told:
        assert error.slug == "tls.refused-expired"
        assert f"`dicomtls gencert --renew {past.cert}`" in error.hint


def test_what_a_callback_raises_is_logged(
    peers: TlsOptions, own: TlsOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Received) -> None:
        raise ValueError("not my day")

    events: SimpleQueue[Event] = SimpleQueue()
    with StorageServer(None, tls=peers, port=0, on_instance=fail, on_event=events.put) as server:
        for one in send(f"localhost:{server.port}", write_test_images(tmp_path, 2), tls=own):
            assert one.is_stored, one.error
    assert "an event could not be reported: ValueError: not my day" in caplog.text
    assert [type(events.get(timeout=30)) for _ in range(4)] == [Opened, Received, Received, Closed]


@pytest.mark.parametrize(
    ("options", "calling", "called"),
    [
        ({"aet": "ARCHIVE", "aet_only": True}, "ME", "OTHER"),
        ({"allow": ["ME"]}, "OTHER", "ARCHIVE"),
        ({"allow": "ME"}, "M", "ARCHIVE"),  # a lone text is one title, not its letters
    ],
)
def test_who_may_come_in(
    options: dict[str, object], calling: str, called: str, peers: TlsOptions, own: TlsOptions
) -> None:
    with StorageServer(None, tls=peers, port=0, **options) as server:  # type: ignore[arg-type]
        assert echo(f"ARCHIVE@localhost:{server.port}", tls=own, calling_aet="ME")
        with pytest.raises(DicomTlsError) as caught:
            echo(f"{called}@localhost:{server.port}", tls=own, calling_aet=calling)
    assert caught.value.slug == "association.rejected"


def test_rules_say_what_is_taken(peers: TlsOptions, own: TlsOptions, tmp_path: Path) -> None:
    with StorageServer(None, tls=peers, port=0, rules=AcceptRules(storage=False)) as server:
        (outcome,) = send(f"localhost:{server.port}", write_test_images(tmp_path, 1), tls=own)
        assert echo(f"localhost:{server.port}", tls=own)
    assert outcome.error is not None
    assert outcome.error.slug == "association.no-context"


def test_it_listens_on_loopback_where_strangers_may_come_in(peers: TlsOptions) -> None:
    open_to_all = {"127.0.0.1", "::1"}
    with StorageServer(None, tls=peers, port=0) as server:
        assert not {host for host, _ in server.addresses} & open_to_all
    for check in (PeerCheck.VERIFY, "ignore"):
        lax = peers._replace(peer_check=check)
        with StorageServer(None, tls=lax, port=0) as server:
            assert {host for host, _ in server.addresses} <= open_to_all


def test_certificates_are_read_anew(
    peers: TlsOptions, own: TlsOptions, pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(pki.stranger.cert.read_bytes())
    with StorageServer(None, tls=peers._replace(trust=(trusted,)), port=0) as server:
        to = f"localhost:{server.port}"
        with pytest.raises(DicomTlsError):
            echo(to, tls=own)
        trusted.write_bytes(pki.trusted.read_bytes())
        assert server.renew()
        assert echo(to, tls=own)
        trusted.write_text("nonsense")
        with caplog.at_level(logging.ERROR):
            assert not server.renew()
        assert "nothing was reloaded" in caplog.text
        assert echo(to, tls=own), "what was read before stays"


def test_what_makes_no_sense_is_said_at_once(peers: TlsOptions) -> None:
    for tls, slug in (
        (peers._replace(trust=()), "usage.no-trust"),
        (TlsOptions(), "usage.no-certificate"),
    ):
        with pytest.raises(DicomTlsError) as caught:
            StorageServer(None, tls=tls)
        assert caught.value.slug == slug


def test_a_port_that_is_taken(peers: TlsOptions, server: StorageServer) -> None:
    second = StorageServer(None, tls=peers, port=server.port, hosts=["localhost"])
    with pytest.raises(DicomTlsError) as caught, second:
        pass
    assert caught.value.slug == "listen.failed"


def test_a_port_that_is_none(peers: TlsOptions) -> None:
    for port in (-1, 65536):
        with pytest.raises(DicomTlsError) as caught:
            StorageServer(None, tls=peers, port=port)
        assert caught.value.slug == "usage.port"


def test_it_runs_once_at_a_time(server: StorageServer, own: TlsOptions) -> None:
    """The first one would else run on, and nobody could end it."""
    with pytest.raises(RuntimeError, match="runs already"), server:
        pass
    assert echo(f"localhost:{server.port}", tls=own)


def test_it_runs_inside_with_and_as_often_as_wanted(peers: TlsOptions, own: TlsOptions) -> None:
    server = StorageServer(None, tls=peers, port=0)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="it does inside `with`"):
            server.port  # noqa: B018
        with server as running:
            assert running is server
            assert echo(f"localhost:{server.port}", tls=own)
