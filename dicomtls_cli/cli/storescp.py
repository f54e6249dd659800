"""`dicomtls storescp`."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dicomtls_cli.cli.association import Link, association_options
from dicomtls_cli.cli.dialects import STORESCP
from dicomtls_cli.cli.listeners import Listeners
from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.receiving import fault_options, hook_options, storing_options
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.tls import tls_options
from dicomtls_cli.cli.values import (
    AE_TITLE,
    FILE,
    LISTENING_PORT,
    PLAIN_PORT,
    SECONDS,
    TLS_PORT,
    parse_bind,
    parse_listening_port,
)
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import UsageError
from dicomtls_cli.pki.files import NewFile, write_files
from dicomtls_cli.services.peer import TlsOptions
from dicomtls_cli.services.receiving.admission import Admission, default_hosts
from dicomtls_cli.services.receiving.lifetime import Lifetime
from dicomtls_cli.services.receiving.limits import raise_file_limit
from dicomtls_cli.services.receiving.refusals import Refusals
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer
from dicomtls_cli.services.receiving.systemd import inherited_sockets
from dicomtls_cli.tls.policy import PeerCheck, Role

if TYPE_CHECKING:
    from dicomtls_cli.services.receiving.faults import Faults
    from dicomtls_cli.services.receiving.hooks import HookOptions
    from dicomtls_cli.services.receiving.reception import StorageOptions
    from dicomtls_cli.upperlayer.negotiation import AcceptRules

_T = TypeVar("_T")


@click.command(cls=StrictCommand, dialect=STORESCP, short_help="Receive DICOM over TLS.")
@click.argument("port_word", metavar="[PORT]", required=False)
@click.option("--port", type=LISTENING_PORT, help="Port to listen on [2762; plain 11112]; 0: a free one.")
@click.option(
    "-b",
    "--bind",
    multiple=True,
    metavar="ADDRESS",
    help="Address or name to listen on; may be repeated [all]. Also a port, or dcm4che's AET[@ADDRESS]:PORT.",
)
@click.option(
    "-od",
    "--output",
    "--output-directory",
    "--directory",
    "output",
    type=FILE,
    help="Folder to store into [.].",
)
@click.option("--ignore", is_flag=True, help="Receive and throw away.")
@click.option(
    "--max-associations", type=click.IntRange(1, 10000), default=200, help="Associations at once [200]."
)
@click.option("--aet-only", is_flag=True, help="Reject who calls another AE title than --aet.")
@click.option(
    "--allow",
    "--accept",
    "allow",
    multiple=True,
    type=AE_TITLE,
    help="Reject who calls itself anything else; may be repeated.",
)
@click.option(
    "--ae-map",
    type=FILE,
    help="Which certificate may call itself what (TOML, docs/service.md); who is not in it is rejected.",
)
@click.option(
    "--refused-dir",
    type=FILE,
    metavar="DIR",
    help="Keep certificates that were not trusted in this folder, 100 at most, for whoever knows them.",
)
@click.option(
    "--grace",
    type=SECONDS,
    default=10.0,
    help="Seconds that transfers in flight get to finish on SIGTERM or Ctrl-C [10].",
)
@click.option("--exit-after", type=click.IntRange(1), metavar="N", help="End when N instances were received.")
@click.option(
    "--metrics",
    type=LISTENING_PORT,
    metavar="PORT",
    help="Serve figures for Prometheus on this port of 127.0.0.1 (0: a free one).",
)
@click.option(
    "--ready-file",
    type=FILE,
    help="Write pid, addresses and port there once it listens.",
)
@output_options
@hook_options
@storing_options
@fault_options
@tls_options(Role.ACCEPTOR)
@association_options(Role.ACCEPTOR)
def storescp(
    port_word: str | None,
    port: int | None,
    bind: tuple[str, ...],
    output: Path | None,
    ignore: bool,
    max_associations: int,
    aet_only: bool,
    allow: tuple[str, ...],
    ae_map: Path | None,
    refused_dir: Path | None,
    grace: float,
    exit_after: int | None,
    metrics: int | None,
    ready_file: Path | None,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
    hooks: HookOptions | None,
    storing: StorageOptions,
    rules: AcceptRules,
    faults: Faults,
) -> int:
    """Receive C-STORE and answer C-ECHO over TLS until a signal ends it.

    Without --peer-cert, every peer must show a certificate that --trust holds. It listens on all addresses
    then; with --peer-cert verify or ignore and with --no-tls on loopback only, unless --bind says more. Data
    sets are stored bit by bit as they came. SIGTERM or Ctrl-C lets transfers in flight finish (--grace); a second
    one aborts them. SIGHUP reads certificates, revocation lists and the AE map anew and opens the log file anew;
    whoever is connected stays. Sockets that systemd hands over are served instead of PORT and --bind.

    \b
      dicomtls storescp 2762 --cert me.crt --key me.key --trust trusted.crt --output received
    """  # noqa: D301
    if ignore and output is not None:
        raise UsageError(
            "`--ignore` throws away what `--output` would store",
            "give one of them",
            slug="usage.contradiction",
        )
    refusals = _refusals(tls, refused_dir)
    place = _Place(port_word, port, bind, link.aet)
    own_aet = place.aet or "DICOMTLS"
    called = own_aet if aet_only or place.binds_aet else None
    admission = Admission(tls, called=called, calling=frozenset(allow), ae_map=ae_map)
    place.take_sockets()
    options = ServerOptions(
        port=place.port if place.port is not None else TLS_PORT if tls else PLAIN_PORT,
        hosts=place.hosts or default_hosts(tls, link.family),
        output=None if ignore else output or Path(),
        context=admission.context,
        aet=own_aet,
        timeouts=link.timeouts,
        max_associations=max_associations,
        maximum_length=link.maximum_length,
        family=link.family,
        access=admission.rules,
        grace=grace,
        sockets=place.sockets,
        rules=rules,
        storing=storing,
        faults=faults,
        certificate_file="" if tls is None else tls.certificate_file,
    )
    raise_file_limit(options.files)
    listeners = Listeners(terminal, hooks, metrics, exit_after, refusals)
    server = StorageServer(options, listeners)
    server.start()
    listeners.start(server)

    def renew() -> None:
        terminal.reopen_log()
        if admission.renew(server):
            terminal.note("reloaded certificates and rules")

    with Lifetime(server, renew, admission.warn) as lifetime:
        if ready_file is not None:  # who reads it may send signals
            _write_ready_file(ready_file, server, listeners.metrics_port)
        where = ", ".join(
            f"[{host}]:{number}" if ":" in host else f"{host}:{number}" for host, number in server.addresses
        )
        terminal.note(f"listening on {where} ({'TLS' if tls else 'plain DICOM, unprotected'})")
        server.run()
        listeners.finish(is_over=lambda: lifetime.exit_code != 0)
    return lifetime.exit_code


def _refusals(tls: TlsOptions | None, folder: Path | None) -> Refusals | None:
    """Return what is said of refused certificates; None where nobody's is looked at."""
    if tls is not None and tls.peer_check is not PeerCheck.IGNORE:
        return Refusals(folder, [Path(path) for path in tls.trust])
    if folder is not None:
        without = "--no-tls" if tls is None else "--peer-cert ignore"
        raise UsageError(
            f"`--refused-dir` keeps refused certificates, and with `{without}` none is looked at",
            f"drop `{without}`, or `--refused-dir`",
            slug="usage.contradiction",
        )
    return None


class _Place:
    """Where to listen and under which AE title, from all the words that may say so."""

    def __init__(self, word: str | None, port: int | None, bind: tuple[str, ...], aet: str | None) -> None:
        parsed = [parse_bind(text) for text in bind]
        self.hosts = tuple(host for _, host, _ in parsed if host is not None)
        self.port = _one(
            "port", [parse_listening_port(word) if word else None, port, *(number for _, _, number in parsed)]
        )
        self.aet = _one("AE title", [aet, *(title for title, _, _ in parsed)])
        # As dcm4che has it: who writes the AE title there takes no other.
        self.binds_aet = any(title is not None for title, _, _ in parsed)
        self.sockets: tuple[socket.socket, ...] = ()

    def take_sockets(self) -> None:
        """Take the listening sockets that a service manager hands over, if it does; they are the place then."""
        self.sockets = tuple(inherited_sockets())
        if self.sockets and (self.hosts or self.port is not None):
            for sock in self.sockets:
                sock.close()
            raise UsageError(
                "the service manager hands over sockets, and PORT or `--bind` names where to listen",
                "name the port in the `.socket` unit alone, or start without one",
                slug="usage.contradiction",
            )


def _one(what: str, said: list[_T | None]) -> _T | None:
    values = {value for value in said if value is not None}
    if len(values) > 1:
        raise UsageError(
            f"contradicting words for the {what}: {', '.join(sorted(map(str, values)))}",
            "give one of them",
            slug="usage.contradiction",
        )
    return values.pop() if values else None


def _write_ready_file(path: Path, server: StorageServer, metrics_port: int | None) -> None:
    record = {"pid": os.getpid(), "port": server.port, "addresses": [host for host, _ in server.addresses]}
    if metrics_port is not None:
        record["metrics_port"] = metrics_port
    try:
        write_files([NewFile(path, f"{json.dumps(record)}\n".encode())], force=True)
    except BaseException:
        server.cancel()
        raise
