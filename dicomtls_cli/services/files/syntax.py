"""How the data set of each transfer syntax is encoded (PS3.5 Annex A), as data."""

from __future__ import annotations

from typing import NamedTuple

from dicomtls_cli.errors import UsageError
from dicomtls_cli.upperlayer.registry import TRANSFER_SYNTAXES

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"

# Papyrus 3, and GE's private one whose big endian words are in the pixels only.
_IMPLICIT = {IMPLICIT_LITTLE, "1.2.840.10008.1.20", "1.2.840.113619.5.2"}
# Deflated, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate
_DEFLATED = {DEFLATED_LITTLE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
# JPIP puts a URL where the pixels would be; SMPTE ST 2110 streams them beside the data set.
_NOT_ENCAPSULATED = {
    EXPLICIT_LITTLE,
    EXPLICIT_BIG,
    "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.204",
    *(f"1.2.840.10008.1.2.7.{n}" for n in (1, 2, 3)),
}
_JPEG = (*range(50, 67), 70)
_JPEG_LS_AND_2000 = (80, 81, 90, 91, 92, 93)
_VIDEO = ("100", "100.1", "101", "101.1", "102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1")
_VIDEO_AND_JPEG_XL = (*_VIDEO, "106", "106.1", "107", "108", "110", "111", "112")
_HTJ2K = (201, 202, 203)
_ENCAPSULATED = {
    "1.2.840.10008.1.2.1.98",  # encapsulated uncompressed
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.8.1",  # deflated frames: the data set itself is not
    *(f"1.2.840.10008.1.2.4.{n}" for n in (*_JPEG, *_JPEG_LS_AND_2000, *_VIDEO_AND_JPEG_XL, *_HTJ2K)),
}


class TransferSyntax(NamedTuple):
    """The encoding of a data set.

    `known` is False for a UID that is not in the table (a private or future one): by PS3.5 10.1 and A.4 such
    a data set is explicit VR little endian in all likelihood, and the other fields say so, but nobody vouches
    for it.
    """

    uid: str
    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False
    encapsulated: bool = False
    known: bool = True


_TABLE = {
    uid: TransferSyntax(uid, uid in _IMPLICIT, uid == EXPLICIT_BIG, uid in _DEFLATED, uid in _ENCAPSULATED)
    for uid in _IMPLICIT | _DEFLATED | _NOT_ENCAPSULATED | _ENCAPSULATED
}


def transfer_syntax(uid: str) -> TransferSyntax:
    """Return how data sets of the transfer syntax `uid` are encoded; see `TransferSyntax.known`."""
    return _TABLE.get(uid) or TransferSyntax(uid, known=False)


def transfer_syntax_named(text: str) -> str:
    """Return the UID of the transfer syntax `text` names: a UID, or its keyword in PS3.6 (`JPEG2000Lossless`).

    Raises UsageError (`usage.transfer-syntax`) for what is no transfer syntax of a data set.
    """
    if text in TRANSFER_SYNTAXES:
        return text
    from pydicom.uid import UID_dictionary

    keywords: dict[str, str] = {
        entry[4]: uid for uid, entry in UID_dictionary.items() if uid in TRANSFER_SYNTAXES and entry[4]
    }
    by_letters = {keyword.lower(): uid for keyword, uid in keywords.items()}
    if text.lower() in by_letters:
        return by_letters[text.lower()]
    from difflib import get_close_matches

    near = get_close_matches(text, keywords, 2)
    raise UsageError(
        f"`{text}` is no transfer syntax of a data set",
        f"did you mean {' or '.join(f'`{word}`' for word in near)}?"
        if near
        else "write its UID or its keyword in PS3.6, such as `ExplicitVRLittleEndian`",
        slug="usage.transfer-syntax",
    )
