"""Subjects of certificates: as `openssl req -subj` and RFC 4514 write them, and as a certificate has them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.errors import UsageError, printable

if TYPE_CHECKING:
    from cryptography.x509 import Name

EXAMPLE = "/C=BE/O=Hospital/CN=localhost"


class _Attribute(NamedTuple):
    """One attribute type: its names in OpenSSL, its OID and what RFC 5280 A.1 lets it hold."""

    short: str
    long: str
    oid: str
    longest: int = 64
    shortest: int = 1
    allowed: str = r".*"


_PRINTABLE = r"[A-Za-z0-9 '()+,./:=?-]*"  # PrintableString, X.680 41.4
_ASCII = r"[ -~]*"
_ATTRIBUTES = (
    _Attribute("C", "countryName", "2.5.4.6", 2, 2, r"[A-Za-z]*"),
    _Attribute("ST", "stateOrProvinceName", "2.5.4.8", 128),
    _Attribute("L", "localityName", "2.5.4.7", 128),
    _Attribute("street", "streetAddress", "2.5.4.9", 128),
    _Attribute("postalCode", "postalCode", "2.5.4.17", 40),
    _Attribute("O", "organizationName", "2.5.4.10"),
    _Attribute("OU", "organizationalUnitName", "2.5.4.11"),
    _Attribute("CN", "commonName", "2.5.4.3"),
    _Attribute("title", "title", "2.5.4.12"),
    _Attribute("SN", "surname", "2.5.4.4"),
    _Attribute("GN", "givenName", "2.5.4.42"),
    _Attribute("serialNumber", "serialNumber", "2.5.4.5", allowed=_PRINTABLE),
    _Attribute("emailAddress", "emailAddress", "1.2.840.113549.1.9.1", 255, allowed=_ASCII),
    _Attribute("DC", "domainComponent", "0.9.2342.19200300.100.1.25", 63, allowed=_ASCII),
    _Attribute("UID", "userId", "0.9.2342.19200300.100.1.1", 256),
)
_BY_NAME = {name.lower(): one for one in _ATTRIBUTES for name in (one.short, one.long)}


class SubjectPart(NamedTuple):
    """One attribute of a distinguished name: `type` as OpenSSL abbreviates it, its OID, its value."""

    type: str
    oid: str
    value: str


def common_name(value: str) -> tuple[SubjectPart, ...]:
    """Return the subject CN=`value`; raise `UsageError` if it cannot be one (1 to 64 bytes)."""
    return (_part("CN", value),)


def parse_subject(text: str) -> tuple[SubjectPart, ...]:
    r"""Parse `text`, a subject as `openssl req -subj` takes it: `/TYPE=value/TYPE=value`.

    A backslash makes the character after it an ordinary one (`\/`, `\+`, `\\`). Raises `UsageError` for what
    is malformed, an unknown type, a value that RFC 5280 does not allow, and multi-valued parts (`+`).
    """
    if not text.startswith("/"):
        raise _invalid(f"the subject `{text}` does not begin with `/`", f"write it like `{EXAMPLE}`")
    parts = [_split(tokens, text) for tokens in _components(text)]
    return tuple(_part(kind, value) for kind, value in parts)


def show_subject(parts: tuple[SubjectPart, ...]) -> str:
    """Return the subject for people to read: `C=BE, CN=localhost`."""
    return ", ".join(f"{part.type}={part.value}" for part in parts)


_Token = tuple[str, bool]  # a character, and whether a backslash stood before it


def _components(text: str) -> Iterator[list[_Token]]:
    current: list[_Token] = []
    characters = iter(text[1:])
    for character in characters:
        if character == "/":
            yield current
            current = []
        elif character == "\\":
            following = next(characters, None)
            if following is None:
                raise _invalid(
                    f"the subject `{text}` ends in a lone backslash", r"a backslash itself is `\\`"
                )
            current.append((following, True))
        else:
            current.append((character, False))
    yield current


def _split(tokens: list[_Token], text: str) -> tuple[str, str]:
    if ("+", False) in tokens:
        raise _invalid(
            f"the subject `{text}` has a multi-valued part (`+`), which is not supported",
            r"give each value its own part with `/`; a plus sign itself is `\+`",
        )
    if ("=", False) not in tokens:
        raise _invalid(
            f"the subject `{text}` has a part without `=`",
            rf"write it like `{EXAMPLE}`; a slash inside a value is `\/`",
        )
    at = tokens.index(("=", False))
    return "".join(c for c, _ in tokens[:at]), "".join(c for c, _ in tokens[at + 1 :])


def _part(kind: str, value: str) -> SubjectPart:
    attribute = _BY_NAME.get(kind.strip().lower())
    if attribute is None:
        known = ", ".join(one.short for one in _ATTRIBUTES)
        raise _invalid(f"`{kind}` is not a subject attribute", f"one of: {known}")
    shown = f"the subject's {attribute.short} `{value}`"
    # RFC 5280 counts characters, `cryptography` bytes of UTF-8: the stricter rule serves both.
    size = len(value.encode("utf-8", "surrogatepass"))
    if not attribute.shortest <= size <= attribute.longest:
        raise _invalid(
            f"{shown} has {size} bytes",
            f"it must have {attribute.longest}"
            if attribute.shortest == attribute.longest
            else f"it may have {attribute.shortest} to {attribute.longest} (RFC 5280 A.1)",
        )
    if not value.isprintable() or not re.fullmatch(attribute.allowed, value):
        raise _invalid(f"{shown} has a character that cannot be in it", f"write the subject like `{EXAMPLE}`")
    return SubjectPart(attribute.short, attribute.oid, value)


def _invalid(message: str, hint: str) -> UsageError:
    return UsageError(message, hint, slug="usage.invalid-subject")


def subject_of(der: bytes) -> str:
    """Return the subject of a certificate (DER, from anybody) as RFC 4514 writes it, for people to read."""
    name = _name_in(der)
    if name is None:
        return "(unreadable subject)"
    return printable(name.rfc4514_string(), 200) or "(no subject)"


def issuer_of(der: bytes) -> str:
    """Return who signed a certificate (DER), as `subject_of` writes it; "" if it did so itself, or is unreadable."""
    subject, issuer = _name_in(der), _name_in(der, issuer=True)
    return "" if issuer is None or issuer == subject else printable(issuer.rfc4514_string(), 200)


DistinguishedName = tuple[frozenset[tuple[str, str | bytes]], ...]
"""A subject to compare: its relative names from the root on, each a set of (OID, value)."""

_LONGEST_NAME = 1000  # characters of a written name


def name_of(der: bytes) -> DistinguishedName | None:
    """Return the subject of a certificate (DER, from anybody) for comparison; None where it cannot be read."""
    name = _name_in(der)
    return None if name is None else _comparable(name)


def read_name(text: str) -> DistinguishedName:
    """Parse a subject as RFC 4514 writes it (`CN=ct1,O=Hospital`), or as `parse_subject` takes it.

    Attribute types are RFC 4514's, OpenSSL's names or OIDs. Raises `UsageError`.
    """
    if text.startswith("/"):
        return tuple(frozenset({(part.oid, part.value)}) for part in parse_subject(text))
    from cryptography import x509

    names = {name: x509.ObjectIdentifier(one.oid) for one in _ATTRIBUTES for name in (one.short, one.long)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a country of three letters: it will fit no certificate
            found = _comparable(x509.Name.from_rfc4514_string(text[:_LONGEST_NAME], names))
    except ValueError:
        found = ()
    if not found or len(text) > _LONGEST_NAME:
        raise _invalid(
            f"`{text}` is no subject", "write it as RFC 4514 does and the log shows it: `CN=ct1,O=Hospital`"
        )
    return found


def _comparable(name: Name) -> DistinguishedName:
    return tuple(frozenset((one.oid.dotted_string, one.value) for one in part) for part in name.rdns)


def _name_in(der: bytes, *, issuer: bool = False) -> Name | None:
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about it is not the question
            certificate = x509.load_der_x509_certificate(der)
            return certificate.issuer if issuer else certificate.subject
    except (ValueError, x509.InvalidVersion):
        return None
