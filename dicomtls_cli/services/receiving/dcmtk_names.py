"""The names DCMTK's storescp gives to files and folders (its options -su -ss -sp -uf +uf -tn -fe)."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from datetime import datetime, timedelta

from dicomtls_cli.services.files.modality import modality
from dicomtls_cli.services.receiving.naming import (
    PATIENT_NAME,
    STUDY_INSTANCE,
    Place,
    Subject,
    check_literal,
    safe_component,
    wrong_layout,
)

_MOST_STUDIES = 10_000
_ANY_UNSAFE = re.compile(r"[^A-Za-z0-9]")
_LATIN = str.maketrans(
    dict(
        zip(
            "ÀÁÂÃÅàáâãåÇçÈÉÊËèéêëÌÍÎÏìíîïÑñÒÓÔÕØòóôõøÙÚÛùúûÝýÿÐð",
            "AAAAAaaaaaCcEEEEeeeeIIIIiiiiNnOOOOOoooooUUUuuuYyyDd",
            strict=True,
        )
    )
    | {"Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}
)


class DcmtkNaming:
    """Names as DCMTK's storescp gives them.

    `folders`: "" for none, `study` for PREFIX_StudyInstanceUID (-su), `time` for PREFIX_date_time of the
    study's first instance (-ss), `patient` for PatientName_date_time (-sp). `files`: `uid` for
    Modality.SOPInstanceUID (-uf), `unique` for Modality.X.UID with a UID made up (+uf), `time` for
    date and time, `.`, modality (-tn). `extension` is appended to each name (-fe). A study that was quiet
    for `quiet` seconds, where given, begins a new folder of -ss or -sp. Raises UsageError (`usage.layout`).
    """

    def __init__(
        self,
        folders: str = "",
        prefix: str = "",
        files: str = "uid",
        extension: str = "",
        quiet: float | None = None,
    ) -> None:
        for word, what in ((prefix, "prefix"), (extension, "extension")):
            if "/" in word or "\0" in word:
                raise wrong_layout(word, f"the {what} has a slash or a NUL", "leave it out")
        if prefix:
            check_literal(f"{prefix}_\0", prefix)
        if extension:
            check_literal(f"\0{extension}", extension)
        self.tags = frozenset({STUDY_INSTANCE, PATIENT_NAME} if folders == "patient" else {STUDY_INSTANCE})
        self.always_new = files != "uid"
        self._folders = folders
        self._prefix = f"{prefix}_" if prefix else ""
        self._files = files
        self._extension = extension
        self._quiet = timedelta(seconds=quiet) if quiet is not None else timedelta.max
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[str, datetime]] = OrderedDict()
        self._last = datetime.min

    def place(self, subject: Subject) -> Place:
        """Return where `subject` goes."""
        folders = () if not self._folders else (self._folder(subject),)
        kind = modality(subject.sop_class, "UNKNOWN")
        if self._files == "time":
            return Place(folders, _stamp(subject.moment, ""), f".{kind}{self._extension}")
        uid = safe_component(subject.sop_instance) if self._files == "uid" else f"X.{_new_uid()}"
        return Place(folders, f"{kind}.{uid}", self._extension)

    def addition(self, number: int) -> str:
        """Return what DCMTK puts between time and modality from the second file on: `_0000` and so on."""
        return "" if number == 1 else f"_{number - 2:04}" if self._files == "time" else f"_{number}"

    def _folder(self, subject: Subject) -> str:
        study = safe_component(subject.value(STUDY_INSTANCE))
        if self._folders == "study":
            return f"{self._prefix}{study}"
        with self._lock:
            name, used = self._open.get(study, ("", subject.moment))
            if not name or subject.moment - used > self._quiet:
                name = self._new_folder(subject)
            self._open[study] = name, subject.moment
            self._open.move_to_end(study)
            if len(self._open) > _MOST_STUDIES:
                self._open.popitem(last=False)
        return name

    def _new_folder(self, subject: Subject) -> str:
        """Return a name with a time stamp that no other study has, were it received in the same millisecond."""
        moment = subject.moment.replace(microsecond=subject.moment.microsecond // 1000 * 1000)
        self._last = max(moment, self._last + timedelta(milliseconds=1))
        stamp = _stamp(self._last, "_")
        if self._folders == "time":
            return f"{self._prefix}{stamp}"
        name = _ANY_UNSAFE.sub("_", subject.value(PATIENT_NAME).translate(_LATIN))[:64]
        return f"{name.lstrip('_') or 'ANONYMOUS'}_{stamp}"


def _stamp(moment: datetime, between: str) -> str:
    return f"{moment:%Y%m%d}{between}{moment:%H%M%S}{moment.microsecond // 1000:03}"


def _new_uid() -> str:
    import uuid

    return f"2.25.{uuid.uuid4().int}"
