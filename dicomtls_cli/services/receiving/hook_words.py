"""The command line of a hook: split once, when the server starts, and filled with what an event tells.

No shell is involved, ever: what is put into a word stays in it. What a peer decides reaches a word only where
it is letters, digits, dots, underscores and blanks.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping

from dicomtls_cli.errors import UsageError, printable

OF_INSTANCE = frozenset(
    {"path", "dir", "file", "sop_uid", "study_uid", "peer_ip", "calling_aet", "called_aet"}
)
"""What a command for each instance can be told in its words."""
OF_STUDY = OF_INSTANCE - {"path", "file", "sop_uid"}
"""What a command for each study can be told in its words."""
OF_FILE = frozenset({"path", "dir", "file"})
"""What there is only where instances are stored."""

_FROM_PEER = frozenset({"sop_uid", "study_uid", "calling_aet", "called_aet"})
_FIT = re.compile(r"(?=.*[A-Za-z0-9_])[A-Za-z0-9._ ]+")  # `..` would be the folder above
_SHELL = re.compile(r"[|&;<>$`]")
_DCMTK = {"p": "dir", "f": "file", "a": "calling_aet", "c": "called_aet", "r": "peer_ip"}
_BRACED = ("path", "dir", "file", "sop_uid", "study_uid", "peer_ip")
_PLACEHOLDER = re.compile(rf"\{{({'|'.join(_BRACED)})\}}|#([{''.join(_DCMTK)}])")
_BATCH = (".bat", ".cmd")  # Windows hands these to its shell


class Unfit(Exception):
    """A value of the peer's may not stand in a command line."""


class Command:
    """A command line whose words may have placeholders. Raises UsageError (`usage.hook`).

    `known` are the values it can be given, `option` is named in messages.
    """

    def __init__(self, text: str, known: frozenset[str], option: str = "--exec") -> None:
        self.option = option
        if found := _SHELL.search(text):
            raise _wrong(
                option,
                f"`{found[0]}` is for a shell, and none runs it",
                "write a script and name that; it finds everything in its environment, as DICOM_EVENT_...",
            )
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise _wrong(option, f"it cannot be split into words: {error}", "close the quotes") from None
        if not words or not words[0]:
            raise _wrong(option, "it names no program", f"write `{option} 'PROGRAM WORD...'`")
        self._words = [_pieces(word, option) for word in words[1:]]
        self.needs = frozenset(name for word in self._words for name, _ in word if name)
        if missing := self.needs - known:
            raise _wrong(
                option,
                f"there is no `{sorted(missing)[0]}` at the end of a study",
                "leave it out; `{dir}` and `{study_uid}` are there",
            )
        self.program = _program(words[0], option)

    def fill(self, values: Mapping[str, str]) -> list[str]:
        """Return the words with `values` put into them. Raises Unfit."""
        return [self.program, *("".join(_filled(piece, values) for piece in word) for word in self._words)]


def _filled(piece: tuple[str, str], values: Mapping[str, str]) -> str:
    name, literal = piece
    if not name:
        return literal
    value = values.get(name, "")
    if not value or (name in _FROM_PEER and not _FIT.fullmatch(value)):
        raise Unfit(f"{name} {printable(value)!r}" if value else f"no {name}")
    return value


def _pieces(word: str, option: str) -> list[tuple[str, str]]:
    """Return a word as (placeholder, "") and ("", text) in their order."""
    pieces, at = [], 0
    for found in _PLACEHOLDER.finditer(word):
        pieces += [("", word[at : found.start()]), (found[1] or _DCMTK[found[2]], "")]
        at = found.end()
    pieces.append(("", word[at:]))
    for _, literal in pieces:
        if "{" in literal or "}" in literal:
            raise _wrong(
                option,
                f"`{word}` has braces that are no placeholder",
                f"there are {' '.join(f'{{{name}}}' for name in _BRACED)}; write a script for anything else",
            )
    return pieces


def _program(word: str, option: str) -> str:
    if _PLACEHOLDER.search(word):
        raise _wrong(option, f"which program runs may not depend on a peer (`{word}`)", "name the program")
    found = shutil.which(word)
    if found is None:
        raise UsageError(
            f"`{option}`: there is no program `{word}` that may be run",
            "write its path, and see that it is executable: `chmod +x FILE`",
            slug="usage.hook-program",
        )
    if found.lower().endswith(_BATCH):
        raise _wrong(
            option, f"`{word}` is a batch file, which a shell runs", "name a program or Python script"
        )
    return os.path.abspath(found)  # noqa: PTH100 - as it is called, links and all


def _wrong(option: str, why: str, hint: str) -> UsageError:
    return UsageError(f"`{option}`: {why}", hint, slug="usage.hook")
