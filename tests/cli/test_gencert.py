from __future__ import annotations

import json
import os
import shlex
import socket
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from dicomtls_cli.cli.gencert import _KEY_TYPES
from dicomtls_cli.pki.generate import KeyType


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def read(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def test_the_readme_command(dicomtls, here, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    old = os.umask(0)
    try:
        result = dicomtls("gencert", "orthanc", "dcmtk")
    finally:
        os.umask(old)
    assert (result.exit_code, result.stderr) == (0, "")
    assert names(here) == ["dcmtk.crt", "dcmtk.key", "orthanc.crt", "orthanc.key"]
    for name in ("orthanc", "dcmtk"):
        assert stat.S_IMODE(Path(f"{name}.key").stat().st_mode) == 0o600
        assert stat.S_IMODE(Path(f"{name}.crt").stat().st_mode) == 0o644
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"{name}.crt", f"{name}.key")
    cert = read("dcmtk.crt")
    until = f"{cert.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    sha256 = cert.fingerprint(cert.signature_hash_algorithm).hex()
    lines = result.stdout.splitlines()
    assert lines[0] == "made orthanc.key and orthanc.crt (rsa2048)"
    assert lines[5:10] == [
        "made dcmtk.key and dcmtk.crt (rsa2048)",
        "  subject  CN=dcmtk",
        "  for      localhost, node7, 127.0.0.1, ::1",
        f"  until    {until}",
        f"  sha256   {sha256}",
    ]
    assert lines[10:] == [
        "give the certificates (.crt) to the peers, the key to nobody; to try it here:",
        "  dicomtls bundle orthanc.crt dcmtk.crt -o trusted.crt",
        "  dicomtls storescp 2762 --cert orthanc.crt --key orthanc.key --trust trusted.crt",
        "  dicomtls echoscu localhost 2762 --cert dcmtk.crt --key dcmtk.key --trust trusted.crt",
    ]


def test_the_bundle_command_it_prints_works(dicomtls, here):
    out = here / "a dir; with 'quotes'"
    out.mkdir()
    result = dicomtls("gencert", "one", "two", "--key-type", "p256", "--out-dir", out)
    [command] = [line.strip() for line in result.stdout.splitlines() if "dicomtls bundle " in line]
    result = dicomtls(*shlex.split(command)[1:])
    assert result.exit_code == 0
    assert (out / "trusted.crt").read_bytes().count(b"BEGIN") == 2


def test_one_name(dicomtls, here):
    result = dicomtls("gencert", "solo", "--key-type", "p256")
    assert "give the certificate solo.crt to the peers" in result.stdout
    assert "--cert solo.crt --key solo.key --trust solo.crt" in result.stdout


def test_everything_asked_for_is_in_the_certificate(dicomtls, here):
    result = dicomtls(
        "gencert", "x", "--host", "pacs.example.org", "--host", "192.0.2.7", "-subj", "/C=BE/CN=localhost",
        "--days", "30", "--key-type", "p384", "--json",
    )  # fmt: skip
    [line] = result.stdout.splitlines()
    record = json.loads(line)
    cert = read("x.crt")
    assert record == {
        "ok": True,
        "name": "x",
        "certificate": "x.crt",
        "key": "x.key",
        "key_type": "p384",
        "subject": "C=BE, CN=localhost",
        "hosts": ["localhost", "pacs.example.org", "192.0.2.7"],
        "not_before": f"{cert.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{cert.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "sha256": cert.fingerprint(cert.signature_hash_algorithm).hex(),
        "dry_run": False,
    }
    assert [a.value for a in cert.subject] == ["BE", "localhost"]
    assert (cert.not_valid_after_utc - cert.not_valid_before_utc).total_seconds() == 30 * 86400 + 300
    assert cert.public_key().key_size == 384


def test_key_types_are_those_of_the_library():
    assert tuple(KeyType) == _KEY_TYPES


def test_existing_files_are_kept_and_nothing_is_made(dicomtls, here):
    Path("b.crt").write_text("mine")
    for more in ([], ["-n"]):
        result = dicomtls("gencert", "a", "b", *more)
        assert result.exit_code == 4
        assert result.stdout == ""
        assert result.stderr == (
            "error: `b.crt` exists already\nhint: choose another name, or replace it with `--force`\n"
        )
        assert names(here) == ["b.crt"]
    assert Path("b.crt").read_text() == "mine"
    assert dicomtls("gencert", "a", "b", "--force", "--key-type", "p256").exit_code == 0
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain("b.crt", "b.key")


def test_dry_run_writes_nothing(dicomtls, here):
    result = dicomtls("gencert", "a", "-n", "--host", "h")
    assert result.exit_code == 0
    assert "would make a.key and a.crt" in result.stdout
    assert "localhost, h" in result.stdout
    assert names(here) == []
    record = json.loads(dicomtls("gencert", "a", "--dry-run", "--json").stdout)
    assert record["dry_run"]
    assert record["sha256"] is None


def test_encrypted_key(dicomtls, here):
    Path("secret").write_bytes(b"pass word\r\nmore\n")
    result = dicomtls("gencert", "a", "--passphrase-file", "secret")
    assert result.exit_code == 0
    assert result.stderr == "warning: Orthanc cannot read an encrypted key\n"
    assert "--key-passphrase-file secret" in result.stdout
    key = serialization.load_pem_private_key(Path("a.key").read_bytes(), b"pass word")
    assert key.public_key() == read("a.crt").public_key()


@pytest.mark.parametrize(
    ("content", "exit_code"), [(b"", 2), (b"\n", 2), (b"x" * 1024, 2), (b"x" * 100_000, 3), (None, 3)]
)
def test_bad_passphrase_file(dicomtls, here, content, exit_code):
    if content is not None:
        Path("secret").write_bytes(content)
    for more in ([], ["-n"]):
        result = dicomtls("gencert", "a", "--passphrase-file", "secret", *more)
        assert result.exit_code == exit_code
        assert not Path("a.key").exists()


def test_the_passphrase_file_is_never_overwritten(dicomtls, here):
    Path("a.key").write_bytes(b"secret")
    result = dicomtls("gencert", "a", "--passphrase-file", "a.key", "--force")
    assert result.exit_code == 4
    assert Path("a.key").read_bytes() == b"secret"


def test_warnings(dicomtls, here):
    assert "more than 825 days" in dicomtls("gencert", "a", "--days", "826", "-n").stderr
    assert "IHE ATNA recommends" in dicomtls("gencert", "a", "--days", "825", "-n").stderr
    assert dicomtls("gencert", "a", "--days", "731", "-n").stderr == ""
    said = dicomtls("gencert", "pacs.example.org", "-n").stderr
    assert "add `--host pacs.example.org`" in said
    assert dicomtls("gencert", "pacs.example.org", "--host", "PACS.example.org", "-n").stderr == ""
    assert dicomtls("gencert", "a", "--days", "826", "-n", "-q").stderr == ""


@pytest.mark.parametrize(
    "name",
    ["", " ", "a/b", "a\\b", "../a", ".a", "..", "a\nb", "a\x1b[31m", "a\x7f", "\udc80", "+a", "~a", "a:b",
     "a*", "a.crt", "a.KEY", "a.pem", "/etc/a", "a\u202eb"],
)  # fmt: skip
def test_names_that_are_no_file_names(dicomtls, here, name):
    result = dicomtls("gencert", "--", "good", name)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "\nhint: " in result.stderr
    assert result.stderr.count("\n") == 2
    assert result.stderr.replace("\n", "").isprintable()
    assert names(here) == []


def test_a_name_like_an_option_or_twice(dicomtls, here):
    for words in (["-a"], ["--", "-a"], ["a", "a"], ["a", "A"], []):
        assert dicomtls("gencert", *words).exit_code == 2
    assert names(here) == []


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["--host", "a b"], 2),
        (["--host", "h:2762"], 2),
        (["--subject", "CN=x"], 2),
        (["--subject", "/CN=a+O=b"], 2),
        (["--days", "0"], 2),
        (["--days", "-1"], 2),
        (["--days", "x"], 2),
        (["--days", "36501"], 2),
        (["--key-type", "rsa1024"], 2),
        (["--out-dir", "no/such"], 4),
        (["--out-dir", os.devnull], 4),
    ],
)
def test_bad_options_leave_nothing(dicomtls, here, words, exit_code):
    result = dicomtls("gencert", "a", *words)
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "\nhint: " in result.stderr
    assert names(here) == []


def test_too_long_a_name(dicomtls, here):
    result = dicomtls("gencert", "x" * 65)
    assert result.exit_code == 2
    assert "65 bytes" in result.stderr
    assert dicomtls("gencert", "x" * 65, "--subject", "/CN=x", "--key-type", "p256").exit_code == 0
    assert dicomtls("gencert", "x" * 252, "--subject", "/CN=x", "--key-type", "p256").exit_code == 4
    assert len(names(here)) == 2


def test_names_in_other_scripts(dicomtls, here):
    assert dicomtls("gencert", "Köln 病院", "--key-type", "p256").exit_code == 0
    assert names(here) == ["Köln 病院.crt", "Köln 病院.key"]


def test_errors_as_json(dicomtls, here):
    record = json.loads(dicomtls("gencert", "a", "--host", "a b", "--json").stdout)
    assert record["error"]["code"] == "usage.invalid-host"
    assert record["error"]["exit"] == 2


def test_help(dicomtls):
    result = dicomtls("gencert", "--help")
    assert result.exit_code == 0
    for word in ("--host", "--subject", "--days", "--key-type", "--out-dir", "--force", "--passphrase-file"):
        assert word in result.stdout
