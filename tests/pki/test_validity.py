"""The dates of certificates in use: who is warned of what, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicomtls_cli.pki.validity import read_validity
from tests.support.pki import make_identity, write_bundle

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("valid", "words"),
    [
        ((-10, 300), None),
        ((-10, 31), None),
        ((-10, 29), "in 28 days"),
        ((-10, 1), "in 0 days"),
        ((-10, -1), "expired on"),
        ((1, 300), "is not valid before"),
    ],
)
def test_a_certificate_of_ours(valid, words) -> None:
    ours = make_identity(Path(), "me", valid=valid, subject="our name")
    found = list(read_validity(ours.cert, []).warnings())
    if words is None:
        assert found == []
    else:
        (text,) = found
        assert words in text
        assert "`me.crt`" in text
        assert "CN=our name" in text


def test_every_certificate_of_our_chain_counts() -> None:
    ca = make_identity(Path(), "ca", ca=True, valid=(-10, 5))
    me = make_identity(Path(), "me", issuer=ca, valid=(-10, 300))
    chain = write_bundle(Path("chain.pem"), me, ca)
    (text,) = read_validity(chain, []).warnings()
    assert "in 4 days" in text


def test_the_trusted_ones_are_told_in_one_sentence() -> None:
    old = [make_identity(Path(), f"old{n}", subject=f"old{n}", valid=(-20, -n - 1)) for n in range(5)]
    good = make_identity(Path(), "good", subject="good", valid=(-1, 300))
    write_bundle(Path("peers.crt"), *old, good, old[0])
    (text,) = read_validity(good.cert, [Path("peers.crt")]).warnings()
    assert "CN=old0 expired" in text
    assert "CN=old2" in text
    assert "CN=old3" not in text
    assert "and 2 more" in text
    assert "good" not in text


def test_time_goes_by() -> None:
    """What was read at the start is judged anew every day."""
    ours = make_identity(Path(), "me", valid=(-1, 300))
    validity = read_validity(ours.cert, [ours.cert])
    now = datetime.now(UTC)
    assert list(validity.warnings(now)) == []
    assert len(list(validity.warnings(now + 280 * DAY))) == 2
    assert "expired" in next(validity.warnings(now + 301 * DAY))
    assert "not valid before" in next(validity.warnings(now - 2 * DAY))


def test_what_a_subject_says_does_nothing_to_the_log() -> None:
    ours = make_identity(Path(), "me", valid=(-2, -1), subject="a\x1b[2J\nb")
    (text,) = read_validity(ours.cert, []).warnings()
    assert text.isprintable()
