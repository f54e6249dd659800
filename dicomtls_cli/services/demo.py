"""The whole tool at work on this machine, without a peer or a file; what it shows, it really ran."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.services.files.images import write_test_images
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role

_IMAGES = 5
_LIMIT = 60.0  # seconds any one step may take


class DemoFailed(DicomTlsError):
    """A step did not go as it should."""

    def __init__(self, step: str, what: str) -> None:
        super().__init__(
            f"{step}: {what}", "run it again; if it stays, this is a defect of dicomtls", slug="demo.failed"
        )


@dataclass(frozen=True)
class Step:
    """One thing that was done: what it is for, how to do it oneself, and what came of it."""

    title: str
    command: str
    output: str


def run_demo() -> Iterator[Step]:
    """Yield one step after the other, each after it went as it should; clean up at the end.

    Raises DemoFailed at the first that did not.
    """
    with tempfile.TemporaryDirectory(prefix="dicomtls-demo-") as folder, contextlib.ExitStack() as stack:
        demo = _Demo(Path(folder))
        yield demo.run("Two identities, each a key and a certificate", "gencert hospital scanner")
        yield demo.run("The certificates both sides trust", "bundle hospital.crt scanner.crt -o trusted.crt")
        scp = stack.enter_context(demo.receiver())
        yield scp
        port = demo.port
        mine = "--cert scanner.crt --key scanner.key --trust trusted.crt"
        yield demo.run("C-ECHO over mutual TLS", f"echoscu localhost {port} {mine}")
        images = write_test_images(demo.make_folder("images"), _IMAGES)
        yield demo.run("C-STORE of generated images", f"storescu localhost {port} images {mine}")
        demo.expect_stored(images)
        yield demo.with_pynetdicom()
        demo.quiet("gencert stranger")
        yield demo.refused_stranger(
            f"echoscu localhost {port} --cert stranger.crt --key stranger.key --trust trusted.crt"
        )
        yield demo.run("The receiver still serves", f"echoscu localhost {port} {mine}")
        yield demo.stop_receiver()


class _Demo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._scp: subprocess.Popen[str] | None = None

    def make_folder(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir()
        return path

    def run(self, title: str, line: str) -> Step:
        """Run `dicomtls LINE` as a process of its own and expect it to succeed."""
        done = self._run(line)
        if done.returncode:
            raise DemoFailed(f"`dicomtls {line}` ended with {done.returncode}", done.stderr.strip())
        return Step(title, f"dicomtls {line}", done.stdout.strip())

    def quiet(self, line: str) -> None:
        self.run("", line)

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - our own command, words of our own
                [sys.executable, "-m", "dicomtls_cli", *shlex.split(line)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"`dicomtls {line}`", f"did not end within {_LIMIT:g} s") from None

    @contextlib.contextmanager
    def receiver(self) -> Iterator[Step]:
        """Start the SCP and wait until it listens; whatever happens, it ends with the demo."""
        line = (
            "storescp --port 0 --bind 127.0.0.1 --ready-file ready --output received "
            "--cert hospital.crt --key hospital.key --trust trusted.crt"
        )
        log = (self.folder / "storescp.log").open("w")
        with (
            log,
            subprocess.Popen(  # noqa: S603 - our own command, words of our own
                [sys.executable, "-m", "dicomtls_cli", *shlex.split(line)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            ) as process,
        ):
            self._scp = process
            try:
                self.port = self._await_port(process)
                yield Step(
                    "A receiver that requires certificates",
                    f"dicomtls {line}",
                    f"listening on port {self.port}",
                )
            finally:
                process.kill()

    def _await_port(self, process: subprocess.Popen[str]) -> int:
        ready = self.folder / "ready"
        deadline = time.monotonic() + _LIMIT
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed("the receiver did not start", self._log())
            time.sleep(0.02)
        return int(json.loads(ready.read_text())["port"])

    def _log(self) -> str:
        return (self.folder / "storescp.log").read_text()[-400:]

    def expect_stored(self, images: list[Path]) -> None:
        """Compare the data sets that arrived with those that were sent, byte by byte."""
        arrived = {path.stem: path for path in (self.folder / "received").rglob("*.dcm")}
        for image in images:
            uid, sent = _data_set(image)
            if uid not in arrived or _data_set(arrived[uid])[1] != sent:
                raise DemoFailed("C-STORE", f"{image.name} did not arrive as it was sent")

    def with_pynetdicom(self) -> Step:
        """Let an AE of pynetdicom, secured by a context of ours, echo and store."""
        import pydicom
        from pynetdicom import AE

        here = self.folder
        context = tls_context(
            Role.REQUESTOR,
            TlsOptions(cert=here / "scanner.crt", key=here / "scanner.key", trust=(here / "trusted.crt",)),
        )
        image = pydicom.dcmread(write_test_images(self.make_folder("pynetdicom"), 1)[0])
        ae = AE("PYNETDICOM")
        ae.add_requested_context("1.2.840.10008.1.1")
        ae.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
        association = ae.associate("127.0.0.1", self.port, tls_args=(context, "localhost"))
        if not association.is_established:
            raise DemoFailed("pynetdicom", "no association")
        echoed, stored = association.send_c_echo(), association.send_c_store(image)
        association.release()
        statuses = [getattr(status, "Status", None) for status in (echoed, stored)]
        if statuses != [0, 0] or not list((here / "received").rglob(f"{image.SOPInstanceUID}.dcm")):
            raise DemoFailed("pynetdicom", f"C-ECHO and C-STORE ended with {statuses}")
        return Step(
            "A pynetdicom program, secured by the same contexts",
            "ae.associate(host, port, tls_args=(context, host))  # Python",
            "C-ECHO 0x0000, C-STORE 0x0000",
        )

    def refused_stranger(self, line: str) -> Step:
        """Show that a certificate nobody trusts is refused, and for that very reason."""
        error = json.loads(self._run(f"{line} --json").stdout or "{}").get("error", {})
        if error.get("code") != "tls.refused-unknown-ca":
            raise DemoFailed("the stranger", f"was not refused by verification: {error}")
        shown = f"error: {error['message']}\nhint: {error['hint']}\n(exit code {error['exit']})"
        return Step("A stranger is refused, and told why", f"dicomtls {line}", shown)

    def stop_receiver(self) -> Step:
        """End the SCP in order."""
        assert self._scp is not None
        self._scp.send_signal(signal.SIGTERM)
        try:
            code = self._scp.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            raise DemoFailed("the receiver", "did not end on SIGTERM") from None
        if code:
            raise DemoFailed(f"the receiver ended with {code}", self._log())
        return Step("The receiver ends in order", f"kill -TERM {self._scp.pid}", "exit code 0")


def _data_set(path: Path) -> tuple[str, bytes]:
    """Return SOP Instance UID and data set bytes of a DICOM file."""
    from dicomtls_cli.services.files.scan import Instance, read_instance

    instance = read_instance(path)
    assert isinstance(instance, Instance)
    return instance.sop_instance, path.read_bytes()[instance.offset :]
