"""The short names DCMTK gives to SOP classes in its log lines, as data."""

from __future__ import annotations

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NAMES = {
    "1": "CR",
    "1.1": "DX",
    "1.1.1": "DXp",
    "1.2": "MG",
    "1.2.1": "MGp",
    "1.3": "IO",
    "1.3.1": "IOp",
    "2": "CT",
    "2.1": "CTe",
    "3": "USm",
    "3.1": "USm",
    "4": "MR",
    "4.1": "MRe",
    "4.2": "MRs",
    "6": "US",
    "6.1": "US",
    "7": "SC",
    "7.1": "SCs",
    "7.2": "SCb",
    "7.3": "SCw",
    "7.4": "SCc",
    "12.1": "XA",
    "12.1.1": "XAe",
    "12.2": "RF",
    "12.2.1": "RFe",
    "20": "NM",
    "66": "RAW",
    "66.4": "SEG",
    "77.1.1": "VLe",
    "77.1.4": "VLp",
    "88.11": "SRt",
    "88.22": "SRe",
    "88.33": "SRc",
    "104.1": "PDF",
    "128": "PI",
    "481.1": "RI",
    "481.2": "RD",
    "481.3": "RS",
    "481.5": "RP",
}


def modality(sop_class: str, otherwise: str = "OT") -> str:
    """Return the short name of the SOP class UID `sop_class`, `otherwise` where it has none."""
    if not sop_class.startswith(_STORAGE):
        return otherwise
    return _NAMES.get(sop_class.removeprefix(_STORAGE), otherwise)
