"""Orthanc's configuration as a whole: one file, or the folder of files that Orthanc puts together."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dicomtls_cli.errors import InputError
from dicomtls_cli.pki.files import read_capped, word
from dicomtls_cli.services.orthanc.dialect import Malformed, parse, substitute
from dicomtls_cli.services.orthanc.findings import Finding, When

_READ_LIMIT = 1024 * 1024  # bytes; Orthanc's own commented one has 40 KB
_LISTED = 5


class Setting(NamedTuple):
    """The value of a key, and where it stands; `is_alone` on its line."""

    value: Any
    path: Path
    line: int
    is_alone: bool = False

    @property
    def where(self) -> str:
        """The place as people and editors write it."""
        return f"{self.path}:{self.line}"


class Configuration(NamedTuple):
    """All keys that could be read, and what was found wrong while reading.

    `is_whole` tells that nothing is missing from them.
    """

    settings: Mapping[str, Setting]
    findings: tuple[Finding, ...]
    is_whole: bool = True

    def get(self, key: str, kind: type, default: Any) -> Any:
        """Return the value of `key` if it is of this kind, else `default`."""
        setting = self.settings.get(key)
        return setting.value if setting is not None and type(setting.value) is kind else default


def read_configuration(path: Path, variables: Mapping[str, str]) -> Configuration:
    """Read the file or folder `path` as Orthanc does, with `variables` as its environment.

    Raises InputError only if there is nothing that could be read at all.
    """
    files = configuration_files(path) if path.is_dir() else [path]
    settings: dict[str, Setting] = {}
    findings: list[Finding] = []
    sizes: dict[Path, int] = {}
    is_whole = True
    for file in files:
        try:
            found = _read_file(file, variables, findings)
        except InputError as error:
            if file == path:
                raise
            findings.append(Finding(When.START, "file-unreadable", error.message, error.hint, str(file)))
            is_whole = False
            continue
        if found is None:
            is_whole = False
            continue
        sizes[file] = len(found)
        for key, setting in found.items():
            if key in settings:
                findings.append(_defined_twice(key, settings[key], setting, sizes))
            settings.setdefault(key, setting)
    if not files:
        findings.append(
            Finding(
                When.NOTE, "no-json", f"no file in `{path}` ends in .json: Orthanc starts with its defaults",
                "name the folder that holds them, on Debian `/etc/orthanc`",
            )
        )  # fmt: skip
    return Configuration(settings, tuple(findings), is_whole)


def configuration_files(folder: Path) -> list[Path]:
    """Return what Orthanc reads of a folder: all that ends in .json, hidden or not, and no folder in it.

    Raises InputError if the folder cannot be read.
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"the folder `{folder}` cannot be read: {error.strerror}",
            f"check it with `ls -ld {word(folder)}`",
            slug="file.unreadable",
        ) from None
    return [path for path in inside if path.suffix.lower() == ".json" and not path.is_dir()]


def _read_file(
    path: Path, variables: Mapping[str, str], findings: list[Finding]
) -> dict[str, Setting] | None:
    """Return the keys of one file; None if Orthanc cannot read it. What is wrong goes to `findings`."""
    raw = read_capped(path, "configuration", limit=_READ_LIMIT)
    text = raw.decode("utf-8", "surrogateescape")  # Orthanc looks at no encoding: names of files are bytes
    try:
        filled = substitute(text, variables)
        document = parse(filled.text)
    except Malformed as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        findings.append(
            Finding(
                When.START, "json", f"no JSON that Orthanc reads, at column {error.column}: {error.why}",
                f"mend that line: `${{EDITOR:-vi}} +{error.line} {word(path)}`", where,
            )
        )  # fmt: skip
        return None
    for name in filled.unset[:_LISTED]:
        findings.append(
            Finding(
                When.NOTE, "variable-unset",
                f"`${{{name}}}` is not set in this shell: checked as if it were empty, as Orthanc would take it",
                f"check with the environment that Orthanc gets: {_setting_of(name)} first", str(path),
            )
        )  # fmt: skip
    for key in document.repeated[:_LISTED]:
        quoted = shlex.quote(f'"{key}"')
        findings.append(
            Finding(
                When.NOTE, "key-repeated", f"`{key}` is in this file twice, and the last one counts",
                f"keep one of them: `grep -n {quoted} {word(path)}`", f"{path}:{document.lines[key]}",
            )
        )  # fmt: skip
    return {
        key: Setting(value, path, document.lines[key], key in document.alone)
        for key, value in document.values.items()
    }


def _setting_of(name: str) -> str:
    return f"`export {name}=VALUE`" if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else "set it with `env`"


def _defined_twice(key: str, first: Setting, second: Setting, sizes: Mapping[Path, int]) -> Finding:
    # The larger file is the general one, and its value the default that came with it.
    general = max(first, second, key=lambda one: sizes[one.path])
    return Finding(
        When.START,
        "key-twice",
        f"`{key}` is also in `{first.where}`, and Orthanc takes a key from one file only",
        take_out(general),
        second.where,
    )


def take_out(setting: Setting) -> str:
    """Return how to take a key out of its file: a command where it has a line to itself."""
    if setting.is_alone:
        return f"make it a comment: `sed -i '{setting.line}s|^|//|' {word(setting.path)}`"
    return f"take it out of one of them: `${{EDITOR:-vi}} +{setting.line} {word(setting.path)}`"
