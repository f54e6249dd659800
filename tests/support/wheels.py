"""What is published, built and installed as its users have it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support import cli

LIMIT = 300  # seconds for an installation on a loaded machine
EPOCH = "1700000000"


def build(sources: Path, into: Path) -> dict[str, Path]:
    """Build the source distribution and the wheel; nothing is fetched."""
    pytest.importorskip("hatchling")
    environment = {**cli.environment(), "SOURCE_DATE_EPOCH": EPOCH, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", into, "-t", "sdist", "-t", "wheel"],
        cwd=sources, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.suffix.lstrip("."): path for path in into.iterdir()}


def environment() -> dict[str, str]:
    """Return the environment of a command that knows nothing of this checkout."""
    kept = {
        n: v for n, v in cli.environment().items() if n not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    return {**kept, "PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, which knows nothing of this checkout."""
    return subprocess.run(
        [str(word) for word in words], cwd=folder, env=environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


def make_environment(folder: Path, python: str) -> Path:
    """Make a virtual environment of `python` in `folder`, with nothing in it; skip the test where there can be none."""
    if run(folder, python, "-m", "venv", "--without-pip", "alone").returncode:
        pytest.skip("this Python makes no virtual environments (Debian: apt-get install python3-venv)")
    return folder / "alone"


def install(alone: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Let this Python's pip install `words` into a virtual environment."""
    return run(
        alone.parent,
        sys.executable,
        "-m",
        "pip",
        "--python",
        alone / "bin" / "python",
        "install",
        "-q",
        *words,
    )


def base_python() -> str:
    """Return the Python under test, outside of its virtual environment."""
    return str(getattr(sys, "_base_executable", sys.executable))


def lend(alone: Path) -> None:
    """Let a virtual environment find what is installed here behind what is installed there."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages,) = alone.glob("lib/python3*/site-packages")
    (packages / "lent.pth").write_text("".join(f"{folder}{os.linesep}" for folder in sorted(folders)))
