"""A minute of 32 associations at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support.flood import EACH, KINDS, MOST_GROWTH, flood, memory

pytestmark = [pytest.mark.long, pytest.mark.interop, pytest.mark.timeout(600)]

COUNT = 40  # instances of each association
SECONDS = 60.0


def test_a_minute_of_32_associations_at_once(pki: Pki, tmp_path: Path) -> None:
    with flood(pki, tmp_path, COUNT) as (crowd, scp):
        crowd.round()
        first, rounds, begun = memory(scp), 1, time.monotonic()
        while time.monotonic() - begun < SECONDS:
            crowd.round()
            rounds += 1
        last = memory(scp)
        print(
            f"{rounds} rounds of {len(KINDS) * EACH} associations, "
            f"{rounds * len(KINDS) * EACH * COUNT:,} instances in all, each there, equal and once; "
            f"the receiver has {first / 1e6:.1f} MB after the first round, {last / 1e6:.1f} MB after the last"
        )
        assert last - first < MOST_GROWTH
