"""`dicomtls storescp` as a service that stays on: reload, systemd, the terminal, many files, its own certificate."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support import cli
from tests.support.pki import Identity, make_identity, write_bundle
from tests.support.receiver import Scp, command, storescp, until_nobody_listens
from tests.support.scripted import LIMIT, PROVIDER
from tests.support.server import Client, echoes

RELOADED, NOT_RELOADED = "reloaded certificates", "nothing was reloaded"


# --- SIGHUP ----------------------------------------------------------------------------------------------


@pytest.fixture
def place(pki: Pki) -> list[str]:
    """Return the options of a receiver whose files are in the current folder, to be replaced."""
    install(pki.scp)
    write_bundle(Path("peers.crt"), pki.scp, pki.scu)
    write_map(pki.scu)
    return ["--json", "--cert", "me.crt", "--key", "me.key", "--trust", "peers.crt", "--ae-map", "map.toml"]


def install(identity: Identity) -> None:
    shutil.copy(identity.cert, "me.crt")
    shutil.copy(identity.key, "me.key")


def write_map(*identities: Identity) -> None:
    entries = (f'[[peer]]\ncertificate = "{i.fingerprint}"\naet = ["DICOMTLS", "SCU"]\n' for i in identities)
    Path("map.toml").write_text("".join(entries))


def hang_up(scp: Scp, answer: str) -> None:
    seen = len(scp.err)
    scp.process.send_signal(signal.SIGHUP)
    scp.err.wait_for(answer, seen)


def echo(scp: Scp, who: Identity, server: Identity) -> int:
    """Echo as `who`; only `server` is trusted to be the receiver."""
    words = ("--cert", who.cert, "--key", who.key, "--trust", server.cert)
    return cli.run("echoscu", scp.address, *words).exit_code


def test_a_reload_takes_certificate_trust_and_map_and_drops_nobody(place: list[str], pki: Pki) -> None:
    from dicomtls_cli.services.peer import TlsOptions, tls_context
    from dicomtls_cli.tls.policy import Role

    ours = tls_context(Role.REQUESTOR, TlsOptions(pki.scu.cert, pki.scu.key, trust=(pki.scp.cert,)))
    renewed = make_identity(Path("new"), "renewed")
    with storescp(*place) as scp:
        assert echo(scp, pki.scu, pki.scp) == 0
        assert echo(scp, pki.stranger, pki.scp) == 12
        client = Client(scp.port)
        client.sock = ours.wrap_socket(client.sock, server_hostname="localhost")
        with client, client.associate():
            install(renewed)
            write_bundle(Path("peers.crt"), pki.stranger)
            write_map(pki.stranger)
            hang_up(scp, RELOADED)
            assert echo(scp, pki.stranger, renewed) == 0
            assert echo(scp, pki.stranger, pki.scp) == 11  # the old certificate is shown no more
            assert echo(scp, pki.scu, renewed) == 12
            assert client.store().status == 0  # who is connected stays
            client.end()
        scp.process.terminate()
        assert scp.ends_with() == 0


def test_a_reload_that_fails_changes_nothing(place: list[str], pki: Pki) -> None:
    good = {name: Path(name).read_bytes() for name in ("me.crt", "me.key", "peers.crt", "map.toml")}
    with storescp(*place) as scp:
        for name, content, word in (
            ("me.key", pki.stranger.key.read_bytes(), "me.key"),  # of another pair: half of a renewal
            ("me.crt", None, "me.crt"),
            ("peers.crt", b"", "peers.crt"),
            ("map.toml", b"[[peer]]", "map.toml"),
            ("map.toml", b"", "map.toml"),
        ):
            # All else is new and right, and must not come into force by itself.
            write_map(pki.stranger)
            Path(name).unlink()
            if content is not None:
                Path(name).write_bytes(content)
            hang_up(scp, NOT_RELOADED)
            assert word in scp.err.lines()[-1]
            assert echo(scp, pki.scu, pki.scp) == 0
            for each, data in good.items():
                Path(each).write_bytes(data)
        hang_up(scp, RELOADED)
        assert echo(scp, pki.scu, pki.scp) == 0
    assert "Traceback" not in scp.err.text


def test_the_log_goes_on_under_its_name() -> None:
    """As logrotate does it: the file is moved away, then comes the signal."""
    with storescp("--log-file", "log") as scp:
        assert echoes(scp.port)
        for number in (1, 2):
            Path("log").rename(f"log.{number}")
            assert echoes(scp.port)  # still in the old one
            before = Path(f"log.{number}").read_text()
            hang_up(scp, RELOADED)
            assert echoes(scp.port)
            assert "Echo Request" in Path("log").read_text()
            assert Path(f"log.{number}").read_text().startswith(before)  # an end may have come after it


def test_a_log_that_cannot_be_opened_anew_goes_on_as_it_is() -> None:
    with storescp("--log-file", "log") as scp:
        Path("log").rename("log.1")
        Path("log").mkdir()
        hang_up(scp, "cannot be opened anew")
        before = Path("log.1").read_text().count("Echo Request")
        assert echoes(scp.port)
        assert Path("log.1").read_text().count("Echo Request") == before + 1


def test_many_signals_are_as_one(place: list[str], pki: Pki) -> None:
    with storescp(*place) as scp:
        for _ in range(200):
            scp.process.send_signal(signal.SIGHUP)
        assert echo(scp, pki.scu, pki.scp) == 0
        scp.process.terminate()
        assert scp.ends_with() == 0


def test_a_plain_receiver_has_nothing_to_read_and_stays() -> None:
    with storescp() as scp:
        hang_up(scp, RELOADED)
        assert echoes(scp.port)


# --- the terminal it was started in ----------------------------------------------------------------------


@contextlib.contextmanager
def whose_terminal_closed(*first: str) -> Iterator[subprocess.Popen[str]]:
    """Run a receiver in a terminal, and close that."""
    master, slave = pty.openpty()
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    ready = Path("ready.json")
    receiver = command("--no-tls", "--ignore", "--port", "0", "--ready-file", ready, "-v")
    process = subprocess.Popen(
        [sys.executable, "-c", take, *first, *receiver],
        env=cli.environment(), start_new_session=True,
        stdin=slave, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(slave)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("listening"):
                break
        os.close(master)
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_it_ends_with_its_terminal() -> None:
    with whose_terminal_closed() as process:
        assert process.wait(LIMIT) == 0


def test_nohup_keeps_it() -> None:
    with whose_terminal_closed("nohup") as process:
        process.send_signal(signal.SIGHUP)
        assert echoes(json.loads(Path("ready.json").read_text())["port"])
        process.terminate()
        assert process.wait(LIMIT) == 0


# --- systemd ---------------------------------------------------------------------------------------------


def listener(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    return socket.create_server(("127.0.0.1" if family == socket.AF_INET else "::1", 0), family=family)


def test_it_serves_the_sockets_it_is_handed() -> None:
    with listener() as one, listener() as two:
        ports = [sock.getsockname()[1] for sock in (one, two)]
        waiting = Client(ports[0])  # came before there was a receiver
        with storescp("--ignore", sockets=[one, two]) as scp:
            assert scp.ready["port"] == ports[0]
            assert [word in scp.err.lines()[0] for word in map(str, ports)] == [True, True]
            assert all(echoes(port) for port in ports)
            waiting.associate().end()
            scp.process.terminate()
            assert scp.ends_with() == 0
        # A restart refuses nobody: the socket still listens, and the next one serves who comes meanwhile.
        meanwhile = Client(ports[1])
        with storescp("--ignore", sockets=[two]):
            meanwhile.associate().end()


def test_a_socket_that_does_not_listen_is_refused() -> None:
    with listener() as good, socket.socket() as bad:
        done = subprocess.run(
            command("--no-tls", "--ignore", sockets=[good, bad]),
            env=cli.environment(), pass_fds=[good.fileno(), bad.fileno()],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
    assert done.returncode == 5
    assert "descriptor 4 is no TCP socket that listens" in done.stderr
    assert "Traceback" not in done.stderr


def test_variables_for_another_process_are_not_ours() -> None:
    with storescp(env={"LISTEN_PID": "1", "LISTEN_FDS": "3"}) as scp:
        assert echoes(scp.port)


@contextlib.contextmanager
def manager(address: str) -> Iterator[Callable[[], list[str]]]:
    """Listen as a service manager does; yields a function that waits for the next notice."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(LIMIT)
        yield lambda: sock.recv(4096).decode().split("\n")


@pytest.mark.parametrize("abstract", [False, True])
def test_it_tells_the_service_manager_how_it_is(abstract: bool, tmp_path: Path) -> None:
    name = f"\0dicomtls-{os.getpid()}-{tmp_path.name}" if abstract else "notify"
    shown = f"@{name[1:]}" if abstract else str(tmp_path / name)
    with manager(name) as notice, storescp(env={"NOTIFY_SOCKET": shown}) as scp:
        assert notice() == ["READY=1"]
        scp.process.send_signal(signal.SIGHUP)
        first, second = notice()
        assert first == "RELOADING=1"
        assert second.removeprefix("MONOTONIC_USEC=").isdigit()
        assert notice() == ["READY=1"]
        with Client(scp.port).associate() as client:
            rest = client.begin_store()
            scp.process.terminate()
            assert notice() == ["STOPPING=1"]  # at once, not when it is over
            assert client.end_store(rest).status == 0
            client.end()
        assert scp.ends_with() == 0


def test_a_service_manager_that_is_gone_disturbs_nothing() -> None:
    with storescp("-v", env={"NOTIFY_SOCKET": "/nowhere/notify"}) as scp:
        scp.err.wait_for("could not be told READY")
        assert echoes(scp.port)
        hang_up(scp, RELOADED)
        scp.process.terminate()
        assert scp.ends_with() == 0


_SIGNAL_TO_ANOTHER_THREAD = """
import logging, os, signal, threading
from dicomtls_cli.services.receiving import arrivals
from dicomtls_cli.cli import main

waits = threading.Event()
selector = arrivals.selectors.DefaultSelector
class Watched(selector):
    def select(self, timeout=None):
        waits.set()
        return super().select(timeout)
arrivals.selectors.DefaultSelector = Watched

def send():
    waits.wait()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=send, daemon=True).start()
main(["storescp", "--no-tls", "--port", "0", "--ignore"])
"""


def test_a_signal_that_another_thread_got_ends_it_too() -> None:
    """The system may hand it to any thread, or to the main one a moment before it waits: neither ends the wait."""
    done = subprocess.run(
        [sys.executable, "-c", _SIGNAL_TO_ANOTHER_THREAD],
        env=cli.environment(), capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


_NOBODY_READS = """
import sys
from dicomtls_cli import __main__ as program
from dicomtls_cli.cli import listeners
program._PARTING = listeners._PARTING = 0.1
program.main()
"""


@pytest.mark.parametrize("waits", ["association", "listener"])
def test_it_ends_where_nobody_reads_what_it_says(waits: str) -> None:
    """A pipe is full. An association that waits in it is cut off; the listener itself ends with the third signal."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, bytes(65536)):
            pass
    os.set_blocking(writer, True)
    patience = "60s" if waits == "association" else "10ms"  # with who says nothing
    words = ["storescp", "--no-tls", "--port", "0", "--ignore", "--grace", "100ms", "--tls-timeout", patience]
    process = subprocess.Popen(
        [sys.executable, "-c", _NOBODY_READS, *words, "--ready-file", "ready.json"],
        env=cli.environment(), stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening on ")
        with Client(json.loads(Path("ready.json").read_text())["port"]) as client:
            if waits == "association":
                client.associate()
                process.terminate()
                assert process.wait(LIMIT) == 0
            else:
                client.expect_end()
                for _ in range(100):  # signals that come together count as one
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.1)
                assert process.returncode == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        os.close(reader)
        os.close(writer)


# --- how long, how many ----------------------------------------------------------------------------------


def test_an_idle_association_ends_and_one_that_works_does_not() -> None:
    with (
        storescp("--json", "--idle-timeout", "300ms", "--dimse-timeout", "60") as scp,
        Client(scp.port).associate() as idle,
        Client(scp.port).associate() as busy,
    ):
        rest = busy.begin_store()
        idle.expect_abort(PROVIDER, 0)
        assert scp.event("closed")["error"]["code"] == "association.timeout"
        assert busy.end_store(rest).status == 0


def test_the_grace_time_is_what_is_asked_for() -> None:
    with storescp("--json", "--grace", "200ms") as scp, Client(scp.port).associate() as client:
        client.begin_store()
        scp.process.terminate()
        assert scp.ends_with() == 0
        assert scp.event("closed")["error"]["code"] == "association.stopped"
    assert [path for path in Path("output").rglob("*") if path.is_file()] == []


def test_file_descriptors_past_1024(pki: Pki) -> None:
    """Nothing is waited for with `select`, and the limit is raised as far as is needed and allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip(f"no more than {hard} files may be open here")

    usual = {resource.RLIMIT_NOFILE: (1200, hard)}
    with contextlib.ExitStack() as stack:
        held = [os.open(os.devnull, os.O_RDONLY)]
        held += [fcntl.fcntl(held[0], fcntl.F_DUPFD, 3) for _ in range(1100)]
        for number in held:
            stack.callback(os.close, number)
        scp = stack.enter_context(storescp(*pki.scp_options, limits=usual, pass_fds=held))
        numbers = [int(path.name) for path in Path(f"/proc/{scp.process.pid}/fd").iterdir()]
        assert len([number for number in numbers if number > 1024]) > 2, "the test tests nothing"
        assert cli.run("echoscu", scp.address, *pki.scu_options).exit_code == 0
        with Client(scp.port), Client(scp.port) as half_way:  # also those that wait
            half_way.send(b"\x16")
            assert cli.run("echoscu", scp.address, *pki.scu_options).exit_code == 0
        limits = Path(f"/proc/{scp.process.pid}/limits").read_text()
        assert int(limits.partition("Max open files")[2].split()[0]) > 1200
        scp.process.terminate()
        assert scp.ends_with() == 0
    assert "Traceback" not in scp.err.text


def test_too_few_files_are_warned_of() -> None:
    few = {resource.RLIMIT_NOFILE: (300, 300)}
    with storescp("--max-associations", "1000", limits=few) as scp:
        assert "--max-associations" in scp.err.lines()[0]
        crowd = [Client(scp.port) for _ in range(320)]  # more than there can be, and the oldest go
        assert echoes(scp.port)
        for client in crowd:
            client.close()


# --- its own certificate ---------------------------------------------------------------------------------


def test_it_warns_of_its_own_dates_at_start_and_on_reload() -> None:
    old = make_identity(Path(), "old", subject="old", valid=(-20, -1))
    soon = make_identity(Path(), "soon", subject="soon", valid=(-20, 10))
    good = make_identity(Path(), "good", subject="good", valid=(-20, 300))
    install(old)
    Path("peers.crt").write_text(soon.pem)
    with storescp("--cert", "me.crt", "--key", "me.key", "--trust", "peers.crt") as scp:
        ours, theirs, listening = scp.err.lines()[:3]
        assert ours.startswith("warning: our certificate `me.crt` (CN=old) expired on ")
        assert "CN=soon expires on" in theirs
        assert listening.startswith("listening")
        install(soon)
        seen = len(scp.err)
        hang_up(scp, RELOADED)
        assert "CN=soon" in scp.err.lines(seen)[0]
        assert "in 9 days" in scp.err.lines(seen)[0]
        install(good)
        Path("peers.crt").write_text(good.pem)
        seen = len(scp.err)
        hang_up(scp, RELOADED)
        assert len(scp.err.lines(seen)) == 1
        scp.process.terminate()
        until_nobody_listens(scp.port)
