"""Lists of paths: what separates them, and that they are read as they come."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.services.files.pathlist import LONGEST, read_paths


def paths(data: bytes) -> list[str]:
    return [os.fspath(path) for path in read_paths(io.BytesIO(data))]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\nb c\n", ["a", "b c"]),
        (b"a\r\n\r\nb\r\n", ["a", "b"]),
        (b"\n\n a \n", [" a "]),
        (b"a\0b\0", ["a", "b"]),
        (b"a\0b", ["a", "b"]),
        (b"a\nb\0c\r\0", ["a\nb", "c\r"]),
        (b"\0", []),
        (b"-\n-v\n", ["-", "-v"]),
        (b"caf\xe9\n", [os.fsdecode(b"caf\xe9")]),
    ],
)
def test_what_separates(data: bytes, wanted: list[str]) -> None:
    assert paths(data) == wanted


NAMES = st.lists(st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"\0", b"x")), max_size=20)


class Pieces(io.RawIOBase):
    """A stream that gives its data in pieces, as a pipe does."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = list(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self.pieces.pop(0) if self.pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


@given(NAMES, st.booleans(), st.lists(st.integers(1, 50), max_size=20))
def test_lists_in_pieces(names: list[bytes], with_nul: bool, sizes: list[int]) -> None:
    if not with_nul:
        names = [name.replace(b"\n", b"x").replace(b"\r", b"x") for name in names]
    data = b"".join(name + (b"\0" if with_nul else b"\n") for name in names)
    pieces, rest = [], data
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    stream = Pieces([piece for piece in [*pieces, rest] if piece])
    assert list(read_paths(stream)) == [Path(os.fsdecode(name)) for name in names]  # type: ignore[arg-type]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 3 * LONGEST, 10 * LONGEST])
def test_a_path_that_is_too_long_is_cut_off_and_the_next_is_not_lost(separator: bytes, length: int) -> None:
    """Nothing can be opened under the name that is left, so it is a failure of its own."""
    data = b"a" + separator + b"x" * length + separator + b"b" + separator
    first, long, last = read_paths(io.BytesIO(data))
    assert (str(first), str(last)) == ("a", "b")
    assert len(str(long)) == min(length, LONGEST + 1)
    with pytest.raises(OSError, match="too long"):
        long.stat()
    assert [len(str(path)) for path in read_paths(io.BytesIO(b"x" * length))] == [min(length, LONGEST + 1)]


def test_a_long_list_is_never_in_memory() -> None:
    class Lines(io.RawIOBase):
        left = 40

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"/data/images/an-image-of-someone.dcm\n" * 500 if self.left >= 0 else b""

    tracemalloc.start()
    count = sum(1 for _ in read_paths(Lines()))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 300_000  # of 740 kB in names alone


def test_a_stream_that_has_nothing_yet_is_not_taken_for_its_end() -> None:
    class Empty(io.RawIOBase):
        def read(self, size: int = -1) -> None:
            return None

    with pytest.raises(BlockingIOError):
        list(read_paths(Empty()))  # type: ignore[arg-type]
