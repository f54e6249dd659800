"""What is published: the same bytes from the same sources, complete, and at work where it alone is installed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from email import message_from_string
from functools import cache, partial
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.sources import copy_sources
from tests.support.wheels import base_python, build, install, make_environment
from tests.support.wheels import run as run_in

ROOT = Path(__file__).parents[1]


def hashes(built: dict[str, Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in built.values()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def test_the_same_sources_make_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    """Whoever builds them, wherever and whenever: other times of the files, other rights, another folder."""
    copy = copy_sources(tmp_path / "elsewhere")
    for path in copy.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (time.time(), 86400))
    assert hashes(build(copy, tmp_path / "dist")) == hashes(built)


def test_the_source_distribution_makes_the_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(built["gz"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (sources,) = tmp_path.iterdir()
    for name in (
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "docs/cli.md",
        "tests/__main__.py",
        "examples/two_peers.sh",
    ):
        assert (sources / name).is_file()
    again = build(sources, tmp_path / "dist")
    assert hashes({"whl": again["whl"]}) == hashes({"whl": built["whl"]})


def test_what_the_wheel_holds(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["whl"]) as wheel:
        names = wheel.namelist()
        metadata = message_from_string(wheel.read(next(n for n in names if n.endswith("METADATA"))).decode())
    in_package = {name for name in names if name.startswith("dicomtls_cli/")}
    for name in ("py.typed", "cli/shells/dicomtls.bash", "cli/texts/tls.md", "tls/ffdhe2048.pem"):
        assert f"dicomtls_cli/{name}" in in_package
    others = {name.partition("/")[0] for name in set(names) - in_package}
    assert others == {f"dicomtls_cli-{metadata['Version']}.{kind}" for kind in ("data", "dist-info")}
    pages = {Path(name).name for name in names if "/share/man/man1/" in name}
    assert pages == {path.name for path in (ROOT / "docs" / "man").iterdir()}
    for script in (
        "bash-completion/completions/dicomtls",
        "zsh/site-functions/_dicomtls",
        "fish/vendor_completions.d/dicomtls.fish",
    ):
        assert [name for name in names if name.endswith(f".data/data/share/{script}")], script
    assert [name for name in names if re.search(r"(^|/)(tests?|__pycache__)/", name)] == []
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"


# ---------------------------------------------------------------------- installed alone


@cache
def newest_python() -> str | None:
    """Return the newest Python on this machine that is newer than this one, if there is any."""
    places = [Path(place) for place in os.environ["PATH"].split(os.pathsep)]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
        places += Path(root, "versions").glob("*/bin")
    for minor in range(sys.version_info.minor + 10, sys.version_info.minor, -1):
        for place in places:
            found = place / f"python3.{minor}"
            if (
                found.exists()
                and not subprocess.run(
                    [found, "-c", "import ensurepip"], capture_output=True, check=False
                ).returncode
            ):
                return str(found)
    return None


@pytest.mark.parametrize("which", ["this", "newest"])
def test_installed_alone(which: str, built: dict[str, Path], tmp_path: Path) -> None:
    """Only the wheel and what it asks for: a dependency that the tests brought along would be missing."""
    python = base_python() if which == "this" else newest_python()
    if python is None:
        pytest.skip("no newer Python is installed")
    run = partial(run_in, tmp_path)
    alone = make_environment(tmp_path, python)
    done = install(alone, built["whl"])
    if "Could not find a version" in done.stderr and not os.environ.get(peers.REQUIRED):
        pytest.skip("pip finds no packages: there is no network here")
    assert done.returncode == 0, done.stdout + done.stderr
    dicomtls = alone / "bin" / "dicomtls"
    version = run(dicomtls, "--version")
    assert re.match(r"dicomtls [0-9].*Python 3\.\d+", version.stdout), version.stderr
    assert "echoscu" in run(dicomtls, "--help").stdout
    assert "_dicomtls" in run(dicomtls, "completion", "bash").stdout
    assert "--trust" in run(dicomtls, "help", "trust").stdout
    assert (alone / "share" / "man" / "man1" / "dicomtls-echoscu.1").is_file()
    demo = run(dicomtls, "demo")
    assert (demo.returncode, demo.stderr) == (0, "")
    assert "went as they should" in demo.stdout.splitlines()[-1]
