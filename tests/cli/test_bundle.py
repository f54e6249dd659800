from __future__ import annotations

import json
import os
import ssl
import stat
from pathlib import Path

import pytest
import trustme


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def certs(here: Path) -> list[bytes]:
    """a.crt and b.crt as PEM, a.key; the DER of both certificates."""
    found = []
    for name in ("a", "b"):
        leaf = trustme.CA().issue_cert("localhost", common_name=f"peer {name}")
        pem = leaf.cert_chain_pems[0].bytes()
        Path(f"{name}.crt").write_bytes(pem)
        Path(f"{name}.key").write_bytes(leaf.private_key_pem.bytes())
        found.append(ssl.PEM_cert_to_DER_cert(pem.decode()))
    return found


def in_bundle(path: str) -> list[bytes]:
    text = Path(path).read_text()
    return [
        ssl.PEM_cert_to_DER_cert("-----BEGIN CERTIFICATE-----" + block.split("#")[0])
        for block in text.split("-----BEGIN CERTIFICATE-----")[1:]
    ]


def test_bundle(dicomtls, certs, here):
    Path("c.der").write_bytes(certs[0])
    result = dicomtls("bundle", "a.crt", "b.crt", "c.der", "-o", "trusted.crt")
    assert (result.exit_code, result.stderr) == (0, "")
    assert in_bundle("trusted.crt") == certs
    assert stat.S_IMODE(Path("trusted.crt").stat().st_mode) & 0o444
    lines = result.stdout.splitlines()
    assert lines[0] == "wrote trusted.crt: 2 certificates (1 duplicate left out)"
    assert "CN=peer a" in lines[1]
    assert lines[2].startswith("    until ")
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations("trusted.crt")


def test_directory_and_json(dicomtls, certs, here):
    result = dicomtls("bundle", here, "--output", "out.txt", "--json")
    record = json.loads(result.stdout)
    assert record["ok"]
    assert record["output"] == "out.txt"
    assert [len(one["sha256"]) for one in record["certificates"]] == [64, 64]
    assert (record["duplicates"], record["keys_dropped"]) == (0, 0)
    assert in_bundle("out.txt") == certs


def test_private_keys(dicomtls, certs, here):
    both = Path("both.pem")
    both.write_bytes(Path("a.key").read_bytes() + Path("a.crt").read_bytes())
    result = dicomtls("bundle", "both.pem", "b.crt", "-o", "out.crt")
    assert result.exit_code == 3
    assert "`both.pem` holds a private key" in result.stderr
    assert "--strip-keys" in result.stderr
    assert not Path("out.crt").exists()
    result = dicomtls("bundle", "both.pem", "a.key", "b.crt", "-o", "out.crt", "--strip-keys")
    assert result.exit_code == 0
    assert result.stderr == "warning: 2 private keys in the inputs left out\n"
    assert in_bundle("out.crt") == certs
    assert "PRIVATE KEY" not in Path("out.crt").read_text()
    assert dicomtls("bundle", "a.key", "-o", "x.crt", "--strip-keys").exit_code == 3


def test_an_existing_output_is_kept(dicomtls, certs, here):
    Path("out.crt").write_text("mine")
    result = dicomtls("bundle", "a.crt", "-o", "out.crt")
    assert result.exit_code == 4
    assert "`out.crt` exists already" in result.stderr
    assert Path("out.crt").read_text() == "mine"
    assert dicomtls("bundle", "a.crt", "-o", "out.crt", "--force").exit_code == 0
    assert in_bundle("out.crt") == certs[:1]


def test_the_output_is_no_input(dicomtls, certs, here):
    before = Path("a.crt").read_bytes()
    Path("link.crt").symlink_to("a.crt")
    os.link("a.crt", "hard.crt")
    for output in ("a.crt", "./a.crt", here / "a.crt", "link.crt", "hard.crt"):
        for more in ([], ["--force"]):
            result = dicomtls("bundle", "b.crt", "a.crt", "-o", output, *more)
            assert result.exit_code == 4
            assert "is also an input" in result.stderr
    assert Path("a.crt").read_bytes() == before
    # A file that a directory among the inputs brings in is one as well.
    result = dicomtls("bundle", here, "-o", "a.crt", "--force")
    assert result.exit_code == 4
    assert Path("a.crt").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["a.crt"], 2),
        (["-o", "out"], 2),
        (["a.crt", "-o"], 2),
        (["a.crt", "missing.crt", "-o", "out"], 3),
        (["a.crt", "empty", "-o", "out"], 3),
        (["a.crt", "junk", "-o", "out"], 3),
        (["a.crt", "fifo", "-o", "out"], 3),
        (["a.crt", os.devnull, "-o", "out"], 3),
        (["emptydir", "-o", "out"], 3),
        (["a.crt", "-o", "no/out"], 4),
        (["a.crt", "-o", "emptydir"], 4),
        (["a.crt", "-o", "fifo"], 4),
        (["a.crt", "-o", "fifo", "--force"], 4),
        (["a.crt", "-o", os.devnull, "--force"], 4),
        (["a.crt", "-o", "out", "--list"], 2),
    ],
)
def test_bad_lines_write_nothing(dicomtls, certs, here, words, exit_code):
    Path("empty").touch()
    Path("junk").write_text("hello")
    Path("emptydir").mkdir()
    os.mkfifo("fifo")
    before = sorted(here.iterdir())
    result = dicomtls("bundle", *words)
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "\nhint: " in result.stderr
    assert sorted(here.iterdir()) == before


def test_a_hostile_subject_is_harmless_on_the_terminal(dicomtls, here):
    leaf = trustme.CA().issue_cert("localhost", common_name="x\x1b[31m\nwrote a lie")
    Path("a.crt").write_bytes(leaf.cert_chain_pems[0].bytes())
    result = dicomtls("bundle", "a.crt", "-o", "out.crt")
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").isprintable()
    assert len(result.stdout.splitlines()) == 3
    assert "\\x1b" in result.stdout
