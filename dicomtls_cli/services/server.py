"""The listener of the SCP: connections, threads, slots, deadlines, and an end in order.

A connection costs a thread only once its first byte is there; until then it waits in the selector, where
any number of silent ones disturbs nobody. When too many wait, the oldest goes, never the newest.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dicomtls_cli.errors import AssociationLost, DicomTlsError, ExitCode
from dicomtls_cli.services.diagnose import Stage, diagnose
from dicomtls_cli.services.events import Client, Closed, Event, Opened, Received, Refused
from dicomtls_cli.services.faults import Faults
from dicomtls_cli.services.listen import listen
from dicomtls_cli.services.peer import Timeouts
from dicomtls_cli.services.receive import InstanceReceived, serve
from dicomtls_cli.services.storage import Identifiers, Ignored, Incoming, Storage, StorageOptions
from dicomtls_cli.tls.handshake import first_byte, handshake, messages
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.header import OWN_MAXIMUM
from dicomtls_cli.upperlayer.negotiation import AcceptRules, ae_title, answer
from dicomtls_cli.upperlayer.pdu import APPLICATION_CONTEXT, AssociateReject, AssociateRequest
from dicomtls_cli.upperlayer.stream import lingering_close
from dicomtls_cli.upperlayer.words import reject_words

logger = logging.getLogger("dicomtls.association")

_WAITING = 900  # connections without a first byte, below the usual limit of 1024 file descriptors
_PER_SOURCE = 800  # ... of them from one address, which can then only crowd out itself
_GRACE = 10.0  # seconds that transfers in flight get to finish after `stop`
_IDLE = 1.0  # seconds after which an association without a message is not waited for at the end
_PARTING = 1.0  # seconds that cut off transfers get to remove what they had begun
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TICK = 0.25  # seconds between two looks at the deadlines of silent connections


@dataclass(frozen=True)
class ServerOptions:
    """How an SCP listens and what it takes.

    `hosts` are the addresses or names to listen on, empty for all; `port` 0 takes a free one. `output` None
    receives and throws away. `context` None serves plain DICOM. `max_associations` counts those open at
    once; `maximum_length` is the largest P-DATA PDU taken, in bytes.
    """

    port: int
    hosts: tuple[str, ...] = ()
    output: Path | None = None
    context: ssl.SSLContext | None = None
    aet: str = "DICOMTLS"
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_associations: int = 200
    maximum_length: int = OWN_MAXIMUM
    family: socket.AddressFamily = socket.AF_UNSPEC
    rules: AcceptRules = field(default_factory=AcceptRules)
    storing: StorageOptions = field(default_factory=StorageOptions)
    faults: Faults = field(default_factory=Faults)


@dataclass(eq=False)
class _Connection:
    """A connection while a thread serves it."""

    sock: socket.socket
    client: Client
    begun: float = field(default_factory=time.monotonic)
    has_association: bool = False
    association: Association | None = None

    @property
    def idle_seconds(self) -> float:
        """How long it has had no association, or no message on it."""
        if self.association is None:
            return time.monotonic() - self.begun
        return self.association.idle_seconds

    @property
    def takes_slot(self) -> bool:
        """Whether it counts against `max_associations`: not while it only waits for the peer to leave."""
        return self.has_association and (self.association is None or self.association.is_open)


class StorageServer:
    """An SCP for C-STORE and C-ECHO over TLS (or plain), for any number of associations at once.

    `on_event` is called from the threads of the associations; what it raises is logged. `start` binds; `run`
    serves until `stop`. As a context manager it serves in a thread of its own.
    """

    def __init__(
        self, options: ServerOptions, on_event: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.options = options
        self._on_event = on_event
        self.addresses: list[tuple[str, int]] = []
        self._storage: Storage | None = None
        self._listeners: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[socket.socket, tuple[Client, float]] = {}
        self._serving: set[_Connection] = set()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._stopping = False
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Bind and listen; `addresses` then tells where. Raises OutputError (exit code 4 or 5)."""
        try:
            if self.options.output is not None:
                self._storage = Storage(self.options.output, self.options.storing)
            self._listeners = listen(self.options.hosts, self.options.port, self.options.family)
        except BaseException:
            self.cancel()
            raise
        for listener in self._listeners:
            listener.setblocking(False)
            host, port = listener.getsockname()[:2]
            self.addresses.append((host, port))
            self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self.addresses[0][1]

    def run(self) -> None:
        """Serve until `stop`; then let transfers in flight finish within a grace time."""
        try:
            while not self._stopping:
                for key, _ in self._selector.select(_TICK if self._waiting else None):
                    if key.fileobj in self._listeners:
                        self._accept(key.fileobj)
                    elif key.fileobj in self._waiting:
                        self._hand_over(key.fileobj)
                self._drop_silent()
        finally:
            self._close_listeners()
            self._drain()

    def stop(self) -> None:
        """Ask `run` to end; safe from any thread and from a signal handler."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def cancel(self) -> None:
        """Undo `start`, where `run` is not to follow: nothing listens, and no folder was made for nothing."""
        self._close_listeners()
        if self._storage is not None:
            self._storage.withdraw()

    def abort(self) -> None:
        """End everything at once; safe from a signal handler after `stop`."""
        for connection in list(self._serving):
            _cut(connection.sock)

    def __enter__(self) -> StorageServer:
        self.start()
        self._thread = threading.Thread(target=self.run, name="dicomtls-listener", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self._thread is not None
        self._thread.join()

    def _close_listeners(self) -> None:
        for sock in (*self._listeners, *self._waiting):
            sock.close()
        self._waiting.clear()
        self._selector.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _drain(self) -> None:
        """Let what is being transferred finish; who only keeps an association open is not waited for."""
        deadline = time.monotonic() + _GRACE
        while self._serving and time.monotonic() < deadline:
            for connection in list(self._serving):
                if connection.idle_seconds > _IDLE:
                    _cut(connection.sock)
            self._await_idle(_TICK)
        self.abort()
        self._await_idle(_PARTING)

    def _await_idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._idle:
            while self._serving and (remaining := deadline - time.monotonic()) > 0:
                self._idle.wait(remaining)

    def _tell(self, event: Event) -> None:
        """Report `event`; whoever cannot listen any more (a closed pipe) must not end the service."""
        try:
            self._on_event(event)
        except Exception as error:
            logger.error("an event could not be reported: %s: %s", type(error).__name__, error)

    # ------------------------------------------------------------------ connections before their thread

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            # Make room, or the same connection would wake us for ever.
            if error.errno in _EXHAUSTED and not self._evict_oldest():
                self._await_change()
            return
        sock.setblocking(True)
        client = Client(_address_text(address))
        if len(self._waiting) >= _PER_SOURCE:
            self._evict_oldest(client.host)
        if len(self._waiting) >= _WAITING:
            self._evict_oldest()
        self._waiting[sock] = (client, time.monotonic() + self.options.timeouts.tls)
        self._selector.register(sock, selectors.EVENT_READ)

    def _evict_oldest(self, host: str | None = None) -> bool:
        """Drop the connection that said nothing for longest; of `host`, where that one has too many."""
        chosen = [s for s, (client, _) in self._waiting.items() if host in (None, client.host)]
        if not chosen or (host is not None and len(chosen) < _PER_SOURCE):
            return False
        self._forget(chosen[0], "it said nothing, and others wait")
        return True

    def _await_change(self) -> None:
        """Wait until a connection ended, but not for long."""
        with self._idle:
            self._idle.wait(_TICK)

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for sock, (_, deadline) in list(self._waiting.items()):
            if deadline > now:
                return  # in the order of their coming
            self._forget(sock, "it connected and said nothing")

    def _forget(self, sock: socket.socket, why: str) -> None:
        client, _ = self._waiting.pop(sock)
        self._selector.unregister(sock)
        sock.close()
        error = AssociationLost(f"dropped `{client.address}`: {why}", slug="peer.silent")
        self._tell(Refused(client, error))

    def _hand_over(self, sock: socket.socket) -> None:
        client, _ = self._waiting.pop(sock)
        self._selector.unregister(sock)
        connection = _Connection(sock, client)
        self._make_slot()
        with self._lock:
            self._serving.add(connection)
        try:
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except RuntimeError:  # this machine has no more threads: one connection less, not the end
            with self._lock:
                self._serving.discard(connection)
            sock.close()
            error = AssociationLost(f"dropped `{client.address}`: no more threads", slug="unexpected")
            self._tell(Refused(client, error))

    def _make_slot(self) -> None:
        """Cut off the oldest connection without an association where too many have none."""
        with self._lock:
            unfinished = [c for c in self._serving if not c.has_association]
        if len(unfinished) >= self.options.max_associations:
            _cut(min(unfinished, key=lambda c: c.begun).sock)

    # ------------------------------------------------------------------ one connection in its thread

    def _serve(self, connection: _Connection) -> None:
        try:
            self._handle(connection)
        except Exception:
            logger.exception("the thread of %s failed", connection.client.address)
        finally:
            connection.sock.close()
            with self._idle:
                self._serving.discard(connection)
                self._idle.notify_all()

    def _handle(self, connection: _Connection) -> None:
        client = connection.client
        try:
            sock, client = self._secure(connection)
        except OSError as error:
            self._refuse(connection, error)
            return
        options = self.options
        association = Association(
            sock,
            acse_timeout=options.timeouts.acse,
            dimse_timeout=options.timeouts.dimse,
            maximum_length=options.maximum_length,
        )
        opened = False
        count = 0
        begun = time.monotonic()

        def report(instance: InstanceReceived) -> None:
            nonlocal count
            count += 1
            self._tell(Received(client, instance))

        try:
            request = association.await_request()
            logger.info("Association Received")
            client = Client(
                client.address, request.calling_ae, request.called_ae, client.tls, client.certificate
            )
            rejection = self._judge(connection, request)
            if rejection is not None:
                association.reject(rejection)
                self._tell(Refused(client, _rejected(client, rejection)))
                return
            association.accept(request, answer(request, options.rules, options.maximum_length))
            connection.association = association
            opened = True
            logger.info("Association Acknowledged (Max Send PDV: %d)", association.max_send_pdv)
            self._tell(Opened(client))
            serve(association, request.calling_ae, request.called_ae, self._receive, report, options.faults)
            self._tell(Closed(client, count, time.monotonic() - begun, None))
        except Exception as error:
            stage = Stage.DIMSE if opened else Stage.ASSOCIATION
            if isinstance(error, AssociationLost):
                found = diagnose(error, role=Role.ACCEPTOR, stage=stage, peer=client.address)
            else:  # a defect: this peer is told, the others notice nothing
                logger.exception("the association of %s failed", client.address)
                association.abort()
                found = DicomTlsError(f"`{client.address}`: unexpected {error!r}", slug="unexpected")
            seconds = time.monotonic() - begun
            self._tell(Closed(client, count, seconds, found) if opened else Refused(client, found))
        finally:
            association.close()

    def _secure(self, connection: _Connection) -> tuple[socket.socket, Client]:
        options = self.options
        if options.context is None:
            return connection.sock, connection.client
        deadline = time.monotonic() + options.timeouts.tls
        start = first_byte(connection.sock, deadline)
        if not start:
            raise ConnectionAbortedError(errno.ECONNABORTED, "it connected and closed at once")
        if start[0] != 0x16:  # a TLS handshake record, RFC 8446 5.1
            raise _NotTls(start)
        sock = options.context.wrap_socket(connection.sock, server_side=True)
        connection.sock = sock
        facts = handshake(sock, deadline)
        return sock, Client(connection.client.address, tls=facts, certificate=facts.certificate)

    def _refuse(self, connection: _Connection, error: OSError) -> None:
        client = connection.client
        if isinstance(connection.sock, ssl.SSLSocket):
            shown = messages(connection.sock).certificate
            client = Client(client.address, certificate=shown)
        if isinstance(error, _NotTls):
            found: DicomTlsError = error.told(client.address)
        else:
            found = diagnose(error, role=Role.ACCEPTOR, stage=Stage.TLS, peer=client.address)
        # First the log, then the linger: the peer may take its time to leave.
        self._tell(Refused(client, found))
        lingering_close(connection.sock)

    def _judge(self, connection: _Connection, request: AssociateRequest) -> AssociateReject | None:
        """Return why `request` is rejected (PS3.8 9.3.4), or None, and then count it as an association."""
        if not request.speaks_version_1:
            return AssociateReject(1, 2, 2)
        if request.application_context != APPLICATION_CONTEXT:
            return AssociateReject(1, 1, 2)
        for title, reason in ((request.calling_ae, 3), (request.called_ae, 7)):
            try:
                ae_title(title)
            except DicomTlsError:
                return AssociateReject(1, 1, reason)
        if (rejection := self.options.faults.rejection_of(request)) is not None:
            return rejection
        with self._lock:
            if sum(c.takes_slot for c in self._serving) >= self.options.max_associations:
                return AssociateReject(2, 3, 2)
            connection.has_association = True
        return None

    def _receive(self, identifiers: Identifiers) -> Incoming:
        return Ignored() if self._storage is None else self._storage.receive(identifiers)


class _NotTls(OSError):
    """The first bytes are no TLS handshake."""

    def __init__(self, start: bytes) -> None:
        super().__init__("no TLS")
        self._start = start

    def told(self, address: str) -> DicomTlsError:
        what, hint = "something that is not TLS", "point TLS clients at this port"
        if self._start[0] == 0x01:
            what, hint = "plain DICOM", "turn TLS on in the peer, or serve it with `--no-tls`"
        elif self._start.startswith((b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI")):
            what = "HTTP"
        elif self._start.startswith(b"SSH-"):
            what = "SSH"
        return AssociationLost(
            f"refused `{address}`: it speaks {what}, not TLS",
            hint,
            slug="tls.peer-plain",
            exit_code=ExitCode.NO_COMMON_TLS,
        )


def _rejected(client: Client, rejection: AssociateReject) -> DicomTlsError:
    titles = f"{client.calling_aet} -> {client.called_aet}"
    return AssociationLost(
        f"rejected `{client.address}` ({titles}): {reject_words(rejection)}",
        slug="association.rejected",
        exit_code=ExitCode.REJECTED,
    )


def _cut(sock: socket.socket) -> None:
    """Wake the thread that waits on `sock`; past ssl, whose own shutdown would drop the encryption."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _address_text(address: tuple[str, int]) -> str:
    host, port = address[:2]
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
