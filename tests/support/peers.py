"""The real peers, DCMTK's tools and Orthanc, and our storescp as a peer of theirs: each test has its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import environment
from tests.support.output import Output

LIMIT = 60.0
DCMTK = Path("/usr/bin")  # pynetdicom's scripts of the same names shadow it inside a virtual environment
ORTHANC = Path("/usr/sbin/Orthanc")
REQUIRED = "DICOMTLS_REQUIRE_PEERS"
_ATTEMPTS = 5  # a port that was free a moment ago may be somebody else's by now
_STARTED = "Orthanc has started"
_TUNED = {**os.environ, "TCP_NODELAY": "1"}


def need(program: Path) -> None:
    """Skip the test where `program` is not installed; fail it where the peers are required."""
    if not program.exists():
        if os.environ.get(REQUIRED):
            pytest.fail(f"{program} is not installed, and {REQUIRED} is set")
        pytest.skip(f"{program} is not installed (apt-get install dcmtk orthanc)")


def installed(program: str, package: str = "") -> str:
    """Return the path of `program`; skip the test where it is not installed, fail it where peers are required."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{program} is not installed, and {REQUIRED} is set")
        pytest.skip(f"{program} is not installed (apt-get install {package or program})")
    return found


# ---------------------------------------------------------------------- DCMTK


def dcmtk(tool: str, *words: object, tuned: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's tools to its end; `tuned` turns Nagle off, as an administrator would."""
    need(DCMTK / tool)
    return subprocess.run(
        [str(DCMTK / tool), *map(str, words)],
        env=_TUNED if tuned else None,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Storescp:
    """A running DCMTK `storescp`, its log at debug level."""

    port: int
    output: Path
    log: Output


@contextlib.contextmanager
def dcmtk_storescp(output: Path, *words: object) -> Iterator[Storescp]:
    """Run DCMTK's `storescp +xa -pm +B`, storing into `output`."""
    need(DCMTK / "storescp")
    output.mkdir(parents=True, exist_ok=True)
    command = [str(DCMTK / "storescp"), "-d", "+xa", "-pm", "+B", "-od", str(output), *map(str, words)]
    with listening(lambda port: [*command, str(port)], env=_TUNED) as (port, _, log):
        yield Storescp(port, output, log)


def dcmtk_tls(cert: Path, key: Path, *trusted: Path) -> list[str]:
    """Return the options that give a tool of DCMTK this key pair and trust."""
    return ["+tls", str(key), str(cert), *(word for path in trusted for word in ("+cf", str(path)))]


# ---------------------------------------------------------------------- processes that listen


@contextlib.contextmanager
def listening(
    command: Callable[[int], Sequence[str]], *, env: dict[str, str] | None = None, cwd: Path | None = None
) -> Iterator[tuple[int, subprocess.Popen[str], Output]]:
    """Run `command(port)` for a port that is free, and yield both and its output once it listens there."""
    for attempt in range(_ATTEMPTS):
        with free_ports(1) as (port,):
            pass
        with _running(command(port), env=env, cwd=cwd) as (process, log):
            if await_listener(port, process):
                yield port, process, log
                return
        if attempt == _ATTEMPTS - 1:
            raise AssertionError(f"it ended with {process.returncode} instead of listening:\n{log.text}")


@contextlib.contextmanager
def _running(
    command: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], Output]]:
    process = subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", bufsize=1,
    )  # fmt: skip
    assert process.stdout is not None
    log = Output(process.stdout)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()
        log.close()


def await_listener(port: int, process: subprocess.Popen[Any]) -> bool:
    """Wait until `process` listens on `port`; False if it ends instead.

    Seen in the kernel's tables: a connection would disturb it.
    """
    end = os.pidfd_open(process.pid)
    try:
        while not _listens(port, process.pid):
            if select.select([end], [], [], 0.002)[0]:
                return False
        return True
    finally:
        os.close(end)


def _listens(port: int, pid: int) -> bool:
    held = {file for file in _open_files(pid) if file.startswith("socket:")}
    if not held:  # asked first: the tables of the system take the kernel 5 ms
        return False
    wanted = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            is_listener = fields[1].endswith(wanted) and fields[3] == "0A"  # TCP_LISTEN
            if is_listener and f"socket:[{fields[9]}]" in held:
                return True
    return False


def _open_files(pid: int) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield str(descriptor.readlink())


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Yield ports that were free, all of them held until the end."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        yield [sock.getsockname()[1] for sock in socks]


# ---------------------------------------------------------------------- ours


@dataclass(frozen=True)
class OurStorescp:
    """A running `dicomtls storescp --json`, whose events can be waited for."""

    port: int
    output: Path
    log: Output

    def event(self, kind: str, since: int = 0) -> dict[str, Any]:
        """Wait for the next event of this kind after the first `since` lines of the log."""
        line = self.log.wait_for(
            lambda line: line.startswith("{") and json.loads(line)["event"] == kind, since
        )
        found: dict[str, Any] = json.loads(line)
        return found


@contextlib.contextmanager
def our_storescp(folder: Path, *words: object) -> Iterator[OurStorescp]:
    """Run `dicomtls storescp --json` as a process of its own, storing into `folder`/received."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, output = folder / "ready", folder / "received"
    command = [
        sys.executable,
        "-m",
        "dicomtls_cli",
        "storescp",
        "--json",
        "--port",
        "0",
        "--ready-file",
        str(ready),
    ]
    with _running([*command, "--output", str(output), *map(str, words)], env=environment()) as (_, log):
        log.wait_for("listening on")
        yield OurStorescp(json.loads(ready.read_text())["port"], output, log)


# ---------------------------------------------------------------------- Orthanc


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc with its own storage."""

    dicom_port: int
    http_port: int
    log: Output

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=LIMIT) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def send(self, method: str, path: str, body: object) -> tuple[int, Any]:
        """Send a request; return its HTTP status and JSON answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", json.dumps(body).encode(), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            text, status = error.read(), error.code
            error.close()
        return status, json.loads(text) if text else None

    def upload(self, path: Path) -> str:
        """Put a DICOM file into it by REST and return Orthanc's id of the instance."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/instances", path.read_bytes(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return str(json.loads(answer.read())["ID"])

    def instances(self) -> list[str]:
        found = self.json("/instances")
        assert isinstance(found, list)
        return found

    def metadata(self, instance: str) -> dict[str, str]:
        """Return what it noted about an instance: `TransferSyntax`, `RemoteAET`, `CalledAET` and so on."""
        found = self.json(f"/instances/{instance}/metadata?expand")
        assert isinstance(found, dict)
        return found

    def knows(self, name: str, port: int, *, aet: str = "DICOMTLS", tls: bool = True) -> None:
        """Tell it of a modality on this machine."""
        status, answer = self.send(
            "PUT", f"/modalities/{name}", {"AET": aet, "Host": "localhost", "Port": port, "UseDicomTls": tls}
        )
        assert status == 200, answer


@contextlib.contextmanager
def orthanc(folder: Path, **options: object) -> Iterator[Orthanc]:
    """Run Orthanc with `options` on top of a configuration of its own, and yield it once it answers."""
    need(ORTHANC)
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(_ATTEMPTS):
        with free_ports(2) as (dicom_port, http_port):
            configuration = _orthanc_configuration(folder, dicom_port, http_port, options)
        with _running([str(ORTHANC), "--verbose", str(configuration)]) as (process, log):
            if _starts(log):
                peer = Orthanc(dicom_port, http_port, log)
                peer.get("/system")
                yield peer
                return
        if "already in use" not in log.text or attempt == _ATTEMPTS - 1:
            raise AssertionError(f"Orthanc ended with {process.returncode} instead of listening:\n{log.text}")


def _orthanc_configuration(folder: Path, dicom_port: int, http_port: int, options: dict[str, object]) -> Path:
    path = folder / "orthanc.json"
    configuration = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
        "OverwriteInstances": True,
        **options,
    }
    path.write_text(json.dumps(configuration))
    return path


def orthanc_tls(cert: Path, key: Path, trusted: Path, *, required: bool = True) -> dict[str, object]:
    """Return the options that make Orthanc speak DICOM TLS; all paths absolute, as it needs them."""
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(cert.absolute()),
        "DicomTlsPrivateKey": str(key.absolute()),
        "DicomTlsTrustedCertificates": str(trusted.absolute()),
        "DicomTlsRemoteCertificateRequired": required,
    }


@contextlib.contextmanager
def orthanc_with(configuration: Path, dicom_port: int, http_port: int) -> Iterator[tuple[Orthanc, bool]]:
    """Run Orthanc with a file or folder as it is; yield it, and whether it came to answer instead of ending."""
    need(ORTHANC)
    with _running([str(ORTHANC), "--verbose", str(configuration)]) as (_, log):
        yield Orthanc(dicom_port, http_port, log), _starts(log)


def _starts(log: Output) -> bool:
    """Wait for the word of Orthanc that it listens, for HTTP and DICOM; False if it ends instead."""
    ends = ("Stopping the jobs engine", "Orthanc has stopped")  # the first half a second before the other
    try:
        line = log.wait_for(lambda line: any(words in line for words in (_STARTED, *ends)))
    except AssertionError:  # it is gone without a word
        return False
    return _STARTED in line
