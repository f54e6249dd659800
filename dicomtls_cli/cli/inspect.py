"""`dicomtls inspect`: everything a person asks of certificates and keys, in files and as peers show them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.passphrase import store_password
from dicomtls_cli.cli.values import FILE, SECONDS, SPAN, looks_like_port, not_empty, parse_peer, take_peer
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import DicomTlsError, ExitCode, InputError, UsageError, printable
from dicomtls_cli.services.peer import Peer, Timeouts

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.pki.keystore import Password
    from dicomtls_cli.services.inspection import Ending, Found, Inspection

_FILE_SUFFIXES = {".pem", ".crt", ".cer", ".der", ".key", ".csr", ".crl", ".p12", ".pfx", ".p7b"}


@click.command(cls=StrictCommand)
@click.argument("words", nargs=-1, metavar="WHAT...")
@click.option(
    "--expires-in",
    "within",
    type=SPAN,
    metavar="SPAN",
    help="End with 40 if anything in WHAT ends within SPAN: `30d`, `8w`, `12h`.",
)
@click.option(
    "--passphrase-file",
    type=FILE,
    metavar="FILE",
    help="Password of PKCS#12 files and of encrypted keys: the first line of FILE. PKCS#12 is tried without, and with "
    "`secret`, unless it is given.",
)
@click.option("--connect-timeout", type=SECONDS, default=10.0, help="Seconds to connect to a peer [10].")
@click.option("--tls-timeout", type=SECONDS, default=10.0, help="Seconds for the TLS handshake [10].")
@click.option("-4", "--ipv4", "ipv4", is_flag=True, help="Peers by IPv4 only.")
@click.option("-6", "--ipv6", "ipv6", is_flag=True, help="Peers by IPv6 only.")
@output_options
def inspect(
    terminal: Terminal,
    words: tuple[str, ...],
    within: timedelta | None,
    passphrase_file: Path | None,
    connect_timeout: float,
    tls_timeout: float,
    ipv4: bool,
    ipv6: bool,
) -> int:
    """Say what is in a certificate, key or bundle, and which programs take it.

    WHAT is a file or folder: certificates, chains and bundles, private keys, signing requests, revocation lists, in
    PEM or DER, PKCS#12 and PKCS#7. Or a peer, HOST:PORT, whose certificates are those it shows; nothing of ours is.
    A file of that name wins. Several are looked at together: whose key is this, is the chain complete?

    \b
      dicomtls inspect pacs.crt pacs.key
      dicomtls inspect pacs.example:2762 --expires-in 30d
    """  # noqa: D301
    if not words:
        raise UsageError(
            "nothing to inspect is named", "as in `dicomtls inspect pacs.crt pacs.key`", slug="usage.no-input"
        )
    family = (
        socket.AF_INET if ipv4 and not ipv6 else socket.AF_INET6 if ipv6 and not ipv4 else socket.AF_UNSPEC
    )
    targets = list(_targets(words))
    password = store_password(passphrase_file, "the encrypted files")
    timeouts = Timeouts(connect=connect_timeout, tls=tls_timeout)
    found, failures = _look_at(targets, password, timeouts, family)
    if len(failures) == 1 and not found:
        raise failures[0]
    from dicomtls_cli.services.inspection import Inspection

    inspection = Inspection(found)
    endings = [] if within is None else inspection.endings(within)
    _tell(terminal, inspection, endings)
    for failure in failures:
        terminal.error(failure)
    if failures:
        return int(failures[0].exit_code)
    return int(ExitCode.FINDING) if endings else 0


def _look_at(
    targets: list[Path | Peer], password: Password, timeouts: Timeouts, family: socket.AddressFamily
) -> tuple[list[Found], list[DicomTlsError]]:
    """Look at all `targets`; return what was found, and what went wrong, each in their order."""
    from dicomtls_cli.services.inspection import look_at

    found: list[Found] = []
    failures: list[DicomTlsError] = []
    for target in _expanded(targets, failures):
        try:
            one = look_at(target, password, timeouts=timeouts, family=family)
        except DicomTlsError as error:
            failures.append(error)
            continue
        found.append(one)
        if not all(certificate.readable for certificate in one.holding.certificates):
            failures.append(_unreadable(one))
    return found, failures


def _unreadable(found: Found) -> InputError:
    places = [n for n, one in enumerate(found.holding.certificates, 1) if not one.readable]
    return InputError(
        f"certificate {', '.join(map(str, places))} of `{found.holding.source}` cannot be read",
        "get it again from its owner",
        slug="inspect.damaged",
    )


def _targets(words: tuple[str, ...]) -> Iterator[Path | Peer]:
    """Yield the files and peers that `words` name: what is there as a file is one, then `HOST:PORT`, `HOST PORT`."""
    rest = [not_empty(word) for word in words]
    while rest:
        word = rest[0]
        if not Path(word).exists() and "/" not in word and _is_peer(word, rest[1:]):
            peer, rest = take_peer(rest, aec=None, tls=True)
            yield peer
        else:
            _refuse_bare_host(word)
            yield Path(rest.pop(0))


def _refuse_bare_host(word: str) -> None:
    """Say how a peer is written, where `word` is no file, and could be a host."""
    if Path(word).exists() or "/" in word or Path(word).suffix.lower() in _FILE_SUFFIXES:
        return
    with contextlib.suppress(UsageError):
        parse_peer(word, aec=None, tls=True)
        host = f"[{word}]" if ":" in word else word
        raise InputError(
            f"`{word}` is no file in this folder",
            f"look for it; a peer is written with its port: `dicomtls inspect {host}:2762`",
            slug="inspect.not-found",
        )


def _is_peer(word: str, rest: list[str]) -> bool:
    try:
        _, has_port = parse_peer(word, aec=None, tls=True)
    except UsageError as error:
        if error.slug == "usage.port":
            raise
        return False
    return has_port or bool(rest and looks_like_port(rest[0]) and not Path(rest[0]).exists())


def _expanded(targets: list[Path | Peer], failures: list[DicomTlsError]) -> Iterator[Path | Peer]:
    """Yield `targets`, folders as the files in them; a folder without any is one of the `failures`."""
    from dicomtls_cli.pki.holding import files_of

    for target in targets:
        try:
            yield from files_of(target) if isinstance(target, Path) else [target]
        except DicomTlsError as error:
            failures.append(error)


def _tell(terminal: Terminal, inspection: Inspection, endings: list[Ending]) -> None:
    if terminal.as_json:
        from dicomtls_cli.cli.inspect_record import record_of

        for found in inspection.found:
            terminal.record(record_of(found, inspection, endings))
        return
    from dicomtls_cli.cli.portrait import heading, lines

    for number, found in enumerate(inspection.found):
        if number:
            terminal.result("")
        terminal.heading(heading(found))
        terminal.result("\n".join(lines(found, inspection)))
    for one in endings:
        end = "an end that cannot be read" if one.at is None else f"{one.at:%Y-%m-%d %H:%M} UTC"
        terminal.note(f"ends too soon: {printable(one.subject, 200)} in {printable(one.source)}: {end}")
