"""Files of one series begin alike: what was found in one is found in the next without a look at each element.

Only the SOP Instance UID differs up to the end of that UID in the data set, and it stands there twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicomtls_cli.services.head import FileMeta, HeadError, read_head, read_meta

_SOP_INSTANCE = 0x00080018


class Likeness:
    """What was learnt from one file, for those that are like it.

    `begin` is the byte where the file meta information begins, `wanted` what is looked for in the data set.
    """

    def __init__(self, begin: int, wanted: frozenset[int]) -> None:
        self._begin = begin
        self._wanted = wanted
        self._last: tuple[int, int] | None = None
        self._start = b""  # up to the SOP Instance UID in the data set
        self._end = b""  # what follows that UID in its value: one NUL, or nothing
        self._meta_at = self._head_at = self._length = 0  # where the UID stands, and how many bytes it has
        self._meta = FileMeta("", "", "", 0)
        self._values: Mapping[int, str] = {}

    def read(self, data: bytes) -> tuple[FileMeta, Mapping[int, str]] | None:
        """Return what `read_meta` and `read_head` find where a file begins with `data`, None if it is not alike."""
        start, first, second = self._start, self._meta_at, self._head_at
        behind_first, behind_second = first + self._length, second + self._length
        value = data[first:behind_first]
        if (
            not start
            or data[:first] != start[:first]
            or data[behind_first:second] != start[behind_first:]
            or data[second : behind_second + len(self._end)] != value + self._end
        ):
            return None
        uid = value.decode("latin-1").rstrip("\0 ")
        return self._meta._replace(media_storage_sop_instance=uid), {**self._values, _SOP_INSTANCE: uid}

    def learn(self, data: bytes, meta: FileMeta, values: Mapping[int, str]) -> None:
        """Take a file that begins with `data`, in which those functions found these, for a model, if it can be one."""
        uid = meta.media_storage_sop_instance
        about, self._last, self._start = self._last, (meta.offset, len(uid)), b""
        if (
            about != self._last or not uid
        ):  # two in a row may be the beginning of a series; learning costs as much as reading
            return
        self._meta_at = data.find(uid.encode("latin-1"), self._begin, meta.offset)
        self._head_at = data.find(uid.encode("latin-1"), meta.offset)
        self._length, self._end = len(uid), b"\0" * (len(uid) % 2)
        self._meta, self._values = meta, values
        if min(self._meta_at, self._head_at) >= 0 and self._are_places_right(data):
            self._start = data[: self._head_at]

    def _are_places_right(self, data: bytes) -> bool:
        """Tell whether the UID is what stands at both places: another one, put there, has to be found."""
        first, second, length = self._meta_at, self._head_at, self._length
        said = length + len(self._end)
        if said.to_bytes(2, "little") != data[second - 2 : second] and (
            said.to_bytes(4, "little") != data[second - 4 : second]
        ):
            return False
        other = ("8" if self._meta.media_storage_sop_instance[0] != "8" else "9") * length
        parts = data[:first], data[first + length : second], self._end
        changed = other.encode().join(parts)
        try:
            meta = read_meta(changed, begin=self._begin)
            if meta != self._meta._replace(media_storage_sop_instance=other):
                return False
            head = read_head(
                changed[self._meta.offset :], self._meta.transfer_syntax, self._wanted, complete=False
            )
        except HeadError:
            return False
        return not head.need and not head.absent and head.values == {**self._values, _SOP_INSTANCE: other}
