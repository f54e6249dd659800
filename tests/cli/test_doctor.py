"""`dicomtls doctor` as its users meet it: its forms of report, its options, its exit codes."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support import cli
from tests.support.repeating import repeating
from tests.support.scripted import Scripted, reject


def test_a_good_peer(scp: cli.Receiver, pki: Pki) -> None:
    result = cli.run("doctor", "localhost", scp.port, *pki.scu_options)
    assert result.exit_code == 0, result.stdout
    assert result.stderr == (
        f"examining localhost:{scp.port} by at most 80 connections, one at a time, in at most 60 s; nothing is stored\n"
    )
    assert re.search(r"^OK    echo                success in \d+\.\d ms$", result.stdout, re.M)
    assert re.search(r"^-     stranger            not asked whether", result.stdout, re.M)
    last = result.stdout.splitlines()[-1]
    assert re.fullmatch(rf"localhost:{scp.port}: 18 OK, 1 WARN; \d+ connections", last)
    assert [line for line in result.stdout.splitlines() if len(line) > 80] == [
        line for line in result.stdout.splitlines() if pki.scp.fingerprint in line
    ]


def test_it_stores_nothing_and_connects_no_more_than_it_said(scp: cli.Receiver, pki: Pki) -> None:
    record = cli.run("doctor", "--json", "localhost", scp.port, *pki.scu_options).json
    events = scp.events()
    assert sum(event["event"] == "refused" for event in events) < record["facts"]["connections"]
    assert [event["event"] for event in events if event["event"] in ("opened", "stored")] == ["opened"]


def test_nothing_of_ours_is_no_error(scp: cli.Receiver) -> None:
    result = cli.run("doctor", "localhost", scp.port)
    assert result.exit_code == 12
    assert "conforms to PS3.15 B.12" in result.stdout
    assert "fix: give the peer's certificate, or its CA's, with `--trust FILE`" in " ".join(
        result.stdout.split()
    )
    assert result.stdout.splitlines()[-1].endswith("; exit code 12 for `client-certificate`")


def test_without_a_certificate_of_ours(pki: Pki, tmp_path: Path) -> None:
    with cli.receiver(
        tmp_path / "scp", *pki.scp_options, "--peer-cert", "verify", "--bind", "127.0.0.1"
    ) as scp:
        record = cli.run("doctor", "--json", "localhost", scp.port, "--trust", pki.scp.cert).json
    found = {step["step"]: step["status"] for step in record["steps"]}
    assert (record["exit"], found["echo"], found["client-certificate"]) == (0, "ok", "warn")


def test_a_peer_by_its_name(scp: cli.Receiver, pki: Pki, tmp_path: Path) -> None:
    """Its settings are those of the line; what the line says goes before them."""
    config = tmp_path / "site.toml"
    config.write_text(
        f'[peer.pacs]\naddress = "localhost:{scp.port}"\naec = "PACS"\naet = "ME"\ntrust = "{pki.trusted}"\n'
        f'cert = "{pki.scu.cert}"\nkey = "{pki.scu.key}"\n[peer.other]\naddress = "localhost:1"\n'
    )
    named = ["doctor", "--json", "--config", config]
    record = cli.run(*named, "@pacs").json
    association = record["facts"]["association"]
    assert (record["exit"], record["peer"]) == (0, f"localhost:{scp.port}")
    assert (association["called_aet"], association["calling_aet"]) == ("PACS", "ME")
    assert cli.run(*named, "@pacs", "--anonymous-tls").json["exit"] == 12
    assert cli.run(*named, "@pasc").json["error"]["code"] == "config.no-peer"
    two = cli.run(*named, "@pacs", "@other").json["error"]
    assert (two["code"], two["hint"]) == ("usage.one-peer", "name one: `dicomtls doctor @pacs`")


def test_what_we_narrowed_ourselves_is_told_as_echoscu_tells_it(scp: cli.Receiver, pki: Pki) -> None:
    """The fix is one that mends this very line: no profile would, beside a suite that was chosen."""
    words = ["--json", "localhost", scp.port, *pki.scu_options]
    narrowed = ["--tls12", "--tls-cipher", "TLS_RSA_WITH_AES_128_CBC_SHA"]
    record = cli.run("doctor", *words, *narrowed).json
    told = cli.run("echoscu", *words, *narrowed).json["error"]
    (handshake,) = [step for step in record["steps"] if step["step"] == "handshake"]
    assert (record["exit"], handshake["code"], handshake["fix"]) == (13, told["code"], told["hint"])
    assert "leave out what narrows our choice" in handshake["fix"]
    assert cli.run("doctor", *words).json["exit"] == 0


def test_json_is_one_line(scp: cli.Receiver, pki: Pki) -> None:
    result = cli.run("doctor", "--json", "localhost", scp.port, *pki.scu_options)
    (record,) = result.records
    assert record["ok"]
    assert record["profile"] == "PS3.15 B.12"
    assert record["facts"]["chain"] == [pki.scp.pem]
    assert set(record["steps"][0]) == {"step", "status", "text", "notes", "fix", "code"}


def test_markdown(scp: cli.Receiver, pki: Pki) -> None:
    result = cli.run("doctor", "--markdown", "localhost", scp.port, *pki.scu_options)
    lines = result.stdout.splitlines()
    assert lines[0] == f"# DICOM TLS report of `localhost:{scp.port}`"
    assert lines[4:6] == ["| step | result | found | fix |", "|---|---|---|---|"]
    rows = [line for line in lines if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert len(rows) == 21
    assert pki.scp.pem.rstrip() in result.stdout


def test_quiet_prints_what_decides(scp: cli.Receiver, pki: Pki) -> None:
    result = cli.run("doctor", "-q", "localhost", scp.port)
    assert (result.exit_code, result.stdout) == (12, "")
    error, hint = result.stderr.splitlines()
    assert error == f"error: no TLS with `localhost:{scp.port}`: it requires a certificate of ours"
    assert hint.startswith("hint: give `--cert FILE --key FILE`")
    assert cli.run("doctor", "-q", "localhost", scp.port, *pki.scu_options).stderr == ""


def test_verbose_tells_of_each_connection(scp: cli.Receiver, pki: Pki) -> None:
    result = cli.run("doctor", "-v", "localhost", scp.port, *pki.scu_options)
    assert "T: offering TLSv1.1\n" in result.stderr
    assert "T: offering TLSv1.2 to TLSv1.3 with P-256\n" in result.stderr
    assert result.stderr.count("I: Received Echo Response (Success)") == 1


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        ([], "usage.no-peer"),
        (["a:1", "b:2"], "usage.one-peer"),
        (["a:1", "--json", "--markdown"], "usage.contradiction"),
        (["a:1", "--no-tls", "--trust", "x"], "usage.no-tls-contradiction"),
        (["a:1", "--pin", "0" * 64], "usage.no-trust"),
        (["a:1", "--trust", "missing.crt"], "file.missing"),
    ],
)
def test_what_makes_no_sense_connects_nowhere(words: list[str], slug: str) -> None:
    result = cli.run("doctor", *words, "--json")
    assert result.json["error"]["code"] == slug
    assert result.exit_code in (2, 3)


def test_the_passcode_is_for_those_who_are_trusted(scp: cli.Receiver, pki: Pki) -> None:
    own = ["--cert", pki.scu.cert, "--key", pki.scu.key]
    record = cli.run("doctor", "--json", "localhost", scp.port, *own, "--user", "bob").json
    (refused,) = [step for step in record["steps"] if step["status"] == "fail"]
    assert (refused["code"], record["exit"]) == ("doctor.user-untrusted", 11)
    assert "opened" not in [event["event"] for event in scp.events()]


def test_the_stranger_leaves_nothing_behind(
    scp: cli.Receiver, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    record = cli.run("doctor", "--json", "localhost", scp.port, *pki.scu_options, "--probe-stranger").json
    (stranger,) = [step for step in record["steps"] if step["step"] == "stranger"]
    assert stranger["status"] == "ok"
    assert list(temporary.iterdir()) == []


def test_nothing_of_ours_is_told_to_what_speaks_no_tls(pki: Pki) -> None:
    """A plain peer that hangs up on a ClientHello is asked in plain DICOM, by nobody in particular."""
    asked: list[bytes] = []

    def script(peer: Scripted) -> None:
        data = peer.sock.recv(65536)
        asked.append(data)
        if data[:1] == b"\x01":
            peer.send(reject(1, 1, 7))

    titles = ["--aet", "SECRETAET", "--aec", "OTHERAET", "--user", "SOMEBODY"]
    with repeating(script) as peer:
        record = cli.run("doctor", "--json", "localhost", peer.port, *pki.scu_options, *titles).json
    assert (record["exit"], record["facts"]["speaks"]) == (13, "plain DICOM")
    assert any(b"ANY-SCP" in data for data in asked)
    for title in titles[1::2]:
        assert title.encode() not in b"".join(asked)


# ---------------------------------------------------------------------- a peer's words


def hostile_certificate(pki: Pki, folder: Path) -> ssl.SSLContext:
    """Return the context of a server whose subject would act on a terminal, and break out of a table."""
    from tests.support.pki import make_identity

    hostile = make_identity(folder, "hostile", subject="a|b\x1b[31m`*", hosts=("localhost",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(hostile.cert, hostile.key)
    return context


@pytest.mark.parametrize("form", [[], ["--markdown"]])
def test_what_a_peer_says_acts_on_nothing(form: list[str], pki: Pki, tmp_path: Path) -> None:
    context = hostile_certificate(pki, tmp_path)

    def script(peer: Scripted) -> None:
        with context.wrap_socket(peer.sock, server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(b"HTTP/1.1 400 \x1b[2J\r\n\r\n")

    with repeating(script) as peer:
        result = cli.run("doctor", "localhost", peer.port, *form)
    assert result.exit_code == 21
    assert "\x1b" not in result.stdout
    assert r"a\|b\\x1b\[31m" in result.stdout if form else r"a|b\x1b[31m" in result.stdout
    assert "speaks HTTP" in " ".join(result.stdout.split())
