"""Whether a DICOM file is all there: what its elements announce against what the file has.

A transfer or a disk that ended too early leaves a file whose head is good and whose pixels are not. Nobody
notices before a radiologist does, unless it is never sent.
"""

from __future__ import annotations

import os

from dicomtls_cli.services import elements
from dicomtls_cli.services.elements import UNDEFINED, Element, Encoding, HeadError, ShortError
from dicomtls_cli.services.syntax import transfer_syntax as encoding_of

_STEP = 8 * 1024
_LIMIT = 16 << 20  # bytes of one sequence of undefined length that are looked through
_PIXEL_TAG = b"\xe0\x7f\x10\x00"
_ITEM, _SEQUENCE_END, _PIXELS = 0xFFFEE000, 0xFFFEE0DD, 0x7FE00010


def what_lacks(file: int, start: bytes, size: int, offset: int, transfer_syntax: str) -> str:
    """Return in words what the file lacks at its end; "" when all of it is there, or when that cannot be told.

    `file` is its descriptor, `start` what was read of it, `size` its size, `offset` where its data set
    begins, in bytes. Only the headers of the top level are read (PS3.5 7.1), never a value. A deflated data
    set, and one that is not what its transfer syntax says, cannot be told.
    """
    syntax = encoding_of(transfer_syntax)
    if syntax.deflated:
        return ""
    encoding = elements.IMPLICIT_LITTLE if syntax.implicit else elements.EXPLICIT_LITTLE
    if syntax.big_endian:
        encoding = elements.EXPLICIT_BIG
    elif _ends_with_pixels(start, size, syntax.implicit):
        return ""
    try:
        return _Walk(file, start, size, encoding).lacking(offset)
    except HeadError:
        return ""


def _ends_with_pixels(start: bytes, size: int, implicit: bool) -> bool:
    """Tell whether the native pixel data that `start` shows ends exactly where the file does.

    That is most images, and spares them the walk: such a length is not there by chance.
    """
    at = start.find(_PIXEL_TAG)
    if at < 0:
        return False
    if implicit:
        return at + 8 + int.from_bytes(start[at + 4 : at + 8], "little") == size
    is_long = start[at + 4 : at + 8] in (b"OW\0\0", b"OB\0\0")
    return is_long and at + 12 + int.from_bytes(start[at + 8 : at + 12], "little") == size


class _Walk:
    """From header to header, through a window on the file."""

    def __init__(self, file: int, start: bytes, size: int, encoding: Encoding) -> None:
        self.file = file
        self.size = size
        self.encoding = encoding
        self.base = 0
        self.window = memoryview(start)

    def lacking(self, at: int) -> str:
        last = -1
        while at < self.size:
            if not self.encoding.implicit:
                at, last = self._skip_short(at, last)
                if at >= self.size:
                    break
            self._show(at, 12)
            try:
                element = elements.element_at(self.window, at - self.base, self.encoding)
            except ShortError:
                padding = bytes(self.window[at - self.base :]).strip(b"\0")
                return f"it ends in the middle of an element, at byte {self.size}" if padding else ""
            if not last < element.tag < _ITEM:
                return ""  # not as it should be, and not for us to judge
            last = element.tag
            try:
                at = self._end_of(element, at)
            except ShortError:
                at = self.size + 1
            if at > self.size:
                return f"it ends at byte {self.size}, in the middle of {elements.name_of(element.tag)}"
        if at > self.size:
            return f"it ends at byte {self.size}, in the middle of {elements.name_of(last)}"
        return ""

    def _skip_short(self, at: int, last: int) -> tuple[int, int]:
        """Go past the elements with a short length that the window shows, most of any head, in a tight loop.

        Returns where the next element begins, and the tag before it.
        """
        unpack, short, end = self.encoding.explicit.unpack_from, elements.SHORT_VRS, len(self.window) - 8
        here = at - self.base
        while 0 <= here <= end:
            group, number, vr, length = unpack(self.window, here)
            tag = group << 16 | number
            if vr not in short or tag <= last:
                break
            last, here = tag, here + 8 + length
        return self.base + here, last

    def _show(self, at: int, count: int) -> None:
        """Move the window so that it shows `count` bytes at `at`, as far as the file has them."""
        if at < self.base or at + count > self.base + len(self.window):
            self.base, self.window = at, memoryview(os.pread(self.file, max(count, _STEP), at))

    def _end_of(self, element: Element, at: int) -> int:
        """Return where the element after `element`, which begins at `at`, begins. Raises ShortError."""
        value_at = self.base + element.value_at
        if element.length != UNDEFINED:
            return value_at + element.length
        if element.tag == _PIXELS:
            return self._end_of_fragments(value_at)
        count = _STEP
        while True:
            self._show(at, count)
            try:
                header = elements.element_at(self.window, at - self.base, self.encoding)
                return self.base + elements.end_of(self.window, header, self.encoding)
            except ShortError:
                if self.base + len(self.window) >= self.size:
                    raise
            count *= 4
            if count > _LIMIT:
                raise HeadError("a sequence too long to be looked through")

    def _end_of_fragments(self, at: int) -> int:
        item = self.encoding.item
        while True:
            self._show(at, item.size)
            if len(self.window) < at - self.base + item.size:
                raise ShortError(at + item.size)
            group, number, length = item.unpack_from(self.window, at - self.base)
            at += item.size
            if group << 16 | number == _SEQUENCE_END:
                return at
            if group << 16 | number != _ITEM or length == UNDEFINED:
                raise HeadError(f"no fragment at byte {at}")
            at += length
