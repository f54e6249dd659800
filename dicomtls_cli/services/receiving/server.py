"""The SCP as a whole: it begins, hands out threads and slots, takes new certificates and rules, ends in order."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dicomtls_cli.errors import AssociationLost
from dicomtls_cli.services.peer import Timeouts
from dicomtls_cli.services.receiving.access import AccessRules, Rejection, too_many
from dicomtls_cli.services.receiving.arrivals import Arrival, Arrivals, first_of_most
from dicomtls_cli.services.receiving.connection import Connection, Terms
from dicomtls_cli.services.receiving.events import Client, Event, Refused
from dicomtls_cli.services.receiving.faults import Faults
from dicomtls_cli.services.receiving.limits import file_limit
from dicomtls_cli.services.receiving.listen import listen
from dicomtls_cli.services.receiving.reception import Identifiers, Ignored, Incoming, StorageOptions
from dicomtls_cli.services.receiving.storage import Storage
from dicomtls_cli.upperlayer.header import OWN_MAXIMUM
from dicomtls_cli.upperlayer.negotiation import AcceptRules

logger = logging.getLogger("dicomtls.association")

_WAITING = 900  # connections without a first byte
_UNFINISHED = 512  # connections with a thread and without an association
_OTHER_FILES = 64  # listeners, logs, libraries
_IDLE = 1.0  # seconds after which an association without a message is not waited for at the end
_PARTING = 1.0  # seconds that cut off transfers get to remove what they had begun
_TICK = 0.25  # seconds between two looks at who is idle at the end


@dataclass(frozen=True)
class ServerOptions:
    """How an SCP listens and what it takes.

    `hosts` are the addresses or names to listen on, empty for all; `port` 0 takes a free one; `sockets`, which
    listen already, are served instead of both. `output` None receives and throws away. `context` None serves
    plain DICOM; `access` says who may open an association. `max_associations` counts those open at once;
    `maximum_length` is the largest P-DATA PDU taken, in bytes; `grace` the seconds that transfers in flight get
    to finish after `stop`.
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
    access: AccessRules = field(default_factory=AccessRules)
    grace: float = 10.0
    sockets: tuple[socket.socket, ...] = ()
    certificate_file: str = ""

    @property
    def files(self) -> int:
        """How many files may be open at once at the most: two for an association, one for any other connection."""
        return _WAITING + _UNFINISHED + 2 * self.max_associations + _OTHER_FILES


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
        self._admission = options.context, options.access
        self._storage: Storage | None = None
        self._arrivals: Arrivals | None = None
        self._serving: dict[Connection, None] = {}  # in the order of their first byte
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)  # a connection was closed
        self._stopping = False
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Bind and listen; `addresses` then tells where. Raises OutputError (exit code 4 or 5)."""
        options = self.options
        try:
            if options.output is not None:
                self._storage = Storage(options.output, options.storing)
            listeners = options.sockets or listen(options.hosts, options.port, options.family)
        except BaseException:
            self.cancel()
            raise
        self.addresses = [listener.getsockname()[:2] for listener in listeners]
        self._arrivals = Arrivals(
            listeners,
            patience=options.timeouts.tls,
            most=self._most_waiting(),
            dropped=self._tell_dropped,
            await_room=self._await_room,
        )

    def _most_waiting(self) -> int:
        """Return how many silent connections to hold, so that those that speak find files left to open."""
        missing = self.options.files - file_limit()
        if missing > _WAITING:
            logger.warning(
                "%d associations may need %d open files, and this process may have %d: raise the limit "
                "(`ulimit -n`, `LimitNOFILE=`), or allow fewer with `--max-associations`",
                self.options.max_associations,
                self.options.files - _WAITING,
                file_limit(),
            )
        return max(_WAITING - max(missing, 0), 1)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self.addresses[0][1]

    def run(self) -> None:
        """Serve until `stop`; then let transfers in flight finish within the grace time."""
        assert self._arrivals is not None
        try:
            with self._arrivals.woken_by_signals():
                while not self._stopping:
                    for arrival in self._arrivals.next():
                        self._hand_over(arrival)
        finally:
            self._arrivals.close()
            self._drain()

    def replace(self, context: ssl.SSLContext | None, access: AccessRules) -> None:
        """Judge whoever begins to speak from now on by these; associations that are open go on."""
        self._admission = context, access

    def stop(self) -> None:
        """Ask `run` to end; safe from any thread and from a signal handler."""
        self._stopping = True
        if self._arrivals is not None:
            self._arrivals.wake()

    def cancel(self) -> None:
        """Undo `start`, where `run` is not to follow: nothing listens, and no folder was made for nothing."""
        if self._arrivals is not None:
            self._arrivals.close()
        for sock in self.options.sockets:
            sock.close()
        if self._storage is not None:
            self._storage.withdraw()

    def abort(self) -> None:
        """End everything at once; safe from a signal handler after `stop`."""
        for connection in list(self._serving):
            connection.cut(_stopped(connection, "it was not waited for any longer"))

    def __enter__(self) -> StorageServer:
        self.start()
        self._thread = threading.Thread(target=self.run, name="dicomtls-listener", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self._thread is not None
        self._thread.join()

    def _drain(self) -> None:
        """Let what is being transferred finish; who only keeps an association open is not waited for."""
        deadline = time.monotonic() + self.options.grace
        while self._serving and time.monotonic() < deadline:
            for connection in list(self._serving):
                if connection.idle_seconds > _IDLE:
                    connection.cut(_stopped(connection, "no message was under way"))
            self._await_end_of_all(min(_TICK, deadline - time.monotonic()))
        self.abort()
        self._await_end_of_all(_PARTING)

    def _await_end_of_all(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._ended:
            while self._serving and (remaining := deadline - time.monotonic()) > 0:
                self._ended.wait(remaining)

    # ------------------------------------------------------------------ connections and their threads

    def _hand_over(self, arrival: Arrival) -> None:
        """Give a connection that begins to speak its thread."""
        context, access = self._admission
        options = self.options
        terms = Terms(
            context,
            access,
            options.timeouts,
            options.maximum_length,
            options.rules,
            options.faults,
            self._admit,
            _ignore if self._storage is None else self._storage.receive,
            self._tell,
            options.certificate_file,
        )
        connection = Connection(arrival, terms)
        self._make_room_for_one()
        with self._lock:
            self._serving[connection] = None
        try:
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except RuntimeError:  # this machine has no more threads: one connection less, not the end
            self._forget(connection)
            address = arrival.client.address
            error = AssociationLost(f"dropped `{address}`: no more threads", slug="unexpected")
            self._tell(Refused(arrival.client, error))

    def _make_room_for_one(self) -> None:
        """Cut off an old connection without an association where too many have none."""
        with self._lock:
            # One that was cut off already makes no room a second time.
            unfinished = [one for one in self._serving if not (one.has_association or one.is_cut)]
        if len(unfinished) >= _UNFINISHED:
            oldest = first_of_most(unfinished, lambda connection: connection.source)
            oldest.cut(_dropped(oldest.client, "it had no association yet, and others wait"))

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        except Exception:
            logger.exception("the thread of %s failed", connection.client.address)
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        connection.close()
        with self._ended:
            self._serving.pop(connection, None)
            self._ended.notify_all()

    def _admit(self, connection: Connection, client: Client) -> Rejection | None:
        """Give `connection` its slot; return why there is none."""
        most = self.options.max_associations
        with self._lock:
            if sum(other.takes_slot for other in self._serving) >= most:
                return too_many(client, most)
            connection.has_association = True
        return None

    def _await_room(self) -> None:
        """Wait until a connection ended, but not for long."""
        with self._ended:
            self._ended.wait(_TICK)

    def _tell_dropped(self, client: Client, why: str) -> None:
        self._tell(Refused(client, _dropped(client, why)))

    def _tell(self, event: Event) -> None:
        """Report `event`; whoever cannot listen any more (a closed pipe) must not end the service."""
        try:
            self._on_event(event)
        except Exception as error:
            logger.error("an event could not be reported: %s: %s", type(error).__name__, error)


def _ignore(_: Identifiers) -> Incoming:
    return Ignored()


def _dropped(client: Client, why: str) -> AssociationLost:
    return AssociationLost(f"dropped `{client.address}`: {why}", slug="peer.silent")


def _stopped(connection: Connection, why: str) -> AssociationLost:
    return AssociationLost(
        f"`{connection.client.address}`: this receiver was stopped, and {why}",
        "transfers that take longer get more time with `--grace`",
        slug="association.stopped",
    )
