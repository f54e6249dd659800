"""The senders and receivers that are compared, each as its users run it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicomtls_cli.services.files.scan import Instance, scan
from dicomtls_cli.services.peer import Peer, Requestor, TlsOptions, tls_context
from dicomtls_cli.services.sending.send import send
from dicomtls_cli.tls.policy import Role
from tests.benchmarks.loads import MB, Load
from tests.support import cli
from tests.support.peers import await_listener, free_ports

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def environment() -> dict[str, str]:
    """Return the environment of a user: Python keeps what it compiled."""
    env = cli.environment()
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


OURS = [sys.executable, "-m", "dicomtls_cli"]


@dataclass(frozen=True)
class Keys:
    """Two identities and the bundle of both, in one folder."""

    folder: Path

    def options(self, name: str) -> list[str]:
        here = self.folder
        return [
            "+tls",
            str(here / f"{name}.key"),
            str(here / f"{name}.crt"),
            "+cf",
            str(here / "trusted.crt"),
        ]

    def tls(self, name: str) -> TlsOptions:
        here = self.folder
        return TlsOptions(cert=here / f"{name}.crt", key=here / f"{name}.key", trust=(here / "trusted.crt",))

    def requestor(self) -> Requestor:
        return Requestor(context=tls_context(Role.REQUESTOR, self.tls("scu")), shows_certificate=True)


def make_keys(folder: Path) -> Keys:
    folder.mkdir()
    for words in (["gencert", "scp", "scu"], ["bundle", "scp.crt", "scu.crt", "-o", "trusted.crt"]):
        subprocess.run([*OURS, *words], cwd=folder, env=environment(), check=True, **QUIET)
    return Keys(folder)


# ---------------------------------------------------------------------- receivers


@contextlib.contextmanager
def _listening(words: list[str], port: int, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, env=env, **QUIET)
    try:
        if not await_listener(port, process):
            raise RuntimeError(f"{words[0]} ended with {process.returncode}")
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass
class Receiver:
    """A running receiver; `store` tells whether it writes what it gets or discards it."""

    name: str
    port: int
    process: subprocess.Popen[bytes] | None

    def peak_memory(self) -> float:
        """Return the peak of its resident memory in MB."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0


@contextlib.contextmanager
def dcmtk_receiver(
    keys: Keys, *, tuned: bool, output: Path | None = None, forks: bool = False
) -> Iterator[Receiver]:
    with free_ports(1) as (port,):
        pass
    words = ["/usr/bin/storescp", "+xa", "-pm", *keys.options("scp")]
    words += ["--ignore"] if output is None else ["+B", "-od", str(output)]
    words += ["--fork"] if forks else []
    env = {**os.environ, **({"TCP_NODELAY": "1"} if tuned else {})}
    with _listening([*words, str(port)], port, env) as process:
        name = f"DCMTK {'tuned' if tuned else 'untuned'}{' --fork' if forks else ''}"
        yield Receiver(name, port, process)


@contextlib.contextmanager
def our_receiver(keys: Keys, *more: str, output: Path | None = None) -> Iterator[Receiver]:
    with free_ports(1) as (port,):
        pass
    words = [*OURS, "storescp", "-q", "--port", str(port), *keys.options("scp"), *more]
    words += ["--ignore"] if output is None else ["--output", str(output)]
    with _listening(words, port, environment()) as process:
        yield Receiver(" ".join(("ours", *more)), port, process)


@contextlib.contextmanager
def pynetdicom_receiver(keys: Keys, *, output: Path | None = None) -> Iterator[Receiver]:
    with free_ports(1) as (port,):
        pass
    words = [sys.executable, "-c", _PYNETDICOM_RECEIVER, str(port), str(keys.folder), str(output or "")]
    with _listening(words, port, environment()) as process:
        yield Receiver("pynetdicom", port, process)


# As its documentation stores fastest: what came is written as it came, and no data set is made of it. Its own
# `storescp` knows no TLS.
_PYNETDICOM_RECEIVER = """
import ssl, sys
from pathlib import Path
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
port, keys, output = sys.argv[1:]
def store(event):
    if output:
        Path(output, event.request.AffectedSOPInstanceUID).write_bytes(event.encoded_dataset())
    return 0
ae = AE()
for context in AllStoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(f"{keys}/scp.crt", f"{keys}/scp.key")
tls.load_verify_locations(f"{keys}/trusted.crt")
tls.verify_mode = ssl.CERT_REQUIRED
ae.start_server(("127.0.0.1", int(port)), ssl_context=tls, evt_handlers=[(evt.EVT_C_STORE, store)])
"""


# ---------------------------------------------------------------------- senders


def timed(action: Callable[[], None]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def dcmtk_send(keys: Keys, port: int, paths: list[str], *, tuned: bool) -> None:
    env = {**os.environ, **({"TCP_NODELAY": "1"} if tuned else {})}
    words = ["/usr/bin/storescu", "+sd", "+r", *keys.options("scu"), "localhost", str(port), *paths]
    subprocess.run(words, env=env, check=True, **QUIET)


def our_command(keys: Keys, port: int, paths: list[str]) -> None:
    words = [*OURS, "storescu", "-q", *keys.options("scu"), "localhost", str(port), *paths]
    subprocess.run(words, env=environment(), check=True, **QUIET)


def instances_of(folder: Path) -> list[Instance]:
    return [found for found in scan([folder]) if isinstance(found, Instance)]


def our_library(keys: Keys, port: int, instances: list[Instance]) -> None:
    for outcome in send(Peer("localhost", port), instances, keys.requestor()):
        assert outcome.is_stored, outcome.error


def pynetdicom_send(keys: Keys, port: int, folder: Path) -> None:
    """Send as pynetdicom's own documentation does: one association, a loop over send_c_store."""
    import pydicom
    from pynetdicom import AE

    ae = AE()
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    context = tls_context(Role.REQUESTOR, keys.tls("scu"))
    association = ae.associate("localhost", port, tls_args=(context, "localhost"))
    assert association.is_established
    for path in sorted(folder.iterdir()):
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    association.release()


def bare_ssl(keys: Keys, load: Load) -> float:
    """Return the seconds in which the load passes a bare TLS connection to another process."""
    receiver = subprocess.Popen(
        [sys.executable, "-c", _BARE_RECEIVER, *map(str, keys.folder.glob("scp.*"))],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert receiver.stdout is not None
    with receiver, socket.create_connection(("127.0.0.1", int(receiver.stdout.readline()))) as sock:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(sock) as secured:
            block = memoryview(bytearray(MB // 4))
            total = load.count * load.size
            begun = time.perf_counter()
            for path in sorted(load.folder.iterdir()):
                with path.open("rb", buffering=0) as file:
                    while count := file.readinto(block):
                        secured.sendall(block[:count])
            secured.sendall(b"end")
            secured.recv(1)
            assert total
            return time.perf_counter() - begun


_BARE_RECEIVER = """
import socket, ssl, sys
files = sorted(sys.argv[1:])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(files[0], files[1])
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    sock = context.wrap_socket(listener.accept()[0], server_side=True)
    view = memoryview(bytearray(65536))
    last = b""
    while count := sock.recv_into(view):
        last = (last + bytes(view[max(count - 3, 0):count]))[-3:]
        if last == b"end":
            sock.sendall(b"x")
            break
"""


def many_associations(count: int, one: Callable[[], None]) -> None:
    for _ in range(count):
        one()
