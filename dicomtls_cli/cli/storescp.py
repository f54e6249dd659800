"""`dicomtls storescp`."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from dicomtls_cli.cli.association import Link, association_options
from dicomtls_cli.cli.dialects import STORESCP
from dicomtls_cli.cli.options import output_options
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
from dicomtls_cli.dimse.status import words as status_words
from dicomtls_cli.errors import OutputError, UsageError, error_record, printable
from dicomtls_cli.pki.files import NewFile, write_files
from dicomtls_cli.services.admission import Admission
from dicomtls_cli.services.events import Client, Closed, Event, Opened, Received, Refused
from dicomtls_cli.services.lifetime import Lifetime
from dicomtls_cli.services.limits import raise_file_limit
from dicomtls_cli.services.peer import TlsOptions
from dicomtls_cli.services.server import ServerOptions, StorageServer
from dicomtls_cli.services.systemd import inherited_sockets
from dicomtls_cli.tls.policy import PeerCheck, Role

logger = logging.getLogger("dicomtls.association")

_T = TypeVar("_T")
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


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
    help="Where to store: OUTPUT/StudyInstanceUID/SOPInstanceUID.dcm [.].",
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
    "--grace",
    type=SECONDS,
    default=10.0,
    help="Seconds that transfers in flight get to finish on SIGTERM or Ctrl-C [10].",
)
@click.option(
    "--ready-file",
    type=FILE,
    help="Write pid, addresses and port there once it listens.",
)
@output_options
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
    grace: float,
    ready_file: Path | None,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
) -> int:
    """Receive C-STORE and answer C-ECHO over TLS until a signal ends it.

    Without --peer-cert, every peer must show a certificate that --trust holds. It listens on all addresses
    then; with --peer-cert verify or ignore and with --no-tls on loopback only, unless --bind says more. Data
    sets are stored bit by bit as they came. SIGTERM or Ctrl-C lets transfers in flight finish (--grace); a second
    one aborts them. SIGHUP reads certificates and the AE map anew; whoever is connected stays. Sockets that
    systemd hands over are served instead of PORT and --bind.

    \b
      dicomtls storescp 2762 --cert me.crt --key me.key --trust trusted.crt --output received
    """  # noqa: D301
    if ignore and output is not None:
        raise UsageError(
            "`--ignore` throws away what `--output` would store",
            "give one of them",
            slug="usage.contradiction",
        )
    place = _Place(port_word, port, bind, link.aet)
    own_aet = place.aet or "DICOMTLS"
    called = own_aet if aet_only or place.binds_aet else None
    admission = Admission(tls, called=called, calling=frozenset(allow), ae_map=ae_map)
    place.take_sockets()
    options = ServerOptions(
        port=place.port if place.port is not None else TLS_PORT if tls else PLAIN_PORT,
        hosts=place.hosts or _default_hosts(tls, link.family),
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
    )
    raise_file_limit(options.files)
    server = StorageServer(options, _Reporter(terminal))
    server.start()
    if ready_file is not None:
        _write_ready_file(ready_file, server)

    def renew() -> None:
        if admission.renew(server):
            terminal.note("reloaded certificates and rules")

    with Lifetime(server, renew, admission.warn) as lifetime:
        where = ", ".join(
            f"[{host}]:{number}" if ":" in host else f"{host}:{number}" for host, number in server.addresses
        )
        terminal.note(f"listening on {where} ({'TLS' if tls else 'plain DICOM, unprotected'})")
        server.run()
    return lifetime.exit_code


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


def _default_hosts(tls: TlsOptions | None, family: socket.AddressFamily) -> tuple[str, ...]:
    """Return where to listen unless told: whoever lets strangers in does so on loopback."""
    if tls is not None and tls.peer_check is PeerCheck.REQUIRE:
        return ()
    return tuple(host for kind, host in _LOOPBACK.items() if family in (socket.AF_UNSPEC, kind))


def _write_ready_file(path: Path, server: StorageServer) -> None:
    record = {"pid": os.getpid(), "port": server.port, "addresses": [host for host, _ in server.addresses]}
    try:
        write_files([NewFile(path, f"{json.dumps(record)}\n".encode())], force=True)
    except BaseException:
        server.cancel()
        raise


class _Reporter:
    """Prints one line, or one JSON record, per event; called from many threads."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._lock = threading.Lock()
        self._has_reader = True

    def __call__(self, event: Event) -> None:
        if self._terminal.verbosity < 0 and not self._terminal.as_json:
            return
        time = datetime.now().astimezone().isoformat(timespec="milliseconds")
        with self._lock:
            if not self._has_reader:
                return
            try:
                # Peers' strings are in it: whatever they hold, an event is one line.
                self._terminal.result(f"{time} {printable(_line(event), limit=10_000)}")
                self._terminal.record({"time": time, **_record(event)})
            except OutputError as error:
                # Who reads our output may leave; the images still have to be received.
                self._has_reader = False
                logger.error("%s; the events are told no more", error.message)


def _line(event: Event) -> str:
    who = _who(event.client)
    match event:
        case Refused(error=error):
            cause = error.message.partition(f"`{event.client.address}`: ")[2] or error.message
            shown = f" ({_certificate(event.client)})" if event.client.certificate else ""
            hint = f"; {error.hint}" if error.hint else ""
            return f"refused {who}: {cause}{shown}{hint}"
        case Opened():
            return f"opened {who}, {_security(event.client)}"
        case Received(instance=received):
            if received.stored is None:
                return f"not stored {who}: {received.sop_instance} {status_words(received.status, received.comment)}"
            stored = received.stored
            how = " (replaced" + (", identical)" if stored.identical else ")") if stored.replaced else ""
            where = stored.path if stored.path is not None else "(ignored)"
            return f"stored {who}: {where} {stored.length} bytes in {received.seconds:.3f} s{how}"
        case Closed(error=error, instances=count, seconds=seconds):
            end = "released" if error is None else f"lost ({error.message})"
            return f"{end} {who} after {count} instance{'' if count == 1 else 's'} and {seconds:.1f} s"


def _record(event: Event) -> dict[str, Any]:
    client = event.client
    record: dict[str, Any] = {
        "event": type(event).__name__.lower(),
        "peer": client.address,
        "calling_aet": printable(client.calling_aet),
        "called_aet": printable(client.called_aet),
        "tls": client.tls and {"version": client.tls.version, "cipher": client.tls.cipher},
        "certificate_subject": client.subject or None,
        "certificate_sha256": client.fingerprint or None,
    }
    match event:
        case Refused(error=error):
            record["error"] = error_record(error)
        case Received(instance=received):
            stored = received.stored
            record |= {
                "ok": stored is not None,
                "sop_class": printable(received.sop_class),
                "sop_instance": printable(received.sop_instance),
                "transfer_syntax": received.transfer_syntax,
                "status": f"{received.status:04X}",
                "path": stored and stored.path and str(stored.path),
                "bytes": stored and stored.length,
                "seconds": round(received.seconds, 6),
                "replaced": stored is not None and stored.replaced,
                "identical": stored is not None and stored.identical,
            }
        case Closed(error=error, instances=count, seconds=seconds):
            record |= {
                "instances": count,
                "seconds": round(seconds, 6),
                "error": error and error_record(error),
            }
    return record


def _who(client: Client) -> str:
    titles = (
        f" {client.calling_aet} -> {client.called_aet}" if client.calling_aet or client.called_aet else ""
    )
    return f"{client.address}{titles}"


def _security(client: Client) -> str:
    if client.tls is None:
        return "no TLS"
    return f"{client.tls.version} {client.tls.cipher}, {_certificate(client)}"


def _certificate(client: Client) -> str:
    if not client.certificate:
        return "no certificate"
    return f"certificate {client.subject}, SHA-256 {client.fingerprint}"
