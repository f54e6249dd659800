"""Signals to a server of this process; tests/cli/test_storescp_service.py has them to a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from dicomtls_cli.services.receiving import lifetime as module
from dicomtls_cli.services.receiving.lifetime import Lifetime
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer

LIMIT = 30.0
NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def never() -> None:
    raise AssertionError("nobody asked for it")


def server() -> StorageServer:
    return StorageServer(ServerOptions(port=0, hosts=("127.0.0.1",)))


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Let a test fail that leaves a handler behind, and the tests after it be."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    after = {number: signal.signal(number, handler) for number, handler in before.items()}
    assert after == before


def test_once_a_day_is_told_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DAY", 0.001)
    called = threading.Event()
    with Lifetime(server(), never, called.set):
        assert called.wait(LIMIT)


def test_a_reload_that_breaks_is_logged_and_the_next_one_works(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, broken = threading.Event(), iter([True])

    def renew() -> None:
        if next(broken, False):
            raise ZeroDivisionError("a defect")
        done.set()

    monkeypatch.setattr(logging.getLogger("dicomtls"), "propagate", True)
    with Lifetime(server(), renew, never):
        for _ in range(1000):
            os.kill(os.getpid(), signal.SIGHUP)
            if done.wait(0.01):
                break
    assert done.is_set()
    assert "a defect" in caplog.text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_is_what_the_exit_code_tells_of(number: int, code: int) -> None:
    running = server()
    running.start()
    with Lifetime(running, never, never) as lifetime:
        os.kill(os.getpid(), number)
        running.run()  # ends at once: the signal came before
        assert lifetime.exit_code == 0
        os.kill(os.getpid(), number)
    assert lifetime.exit_code == code
