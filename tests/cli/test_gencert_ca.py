"""`gencert` with a CA of one's own, requests, renewals, key stores and faults; OpenSSL and Java as oracles."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from dicomtls_cli.errors import OutputError
from dicomtls_cli.pki.locking import locked
from tests.support import cli

FAST = ("--key-type", "p256")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*words: object) -> cli.Result:
    result = cli.run("gencert", *words)
    assert result.exit_code == 0, result.stderr
    return result


def refused(slug: str, exit_code: int, *words: object) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    result = cli.run("gencert", *words, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (exit_code, slug), result.stderr
    assert result.json["error"]["hint"]
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def openssl(*words: object) -> str:
    """Run OpenSSL; return what it says, whatever its exit code."""
    run = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


def verified(ca: str, cert: str, *words: str) -> str:
    return openssl("verify", "-x509_strict", "-auth_level", "2", "-CAfile", ca, *words, cert)


def read(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "p256", "p384", "ed25519"])
def test_a_ca_and_what_it_signs(kind: str, here: Path) -> None:
    said = made("--ca", "ward", "orthanc", "--key-type", kind).stdout
    assert said.startswith("made the CA ward.key and ward.crt\n  subject  CN=ward\n")
    assert "--trust ward.crt" in said
    made(
        "--ca",
        "ward",
        "scanner",
        *FAST,
        "--host",
        "*.example.org",
        "--host",
        "bücher.example",
        "--host",
        "::7",
    )
    for name in ("orthanc", "scanner"):
        for purpose in ("sslserver", "sslclient"):
            assert verified("ward.crt", f"{name}.crt", "-purpose", purpose) == f"{name}.crt: OK\n"
    names = read("scanner.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.example.org", "xn--bcher-kva.example"]
    ca = read("ward.crt")
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(
        True, 0
    )
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert stat.S_IMODE(Path("ward.key").stat().st_mode) == 0o600
    lines = Path("ward.index").read_text().splitlines()
    assert [line.split("\t")[4] for line in lines] == ["subject", "CN=orthanc", "CN=scanner"]
    assert int(lines[1].split("\t")[0], 16) == read("orthanc.crt").serial_number


def test_a_ca_alone_and_its_passphrase(here: Path) -> None:
    Path("secret").write_text("open sesame\n")
    made("--ca", "ward", *FAST, "--ca-passphrase-file", "secret")
    assert Path("ward.key").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    refused("key.encrypted", 3, "--ca", "ward", "a", *FAST)
    Path("wrong").write_text("x\n")
    refused("key.wrong-passphrase", 3, "--ca", "ward", "a", *FAST, "--ca-passphrase-file", "wrong")
    made("--ca", "ward", "a", *FAST, "--ca-passphrase-file", "secret")
    assert verified("ward.crt", "a.crt") == "a.crt: OK\n"


def test_nothing_outlives_its_ca(here: Path) -> None:
    result = made("--ca", "ward", "a", *FAST, "--days", "9000")
    assert "nothing is valid longer than its CA" in result.stderr
    assert read("a.crt").not_valid_after_utc == read("ward.crt").not_valid_after_utc


@pytest.mark.parametrize("tool", ["ours", "openssl"])
def test_a_request_and_its_certificate(tool: str, here: Path) -> None:
    if tool == "ours":
        said = made("node", "--csr", *FAST, "--host", "node.example", "--subject", "/C=BE/CN=node").stdout
        assert "dicomtls gencert --ca CA --sign node.csr" in said
        assert "verify OK" in openssl("req", "-in", "node.csr", "-noout", "-verify")
    else:
        openssl(
            "req", "-new", "-nodes", "-newkey", "rsa:2048", "-keyout", "node.key", "-out", "node.csr",
            "-subj", "/C=BE/CN=node", "-addext", "subjectAltName=DNS:node.example,email:a@b.c",
            "-addext", "basicConstraints=critical,CA:TRUE",
        )  # fmt: skip
    made("--ca", "ward", *FAST, "--sign", "node.csr")
    assert verified("ward.crt", "node.crt", "-verify_hostname", "node.example") == "node.crt: OK\n"
    cert = read("node.crt")
    assert cert.subject.rfc4514_string() == "CN=node,C=BE"
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca, (
        "it may ask, and is not heard"
    )
    assert (
        cert.public_key()
        == serialization.load_pem_private_key(Path("node.key").read_bytes(), None).public_key()
    )


def test_bad_requests(here: Path) -> None:
    made("--ca", "ward", "a", *FAST)
    refused("request.not-a-request", 3, "--ca", "ward", "--sign", "a.key", "b")
    refused("request.not-a-request", 3, "--ca", "ward", "--sign", "a.crt", "b")
    refused("file.missing", 3, "--ca", "ward", "--sign", "no.csr")
    openssl(
        "req", "-new", "-nodes", "-newkey", "rsa:1024", "-keyout", "w.key", "-out", "w.csr", "-subj", "/CN=w"
    )
    refused("request.weak-key", 3, "--ca", "ward", "--sign", "w.csr")
    openssl("req", "-new", "-key", "a.key", "-out", "n.csr", "-subj", "/CN=no host at all", "-outform", "DER")
    refused("request.no-names", 3, "--ca", "ward", "--sign", "n.csr")
    made("--ca", "ward", "--sign", "n.csr", "--host", "n.example")
    damaged = bytearray(Path("n.csr").read_bytes())
    damaged[-1] ^= 1
    Path("d.csr").write_bytes(damaged)
    refused("request.damaged", 3, "--ca", "ward", "--sign", "d.csr", "--host", "h.example")


def test_bad_cas(here: Path) -> None:
    made("self", *FAST)
    refused("authority.not-a-ca", 3, "--ca", "self", "a")
    made("--ca", "ward", *FAST)
    Path("self.key").replace("ward.key")
    refused("key.mismatch", 3, "--ca", "ward", "a")
    made("--ca", "lost", *FAST)
    Path("lost.key").unlink()
    refused("file.missing", 3, "--ca", "lost", "a")
    made("--ca", "third", *FAST)
    Path("third.index").write_text("nonsense\n")
    refused("authority.index", 3, "--ca", "third", "a")


def test_renewal(here: Path) -> None:
    made("orthanc", *FAST, "--host", "pacs.example", "--subject", "/C=BE/CN=localhost", "--days", "10")
    old = read("orthanc.crt")
    result = made("--renew", "orthanc.crt", "--json")
    new = read(result.json["certificate"])
    assert (new.subject, new.public_key()) == (old.subject, old.public_key())
    assert new.not_valid_after_utc > old.not_valid_after_utc
    same = (x509.SubjectAlternativeName, x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage)
    for kind in same:
        assert new.extensions.get_extension_for_class(kind) == old.extensions.get_extension_for_class(kind)
    said = made("--renew", "orthanc.crt", "next").stdout
    assert "dicomtls bundle orthanc.crt next.crt -o both.crt" in said
    assert cli.run("bundle", "orthanc.crt", "next.crt", "-o", "both.crt").exit_code == 0
    assert cli.run("bundle", "next.crt", "orthanc.crt", "-o", "other-way.crt").exit_code == 0
    for bundle in ("both.crt", "other-way.crt"):
        for cert in ("orthanc.crt", "next.crt"):
            assert verified(bundle, cert) == f"{cert}: OK\n"
    assert not Path("next.key").exists()
    refused("output.exists", 4, "--renew", "orthanc.crt", "next")
    with cli.receiver(
        here / "scp", "--cert", "next.crt", "--key", "orthanc.key", "--trust", "both.crt"
    ) as scp:
        own = ("--cert", "orthanc.crt", "--key", "orthanc.key", "--trust", "both.crt")
        assert cli.run("echoscu", "127.0.0.1", scp.port, *own).exit_code == 0


def test_renewal_by_the_ca_and_without_the_key(here: Path) -> None:
    made("--ca", "ward", "a", *FAST)
    refused("usage.no-ca", 2, "--renew", "a.crt")
    Path("a.key").unlink()
    made("--ca", "ward", "--renew", "a.crt", "b")
    assert verified("ward.crt", "b.crt") == "b.crt: OK\n"
    made("self", "other", *FAST)
    refused("key.mismatch", 3, "--renew", "self.crt", "--key", "other.key")
    Path("self.key").unlink()
    refused("key.not-given", 3, "--renew", "self.crt")


def test_revocation(here: Path) -> None:
    made("--ca", "ward", "a", "b", *FAST)
    made("--ca", "ward", "--revoke", "a.crt")
    checked = ("-crl_check", "-CRLfile", "ward.crl")
    assert "certificate revoked" in verified("ward.crt", "a.crt", *checked)
    assert verified("ward.crt", "b.crt", *checked) == "b.crt: OK\n"
    first = Path("ward.index").read_text()
    made("--ca", "ward", "--revoke", "a.crt")
    assert Path("ward.index").read_text() == first, "the day it was revoked stays"
    made("--ca", "ward", "--crl")
    assert "certificate revoked" in verified("ward.crt", "a.crt", *checked)
    made("self", *FAST)
    refused("authority.not-issued", 3, "--ca", "ward", "--revoke", "self.crt")
    refused("authority.not-issued", 3, "--ca", "ward", "--revoke", "ward.crt")
    refused("authority.revoked", 3, "--ca", "ward", "--renew", "a.crt", "c")
    refused("usage.no-ca", 2, "--ca", "nowhere", "--revoke", "a.crt")
    refused("usage.no-ca", 2, "--crl")


def test_a_key_store(here: Path) -> None:
    result = made("--ca", "ward", "a", *FAST, "--p12")
    assert "has the password `secret`" in result.stderr
    assert stat.S_IMODE(Path("a.p12").stat().st_mode) == 0o600
    store = pkcs12.load_pkcs12(Path("a.p12").read_bytes(), b"secret")
    assert store.cert is not None
    assert (store.cert.friendly_name, store.cert.certificate) == (b"a", read("a.crt"))
    assert [one.certificate for one in store.additional_certs] == [read("ward.crt")]
    assert "MAC verified OK" not in openssl("pkcs12", "-in", "a.p12", "-noout", "-passin", "pass:x")
    assert openssl("pkcs12", "-in", "a.p12", "-noout", "-passin", "pass:secret") == ""
    Path("pw").write_text("a b\n")
    made("b", *FAST, "--p12", "--passphrase-file", "pw")
    assert pkcs12.load_pkcs12(Path("b.p12").read_bytes(), b"a b").key is not None
    Path("empty").write_text("\n")
    refused("usage.invalid-passphrase", 2, "c", "--p12", "--passphrase-file", "empty")
    assert "Java sees nothing" in cli.run("gencert", "c", "--p12", "--passphrase-file", "empty").stderr
    with cli.receiver(here / "scp", "--key-store", "a.p12", "--trust", "ward.crt") as scp:
        line = ("echoscu", "localhost", scp.port, "--key-store", "a.p12", "--trust", "ward.crt")
        assert cli.run(*line).exit_code == 0


@pytest.mark.interop
def test_java_reads_the_key_store(here: Path) -> None:
    keytool = shutil.which("keytool") or pytest.skip("there is no keytool")
    made("--ca", "ward", "a", *FAST, "--p12")
    listed = subprocess.run(
        [keytool, "-list", "-v", "-keystore", "a.p12", "-storepass", "secret"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "PrivateKeyEntry" in listed
    assert "Certificate chain length: 2" in listed


FAULTS = {
    "expired": "certificate has expired",
    "not-yet-valid": "certificate is not yet valid",
    "wrong-host": "hostname mismatch",
    "wrong-eku": "unsuitable certificate purpose",
    "weak-key": "EE certificate key too weak",
    "corrupt-signature": "certificate signature failure",
}


@pytest.mark.parametrize("fault", [*FAULTS, "ca-true"])
def test_faults(fault: str, here: Path) -> None:
    result = made("--ca", "ward", *FAST, "bad", "--fault", fault)
    assert f"faulty on purpose ({fault})" in result.stderr
    assert f"OU=faulty: {fault}" in read("bad.crt").subject.rfc4514_string()
    said = verified("ward.crt", "bad.crt", "-purpose", "sslserver", "-verify_hostname", "localhost")
    if fault == "ca-true":
        assert read("bad.crt").extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    else:
        assert FAULTS[fault] in said


def test_an_end_in_the_past_after_a_hundred_years(here: Path) -> None:
    made("--fault", "expired", "--days", "36500", "old", *FAST)
    assert read("old.crt").not_valid_before_utc.year == 1950, "no certificate begins earlier"


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="there is no limit on the size of files")
def test_nothing_is_told_of_a_ca_that_was_not_written(here: Path) -> None:
    line = shlex.join([sys.executable, "-B", "-m", "dicomtls_cli", "gencert", "--ca", "ward", "a", *FAST])
    full = subprocess.run(
        ["sh", "-c", f"ulimit -f 0; exec {line}"],
        env=cli.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (full.returncode, full.stdout) == (4, ""), full.stderr
    assert not list(here.iterdir())


def test_a_renewal_in_its_own_place(here: Path) -> None:
    made("a", *FAST)
    said = made("--renew", "a.crt", "a", "--force").stdout
    assert "the old certificate is gone" in said
    assert "bundle a.crt a.crt" not in said


def test_the_renewal_of_a_key_store_says_what_works(here: Path) -> None:
    made("a", *FAST, "--p12")
    said = made("--renew", "a.p12", "b").stdout
    (line,) = [line.strip() for line in said.splitlines() if "dicomtls bundle" in line]
    assert cli.run(*shlex.split(line)[1:]).exit_code == 0
    assert Path("both.crt").read_text().count("BEGIN CERTIFICATE") == 2


def test_a_ca_renews_without_the_nodes_passphrase(here: Path) -> None:
    Path("secret").write_text("x\n")
    made("--ca", "ward", "a", *FAST, "--passphrase-file", "secret")
    made("--ca", "ward", "--renew", "a.crt", "b")
    assert read("b.crt").public_key() == read("a.crt").public_key()


def test_two_hundred_at_once_and_a_dry_run(here: Path) -> None:
    names = [f"node{number}" for number in range(200)]
    made("--ca", "ward", *names, *FAST, "-n")
    assert not list(here.iterdir())
    made("--ca", "ward", *names, *FAST, "-q")
    assert len(list(here.glob("node*.crt"))) == len(list(here.glob("node*.key"))) == 200
    assert len(Path("ward.index").read_text().splitlines()) == 201
    assert verified("ward.crt", "node199.crt") == "node199.crt: OK\n"


def test_calls_at_once_lose_nothing_of_the_index(here: Path) -> None:
    made("--ca", "ward", *FAST)
    line = [sys.executable, "-m", "dicomtls_cli", "gencert", "--ca", "ward", *FAST]
    calls = [
        subprocess.Popen([*line, f"n{number}"], env=cli.environment(), stdout=subprocess.PIPE)
        for number in range(4)
    ]
    for call in calls:
        call.communicate()
    assert [call.returncode for call in calls] == [0] * 4
    assert len(Path("ward.index").read_text().splitlines()) == 5


def test_a_folder_that_another_call_keeps(here: Path) -> None:
    with locked(here), pytest.raises(OutputError) as caught, locked(here, seconds=0):
        pass
    assert caught.value.slug == "output.busy"


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        ("", "usage.invalid-name"),
        ("--csr", "usage.invalid-name"),
        ("a --csr --sign x.csr --ca c", "usage.contradiction"),
        ("a --csr --ca c", "usage.contradiction"),
        ("a b --renew x.crt", "usage.contradiction"),
        ("a --key x.key", "usage.contradiction"),
        ("--renew x.crt --host h", "usage.contradiction"),
        ("a --ca c --revoke x.crt", "usage.contradiction"),
        ("--sign x.csr", "usage.no-ca"),
        ("a --ca-passphrase-file x", "usage.no-ca"),
        ("c --ca c", "usage.invalid-name"),
        ("a --ca ../c", "usage.invalid-name"),
    ],
)
def test_contradictions(words: str, slug: str, here: Path) -> None:
    refused(slug, 2, *words.split())
    assert not list(here.iterdir())


def test_json(here: Path) -> None:
    records = [
        json.loads(line) for line in made("--ca", "ward", "a", *FAST, "--p12", "--json").stdout.splitlines()
    ]
    assert [record.get("ca") for record in records] == ["ward", None]
    assert (records[1]["certificate"], records[1]["key"], records[1]["key_store"]) == (
        "a.crt",
        "a.key",
        "a.p12",
    )
