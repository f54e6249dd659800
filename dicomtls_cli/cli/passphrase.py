"""Where passphrases come from: of our own key, of trusted certificates, of files of any kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dicomtls_cli.cli.terminal import is_interactive
from dicomtls_cli.errors import UsageError, printable
from dicomtls_cli.material import Prompt

if TYPE_CHECKING:
    from dicomtls_cli.pki.keystore import Password

PASSPHRASE_VARIABLE = "DICOMTLS_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable


def store_password(file: Path | None, what: str = "the PKCS#12 file") -> Password:
    """Return the first line of `file`; without one a question about `what`, where somebody can answer it."""
    if file is not None:
        from dicomtls_cli.pki.load import read_passphrase

        secret = read_passphrase(file)
        return lambda: secret
    if is_interactive():
        return _prompt(f"Password of {what}")
    return None


def key_passphrase(given: dict[str, Any], key: Path | None) -> Callable[[], bytes] | None:
    """Return where the passphrase of the encrypted `key` comes from, if from anywhere; `given` are the TLS options."""
    said = {given[name] for name in ("passphrase", "key_store_pass") if given[name] is not None}
    if len(said) > 1:
        raise UsageError(
            "two passwords are given, and the key in a PKCS#12 file has that of the file",
            "give one of them",
            slug="usage.contradiction",
        )
    if said:
        return str(said.pop()).encode
    if given["key_passphrase_file"] is not None:
        return _from_file(given["key_passphrase_file"])
    if PASSPHRASE_VARIABLE in os.environ and not given["ask"]:
        return os.environ[PASSPHRASE_VARIABLE].encode
    return _prompt(f"Passphrase of {printable(str(key))}") if is_interactive() else None


def trust_passphrase(given: dict[str, Any], trust: Sequence[str]) -> Callable[[], bytes] | None:
    """Return where the password of trusted certificates in PKCS#12 comes from (see `key_passphrase`)."""
    said, file = given["trust_store_pass"], given["trust_passphrase_file"]
    if not trust and (said is not None or file is not None):
        raise UsageError(
            f"`{'--trust-store-pass' if file is None else '--trust-passphrase-file'}` without trusted certificates",
            "name their file: `--trust-store FILE`",
            slug="usage.no-store",
        )
    if said is not None and file is not None:
        raise UsageError(
            "`--trust-store-pass` and `--trust-passphrase-file` both name a password",
            "give one of them",
            slug="usage.contradiction",
        )
    if said is not None:
        return str(said).encode
    if file is not None:
        return _from_file(file)
    return _prompt("Password of the trusted certificates") if is_interactive() else None


def _from_file(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        from dicomtls_cli.pki.load import read_passphrase

        return read_passphrase(path)

    return read


def _prompt(text: str) -> Prompt:
    return Prompt(lambda: str(click.prompt(text, hide_input=True, err=True)).encode())
