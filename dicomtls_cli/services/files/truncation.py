"""How a DICOM file ends: what its elements announce against what the file has.

A transfer or a disk that ended too early leaves a file whose head is good and whose pixels are not. Nobody
notices before a radiologist does, unless it is never sent.
"""

from __future__ import annotations

from typing import NamedTuple

from dicomtls_cli.services.files import elements
from dicomtls_cli.services.files.elements import UNDEFINED, Encoding, HeadError, ShortError
from dicomtls_cli.services.files.syntax import transfer_syntax as syntax_of
from dicomtls_cli.services.files.window import Window

_ITEM, _SEQUENCE_END, _PIXELS = 0xFFFEE000, 0xFFFEE0DD, 0x7FE00010
_FRAGMENT_STEP = 64  # bytes; what is behind them is pixels
_MOST_FRAGMENTS = 1 << 19  # no image has more; a file that says so is not believed
_MOST_ELEMENTS = 1 << 16  # those that are not plain: sequences, and values that may be long


class Ending(NamedTuple):
    """How a DICOM file ends.

    `lacks` says in words what it lacks at its end, "" when nothing, or when that cannot be told. `is_sound`:
    its elements lead from its start to its very end. `encapsulated`: whether its pixel data is (PS3.5 A.4),
    None where none was seen.
    """

    lacks: str
    is_sound: bool
    encapsulated: bool | None


def ending(file: int, start: bytes, size: int, offset: int, transfer_syntax: str) -> Ending:
    """Tell how a file ends whose data set is encoded in `transfer_syntax`.

    `file` is its descriptor, `start` what was read of it, `size` its size, `offset` where its data set
    begins, in bytes. Only the headers of the top level are read (PS3.5 7.1), never a value. A deflated data
    set counts as sound; one that is not what its transfer syntax says cannot be told.
    """
    syntax = syntax_of(transfer_syntax)
    if syntax.deflated:
        return Ending("", True, None)
    encoding = elements.of_syntax(syntax)
    # Most images end with their pixel data. Where its header seems to be in sight, and what it says leads to
    # the very end of the file, that is not by chance, and the elements before need no walk.
    at = start.rfind(b"\x7f\xe0\x00\x10" if syntax.big_endian else b"\xe0\x7f\x10\x00", offset)
    if at >= 0:
        if not syntax.encapsulated and _is_native_to_the_end(start, at, size, encoding):
            return Ending("", True, False)
        short_cut = _Walk(Window(file, start, size, encoding)).run(at)
        if short_cut.is_sound and (short_cut.encapsulated == syntax.encapsulated or not syntax.known):
            return short_cut
    return _Walk(Window(file, start, size, encoding)).run(offset)


def _is_native_to_the_end(start: bytes, at: int, size: int, encoding: Encoding) -> bool:
    """Tell whether native pixel data that begins at byte `at` ends where the file does: most images' does."""
    length_at = at + (4 if encoding.implicit else 8)
    if not encoding.implicit and start[at + 4 : length_at] not in (b"OW\0\0", b"OB\0\0"):
        return False
    end = length_at + 4
    return len(start) >= end and end + encoding.long.unpack_from(start, length_at)[0] == size


class _Walk:
    """From header to header."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.size = window.size
        self.encapsulated: bool | None = None

    def run(self, at: int) -> Ending:
        try:
            lacks = self._lacking(at)
            return Ending(lacks, not lacks, self.encapsulated)
        except HeadError:  # not as it should be, and not for us to judge
            return Ending("", False, self.encapsulated)

    def _lacking(self, at: int) -> str:
        last = -1
        for _ in range(_MOST_ELEMENTS):
            at, last = self.window.skip_plain(at, last, _PIXELS)
            if at >= self.size:
                break
            try:
                element = self.window.element_at(at)
            except ShortError:
                padding = self.window.bytes_at(at, self.size - at).strip(b"\0")
                return f"it ends in the middle of an element, at byte {self.size}" if padding else ""
            if not last < element.tag < _ITEM:
                raise HeadError(f"{elements.name_of(element.tag)} is out of order")
            last = element.tag
            is_encapsulated = last == _PIXELS and element.length == UNDEFINED
            if last == _PIXELS:
                self.encapsulated = is_encapsulated
            try:
                at = (
                    self._end_of_fragments(element.value_at)
                    if is_encapsulated
                    else self.window.end_of(element, at)
                )
            except ShortError:
                at = self.size + 1
        else:
            raise HeadError("its elements are too many to be looked through")
        if at > self.size:
            return f"it ends at byte {self.size}, in the middle of {elements.name_of(last)}"
        return ""

    def _end_of_fragments(self, at: int) -> int:
        for _ in range(_MOST_FRAGMENTS):
            tag, length = self.window.item_at(at, step=_FRAGMENT_STEP)
            at += 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM or length == UNDEFINED:
                raise HeadError(f"no fragment at byte {at - 8}")
            at += length
        raise HeadError("its fragments are too many")
