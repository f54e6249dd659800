"""Listening sockets for every address that is wanted, all on one port."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from dicomtls_cli.errors import ExitCode, OutputError

_BACKLOG = 256
_MOST_TRIES = 20  # to find a port that is free on every address


def listen(hosts: Sequence[str], port: int, family: socket.AddressFamily) -> list[socket.socket]:
    """Return sockets that listen on `port` of every one of `hosts`, of all addresses where there is none.

    `port` 0 takes one free port for all of them; `family` AF_INET or AF_INET6 leaves out the other. Raises
    OutputError (exit code 5).
    """
    try:
        addresses = _bind_addresses(hosts, family)
        for _ in range(_MOST_TRIES - 1 if port == 0 else 0):
            with contextlib.suppress(OSError):  # what was free on one address may be taken on the next
                return _bind_all(addresses, port)
        return _bind_all(addresses, port)
    except OSError as error:
        raise OutputError(
            f"cannot listen on port {port}: {error.strerror or error}",
            "choose another port (below 1024 needs a privilege), or stop what listens there",
            slug="listen.failed",
            exit_code=ExitCode.CANNOT_LISTEN,
        ) from error


def _bind_all(addresses: Sequence[tuple[socket.AddressFamily, str]], port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    try:
        for address_family, address in addresses:
            sock = _bind(address_family, (address, port))
            if sock is None:
                continue
            listeners.append(sock)
            port = port or sock.getsockname()[1]  # a free port, the same for all addresses
        if not listeners:
            raise OSError(errno.EADDRNOTAVAIL, "no such address here")
    except OSError:
        for sock in listeners:
            sock.close()
        raise
    return listeners


def _bind_addresses(
    hosts: Sequence[str], family: socket.AddressFamily
) -> Sequence[tuple[socket.AddressFamily, str]]:
    if not hosts:
        every = [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104 - certificates are required
        return [(f, a) for f, a in every if family in (socket.AF_UNSPEC, f)]
    found: dict[tuple[socket.AddressFamily, str], None] = {}
    for host in hosts:
        try:
            known = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise OutputError(
                f"cannot listen on `{host}`: it is no address or name of this machine",
                "give one of its addresses with `--bind`, or leave it out to listen on all",
                slug="listen.unknown-address",
                exit_code=ExitCode.CANNOT_LISTEN,
            ) from error
        for kind, _, _, _, address in known:
            found[kind, str(address[0])] = None
    return list(found)


def _bind(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket | None:
    """Return a listening socket, None where this machine lacks the family or the address of it."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    return sock
