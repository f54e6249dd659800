"""The values of a head that our own reader cannot make out, by pydicom, which knows more ways to be broken."""

from __future__ import annotations

import warnings
from typing import BinaryIO

from dicomtls_cli.services.head import HeadError
from dicomtls_cli.services.syntax import transfer_syntax as encoding_of


def ask_pydicom(file: BinaryIO, wanted: frozenset[int], transfer_syntax: str) -> dict[int, str]:
    """Return the text of the `wanted` tags that the DICOM file `file` has, which may be cut off somewhere.

    `transfer_syntax` is its data set's. Raises HeadError where pydicom cannot read it, and for a deflated
    data set: that would be inflated whole, however large it gets.
    """
    if encoding_of(transfer_syntax).deflated:
        raise HeadError("a deflated data set is read by one rule only")
    from pydicom.filereader import read_partial

    last = max(wanted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it grumbles at what it repairs; the result is what counts
            # It stops past the last wanted tag: hostile nesting behind it would keep it busy for ever.
            found = read_partial(file, lambda tag, *_: tag > last, specific_tags=list(wanted))
            return {tag: str(found[tag].value or "") for tag in wanted if tag in found}
    except Exception as error:  # whatever its parsing of hostile bytes runs into
        raise HeadError(f"{type(error).__name__}: {error}") from error
