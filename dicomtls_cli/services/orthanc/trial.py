"""The installed Orthanc, run for a trial: its data in a folder that goes with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dicomtls_cli.errors import DicomTlsError, ExitCode, InputError, OutputError
from dicomtls_cli.services.orthanc.check import DEFAULT_AET, DEFAULT_PORTS
from dicomtls_cli.services.orthanc.findings import Version
from dicomtls_cli.services.orthanc.ports import free_port, is_free
from dicomtls_cli.services.orthanc.settings import render

READY_LIMIT = 15.0
"""Seconds that Orthanc may take to answer; it needs a tenth of one."""

_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/orthanc/bin")  # not on every PATH
_PAUSE = 0.02
_STOP_LIMIT = 1.0  # its storage goes anyway; what it writes when it ends in order, nobody reads
_SHOWN = 3


class Running(NamedTuple):
    """An Orthanc that answers: its process, ports and AE title, and the file its log is written to."""

    process: subprocess.Popen[bytes]
    dicom_port: int
    http_port: int
    aet: str
    log: Path

    def wait(self) -> None:
        """Wait until it ends, which it should not: raises DicomTlsError then."""
        code = self.process.wait()
        raise _ended(code, self.log, ExitCode.UNEXPECTED)


def program(name: str = "Orthanc") -> Path | None:
    """Return the Orthanc that is installed here under this name or path, None if there is none."""
    for place in (None, *_PLACES):
        found = shutil.which(name, path=place)
        if found:
            return Path(found)
    return None


def find_orthanc() -> Path:
    """Return the installed Orthanc; raise InputError if there is none."""
    found = program()
    if found is not None:
        return found
    raise InputError(
        "Orthanc is not installed here",
        "install it (`apt-get install orthanc`), or copy the file to where it is",
        slug="orthanc.not-installed",
    )


def installed_version() -> Version | None:
    """Return the version of the installed Orthanc, None if there is none or it does not tell."""
    with contextlib.suppress(DicomTlsError, OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 - its own path, no argument of anybody's
            [str(find_orthanc()), "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=READY_LIMIT,
            check=False,
        )  # fmt: skip
        found = re.search(rb"Orthanc (\d+)\.(\d+)\.(\d+)", done.stdout)
        if found:
            return int(found[1]), int(found[2]), int(found[3])
    return None


@contextlib.contextmanager
def running(keys: Mapping[str, Any]) -> Iterator[Running]:
    """Run the installed Orthanc with the configuration `keys`, and yield it once it answers.

    Its storage is a temporary folder, HTTP is on loopback and without password, plugins are left out. It ends,
    and all of it is gone, with the block. Raises DicomTlsError if it is not there, does not start, or does
    not answer in time.
    """
    orthanc = find_orthanc()
    with tempfile.TemporaryDirectory(prefix="dicomtls-orthanc-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        configured = {**keys, **_trial_keys(keys, folder)}
        (folder / "configuration.json").write_bytes(render(configured))
        log = folder / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603 - its own path, no word of anybody's
                [str(orthanc), str(folder / "configuration.json")], stdin=subprocess.DEVNULL, stdout=sink,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            _await_answer(process, configured["HttpPort"], log)
            aet = str(configured.get("DicomAet", DEFAULT_AET))
            yield Running(process, configured["DicomPort"], configured["HttpPort"], aet, log)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_LIMIT)
            process.kill()
            process.wait()


def _trial_keys(keys: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what makes a trial of a configuration."""
    dicom_port = keys.get("DicomPort")
    if dicom_port is not None and not 0 < dicom_port < 65536:
        raise InputError(
            f"`DicomPort` is {dicom_port}, which is no port",
            "write one from 1 to 65535, as `4242`",
            slug="orthanc.unusable-file",
        )
    if dicom_port is not None and not is_free(dicom_port):
        raise OutputError(
            f"port {dicom_port} is taken",
            "choose another one with `--port`, or stop what listens there",
            slug="orthanc.port-taken",
            exit_code=ExitCode.CANNOT_LISTEN,
        )
    return {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "TemporaryDirectory": str(folder),
        "DicomPort": dicom_port if dicom_port is not None else free_port(DEFAULT_PORTS["DicomPort"]),
        "HttpPort": free_port(DEFAULT_PORTS["HttpPort"]),
        "HttpServerEnabled": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "SslEnabled": False,
        "Plugins": [],
    }


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_LIMIT
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise _ended(process.wait(_PAUSE), log, ExitCode.INPUT)
        if _answers(port):
            return
    raise DicomTlsError(
        f"Orthanc does not answer on port {port} within {READY_LIMIT:.0f} s",
        f"its last words: {_last_words(log)}",
        slug="orthanc.not-ready",
        exit_code=ExitCode.UNREACHABLE,
    )


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/system")
        return isinstance(json.loads(connection.getresponse().read(65536)), dict)
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def _ended(code: int, log: Path, exit_code: ExitCode) -> DicomTlsError:
    return DicomTlsError(
        f"Orthanc ended with {code}: {_last_words(log)}",
        "`dicomtls orthanc --check FILE` says what is wrong with a configuration",
        slug="orthanc.ended",
        exit_code=exit_code,
    )


def _last_words(log: Path) -> str:
    """Return the errors at the end of Orthanc's log, without its times and source lines."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [re.sub(r"^E\S* \S+ \S+\] ", "", line) for line in lines if line.startswith("E")]
    told = [line for line in errors if "INTERNAL ERROR" not in line and "Uncaught exception" not in line]
    return "; ".join((told or errors or lines or ["it said nothing"])[-_SHOWN:])
