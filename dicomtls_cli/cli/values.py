"""Types of option values and of positional words: AE titles, seconds, sizes, peers."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from dicomtls_cli.dimse.status import StatusClass, classify
from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.peer import PLAIN_PORT as PLAIN_PORT
from dicomtls_cli.services.peer import TLS_PORT as TLS_PORT
from dicomtls_cli.services.peer import Peer, split_address
from dicomtls_cli.services.peer import parse_peer as parse_peer
from dicomtls_cli.services.peer import parse_port as parse_port
from dicomtls_cli.tls.names import is_address
from dicomtls_cli.upperlayer.negotiation import ae_title

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|(?<=resource:))")
_DURATION = r"(\d+(?:\.\d+)?)(ms|s)?"
_SPAN = r"(\d{1,7})([hdw])"
_HOURS = {"h": 1, "d": 24, "w": 168}
_LONGEST_SPAN = timedelta(days=36500)
_SIZE = r"(\d{1,15}(?:\.\d{1,9})?)(?:([KMGT])(i?B)?|B)?"
_PORT = re.compile(r"\d{1,5}")


class _AeTitle(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    name = "AETITLE"

    def convert(self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None) -> str:
        if str(value).startswith("-"):  # PS3.5 would allow it; on a command line it is a forgotten value
            raise UsageError(
                f"`{value}` is not an AE title: it begins with a dash",
                "write the AE title after the option",
                slug="usage.ae-title",
            )
        return ae_title(str(value))


class _BoundAet(click.ParamType):  # type: ignore[type-arg]
    name = "AETITLE"

    def convert(self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None) -> str:
        title = value.partition("@")[0].partition(":")[0]
        if title != value or is_address(value):
            raise UsageError(
                f"`-b {value}`: a local address to connect from cannot be chosen",
                "leave it out; `--aet` is the AE title" if is_address(value) else f"write `-b {title}`",
                slug="usage.bound-address",
            )
        return ae_title(value)


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    name = "SECONDS"

    def __init__(self, *, with_unit: bool = False) -> None:
        self._with_unit = with_unit

    def convert(self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(_DURATION, value)
        seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
        if found and self._with_unit and not found[2]:
            raise UsageError(
                f"a time-out in dcm4che's spelling needs its unit: `{value}`",
                f"write `{value}ms` or `{value}s`",
                slug="usage.ambiguous-seconds",
            )
        if not 0.001 <= seconds <= 86400:
            raise UsageError(
                f"`{value}` is not a time between 1 ms and a day",
                "write seconds, as `10`, `10s` or `500ms`",
                slug="usage.seconds",
            )
        return seconds


class _Span(click.ParamType):  # type: ignore[type-arg]
    name = "SPAN"

    def convert(
        self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None
    ) -> timedelta:
        found = re.fullmatch(_SPAN, str(value))
        span = timedelta(hours=int(found[1]) * _HOURS[found[2]]) if found else timedelta.max
        if span > _LONGEST_SPAN:
            raise UsageError(
                f"`{value}` is not a span of time",
                "write days, weeks or hours: `30d`, `8w`, `12h`",
                slug="usage.span",
            )
        return span


# Whether a file can be read is found out where it is read: not by click, which calls it a wrong word.
class _File(click.ParamType):  # type: ignore[type-arg]
    name = "PATH"

    def convert(self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None) -> Path:
        return value if isinstance(value, Path) else Path(not_empty(value))


class _Size(click.ParamType):  # type: ignore[type-arg]
    name = "SIZE"

    def convert(self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None) -> int:
        found = re.fullmatch(_SIZE, str(value))
        if not found:
            raise UsageError(
                f"`{value}` is not a size", "write bytes, as `500M`, `2.5GB` or `1GiB`", slug="usage.size"
            )
        base = 1024 if found[3] == "iB" else 1000
        return int(float(found[1]) * base ** " KMGT".index(found[2] or " "))


class _FileMode(click.ParamType):  # type: ignore[type-arg]
    name = "MODE"

    def convert(self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None) -> int:
        if not re.fullmatch(r"0?6[0246]{2}", str(value)):
            raise UsageError(
                f"`{value}` is not a mode for files that we write and read",
                "write it in octal digits, without rights to execute: `0640`, `0600`, `0664`",
                slug="usage.file-mode",
            )
        return int(str(value), 8)


class _Status(click.ParamType):  # type: ignore[type-arg]
    name = "CODE"

    def convert(self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(?:0[xX])?([0-9A-Fa-f]{4})[Hh]?", str(value))
        if not found or classify(int(found[1], 16)) is StatusClass.INVALID:
            raise UsageError(
                f"`{value}` is no status that answers a C-STORE",
                "write four hexadecimal digits, as `A700`, `0xB000` or `C000H`",
                slug="usage.status",
            )
        return int(found[1], 16)


def not_empty(text: str) -> str:
    """Return the name of a file or folder; an empty one would be the current folder, and is refused."""
    if not text:
        raise UsageError(
            "an empty word stands where a file or folder is to be named",
            "name it; a shell variable may be unset",
            slug="usage.empty-path",
        )
    return text


class _Store(_File):
    """A file as dcm4che names its key stores: URLs are refused, and with `or_none` an empty word names none."""

    name = "P12"

    def __init__(self, *, or_none: bool = False) -> None:
        self._or_none = or_none

    def convert(self, value: Any, parameter: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self._or_none and value == "":
            return value
        if _URL.match(str(value)) and not Path(str(value)).exists():
            raise UsageError(
                f"`{value}` is a URL, and a key store is read from a file",
                "write the path of the file; dcm4che's own `resource:` stores are in its etc/certs folder",
                slug="usage.store-url",
            )
        return super().convert(value, parameter, ctx)


FILE = _File()
SIZE = _Size()
FILE_MODE = _FileMode()
STATUS = _Status()
STORE = _Store()
STORE_OR_NONE = _Store(or_none=True)
AE_TITLE = _AeTitle()


class _Port(click.ParamType):  # type: ignore[type-arg]
    name = "PORT"

    def convert(self, value: Any, _parameter: click.Parameter | None, _ctx: click.Context | None) -> int:
        return parse_listening_port(str(value))


LISTENING_PORT = _Port()
BOUND_AET = _BoundAet()
SECONDS = _Seconds()
SPAN = _Span()
SECONDS_WITH_UNIT = _Seconds(with_unit=True)
MAX_PDU = click.IntRange(4096, 131072)


def parse_listening_port(text: str) -> int:
    """Parse the port an SCP listens on, where 0 is any that is free; raise UsageError."""
    return 0 if text == "0" else parse_port(text)


def parse_bind(text: str) -> tuple[str | None, str | None, int | None]:
    """Parse where an SCP listens: `ADDRESS`, `PORT`, or dcm4che's `AET:PORT` and `AET@ADDRESS:PORT`.

    Returns AE title, address and port, None for what is not said. Raises UsageError.
    """
    if text.isdigit():
        return None, None, parse_listening_port(text)
    called, at, address = text.rpartition("@")
    if at:
        host, port = split_address(address, text)
        return ae_title(called), host, port
    name, colon, port_text = text.rpartition(":")
    if colon and port_text.isdigit() and ":" not in name and not is_address(name):
        return ae_title(name), None, parse_listening_port(port_text)
    host, port = split_address(text, text)
    return None, host, port


def looks_like_port(word: str) -> bool:
    """Tell whether the word after a peer without a port is its port: 1 to 5 digits, always."""
    return _PORT.fullmatch(word) is not None


def take_peer(words: list[str], *, aec: str | None, tls: bool) -> tuple[Peer, list[str]]:
    """Parse the peer that `words` begin with, in one word or as `host port`; return also the words left."""
    peer, has_port = parse_peer(words[0], aec=aec, tls=tls)
    rest = words[1:]
    if not has_port and rest and looks_like_port(rest[0]):
        return Peer(peer.host, parse_port(rest[0]), peer.called_aet), rest[1:]
    return peer, rest
