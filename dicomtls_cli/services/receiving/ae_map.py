"""Which certificate may call itself what: the file of `--ae-map`, read strictly.

A TOML file of `[[peer]]` tables. Each names a certificate by its SHA-256 (`certificate`), or by the SHA-256 of a CA
in its verified chain and its subject (`ca`, `subject`), and the calling AE titles it may use (`aet`). A bare
subject names nobody: anybody can have one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dicomtls_cli.errors import InputError, UsageError, printable
from dicomtls_cli.pki.files import read_capped
from dicomtls_cli.pki.subject import DistinguishedName, name_of, read_name
from dicomtls_cli.services.peer import digest_from
from dicomtls_cli.upperlayer.negotiation import ae_title

_LIMIT = 1 << 20  # bytes: some 5,000 peers
_KEYS = ("certificate", "ca", "subject", "aet")


Holder = str | tuple[str, DistinguishedName]
"""Whom an entry is about: the digest of a certificate, or the digest of a CA and a subject."""


class AeMap(NamedTuple):
    """The calling AE titles of each holder; `authorities` are the digests of the CAs among the holders."""

    path: Path
    titles: Mapping[Holder, frozenset[str]]
    authorities: frozenset[str]

    def titles_of(self, certificate: bytes, vouched_by: Iterable[str]) -> frozenset[str]:
        """Return what the holder of `certificate` (DER, verified) may call itself, by all entries that fit.

        `vouched_by` are the digests (hexadecimal) of the CAs in its verified chain. Empty where none fits.
        """
        found = self.titles.get(hashlib.sha256(certificate).hexdigest(), frozenset())
        authorities = self.authorities.intersection(vouched_by)
        subject = name_of(certificate) if authorities else None
        if subject:
            found = found.union(*(self.titles.get((ca, subject), ()) for ca in authorities))
        return found


def load_ae_map(path: Path) -> AeMap:
    """Read the AE map `path`.

    Raises `InputError` for what cannot be read, is no TOML, or is anything but complete entries that differ.
    """
    found: dict[Holder, frozenset[str]] = {}
    for number, table in enumerate(_tables(path), 1):
        entry = _Entry(path, number, table)
        holder = entry.holder()
        if holder in found:
            raise entry.wrong(
                "is about the same certificate as an entry before it",
                "put all its AE titles into one",
                slug="access.map-duplicate",
            )
        found[holder] = entry.titles()
    return AeMap(path, found, frozenset(holder[0] for holder in found if isinstance(holder, tuple)))


def _tables(path: Path) -> list[Mapping[str, Any]]:
    import tomllib

    data = read_capped(path, "AE map", limit=_LIMIT)
    try:
        whole = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or brackets without end
        why = "nested too deep" if isinstance(error, RecursionError) else printable(str(error), 200)
        raise InputError(
            f"the AE map `{path}` is no TOML: {why}",
            'write it as `[[peer]]`, `certificate = "SHA-256"`, `aet = "NAME"`, each on a line of its own',
            slug="access.map-syntax",
        ) from None
    for key in whole:
        if key != "peer":
            raise _unknown_key(path, "", key, ("peer",))
    tables = whole.get("peer", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(
            f"the AE map `{path}` has a `peer` that is no list of tables",
            "begin every entry with a line `[[peer]]`, in two brackets",
            slug="access.map-syntax",
        )
    if not tables:
        raise InputError(
            f"the AE map `{path}` has no entry, so nobody could come in",
            "begin an entry with a line `[[peer]]`, or leave out `--ae-map`",
            slug="access.map-empty",
        )
    return tables


class _Entry:
    """One `[[peer]]` table, looked at key by key."""

    def __init__(self, path: Path, number: int, table: Mapping[str, Any]) -> None:
        self._path = path
        self._where = f"entry {number}"
        self._table = table
        for key in table:
            if key not in _KEYS:
                raise _unknown_key(path, f"{self._where} ", key, _KEYS)

    def wrong(self, what: str, hint: str, *, slug: str = "access.map-value") -> InputError:
        return InputError(f"the AE map `{self._path}`: {self._where} {what}", hint, slug=slug)

    def holder(self) -> Holder:
        """Return whom the entry is about: a digest, or a CA's digest and a subject."""
        given = self._table.keys() & {"certificate", "ca", "subject"}
        if given == {"certificate"}:
            return self._digest("certificate")
        if given == {"ca", "subject"}:
            return self._digest("ca"), self._subject()
        hint = "give the SHA-256 of the certificate as `certificate`, or that of its CA as `ca` and its `subject`"
        if given == {"subject"}:
            raise self.wrong("has a bare `subject`, which anybody can have", hint, slug="access.map-key")
        found = " and ".join(f"`{key}`" for key in _KEYS if key in given) or "no certificate"
        raise self.wrong(f"has {found}", hint, slug="access.map-key")

    def titles(self) -> frozenset[str]:
        if "aet" not in self._table:
            raise self.wrong(
                "has no `aet`", 'name the AE titles: `aet = ["CT1", "CT2"]`', slug="access.map-key"
            )
        value = self._table["aet"]
        written = value if isinstance(value, list) else [value]
        if not written or not all(isinstance(title, str) for title in written):
            raise self.wrong(
                f"has the `aet` {value!r}", 'write it like `aet = "CT1"` or `aet = ["CT1", "CT2"]`'
            )
        try:
            titles = [ae_title(title) for title in written]
        except UsageError as error:
            raise self.wrong(f"has the `aet` {value!r}", error.hint) from None
        if len(set(titles)) < len(titles):
            raise self.wrong("names an AE title twice", "write it once", slug="access.map-duplicate")
        return frozenset(titles)

    def _text(self, key: str) -> str:
        value = self._table[key]
        if not isinstance(value, str):
            raise self.wrong(f"has the `{key}` {value!r}", f'write it in quotes: `{key} = "..."`')
        return value

    def _digest(self, key: str) -> str:
        text = self._text(key)
        digest = digest_from(text)
        if digest is None:
            raise self.wrong(
                f"has the `{key}` `{text}`, which is no SHA-256",
                "it has 64 hexadecimal digits: `openssl x509 -noout -fingerprint -sha256 -in FILE` shows them",
            )
        return digest.hex()

    def _subject(self) -> DistinguishedName:
        text = self._text("subject")
        try:
            return read_name(text)
        except UsageError as error:
            raise self.wrong(f"has the `subject` `{text}`, which is none", error.hint) from None


def _unknown_key(path: Path, where: str, key: str, known: Collection[str]) -> InputError:
    import difflib

    near = difflib.get_close_matches(key, known, 1)
    return InputError(
        f"the AE map `{path}`: {where}has the unknown key `{key}`",
        f"did you mean `{near[0]}`?" if near else f"the keys are {', '.join(f'`{name}`' for name in known)}",
        slug="access.map-key",
    )
