"""What the SCU commands share: their peers, and how they connect."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import click

from dicomtls_cli.cli.association import Link
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.values import parse_peer, take_peers
from dicomtls_cli.errors import UsageError, printable
from dicomtls_cli.services.echo import EchoResult
from dicomtls_cli.services.peer import Peer, Requestor, TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role

logger = logging.getLogger("dicomtls.tls")

connect_option = click.option(
    "-c", "--connect", "connect", metavar="[AET@]HOST[:PORT]", help="The peer, as dcm4che writes it."
)


def peers_from(words: Sequence[str], connect: str | None, *, aec: str | None, tls: bool) -> list[Peer]:
    """Return the peers a command line names; raise UsageError where it names none."""
    peers = [parse_peer(connect, aec=aec, tls=tls)[0]] if connect is not None else []
    peers += take_peers(list(words), aec=aec, tls=tls)
    if not peers:
        raise UsageError(
            "no peer is named", "write `host port`, `host:port` or `AET@host:port`", slug="usage.no-peer"
        )
    return peers


def refuse_pem_files(words: Sequence[str]) -> None:
    """Refuse a certificate among peers and files: `--trust a.crt b.crt` lacks its second `--trust`.

    Raises UsageError `usage.pem-as-dicom`.
    """
    for word in words:
        path = Path(word)
        if path.suffix.lower() in (".crt", ".pem", ".cer", ".key") and path.is_file() and _is_pem(path):
            is_key = path.suffix.lower() == ".key"
            raise UsageError(
                f"`{word}` is a PEM file, neither a peer nor a DICOM file",
                "name it with `--key`" if is_key else f"repeat the option: `--trust {word}`",
                slug="usage.pem-as-dicom",
            )


def _is_pem(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return b"-----BEGIN " in file.read(4096)
    return False


def make_requestor(link: Link, tls: TlsOptions | None) -> Requestor:
    """Read the files behind the options and return how every peer is connected to."""
    context = None if tls is None else tls_context(Role.REQUESTOR, tls)
    if tls is not None and tls.cert is None:
        logger.info("no certificate of our own is shown (anonymous TLS)")
    return Requestor(
        calling_aet=link.aet or "DICOMTLS",
        context=context,
        timeouts=link.timeouts,
        maximum_length=link.maximum_length,
        send_limit=link.send_limit,
        family=link.family,
        shows_certificate=tls is not None and tls.cert is not None,
        user=link.user,
        certificate_file=str(tls.cert) if tls is not None and tls.cert is not None else "",
    )


def report_echo(terminal: Terminal, result: EchoResult) -> int:
    """Print a verified peer; return the exit code."""
    tls = result.tls
    secured = (
        f"{tls.version} {tls.cipher}, peer identified by {tls.identified_by or 'nothing'}"
        if tls
        else "no TLS"
    )
    implementation = printable(result.implementation)  # the peer's word: no line of its own
    terminal.result(
        f"{result.peer}: C-ECHO success in {result.seconds * 1000:.1f} ms, {secured}, {implementation}"
    )
    terminal.record(
        {
            "ok": True,
            "peer": str(result.peer),
            "called_aet": result.peer.called_aet,
            "seconds": round(result.seconds, 6),
            "total_seconds": round(result.total_seconds, 6),
            "implementation": implementation,
            "tls": tls
            and {
                "version": tls.version,
                "cipher": tls.cipher,
                "peer_sha256": tls.fingerprint,
                "identified_by": tls.identified_by,
            },
        }
    )
    return 0
