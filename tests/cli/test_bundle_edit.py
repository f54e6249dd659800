"""`bundle`: stores of other kinds, live peers, editing in place, `--list` and `--check`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7, pkcs12

from dicomtls_cli.pki.locking import locked
from tests.conftest import Pki
from tests.support import cli, peers
from tests.support.pki import Identity, make_identity
from tests.support.revocation import make_crl


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ids(here: Path) -> list[Identity]:
    """a.crt, b.crt and c.crt with their keys, in order and valid for 60 days."""
    return [make_identity(here, name, subject=name, valid=(-1, 60)) for name in "abc"]


def bundle(*words: object) -> cli.Result:
    result = cli.run("bundle", *words, "--json")
    assert result.exit_code == 0, result.stderr + result.stdout
    return result


def digests(*words: object) -> list[str]:
    return [record["sha256"] for record in bundle("--list", *words).records]


def refused(slug: str, exit_code: int, *words: object) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    result = cli.run("bundle", *words, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (exit_code, slug), (
        result.stdout + result.stderr
    )
    assert result.json["error"]["hint"]
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def prints(*ids: Identity) -> list[str]:
    return [one.fingerprint for one in ids]


def test_every_kind_of_input(ids: list[Identity], here: Path) -> None:
    a, b, c = ids
    Path("a.der").write_bytes(a.der)
    Path("chain.p7b").write_bytes(pkcs7.serialize_certificates([b.certificate], Encoding.DER))
    anchors = [pkcs12.PKCS12Certificate(c.certificate, b"c")]
    locked = serialization.BestAvailableEncryption(b"pw")
    Path("c.p12").write_bytes(pkcs12.serialize_java_truststore(anchors, locked))
    refused("store.locked", 3, "a.der", "chain.p7b", "c.p12", "-o", "out.crt")
    Path("pw").write_text("pw\n")
    bundle("a.der", "chain.p7b", "c.p12", "-o", "out.crt", "--passphrase-file", "pw")
    assert digests("out.crt") == prints(*ids)
    bundle("a.der", "chain.p7b", "c.crt", "-o", "again.crt")
    assert Path("again.crt").read_bytes() == Path("out.crt").read_bytes(), (
        "the same certificates, the same bytes"
    )


def test_the_key_in_a_store_of_the_book_is_dropped(ids: list[Identity], here: Path) -> None:
    a = ids[0]
    store = pkcs12.serialize_key_and_certificates(
        b"x", a.private_key, a.certificate, None, serialization.NoEncryption()
    )
    Path("orthanc.p12").write_bytes(store)
    refused("bundle.private-key", 3, "orthanc.p12", "-o", "t.p12", "--format", "p12")
    result = bundle("orthanc.p12", "-o", "t.p12", "--format", "p12", "--strip-keys")
    assert result.json["keys_dropped"] == 1
    opened = pkcs12.load_pkcs12(Path("t.p12").read_bytes(), None)
    assert (opened.key, opened.cert) == (None, None)
    assert [one.certificate for one in opened.additional_certs] == [a.certificate]


def test_append_and_remove(ids: list[Identity], here: Path) -> None:
    a, b, c = ids
    bundle("a.crt", "-o", "t.crt")
    refused("output.exists", 4, "b.crt", "-o", "t.crt")
    bundle("b.crt", "a.crt", "c.crt", "--append", "-o", "t.crt")
    assert digests("t.crt") == prints(a, b, c)
    bundle("--remove", "b.crt", "-o", "t.crt")
    assert digests("t.crt") == prints(a, c)
    coloned = ":".join(a.fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    bundle("--remove", coloned, "-o", "t.crt")
    assert digests("t.crt") == prints(c)
    refused("bundle.not-in-it", 3, "--remove", "a.crt", "-o", "t.crt")
    refused("bundle.no-certificate", 3, "--remove", "c.crt", "-o", "t.crt")
    refused("file.missing", 3, "a.crt", "--append", "-o", "new.crt")
    refused("output.is-input", 4, "t.crt", "--append", "-o", "t.crt")


def test_edits_at_once_lose_nothing(ids: list[Identity], here: Path) -> None:
    bundle("a.crt", "-o", "t.crt")
    line = [sys.executable, "-m", "dicomtls_cli", "bundle", "--append", "-o", "t.crt"]
    with locked(here):
        calls = [
            subprocess.Popen([*line, f"{name}.crt"], env=cli.environment(), stdout=subprocess.PIPE)
            for name in "bc"
        ]
        with pytest.raises(subprocess.TimeoutExpired):
            calls[0].wait(0.5)  # twice as long as it takes where nobody keeps the folder
    for call in calls:
        call.communicate(timeout=cli.LIMIT)
    assert [call.returncode for call in calls] == [0, 0]
    assert sorted(digests("t.crt")) == sorted(prints(*ids))


def test_an_edit_through_a_link_is_an_edit_of_what_it_names(ids: list[Identity], here: Path) -> None:
    bundle("a.crt", "b.crt", "-o", "t.crt")
    Path("link.crt").symlink_to("t.crt")
    bundle("--remove", "a.crt", "-o", "link.crt")
    assert Path("link.crt").is_symlink()
    assert digests("t.crt") == prints(ids[1])


def test_revocation_lists_are_kept_apart(ids: list[Identity], here: Path) -> None:
    listed = make_crl(Path("a.crl"), ids[0])
    refused("trust.is-crl", 3, "a.crt", "a.crl", "-o", "t.crt")
    Path("both.pem").write_text(ids[0].pem + listed.read_text())
    result = bundle("both.pem", "b.crt", "-o", "t.crt")
    assert result.json["lists_dropped"] == 1
    assert "1 revocation list in the inputs left out" in result.stderr
    assert "CRL" not in Path("t.crt").read_text()
    assert digests("t.crt") == prints(*ids[:2])


def test_a_trust_store_stays_one_when_edited(ids: list[Identity], here: Path) -> None:
    bundle("a.crt", "b.crt", "-o", "t.p12", "--format", "p12")
    bundle("c.crt", "--append", "-o", "t.p12")
    assert digests("t.p12") == prints(*ids)
    assert len(pkcs12.load_pkcs12(Path("t.p12").read_bytes(), None).additional_certs) == 3
    Path("pw").write_text("pw\n")
    bundle("a.crt", "-o", "locked.p12", "--format", "p12", "--passphrase-file", "pw")
    bundle("b.crt", "--append", "-o", "locked.p12", "--passphrase-file", "pw")
    assert len(pkcs12.load_pkcs12(Path("locked.p12").read_bytes(), b"pw").additional_certs) == 2


@pytest.mark.interop
def test_java_sees_all_anchors_and_no_key(ids: list[Identity], here: Path) -> None:
    java = shutil.which("java")
    if not (java and shutil.which("javac")):
        pytest.skip("there is no Java compiler")
    Path("pw").write_text("changeit\n")
    bundle("a.crt", "b.crt", "c.crt", "-o", "open.p12", "--format", "p12")
    bundle("a.crt", "b.crt", "c.crt", "-o", "locked.p12", "--format", "p12", "--passphrase-file", "pw")
    Path("Look.java").write_text(
        """
        import java.io.FileInputStream;
        import java.security.KeyStore;
        import java.security.cert.PKIXParameters;
        class Look {
            public static void main(String[] words) throws Exception {
                for (int at = 0; at < words.length; at += 2) {
                    KeyStore store = KeyStore.getInstance("PKCS12");
                    store.load(new FileInputStream(words[at]), words[at + 1].toCharArray());
                    int keys = 0;
                    for (String alias : java.util.Collections.list(store.aliases()))
                        keys += store.isKeyEntry(alias) ? 1 : 0;
                    int anchors = new PKIXParameters(store).getTrustAnchors().size();
                    System.out.println(anchors + " anchors, " + keys + " keys");
                }
            }
        }
        """
    )
    stores = ["open.p12", "", "locked.p12", "changeit"]
    said = subprocess.run([java, "Look.java", *stores], capture_output=True, text=True, check=False)
    assert said.stdout == "3 anchors, 0 keys\n" * 2, said.stderr


def test_check(ids: list[Identity], here: Path) -> None:
    fine = cli.run("bundle", "--check", "a.crt", "b.crt")
    assert (fine.exit_code, fine.stdout) == (0, "2 certificates, no finding\n")
    soon = cli.run("bundle", "--check", "a.crt", "--warn-days", "90", "--json")
    assert (soon.exit_code, soon.json["ok"]) == (40, False)
    assert [one["code"] for one in soon.json["findings"]] == ["expires-soon"]
    key = cli.run("bundle", "--check", "a.crt", "a.key")
    assert key.exit_code == 40
    assert "1 private key in it" in key.stdout


def test_a_live_peer(ids: list[Identity], here: Path, tmp_path: Path) -> None:
    """It requires a certificate of ours, and shows its own first."""
    a, b, _ = ids
    for versions in (("--tls12",), ("--tls13",)):
        with cli.receiver(
            tmp_path / f"scp{versions[0]}", "--cert", "a.crt", "--key", "a.key", "--trust", "b.crt", *versions
        ) as scp:
            peer = ("--from", f"127.0.0.1:{scp.port}")
            refused("bundle.unconfirmed", 11, *peer, "-o", "t.crt")
            refused("bundle.other-fingerprint", 11, *peer, "--fingerprint", b.fingerprint, "-o", "t.crt")
            bundle("b.crt", *peer, "--fingerprint", a.fingerprint, "-o", "t.crt", "--force")
            assert digests("t.crt") == prints(b, a)
            Path("t.crt").unlink()
            believed = bundle(*peer, "--yes", "-o", "u.crt", "--force")
            assert "nobody has compared that with its owner" in believed.stderr
            assert digests("u.crt") == prints(a)


@pytest.mark.interop
def test_live_peers_of_others_that_require_a_certificate(pki: Pki, here: Path) -> None:
    own = (pki.scp.cert, pki.scp.key, pki.trusted)
    with (
        peers.dcmtk_storescp(here / "dcmtk", *peers.dcmtk_tls(*own), "-rc") as dcmtk,
        peers.orthanc(here / "orthanc", **peers.orthanc_tls(*own)) as orthanc,
    ):
        for port in (dcmtk.port, orthanc.dicom_port):
            bundle("--from", f"localhost:{port}", "--fingerprint", pki.scp.fingerprint, "-o", f"{port}.crt")
            assert digests(f"{port}.crt") == [pki.scp.fingerprint]


def test_a_peer_that_is_not_there(ids: list[Identity], here: Path) -> None:
    refused("peer.connection-refused", 10, "--from", "127.0.0.1:1", "--yes", "-o", "t.crt")


def test_a_peer_without_tls(here: Path, tmp_path: Path) -> None:
    """What helps another command (`--no-tls`) is none of its options."""
    with cli.receiver(tmp_path / "scp", "--no-tls") as scp:
        peer = f"127.0.0.1:{scp.port}"
        result = cli.run("bundle", "--from", peer, "--yes", "-o", "t.crt", "--json")
    assert result.json["error"]["code"].startswith("tls.")
    assert result.json["error"]["hint"].endswith(f"`dicomtls doctor {peer}`")


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        ("", "usage.no-output"),
        ("a.crt", "usage.no-output"),
        ("-o t.crt", "usage.no-input"),
        ("--list", "usage.no-input"),
        ("a.crt --list --check", "usage.contradiction"),
        ("a.crt --list -o t.crt", "usage.contradiction"),
        ("a.crt --check --format p12", "usage.contradiction"),
        ("a.crt --warn-days 3 -o t.crt", "usage.contradiction"),
        ("a.crt --yes -o t.crt", "usage.contradiction"),
        ("a.crt --remove b.crt -o t.crt", "usage.contradiction"),
        ("a.crt --append --force -o t.crt", "usage.contradiction"),
        ("--from h --fingerprint xyz -o t.crt", "usage.fingerprint"),
    ],
)
def test_contradictions(words: str, slug: str, ids: list[Identity], here: Path) -> None:
    refused(slug, 2, *words.split())


def test_ten_thousand_blocks(here: Path) -> None:
    one = make_identity(here, "a", valid=(-1, 60))
    Path("many.crt").write_text(one.pem * 10_000)
    result = bundle("many.crt", "-o", "t.crt")
    assert result.json["duplicates"] == 9_999
