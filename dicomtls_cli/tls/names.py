"""Does a certificate name this host? RFC 6125 as OpenSSL reads it, over `getpeercert()`. Pure."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Any


def host_matches(host: str, certificate: Mapping[str, Any]) -> bool:
    """Tell whether `certificate` (the dictionary of `SSLSocket.getpeercert()`) names `host`.

    An IP address needs an equal IP entry in the subject alternative name. A DNS name matches a DNS entry,
    or the common name where there is no DNS entry at all (RFC 6125 6.4.4).
    """
    alternatives = certificate.get("subjectAltName", ())
    address = _packed(host)
    if address is not None:
        return any(kind == "IP Address" and _packed(value) == address for kind, value in alternatives)
    names = [value for kind, value in alternatives if kind == "DNS"] or list(_common_names(certificate))
    return any(_dns_matches(host.lower(), name.lower()) for name in names)


def named_hosts(certificate: Mapping[str, Any]) -> list[str]:
    """Return the DNS names and IP addresses `certificate` is made out to, for messages."""
    found = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return found or list(_common_names(certificate))


def is_address(host: str) -> bool:
    """Tell whether `host` is an IPv4 or IPv6 address literal, with or without a zone."""
    return _packed(host) is not None


def _common_names(certificate: Mapping[str, Any]) -> Iterable[str]:
    for relative_name in certificate.get("subject", ()):
        for key, value in relative_name:
            if key == "commonName":
                yield value


def _packed(text: str) -> bytes | None:
    text = text.partition("%")[0].strip()
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):  # ValueError: an embedded NUL
            continue
    return None


def _dns_matches(host: str, pattern: str) -> bool:
    if not host or not host.isascii() or not pattern.isascii():
        return False
    if not pattern.startswith("*."):
        return "*" not in pattern and host == pattern
    # A star stands for exactly one whole label, and never for a whole domain such as `*.com`.
    label, dot, rest = host.partition(".")
    parent = pattern[2:]
    return bool(label and dot) and "*" not in parent and "." in parent and rest == parent
