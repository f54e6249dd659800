"""The ports that Orthanc would listen on, and whether they are free."""

from __future__ import annotations

import errno
import socket


def is_free(port: int) -> bool:
    """Tell whether Orthanc could listen on `port` of all addresses; one that needs a privilege counts as free."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def free_port(preferred: int) -> int:
    """Return `preferred` if it is free, else any port that is."""
    if is_free(preferred):
        return preferred
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])
