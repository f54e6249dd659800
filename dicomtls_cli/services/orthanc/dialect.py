"""The text of a configuration as Orthanc reads it: variables put in, then JSON with the liberties of JsonCpp."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple

_DEEPEST = 100  # JsonCpp goes to 1000; no configuration comes near either


class Malformed(Exception):
    """The text is not what Orthanc can read; `line` and `column` count from 1, 0 where there is no place."""

    def __init__(self, why: str, line: int = 0, column: int = 0) -> None:
        super().__init__(why)
        self.why = why
        self.line = line
        self.column = column


class Substituted(NamedTuple):
    """A text after its variables were put in, and the names of those that have neither value nor default."""

    text: str
    unset: tuple[str, ...]


class Document(NamedTuple):
    """The top level of a configuration file.

    `lines` are where its keys stand (the last of each counts), `repeated` the keys that are there twice,
    `alone` those that have their line to themselves.
    """

    values: dict[str, Any]
    lines: dict[str, int]
    repeated: tuple[str, ...]
    alone: frozenset[str] = frozenset()


def substitute(text: str, variables: Mapping[str, str]) -> Substituted:
    """Put `variables` in for `${NAME}` and `${NAME:-DEFAULT}`, the default bare or in quotes, as Orthanc does.

    It does so everywhere, in comments too, and puts nothing for what has neither. Raises Malformed where
    the name is empty, which ends Orthanc.
    """
    search = _VariableSearch(text)
    pieces: list[str] = []
    unset: list[str] = []
    done = 0
    while (start := text.find("${", done)) >= 0:
        pieces.append(text[done:start])
        found = search.variable_at(start + 2)
        if found is None:
            pieces.append("${")
            done = start + 2
            continue
        if not found.name:
            raise Malformed("a variable without a name, `${}`", *_Places(text).of(start))
        if found.name not in variables and found.default is None:
            unset.append(found.name)
        pieces.append(variables.get(found.name, found.default or ""))
        done = found.end
    pieces.append(text[done:])
    return Substituted("".join(pieces), tuple(dict.fromkeys(unset)))


class _Variable(NamedTuple):
    name: str
    default: str | None
    end: int


class _VariableSearch:
    """Finds variables in one pass: what has been looked for is remembered, whatever the text is made of."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._next: dict[str, int] = {}
        self._defaults: dict[int, tuple[str, int] | None] = {}

    def variable_at(self, start: int) -> _Variable | None:
        """Return the variable whose name begins at `start`, after its `${`; None if that is none."""
        brace, colon = self._find("}", start), self._find(":", start)
        if brace < colon:
            return _Variable(self._text[start:brace], None, brace + 1)
        if colon not in self._defaults:
            self._defaults[colon] = self._default_after(colon, brace)
        found = self._defaults[colon]
        return None if found is None else _Variable(self._text[start:colon], *found)

    def _default_after(self, colon: int, brace: int) -> tuple[str, int] | None:
        """Return the default behind `colon` and where the variable ends; `brace` is the next one after it."""
        text, start = self._text, colon + 2
        if not text.startswith(":-", colon):
            return None
        quote = min(self._find('"', start), self._find("'", start))
        if brace < quote:
            return text[start:brace], brace + 1
        if quote != start or start == len(text):
            return None
        close = text.find(text[quote], start + 1)
        if close < 0 or not text.startswith("}", close + 1):
            return None
        return text[start + 1 : close], close + 2

    def _find(self, character: str, start: int) -> int:
        """Return where `character` stands next, the length of the text if nowhere; `start` never goes back."""
        if self._next.get(character, -1) < start:
            found = self._text.find(character, start)
            self._next[character] = len(self._text) if found < 0 else found
        return self._next[character]


def parse(text: str) -> Document:
    """Parse the JSON object in `text` as JsonCpp does by default; raise Malformed with the place.

    Beyond JSON it takes comments, a comma after the last entry, any character in a string, leading zeros
    and a plus; of a key that is there twice the last one counts; what follows the object is not looked at.
    """
    return _Parser(text).document()


class _Places:
    """Lines and columns of positions in a text."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def of(self, position: int) -> tuple[int, int]:
        line = bisect_right(self._starts, position)
        return line, position - self._starts[line - 1] + 1


_SKIPPED = re.compile(r"(?:[ \t\r\n]++|//[^\r\n]*+|/\*.*?\*/)*+", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d*+(?:\.\d*+)?(?:[eE][-+]?\d*+)?", re.ASCII)
_HEX = "[0-9A-Fa-f]"
_ESCAPE = re.compile(
    rf"\\(?:u([dD][89abAB]{_HEX}{{2}})(?:\\u({_HEX}{{4}}))?|u({_HEX}{{4}})|(.))", re.DOTALL
)  # of two halves, of one, and of a letter
_ESCAPED = {'"': '"', "/": "/", "\\": "\\", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ENTRY = re.compile(r'[ \t]*"[^"\\]*"[ \t]*:[ \t]*(?:"[^"\\]*"|[\w.+-]+)[ \t]*,?[ \t\r]*(?://.*)?')
_WORDS = {"true": True, "false": False, "null": None}
_LONGEST_INTEGER = 18  # digits; JsonCpp makes a longer one a floating-point number


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 1 if text.startswith("\ufeff") else 0
        self._places = _Places(text)
        self._lines: dict[str, int] = {}
        self._repeated: list[str] = []

    def document(self) -> Document:
        self._skip()
        if not self._text.startswith("{", self._at):
            raise self._malformed("a configuration begins with `{`")
        values = self._object(1)
        rows = self._text.split("\n")
        simple = {line for line in set(self._lines.values()) if _ENTRY.fullmatch(rows[line - 1])}
        alone = frozenset(key for key, line in self._lines.items() if line in simple)
        return Document(values, self._lines, tuple(dict.fromkeys(self._repeated)), alone)

    def _value(self, depth: int) -> Any:
        first = self._text[self._at : self._at + 1]
        if depth > _DEEPEST:
            raise self._malformed(f"nested more than {_DEEPEST} deep")
        if first == "{":
            return self._object(depth)
        if first == "[":
            return self._array(depth)
        if first == '"':
            return self._string()
        if first and first in "-+0123456789":
            return self._number()
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        raise self._malformed("a value is missing or none that JSON has")

    def _object(self, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        self._at += 1
        while not self._takes("}"):
            if not self._text.startswith('"', self._at):
                raise self._malformed("a name in double quotes or `}` is missing")
            place = self._at
            name = self._string()
            if depth == 1:
                if name in values:
                    self._repeated.append(name)
                self._lines[name] = self._places.of(place)[0]
            if not self._takes(":"):
                raise self._malformed("`:` is missing after a name")
            self._skip()
            values[name] = self._value(depth + 1)
            if not self._takes(",") and not self._text.startswith("}", self._at):
                raise self._malformed("`,` or `}` is missing")
        return values

    def _array(self, depth: int) -> list[Any]:
        values: list[Any] = []
        self._at += 1
        while not self._takes("]"):
            values.append(self._value(depth + 1))
            if not self._takes(",") and not self._text.startswith("]", self._at):
                raise self._malformed("`,` or `]` is missing")
        return values

    def _takes(self, character: str) -> bool:
        """Go past what is skipped, `character` if it comes then, and what is skipped after it."""
        self._skip()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        if character in ",{[":
            self._skip()
        return True

    def _skip(self) -> None:
        found = _SKIPPED.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise self._malformed("a string is not closed")
        start, self._at = found.start(1), found.end()
        return _ESCAPE.sub(lambda escape: self._unescaped(escape, start), found[1])

    def _unescaped(self, escape: re.Match[str], start: int) -> str:
        high, low, whole, letter = escape.groups()
        if whole is not None:
            # Half a character is three bytes to JsonCpp, as it would be in UTF-8.
            return chr(int(whole, 16)).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
        if letter in _ESCAPED:
            return _ESCAPED[letter]
        if low is not None:
            return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))
        self._at = start + escape.start()
        if high is not None:
            raise self._malformed("half a character: the second `\\u` is missing")
        raise self._malformed(f"`\\{letter}` is no escape that JSON has")

    def _number(self) -> int | float:
        found = _NUMBER.match(self._text, self._at)
        assert found is not None
        digits = found[0].lstrip("-+")
        try:
            value = int(found[0]) if digits.isdigit() and len(digits) <= _LONGEST_INTEGER else float(found[0])
        except ValueError:
            raise self._malformed("a number is not complete") from None
        self._at = found.end()
        return value

    def _malformed(self, why: str) -> Malformed:
        return Malformed(why, *self._places.of(self._at))
