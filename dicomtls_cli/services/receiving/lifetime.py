"""Signals to a running SCP: the end in order, the end at once, certificates and rules read anew."""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services.receiving.server import StorageServer
from dicomtls_cli.services.receiving.systemd import Notifier

logger = logging.getLogger("dicomtls.association")

_DAY = 24 * 60 * 60.0  # seconds
_PARTING = 1.0  # seconds to do what is left; a slow file is not waited for
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


class Lifetime:
    """As a context manager: SIGTERM and SIGINT end `server` in order, a second one at once; SIGHUP renews.

    `renew` reads certificates and rules anew, `daily` is called once a day; both in a thread of their own, so that
    a slow file keeps no peer waiting. The service manager is told. `exit_code` is what the signals make of it.
    A third one ends the process, whatever it waits for.
    A SIGHUP because the terminal closed is an end in order, as for any program in that terminal.
    """

    def __init__(
        self,
        server: StorageServer,
        renew: Callable[[], None],
        daily: Callable[[], None],
        notifier: Notifier | None = None,
    ) -> None:
        self._server = server
        self._renew = renew
        self._daily = daily
        self._notifier = notifier or Notifier()
        self._before: dict[int, Any] = {}
        self._count = 0
        # What is to be done beside serving; the only queue that a signal handler may put something into.
        self._errands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_errands, name="dicomtls-lifetime", daemon=True)
        self._in_terminal = False
        self._reload_due = False
        self.exit_code = 0

    def __enter__(self) -> Lifetime:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._end)
        if _HANGUP is not None:
            self._before[_HANGUP] = signal.signal(_HANGUP, self._hang_up)
            # `nohup` ignores the signal on purpose: the end of the terminal is not to be ours.
            self._in_terminal = self._before[_HANGUP] is not signal.SIG_IGN and _has_terminal()
        self._thread.start()
        self._errands.put(self._notifier.ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._errands.put(None)
        self._thread.join(_PARTING)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    # In a handler nothing may wait for a lock, which the interrupted thread could be holding: not even a log line.

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self._server.stop()
            self._errands.put(self._notifier.stopping)
            return
        self.exit_code = int(ExitCode.KILLED if number == signal.SIGTERM else ExitCode.INTERRUPTED)
        self._server.abort()
        # A third one ends whatever cannot end by itself: a write to a pipe that nobody reads.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if not self._in_terminal or _has_terminal():
            if not self._reload_due:  # however many come meanwhile, what is read then is new
                self._reload_due = True
                self._errands.put(self._reload)
        elif self._count == 0:
            self._end(number, frame)

    def _reload(self) -> None:
        self._reload_due = False
        self._notifier.reloading()
        try:
            self._renew()
        finally:
            self._notifier.ready()

    def _run_errands(self) -> None:
        while True:
            try:
                errand: Callable[[], None] | None = self._errands.get(timeout=_DAY)
            except queue.Empty:
                errand = self._daily
            if errand is None:
                return
            try:
                errand()
            except Exception:
                logger.exception("an errand beside the service failed")


def _has_terminal() -> bool:
    """Tell whether this process belongs to a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
