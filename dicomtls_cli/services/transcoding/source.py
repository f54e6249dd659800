"""A data set read from front to back, a header at a time (PS3.5 section 7), from a file of any size.

Every length that stands in the bytes is checked against what encloses it before it is used, and nesting has a
limit: bytes that are not what they should be end in HeadError, after work that grows with their number only.
"""

from __future__ import annotations

from typing import IO

from dicomtls_cli.services.files import elements
from dicomtls_cli.services.files.elements import (
    LONG_VRS,
    MAX_NESTING,
    UNDEFINED,
    VRS,
    Element,
    Encoding,
    HeadError,
)

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
DELIMITERS = 0xFFFE
"""The group of the three tags that structure sequences."""

_BLOCK = 1 << 18


class Source:
    """A data set in a file: where it is read next, and where it ends.

    What reading the file raises is its OSError.
    """

    def __init__(self, file: IO[bytes], start: int, end: int) -> None:
        self.file = file
        self.end = end
        self.move(start)

    def move(self, at: int) -> None:
        """Go on reading at byte `at` of the file."""
        self.file.seek(at)
        self.at = at

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes. Raises HeadError where the file has fewer."""
        data = self.file.read(count)
        self.at += len(data)
        if len(data) < count:
            raise HeadError(f"the data set ends at byte {self.at}, in the middle of an element")
        return data

    def item(self, encoding: Encoding, limit: int) -> tuple[int, int, int]:
        """Return the tag and the length that stand next, and where what they announce ends.

        Where the length is undefined, that is `limit`, the end of what encloses the item. Raises HeadError.
        """
        self._need(8, limit)
        group, number, length = encoding.item.unpack(self.read(8))
        end = limit if length == UNDEFINED else self.at + length
        if end > limit:
            raise HeadError(f"an item at byte {self.at - 8} has {length} bytes, more than there are")
        return group << 16 | number, length, end

    def element(self, encoding: Encoding, limit: int) -> Element:
        """Return the header that stands next (PS3.5 7.1); a delimiter counts as one, without VR.

        Raises HeadError, also where its value would end after `limit`.
        """
        self._need(8, limit)
        began, data = self.at, self.read(8)
        group, number, length = encoding.item.unpack(data)
        tag, vr = group << 16 | number, b""
        if not encoding.implicit and group != DELIMITERS:
            vr = data[4:6]
            if vr in LONG_VRS:
                self._need(4, limit)
                (length,) = encoding.long.unpack(self.read(4))
            elif vr in VRS:
                length = encoding.explicit.unpack(data)[3]
            else:
                name = elements.name_of(tag)
                raise HeadError(f"{name} at byte {began} has the unknown value representation {vr!r}")
        if length != UNDEFINED and self.at + length > limit:
            raise HeadError(
                f"{elements.name_of(tag)} at byte {began} has {length} bytes, more than there are"
            )
        return Element(tag, vr, length, self.at)

    def _need(self, count: int, limit: int) -> None:
        if self.at + count > limit:
            raise HeadError(f"what begins at byte {self.at} is cut off by the end of what it is in")

    def is_over(self, limit: int) -> bool:
        """Tell whether the data set ends here: at `limit`, or with nothing but NULs up to the end of the file.

        Some writers fill up the last block of a disk. Raises HeadError for NULs with something behind them.
        """
        if self.at >= limit:
            return True
        start = self.file.read(8)
        self.file.seek(self.at)
        if start.strip(b"\0"):
            return False
        while data := self.file.read(_BLOCK):
            if data.strip(b"\0"):
                raise HeadError(f"there is nothing at byte {self.at} where an element should begin")
        return True

    def real(self, encoding: Encoding) -> Encoding:
        """Return how the data set that stands next is encoded, where `encoding` is what it should be.

        Explicit VRs are known by their letters. Some writers have implicit VR in the sequences of an explicit
        data set, or the one or the other against the transfer syntax. Raises HeadError.
        """
        data = self.file.read(8)
        self.file.seek(self.at)
        if len(data) < 8 or encoding.item.unpack(data)[0] == DELIMITERS:
            return encoding
        if encoding.implicit:
            return elements.EXPLICIT_LITTLE if data[4:6] in VRS else encoding
        if data[4:6].isalpha() and data[4:6].isupper():
            return encoding
        if encoding is elements.EXPLICIT_BIG:
            raise HeadError(f"the data set at byte {self.at} is big endian and has no explicit VRs")
        return elements.IMPLICIT_LITTLE

    def skip(self, element: Element, encoding: Encoding, limit: int) -> None:
        """Go past the value of `element`, which `limit` ends at the latest. Raises HeadError."""
        if element.length != UNDEFINED:
            self.move(element.value_at + element.length)
            return
        # What is open here: the encoding, and whether items are expected or the elements of one. A list
        # instead of recursion: the bytes choose how deep this goes.
        stack = [(elements.encoding_inside(element, encoding), True)]
        while stack:
            check_depth(len(stack) // 2, self.at)
            encoding, in_sequence = stack[-1]
            if not in_sequence:
                inside = self.element(encoding, limit)
                if inside.tag == ITEM_END:
                    stack.pop()
                elif inside.length == UNDEFINED:
                    stack.append((elements.encoding_inside(inside, encoding), True))
                else:
                    self.move(self.at + inside.length)
                continue
            tag, length, end = self.item(encoding, limit)
            if tag == SEQUENCE_END:
                stack.pop()
            elif tag != ITEM:
                raise not_an_item(tag, self.at - 8)
            elif length == UNDEFINED:
                stack.append((self.real(encoding), False))
            else:
                self.move(end)

    def survey(self, encoding: Encoding, limit: int, groups: frozenset[int]) -> dict[int, Element]:
        """Return the elements of these groups by tag, of the data set that stands next, and stay before it.

        It ends at `limit`, or with a delimiter before that. Raises HeadError.
        """
        began, found = self.at, dict[int, Element]()
        while not self.is_over(limit):
            element = self.element(encoding, limit)
            if element.tag >> 16 == DELIMITERS:
                break
            if element.tag >> 16 in groups:
                found[element.tag] = element
            self.skip(element, encoding, limit)
        self.move(began)
        return found

    def tag(self, encoding: Encoding) -> int:
        """Return the tag that stands next, 0 at the end of the file, and stay before it."""
        data = self.file.read(8)
        self.file.seek(self.at)
        return elements.tag_at(memoryview(data.ljust(8, b"\0")), 0, encoding)

    def number(self, element: Element, encoding: Encoding) -> int:
        """Return the value of `element`, one number of any length, and stay where you are."""
        return int.from_bytes(self.value(element), "big" if encoding is elements.EXPLICIT_BIG else "little")

    def value(self, element: Element, most: int = 64) -> bytes:
        """Return the value of `element`, its first `most` bytes at most, and stay where you are."""
        began = self.at
        self.move(element.value_at)
        data = self.read(min(element.length, most))
        self.move(began)
        return data


def check_depth(depth: int, at: int) -> None:
    """Raise HeadError where sequences at byte `at` are nested deeper than any that is meant so."""
    if depth > MAX_NESTING:
        raise HeadError(f"sequences are nested more than {MAX_NESTING} deep at byte {at}")


def not_an_item(tag: int, at: int) -> HeadError:
    """Return the error that says that an item was to begin at byte `at`."""
    return HeadError(f"{elements.name_of(tag)} stands at byte {at} where an item should begin")
