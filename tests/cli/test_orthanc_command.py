"""`dicomtls orthanc` as its users meet it; what Orthanc makes of it is in tests/interop/test_orthanc_check.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support import cli, peers
from tests.support.output import Output


@pytest.fixture
def right(pki: Pki) -> list[str]:
    return pki.scp_options


# ---------------------------------------------------------------------- writing


def test_it_writes_and_says_what_to_do_next(right: list[str], pki: Pki) -> None:
    result = cli.run("orthanc", *right, "--modality", "ct=CT@10.0.0.5", "-aet", "ARCHIVE", "--port", "104")
    assert result.exit_code == 0, result.stderr
    assert "wrote dicom-tls.json, for Orthanc 1.9.3 or newer" in result.stdout
    assert "dicomtls orthanc --run" in result.stdout
    written = json.loads(Path("dicom-tls.json").read_text())
    assert written["DicomTlsCertificate"] == str(pki.scp.cert)
    assert written["DicomModalities"]["ct"] == {
        "AET": "CT", "Host": "10.0.0.5", "Port": 2762, "UseDicomTls": True
    }  # fmt: skip
    assert (written["DicomAet"], written["DicomPort"]) == ("ARCHIVE", 104)
    # The commands that it tells of: the last one can be run here.
    again = cli.run("orthanc", "--check", "dicom-tls.json", "--json").json["findings"]
    faults = {one["code"] for one in again if one["when"] != "note"}
    assert faults <= {"port-taken"}, "the ports of this machine are for others to take"


def test_dcmtks_words(pki: Pki) -> None:
    result = cli.run("orthanc", "+tls", pki.scp.key, pki.scp.cert, "+cf", pki.trusted, "-vc", "--json")
    assert result.exit_code == 0
    assert result.json["settings"]["DicomTlsPrivateKey"] == str(pki.scp.key)
    assert result.json["settings"]["DicomTlsRemoteCertificateRequired"] is False
    assert [one["code"] for one in result.json["findings"] if one["code"] == "not-required"]
    assert "from Orthanc 1.12.4 on no certificate is asked for" in result.stderr


def test_a_key_in_the_file_of_the_certificate(pki: Pki) -> None:
    Path("both.pem").write_text(pki.scp.cert.read_text() + pki.scp.key.read_text())
    result = cli.run("orthanc", "--cert", "both.pem", "--trust", pki.trusted, "--json")
    assert result.json["settings"]["DicomTlsPrivateKey"] == str(Path("both.pem").absolute())


def test_a_file_that_is_there_stays(right: list[str]) -> None:
    Path("dicom-tls.json").write_text("{}")
    refused = cli.run("orthanc", *right, "--json")
    assert (refused.exit_code, refused.json["error"]["code"]) == (4, "output.exists")
    assert Path("dicom-tls.json").read_text() == "{}"
    assert cli.run("orthanc", *right, "--force").exit_code == 0
    refused = cli.run("orthanc", *right, "-o", right[1], "--force", "--json")
    assert (refused.exit_code, refused.json["error"]["code"]) == (4, "output.is-input")


def test_keys_that_a_neighbour_has(right: list[str]) -> None:
    Path("orthanc.json").write_text('{ // mine\n  "DicomTlsEnabled": false,\n "Name": "x"}')
    Path("package.json").write_text("[1]")
    result = cli.run("orthanc", *right)
    assert result.exit_code == 0
    assert "`DicomTlsEnabled` is in `orthanc.json:2` too" in result.stderr
    assert "`sed -i '2s|^|//|' orthanc.json`" in result.stderr


def test_versions_and_ciphers(right: list[str]) -> None:
    newer = ["--min-tls", "1.2", "--tls-cipher", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
    refused = cli.run("orthanc", *right, *newer, "--json")
    assert refused.json["error"]["code"] == "usage.orthanc-too-old"
    assert cli.run("orthanc", *right, *newer, "--orthanc-version", "1.12.3").exit_code == 2
    result = cli.run("orthanc", *right, *newer, "--orthanc-version", "1.12.4", "--json")
    assert result.json["settings"]["DicomTlsCiphersAccepted"] == ["ECDHE-RSA-AES128-GCM-SHA256"]
    assert result.json["needs"] == "1.12.4"


def test_docker(right: list[str], pki: Pki) -> None:
    result = cli.run("orthanc", *right, "--docker", "--modality", "ct=CT@h:104", "--port", "4243")
    assert result.exit_code == 0
    variables = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert variables["ORTHANC__DICOM_TLS_ENABLED"] == "true"
    assert variables["ORTHANC__DICOM_TLS_PRIVATE_KEY"] == str(pki.scp.key)
    assert json.loads(variables["ORTHANC__DICOM_MODALITIES"])["ct"]["Port"] == 104
    assert f"-v {pki.scp.key}:{pki.scp.key}:ro" in result.stderr
    assert "-p 4243:4243" in result.stderr
    assert not Path("dicom-tls.json").exists()
    record = cli.run("orthanc", *right, "--docker", "--json").json
    assert record["mounts"] == [str(pki.scp.cert), str(pki.scp.key), str(pki.trusted)]


CERT = ["--cert", "CERT", "--key", "KEY", "--trust", "TRUST"]


@pytest.mark.parametrize(
    ("words", "slug", "hint"),
    [
        ([], "usage.orthanc-files", "dicomtls orthanc --cert"),
        (["--cert", "CERT"], "usage.orthanc-files", "--trust trusted.crt"),
        (["--trust", "TRUST"], "usage.orthanc-files", "--cert orthanc.crt"),
        ([*CERT, "--trust", "CERT"], "usage.orthanc-trust", "dicomtls bundle"),
        (["--cert", "CERT", "--trust", "system"], "usage.orthanc-trust", "dicomtls bundle"),
        ([*CERT, "--modality", "ct"], "usage.modality", "--modality ct=CT@10.0.0.5:2762"),
        ([*CERT, "--modality", "ct=h:104"], "usage.modality", "NAME=AET@HOST:PORT"),
        ([*CERT, "--modality", "=CT@h:104"], "usage.modality", "NAME=AET@HOST:PORT"),
        ([*CERT, "--modality", "a b=CT@h:104"], "usage.modality", "letters, digits"),
        ([*CERT, "--modality", "ct=CT@h:65535"], "usage.modality", "1 to 65534"),
        ([*CERT, "--modality", "ct=CT@[::1]:104"], "usage.modality", "IPv4"),
        ([*CERT, "--modality", "ct=CT@h:0"], "usage.port", "1 to 65535"),
        ([*CERT, "--modality", "ct=SEVENTEEN_LETTERS@h"], "usage.ae-title", "16"),
        ([*CERT, "--modality", "ct=A@h", "--modality", "ct=B@i"], "usage.modality", "each once"),
        ([*CERT, "--port", "0"], "usage.port", "65535"),
        ([*CERT, "--orthanc-version", "new"], "usage.orthanc-version", "1.12.4"),
        ([*CERT, "--tls-cipher", "TLS_AES_128_GCM_SHA256"], "usage.contradiction", "--min-tls"),
        ([*CERT, "+tls", "KEY", "CERT"], "usage.contradiction", "leave one"),
        ([*CERT, "--docker", "-o", "x"], "usage.contradiction", "leave one"),
        ([*CERT, "--docker", "--run"], "usage.contradiction", "leave one"),
        (["--check", "x", "--cert", "CERT"], "usage.contradiction", "leave one"),
        (["--check", "x", "--docker"], "usage.contradiction", "leave one"),
        (["--check", "x", "--run"], "usage.contradiction", "leave one"),
        (["--run", "--port", "104"], "usage.contradiction", "leave one"),
        (["--run", "--force"], "usage.contradiction", "leave one"),
        (["--check", ""], "usage.empty-path", "name it"),
        ([*CERT, "-rc", "-vc"], "usage.contradiction", "one of them"),
        ([*CERT, "-ic"], "usage.refused-option", "--peer-cert verify"),
        (["--key-store", "a.p12"], "usage.refused-option", "openssl pkcs12"),
        (["--trust-store", "a.p12"], "usage.refused-option", "dicomtls bundle"),
        (["+cd", "folder"], "usage.refused-option", "dicomtls bundle"),
        ([*CERT, "+pw", "secret"], "usage.refused-option", "openssl pkey"),
        (["-cert", "CERT"], "usage.no-such-option", "--cert"),
    ],
)
def test_words_that_make_no_sense(words: list[str], slug: str, hint: str, pki: Pki) -> None:
    files = {"CERT": str(pki.scp.cert), "KEY": str(pki.scp.key), "TRUST": str(pki.trusted)}
    result = cli.run("orthanc", *(files.get(word, word) for word in words), "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (2, slug)
    assert hint in result.json["error"]["hint"]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--key": "scu.key"}, "does not belong to"),
        ({"--cert": "scp.key", "--key": "scp.crt"}, "swapped"),
        ({"--key": "none.key"}, "does not exist"),
        ({"--trust": "."}, "is the folder"),
        ({"--trust": "scu.key"}, "holds none"),
    ],
)
def test_files_that_orthanc_cannot_use(change: dict[str, str], said: str, right: list[str], pki: Pki) -> None:
    words = {**dict(zip(right[::2], right[1::2], strict=True))}
    words |= {option: str(pki.trusted.parent / name) for option, name in change.items()}
    result = cli.run("orthanc", *(word for pair in words.items() for word in pair), "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "orthanc.unusable-file")
    assert said in result.json["error"]["message"]
    assert result.json["error"]["hint"]
    assert not Path("dicom-tls.json").exists()


# ---------------------------------------------------------------------- checking


def test_a_check_prints_a_line_for_each_finding_and_exits_40(right: list[str]) -> None:
    cli.run("orthanc", *right)
    path = Path("dicom-tls.json")
    path.write_text(path.read_text().replace("true", '"true"', 1))
    result = cli.run("orthanc", "--check", "dicom-tls.json", "--orthanc-version", "1.10.1")
    assert result.exit_code == 40
    *_, last = lines = result.stdout.splitlines()
    [fault] = [line for line in lines if line.startswith("will not start: ")]
    assert "dicom-tls.json:2: `DicomTlsEnabled` is not `true` or `false`" in fault
    assert "; fix: write" in fault
    assert "1 fault" in last
    assert "(Orthanc 1.10.1)" in last


def test_a_check_of_nothing() -> None:
    result = cli.run("orthanc", "--check", "none.json", "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "file.missing")


def test_a_line_stays_a_line() -> None:
    """Whatever is in the configuration."""
    Path("c.json").write_text(json.dumps({"DicomTlsTrustedCertificates": "/a\nno fault\x1b[2J"}))
    result = cli.run("orthanc", "--check", "c.json")
    assert result.exit_code == 40
    assert "\x1b" not in result.stdout
    assert "no fault" not in [line[:8] for line in result.stdout.splitlines()]


def test_variables_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.json").write_text('{"DicomAet": "${THE_AET}"}')
    assert "ae-title" in cli.run("orthanc", "--check", "c.json", "--json").stdout
    monkeypatch.setenv("THE_AET", "ARCHIVE")
    assert "ae-title" not in cli.run("orthanc", "--check", "c.json", "--json").stdout


# ---------------------------------------------------------------------- a trial


def test_a_trial_needs_an_orthanc(right: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from dicomtls_cli.services.orthanc import trial

    monkeypatch.setattr(trial, "_PLACES", ())
    monkeypatch.setenv("PATH", "/nowhere")
    result = cli.run("orthanc", *right, "--run", "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "orthanc.not-installed")
    assert "apt-get install orthanc" in result.json["error"]["hint"]


def stand_in(folder: Path, script: str) -> None:
    """Put a program named Orthanc first among the programs."""
    folder.mkdir()
    (folder / "Orthanc").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "Orthanc").chmod(0o755)


@pytest.mark.parametrize(
    ("script", "slug", "exit_code"),
    [
        ("echo 'E1128 02:05:43.1 Some.cpp:58] Bad thing' >&2; exit 7", "orthanc.ended", 3),
        ("exec sleep 60", "orthanc.not-ready", 10),
    ],
)
def test_an_orthanc_that_does_not_come(
    script: str, slug: str, exit_code: int, right: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicomtls_cli.services.orthanc import trial

    stand_in(tmp_path / "programs", script)
    monkeypatch.setattr(trial, "READY_LIMIT", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    result = cli.run("orthanc", *right, "--orthanc-version", "1.10.1", "--run", "--json")
    error = result.json["error"]
    assert (result.exit_code, error["code"]) == (exit_code, slug)
    if slug == "orthanc.ended":
        assert error["message"] == "Orthanc ended with 7: Bad thing"


def test_a_trial_of_what_is_not_right(right: list[str]) -> None:
    Path("dicom-tls.json").write_text('{"DicomTlsEnabled": true}')
    result = cli.run("orthanc", "--run", "--orthanc-version", "1.10.1", "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "orthanc.unusable-file")


@pytest.mark.parametrize("port", [0, 65536])
def test_a_trial_on_a_port_that_is_none(
    port: int, right: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "programs", "exit 7")
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    cli.run("orthanc", *right)
    written = json.loads(Path("dicom-tls.json").read_text())
    Path("dicom-tls.json").write_text(json.dumps({**written, "DicomPort": port}))
    result = cli.run("orthanc", "--run", "--orthanc-version", "1.10.1", "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "orthanc.unusable-file")
    assert "which is no port" in result.json["error"]["message"]


@pytest.mark.interop
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_trial_runs_until_it_is_ended(number: int, right: list[str], pki: Pki, tmp_path: Path) -> None:
    peers.need(peers.ORTHANC)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "dicomtls_cli", "orthanc", *right, "--run", "--json"],
        env={**cli.environment(), "TMPDIR": str(temporary)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    log = Output(process.stdout)
    try:
        record = json.loads(log.wait_for('"listening"'))
        echoed = cli.run(
            "echoscu", "localhost", record["dicom_port"], "--aec", record["aet"], *pki.scu_options
        )
        assert echoed.exit_code == 0, echoed.stderr
        assert len(list(temporary.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(cli.LIMIT) == 0, log.text
        assert list(temporary.iterdir()) == []
        assert not Path(f"/proc/{record['pid']}").exists()
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.mark.interop
def test_a_trial_on_a_port_that_is_taken(right: list[str]) -> None:
    peers.need(peers.ORTHANC)
    with peers.free_ports(1) as (port,):
        result = cli.run("orthanc", *right, "--port", port, "--run", "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (5, "orthanc.port-taken")
