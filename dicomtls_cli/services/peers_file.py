"""Peers with a name: the TOML files that say where they are and how they are reached, read strictly.

`[peer.NAME]` holds an `address` and settings named as the options are; `[defaults]` holds settings of all peers
in the files that are read. Paths are relative to the file they stand in.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dicomtls_cli.errors import InputError, printable
from dicomtls_cli.pki.files import read_capped

PROJECT_FILE = "dicomtls.toml"
VARIABLE = "DICOMTLS_CONFIG"

_LIMIT = 1 << 20  # bytes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Value = str | bool | float | tuple[str, ...]

_PATHS = {"cert", "key", "key-store", "key-passphrase-file", "trust-passphrase-file"}
_PATH_LISTS = {"trust", "trust-ca", "crl"}
_TEXTS = {"aet", "aec", "identity", "peer-cert", "tls-profile"}
_FLAGS = {"no-tls", "anonymous-tls", "x509-strict"}
_TIMES = {"connect-timeout", "tls-timeout", "acse-timeout", "dimse-timeout"}
SETTINGS = frozenset({*_PATHS, *_PATH_LISTS, *_TEXTS, *_FLAGS, *_TIMES, "pin"})
"""What can be set of a peer, apart from its address, in the words of the options."""

_ONE_CHOICE = (
    frozenset({"cert", "key", "key-store", "key-passphrase-file", "anonymous-tls"}),
    frozenset({"trust", "trust-ca", "trust-passphrase-file"}),
)
"""Settings that make sense together only: where one of them is set anew, none of the others is inherited."""

OF_TLS = SETTINGS - _TIMES - {"aec", "aet", "no-tls"}
"""Settings that `no-tls` contradicts: what is nearer counts."""


class NamedPeer(NamedTuple):
    """A peer of a file: its `address`, `host[:port]`, and its settings, of which `aec` is what it is called.

    `origins` are the files that say something of it, the nearest first.
    """

    name: str
    address: str
    settings: Mapping[str, Value]
    origins: tuple[Path, ...]

    @property
    def called_address(self) -> str:
        """The address as an option has it, `[AET@]host[:port]`."""
        return f"{self.settings['aec']}@{self.address}" if "aec" in self.settings else self.address


def peers_files(config: Path | None) -> list[Path]:
    """Return the files that are read, the nearest first.

    `config` alone where it is given, else the one that $DICOMTLS_CONFIG names, else `dicomtls.toml` in the current
    folder and in the user's configuration folder, as far as they exist.
    """
    if config is not None:
        return [config]
    if named := os.environ.get(VARIABLE):
        return [Path(named)]
    # A link that leads nowhere counts: passing it over in silence would let another file say who a peer is.
    return [path for path in (Path(PROJECT_FILE), user_file()) if path is not None and os.path.lexists(path)]


def user_file() -> Path | None:
    """Return where the user's own peers are, None for a user without a home."""
    from platformdirs import user_config_path

    try:
        folder = user_config_path("dicomtls", appauthor=False)
    except RuntimeError:
        return None
    return folder / PROJECT_FILE if folder.is_absolute() else None  # older platformdirs leave the `~`


def how_to_write() -> str:
    """Return what to do where there is no peers file, for a hint."""
    places = [f"`{PROJECT_FILE}` here", *(f"`{path}`" for path in [user_file()] if path is not None)]
    return f"write {' or '.join(places)}, or name one with `--config` (docs/peers.md)"


def load_peers(files: Sequence[Path]) -> dict[str, NamedPeer]:
    """Read `files`, the nearest first, and return their peers by name; what a nearer file sets counts.

    Raises InputError for what cannot be read, is no TOML, or says what no file can say.
    """
    tables = [_PeersFile(path) for path in files]
    found = {}
    for name in dict.fromkeys(name for table in tables for name in table.peers):
        owners = [table for table in tables if name in table.peers]
        address = next((str(t.peers[name]["address"]) for t in owners if "address" in t.peers[name]), None)
        if address is None:
            raise owners[0].wrong(
                f"[peer.{name}]", "has no `address`", 'add one: `address = "pacs.example:2762"`'
            )
        settings = _inherit(
            layer for table in tables for layer in (table.peers.get(name, {}), table.defaults)
        )
        settings.pop("address")
        found[name] = NamedPeer(name, address, settings, tuple(table.path for table in owners))
    return found


def _inherit(layers: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """Return what `layers` set, the first of which counts most."""
    found: dict[str, Value] = {}
    for layer in layers:
        taken = [choice for choice in _ONE_CHOICE if not choice.isdisjoint(found)]
        if found.get("no-tls"):
            taken.append(OF_TLS)
        elif not OF_TLS.isdisjoint(found):
            taken.append(frozenset({"no-tls"}))
        found |= {
            key: value
            for key, value in layer.items()
            if key not in found and not any(key in choice for choice in taken)
        }
    return found


def find_peer(name: str, config: Path | None) -> NamedPeer:
    """Return the peer called `name`; raise InputError where no file has it, or one cannot be read."""
    files = peers_files(config)
    if not files:
        raise InputError(f"no peer `@{name}`: there is no peers file", how_to_write(), slug="config.no-peer")
    peers = load_peers(files)
    if name not in peers:
        where = " or ".join(f"`{path}`" for path in files)
        near = difflib.get_close_matches(name, peers, 2)
        raise InputError(
            f"no peer `@{name}` in {where}",
            f"did you mean {' or '.join(f'`@{word}`' for word in near)}?"
            if near
            else "`dicomtls peers` lists those there are",
            slug="config.no-peer",
        )
    return peers[name]


class _PeersFile:
    """One file: its peers and defaults, every value checked and every path made absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path
        whole = self._parsed()
        self._refuse_others("the file", whole, {"peer", "defaults"})
        defaults, peers = whole.get("defaults", {}), whole.get("peer", {})
        if not isinstance(defaults, dict) or not isinstance(peers, dict):
            raise self.wrong("`peer` and `defaults`", "are tables", "write `[peer.pacs]`")
        self.defaults = self._settings("[defaults]", defaults, SETTINGS - {"aec"})
        self.peers: dict[str, dict[str, Value]] = {}
        for name, table in peers.items():
            where = f"[peer.{name}]"
            if not _NAME.fullmatch(name):
                hint = "letters, digits, `.`, `_` and `-` make a name, 64 at most"
                raise self.wrong(f"[peer.{name!r}]", "is no name for a peer", hint)
            if not isinstance(table, dict):
                raise self.wrong(f"`peer.{name}`", "is no table", f"write `{where}`")
            self.peers[name] = self._peer(name, where, table)

    def wrong(self, where: str, what: str, hint: str) -> InputError:
        """Return the error for what stands in this file."""
        return InputError(f"`{self.path}`: {where} {what}", hint, slug="config.invalid")

    def _parsed(self) -> dict[str, Any]:
        import tomllib

        data = read_capped(self.path, "peers", limit=_LIMIT)
        try:
            return tomllib.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or brackets without end
            why = "nested too deep" if isinstance(error, RecursionError) else printable(str(error), 200)
            hint = 'write it as `[peer.pacs]`, `address = "pacs.example:2762"`, each on a line of its own'
            raise InputError(f"`{self.path}` is no TOML: {why}", hint, slug="config.invalid") from None

    def _refuse_others(self, where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        names = sorted(known)
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, 2)
                hint = f"did you mean {' or '.join(f'`{word}`' for word in near)}?" if near else ""
                raise self.wrong(
                    where, f"has the unknown key `{key}`", hint or f"known are {', '.join(names)}"
                )

    def _peer(self, name: str, where: str, table: Mapping[str, Any]) -> dict[str, Value]:
        """Return what is set of a peer; the AE title in its address is its `aec`."""
        for key in (key for key, value in table.items() if isinstance(value, dict)):
            hint = f'a name with a dot stands in quotes: `[peer."{name}.{key}"]`'
            raise self.wrong(where, f"has a table `{key}` in it", hint)
        found = self._settings(where, table, SETTINGS | {"address"})
        called, at, address = str(found.get("address", "")).rpartition("@")
        if not at:
            return found
        if found.setdefault("aec", called) != called:
            raise self.wrong(
                where, f"is called `{called}` in `address`, and not so in `aec`", "drop one of them"
            )
        return {**found, "address": address}

    def _settings(self, where: str, table: Mapping[str, Any], known: Iterable[str]) -> dict[str, Value]:
        self._refuse_others(where, table, known)
        return {key: self._value(where, key, value) for key, value in table.items()}

    def _value(self, where: str, key: str, value: Any) -> Value:
        if key in _FLAGS:
            if not isinstance(value, bool):
                raise self.wrong(f"`{key}` in {where}", "is not true or false", f"write `{key} = true`")
            return value
        if key in _TIMES and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if key in _PATH_LISTS and isinstance(value, list):
            return tuple(self._path(where, key, self._text(where, key, item)) for item in value)
        text = self._text(where, key, value)
        if key in _PATH_LISTS:
            return (self._path(where, key, text),)
        if key in _PATHS or (key == "pin" and not re.fullmatch(r"[0-9A-Fa-f:]{64,95}", text)):
            return self._path(where, key, text)
        return text

    def _text(self, where: str, key: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self.wrong(f"`{key}` in {where}", "is no text", f'write `{key} = "..."`')
        return value

    def _path(self, where: str, key: str, text: str) -> str:
        if key == "trust" and text == "system":
            return text
        try:
            return str(self.path.absolute().parent / Path(text).expanduser())
        except RuntimeError:  # `~name`, or `~` of whoever has no home
            what = f"names a home folder that there is not: `{text}`"
            raise self.wrong(f"`{key}` in {where}", what, "write the path from `/`") from None
