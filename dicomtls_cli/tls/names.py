"""Does a certificate name this host? RFC 6125 as OpenSSL reads it, over `getpeercert()`. Pure."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from typing import Any

# OpenSSL takes a star for letters, digits and hyphens only, and only in front of a parent made of such.
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_STAR = rf"\*((?:\.{_LABEL}){{2,}})"
# What ends in a number is an IP address, or would be one to some resolver; it is no DNS name.
_DNS_NAME = r"(?:[a-z0-9_-]+\.)*(?![0-9]+$)[a-z0-9_-]+"


_SHORT_NAMES = {  # RFC 4514 section 3
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_SPECIAL = r'[\\"+,;<>]|^[ #]| \Z'  # RFC 4514 section 2.4


def host_matches(host: str, certificate: Mapping[str, Any]) -> bool:
    """Tell whether `certificate` (the dictionary of `SSLSocket.getpeercert()`) names `host`.

    An IP address needs an equal IP entry in the subject alternative name. A DNS name matches a DNS entry,
    or the common name where there is no DNS entry at all (RFC 6125 6.4.4).
    """
    alternatives = certificate.get("subjectAltName", ())
    address = _packed(host)
    if address is not None:
        return any(kind == "IP Address" and _packed(value.strip()) == address for kind, value in alternatives)
    names = [value for kind, value in alternatives if kind == "DNS"] or list(_common_names(certificate))
    return any(_dns_matches(host, name) for name in names)


def named_hosts(certificate: Mapping[str, Any]) -> list[str]:
    """Return the DNS names and IP addresses `certificate` is made out to, for messages."""
    found = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return found or list(_common_names(certificate))


def subject_text(certificate: Mapping[str, Any]) -> str:
    """Return the subject of `certificate` as RFC 4514 writes it, the most specific name first."""
    names = [
        "+".join(f"{_SHORT_NAMES.get(key, key)}={_escaped(value)}" for key, value in relative_name)
        for relative_name in certificate.get("subject", ())
    ]
    return ",".join(reversed(names)) or "(no subject)"


def _escaped(value: str) -> str:
    return re.sub(_SPECIAL, lambda found: f"\\{found[0]}", value).replace("\0", r"\00")


def is_address(host: str) -> bool:
    """Tell whether `host` is an IPv4 or IPv6 address literal, with or without a zone."""
    return _packed(host) is not None


def _common_names(certificate: Mapping[str, Any]) -> Iterable[str]:
    for relative_name in certificate.get("subject", ()):
        for key, value in relative_name:
            if key == "commonName":
                yield value


def _packed(text: str) -> bytes | None:
    # A zone says through which of our interfaces an address is reached; no certificate holds one.
    for family, address in ((socket.AF_INET, text), (socket.AF_INET6, text.partition("%")[0])):
        try:
            return socket.inet_pton(family, address)
        except (OSError, ValueError):  # ValueError: an embedded NUL
            continue
    return None


def _dns_matches(host: str, pattern: str) -> bool:
    if not host.isascii() or not pattern.isascii():  # before lower(), which makes a `k` of a Kelvin sign
        return False
    host, pattern = host.lower(), pattern.lower()
    if not re.fullmatch(_DNS_NAME, host):
        return False
    star = re.fullmatch(_STAR, pattern)
    if star is None:
        return host == pattern
    # A star stands for exactly one whole label, and never for a whole domain such as `*.com`.
    return re.fullmatch(_LABEL + re.escape(star[1]), host) is not None
