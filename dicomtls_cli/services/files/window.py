"""A file of any size looked at through a small window, for those who go from element to element."""

from __future__ import annotations

import os

from dicomtls_cli.services.files import elements
from dicomtls_cli.services.files.elements import UNDEFINED, Element, Encoding, HeadError, ShortError

_STEP = 8 * 1024
_NESTED_LIMIT = 16 << 20  # bytes of one element of undefined length that are looked through
LIMIT = 64 << 20
"""How many bytes of a file are looked through: what it says of itself must not keep us busy."""


class Window:
    """Elements of the file `file`, a descriptor; every position is a byte of the file.

    `start` is what was read of it already, `size` its size, `limit` how much is read of it at most, in bytes.
    """

    def __init__(self, file: int, start: bytes, size: int, encoding: Encoding, limit: int = LIMIT) -> None:
        self.size = size
        self.encoding = encoding
        self._file = file
        self._base = 0
        self._shown = memoryview(start)
        self._left = limit

    def element_at(self, at: int) -> Element:
        """Return the element whose header is at byte `at`. Raises ShortError at the end, HeadError."""
        self._show(at, 12)
        tag, vr, length, value_at = elements.element_at(self._shown, at - self._base, self.encoding)
        return Element(tag, vr, length, self._base + value_at)

    def item_at(self, at: int, *, step: int = _STEP) -> tuple[int, int]:
        """Return tag and length of the item or delimiter at byte `at`. Raises ShortError, HeadError.

        `step` is how many bytes are read there at least: few where the next item is far away.
        """
        self._show(at, 8, step)
        return elements.item_at(self._shown, at - self._base, self.encoding)

    def skip_plain(self, at: int, last: int, stop: int) -> tuple[int, int]:
        """Go past plain elements as `elements.skip_plain` does, as far as is shown already."""
        here = at - self._base
        if here < 0:
            return at, last
        here, last = elements.skip_plain(self._shown, here, last, stop, self.encoding)
        return self._base + here, last

    def bytes_at(self, at: int, count: int) -> bytes:
        """Return the `count` bytes at byte `at`, fewer at the end of the file. Raises HeadError."""
        self._show(at, count)
        return bytes(self._shown[at - self._base : at - self._base + count])

    def end_of(self, element: Element, at: int) -> int:
        """Return where the element after `element`, which begins at byte `at`, begins.

        With a defined length it may lie beyond the file. Raises ShortError where the file ends before the end
        of an undefined length, HeadError where that cannot be found.
        """
        if element.length != UNDEFINED:
            return element.value_at + element.length
        count = _STEP
        while True:
            header = element._replace(value_at=element.value_at - self._base)
            try:
                return self._base + elements.end_of(self._shown, header, self.encoding)
            except ShortError:
                if self._base + len(self._shown) >= self.size:
                    raise
            if count > _NESTED_LIMIT:
                raise HeadError(f"{elements.name_of(element.tag)} is too long to be looked through")
            self._show(at, count)
            count *= 4

    def _show(self, at: int, count: int, step: int = _STEP) -> None:
        """Have `count` bytes at `at` in the window, as far as the file has them."""
        if self._base <= at and at + count <= self._base + len(self._shown):
            return
        count = max(count, step)
        self._left -= count
        if self._left < 0:
            raise HeadError("its elements are too many to be looked through")
        self._base, self._shown = at, memoryview(os.pread(self._file, count, at))
