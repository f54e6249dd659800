"""Where data elements begin and end (PS3.5 7): pure steps over bytes, for the head reader.

Nothing here reads a value it was not asked for, and no length that stands in the bytes is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import NamedTuple

from dicomtls_cli.services.files.syntax import TransferSyntax

MAX_VALUE = 65536
"""The longest value, in bytes, that is returned as text; no text of interest is longer."""
MAX_NESTING = 64
"""How many sequences of undefined length may be open inside each other."""
UNDEFINED = 0xFFFFFFFF

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# PS3.5 7.1.2: these have two reserved bytes and a length of 32 bits.
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
VRS = LONG_VRS | SHORT_VRS
_MAY_BE_UNDEFINED = frozenset({b"", b"SQ", b"UN", b"OB", b"OW"})


class HeadError(Exception):
    """These bytes are not what they are said to be; the text says where and why."""


class ShortError(Exception):
    """The bytes end too early: at least `need`, counted from the start, are needed to go on."""

    def __init__(self, need: int) -> None:
        self.need = need
        super().__init__(need)


class Encoding(NamedTuple):
    """How tags, VRs and lengths stand in the bytes: `item` is a tag and a length, without VR between them."""

    implicit: bool
    item: struct.Struct
    explicit: struct.Struct
    long: struct.Struct


def _encoding(implicit: bool, order: str) -> Encoding:
    return Encoding(implicit, *(struct.Struct(order + code) for code in ("HHL", "HH2sH", "L")))


IMPLICIT_LITTLE = _encoding(True, "<")
EXPLICIT_LITTLE = _encoding(False, "<")
EXPLICIT_BIG = _encoding(False, ">")


def of_syntax(syntax: TransferSyntax) -> Encoding:
    """Return how elements stand in a data set of `syntax`, a deflated one once it is inflated."""
    if syntax.big_endian:
        return EXPLICIT_BIG
    return IMPLICIT_LITTLE if syntax.implicit else EXPLICIT_LITTLE


class Element(NamedTuple):
    """The header of a data element; `vr` is empty where the encoding has none."""

    tag: int
    vr: bytes
    length: int
    value_at: int


def name_of(tag: int) -> str:
    """Return `tag` as the standard writes it: (0008,0018)."""
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def tag_at(data: memoryview, at: int, encoding: Encoding) -> int:
    """Return the tag that stands at byte `at`. Raises ShortError."""
    return item_at(data, at, encoding)[0]


def item_at(data: memoryview, at: int, encoding: Encoding) -> tuple[int, int]:
    """Return tag and length of the item or delimiter at byte `at` (PS3.5 7.5). Raises ShortError."""
    if len(data) < at + 8:
        raise ShortError(at + 8)  # no element or item is shorter
    group, element, length = encoding.item.unpack_from(data, at)
    return group << 16 | element, length


def element_at(data: memoryview, at: int, encoding: Encoding) -> Element:
    """Return the element whose header is at byte `at` (PS3.5 7.1.2, 7.1.3). Raises ShortError, HeadError."""
    if encoding.implicit:
        tag, length = item_at(data, at, encoding)
        return Element(tag, b"", length, at + 8)
    if len(data) < at + 8:
        raise ShortError(at + 8)
    group, element, vr, short = encoding.explicit.unpack_from(data, at)
    tag = group << 16 | element
    if vr in SHORT_VRS:
        return Element(tag, vr, short, at + 8)
    if vr not in LONG_VRS:
        raise HeadError(f"{name_of(tag)} at byte {at} has the unknown value representation {vr!r}")
    if len(data) < at + 12:
        raise ShortError(at + 12)
    return Element(tag, vr, encoding.long.unpack_from(data, at + 8)[0], at + 12)


def any_element_at(data: memoryview, at: int, encoding: Encoding) -> Element:
    """Return the element whose header is at byte `at`, also where its VR is none. Raises ShortError, HeadError.

    Letters may be a VR of a later standard: a long length then follows two reserved bytes that are zero (PS3.5
    7.1.2), else a short one. Other bytes are the length of an element without VR, as some writers mix them in.
    """
    if encoding.implicit or bytes(data[at + 4 : at + 6]) in VRS or len(data) < at + 12:
        return element_at(data, at, encoding)
    group, number, vr, short = encoding.explicit.unpack_from(data, at)
    if not b"AA" <= vr <= b"ZZ":  # pydicom's rule
        tag, length = item_at(data, at, encoding)
        return Element(tag, b"", length, at + 8)
    tag = group << 16 | number
    if short:
        return Element(tag, vr, short, at + 8)
    return Element(tag, vr, encoding.long.unpack_from(data, at + 8)[0], at + 12)


def skip_plain(
    data: memoryview,
    at: int,
    last: int,
    stop: int,
    encoding: Encoding,
    wanted: Collection[int] = (),
    values: dict[int, str] | None = None,
) -> tuple[int, int]:
    """Go past the plain elements that `data` shows from byte `at`: most of any head, so a tight loop.

    Plain are those of a defined length, with explicit VRs those of a short one, whose tags ascend from `last`
    and are less than `stop`. The texts of those `wanted` are put into `values`; one that `data` does not show
    whole, or that is too long, ends the loop. Returns where the next element begins, which may lie beyond the
    data, and the tag before it.
    """
    size, implicit = len(data), encoding.implicit
    unpack = (encoding.item if implicit else encoding.explicit).unpack_from
    values = {} if values is None else values
    while at + 8 <= size:
        if implicit:
            group, number, length = unpack(data, at)
            is_plain = length != UNDEFINED
        else:
            group, number, vr, length = unpack(data, at)
            is_plain = vr in SHORT_VRS
        tag = group << 16 | number
        if not is_plain or not last < tag < stop:
            break
        end = at + 8 + length
        if tag in wanted:
            if end > size or length > MAX_VALUE:
                break
            values[tag] = bytes(data[at + 8 : end]).decode("latin-1").rstrip("\0 ")
        last, at = tag, end
    return at, last


def text_of(data: memoryview, element: Element) -> str:
    """Return the value as text, a character per byte, without trailing NULs and spaces.

    Raises ShortError, and HeadError when the element is a sequence or longer than MAX_VALUE.
    """
    if element.length > MAX_VALUE or element.vr == b"SQ":
        raise HeadError(f"{name_of(element.tag)} is no text, or one of more than {MAX_VALUE} bytes")
    end = element.value_at + element.length
    if len(data) < end:
        raise ShortError(end)
    return bytes(data[element.value_at : end]).decode("latin-1").rstrip("\0 ")


def end_of(data: memoryview, element: Element, encoding: Encoding) -> int:
    """Return where the element after `element` begins; with a defined length it may lie beyond the data.

    Raises ShortError and HeadError where the end of an undefined length (PS3.5 7.5) cannot be found.
    """
    if element.length != UNDEFINED:
        return element.value_at + element.length
    at = element.value_at
    # What is open around `at`: the encoding, and whether items (of a sequence, or fragments) are expected or
    # the elements of one item. A list instead of recursion: a peer chooses how deep this goes.
    stack = [(encoding_inside(element, encoding), True)]
    while stack:
        if len(stack) > 2 * MAX_NESTING:
            raise HeadError(f"sequences are nested more than {MAX_NESTING} deep at byte {at}")
        encoding, in_sequence = stack[-1]
        tag, length = item_at(data, at, encoding)
        if tag == (_SEQUENCE_END if in_sequence else _ITEM_END):
            stack.pop()
            at += 8
        elif in_sequence:
            if tag != _ITEM:
                raise HeadError(f"{name_of(tag)} stands at byte {at} where an item should begin")
            at += 8
            if length == UNDEFINED:
                stack.append((encoding, False))
            else:
                at += length
        else:
            inner = element_at(data, at, encoding)
            at = inner.value_at
            if inner.length == UNDEFINED:
                stack.append((encoding_inside(inner, encoding), True))
            else:
                at += inner.length
    return at


def encoding_inside(element: Element, encoding: Encoding) -> Encoding:
    """Return the encoding inside an element of undefined length: in UN it is implicit VR (PS3.5 6.2.2).

    Raises HeadError where its VR cannot have an undefined length.
    """
    if element.vr not in _MAY_BE_UNDEFINED:
        raise HeadError(f"{name_of(element.tag)} has the undefined length that {element.vr!r} cannot have")
    return IMPLICIT_LITTLE if element.vr == b"UN" else encoding
