"""The README does what it says: its commands and its Python, taken from it and run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomtls_cli.services.files.images import write_test_images
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer
from dicomtls_cli.tls.policy import Role
from tests.support import cli, peers
from tests.support.pki import make_identity
from tests.support.sources import copy_sources

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
LIMIT = 300  # seconds for an installation on a loaded machine


def blocks(language: str, section: str = "") -> list[str]:
    """Return the fenced blocks of a language, of one `## section` or of what stands before the first."""
    text = README.read_text()
    parts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S))
    chosen = parts[section] if section else text.partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", chosen, flags=re.M | re.S)


# ---------------------------------------------------------------------- from a fresh clone


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *settings, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a clone of what is here."""
    copy = copy_sources(tmp_path / "checkout")
    git(copy, "init", "-q")
    git(copy, "add", "-A")
    git(copy, "commit", "-q", "-m", "copy")
    return copy


def pip_cache() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def test_the_first_command(checkout: Path, tmp_path: Path) -> None:
    """A new machine but for Python: a home of its own, nothing installed; only downloads are not repeated."""
    command = blocks("sh")[0]
    assert "python3 -m venv" in command
    assert command.rstrip().endswith("dicomtls demo")
    home, programs = tmp_path / "home", tmp_path / "programs"
    home.mkdir()
    programs.mkdir()
    base = Path(getattr(sys, "_base_executable", sys.executable))
    # The Python under test, whatever PATH has.
    (programs / "python3").write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
    (programs / "python3").chmod(0o755)
    if subprocess.run([base, "-c", "import ensurepip"], capture_output=True, check=False).returncode:
        pytest.skip("this Python cannot make virtual environments (Debian: apt-get install python3-venv)")
    kept = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    environment = {
        **kept, "HOME": str(home), "PATH": f"{programs}:/usr/bin:/bin",
        "PIP_CACHE_DIR": pip_cache(), "PIP_NO_COMPILE": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "-ec", command], cwd=checkout, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    if "Could not find a version" in done.stderr and not os.environ.get(peers.REQUIRED):
        pytest.skip("pip finds no packages: there is no network here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "went as they should" in done.stdout.splitlines()[-1]
    assert git(checkout, "status", "--porcelain") == ""
    assert not [path for path in home.rglob("*") if path.is_file()], "files in the user's home"


# ---------------------------------------------------------------------- "Secure an Orthanc"


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a piece of shell in this test's folder, with `dicomtls` among the programs."""
    programs = tmp_path / ".programs"
    programs.mkdir()
    program = programs / "dicomtls"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dicomtls_cli "$@"\n')
    program.chmod(0o755)
    environment = {**cli.environment(), "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(script: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["sh", "-ec", script], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=cli.LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done

    return run


@pytest.mark.interop
def test_secure_an_orthanc(shell: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    make_files, use, dcmtk_style = blocks("sh", "Secure an Orthanc")
    for option in (
        "DicomTlsEnabled",
        "DicomTlsCertificate",
        "DicomTlsPrivateKey",
        "DicomTlsTrustedCertificates",
    ):
        assert f'"{option}"' in README.read_text()
    shell(make_files)
    (tmp_path / "images").mkdir()
    images = write_test_images(tmp_path / "images", 3)
    echo, store, receive = use.splitlines()
    secured = peers.orthanc_tls(tmp_path / "orthanc.crt", tmp_path / "orthanc.key", tmp_path / "trusted.crt")
    with peers.orthanc(tmp_path / "orthanc", **secured) as orthanc:
        to_orthanc = f"localhost {orthanc.dicom_port}"
        assert "C-ECHO success" in shell(echo.replace("localhost 4242", to_orthanc)).stdout
        assert f"{len(images)} stored" in shell(store.replace("localhost 4242", to_orthanc)).stdout
        assert len(orthanc.instances()) == len(images)
        told = shell(dcmtk_style.replace("localhost 4242", to_orthanc))
        assert "I: Received Echo Response (Success)" in told.stderr
    words = receive.split()[1:]
    assert words[:2] == ["storescp", "2762"]

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "dicomtls_cli", "storescp", str(port), *words[2:]]

    with peers.listening(command, env=cli.environment(), cwd=tmp_path) as (port, process, _):
        shell(store.replace("localhost 4242", f"localhost {port}"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(cli.LIMIT) == 0
    assert len(list((tmp_path / "received").rglob("*.dcm"))) == len(images)


# ---------------------------------------------------------------------- Python


def test_securing_a_pynetdicom_program(tmp_path: Path) -> None:
    """The two lines of Python, with what they take for granted: an AE, and where the peer is."""
    from pynetdicom import AE

    me, pacs = make_identity(tmp_path, "me"), make_identity(tmp_path, "pacs")
    [code] = blocks("python", "What is different")
    context = tls_context(Role.ACCEPTOR, TlsOptions(cert=pacs.cert, key=pacs.key, trust=(me.cert,)))
    ae = AE("README")
    ae.add_requested_context("1.2.840.10008.1.1")
    with StorageServer(ServerOptions(port=0, hosts=("127.0.0.1",), context=context)) as server:
        names = {"ae": ae, "host": "localhost", "port": server.port}
        exec(compile(code, str(README), "exec"), names)
        association = names["association"]
        assert association.is_established
        assert association.send_c_echo().Status == 0
        association.release()
