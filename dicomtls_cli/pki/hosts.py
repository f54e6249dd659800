"""The names a certificate is made for: what the user wrote, to what a subjectAltName may hold."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from dicomtls_cli.errors import UsageError

LOCALHOST = "localhost"

# RFC 1123 2.1, and the underscore: not a host name's character, but container and Windows names have it.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


def subject_names(hosts: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the DNS names and IP addresses for a subjectAltName, each once, `localhost` always first.

    `hosts` are DNS names (also international ones, which come back in their ASCII form), wildcards
    (`*.example.org`), IPv4 and IPv6 addresses. Without any: this machine's name, 127.0.0.1 and ::1.
    Raises `UsageError` for what is none of these.
    """
    names = [parse_host(host) for host in hosts] or [*_machine_name(), "127.0.0.1", "::1"]
    return tuple(dict.fromkeys([LOCALHOST, *names]))


def parse_host(text: str) -> str:
    """Return the DNS name or IP address `text` in its canonical form; raise `UsageError` if it is neither."""
    address = _parse_address(text)
    return address if address is not None else _parse_dns(text)


def is_address(name: str) -> bool:
    """Tell an IP address from a DNS name, among names that `parse_host` returned."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _machine_name() -> list[str]:
    # A machine may be called what no certificate can hold (a space, "ward 3"): such a name is left out.
    try:
        return [parse_host(socket.gethostname())]
    except (UsageError, OSError):
        return []


def _parse_address(text: str) -> str | None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise _invalid(text, "a certificate cannot hold the zone of an address: leave `%…` out")
    return str(address)


def _parse_dns(text: str) -> str:
    name = _to_ascii(text).lower().removesuffix(".")
    labels = name.split(".")
    if labels[0] == "*":
        # OpenSSL matches no wildcard with fewer than two labels behind it.
        if len(labels) < 3:
            raise _invalid(text, "a wildcard has two labels or more behind it, as in `*.example.org`")
        del labels[0]
    if "*" in "".join(labels):
        raise _invalid(text, "a wildcard is the whole first label, as in `*.example.org`")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _invalid(text, _advice(text))
    if labels[-1].isdigit():
        raise _invalid(text, "an IPv4 address is four numbers from 0 to 255, as in `192.0.2.7`")
    return name


def _to_ascii(text: str) -> str:
    if text.isascii():
        return text
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        raise _invalid(text, "it has no international (IDNA) form; write its `xn--` form") from None


def _advice(text: str) -> str:
    if "://" in text or "/" in text:
        return "write the host name or address alone, without scheme, path or prefix length"
    if ":" in text:
        return "write the host without its port"
    if "@" in text:
        return "write the host without AE title or user"
    return "write a DNS name (`pacs.example.org`), a wildcard, or an IP address"


def _invalid(text: str, hint: str) -> UsageError:
    return UsageError(f"`{text}` is not a host name or IP address", hint, slug="usage.invalid-host")
