"""Every example is run, or checked as far as it can be here; one that is not named here fails."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dicomtls_cli import StorageServer, TlsOptions, bundle, generate
from dicomtls_cli.cli import group
from dicomtls_cli.cli.storescp import storescp
from dicomtls_cli.services.files.images import write_test_images
from dicomtls_cli.services.receiving.ae_map import load_ae_map
from tests.conftest import Pki
from tests.support import peers
from tests.support.cli import LIMIT, environment, run

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_all_of_them_are_run() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {
        "Dockerfile",  # tests/test_container.py
        "Dockerfile.dockerignore",
        "ae-map.toml",
        "compose.yaml",
        "github-actions.yml",
        "gitlab-ci.yml",
        "nightly_check.sh",
        "orthanc_book.sh",
        "pynetdicom_secure.py",
        "storescp.service",
        "storescp.socket",
        "test_orthanc.py",
        "two_peers.sh",
    }


def example(*words: object, path: str = "", **variables: object) -> subprocess.CompletedProcess[str]:
    env = environment()
    return subprocess.run(
        list(map(str, words)),
        env={**env, "PATH": f"{path}:{env['PATH']}", **{name: str(value) for name, value in variables.items()}},
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
    # The second, where the peer's reset overtook the alert that says so.
    reasons = (
        "no TLS with `localhost:PORT`: it does not trust our certificate",
        "the connection before it answered",
    )
    first, second = done.stdout.splitlines()
    assert any(reason in re.sub(r":\d+`", ":PORT`", first) for reason in reasons), first
    assert (first.partition(" ")[0], second.partition(" ")[0]) == ("error:", "hint:")


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """A folder with `dicomtls` in it, for the PATH."""
    command = tmp_path / "bin" / "dicomtls"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dicomtls_cli "$@"\n')
    command.chmod(0o755)
    return str(command.parent)


def test_two_peers(tmp_path: Path, programs: str) -> None:
    images = write_test_images(tmp_path, 3)
    done = example("sh", EXAMPLES / "two_peers.sh", tmp_path / "work", *images, path=programs)
    assert done.returncode == 0, done.stderr
    assert "3 stored" in done.stdout
    assert len(list((tmp_path / "work" / "received").rglob("*.dcm"))) == 3


# ---------------------------------------------------------------------- against Orthanc


@pytest.mark.interop
def test_orthanc_book(tmp_path: Path, programs: str) -> None:
    peers.need(peers.ORTHANC)
    images = write_test_images(tmp_path, 3)
    with peers.free_ports(2) as (dicom_port, http_port):
        pass
    script = EXAMPLES / "orthanc_book.sh"
    words = ("sh", script, "work", *images)
    done = example(*words, path=programs, DICOM_PORT=dicom_port, HTTP_PORT=http_port)
    assert done.returncode == 0, done.stderr
    assert "I: Received Echo Response (Success)" in done.stderr
    assert "3 stored, 0 with a warning, 0 failed" in done.stdout
    log = (tmp_path / "work" / "orthanc.log").read_text()
    assert "Orthanc has started" in log
    again = example(*words, path=programs, DICOM_PORT=dicom_port, HTTP_PORT=http_port)
    assert again.returncode == 4, "it replaces nothing"


@pytest.mark.interop
def test_orthanc_book_ends_with_an_orthanc_that_does_not_start(tmp_path: Path, programs: str) -> None:
    peers.need(peers.ORTHANC)
    (image,) = write_test_images(tmp_path, 1)
    with socket.socket() as taken, peers.free_ports(1) as (dicom_port,):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = example(
            "sh",
            EXAMPLES / "orthanc_book.sh",
            "work",
            image,
            path=programs,
            DICOM_PORT=dicom_port,
            HTTP_PORT=port,
        )
    assert done.returncode == 10
    assert "stored" not in done.stdout


@pytest.mark.interop
def test_the_suite_against_orthanc(tmp_path: Path) -> None:
    peers.need(peers.ORTHANC)
    shutil.copy(EXAMPLES / "test_orthanc.py", tmp_path)
    words = ["-q", "-p", "no:cacheprovider", "-p", "dicomtls_cli.testing", "test_orthanc.py"]
    done = example(sys.executable, "-m", "pytest", *words, PYTHONPATH=EXAMPLES.parent)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout


# ---------------------------------------------------------------------- every night


def test_nightly_check_says_nothing_where_all_is_well(pki: Pki, tmp_path: Path, programs: str) -> None:
    """... and names each trouble, where there is some; its exit code is that of the first."""
    folder = tmp_path / "files"
    generate("me", folder=".")
    generate("pacs", folder=".")
    bundle(["me.crt", "pacs.crt"], "trusted.crt")
    folder.mkdir()
    for name in ("me.crt", "me.key", "trusted.crt"):
        shutil.copy(name, folder)
    words = ("sh", EXAMPLES / "nightly_check.sh", folder)
    own = TlsOptions(cert="pacs.crt", key="pacs.key", trust=("trusted.crt",))
    strangers = TlsOptions(cert=pki.stranger.cert, key=pki.stranger.key, trust=("trusted.crt",))
    lonely = TlsOptions(cert="pacs.crt", key="pacs.key", trust=(pki.stranger.cert,))
    with (
        StorageServer(None, tls=own, port=0) as good,
        StorageServer(None, tls=strangers, port=0) as unknown,
        StorageServer(None, tls=lonely, port=0) as forgetful,
        StorageServer(None, tls=own, port=0, allow=["NOBODY"]) as closed,
        peers.free_ports(1) as (silent,),
    ):
        done = example(*words, f"localhost:{good.port}", path=programs)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        done = example(*words, f"localhost:{good.port}", path=programs, WARN_DAYS=400)
        assert (done.returncode, done.stdout.count("wants attention")) == (40, 2)
        troubles = {
            unknown.port: (11, "we do not trust it any more"),
            silent: (10, "it is down, or the network to it is"),
            forgetful.port: (12, "it refuses us"),
            closed.port: (20, "it speaks TLS with us, but answers no C-ECHO"),
        }
        done = example(*words, *(f"localhost:{port}" for port in troubles), path=programs)
    heads = [line for line in done.stdout.splitlines() if not line.startswith("    ")]
    assert heads == [f"localhost:{port}: {head}" for port, (_, head) in troubles.items()]
    assert done.returncode == next(iter(troubles.values()))[0]
    assert example(*words, "localhost", path=programs, PATH="/usr/bin:/bin").returncode == 127


# ---------------------------------------------------------------------- files of others


def lines_of(script: str) -> list[list[str]]:
    """Return the command lines of `dicomtls` in a piece of shell, after `sh` found it to be well-formed."""
    checked = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    joined = script.replace("\\\n", " ").splitlines()
    found = [re.search(r"\bdicomtls (.*)", line) for line in joined]
    return [shlex.split(one[1].removesuffix("&")) for one in found if one]


def understood(words: list[str]) -> None:
    """Let click parse a command line; raise where it would refuse it."""
    parent = click.Context(group, info_name="dicomtls")
    _, command, rest = group.resolve_command(parent, words)
    assert command is not None
    command.make_context(words[0], rest, parent=parent)


def test_github_actions() -> None:
    found = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
    triggers = found[True]  # YAML 1.1 reads `on` so
    assert triggers.keys() == {"push", "pull_request"}
    assert found["permissions"] == {"contents": "read"}
    (job,) = found["jobs"].values()
    assert job["timeout-minutes"] < 60
    assert job["strategy"]["matrix"]["python"][0] == "3.11"
    steps = job["steps"]
    assert all(len({"uses", "run"} & step.keys()) == 1 for step in steps)
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    scripts = [step["run"] for step in steps if "run" in step]
    words = [line for script in scripts for line in lines_of(script)]
    assert [line[0] for line in words] == ["gencert", "bundle", "storescp", "storescu"]
    for line in words:
        understood(line)
    (tests,) = (step for step in steps if "test_orthanc.py" in step.get("run", ""))
    assert tests["env"] == {peers.REQUIRED: "1"}


def test_the_last_step_of_github_actions(tmp_path: Path, programs: str) -> None:
    found = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
    script = found["jobs"]["interoperability"]["steps"][-1]["run"]
    (Path(programs) / "python").symlink_to(sys.executable)
    done = example("bash", "-e", "-o", "pipefail", "-c", script, path=programs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "received").rglob("*.dcm"))) == 3


def test_gitlab_ci() -> None:
    found = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())
    stages = found.pop("stages")
    assert [job["stage"] for job in found.values()] == stages
    for job in found.values():
        assert job["image"].startswith("python:3.")
        for script in (*job["before_script"], *job["script"]):
            for line in lines_of(script):
                understood(line)
    assert found["dicom-tls"]["variables"] == {peers.REQUIRED: "1"}
    assert any("test_orthanc.py" in line for line in found["dicom-tls"]["script"])


def composition() -> dict[str, Any]:
    found = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    assert isinstance(found, dict)
    return found


def test_compose_refers_to_what_is_there() -> None:
    found = composition()
    services = found["services"]
    conditions = {"service_started", "service_healthy", "service_completed_successfully"}
    for service in services.values():
        assert len({"image", "build"} & service.keys()) == 1
        assert re.fullmatch(r"[\w/-]+:\d[\w.-]+", service.get("image", "x:1.0")), "a version, not `latest`"
        for volume in service["volumes"]:
            assert volume.split(":")[0] in found["volumes"]
        for config in service.get("configs", ()):
            assert config["source"] in found["configs"]
        for name, dependency in service.get("depends_on", {}).items():
            assert name in services
            assert dependency["condition"] in conditions
    assert services["orthanc"]["ports"] == ["4242:4242"], "the unprotected HTTP port stays inside"


@pytest.mark.interop
def test_compose_makes_an_orthanc_that_its_scanner_reaches(tmp_path: Path, programs: str) -> None:
    """The commands and the configuration of its services, run on this machine: only folders and ports are others."""
    peers.need(peers.ORTHANC)
    found = composition()
    folder = tmp_path / "certificates"
    folder.mkdir()

    def here(text: str) -> str:
        return text.replace("/certificates", str(folder))

    shell, flags, script = found["services"]["certificates"]["command"]
    (install,) = (line for line in script.splitlines() if line.startswith("pip install"))
    for _ in range(2):  # the second start finds what the first has made
        done = example(shell, flags, here(script.replace(install, "")), path=programs)
        assert done.returncode == 0, done.stderr
    configuration = json.loads(here(found["configs"]["orthanc"]["content"]))
    tls = {name: value for name, value in configuration.items() if name.startswith("DicomTls")}
    assert len(tls) == 5
    assert all(Path(value).is_file() for value in tls.values() if isinstance(value, str))
    *entrypoint, name = found["services"]["scanner"]["entrypoint"]
    command = [here(word).replace("$$", "$") for word in entrypoint]
    with peers.orthanc(tmp_path / "orthanc", **tls, DicomAet=configuration["DicomAet"]) as orthanc:
        done = example(*command, name, "echoscu", f"ORTHANC@localhost:{orthanc.dicom_port}", path=programs)
    assert done.returncode == 0, done.stderr
    assert "C-ECHO success" in done.stdout


# ---------------------------------------------------------------------- a service


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
