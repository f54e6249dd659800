"""Many senders of every kind at once: nothing is lost, mixed up, or kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support.flood import MOST_GROWTH, flood, memory

pytestmark = pytest.mark.interop

MOST_MEMORY = 150_000_000


def test_32_associations_at_once(pki: Pki, tmp_path: Path) -> None:
    """The minute of it is in tests/long."""
    with flood(pki, tmp_path, count=20) as (crowd, scp):
        crowd.round()
        first = memory(scp)
        crowd.round()
        assert memory(scp) - first < MOST_GROWTH
        assert memory(scp, "VmHWM") < MOST_MEMORY
