"""Who is told of what a running SCP does: the person at the terminal, commands, figures."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.dimse.status import words as status_words
from dicomtls_cli.errors import OutputError, error_record, printable
from dicomtls_cli.services.receiving.events import Client, Closed, Event, Opened, Received, Refused, Totals
from dicomtls_cli.services.receiving.server import StorageServer

if TYPE_CHECKING:
    from dicomtls_cli.services.receiving.hooks import HookOptions, Hooks
    from dicomtls_cli.services.receiving.metrics import Metrics
    from dicomtls_cli.services.receiving.refusals import Refusals

logger = logging.getLogger("dicomtls.association")

_PARTING = 2.0  # seconds for who reads our output to take the last line


class Listeners:
    """Everybody who is told of events, and what they do before and after the server runs."""

    def __init__(
        self,
        terminal: Terminal,
        hooks: HookOptions | None,
        metrics: int | None,
        exit_after: int | None,
        refusals: Refusals | None = None,
    ) -> None:
        self._terminal = terminal
        self._reporter = _Reporter(terminal)
        self._hooks: Hooks | None = None
        self._metrics: Metrics | None = None
        if hooks is not None:
            from dicomtls_cli.services.receiving.hooks import Hooks

            self._hooks = Hooks(hooks)
        if metrics is not None:
            from dicomtls_cli.services.receiving.metrics import Metrics

            self._metrics = Metrics(metrics)
        self._refusals = refusals
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
        """Tell everybody of `event`."""
        if self._refusals is not None and isinstance(event, Refused):
            event = self._refusals.advise(event)
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
        # In a thread: a reader that stopped reading is not to keep us from ending.
        telling = threading.Thread(target=self._reporter.total, daemon=True)
        telling.start()
        telling.join(_PARTING)


class _Reporter:
    """Prints one line, or one JSON record, per event; called from many threads."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._lock = threading.Lock()
        self._has_reader = terminal.as_json or terminal.verbosity >= 0
        self._totals = Totals()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._totals.add(event)
            if self._has_reader:
                # Peers' strings are in it: whatever they hold, an event is one line.
                self._tell(lambda: printable(_line(event), limit=10_000), lambda: _record(event))

    def total(self) -> None:
        """Tell what the whole run came to."""
        with self._lock:
            record = self._totals.as_dict()
            words = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in record.items())
            self._tell(lambda: f"total {words}", lambda: {"event": "total", **record})

    def _tell(self, line: Callable[[], str], record: Callable[[], dict[str, Any]]) -> None:
        """Print one of the two, and make only that one: it is done for each instance."""
        if not self._has_reader:
            return
        time = datetime.now().astimezone().isoformat(timespec="milliseconds")
        try:
            if self._terminal.as_json:
                self._terminal.record({"time": time, **record()})
            else:
                self._terminal.result(f"{time} {line()}")
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
        "certificate_sha256": client.fingerprint or None,
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
    return f"certificate {client.subject}, SHA-256 {client.fingerprint}"
