"""A StorageServer in this process, with its events to wait for, and a requestor that talks to it by hand."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dicomtls_cli.dimse.command import Command, decode, echo_request, encode, store_request
from dicomtls_cli.services.receiving.events import Event
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer
from dicomtls_cli.upperlayer.codec import encode as encode_pdu
from dicomtls_cli.upperlayer.pdu import AssociateRequest
from tests.support.objects import data_set
from tests.support.scripted import (
    AC,
    CT,
    EXPLICIT,
    IMPLICIT,
    LIMIT,
    RELEASE_RQ,
    RELEASED,
    VERIFICATION,
    Scripted,
    p_data,
    pdv,
    request,
)

EventT = TypeVar("EventT", bound=Event)

ECHO, STORE = 1, 3
ASKED = request((VERIFICATION, (IMPLICIT,)), (CT, (EXPLICIT,)))


@dataclass
class Events:
    """What a server told."""

    told: list[Event] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, event: Event) -> None:
        with self.changed:
            self.told.append(event)
            self.changed.notify_all()

    def wait_for(self, kind: type[EventT], count: int = 1) -> EventT:
        """Return the event of this kind that comes as the `count`th."""
        with self.changed:
            found: list[EventT] = []

            def is_there() -> bool:
                found[:] = [event for event in self.told if isinstance(event, kind)]
                return len(found) >= count

            assert self.changed.wait_for(is_there, LIMIT), f"no {kind.__name__} in {self.told}"
            return found[count - 1]


@contextlib.contextmanager
def serving(output: Path | None, events: Events | None = None, **options: object) -> Iterator[StorageServer]:
    """Run a server on a free port of 127.0.0.1, plain unless `context` is given."""
    chosen = {"hosts": ("127.0.0.1",), **options}
    with StorageServer(ServerOptions(port=0, output=output, **chosen), events or Events()) as server:  # type: ignore[arg-type]
        yield server


class Client(Scripted):
    """A requestor; it connects, and says what it is told to."""

    def __init__(self, port: int) -> None:
        super().__init__(socket.create_connection(("127.0.0.1", port)))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def associate(self, asked: AssociateRequest = ASKED) -> Client:
        self.send(encode_pdu(asked))
        self.expect(AC)
        return self

    def begin_store(self, number: int = 1, instance: str = "1.2.3") -> bytes:
        """Send the command and half of the data set; return the other half."""
        command, data = encode(store_request(number, CT, instance)), data_set(instance)
        self.send(p_data(pdv(STORE, command, command=True), pdv(STORE, data[:600], last=False)))
        return data[600:]

    def end_store(self, rest: bytes) -> Command:
        self.send(p_data(pdv(STORE, rest)))
        return decode(self.expect_message()[1])

    def store(self, number: int = 1, instance: str = "1.2.3") -> Command:
        return self.end_store(self.begin_store(number, instance))

    def echo(self, number: int = 1) -> Command:
        self.send(p_data(pdv(ECHO, encode(echo_request(number)), command=True)))
        return decode(self.expect_message()[1])

    def end(self, *, leave: bool = True) -> None:
        """Release the association; the server waits a while for who does not `leave` then."""
        self.send(RELEASE_RQ)
        self.expect(RELEASED)
        self.expect_end()
        if leave:
            self.close()


def echoes(port: int) -> bool:
    """Tell whether a whole association with a C-ECHO goes well."""
    with Client(port).associate() as client:
        status = client.echo().status
        client.end()
    return status == 0
