"""Where the frames of encapsulated pixel data are (PS3.5 A.4): offset table, fragments, frames."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import pairwise

from dicomtls_cli.services.files.elements import UNDEFINED, Element, Encoding, HeadError
from dicomtls_cli.services.transcoding.source import ITEM, SEQUENCE_END, Source

_MOST_FRAGMENTS = 1 << 20
_END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000
_PADDED_BY = 10  # bytes that may stand behind it in its fragment


class Frames:
    """The frames of one pixel data element; `size` is the length of all their bytes.

    Made of the element's header and the number of frames that there should be. Raises HeadError where they
    cannot be told apart.
    """

    def __init__(
        self, source: Source, encoding: Encoding, pixel_data: Element, limit: int, count: int
    ) -> None:
        self._source = source
        self._starts, self._ends = array("Q"), array("Q")
        began = source.at
        source.move(pixel_data.value_at)
        base, offsets = self._read_offset_table(encoding, limit, count)
        source.move(base)
        while (fragment := self._next_item(encoding, limit)) is not None:
            if len(self._starts) >= _MOST_FRAGMENTS:
                raise HeadError(f"its pixel data has more than {_MOST_FRAGMENTS} fragments")
            start, end = fragment
            self._starts.append(start)
            self._ends.append(end)
            source.move(end)
        self.size = sum(self._ends) - sum(self._starts)
        self._first = self._first_fragments(count, [base + offset for offset in offsets])
        source.move(began)

    def _next_item(self, encoding: Encoding, limit: int) -> tuple[int, int] | None:
        """Return where the next fragment begins and ends, None behind the last."""
        tag, length, end = self._source.item(encoding, limit)
        if tag == SEQUENCE_END:
            return None
        if tag != ITEM or length == UNDEFINED:
            raise HeadError(f"there is no fragment of pixel data at byte {self._source.at - 8}")
        return self._source.at, end

    def _read_offset_table(self, encoding: Encoding, limit: int, count: int) -> tuple[int, Sequence[int]]:
        """Return where the table ends, and its offsets where it has one for each frame."""
        table = self._next_item(encoding, limit)
        if table is None:
            raise HeadError("its pixel data has no offset table")
        start, end = table
        return end, struct.unpack(
            f"<{count}L", self._source.read(4 * count)
        ) if end - start == 4 * count else ()

    def _first_fragments(self, count: int, offsets: list[int]) -> list[int]:
        """Return which fragment each of `count` frames begins with, and last how many there are."""
        number = len(self._starts)
        if count == number:
            return list(range(number + 1))
        if count == 1:
            return [0, number]
        if offsets:
            index = {start - 8: n for n, start in enumerate(self._starts)}
            first = [index.get(offset, -1) for offset in offsets]
        else:
            ends = (n + 1 for n in range(number) if _END_OF_IMAGE in self._fragment(n)[-_PADDED_BY:])
            first = [0, *ends]
            first = first[:-1] if first[-1] == number else first
        if len(first) != count or first[0] or any(a >= b for a, b in pairwise(first)):
            raise HeadError(f"{count} frames cannot be told apart in {number} fragments of pixel data")
        return [*first, number]

    def _fragment(self, number: int) -> bytes:
        self._source.move(self._starts[number])
        return self._source.read(self._ends[number] - self._starts[number])

    def read(self, frame: int, most: int) -> bytes:
        """Return the bytes of a frame, counted from 0, and leave the source where it stands.

        Raises HeadError where they are more than `most`.
        """
        began = self._source.at
        fragments = range(self._first[frame], self._first[frame + 1])
        length = sum(self._ends[n] - self._starts[n] for n in fragments)
        if length > most:
            raise HeadError(f"a frame of {most} bytes has {length} in its compressed form")
        data = b"".join(self._fragment(n) for n in fragments)
        self._source.move(began)
        return data
