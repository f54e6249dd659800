"""`echo` and `send` from Python."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dicomtls_cli import (
    DicomTlsError,
    ExitCode,
    Faults,
    Outcome,
    Peer,
    Skipped,
    StorageServer,
    TlsOptions,
    echo,
    send,
    user_identity,
)
from dicomtls_cli.services.files.images import write_test_images
from tests.conftest import Pki


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with three images, one without its end, and something else."""
    folder = tmp_path / "images"
    folder.mkdir()
    whole = write_test_images(folder, 3)[0]
    (folder / "cut.dcm").write_bytes(whole.read_bytes()[:-10])
    (folder / "README.txt").write_text("no image")
    return folder


def test_a_peer_is_a_text_or_a_value(server: StorageServer, own: TlsOptions) -> None:
    written = echo(f"ARCHIVE@localhost:{server.port}", tls=own, calling_aet="ME")
    made = echo(Peer("localhost", server.port, "ARCHIVE"), tls=own, user=user_identity("me"))
    assert written.peer == made.peer == Peer("localhost", server.port, "ARCHIVE")
    assert written.tls is not None
    assert written.tls.identified_by == "pin"


def test_without_tls_it_is_plain_on_purpose(tmp_path: Path) -> None:
    with StorageServer(tmp_path, tls=None, port=0) as server:
        assert echo(f"localhost:{server.port}", tls=None).tls is None
        assert {host for host, _ in server.addresses} <= {"127.0.0.1", "::1"}
    with pytest.raises(TypeError):
        echo("localhost")  # type: ignore[call-arg]


def test_the_default_port_is_that_of_the_commands(own: TlsOptions) -> None:
    for tls, port in ((own, 2762), (None, 11112)):
        with pytest.raises(DicomTlsError) as caught:
            echo("no-such-host.invalid", tls=tls)
        assert f"no-such-host.invalid:{port}" in caught.value.message


@pytest.mark.parametrize(
    ("peer", "calling_aet", "slug"),
    [
        ("", "ME", "usage.peer"),
        ("localhost:0", "ME", "usage.port"),
        (Peer("localhost", 70000), "ME", "usage.port"),
        (Peer("localhost", 104, "SEVENTEEN-LETTERS"), "ME", "usage.ae-title"),
        ("localhost", "", "usage.ae-title"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_tried(
    peer: Peer | str, calling_aet: str, slug: str, own: TlsOptions
) -> None:
    for call in (echo, lambda *words, **more: send(*words, ".", **more)):
        with pytest.raises(DicomTlsError) as caught:
            call(peer, tls=own, calling_aet=calling_aet)  # type: ignore[operator]
        assert (caught.value.slug, caught.value.exit_code) == (slug, ExitCode.USAGE)


def test_a_stranger_learns_why(server: StorageServer, pki: Pki) -> None:
    stranger = TlsOptions(cert=pki.stranger.cert, key=pki.stranger.key, trust=(pki.trusted,))
    with pytest.raises(DicomTlsError) as caught:
        echo(f"localhost:{server.port}", tls=stranger)
    assert caught.value.slug == "tls.refused-unknown-ca"


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_file_has_its_outcome(jobs: int, server: StorageServer, own: TlsOptions, images: Path) -> None:
    found = list(send(f"localhost:{server.port}", images, tls=own, jobs=jobs))
    assert {one.path.name: one.is_stored for one in found} == {
        "slice000001.dcm": True, "slice000002.dcm": True, "slice000003.dcm": True, "cut.dcm": False,
    }  # fmt: skip
    (cut,) = (one for one in found if isinstance(one, Skipped))
    assert cut.error.slug == "input.truncated"
    assert all(one.error is None and one.status == 0 for one in found if isinstance(one, Outcome))


def test_patterns_and_depth_are_the_scans(server: StorageServer, own: TlsOptions, images: Path) -> None:
    (images / "deep").mkdir()
    write_test_images(images / "deep", 1)
    to = f"localhost:{server.port}"
    assert [one.path.name for one in send(to, images, tls=own, patterns="*2.dcm")] == ["slice000002.dcm"]
    assert len(list(send(to, [str(images)], tls=own, patterns=["slice*"]))) == 4
    assert len(list(send(to, [str(images)], tls=own, patterns=["slice*"], recurse=False))) == 3


def test_nothing_to_send_is_an_error(server: StorageServer, own: TlsOptions, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DicomTlsError) as caught:
        list(send(f"localhost:{server.port}", tmp_path / "empty", tls=own))
    assert caught.value.slug == "input.nothing-to-send"
    with pytest.raises(DicomTlsError) as caught:
        send(f"localhost:{server.port}", ["a", ""], tls=own)
    assert caught.value.slug == "usage.empty-path"


@pytest.mark.parametrize("wishes", [{"jobs": 0}, {"window": 0}, {"retries": -1}])
def test_numbers_that_make_no_sense(wishes: dict[str, int], own: TlsOptions) -> None:
    with pytest.raises(DicomTlsError) as caught:
        send("localhost", ".", tls=own, **wishes)  # type: ignore[arg-type]
    assert caught.value.slug == "usage.invalid"


def test_halt_ends_with_the_first_failure(
    server: StorageServer, own: TlsOptions, peers: TlsOptions, images: Path
) -> None:
    to = f"localhost:{server.port}"
    for one in send(to, [images / "cut.dcm", images / "slice000001.dcm"], tls=own, halt=True):
        assert one.path.name == "cut.dcm"
    with StorageServer(None, tls=peers, port=0, faults=Faults(status=0xA700)) as refusing:
        wanted = sorted(images.glob("slice*"))
        outcomes = list(send(f"localhost:{refusing.port}", wanted, tls=own, halt=True))
    (failed,) = outcomes
    assert isinstance(failed, Outcome)
    assert failed.status == 0xA700
    assert failed.error is not None
    assert failed.error.slug == "dimse.failure-status"


def test_files_of_tls_are_read_by_the_call(own: TlsOptions) -> None:
    with pytest.raises(DicomTlsError) as caught:
        send("localhost", ".", tls=own._replace(trust=("missing.crt",)))
    assert caught.value.slug == "file.missing"


def test_a_first_association_that_fails_is_raised(own: TlsOptions, images: Path) -> None:
    sending = send("no-such-host.invalid", images, tls=own)
    with pytest.raises(DicomTlsError) as caught:
        next(sending)
    assert caught.value.slug == "peer.unknown-host"


def test_leaving_early_aborts(peers: TlsOptions, own: TlsOptions, images: Path) -> None:
    ended = threading.Event()
    slugs: list[str | None] = []

    def tell(event: object) -> None:
        if type(event).__name__ == "Closed":
            error = event.error  # type: ignore[attr-defined]
            slugs.append(error.slug if error else None)
            ended.set()

    with StorageServer(None, tls=peers, port=0, on_event=tell) as server:
        sending = send(f"localhost:{server.port}", sorted(images.glob("slice*")), tls=own)
        assert next(sending).is_stored
        sending.close()  # type: ignore[attr-defined]
        assert ended.wait(30)
    assert slugs == ["association.aborted"]
