"""Shell patterns for file names, as POSIX and so DCMTK's `+sp` read them (fnmatch(3))."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection

_CLASS = r"\[:(\w+):\]"
_CLASSES = {"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z"}
_NEGATION = r"(?<!\\)\[\^"
_ESCAPE = r"\\(.)"


def matcher(patterns: Collection[str]) -> Callable[[str], object]:
    """Return a function that is true for the names which match one of `patterns`; without any, for none."""
    if not patterns:
        return lambda name: None
    return re.compile("|".join(fnmatch.translate(_in_python(one)) for one in patterns)).match


def _in_python(pattern: str) -> str:
    """Return `pattern` as Python's fnmatch reads it: without `[^a]`, `[[:digit:]]` and backslashes."""
    pattern = re.sub(_CLASS, lambda found: _CLASSES.get(found[1], ""), pattern)
    return re.sub(_ESCAPE, r"[\1]", re.sub(_NEGATION, "[!", pattern))
