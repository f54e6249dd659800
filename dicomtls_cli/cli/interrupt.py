"""Ctrl-C and SIGTERM for a command that has something to finish first."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

from dicomtls_cli.errors import DicomTlsError, ExitCode

_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.KILLED}
_NOTE = b"interrupted: what is on its way is finished; once more ends it at once\n"
_NUDGE = getattr(signal, "SIGURG", None)  # a signal that means nothing to us; Windows has none
_ERASE = b"\r\x1b[K"  # the line with the terminal's ^C, and the progress in it


class Interruption:
    """Whether the command is to end; `code` is the exit code then, else 0.

    Until `arm` is called there is nothing to finish, and a signal ends the command at once.
    """

    def __init__(self) -> None:
        self.ending = threading.Event()
        self.code = 0
        self._is_armed = False

    def arm(self) -> None:
        """Note that something is under way that deserves to be finished."""
        self._is_armed = True

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Note the first signal; raise KeyboardInterrupt at the second, or where nothing is under way."""
        is_first = self.code == 0
        self.code = int(_CODES[signal.Signals(number)])
        self.ending.set()
        if not (is_first and self._is_armed):
            raise KeyboardInterrupt
        with contextlib.suppress(OSError):
            os.write(
                2, (_ERASE if os.isatty(2) else b"") + _NOTE
            )  # print() may be under way in the very code that was interrupted


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Catch SIGINT and SIGTERM for as long as the block runs.

    Raises DicomTlsError `interrupted` with the exit code of the signal that ended the block.
    """
    interruption = Interruption()
    before = {number: signal.signal(number, interruption.handle) for number in _CODES}
    try:
        with _noticed_at_once():
            yield interruption
    except KeyboardInterrupt:
        raise DicomTlsError(
            "interrupted", slug="interrupted", exit_code=ExitCode(interruption.code or ExitCode.INTERRUPTED)
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _noticed_at_once() -> Iterator[None]:
    """Let no wait of the main thread, which alone runs handlers, keep a signal from its handler.

    One that comes a moment before the wait begins, or that the system hands to another thread, does not end it.
    """
    if _NUDGE is None:
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handler = signal.signal(_NUDGE, lambda *_: None)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        arguments = reader, threading.get_ident()
        threading.Thread(target=_nudge, args=arguments, name="dicomtls-signals", daemon=True).start()
        yield
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(_NUDGE, handler)
        writer.close()  # which ends the thread


def _nudge(reader: socket.socket, whom: int) -> None:
    """Interrupt the thread `whom` for every signal whose number is read from `reader`."""
    assert _NUDGE is not None
    with reader:
        while numbers := reader.recv(64):
            if any(number != _NUDGE for number in numbers):
                signal.pthread_kill(whom, _NUDGE)
