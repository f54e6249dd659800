"""`dicomtls storescp`."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dicomtls_cli.cli.dialects import STORESCP
from dicomtls_cli.cli.options import Link, association_options, output_options, tls_options
from dicomtls_cli.cli.receiving import fault_options, hook_options, storing_options
from dicomtls_cli.cli.terminal import Terminal, error_record
from dicomtls_cli.cli.values import FILE, LISTENING_PORT, PLAIN_PORT, TLS_PORT, parse_bind, parse_port
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.dimse.status import words as status_words
from dicomtls_cli.errors import ExitCode, OutputError, UsageError, printable
from dicomtls_cli.pki.files import NewFile, write_files
from dicomtls_cli.services.events import Client, Closed, Event, Opened, Received, Refused, Totals
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.services.server import ServerOptions, StorageServer
from dicomtls_cli.tls.policy import PeerCheck, Role

if TYPE_CHECKING:
    from dicomtls_cli.services.faults import Faults
    from dicomtls_cli.services.hooks import HookOptions, Hooks
    from dicomtls_cli.services.metrics import Metrics
    from dicomtls_cli.services.storage import StorageOptions
    from dicomtls_cli.upperlayer.negotiation import AcceptRules

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
    help="Folder to store into [.].",
)
@click.option("--ignore", is_flag=True, help="Receive and throw away.")
@click.option(
    "--max-associations", type=click.IntRange(1, 10000), default=200, help="Associations at once [200]."
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
    sets are stored bit by bit as they came. SIGTERM or Ctrl-C gives transfers in flight 10 s to finish; a second one
    aborts them.

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
    options = ServerOptions(
        port=place.port if place.port is not None else TLS_PORT if tls else PLAIN_PORT,
        hosts=place.hosts or _default_hosts(tls, link.family),
        output=None if ignore else output or Path(),
        context=None if tls is None else tls_context(Role.ACCEPTOR, tls),
        aet=place.aet or "DICOMTLS",
        timeouts=link.timeouts,
        max_associations=max_associations,
        maximum_length=link.maximum_length,
        family=link.family,
        rules=rules,
        storing=storing,
        faults=faults,
    )
    listeners = _Listeners(terminal, hooks, metrics, exit_after)
    server = StorageServer(options, listeners)
    server.start()
    listeners.start(server)
    if ready_file is not None:
        _write_ready_file(ready_file, server, listeners.metrics_port)
    with _Signals(server) as signals:
        where = ", ".join(
            f"[{host}]:{number}" if ":" in host else f"{host}:{number}" for host, number in server.addresses
        )
        terminal.note(f"listening on {where} ({'TLS' if tls else 'plain DICOM, unprotected'})")
        server.run()
        listeners.finish(is_over=lambda: signals.exit_code != 0)
    return signals.exit_code


class _Place:
    """Where to listen and under which AE title, from all the words that may say so."""

    def __init__(self, word: str | None, port: int | None, bind: tuple[str, ...], aet: str | None) -> None:
        parsed = [parse_bind(text) for text in bind]
        self.hosts = tuple(host for _, host, _ in parsed if host is not None)
        self.port = _one(
            "port", [parse_port(word) if word else None, port, *(number for _, _, number in parsed)]
        )
        self.aet = _one("AE title", [aet, *(title for title, _, _ in parsed)])


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


def _write_ready_file(path: Path, server: StorageServer, metrics_port: int | None) -> None:
    record = {"pid": os.getpid(), "port": server.port, "addresses": [host for host, _ in server.addresses]}
    if metrics_port is not None:
        record["metrics_port"] = metrics_port
    try:
        write_files([NewFile(path, f"{json.dumps(record)}\n".encode())], force=True)
    except BaseException:
        server.cancel()
        raise


class _Signals:
    """SIGTERM and SIGINT end the server in order, a second one at once."""

    def __init__(self, server: StorageServer) -> None:
        self._server = server
        self._before: dict[int, Any] = {}
        self._count = 0
        self.exit_code = 0

    def __enter__(self) -> _Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _caught(self, number: int, _frame: object) -> None:
        self._count += 1
        if self._count == 1:
            self._server.stop()
            return
        self.exit_code = int(ExitCode.KILLED if number == signal.SIGTERM else ExitCode.INTERRUPTED)
        self._server.abort()


class _Listeners:
    """Everybody who is told of events, and what they do before and after the server runs."""

    def __init__(
        self, terminal: Terminal, hooks: HookOptions | None, metrics: int | None, exit_after: int | None
    ) -> None:
        self._terminal = terminal
        self._reporter = _Reporter(terminal)
        self._hooks: Hooks | None = None
        self._metrics: Metrics | None = None
        if hooks is not None:
            from dicomtls_cli.services.hooks import Hooks

            self._hooks = Hooks(hooks)
        if metrics is not None:
            from dicomtls_cli.services.metrics import Metrics

            self._metrics = Metrics(metrics)
        self._left = exit_after
        self._lock = threading.Lock()
        self._stop: Callable[[], None] = lambda: None

    @property
    def metrics_port(self) -> int | None:
        """The port the figures are on."""
        return None if self._metrics is None else self._metrics.port

    def start(self, server: StorageServer) -> None:
        """Get ready to be told of events of `server`, which listens already."""
        self._stop = server.stop
        if self._metrics is not None:
            try:
                self._metrics.start()
            except BaseException:
                server.cancel()
                raise
            self._terminal.note(f"metrics on http://127.0.0.1:{self._metrics.port}/metrics")

    def __call__(self, event: Event) -> None:
        self._reporter(event)
        if self._metrics is not None:
            self._metrics(event)
        if self._hooks is not None:  # the last, since it may have to wait
            self._hooks(event)
        if self._left is not None and isinstance(event, Received) and event.instance.stored is not None:
            with self._lock:
                self._left -= 1
                if self._left == 0:
                    self._stop()

    def finish(self, is_over: Callable[[], bool]) -> None:
        """Let commands that are to run do so, until `is_over`, and tell the totals."""
        if self._hooks is not None:
            self._hooks.close(is_over=is_over)
        if self._metrics is not None:
            self._metrics.close()
        self._reporter.total()


class _Reporter:
    """Prints one line, or one JSON record, per event; called from many threads."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._lock = threading.Lock()
        self._has_reader = True
        self._totals = Totals()

    def __call__(self, event: Event) -> None:
        is_silent = self._terminal.verbosity < 0 and not self._terminal.as_json
        with self._lock:
            self._totals.add(event)
            if not is_silent:
                # Peers' strings are in it: whatever they hold, an event is one line.
                self._tell(printable(_line(event), limit=10_000), _record(event))

    def total(self) -> None:
        """Tell what the whole run came to."""
        with self._lock:
            record = self._totals.as_dict()
            words = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in record.items())
            self._tell(f"total {words}", {"event": "total", **record})

    def _tell(self, line: str, record: dict[str, Any]) -> None:
        if not self._has_reader:
            return
        time = datetime.now().astimezone().isoformat(timespec="milliseconds")
        try:
            self._terminal.result(f"{time} {line}")
            self._terminal.record({"time": time, **record})
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
            return f"refused {who} at {event.stage}: {cause}{shown}{hint}"
        case Opened():
            return f"opened {who}, {_security(event.client)}"
        case Received(instance=received):
            if received.stored is None:
                return f"not stored {who}: {received.sop_instance} {status_words(received.status, received.comment)}"
            stored = received.stored
            there = "replaced" if stored.replaced else "kept the one that was there" if stored.kept else ""
            how = f" ({there}, {'identical' if stored.identical else 'different'})" if there else ""
            where = stored.path if stored.path is not None else "(ignored)"
            digest = f", SHA-256 {stored.sha256}" if stored.sha256 else ""
            return f"stored {who}: {where} {stored.length} bytes in {received.seconds:.3f} s{how}{digest}"
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
        "certificate_sha256": _fingerprint(client) or None,
    }
    match event:
        case Refused(error=error):
            record |= {"stage": event.stage, "error": error_record(error)}
            if client.certificate:
                record["certificate_pem"] = ssl.DER_cert_to_PEM_cert(client.certificate)
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
                "kept": stored is not None and stored.kept,
            }
            if stored is not None and stored.sha256:
                record["sha256"] = stored.sha256
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
    return f"certificate {client.subject}, SHA-256 {_fingerprint(client)}"


def _fingerprint(client: Client) -> str:
    import hashlib

    return hashlib.sha256(client.certificate).hexdigest() if client.certificate else ""
