"""Texts that peers may send where a name is made of them, and what no name may be."""

from __future__ import annotations

import re

HOSTILE = [
    "",
    ".",
    "..",
    "../../x",
    "/etc/passwd",
    "C:\\Windows",
    "a\0b",
    "a\nb",
    "\x1b[2J",
    "\N{GRINNING FACE}",
    "x" * 300,
    "1." * 150,
    "..\\..\\x",
    ".hidden",
    "-rf",
    "~root",
    "$(reboot)",
    "a b",
    "trailing.",
    "trailing ",
    "CON",
    "nul.txt",
    "Com1",
    "LPT9.x.y",
    "unknown",
    "unnamed",
    "\udcff",
]
WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def is_harmless(component: str) -> bool:
    """Tell whether every file system, Windows' too, takes this for one visible name of its own."""
    return (
        0 < len(component.encode()) <= 255
        and component.isprintable()
        and not re.search(r'[\x00-\x1f<>:"/\\|?*]', component)
        and component[0] not in ".- ~"
        and component[-1] not in ". "
        and not WINDOWS_DEVICE.fullmatch(component)
    )
