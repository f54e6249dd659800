"""A data set in another encoding, element by element, in constant memory (PS3.5 section 7 and Annex A).

Values are copied as bytes and never interpreted: text keeps its characters whatever their set, numbers change
the order of their bytes and nothing else.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import IO, NamedTuple

from dicomtls_cli.services.files.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED,
    Element,
    Encoding,
    HeadError,
    encoding_inside,
    name_of,
)
from dicomtls_cli.services.transcoding.source import (
    DELIMITERS,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    Source,
    check_depth,
    not_an_item,
)
from dicomtls_cli.services.transcoding.vocabulary import vr_of

PIXEL_DATA = 0x7FE00010
BITS_ALLOCATED, PIXEL_REPRESENTATION = 0x00280100, 0x00280103

_ICON_IMAGES = 0x00880200
_LENGTH_TO_END = 0x00080001  # retired; it counts the bytes of the old encoding
_IMAGE_GROUP = frozenset({0x0028})
_HEADER, _LENGTH = struct.Struct("<HHL"), struct.Struct("<L")
_SHORT_HEADER, _LONG_HEADER = struct.Struct("<HH2sH"), struct.Struct("<HH2sxxL")
_LONGEST_SHORT = 0xFFFE  # bytes of a value whose VR has a length of 16 bits
_BLOCK = 1 << 18  # bytes of a value that are in memory at a time; a multiple of every width
_TEXT = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UR UT".split())
# PS3.5 7.3: words of so many bytes have them in the other order in big endian.
_WIDTH = {
    **dict.fromkeys(b"AT OW SS US".split(), 2),
    **dict.fromkeys(b"FL OF OL SL UL".split(), 4),
    **dict.fromkeys(b"FD OD OV SV UV".split(), 8),
}
_WORDS = {array(code).itemsize: code for code in "HIQ"}


class Plan(NamedTuple):
    """What becomes of a data set whose pixel data is replaced.

    `values`: by tag, the VR and the value of elements, whether the data set had them or not; `dropped`:
    elements left out; `vr`, `length`, `blocks`: the new pixel data, its length in bytes (even) and its bytes.
    """

    values: Mapping[int, tuple[bytes, bytes]]
    dropped: frozenset[int]
    vr: bytes
    length: int
    blocks: Iterable[bytes]


Planner = Callable[[Source, Encoding, int], Plan | None]
"""Tells what becomes of the data set that stands next in the source, has this encoding and ends at this byte
or with a delimiter before it; None where its pixel data stays. Leaves the source where it stands."""


def recode(
    source: Source, encoding: Encoding, out: IO[bytes], *, implicit: bool, planner: Planner | None = None
) -> int:
    """Write the data set of `source` to `out` in implicit or explicit VR little endian; return its length.

    `encoding` is what its transfer syntax says. Group lengths are left out (PS3.5 7.2), odd values padded, and
    a value too long for its VR in explicit form becomes UN (6.2.2); all else stays as it is. `planner` is
    asked for the data set and for the icon images in it; encapsulated pixel data it has no plan for cannot be
    in the result. Raises HeadError; what reading and writing raise is OSError.
    """
    encoding = source.real(encoding)
    signed = False
    if encoding.implicit and not implicit:  # elements before Pixel Representation depend on it too
        found = source.survey(encoding, source.end, _IMAGE_GROUP).get(PIXEL_REPRESENTATION)
        signed = found is not None and source.value(found) == b"\1\0"
    recoder = _Recoder(source, out, planner)
    recoder.data_set(_Level(encoding, implicit, source.end, False, 0), signed, has_plan=True)
    return recoder.length


class _Level(NamedTuple):
    """Where in the nesting we are: `limit` is the byte that ends what is open, `delimited` that a delimiter
    does so before.
    """  # noqa: D205 - one sentence, two lines

    encoding: Encoding
    implicit: bool  # the target
    limit: int
    delimited: bool
    depth: int

    @property
    def is_same(self) -> bool:
        """Whether the bytes of values and sequences are those of the target already."""
        return self.encoding is (IMPLICIT_LITTLE if self.implicit else EXPLICIT_LITTLE)


class _Recoder:
    """One data set on its way from `source` to `out`."""

    def __init__(self, source: Source, out: IO[bytes], planner: Planner | None) -> None:
        self.source = source
        self.out = out
        self.planner = planner
        self.length = 0

    def data_set(self, level: _Level, signed: bool, *, has_plan: bool) -> None:
        """Write the data set that stands next, up to its end.

        `signed` tells that the Pixel Representation around it is 1, `has_plan` that the planner is asked.
        """
        source = self.source
        plan = self.planner(source, level.encoding, level.limit) if self.planner and has_plan else None
        pending = sorted(plan.values.items()) if plan else []
        left_out = plan.dropped | plan.values.keys() if plan else frozenset()
        bits = 0
        while level.delimited or source.at < level.limit:
            if level.depth == 0 and source.is_over(level.limit):
                break
            element = source.element(level.encoding, level.limit)
            tag = element.tag
            if tag == ITEM_END and level.delimited:
                break
            while pending and pending[0][0] <= tag:
                self._new(*pending.pop(0), level)
            if tag in left_out or not tag & 0xFFFF or tag == _LENGTH_TO_END:
                source.skip(element, level.encoding, level.limit)
                continue
            if tag == PIXEL_DATA:
                if plan:
                    self._new_pixels(plan, level)
                    source.move(element.value_at)
                    source.skip(element, level.encoding, level.limit)
                    continue
                self._check_pixels(element, level, bits)
            elif tag == PIXEL_REPRESENTATION and element.length == 2:
                signed = source.number(element, level.encoding) == 1
            elif tag == BITS_ALLOCATED and element.length == 2:
                bits = source.number(element, level.encoding)
            self._element(element, element.vr or vr_of(tag, signed=signed), level, signed)
        for new in pending:
            self._new(*new, level)

    def _check_pixels(self, element: Element, level: _Level, bits: int) -> None:
        """Raise HeadError where pixel data that nobody has a plan for cannot be what it is said to be."""
        if element.length == UNDEFINED:
            raise HeadError(f"{name_of(element.tag)} is encapsulated, against the transfer syntax")
        if self.planner and level.depth == 0 and element.length:
            raise HeadError(f"{name_of(element.tag)} is not encapsulated, against the transfer syntax")
        # By PS3.5 7.3 the 16-bit words of OW are swapped, and DCMTK does so; pydicom and others swap all bytes
        # of a pixel. Which of the two a writer meant cannot be told from the bytes.
        if level.encoding is EXPLICIT_BIG and bits > (16 if element.vr == b"OW" else 8):
            vr = element.vr.decode()
            raise HeadError(
                f"big endian pixels of {bits} bits in {vr} are written in two ways, and may be either"
            )

    def _element(self, element: Element, vr: bytes, level: _Level, signed: bool) -> None:
        if element.tag >> 16 == DELIMITERS:
            raise HeadError(
                f"{name_of(element.tag)} stands at byte {element.value_at - 8} outside of a sequence"
            )
        if element.length == UNDEFINED:
            if vr not in (b"SQ", b"UN"):
                raise HeadError(f"{name_of(element.tag)} has an undefined length and is no sequence")
            inside = level._replace(encoding=encoding_inside(element, level.encoding))
            if element.vr == b"UN":  # what is in it is implicit in either form
                self._sequence(element, b"UN", inside._replace(implicit=True), level.implicit, signed)
            else:
                self._sequence(element, b"SQ", inside, level.implicit, signed)
        elif vr != b"SQ" or (level.is_same and not self.planner):
            self._value(element, vr, level)
        elif element.vr or not element.length or self.source.tag(level.encoding) == ITEM:
            self._sequence(element, vr, level, level.implicit, signed)
        else:
            self._value(element, b"UN", level)  # the dictionary is wrong about it

    def _sequence(self, element: Element, vr: bytes, level: _Level, implicit: bool, signed: bool) -> None:
        """Write a sequence; `level` is that of its items, `implicit` how its own header is written."""
        source, undefined = self.source, element.length == UNDEFINED
        check_depth(level.depth, element.value_at)
        end = level.limit if undefined else element.value_at + element.length
        self._header(element.tag, vr, UNDEFINED if undefined else 0, implicit)
        began = self.length
        while undefined or source.at < end:
            tag, length, item_end = source.item(level.encoding, end)
            if tag == SEQUENCE_END and undefined:
                break
            if tag != ITEM:
                raise not_an_item(tag, source.at - 8)
            self._write(_HEADER.pack(0xFFFE, 0xE000, UNDEFINED if length == UNDEFINED else 0))
            item_began = self.length
            inside = _Level(
                source.real(level.encoding), level.implicit, item_end, length == UNDEFINED, level.depth + 1
            )
            self.data_set(inside, signed, has_plan=element.tag == _ICON_IMAGES)
            if length == UNDEFINED:
                self._write(_HEADER.pack(0xFFFE, 0xE00D, 0))
            else:
                self._correct_length(item_began)
        if undefined:
            self._write(_HEADER.pack(0xFFFE, 0xE0DD, 0))
        else:
            self._correct_length(began)

    def _correct_length(self, began: int) -> None:
        """Put the length of what was written since byte `began` into the four bytes before it."""
        length = self.length - began
        if length >= UNDEFINED:
            raise HeadError("a sequence becomes too long for its length")
        end = self.out.tell()
        self.out.seek(end - length - 4)
        self.out.write(_LENGTH.pack(length))
        self.out.seek(end)

    def _value(self, element: Element, vr: bytes, level: _Level) -> None:
        left = element.length
        padding = (b" " if vr in _TEXT else b"\0") * (left % 2)
        width = _WIDTH.get(vr, 1) if level.encoding is EXPLICIT_BIG else 1
        if left % width:
            raise HeadError(
                f"{name_of(element.tag)} has {left} bytes, no multiple of {width} as its VR needs"
            )
        if left > _LONGEST_SHORT and vr in SHORT_VRS:
            vr = b"UN"
        self._header(element.tag, vr, left + len(padding), level.implicit)
        while left:
            data = self.source.read(min(left, _BLOCK))
            left -= len(data)
            self._write(_swapped(data, width) if width > 1 else data)
        if padding:
            self._write(padding)

    def _new(self, tag: int, value: tuple[bytes, bytes], level: _Level) -> None:
        vr, data = value
        self._header(tag, vr, len(data), level.implicit)
        self._write(data)

    def _new_pixels(self, plan: Plan, level: _Level) -> None:
        self._header(PIXEL_DATA, plan.vr, plan.length, level.implicit)
        began = self.length
        for block in plan.blocks:
            self._write(block)
        if self.length - began != plan.length:
            raise HeadError(f"{self.length - began} bytes of pixels came out instead of {plan.length}")

    def _header(self, tag: int, vr: bytes, length: int, implicit: bool) -> None:
        if implicit:
            self._write(_HEADER.pack(tag >> 16, tag & 0xFFFF, length))
        elif vr in LONG_VRS:
            self._write(_LONG_HEADER.pack(tag >> 16, tag & 0xFFFF, vr, length))
        else:
            self._write(_SHORT_HEADER.pack(tag >> 16, tag & 0xFFFF, vr, length))

    def _write(self, data: bytes) -> None:
        self.out.write(data)
        self.length += len(data)


def _swapped(data: bytes, width: int) -> bytes:
    words = array(_WORDS[width], data)
    words.byteswap()
    return words.tobytes()
