"""Every example is run; one that is not named here fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dicomtls_cli.services.images import write_test_images
from tests.conftest import Pki
from tests.support.cli import LIMIT, environment, run

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_all_of_them_are_run() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {"pynetdicom_secure.py", "two_peers.sh"}


def example(*words: object, path: str = "") -> subprocess.CompletedProcess[str]:
    env = environment()
    return subprocess.run(
        list(map(str, words)),
        env={**env, "PATH": f"{path}:{env['PATH']}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


def test_pynetdicom_secure(tmp_path: Path) -> None:
    assert run("gencert", "scp", "scu").exit_code == 0
    assert run("bundle", "scp.crt", "scu.crt", "-o", "trusted.crt").exit_code == 0
    done = example(sys.executable, EXAMPLES / "pynetdicom_secure.py", tmp_path)
    assert (done.returncode, done.stdout) == (0, "C-ECHO over TLS: 0x0000\n"), done.stderr


def test_pynetdicom_secure_refuses_a_stranger(tmp_path: Path, pki: Pki) -> None:
    for name, identity in (("scp", pki.scp), ("scu", pki.stranger)):
        os.link(identity.cert, tmp_path / f"{name}.crt")
        os.link(identity.key, tmp_path / f"{name}.key")
    os.link(pki.trusted, tmp_path / "trusted.crt")
    done = example(sys.executable, EXAMPLES / "pynetdicom_secure.py", tmp_path)
    assert done.returncode == 1, done.stdout


def test_two_peers(tmp_path: Path) -> None:
    images = write_test_images(tmp_path, 3)
    command = tmp_path / "bin" / "dicomtls"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dicomtls_cli "$@"\n')
    command.chmod(0o755)
    done = example("sh", EXAMPLES / "two_peers.sh", tmp_path / "work", *images, path=str(command.parent))
    assert done.returncode == 0, done.stderr
    assert "3 stored" in done.stdout
    assert len(list((tmp_path / "work" / "received").rglob("*.dcm"))) == 3
