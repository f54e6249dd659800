"""Ctrl-C and SIGTERM, whatever the command waits for."""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from dicomtls_cli.cli.interrupt import interruptible
from dicomtls_cli.errors import DicomTlsError, ExitCode

LIMIT = 10.0


def wait_for_a_queue() -> None:
    queue.SimpleQueue[None]().get(timeout=LIMIT)


def wait_for_a_peer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(LIMIT)
        ours.recv(1)


def wait_for_a_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LIMIT})"])
    try:
        process.wait()
    finally:
        process.kill()
        process.wait()


WAITS = [wait_for_a_queue, wait_for_a_peer, wait_for_a_process]


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_a_signal_that_another_thread_got_ends_a_wait(wait: Callable[[], None]) -> None:
    def send() -> None:
        threading.Event().wait(0.1)  # the main thread waits by then
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def command() -> None:
        with interruptible():
            threading.Thread(target=send).start()
            wait()

    threads = threading.active_count()
    with pytest.raises(DicomTlsError, match="interrupted") as caught:
        command()
    assert caught.value.exit_code == ExitCode.KILLED
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("dicomtls-signals"):
            thread.join(LIMIT)
    assert threading.active_count() <= threads


def test_everything_is_as_it_was_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGURG)
    before = [signal.getsignal(number) for number in numbers]
    with interruptible():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1
