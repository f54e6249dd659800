"""Refused certificates: how many are kept, of whom, and what is said where they cannot be."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from dicomtls_cli.errors import ConnectionFailed, ExitCode, OutputError
from dicomtls_cli.services.receiving.events import Client, Refused
from dicomtls_cli.services.receiving.refusals import MOST_KEPT, Refusals
from tests.conftest import Pki


def refused(certificate: bytes | None, slug: str = "tls.peer-untrusted") -> Refused:
    error = ConnectionFailed("refused `h:1`: why", "a hint", slug=slug, exit_code=ExitCode.PEER_UNTRUSTED)
    return Refused(Client("h:1", certificate=certificate), error)


def hint(refusals: Refusals, certificate: bytes) -> str:
    return refusals.advise(refused(certificate)).error.hint


def test_a_certificate_is_kept_once_and_can_be_read(pki: Pki) -> None:
    refusals = Refusals(Path("deep/refused"), [pki.trusted])
    told = [refusals.advise(refused(pki.stranger.der)) for _ in range(3)]
    (kept,) = Path("deep/refused").iterdir()
    assert kept.name == f"{pki.stranger.fingerprint}.crt"
    assert kept.read_text() == pki.stranger.pem
    for event in told:
        assert f"`dicomtls bundle {kept} --append -o {pki.trusted}`" in event.error.hint
        assert f"`kill -HUP {os.getpid()}`" in event.error.hint
        assert (event.error.message, event.error.slug) == ("refused `h:1`: why", "tls.peer-untrusted")
        assert event.error.exit_code == ExitCode.PEER_UNTRUSTED


@pytest.mark.parametrize("slug", ["tls.peer-expired", "tls.peer-no-certificate", "tls.peer-plain"])
def test_nothing_is_said_where_trust_would_not_help(slug: str, pki: Pki) -> None:
    refusals = Refusals(Path("refused"), [pki.trusted])
    event = refused(pki.stranger.der, slug)
    assert refusals.advise(event) is event
    assert list(Path("refused").iterdir()) == []


def test_without_a_certificate_there_is_nothing_to_trust(pki: Pki) -> None:
    event = refused(None)
    assert Refusals(None, [pki.trusted]).advise(event) is event


def test_names_are_one_word_each(pki: Pki) -> None:
    Path("a b").mkdir()
    trusted = Path("a b/it's.crt")
    trusted.write_text(pki.scp.pem)
    told = hint(Refusals(Path("a b/refused"), [trusted]), pki.stranger.der)
    assert f"bundle 'a b/refused/{pki.stranger.fingerprint}.crt' --append" in told
    assert "-o 'a b/it'\"'\"'s.crt'" in told


def test_who_is_trusted_by_a_folder_or_a_ca(pki: Pki) -> None:
    Path("trusted").mkdir()
    name = f"{pki.stranger.fingerprint}.crt"
    assert f"`dicomtls bundle FILE -o trusted/{name}`" in hint(
        Refusals(None, [Path("trusted")]), pki.stranger.der
    )
    assert "add `--trust FILE` to this command" in hint(Refusals(None, []), pki.stranger.der)


def test_no_more_are_kept_than_there_is_room_for(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(Path("refused"), [pki.trusted])
    for number in range(MOST_KEPT - 1):
        Path("refused", f"{number}.crt").touch()
    assert "refused/" in hint(refusals, pki.stranger.der)
    assert "bundle FILE" in hint(refusals, pki.scu.der)
    assert len(list(Path("refused").iterdir())) == MOST_KEPT
    assert f"holds {MOST_KEPT} certificates" in caplog.text
    assert "refused/" in hint(refusals, pki.stranger.der)  # the one that is there still is


def test_what_is_too_large_is_not_kept(pki: Pki) -> None:
    assert "bundle FILE" in hint(Refusals(Path("refused"), [pki.trusted]), b"\x30" * 100_000)
    assert list(Path("refused").iterdir()) == []


def test_a_folder_that_goes_away_is_a_warning(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(Path("refused"), [pki.trusted])
    Path("refused").rmdir()
    with caplog.at_level(logging.WARNING):
        assert "bundle FILE" in hint(refusals, pki.stranger.der)
    assert "the refused certificate is not kept" in caplog.text


def test_a_file_is_no_folder() -> None:
    Path("file").touch()
    with pytest.raises(OutputError) as caught:
        Refusals(Path("file"), [])
    assert caught.value.slug == "output.refused-directory"


def test_many_at_once_keep_one_file(pki: Pki) -> None:
    refusals = Refusals(Path("refused"), [pki.trusted])
    start = threading.Barrier(8)
    hints = []

    def run() -> None:
        start.wait()
        hints.append(hint(refusals, pki.stranger.der))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(hints)) == 1
    assert len(list(Path("refused").iterdir())) == 1
