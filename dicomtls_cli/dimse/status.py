"""What the status of a response means (PS3.7 Annex C, PS3.4 section B.2.3)."""

from __future__ import annotations

from enum import Enum

from dicomtls_cli.errors import printable


class StatusClass(Enum):
    """How a C-ECHO or C-STORE ended. `INVALID`: cancel and pending, which answer other operations only."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    INVALID = "invalid"


SUCCESS = 0x0000
DUPLICATE = 0x0111
INVALID_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNISED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_WARNINGS = frozenset((0x0001, 0x0107, 0x0116))
_OTHERS_ONLY = (0xFE, 0xFF)

_WORDS = {
    SUCCESS: "success",
    0x0001: "warning: requested optional attributes are not supported",
}
_CLASS_WORDS = {
    StatusClass.SUCCESS: "success",
    StatusClass.WARNING: "warning",
    StatusClass.FAILURE: "failure",
    StatusClass.INVALID: "no valid answer to C-ECHO or C-STORE",
}


def classify(status: int) -> StatusClass:
    """Return the class of `status` as the answer to C-ECHO or C-STORE. PS3.7 Annex C."""
    if status == SUCCESS:
        return StatusClass.SUCCESS
    if status in _WARNINGS or status >> 12 == 0xB:
        return StatusClass.WARNING
    return StatusClass.INVALID if status >> 8 in _OTHERS_ONLY else StatusClass.FAILURE


def words(status: int, comment: str = "") -> str:
    """Return `status` as a person reads it, `0xA700 (refused: out of resources)`.

    `comment` is the peer's Error Comment, if any; it comes out printable. Success needs no import, the
    other words come from pynetdicom.
    """
    meaning = _WORDS.get(status) or _looked_up(status) or _CLASS_WORDS[classify(status)]
    said = f": {printable(comment)}" if comment else ""
    return f"0x{status:04X} ({meaning}){said}"


def _looked_up(status: int) -> str:
    from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

    if classify(status) is StatusClass.INVALID:
        return ""
    _, meaning = STORAGE_SERVICE_CLASS_STATUS.get(status, ("", ""))
    return " ".join(word if word.isupper() else word.lower() for word in str(meaning).split())
