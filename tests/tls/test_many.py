"""Bundles of the size of a hospital network: each of the certificates counts, whatever its place."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from dicomtls_cli.pki import load
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role
from tests.support.pki import make_identity
from tests.tls.conftest import Zoo
from tests.tls.wire import HOST, connect, key_pair, plain_context

COUNT = 1000


@pytest.fixture(scope="module")
def many(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two real peers, and between them others that differ in their names only."""
    folder = tmp_path_factory.mktemp("many")
    pattern = make_identity(folder, "pattern", subject="peer-0000").der
    others = [pattern.replace(b"peer-0000", b"peer-%04d" % number) for number in range(COUNT - 2)]
    path = folder / "many.crt"
    ders = [zoo["self"].der, *others, zoo["twin"].der]
    path.write_text("".join(ssl.DER_cert_to_PEM_cert(der) for der in ders))
    return path


@pytest.mark.parametrize("who", ["self", "twin", "stranger"])
def test_the_first_and_the_last_of_a_thousand_are_known(who: str, many: Path, zoo: Zoo) -> None:
    ours = tls_context(Role.ACCEPTOR, TlsOptions(zoo["own"].cert, zoo["own"].key, trust=(many,)))
    theirs = plain_context(Role.REQUESTOR, key_pair(zoo[who]))
    outcome = connect(theirs, ours, HOST)[1].outcome
    assert outcome == ("tls.peer-untrusted" if who == "stranger" else "pin")


def test_reading_is_linear(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No parser keeps more than 200: its time grows with the square of what it keeps."""
    kept: list[int] = []

    class Counting(ssl.SSLContext):
        def load_verify_locations(self, *words: object, **named: object) -> None:
            super().load_verify_locations(*words, **named)  # type: ignore[arg-type]
            kept.append(self.cert_store_stats()["x509"])

    monkeypatch.setattr(load.ssl, "SSLContext", Counting)
    assert len(load.load_trust([many]).anchors) == COUNT
    assert (len(kept), max(kept)) == (COUNT, 200)
