"""Where the password of PKCS#12 files comes from, for commands that read files of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomtls_cli.cli.terminal import is_interactive
from dicomtls_cli.material import Prompt

if TYPE_CHECKING:
    from dicomtls_cli.pki.keystore import Password


def store_password(file: Path | None, what: str = "the PKCS#12 file") -> Password:
    """Return the first line of `file`; without one a question about `what`, where somebody can answer it."""
    if file is not None:
        from dicomtls_cli.pki.load import read_passphrase

        secret = read_passphrase(file)
        return lambda: secret
    if is_interactive():
        return Prompt(lambda: str(click.prompt(f"Password of {what}", hide_input=True, err=True)).encode())
    return None
