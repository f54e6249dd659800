"""`dicomtls peers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.values import FILE
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import DicomTlsError, InputError, error_record
from dicomtls_cli.services.peer import Target
from dicomtls_cli.services.peers_file import NamedPeer, how_to_write, load_peers, peers_files


@click.command(cls=StrictCommand, short_help="List and check the peers that have a name.")
@click.option(
    "--config",
    "file",
    type=FILE,
    help="This peers file [$DICOMTLS_CONFIG, else ./dicomtls.toml and the user's].",
)
@output_options
def peers(file: Path | None, terminal: Terminal) -> int:
    """List the peers of the peers files, and check what is set of each; connect to nobody.

    Certificates, keys and trust are read as `echoscu @NAME` would read them. The exit code is 0 only if all of them
    can be used. A file gives a peer its name, and says in the words of the options how it is reached:

    \b
      [defaults]
      cert = "me.crt"
      key = "me.key"

    \b
      [peer.pacs]
      address = "ORTHANC@pacs.example:2762"
      trust = "pacs.crt"

    The name then stands for all of that:

    \b
      dicomtls peers
      dicomtls echoscu @pacs
    """  # noqa: D301
    files = peers_files(file)
    if not files:
        raise InputError("there is no peers file", how_to_write(), slug="config.no-file")
    found = load_peers(files)
    code = 0
    for peer in found.values():
        try:
            target = _target(peer, file)
        except DicomTlsError as error:
            code = code or int(error.exit_code)
            terminal.record({"ok": False, **_record(peer), "error": error_record(error)})
            if not terminal.as_json:
                terminal.error(error)
        else:
            terminal.result(_line(peer, target))
            terminal.record({"ok": True, **_record(peer), "called_aet": target.peer.called_aet})
    if not found:
        terminal.note(f"no peer in {' and '.join(f'`{path}`' for path in files)}")
    return code


def _target(peer: NamedPeer, file: Path | None) -> Target:
    from dicomtls_cli.cli.named import target_of

    return target_of(peer.name, file)


def _line(peer: NamedPeer, target: Target) -> str:
    where = f"{target.peer.called_aet}@{target.peer}"
    secured = "TLS" if target.requestor.context is not None else "no TLS"
    shown = ", shows a certificate" if target.requestor.shows_certificate else ""
    return f"@{peer.name:<16} {where:<40} {secured}{shown}, as {target.requestor.calling_aet} ({peer.origins[0]})"


def _record(peer: NamedPeer) -> dict[str, Any]:
    return {
        "name": peer.name,
        "address": peer.address,
        "settings": dict(peer.settings),
        "files": [str(path) for path in peer.origins],
    }
