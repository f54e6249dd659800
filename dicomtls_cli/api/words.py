"""What callers write, checked: a lone string where several are due is one, and never its letters."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.peer import parse_port


def several(words: Collection[str]) -> tuple[str, ...]:
    """Return `words`, or the one word that stands in their place."""
    return (words,) if isinstance(words, str) else tuple(words)


def path(name: Path | str) -> Path:
    """Return `name` as a path; raise UsageError for an empty one, which would be the current folder."""
    if name == "":
        raise UsageError(
            "a name of a file or folder is empty",
            "name it; the current folder is `.`",
            slug="usage.empty-path",
        )
    return Path(name)


def paths(names: Iterable[Path | str] | Path | str) -> list[Path]:
    """Return `names`, or the one in their place, as paths; raise UsageError for an empty one."""
    return [path(names)] if isinstance(names, str | Path) else [path(name) for name in names]


def listening_port(number: int) -> int:
    """Return the port to listen on, 0 for any that is free; raise UsageError."""
    return number if number == 0 else parse_port(str(number))


def at_least(lowest: int, **numbers: int) -> None:
    """Raise UsageError where one of `numbers`, which is given by its name, is below `lowest`."""
    for name, number in numbers.items():
        if number < lowest:
            raise UsageError(
                f"`{name}={number}` makes no sense", f"write `{lowest}` or more", slug="usage.invalid"
            )
