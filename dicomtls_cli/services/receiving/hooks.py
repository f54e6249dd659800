"""Commands of the operator's that run when an instance was stored, or a study is complete.

What a peer decides is in their environment, as data; for their words see `hook_words`. No shell is involved.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import selectors
import signal
import subprocess
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import IO, NamedTuple

from dicomtls_cli.errors import printable
from dicomtls_cli.services.receiving.events import Event, Received
from dicomtls_cli.services.receiving.hook_words import OF_STUDY, Command, Unfit
from dicomtls_cli.services.receiving.reception import Stored

logger = logging.getLogger("dicomtls.association")

_OURS = ("DICOMTLS_", "DICOM_EVENT_")

_AT_ONCE = 4
_QUEUE = 1000
_MOST_STUDIES = 10_000
_OUTPUT = 4096  # bytes of what a command says that are kept
_TICK = 0.25  # seconds between two looks whether everything is to end
_PARTING = 1.0  # seconds for the output of a command that ended
_GLANCE = 0.25  # seconds between looks whether a command's output is still of interest


class HookOptions(NamedTuple):
    """Which commands run, and when.

    `study_timeout` is after how many seconds without an instance a study is complete, `timeout` how many
    seconds a command may take. With `sync` one runs at a time, and who sent the instance waits for it.
    """

    on_instance: Command | None = None
    on_study: Command | None = None
    study_timeout: float = 60.0
    timeout: float = 300.0
    sync: bool = False


class _Job(NamedTuple):
    command: Command
    values: Mapping[str, str]  # for words and environment
    more: Mapping[str, str]  # for the environment only
    done: threading.Event


class _Study(NamedTuple):
    """A study that instances still come for, as the last of them left it."""

    instances: int
    bytes: int
    last: float
    values: Mapping[str, str]
    more: Mapping[str, str]


class Hooks:
    """Runs commands for the events of a server, a few at once; call it with each event, and `close` it.

    When a thousand commands wait, whoever has another waits too, and with it the peer.
    """

    def __init__(self, options: HookOptions) -> None:
        self._options = options
        self._environment = {k: v for k, v in os.environ.items() if not k.upper().startswith(_OURS)}
        self._changed = threading.Condition()
        self._queue: deque[_Job] = deque()
        self._studies: OrderedDict[str, _Study] = OrderedDict()  # the one that is quiet for longest first
        self._running: set[subprocess.Popen[bytes]] = set()
        self._unfinished = 0  # commands that wait for room in the queue, are in it, or run
        self._active = 0  # commands that were taken from the queue
        self._workers = 0
        self._is_behind = False
        self._aborted = False
        self._deadline: float | None = None
        self._is_told_to_end: Callable[[], bool] = lambda: False
        if options.on_study is not None:
            threading.Thread(target=self._watch_studies, name="dicomtls-studies", daemon=True).start()

    # ------------------------------------------------------------------ events

    def __call__(self, event: Event) -> None:
        """Take note of `event`; return once its command is in the queue, or done where `sync`."""
        if not isinstance(event, Received) or event.instance.stored is None or event.instance.stored.kept:
            return
        values, more = _values(event)
        options = self._options
        if options.on_instance is not None:
            self._submit(options.on_instance, values, {**more, "type": "instance"})
        if options.on_study is not None:
            self._note(event.instance.stored, values, more)

    def _note(self, stored: Stored, values: Mapping[str, str], more: Mapping[str, str]) -> None:
        with self._changed:
            before = self._studies.pop(stored.study, None)
            instances, size = (before.instances, before.bytes) if before else (0, 0)
            self._studies[stored.study] = _Study(
                instances + 1, size + stored.length, time.monotonic(), values, more
            )
            overdue = [self._studies.popitem(last=False)[1]] if len(self._studies) > _MOST_STUDIES else []
            self._changed.notify_all()
        for study in overdue:
            self._complete(study)

    def _watch_studies(self) -> None:
        while self._deadline is None:
            with self._changed:
                due = self._take_quiet_studies()
                # They count already: `close` is to wait for them.
                self._unfinished += len(due)
            for study in due:
                self._complete(study)
            with self._changed:
                self._unfinished -= len(due)
                self._changed.notify_all()

    def _take_quiet_studies(self) -> list[_Study]:
        """Return the studies that were quiet for long enough, perhaps none after a wait. Holds the lock."""
        due = []
        while self._studies:
            key, study = next(iter(self._studies.items()))
            remaining = study.last + self._options.study_timeout - time.monotonic()
            if remaining > 0:
                break
            due.append(self._studies.pop(key))
        if not due and self._deadline is None:
            self._changed.wait(remaining if self._studies else None)
        return due

    def _complete(self, study: _Study) -> None:
        assert self._options.on_study is not None
        values = {name: value for name, value in study.values.items() if name in OF_STUDY}
        more = {name: study.more[name] for name in ("certificate_subject", "certificate_sha256")}
        more |= {"type": "study", "instances": str(study.instances), "bytes": str(study.bytes)}
        self._submit(self._options.on_study, values, more)

    # ------------------------------------------------------------------ the queue

    def _submit(self, command: Command, values: Mapping[str, str], more: Mapping[str, str]) -> None:
        job = _Job(command, values, more, threading.Event())
        with self._changed:
            self._unfinished += 1
            if len(self._queue) >= _QUEUE and not self._is_behind:
                self._is_behind = True
                logger.warning("%d hooks wait: so does receiving, until they are done", _QUEUE)
            while len(self._queue) >= _QUEUE and not self._is_over():
                self._changed.wait(_TICK)
            if self._aborted:
                self._unfinished -= 1
                logger.error("hook not run: %s %s", command.program, dict(values))
                return
            self._queue.append(job)
            if self._workers < (1 if self._options.sync else _AT_ONCE):
                self._workers += 1
                threading.Thread(target=self._work, name="dicomtls-hook", daemon=True).start()
            self._changed.notify_all()
        while self._options.sync and not self._is_over() and not job.done.wait(_TICK):
            pass

    def _is_over(self) -> bool:
        if self._aborted or self._deadline is None:
            return self._aborted
        return time.monotonic() > self._deadline or self._is_told_to_end()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._aborted:
                        return
                    self._changed.wait()
                job = self._queue.popleft()
                self._active += 1
                if len(self._queue) < _QUEUE // 2:
                    self._is_behind = False
                self._changed.notify_all()
            try:
                self._run(job)
            except Exception:  # a defect: the other hooks still have to run
                logger.exception("a hook failed")
            finally:
                job.done.set()
                with self._changed:
                    self._active -= 1
                    self._unfinished -= 1
                    self._changed.notify_all()

    def close(self, seconds: float = 30.0, is_over: Callable[[], bool] = lambda: False) -> None:
        """End the studies that are under way and wait for all commands, for at most `seconds`.

        It waits no longer once `is_over()` is true. What could not run by then is killed or left out, and
        told of in the log.
        """
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._is_told_to_end = is_over
            studies = list(self._studies.values())
            self._studies.clear()
            self._changed.notify_all()
        for study in studies:
            self._complete(study)
        with self._changed:
            while self._unfinished and not self._is_over():
                self._changed.wait(_TICK)
            self._aborted = True
            left = list(self._queue)
            self._queue.clear()
            running, active = list(self._running), self._active
            self._changed.notify_all()
        for process in running:
            _kill(process)
        for job in left:
            logger.info("hook not run: %s %s", job.command.program, dict(job.values))
        if left or active:
            logger.error("%d hooks were not run, %d were killed: the end came first", len(left), active)

    # ------------------------------------------------------------------ one command

    def _run(self, job: _Job) -> None:
        name = job.command.option
        try:
            words = job.command.fill(job.values)
        except Unfit as unfit:
            logger.error("`%s` skipped: %s may not stand in a command line", name, unfit)
            return
        told = {f"DICOM_EVENT_{key.upper()}": _for_environment(value)
                for key, value in {**job.values, **job.more}.items()}  # fmt: skip
        began = time.monotonic()
        try:
            process = subprocess.Popen(  # noqa: S603 - a list of words, no shell
                words, env=self._environment | told, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            logger.error("`%s` cannot be run: %s: %s", name, job.command.program, error)
            return
        with self._changed:
            self._running.add(process)
            is_late = self._aborted
        if is_late:
            _kill(process)
        try:
            output = _Output(process)
            failure = self._await(process)
        finally:
            with self._changed:
                self._running.discard(process)
        said = output.text()
        if failure:
            logger.error("`%s` %s: %s", name, failure, said or "it said nothing")
        else:
            seconds = time.monotonic() - began
            logger.info("`%s` done in %.1f s%s", name, seconds, f": {said}" if said else "")

    def _await(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the end of `process`; return how it failed, "" where it did not."""
        try:
            code = process.wait(self._options.timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            return f"killed after {self._options.timeout:g} s"
        if code < 0:
            return f"ended by signal {-code}"
        return f"ended with exit code {code}" if code else ""


class _Output:
    """What a process says, read to its end; the beginning is kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._kept = bytearray()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        # A process that was left behind may hold the other end for ever: our end is not kept open for it.
        with stream, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(stream, selectors.EVENT_READ)
            while not self._is_over.is_set():
                if selector.select(_GLANCE):
                    piece = os.read(stream.fileno(), 65536)
                    if not piece:
                        return
                    self._kept += piece[: _OUTPUT - len(self._kept)]

    def text(self) -> str:
        """Return it in one line; what a process that it left behind has still to say is not waited for."""
        self._thread.join(_PARTING)
        self._is_over.set()
        return printable(bytes(self._kept).decode("utf-8", "replace").strip(), limit=_OUTPUT)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill `process`, where it still runs, and what it started."""
    with contextlib.suppress(OSError):
        if process.poll() is not None:
            return
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _for_environment(text: str) -> str:
    return printable(text, limit=_OUTPUT)


def _values(event: Received) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a command may be told of `event` in its words, and what in its environment only."""
    client, instance = event.client, event.instance
    stored = instance.stored
    assert stored is not None
    certificate = client.certificate
    values = {
        "sop_uid": instance.sop_instance,
        "study_uid": stored.study,
        "peer_ip": client.host.strip("[]"),
        "calling_aet": client.calling_aet,
        "called_aet": client.called_aet,
    }
    if stored.path is not None:
        path = stored.path.absolute()
        values |= {"path": str(path), "dir": str(path.parent), "file": path.name}
    more = {
        "sop_class_uid": instance.sop_class,
        "transfer_syntax_uid": instance.transfer_syntax,
        "bytes": str(stored.length),
        "replaced": str(int(stored.replaced)),
        "identical": str(int(stored.identical)),
        "certificate_subject": client.subject,
        "certificate_sha256": hashlib.sha256(certificate).hexdigest() if certificate else "",
    }
    return values, more | ({"sha256": stored.sha256} if stored.sha256 else {})
