"""What a service manager and we say to each other: sockets it hands over, and notices of our state.

The protocols of sd_listen_fds(3) and sd_notify(3), over plain sockets and environment variables; whoever else
speaks them may be the manager.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time

from dicomtls_cli.errors import ExitCode, OutputError

logger = logging.getLogger("dicomtls.association")

_FIRST = 3  # SD_LISTEN_FDS_START
_MOST = 64
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def inherited_sockets() -> list[socket.socket]:
    """Return the listening sockets that were handed to this process, none where nobody did.

    The variables that tell of them are taken out of the environment: they are not for our children. Raises
    OutputError (exit code 5) for anything but listening TCP sockets.
    """
    told = {name: os.environ.pop(name, "") for name in _VARIABLES}
    if told["LISTEN_PID"] != str(os.getpid()) or not told["LISTEN_FDS"]:
        return []
    count = told["LISTEN_FDS"]
    if not (count.isascii() and count.isdigit()) or not 1 <= int(count[:9]) <= _MOST:
        raise _unusable(f"LISTEN_FDS is `{count}`")
    with contextlib.ExitStack() as undo:
        sockets = []
        for number in range(_FIRST, _FIRST + int(count)):
            sock = _inherited(number)
            undo.callback(sock.close)
            sockets.append(sock)
            _check(sock, number)
        undo.pop_all()
    return sockets


def _inherited(number: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise _unusable(f"file descriptor {number} is no socket ({error.strerror})") from None
    sock.set_inheritable(False)
    return sock


def _check(sock: socket.socket, number: int) -> None:
    listens = False
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        with contextlib.suppress(OSError, AttributeError):
            listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    if not listens:
        raise _unusable(f"file descriptor {number} is no TCP socket that listens")


def _unusable(why: str) -> OutputError:
    return OutputError(
        f"the sockets that the service manager handed over cannot be served: {why}",
        "in the `.socket` unit, `ListenStream=2762` and no `Accept=yes` hand over what is needed",
        slug="listen.inherited",
        exit_code=ExitCode.CANNOT_LISTEN,
    )


class Notifier:
    """Tells the service manager how we are, where there is one; nothing that goes wrong here ends us.

    It takes its address out of the environment: our children are not to speak for us.
    """

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self) -> None:
        """Say that we listen, or that a reload is done."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that certificates and rules are read anew."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that we are about to end."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(state.encode(), self._address)
        except OSError as error:
            logger.info("the service manager could not be told %s: %s", state.split("=")[0], error)
