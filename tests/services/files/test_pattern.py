"""Shell patterns, with the fnmatch of the C library, which DCMTK uses, as the oracle."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.services.files.pattern import matcher

try:
    FNMATCH = ctypes.CDLL(None).fnmatch
except (AttributeError, OSError, TypeError):
    FNMATCH = None

WORDS = [
    "a",
    "b",
    ".",
    "*",
    "?",
    "[ab]",
    "[!a]",
    "[^a]",
    "[a-b]",
    "[[:digit:]]",
    "[![:alpha:]]",
    r"\*",
    r"\[",
    r"\?",
]
PATTERNS = st.lists(st.sampled_from(WORDS), max_size=6).map("".join)


@pytest.mark.skipif(FNMATCH is None, reason="this C library has no fnmatch")
@given(PATTERNS, st.text("ab1A.[]*?^!", max_size=6))
def test_patterns_mean_what_they_mean_to_dcmtk(pattern: str, name: str) -> None:
    assert (matcher([pattern])(name) is not None) == (FNMATCH(pattern.encode(), name.encode(), 0) == 0)


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_text_is_a_pattern(pattern: str, name: str) -> None:
    matcher([pattern])(name)


def test_one_of_several_is_enough() -> None:
    matches = matcher(["*.dcm", "*.ima"])
    assert [bool(matches(name)) for name in ("a.dcm", "a.ima", "a.txt", "a.dcm.gz", "a.dcm\n")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert not matcher([])("")
