"""What the SCU commands share: their peers, and how they connect."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from dicomtls_cli.cli.association import Link
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.values import FILE, parse_peer, take_peer
from dicomtls_cli.cli.words import is_name
from dicomtls_cli.errors import DicomTlsError, UsageError, error_record, printable
from dicomtls_cli.services.echo import EchoResult
from dicomtls_cli.services.peer import Peer, Requestor, Target, TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role

logger = logging.getLogger("dicomtls.tls")

connect_option = click.option(
    "-c", "--connect", "connect", metavar="[AET@]HOST[:PORT]", help="The peer, as dcm4che writes it."
)


config_option = click.option(
    "--config",
    type=FILE,
    expose_value=False,  # read where `@NAME` is: `named`
    help="The peers file that `@NAME` is looked up in [$DICOMTLS_CONFIG, else ./dicomtls.toml and the user's].",
)


def peers_from(words: Sequence[str], connect: str | None, *, aec: str | None, tls: bool) -> list[Peer | str]:
    """Return the peers a command line names, `@NAME` of a peers file as it stands; raise UsageError where none is."""
    found: list[Peer | str] = [parse_peer(connect, aec=aec, tls=tls)[0]] if connect is not None else []
    rest = list(words)
    while rest:
        if is_name(rest[0]):
            found.append(rest.pop(0))
        else:
            peer, rest = take_peer(rest, aec=aec, tls=tls)
            found.append(peer)
    if not found:
        raise UsageError(
            "no peer is named", "write `host port`, `host:port` or `AET@host:port`", slug="usage.no-peer"
        )
    return found


def targets_from(peers: Iterable[Peer | str], link: Link, tls: TlsOptions | None) -> list[Target]:
    """Return how each of `peers` is reached: `@NAME` has settings of its own, the others share the line's."""
    own: Requestor | None = None  # made where a peer needs it: it reads files
    found = []
    for peer in peers:
        if isinstance(peer, str):
            from dicomtls_cli.cli.named import named_target

            found.append(named_target(click.get_current_context(), peer))
        else:
            own = own or make_requestor(link, tls)
            found.append(Target(peer, own))
    return found


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
        certificate_file="" if tls is None else tls.certificate_file,
    )


def report_failure(terminal: Terminal, peer: Peer, error: DicomTlsError, **more: object) -> None:
    """Print why one of several peers was not verified; `more` is what the record has beside the peer."""
    if terminal.as_json:
        terminal.record({"ok": False, "peer": str(peer), **more, "error": error_record(error)})
    else:
        terminal.error(error)


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
            "phases": {
                "connect": round(result.connect_seconds, 6),
                **({"tls": round(result.tls_seconds, 6)} if tls else {}),
                "association": round(result.associate_seconds, 6),
                "echo": round(result.seconds, 6),
            },
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
