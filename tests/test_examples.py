"""Every example is run; one that is not named here fails."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicomtls_cli.cli.storescp import storescp
from dicomtls_cli.services.ae_map import load_ae_map
from dicomtls_cli.services.images import write_test_images
from tests.conftest import Pki
from tests.support.cli import LIMIT, environment, run

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_all_of_them_are_run() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {
        "ae-map.toml",
        "pynetdicom_secure.py",
        "storescp.service",
        "storescp.socket",
        "two_peers.sh",
    }


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


def test_ae_map() -> None:
    ae_map = load_ae_map(EXAMPLES / "ae-map.toml")
    assert sorted(sorted(titles) for titles in ae_map.titles.values()) == [["CT1", "CT1_RAW"], ["MR1"]]


def unit(name: str) -> dict[str, str]:
    """Return the settings of a unit, a line continued by a backslash as one."""
    parsed = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string((EXAMPLES / name).read_text().replace("\\\n", ""))
    return {
        f"{section}.{key}": value for section in parsed.sections() for key, value in parsed[section].items()
    }


def test_the_units_hold_what_their_receiver_relies_on() -> None:
    service, port = unit("storescp.service"), unit("storescp.socket")
    assert service["Service.Type"] == "notify"
    assert service["Service.ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["Unit.Requires"] == "storescp.socket"
    assert "Socket.Accept" not in port
    program, name, *words = shlex.split(service["Service.ExecStart"])
    assert (Path(program).name, name) == ("dicomtls", "storescp")
    parsed = storescp.make_context("storescp", words).params
    assert parsed["port_word"] is parsed["port"] is None  # the place is named in the other unit
    assert parsed["bind"] == ()
    assert parsed["grace"] < float(service["Service.TimeoutStopSec"])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With a program that is there, since systemd looks for it."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for name in ("storescp.service", "storescp.socket"):
        text = (EXAMPLES / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/bin/dicomtls", sys.executable))
    done = example("systemd-analyze", "verify", tmp_path / "storescp.service", tmp_path / "storescp.socket")
    assert (done.returncode, done.stderr) == (0, "")
