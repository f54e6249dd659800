"""Sockets and notices between a service manager and us, as far as one process shows it.

tests/cli/test_storescp_service.py has the rest.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from dicomtls_cli.errors import ExitCode, OutputError
from dicomtls_cli.services.receiving import systemd
from dicomtls_cli.services.receiving.systemd import Notifier, inherited_sockets
from tests.support import cli


@pytest.fixture
def hand_over(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that hands over a socket, at the number it has."""

    def hand(sock: socket.socket | None, count: str = "1", pid: str = "") -> None:
        if sock is not None:
            monkeypatch.setattr(systemd, "_FIRST", sock.detach())
        monkeypatch.setenv("LISTEN_PID", pid or str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", count)
        monkeypatch.setenv("LISTEN_FDNAMES", "a")

    return hand


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_the_socket_is_taken_and_the_children_do_not_hear_of_it(hand_over) -> None:
    ours = listener()
    address = ours.getsockname()
    hand_over(ours)
    (sock,) = inherited_sockets()
    with sock:
        assert sock.getsockname() == address
        assert not sock.get_inheritable()
    assert not [name for name in os.environ if name.startswith("LISTEN_")]


@pytest.mark.parametrize("pid", ["1", "x", "-1"])
def test_what_is_for_another_process_is_left_alone(pid, hand_over) -> None:
    hand_over(None, pid=pid)
    assert inherited_sockets() == []
    assert not [name for name in os.environ if name.startswith("LISTEN_")]


def test_without_a_manager_there_is_nothing(monkeypatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert inherited_sockets() == []


@pytest.mark.parametrize("count", ["x", "0", "-1", "65", "9" * 40, "٣", "1 "])
def test_a_count_that_is_none(count, hand_over) -> None:
    hand_over(None, count)
    with pytest.raises(OutputError, match="LISTEN_FDS") as caught:
        inherited_sockets()
    assert (caught.value.slug, caught.value.exit_code) == ("listen.inherited", ExitCode.CANNOT_LISTEN)


def connected() -> socket.socket:
    with listener() as there:
        return socket.create_connection(there.getsockname())


@pytest.mark.parametrize(
    "make",
    [
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        connected,
    ],
    ids=["datagram", "unbound", "local", "connected"],
)
def test_a_socket_that_cannot_be_served(make, hand_over) -> None:
    hand_over(make())
    with pytest.raises(OutputError, match="is no TCP socket that listens"):
        inherited_sockets()


def test_a_file_that_is_no_socket(hand_over, monkeypatch) -> None:
    hand_over(None)
    with open(os.devnull) as file:  # noqa: PTH123
        monkeypatch.setattr(systemd, "_FIRST", file.fileno())
        with pytest.raises(OutputError, match="is no socket"):
            inherited_sockets()


@pytest.mark.parametrize("words", [["--port", "0"], ["104"], ["--bind", "127.0.0.1"]])
def test_a_place_to_listen_besides_the_sockets_is_a_contradiction(words, hand_over) -> None:
    hand_over(listener())
    result = cli.run("storescp", "--no-tls", "--ignore", "--json", *words)
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.contradiction")


def test_without_a_manager_nothing_is_told(monkeypatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    for tell in (Notifier().ready, Notifier().reloading, Notifier().stopping):
        tell()
