"""A real Orthanc that speaks DICOM TLS, on ports of its own and with an empty storage."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dicomtls_cli.services.orthanc.trial import program
from dicomtls_cli.services.peer import TlsOptions

REQUIRED = "DICOMTLS_REQUIRE_PEERS"
PROGRAM = "DICOMTLS_ORTHANC"
AET = "ORTHANC"

_PATIENCE = 60.0  # seconds
_POLL = 0.01  # seconds between two looks at whether it has started; that takes 0.1
_ATTEMPTS = 5  # a port that was free a moment ago may be somebody else's by now


def absence() -> str:
    """Return why there can be no Orthanc here, "" where it is installed."""
    if _installed():
        return ""
    if named := os.environ.get(PROGRAM):
        return f"Orthanc is not there: {PROGRAM} names `{named}`"
    return "Orthanc is not installed (Debian, Ubuntu: `apt-get install orthanc`)"


def is_required() -> bool:
    """Tell whether a test that finds no Orthanc is to fail, instead of being skipped."""
    return bool(os.environ.get(REQUIRED))


class Orthanc:
    """A running Orthanc: its ports, and its REST API."""

    def __init__(self, dicom_port: int, http_port: int, log: Path) -> None:
        self.dicom_port = dicom_port
        self.http_port = http_port
        self._log = log

    @property
    def peer(self) -> str:
        """Where it is, for `echo` and `send`."""
        return f"{AET}@localhost:{self.dicom_port}"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> Any:
        """Return the JSON at `path`, as `/statistics`; raises urllib's HTTPError."""
        return self._ask("GET", path)

    def post(self, path: str, body: object) -> Any:
        """Post `body` as JSON to `path`, as to `/modalities/NAME/store`; return the answer."""
        return self._ask("POST", path, json.dumps(body).encode())

    def upload(self, path: Path) -> str:
        """Put the DICOM file at `path` into it; return Orthanc's id of the instance."""
        return str(self._ask("POST", "/instances", path.read_bytes())["ID"])

    def instances(self) -> list[str]:
        """Return the ids of the instances it holds."""
        return list(self.get("/instances"))

    def add_modality(self, name: str, port: int, *, aet: str = "DICOMTLS") -> None:
        """Tell it of a peer on this machine that it can send to over TLS."""
        modality = {"AET": aet, "Host": "localhost", "Port": port, "UseDicomTls": True}
        self._ask("PUT", f"/modalities/{name}", json.dumps(modality).encode())

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        from urllib.request import ProxyHandler, Request, build_opener

        direct = build_opener(ProxyHandler({}))  # it is on this machine, whatever the environment says
        request = Request(f"http://127.0.0.1:{self.http_port}{path}", body, method=method)
        with direct.open(request, timeout=_PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@contextlib.contextmanager
def orthanc(folder: Path, tls: TlsOptions, options: Mapping[str, object]) -> Iterator[Orthanc]:
    """Run Orthanc in `folder` with the certificate and trust of `tls`, `options` on top of its configuration.

    Raises RuntimeError, with what it logged, where it does not start.
    """
    installed = _installed()
    assert installed is not None, absence()
    for attempt in range(_ATTEMPTS):
        running = Orthanc(*_free_ports(), folder / "log")
        configuration = folder / "configuration.json"
        configuration.write_text(json.dumps({**_configuration(folder, running, tls), **options}))
        with _process([str(installed), "--verbose", str(configuration)], folder / "log") as process:
            if _has_started(running, process):
                yield running
                return
        if "already in use" not in running.log or attempt == _ATTEMPTS - 1:
            raise RuntimeError(f"Orthanc does not start:\n{running.log[-4000:]}")


def _installed() -> Path | None:
    return program(os.environ.get(PROGRAM) or "Orthanc")


def _configuration(folder: Path, running: Orthanc, tls: TlsOptions) -> dict[str, object]:
    """Return a configuration; paths are absolute, since Orthanc resolves others against its working folder."""
    (trusted,) = tls.trust
    return {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": running.http_port,
        "DicomPort": running.dicom_port,
        "DicomAet": AET,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
        "OverwriteInstances": True,
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(Path(str(tls.cert)).absolute()),
        "DicomTlsPrivateKey": str(Path(str(tls.key)).absolute()),
        "DicomTlsTrustedCertificates": str(Path(trusted).absolute()),
        "DicomTlsRemoteCertificateRequired": True,
    }


@contextlib.contextmanager
def _process(words: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - Orthanc, on a configuration of our own
            words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()  # its end in order takes seconds, and nothing in it is to be kept
            process.wait()


def _has_started(running: Orthanc, process: subprocess.Popen[bytes]) -> bool:
    """Wait until it answers by HTTP, which comes up after DICOM; False if it ends instead."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            running.get("/system")
            return process.poll() is None
        time.sleep(_POLL)
    return False


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
