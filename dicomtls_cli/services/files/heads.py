"""Heads of instances that come one after the other, read fast: mostly their elements are as long as those before.

What `head` finds step by step is then seen at once: the same headers in the same places, and so the values in theirs.
"""

from __future__ import annotations

import struct
import threading
from typing import NamedTuple

from dicomtls_cli.services.files import elements
from dicomtls_cli.services.files.head import (
    PREAMBLE_LENGTH,
    Buffer,
    FileMeta,
    Head,
    NeedMore,
    read_head,
    read_meta,
)
from dicomtls_cli.services.files.syntax import EXPLICIT_LITTLE
from dicomtls_cli.services.files.syntax import transfer_syntax as syntax_of

_MOST_SHAPES = 4  # UIDs and numbers have one digit more or less
_MOST_ELEMENTS = 500  # of a shape: some 80 bytes are kept for each, and a peer may send 100,000 empty ones
_MOST_MISSES = 32  # in a row, after which nothing is to be expected any more
_NOTHING: frozenset[int] = frozenset()
_META_AT = PREAMBLE_LENGTH + 4
_META_GROUP = b"\x02\x00"
_META_UIDS = frozenset((0x00020002, 0x00020003, 0x00020010))


class _Shape(NamedTuple):
    """Where the headers of a head stand up to the last wanted value, what they are, and where the values are."""

    transfer_syntax: str
    headers: struct.Struct
    expected: tuple[bytes, ...]
    values: struct.Struct
    tags: tuple[int, ...]


class HeadReader(threading.local):
    """Reads heads as `read_head` does for the `wanted` tags; each thread has its own memory of what came before."""

    def __init__(self, wanted: frozenset[int]) -> None:
        self._wanted = wanted
        self._shapes: list[_Shape] = []
        self._misses = 0

    def read(self, data: Buffer, transfer_syntax: str, *, complete: bool) -> Head:
        """Return what `read_head` returns, and raise what it raises."""
        for syntax, headers, expected, values, tags in self._shapes:
            if (
                syntax == transfer_syntax
                and len(data) >= headers.size
                and headers.unpack_from(data) == expected
            ):
                self._misses = 0
                texts = [str(value, "latin-1").rstrip("\0 ") for value in values.unpack_from(data)]
                return Head(dict(zip(tags, texts, strict=True)), _NOTHING, 0)
        head = read_head(data, transfer_syntax, self._wanted, complete=complete)
        if not head.need and not head.absent and self._misses < _MOST_MISSES:
            self._learn(data, transfer_syntax)
        return head

    def _learn(self, data: Buffer, transfer_syntax: str) -> None:
        self._misses += 1
        with memoryview(data) as view:
            shape = _shape_of(view, transfer_syntax, self._wanted)
        if self._misses == _MOST_MISSES or shape is None:
            self._shapes = []
        else:
            self._shapes = [shape, *self._shapes[: _MOST_SHAPES - 1]]


class MetaReader:
    """Reads preamble, prefix and file meta information as `read_meta` does."""

    def __init__(self) -> None:
        self._shape: _Shape | None = None

    def read(self, data: bytes) -> FileMeta | NeedMore:
        """Return what `read_meta` returns, and raise what it raises."""
        if self._shape is not None and (meta := _meta_in(data, self._shape)) is not None:
            return meta
        found = read_meta(data)
        if isinstance(found, FileMeta):
            with memoryview(data)[_META_AT:] as view:
                shape = _shape_of(view, EXPLICIT_LITTLE, _META_UIDS, end=found.offset - _META_AT)
            # What is odd about it, a UID that is missing, shows in that the shape does not give the same.
            self._shape = shape if shape is not None and _meta_in(data, shape) == found else None
        return found


def _meta_in(data: bytes, shape: _Shape) -> FileMeta | None:
    """Return the file meta of `data` where it has that shape, else None."""
    end = _META_AT + shape.headers.size
    if (
        data[PREAMBLE_LENGTH:_META_AT] != b"DICM"
        or len(data) < end + 8  # the header of the element that ends it
        or data[end : end + 2] == _META_GROUP
        or shape.headers.unpack_from(data, _META_AT) != shape.expected
        or len(shape.tags) != len(_META_UIDS)
    ):
        return None
    sop_class, sop_instance, syntax = (
        str(value, "latin-1").rstrip("\0 ") for value in shape.values.unpack_from(data, _META_AT)
    )
    # Deflated bytes may look like group 0002: there the length of the group counts.
    return None if syntax_of(syntax).deflated else FileMeta(syntax, sop_class, sop_instance, end)


def _shape_of(
    view: memoryview, transfer_syntax: str, wanted: frozenset[int], *, end: int | None = None
) -> _Shape | None:
    """Return the shape of a head in which all that is wanted was found, up to the last of it or to byte `end`.

    None where more than lengths make it up, or where it has too many elements.
    """
    syntax = syntax_of(transfer_syntax)
    if syntax.deflated or not wanted:
        return None
    encoding = elements.of_syntax(syntax)
    headers: list[str] = []
    values: list[str] = []
    tags: list[int] = []
    at = behind = 0
    greatest = max(wanted)
    while (not tags or tags[-1] != greatest) if end is None else at < end:
        element = elements.element_at(view, at, encoding)
        if element.length == elements.UNDEFINED or len(headers) == _MOST_ELEMENTS:
            return None
        after = element.value_at + element.length
        headers.append(f"{element.value_at - at}s{element.length}x")
        if element.tag in wanted and (end is None or element.vr == b"UI"):  # all that file meta is read for
            values.append(f"{element.value_at - behind}x{element.length}s")
            tags.append(element.tag)
            behind = after
        at = after
    in_place = struct.Struct("".join(headers))
    return _Shape(
        transfer_syntax, in_place, in_place.unpack_from(view), struct.Struct("".join(values)), tuple(tags)
    )
