"""Both ways in which instances come in, for whole modules of tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomtls_cli.services.receiving import parts
from dicomtls_cli.services.receiving.disk import is_local


@pytest.fixture(scope="module", params=[True, False], ids=["unnamed", "named"], autouse=True)
def unnamed(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run every test of a module that imports this twice; tell whether its parts have no name."""
    if request.param and not (hasattr(os, "O_TMPFILE") and is_local(Path(tempfile.gettempdir()))):
        pytest.skip("no file here is without a name")
    with pytest.MonkeyPatch.context() as patch:
        if not request.param:
            patch.setattr(parts, "is_local", lambda folder: False)
        yield request.param
