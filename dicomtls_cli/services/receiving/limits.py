"""How many files (sockets count) this process may have open."""

from __future__ import annotations

import contextlib
import sys

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]


def file_limit() -> int:
    """Return how many files may be open at once."""
    if resource is None:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def raise_file_limit(wanted: int) -> None:
    """Raise the limit to `wanted` files, or as far as this process has the right to; never lower it.

    The usual 1,024 are a default for programs that use `select`, which cannot count further.
    """
    if resource is None or file_limit() >= wanted:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
