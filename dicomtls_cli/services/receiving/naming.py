"""Names of stored instances: a template of the operator's, values of the peer's, always inside the folder.

Pure. Every value becomes letters, digits, dots, dashes and
underscores of one component; what the operator wrote was checked when it was parsed.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from dicomtls_cli.errors import UsageError

SOP_CLASS, SOP_INSTANCE, STUDY_INSTANCE, PATIENT_NAME = 0x00080016, 0x00080018, 0x0020000D, 0x00100010

_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
# What Windows takes for a device, and our own word for an empty text.
_DEVICE = r"con|prn|aux|nul|conin\$|conout\$|com\d|lpt\d"
_SAFE_NAME = re.compile(
    rf"(?!(?ai:{_DEVICE}|unknown)(?:\.|\Z))[A-Za-z0-9](?:[A-Za-z0-9.-]{{0,62}}[A-Za-z0-9])?"
)
_DEVICE_NAME = re.compile(rf"(?:{_DEVICE})(?:\..*)?", re.IGNORECASE)
_LONGEST = 150  # bytes of a component; file systems take 255, and a UID may have to be added
_MOST_FOLDERS = 10


def safe_component(text: str) -> str:
    """Return `text` as one component of a path: letters, digits, dots and dashes, never hidden or `..`.

    A valid UID, or any other text that is such a component, stays as it is; what has to be changed gets a
    digest at its end, so that different texts stay apart. An empty text becomes `unknown`.
    """
    if not text:
        return "unknown"
    if _SAFE_NAME.fullmatch(text):
        return text
    return f"{_UNSAFE.sub('_', text).strip('_-')[:40] or 'unnamed'}_{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


class Subject(NamedTuple):
    """What a name is made for: the command's UIDs, the association's AE titles, the data set's `values`.

    `values` are texts by tag, "" or nothing where the data set has none; `moment` is the time of reception.
    """

    sop_class: str
    sop_instance: str
    calling_aet: str
    called_aet: str
    values: Mapping[int, str]
    moment: datetime

    def value(self, tag: int) -> str:
        """Return the text of `tag`; the SOP UIDs are those of the command."""
        if tag == SOP_INSTANCE:
            return self.sop_instance
        return self.sop_class if tag == SOP_CLASS else self.values.get(tag, "")


class Place(NamedTuple):
    """Where an instance goes: folders below the output directory, and the two ends of the file's name."""

    folders: tuple[str, ...]
    stem: str
    extension: str

    def name(self, addition: str = "") -> str:
        """Return the file's name; `addition` tells it from others of the same stem."""
        return f"{self.stem}{addition}{self.extension}"


class Naming(Protocol):
    """A way to name instances. `tags` are the data elements it needs; safe for many threads at once.

    With `always_new` no two instances share a name, not even the same one received twice.
    """

    tags: frozenset[int]
    always_new: bool

    def place(self, subject: Subject) -> Place:
        """Return where `subject` goes."""

    def addition(self, number: int) -> str:
        """Return what makes the name of the `number`th file of one stem (from 1) its own."""


# ---------------------------------------------------------------------- templates


class _Field(NamedTuple):
    """One placeholder: a tag, or the name of something that is not in the data set; how a date is written."""

    source: int | str
    format: str = ""
    vr: str = ""


_Piece = str | _Field
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_INSIDE = re.compile(r"([A-Za-z0-9_]+)(?::(.*))?", re.DOTALL)
_FORMAT = re.compile(r"(?:%[YmdHMSj]|[A-Za-z0-9_.-])+")
_DATE_PARTS = frozenset("Ymdj")
# What file systems, shells or Windows take for something else.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f"*:<>?\\|`$;&{}]')
_EXTENSION = re.compile(r"(?:\.[A-Za-z][A-Za-z0-9]{0,7}){1,2}")
_ASSOCIATION = ("calling_aet", "called_aet")
_RECEIVED = "received"
_DATES = {
    "DA": re.compile(r"(?P<Y>\d{4})\.?(?P<m>\d\d)\.?(?P<d>\d\d)"),
    "DT": re.compile(
        r"(?P<Y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(?:(?P<H>\d\d)(?:(?P<M>\d\d)(?:(?P<S>\d\d)\S*)?)?)?"
    ),
    "TM": re.compile(r"(?P<H>\d\d):?(?:(?P<M>\d\d):?(?:(?P<S>\d\d)\S*)?)?"),
}
_TEXT_VRS = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "ST", "TM", "UI"))
_KNOWN = (
    "a keyword of a data element, its tag as `{0020000D}`, `{received}`, `{calling_aet}` or `{called_aet}`"
)


class Layout:
    """A template such as `{StudyInstanceUID}/{SOPInstanceUID}.dcm`; see `parse_layout`."""

    always_new = False

    def __init__(self, components: tuple[tuple[_Piece, ...], ...]) -> None:
        self._folders = tuple(_namer(pieces, _safe_again) for pieces in components[:-1])
        *stem, last = components[-1]
        is_extension = isinstance(last, str) and stem and _EXTENSION.fullmatch(last)
        self._stem = _namer(tuple(stem) if is_extension else components[-1], safe_component)
        self._extension = str(last) if is_extension else ""
        fields = [piece for pieces in components for piece in pieces if isinstance(piece, _Field)]
        self.tags = frozenset(f.source for f in fields if isinstance(f.source, int))

    def place(self, subject: Subject) -> Place:
        """Return where `subject` goes; a value it does not have is a visible `unknown`."""
        return Place(tuple([name(subject) for name in self._folders]), self._stem(subject), self._extension)

    def addition(self, number: int) -> str:
        """Return "", `_2`, `_3` and so on."""
        return f"_{number}" if number > 1 else ""


def _namer(pieces: tuple[_Piece, ...], safe: Callable[[str], str]) -> Callable[[Subject], str]:
    """Return what makes a component of `pieces`; mostly it is one value alone, which `safe` makes one of."""
    first = pieces[0]
    if len(pieces) == 1 and isinstance(first, _Field) and isinstance(first.source, int) and not first.format:
        tag = first.source
        if tag == SOP_INSTANCE:
            return lambda subject: safe(subject.sop_instance)
        return lambda subject: safe(subject.value(tag))
    return lambda subject: _component(pieces, subject)


_safe_again = functools.lru_cache(maxsize=256)(safe_component)  # of a folder: many instances share it


def _component(pieces: tuple[_Piece, ...], subject: Subject) -> str:
    name = "".join(piece if isinstance(piece, str) else _text(piece, subject) for piece in pieces)
    if len(name.encode()) > _LONGEST:
        name = f"{name.encode()[: _LONGEST - 20].decode(errors='ignore').rstrip('. ')}_{_digest(name)}"
    # No value is a device's name by itself, but pieces together may be.
    if len(pieces) > 1 and _DEVICE_NAME.fullmatch(name):
        device, dot, rest = name.partition(".")
        return f"{device}_{dot}{rest}"
    return name


def _text(field: _Field, subject: Subject) -> str:
    if field.source == _RECEIVED:
        return _formatted(_parts_of(subject.moment), field.format or "%Y%m%d")
    if isinstance(field.source, str):
        return safe_component(getattr(subject, field.source))
    value = subject.value(field.source)
    if not field.format:
        return safe_component(value)
    found = _DATES[field.vr].match(value)
    try:
        return _formatted(_numbers(found.groupdict() if found else {}), field.format)
    except (KeyError, ValueError):
        return "unknown"


def _parts_of(moment: datetime) -> dict[str, int]:
    return {
        "Y": moment.year, "m": moment.month, "d": moment.day, "j": moment.timetuple().tm_yday,
        "H": moment.hour, "M": moment.minute, "S": moment.second,
    }  # fmt: skip


def _numbers(found: Mapping[str, str | None]) -> dict[str, int]:
    """Return the parts of a date or time of the data set, checked. Raises ValueError."""
    parts = {name: int(text) for name, text in found.items() if text is not None and text.isascii()}
    if "Y" in parts:
        parts["j"] = datetime(parts["Y"], parts["m"], parts["d"]).timetuple().tm_yday
    if parts.get("H", 0) > 23 or parts.get("M", 0) > 59 or parts.get("S", 0) > 60:
        raise ValueError("no time of day")
    return parts


def _formatted(parts: Mapping[str, int], text: str) -> str:
    widths = {"Y": 4, "j": 3}
    return re.sub(r"%(.)", lambda found: f"{parts[found[1]]:0{widths.get(found[1], 2)}}", text)


def parse_layout(text: str) -> Layout:
    """Parse a template: components separated by `/`, placeholders in braces, all else taken as it stands.

    A placeholder is the keyword or the tag (`{0020000D}`) of a data element at the top level of the data set,
    `received` (the date of reception), `calling_aet` or `called_aet`. Dates and times take a format of
    `%Y %m %d %j %H %M %S`: `{received:%Y-%m}`, `{StudyDate:%Y}`. Raises UsageError (`usage.layout`).
    """
    placeholders = [_field(found[1], text) for found in _PLACEHOLDER.finditer(text)]
    # A NUL stands for each placeholder while the rest is cut at its slashes.
    words = _PLACEHOLDER.sub("\0", text.replace("\0", "\1")).split("/")
    if len(words) > _MOST_FOLDERS:
        raise wrong_layout(text, f"it has more than {_MOST_FOLDERS} parts", "use fewer folders")
    fields = iter(placeholders)
    components: list[tuple[_Piece, ...]] = []
    for word in words:
        check_literal(word, text)
        pieces: list[_Piece] = []
        for number, literal in enumerate(word.split("\0")):
            pieces += [next(fields)] if number else []
            pieces += [literal] if literal else []
        components.append(tuple(pieces))
    if not any(isinstance(piece, _Field) for piece in components[-1]):
        raise wrong_layout(
            text,
            "every file would have the same name",
            "let its last part have a placeholder: `{SOPInstanceUID}.dcm`",
        )
    return Layout(tuple(components))


def _field(inside: str, layout: str) -> _Field:
    found = _INSIDE.fullmatch(inside)
    if not found:
        raise wrong_layout(
            layout,
            f"`{{{inside}}}` is no placeholder",
            f"write {_KNOWN}; sequences and dcm4che's formatted forms are not read",
        )
    name, text = found[1], found[2]
    if text is not None and not _FORMAT.fullmatch(text):
        raise wrong_layout(
            layout,
            f"`{text}` is no format of a date",
            "write it with %Y %m %d %j %H %M %S, letters, digits, dots, dashes and underscores",
        )
    if name == _RECEIVED:
        return _Field(name, text or "")
    if name in _ASSOCIATION and text is None:
        return _Field(name)
    tag, vr = _element(name, layout)
    if text is not None:
        known = {"DA": _DATE_PARTS, "TM": frozenset("HMS"), "DT": _DATE_PARTS | frozenset("HMS")}.get(vr)
        if known is None or not set(re.findall(r"%(.)", text)) <= known:
            raise wrong_layout(
                layout, f"`{name}` has nothing for the format `{text}`", "leave the format out"
            )
    return _Field(tag, text or "", vr)


def _element(name: str, layout: str) -> tuple[int, str]:
    """Return tag and value representation of a keyword, or of eight hexadecimal digits."""
    from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

    is_tag = re.fullmatch(r"[0-9A-Fa-f]{8}", name) is not None
    tag = int(name, 16) if is_tag else tag_for_keyword(name)
    try:
        if tag is None:
            raise KeyError(name)
        vr = dictionary_VR(tag)
    except KeyError:
        from difflib import get_close_matches

        near = get_close_matches(name, [*keyword_dict, _RECEIVED, *_ASSOCIATION], 2)
        hint = f"did you mean {' or '.join(f'`{{{word}}}`' for word in near)}?" if near else f"write {_KNOWN}"
        raise wrong_layout(layout, f"`{name}` is no data element of PS3.6", hint) from None
    if tag >> 16 <= 2 or vr not in _TEXT_VRS:
        raise wrong_layout(
            layout,
            f"`{name}` (VR {vr}) can name no file",
            "choose an element of the data set that is a short text, a number in digits, a date or a UID",
        )
    return tag, vr


def check_literal(word: str, layout: str) -> None:
    """Refuse a component whose literal text leads elsewhere, hides, or means something to a system.

    A NUL in `word` stands for what a placeholder will be. Raises UsageError (`usage.layout`).
    """
    shown = word.replace("\0", "{...}")
    literal = word.replace("\0", "")
    if not word:
        raise wrong_layout(
            layout, "a part of it is empty", "write a relative path; `--output` names the folder"
        )
    if word.startswith((".", " ", "-", "~")) or word.endswith((".", " ")):
        raise wrong_layout(
            layout,
            f"`{shown}` begins or ends with a dot, blank, dash or tilde",
            "begin each part with a letter, a digit or a placeholder",
        )
    # The NUL of a placeholder is the one character that is no literal.
    if _FORBIDDEN.search(literal) or not literal.isprintable() or len(literal.encode()) > _LONGEST // 2:
        raise wrong_layout(
            layout,
            f"`{shown}` has a character that no name can have, or is too long",
            "use letters, digits, dots, dashes and underscores besides the placeholders",
        )
    if "\0" not in word and _DEVICE_NAME.fullmatch(word):
        raise wrong_layout(layout, f"`{word}` is a device on Windows", "choose another name")


def wrong_layout(layout: str, why: str, hint: str) -> UsageError:
    """Return the error for a layout, or a part of one, that cannot be."""
    return UsageError(f"the layout `{layout}` cannot be: {why}", hint, slug="usage.layout")


_STUDY_FIELD, _INSTANCE_FIELD = _Field(STUDY_INSTANCE), _Field(SOP_INSTANCE)
DEFAULT_LAYOUT = Layout(((_STUDY_FIELD,), (_INSTANCE_FIELD, ".dcm")))
"""`{StudyInstanceUID}/{SOPInstanceUID}.dcm`."""
