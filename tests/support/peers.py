"""The real peers: DCMTK's tools and Orthanc, each test with its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LIMIT = 60.0
_DCMTK = Path("/usr/bin")  # pynetdicom's scripts of the same names shadow it inside a virtual environment
_ORTHANC = Path("/usr/sbin/Orthanc")
REQUIRED = "DICOMTLS_REQUIRE_PEERS"


def need(program: Path) -> None:
    """Skip the test where `program` is not installed; fail it where the peers are required."""
    if not program.exists():
        if os.environ.get(REQUIRED):
            pytest.fail(f"{program} is not installed, and {REQUIRED} is set")
        pytest.skip(f"{program} is not installed (apt-get install dcmtk orthanc)")


def dcmtk(tool: str, *words: object, tuned: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's tools to its end; `tuned` turns Nagle off, as an administrator would."""
    need(_DCMTK / tool)
    return subprocess.run(
        [str(_DCMTK / tool), *map(str, words)],
        env={**os.environ, **({"TCP_NODELAY": "1"} if tuned else {})},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False,
    )  # fmt: skip


@contextlib.contextmanager
def dcmtk_storescp(output: Path, *words: object) -> Iterator[int]:
    """Run DCMTK's `storescp +xa -pm +B` with debug output and yield its port."""
    need(_DCMTK / "storescp")
    output.mkdir(parents=True, exist_ok=True)
    with free_ports(1) as (port,):
        pass
    process = subprocess.Popen(
        [str(_DCMTK / "storescp"), "-d", "+xa", "-pm", "+B", "-od", str(output), *map(str, words), str(port)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _await_listener(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def _await_listener(port: int, process: subprocess.Popen[Any]) -> None:
    """Wait until somebody listens on `port`, seen in the kernel's table: a connection would disturb it."""
    wanted = f":{port:04X}"
    while process.poll() is None:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(wanted) and fields[3] == "0A":
                    return
    raise AssertionError(f"the peer ended with {process.returncode} instead of listening")


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Yield ports that were free, all of them held until the end."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        yield [sock.getsockname()[1] for sock in socks]


@dataclass
class Orthanc:
    """A running Orthanc with its own storage."""

    dicom_port: int
    http_port: int
    log_path: Path
    process: subprocess.Popen[bytes]

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

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


@contextlib.contextmanager
def orthanc(folder: Path, **options: object) -> Iterator[Orthanc]:
    """Run Orthanc with `options` on top of a configuration of its own, and yield it once it answers."""
    need(_ORTHANC)
    folder.mkdir(parents=True, exist_ok=True)
    with free_ports(2) as (dicom_port, http_port):
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
        (folder / "orthanc.json").write_text(json.dumps(configuration))
    log = folder / "orthanc.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [str(_ORTHANC), "--verbose", str(folder / "orthanc.json")],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
        )  # fmt: skip
        peer = Orthanc(dicom_port, http_port, log, process)
        try:
            _await_listener(http_port, process)
            peer.get("/system")
            yield peer
        finally:
            process.kill()
            process.wait()


def orthanc_tls(cert: Path, key: Path, trusted: Path, *, required: bool = True) -> dict[str, object]:
    """Return the options that make Orthanc speak DICOM TLS; all paths absolute, as it needs them."""
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(cert.absolute()),
        "DicomTlsPrivateKey": str(key.absolute()),
        "DicomTlsTrustedCertificates": str(trusted.absolute()),
        "DicomTlsRemoteCertificateRequired": required,
    }
