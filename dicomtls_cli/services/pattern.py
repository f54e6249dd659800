"""Shell patterns for file names, as POSIX and so DCMTK's `+sp` read them (fnmatch(3))."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection

_CLASS = re.compile(r"\[:(\w+):\]")
_CLASSES = {"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z"}
_NEGATION = re.compile(r"(?<!\\)\[\^")
_ESCAPE = re.compile(r"\\(.)")


def matcher(patterns: Collection[str]) -> Callable[[str], object]:
    """Return a function that is true for the names which match one of `patterns`; without any, for none."""
    return re.compile("|".join(fnmatch.translate(_in_python(one)) for one in patterns) or "(?!)").match


def _in_python(pattern: str) -> str:
    """Return `pattern` as Python's fnmatch reads it: without `[^a]`, `[[:digit:]]` and backslashes."""
    pattern = _CLASS.sub(lambda found: _CLASSES.get(found[1], ""), pattern)
    return _ESCAPE.sub(r"[\1]", _NEGATION.sub("[!", pattern))
