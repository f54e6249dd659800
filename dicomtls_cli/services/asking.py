"""The values of a head that our own reader cannot make out, by pydicom, which knows more ways to be broken."""

from __future__ import annotations

import warnings
from typing import BinaryIO

from dicomtls_cli.services.head import HeadError


def ask_pydicom(file: BinaryIO, wanted: frozenset[int]) -> dict[int, str]:
    """Return the text of the `wanted` tags that the DICOM file `file` has; raise HeadError where it cannot."""
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it grumbles at what it repairs; the result is what counts
            found = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(wanted))
            return {tag: str(found[tag].value or "") for tag in wanted if tag in found}
    except Exception as error:  # whatever its parsing of hostile bytes runs into
        raise HeadError(f"{type(error).__name__}: {error}") from error
