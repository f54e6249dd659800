"""`python3 -m tests`: make the environment, install the peers if that is possible, run every check.

Only the standard library is used here, and nothing outside the checkout is written but Debian's packages.
Words after `tests` go to pytest: `python3 -m tests -k echo`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PEERS = {
    "dcmtk": Path("/usr/bin/storescp"),
    "orthanc": Path("/usr/sbin/Orthanc"),
    "openssl": Path("/usr/bin/openssl"),
    "gnutls-bin": Path("/usr/bin/gnutls-cli"),
    "curl": Path("/usr/bin/curl"),
    # The shells that completion is tried in, and what reads the man pages.
    "zsh": Path("/usr/bin/zsh"),
    "fish": Path("/usr/bin/fish"),
    "man-db": Path("/usr/bin/man"),
}


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs this may have an older one
        sys.exit(f"error: Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    make_environment()
    install_peers()
    steps = {
        "lint": ["ruff", "check", "."],
        "format": ["ruff", "format", "--check", "."],
        "types": ["mypy"],
        "tests": ["pytest", "-n", "auto", "-q", *sys.argv[1:]],
    }
    failed = [name for name, words in steps.items() if run(PYTHON, "-m", *words)]
    if failed == ["tests"]:
        print(
            "note: the tests named above failed; whether they do so again decides, and the note stays in this log"
        )
        failed = ["tests"] if run(PYTHON, "-m", "pytest", "-q", "--last-failed", *sys.argv[1:]) else []
    print(f"failed: {', '.join(failed)}" if failed else "everything passed")
    return 1 if failed else 0


def make_environment() -> None:
    """Make .venv with the package and what its tests need; a second run is quick."""
    if not PYTHON.exists():
        try:
            venv.create(ENVIRONMENT, with_pip=True)
        except subprocess.CalledProcessError:  # Debian ships ensurepip apart
            shutil.rmtree(ENVIRONMENT, ignore_errors=True)
            apt("python3-venv")
            venv.create(ENVIRONMENT, with_pip=True)
    must(PYTHON, "-m", "pip", "install", "-q", "--upgrade", "pip>=25.1")
    must(PYTHON, "-m", "pip", "install", "-q", "--editable", ".", "--group", "test")
    # Thousands of processes start in the tests: none of them compiles what another has not kept.
    must(PYTHON, "-m", "compileall", "-q", "dicomtls_cli", "tests")


def install_peers() -> None:
    """Install DCMTK and Orthanc where they are missing and apt-get may be used."""
    missing = [package for package, program in PEERS.items() if not program.exists()]
    if missing and not apt(*missing):
        print(f"note: {' and '.join(missing)} cannot be installed here; the tests that need them are skipped")


def apt(*packages: str) -> bool:
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "-qq", "update", env=quiet)
    return not run("apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages, env=quiet)


def run(*words: object, env: dict[str, str] | None = None) -> int:
    print("+", *words, flush=True)
    return subprocess.run([str(word) for word in words], cwd=ROOT, env=env, check=False).returncode


def must(*words: object) -> None:
    if run(*words):
        sys.exit(f"error: `{' '.join(map(str, words))}` failed")


if __name__ == "__main__":
    sys.exit(main())
