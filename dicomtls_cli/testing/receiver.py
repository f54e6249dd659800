"""A receiver whose events a test can wait for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from dicomtls_cli.api.receiver import StorageServer
from dicomtls_cli.services.peer import TlsOptions
from dicomtls_cli.services.receiving.events import Closed, Event, Opened, Received, Refused

_E = TypeVar("_E", Opened, Closed, Received, Refused)
_PATIENCE = 30.0  # seconds


class Receiver:
    """A running receiver: its `port`, the `folder` it stores into, and the `events` so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.events: list[Event] = []
        self._news = threading.Condition()

    @property
    def peer(self) -> str:
        """Where it is, for `echo` and `send`."""
        return f"localhost:{self.port}"

    def wait_for(self, kind: type[_E], count: int = 1, *, seconds: float = _PATIENCE) -> list[_E]:
        """Wait until there are `count` events of a `kind` (`Received`, `Refused`, ...), and return these.

        Raises AssertionError where they do not come in so many seconds.
        """

        def found() -> list[_E]:
            return [event for event in self.events if isinstance(event, kind)]

        with self._news:
            in_time = self._news.wait_for(lambda: len(found()) >= count, seconds)
            came = found()
        assert in_time, f"{len(came)} of {count} {kind.__name__} came within {seconds:g} s: {self.events}"
        return came[:count]

    def files(self, count: int, *, seconds: float = _PATIENCE) -> list[Path]:
        """Wait until `count` instances came, and return the files of those that were stored, in their order."""
        stored = [event.instance.stored for event in self.wait_for(Received, count, seconds=seconds)]
        return [one.path for one in stored if one is not None and one.path is not None]

    def note(self, event: Event) -> None:
        """Take an event, from any thread."""
        with self._news:
            self.events.append(event)
            self._news.notify_all()


@contextlib.contextmanager
def receiver(folder: Path, tls: TlsOptions) -> Iterator[Receiver]:
    """Run a receiver on loopback that stores into `folder`."""
    running = Receiver(folder)
    with StorageServer(folder, tls=tls, port=0, hosts="localhost", on_event=running.note) as server:
        running.port = server.port
        yield running
