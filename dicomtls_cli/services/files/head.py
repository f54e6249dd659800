"""The head of a DICOM file or data set: a few values found without reading, or trusting, the rest.

Pure functions over bytes. The sender scans files with them, the receiver finds the values of its layout while
the data set still streams in: whoever calls offers what it has, is told how much is needed at least, and
calls again with more from the start. What cannot be read raises HeadError and nothing else; a file may then
be handed to pydicom, which knows many more ways to be broken.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import NamedTuple

from dicomtls_cli.services.files import elements
from dicomtls_cli.services.files.elements import Encoding, HeadError, ShortError
from dicomtls_cli.services.files.syntax import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicomtls_cli.services.files.syntax import transfer_syntax as syntax_of

__all__ = [
    "FileMeta",
    "Head",
    "HeadError",
    "NeedMore",
    "encode_meta",
    "find_odd_head",
    "guess_transfer_syntax",
    "read_head",
    "read_meta",
    "read_odd_head",
]

Buffer = bytes | bytearray | memoryview

PREAMBLE_LENGTH = 128
MAX_INFLATED = 1 << 20
"""How many bytes of a deflated data set are inflated at most, whatever they were deflated to."""

_ITEMS = 0xFFFE0000  # this group and those above stand in sequences only
_FIRST_PIXELS = 0x7FE00008
_PIXELS = frozenset({_FIRST_PIXELS, 0x7FE00009, 0x7FE00010})
_META_CLASS, _META_INSTANCE, _META_SYNTAX = 0x0002, 0x0003, 0x0010  # in group 0002
_SHORT_HEADER = 8  # bytes of an element before its value, with most VRs
_META_UIDS = (_META_CLASS, _META_INSTANCE, _META_SYNTAX)


class NeedMore(NamedTuple):
    """The bytes end too early: at least `need` bytes, counted from the start, are needed to go on."""

    need: int


class FileMeta(NamedTuple):
    """What the file meta information says (PS3.10 7.1); a UID that is not there is empty.

    `offset` is where the data set begins, in bytes from the start of the file.
    """

    transfer_syntax: str
    media_storage_sop_class: str
    media_storage_sop_instance: str
    offset: int


class Head(NamedTuple):
    """The wanted values of a data set, as far as they are known.

    `values`: by tag, one character per byte (latin-1: `.encode("latin-1")` gives the bytes back), trailing
    NULs and spaces removed. `absent`: wanted tags that the data set does not have at its top level. `need`:
    0 when every wanted tag is in one of the two, else the number of bytes, counted from the start, that are
    needed at least to go on.
    """

    values: Mapping[int, str]
    absent: frozenset[int]
    need: int


def read_meta(data: Buffer, *, begin: int = PREAMBLE_LENGTH + 4) -> FileMeta | NeedMore:
    """Read preamble, prefix and file meta information from the start of a file (PS3.10 7.1).

    `begin` is the byte where the meta begins: 0 for a file that lacks preamble and prefix. The group length
    (0002,0000) is not relied on: the meta ends where another group begins. Raises HeadError when the bytes
    are no DICOM file, or when the meta is not explicit VR little endian in ascending order.
    """
    if begin and not b"DICM".startswith(data[begin - 4 : begin]):
        raise HeadError("there is no `DICM` after a preamble of 128 bytes")
    try:
        with memoryview(data) as view:
            values, at = _walk_meta(view, begin)
    except ShortError as short:
        return NeedMore(short.need)
    get = values.get
    return FileMeta(get(_META_SYNTAX, ""), get(_META_CLASS, ""), get(_META_INSTANCE, ""), offset=at)


def _walk_meta(data: memoryview, at: int) -> tuple[dict[int, str], int]:
    """Return the wanted UIDs of group 0002 by element, and where the group ends: a tight loop, run for every file."""
    values: dict[int, str] = {}
    unpack, short_vrs, size = elements.EXPLICIT_LITTLE.explicit.unpack_from, elements.SHORT_VRS, len(data)
    last, stated_end = -1, -1
    while at + 8 <= size:
        group, number, vr, length = unpack(data, at)
        # Deflated bytes may look like group 0002; there, and only there, the stated end counts.
        if group != 2 or (at == stated_end and syntax_of(values.get(_META_SYNTAX, "")).deflated):
            return values, at
        if number <= last:
            raise HeadError(f"(0002,{number:04x}) at byte {at} is out of order")
        if vr in short_vrs:
            begin, end = at + 8, at + 8 + length
        else:
            _, _, length, begin = elements.element_at(data, at, elements.EXPLICIT_LITTLE)
            if length == elements.UNDEFINED:
                raise HeadError(f"(0002,{number:04x}) has an undefined length")
            end = begin + length
        if vr == b"UI" and number in _META_UIDS:
            if end > size:
                raise ShortError(end)
            values[number] = bytes(data[begin:end]).decode("latin-1").rstrip("\0 ")
        elif number == 0 and length == 4 and end <= size:
            stated_end = end + elements.EXPLICIT_LITTLE.long.unpack_from(data, begin)[0]
        at, last = end, number
    raise ShortError(at + 8)


def read_head(data: Buffer, transfer_syntax: str, wanted: frozenset[int], *, complete: bool) -> Head:
    """Find the `wanted` tags in the top level of a data set that begins with `data` (PS3.5 7).

    `transfer_syntax` is a UID, an unknown one is taken for explicit VR little endian; `wanted` holds tags
    such as 0x00080018, of elements whose values are text; `complete` says that the data set ends with `data`.
    The reading ends at the last wanted tag, at a greater one, or at the pixel data. Raises HeadError where
    the bytes cannot be what they are said to be: unknown VRs, tags out of order, an end in the middle of an
    element, wrong deflation, more than MAX_INFLATED bytes of deflated data before the wanted tags.
    """
    syntax = syntax_of(transfer_syntax)
    # The view is released at once: an exception that somebody keeps must not keep a bytearray from growing.
    with memoryview(data) as view:
        if syntax.deflated:
            return _read_deflated(view, wanted, complete)
        return _walk(view, elements.of_syntax(syntax), wanted, complete)


def read_odd_head(data: Buffer, wanted: frozenset[int], least: int) -> dict[int, str]:
    """Find the `wanted` tags in a head that `read_head` refuses: of another encoding, or out of order.

    Explicit and implicit VR little endian, then big endian are tried; the first in which the tag `least` is
    found counts. Returns what was found until the bytes ended or could not be read on, nothing where `least`
    was not. Goes through the bytes once for each encoding, however they are nested.
    """
    return find_odd_head(data, EXPLICIT_LITTLE, wanted, least)[0]


def find_odd_head(
    data: Buffer, transfer_syntax: str, wanted: frozenset[int], least: int
) -> tuple[dict[int, str], bool]:
    """As `read_odd_head`, with the encoding of `transfer_syntax` tried first; tell whether it was that one."""
    stated = elements.of_syntax(syntax_of(transfer_syntax))
    others = (elements.EXPLICIT_LITTLE, elements.IMPLICIT_LITTLE, elements.EXPLICIT_BIG)
    for encoding in (stated, *(other for other in others if other is not stated)):
        with memoryview(data) as view:
            values = _walk_anyhow(view, encoding, wanted)
        if least in values:
            return values, encoding is stated
    return {}, False


def guess_transfer_syntax(data: Buffer) -> str:
    """Return in which encoding a data set stands that begins with `data` and group 0008; "" for anything else.

    It is a guess to be tried with `read_head`: many other bytes begin in the same way.
    """
    begin = bytes(data[:6])
    if begin[:2] == b"\x08\x00":
        return EXPLICIT_LITTLE if begin[4:] in elements.VRS else IMPLICIT_LITTLE
    return EXPLICIT_BIG if begin[:2] == b"\x00\x08" and begin[4:] in elements.VRS else ""


def _walk_anyhow(data: memoryview, encoding: Encoding, wanted: frozenset[int]) -> dict[int, str]:
    values: dict[int, str] = {}
    at = 0
    try:
        while at < len(data) and len(values) < len(wanted):
            element = elements.any_element_at(data, at, encoding)
            if element.tag >= _ITEMS or element.tag in _PIXELS:
                break
            if element.tag in wanted:
                values.setdefault(element.tag, elements.text_of(data, element))
            at = elements.end_of(data, element, encoding)
    except (ShortError, HeadError):
        pass  # what was found before is as good as it is
    return values


def _read_deflated(data: memoryview, wanted: frozenset[int], complete: bool) -> Head:
    """Read a data set that is one raw deflate stream (RFC 1951, PS3.5 A.5)."""
    import zlib

    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, MAX_INFLATED)
    except zlib.error as error:
        raise HeadError(f"the data set is not deflated as its transfer syntax says: {error}") from None
    head = _walk(memoryview(inflated), elements.EXPLICIT_LITTLE, wanted, inflater.eof)
    if not head.need:
        return head
    if len(inflated) >= MAX_INFLATED:
        raise HeadError(f"the wanted tags lie beyond the first {MAX_INFLATED} bytes of a deflated data set")
    if complete:
        raise HeadError(f"the deflated data set ends at byte {len(data)}, before its end is marked")
    # How many deflated bytes hold the inflated ones that are needed, nobody knows beforehand.
    return Head(head.values, head.absent, len(data) + 1)


def _walk(data: memoryview, encoding: Encoding, wanted: frozenset[int], complete: bool) -> Head:
    if encoding.implicit and bytes(data[4:6]) in elements.VRS:
        raise HeadError("the data set has explicit VRs, against its transfer syntax")
    values: dict[int, str] = {}
    at, last, greatest = 0, -1, max(wanted, default=-1)
    stop = min(greatest + 1, _FIRST_PIXELS)
    try:
        while last < greatest:
            at, last = elements.skip_plain(data, at, last, stop, encoding, wanted, values)
            if last == greatest or (complete and at == len(data)):
                break
            element = elements.element_at(data, at, encoding)
            tag = element.tag
            if tag <= last or tag >= _ITEMS:
                raise HeadError(f"{elements.name_of(tag)} at byte {at} is out of order")
            last = tag
            if tag > greatest or tag in _PIXELS:
                break
            if tag in wanted:
                values[tag] = elements.text_of(data, element)
            at = elements.end_of(data, element, encoding)
    except ShortError as short:
        if complete:
            raise HeadError(f"the data set ends at byte {len(data)}, in the middle of an element") from None
        # The element that is not complete is not known to be absent, nor is any after it.
        return Head(values, frozenset(tag for tag in wanted - values.keys() if tag < last), short.need)
    return Head(values, wanted - values.keys(), 0)


def encode_meta(
    *,
    sop_class: str,
    sop_instance: str,
    transfer_syntax: str,
    implementation_class: str,
    implementation_version: str,
    source_ae: str = "",
    sending_ae: str = "",
    receiving_ae: str = "",
) -> bytes:
    """Return everything of a DICOM file that stands before its data set (PS3.10 7.1).

    The AE titles are those of (0002,0016), (0002,0017) and (0002,0018); an empty one is left out. Raises
    HeadError for a value that has a character beyond latin-1 or more than 65534 bytes.
    """
    uid = _latin(sop_instance)
    before, after = _meta_around(
        len(uid),
        sop_class,
        transfer_syntax,
        implementation_class,
        implementation_version,
        source_ae,
        sending_ae,
        receiving_ae,
    )
    return before + uid + after


@functools.lru_cache(maxsize=256)
def _meta_around(
    uid_length: int,
    sop_class: str,
    transfer_syntax: str,
    implementation_class: str,
    implementation_version: str,
    source_ae: str,
    sending_ae: str,
    receiving_ae: str,
) -> tuple[bytes, bytes]:
    """Return what stands before and after the SOP Instance UID, in which alone most instances differ."""
    start = _encoded(0x0001, b"OB", b"\0\1") + _text_element(0x0002, b"UI", sop_class)
    group = (
        start
        + _text_element(0x0003, b"UI", "0" * uid_length)
        + _text_element(0x0010, b"UI", transfer_syntax)
        + _text_element(0x0012, b"UI", implementation_class)
        + _text_element(0x0013, b"SH", implementation_version)
        + _text_element(0x0016, b"AE", source_ae)
        + _text_element(0x0017, b"AE", sending_ae)
        + _text_element(0x0018, b"AE", receiving_ae)
    )
    length = _encoded(0x0000, b"UL", struct.pack("<L", len(group)))
    whole = bytes(PREAMBLE_LENGTH) + b"DICM" + length + group
    at = len(whole) - len(group) + len(start) + _SHORT_HEADER
    return whole[:at], whole[at + uid_length :]


def _text_element(element: int, vr: bytes, text: str) -> bytes:
    """Return an element of group 2, nothing where it has no text."""
    if not text:
        return b""
    value = _latin(text)
    padding = b"\0" if vr == b"UI" else b" "
    return _encoded(element, vr, value + padding if len(value) % 2 else value)


def _latin(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise HeadError(f"{text!a} cannot stand in file meta information") from None


def _encoded(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) > 0xFFFE:
        raise HeadError(f"(0002,{element:04x}) has {len(value)} bytes")
    form = "<HH2sxxL" if vr in elements.LONG_VRS else "<HH2sH"
    return struct.pack(form, 2, element, vr, len(value)) + value
