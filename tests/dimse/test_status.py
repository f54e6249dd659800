"""Statuses: interop.md section 9.10."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

from dicomtls_cli.dimse import status
from dicomtls_cli.dimse.status import StatusClass, classify, words


def test_every_status_has_its_class() -> None:
    for code in range(0x10000):
        if code == 0:
            expected = StatusClass.SUCCESS
        elif code in (0x0001, 0x0107, 0x0116) or 0xB000 <= code <= 0xBFFF:
            expected = StatusClass.WARNING
        elif code >= 0xFE00:
            expected = StatusClass.INVALID
        else:
            expected = StatusClass.FAILURE
        assert classify(code) is expected, hex(code)


def test_classes_agree_with_pynetdicoms_for_storage() -> None:
    for code in STORAGE_SERVICE_CLASS_STATUS:
        if code < 0xFE00:
            assert classify(code).value == code_to_category(code).lower(), hex(code)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x0000, "0x0000 (success)"),
        (0x0001, "0x0001 (warning: requested optional attributes are not supported)"),
        (status.OUT_OF_RESOURCES, "0xA700 (refused: out of resources)"),
        (0xA7FF, "0xA7FF (refused: out of resources)"),
        (status.DATA_SET_MISMATCH, "0xA900 (data set does not match SOP class)"),
        (status.SOP_CLASS_NOT_SUPPORTED, "0x0122 (refused: SOP class not supported)"),
        (status.UNRECOGNISED_OPERATION, "0x0211 (unrecognised operation)"),
        (status.MISTYPED_ARGUMENT, "0x0212 (mistyped argument)"),
        (status.CANNOT_UNDERSTAND, "0xC000 (cannot understand)"),
        (0xB007, "0xB007 (data set does not match SOP class)"),
        (0xB123, "0xB123 (warning)"),
        (0x9999, "0x9999 (failure)"),
        (0xFF00, "0xFF00 (no valid answer to C-ECHO or C-STORE)"),
        (0xFE00, "0xFE00 (no valid answer to C-ECHO or C-STORE)"),
    ],
)
def test_words(code: int, text: str) -> None:
    assert words(code) == text


def test_the_peers_comment_is_said_and_is_printable() -> None:
    assert words(0xA700, "disk full\x1b[2J") == r"0xA700 (refused: out of resources): disk full\x1b[2J"


def test_success_and_the_codecs_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from dicomtls_cli.dimse import command, status\n"
        "from dicomtls_cli.upperlayer import codec, header, items, negotiation, pdu, registry, words\n"
        "status.words(0)\n"
        "heavy = {'pynetdicom', 'pydicom', 'rich', 'click', 'cryptography', 'ssl', 'socket'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
