"""The public names: all there, all on the page, none loaded before it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dicomtls_cli
from tests.support.cli import LIMIT, environment

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def loaded_by(code: str) -> set[str]:
    """Run `code` in a Python of its own; return the modules it has loaded."""
    listing = "import json, sys; before = set(sys.modules)\n{}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run(
        [sys.executable, "-c", listing.format(code)],
        env=environment(), capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("name", dicomtls_cli.__all__)
def test_a_name_is_there_and_on_the_page(name: str) -> None:
    assert getattr(dicomtls_cli, name) is not None
    assert name in dir(dicomtls_cli)
    assert f"`{name}`" in PAGE.read_text(), f"docs/api.md does not have `{name}`"


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        dicomtls_cli.no_such_name  # noqa: B018


def test_the_import_is_for_nothing() -> None:
    loaded = loaded_by("import dicomtls_cli")
    assert {name for name in loaded if name.startswith("dicomtls_cli")} == {"dicomtls_cli"}
    assert not loaded & {"ssl", "socket", "click", "cryptography", "pydicom", "pynetdicom"}


def test_a_name_loads_what_it_needs() -> None:
    heavy = {"click", "cryptography", "pydicom", "pynetdicom", "rich", "pytest"}
    loaded = loaded_by("from dicomtls_cli import TlsOptions, diagnose, echo, send, tls_context")
    assert "dicomtls_cli.services.sending.send" in loaded
    assert not loaded & heavy
    assert not loaded_by("from dicomtls_cli import StorageServer, generate, bundle") & heavy
