"""The value representations that implicit VR leaves out (PS3.6), by pydicom's dictionary."""

from __future__ import annotations

from functools import lru_cache

_PRIVATE = 0x00010000  # the groups of private elements are odd (PS3.5 7.8)


def vr_of(tag: int, *, signed: bool) -> bytes:
    """Return the VR of the element `tag` in explicit form; UN where nobody knows it (PS3.5 6.2.2).

    Private elements are UN but for their creators: what a vendor's dictionary says need not be what stands in
    the file. `signed` tells that Pixel Representation is 1, which decides between US and SS; OW is taken
    where OB and US would do too, as in implicit VR (PS3.5 A.1).
    """
    if tag & _PRIVATE:
        return b"LO" if 0x10 <= tag & 0xFFFF <= 0xFF else b"UN"
    listed = _listed(tag)
    if listed == "US or SS":
        return b"SS" if signed else b"US"
    return b"OW" if listed.endswith("OW") else listed.encode()


@lru_cache(maxsize=4096)  # a hostile file has as many tags as it likes
def _listed(tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"
