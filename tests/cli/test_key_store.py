"""Key stores and trust stores (PKCS#12) on the three DICOM commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.support import cli
from tests.support.images import FOLDER
from tests.support.pki import Identity, make_identity


class Stores:
    """The stores of an SCU and an SCP, each trusting the other; the SCP's key store has the password `pw`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        scu, scp = make_identity(folder, "scu"), make_identity(folder, "scp")
        self.scu, self.scp = self.keys("scu", scu, b"secret"), self.keys("scp", scp, b"pw")
        self.trust_scu, self.trust_scp = self.anchors("trust-scu", scu), self.anchors("trust-scp", scp)
        self.password = folder / "password"
        self.password.write_text("pw\n")

    def keys(self, name: str, owner: Identity, password: bytes) -> Path:
        path = self.folder / f"{name}.p12"
        encryption = serialization.BestAvailableEncryption(password)
        path.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"x", owner.private_key, owner.certificate, None, encryption
            )
        )
        return path

    def anchors(self, name: str, *trusted: Identity) -> Path:
        path = self.folder / f"{name}.p12"
        entries = [pkcs12.PKCS12Certificate(one.certificate, b"peer") for one in trusted]
        path.write_bytes(pkcs12.serialize_java_truststore(entries, serialization.NoEncryption()))
        return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    return Stores(tmp_path_factory.mktemp("stores"))


def test_stores_on_both_sides(stores: Stores, tmp_path: Path) -> None:
    theirs = ("--key-store", stores.scp, "--key-passphrase-file", stores.password)
    with cli.receiver(tmp_path, *theirs, "--trust-store", stores.trust_scu) as scp:
        peer = ("127.0.0.1", scp.port)
        dcm4che = ("--key-store", stores.scu, "--trust-store", stores.trust_scp, "--trust-store-pass", "")
        echoed = cli.run("echoscu", *peer, *dcm4che)
        assert (echoed.exit_code, echoed.stderr) == (0, "")
        ours = ("--cert", stores.scu, "--trust", stores.trust_scp)
        sent = cli.run("storescu", *peer, FOLDER / "CT_small.dcm", *ours)
        assert sent.exit_code == 0, sent.stderr
        pinned = cli.run("echoscu", *peer, "--cert", stores.scu, "--pin", stores.trust_scp)
        assert pinned.exit_code == 0, pinned.stderr
        anonymous = cli.run("echoscu", *peer, "--key-store", "", "--trust-store", stores.trust_scp)
        assert anonymous.exit_code == 12, "the receiver asks for a certificate"


@pytest.mark.parametrize("spelling", ["--key-store-pass", "--key-pass", "+pw"])
def test_a_password_among_the_words_works_and_warns(spelling: str, stores: Stores) -> None:
    line = ("echoscu", "127.0.0.1", "1", "--key-store", stores.scp, "--trust-store", stores.trust_scp)
    result = cli.run(*line, spelling, "pw")
    assert result.exit_code == 10, "it got as far as connecting"
    assert "warning: a passphrase on the command line is visible in the process list" in result.stderr
    wrong = cli.run(*line, "--json", spelling, "hunter2")
    assert (wrong.exit_code, wrong.json["error"]["code"]) == (3, "store.wrong-password")
    assert "hunter2" not in wrong.stdout + wrong.stderr


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        ("--key-store scu.p12 --cert scu.crt --key scu.key", "usage.contradiction"),
        ("--key-store scu.p12 +tls scu.key scu.crt", "usage.contradiction"),
        ("--key-store scu.p12 --key-store-pass a --key-pass b", "usage.contradiction"),
        ("--trust-store-pass a --trust-passphrase-file b", "usage.contradiction"),
        ("--key-store scu.p12 --anonymous-tls", "usage.contradiction"),
        ("--key-store-pass a", "usage.no-store"),
        ("--key-store scu.p12 --dimse-timeout 10", "usage.ambiguous-seconds"),
        ("--key-store resource:key.p12", "usage.store-url"),
    ],
)
def test_contradictions(words: str, slug: str, stores: Stores) -> None:
    result = cli.run("echoscu", "127.0.0.1", "1", "--json", "--trust-store", stores.trust_scp, *words.split())
    assert (result.exit_code, result.json["error"]["code"]) == (2, slug)
    assert result.json["error"]["hint"]


def test_passwords_of_nothing(stores: Stores) -> None:
    for spelling in ("--trust-store-pass", "--trust-passphrase-file"):
        result = cli.run("echoscu", "127.0.0.1", "1", "--json", spelling, "x")
        assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.no-store")
    plain = cli.run("echoscu", "127.0.0.1", "1", "--json", "--no-tls", "--key-store", "")
    assert plain.json["error"]["code"] == "usage.no-tls-contradiction"
