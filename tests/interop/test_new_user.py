"""A new user's first hour: what the README and `--help` tell, in a fresh virtual environment, with a real Orthanc."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support import cli, peers, wheels

README = (Path(__file__).parents[2] / "README.md").read_text()
TLS = "--cert scanner.crt --key scanner.key --trust trusted.crt"


class User:
    """Somebody in an empty folder who has `dicomtls`, and has read the README and what `--help` says."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.program = programs / "dicomtls"
        self._help = cache(self._shown_help)

    def words(self, line: str) -> list[str]:
        """Return the words of a line of `dicomtls`, all of whose options the user has read of."""
        name, command, *rest = shlex.split(line)
        assert name == "dicomtls"
        for word in (command, *(word for word in rest if word[0] in "-+")):
            told = re.compile(rf"(?<![\w+-]){re.escape(word.partition('=')[0])}(?![\w-])")
            assert told.search(README) or told.search(self._help(command)), f"who told of `{word}`?"
        return [str(self.program), command, *rest]

    def run(self, line: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a line, which has to end with `code`."""
        done = wheels.run(self.folder, *self.words(line))
        assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
        return done

    def _shown_help(self, command: str) -> str:
        return wheels.run(self.folder, self.program, command, "--help").stdout


@pytest.fixture
def user(tmp_path: Path) -> User:
    """What dicomtls needs is lent to its environment; tests/test_packaging.py installs all of it."""
    (tmp_path / "dist").mkdir()
    wheel = wheels.build(Path(__file__).parents[2], tmp_path / "dist")["whl"]
    alone = wheels.make_environment(tmp_path, wheels.base_python())
    installed = wheels.install(alone, "--no-deps", "--no-index", wheel)
    assert installed.returncode == 0, installed.stderr
    wheels.lend(alone)
    (tmp_path / "home").mkdir()
    found = wheels.run(
        tmp_path / "home", alone / "bin" / "python", "-c", "import dicomtls_cli as it; print(it.__file__)"
    )
    assert Path(found.stdout.strip()).is_relative_to(alone)
    return User(tmp_path / "home", alone / "bin")


@contextlib.contextmanager
def receiving(user: User) -> Iterator[int]:
    """The second peer: a receiver of the user's own, as the README starts it."""
    line = "dicomtls storescp 2762 --cert archive.crt --key archive.key --trust trusted.crt --output received"

    def command(port: int) -> list[str]:
        return user.words(line.replace("2762", str(port)))

    with peers.listening(command, env=wheels.environment(), cwd=user.folder) as (port, process, _):
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(cli.LIMIT) == 0


@contextlib.contextmanager
def secured_orthanc(user: User, receiver: int) -> Iterator[peers.Orthanc]:
    """Orthanc with two files side by side: what it always had, and what `dicomtls orthanc` writes."""
    with peers.free_ports(2) as (dicom_port, http_port):
        before = {"HttpPort": http_port, "StorageDirectory": str(user.folder / "db"), "Plugins": []}
    (user.folder / "etc").mkdir()
    (user.folder / "etc" / "orthanc.json").write_text(json.dumps(before))
    user.run(
        "dicomtls orthanc --cert orthanc.crt --key orthanc.key --trust trusted.crt -o etc/dicom-tls.json "
        f"--port {dicom_port} --modality scanner=SCANNER@localhost:2762 "
        f"--modality archive=ARCHIVE@localhost:{receiver}"
    )
    user.run("dicomtls orthanc --check etc")
    with peers.orthanc_with(user.folder / "etc", dicom_port, http_port) as (orthanc, answers):
        assert answers, orthanc.log.text
        assert set(orthanc.json("/modalities")) == {"scanner", "archive"}
        yield orthanc


@pytest.mark.interop
def test_a_new_users_hour(user: User) -> None:
    peers.need(peers.ORTHANC)
    assert "gencert" in wheels.run(user.folder, user.program, "--help").stdout
    user.run("dicomtls gencert orthanc scanner archive")
    user.run("dicomtls bundle orthanc.crt scanner.crt archive.crt -o trusted.crt")
    with receiving(user) as receiver, secured_orthanc(user, receiver) as orthanc:
        there = f"localhost {orthanc.dicom_port}"
        assert "C-ECHO success" in user.run(f"dicomtls echoscu {there} {TLS}").stdout
        assert "3 stored" in user.run(f"dicomtls storescu {there} {TLS} --generate 3").stdout
        held = orthanc.instances()
        assert len(held) == 3
        sent = orthanc.send("POST", "/modalities/archive/store", held)
        assert (sent[0], sent[1]["FailedInstancesCount"]) == (200, 0)
        learn_from_a_mistake(user, there)
        give_names(user, orthanc.dicom_port, receiver)
    assert len(list((user.folder / "received").rglob("*.dcm"))) == 4


def learn_from_a_mistake(user: User, there: str) -> None:
    """The wrong certificate is trusted; what the hint says is done, word for word, and then it works."""
    line = f"dicomtls echoscu {there} --cert scanner.crt --key scanner.key --trust archive.crt"
    told = user.run(line, code=11).stderr
    error, hint = told.splitlines()
    assert error.startswith("error: ")
    assert "is not trusted here" in error
    command, option = re.findall(r"`([^`]+)`", hint)
    user.run(command)
    assert "C-ECHO success" in user.run(line.replace("--trust archive.crt", option)).stdout


def give_names(user: User, orthanc: int, receiver: int) -> None:
    """A peers file, as `dicomtls peers --help` shows one."""
    shown = wheels.run(user.folder, user.program, "peers", "--help").stdout
    for part in ("[defaults]", "[peer.", "address = ", "trust = "):
        assert part in shown
    (user.folder / "dicomtls.toml").write_text(
        '[defaults]\ncert = "scanner.crt"\nkey = "scanner.key"\ntrust = "trusted.crt"\n'
        f'[peer.orthanc]\naddress = "ORTHANC@localhost:{orthanc}"\n'
        f'[peer.archive]\naddress = "ARCHIVE@localhost:{receiver}"\n'
    )
    assert len(user.run("dicomtls peers").stdout.splitlines()) == 2
    assert user.run("dicomtls echoscu @orthanc @archive").stdout.count("C-ECHO success") == 2
    assert "1 stored" in user.run("dicomtls storescu @archive --generate 1").stdout
