"""What became of everything that was to be sent: told as it comes, reported, summed up at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dicomtls_cli.cli.progress import Progress, State
from dicomtls_cli.cli.refusals import Refusals
from dicomtls_cli.cli.terminal import Terminal, counted
from dicomtls_cli.dimse.status import words as status_words
from dicomtls_cli.errors import DicomTlsError, ExitCode, InputError
from dicomtls_cli.services.files.scan import Instance, Skipped
from dicomtls_cli.services.peer import Peer
from dicomtls_cli.services.sending.send import Outcome

if TYPE_CHECKING:
    from dicomtls_cli.services.sending.report import Report, StoredBefore

_REPEATED = 10  # failures that the summary names once more
_SCREEN = 20  # lines after which the first failure is out of sight


class Tally:
    """The instances of one sending, from the scan to the summary.

    A context manager: inside, the progress is shown; afterwards it is gone and the report is closed, however
    it ended. The instances in `before` are left out: they are stored already.
    """

    def __init__(
        self,
        terminal: Terminal,
        peer: Peer,
        *,
        fail_on_warning: bool = False,
        halt: bool = False,
        report: Report | None = None,
        before: StoredBefore | None = None,
    ) -> None:
        self._terminal = terminal
        self._peer = peer
        self._fail_on_warning = fail_on_warning
        self._halt = halt
        self._report = report
        self._has_told_report = False
        self._before = before
        self._begun = time.monotonic()
        self.stored = self.warned = self.failed = self.already_stored = self.passed_over = 0
        self._wanted = self._tried = 0  # instances that are to be sent, and those with an outcome
        self._length = 0  # bytes of the data sets that are stored
        self._wanted_size = self._tried_size = 0  # bytes of the files
        self._is_scanned = False
        self._failure_codes: dict[ExitCode, None] = {}  # in the order of their first failures
        self._first_failures: list[str] = []
        self._last_hint = ""
        self._lines = 0  # printed since the first failure
        self._refusals = Refusals()
        self._progress = Progress(terminal, self._state)

    def __enter__(self) -> Tally:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the progress away and close the report. Harmless when done again."""
        self._progress.close()
        if self._report is not None:
            self._report.close()
            self._watch_report(self._report)

    def _state(self) -> State:
        sizes = self._tried_size, self._wanted_size
        return State(self._tried, self._wanted, self._is_scanned, self._length, *sizes, self.failed)

    # ------------------------------------------------------------------ as it comes

    def instances(self, found: Iterable[Instance | Skipped]) -> Iterator[Instance]:
        """Yield and count what can be sent and is not stored already; tell what cannot be sent.

        With `halt` nothing is sent after the first failure: the rest is only counted.
        """
        for item in found:
            if isinstance(item, Skipped):
                self._skip(item)
            elif self._before is not None and item in self._before:
                self._leave_out(item)
            else:
                self._wanted += 1
                self._wanted_size += item.size
                if not (self._halt and self.failed):
                    yield item
        self._is_scanned = True

    def leave(self, count: int) -> None:
        """Count `count` more instances that were to be sent and are not even made."""
        self._wanted += count

    def _skip(self, skipped: Skipped) -> None:
        if not skipped.expected:
            self.passed_over += 1
            return
        if self._needs_records:
            from dicomtls_cli.services.sending.report import skipped_record

            self._record(skipped_record(skipped), ok=False)
        self._fail(skipped.error)

    def _leave_out(self, instance: Instance) -> None:
        self.already_stored += 1
        if self._report is not None and not self._report.continues:
            from dicomtls_cli.services.sending.report import already_stored_record

            self._report.write(already_stored_record(instance))
            self._watch_report(self._report)

    def add(self, outcome: Outcome) -> None:
        """Count, report and tell what became of an instance."""
        instance = outcome.instance
        self._tried += 1
        self._tried_size += instance.size
        self._lines += 3 * (self._terminal.verbosity > 0)  # what was logged about it
        if instance.remark:
            self._warn(f"`{instance.file}`: {instance.remark}")
        if self._needs_records:
            from dicomtls_cli.services.sending.report import outcome_record

            self._record(outcome_record(outcome), ok=outcome.is_stored)
        if outcome.error is not None:
            self._refusals.add(outcome)
            self._fail(outcome.error)
            return
        self._length += outcome.length
        if outcome.is_warning:
            assert outcome.status is not None
            self.warned += 1
            self._warn(f"`{instance.file}`: stored, with {status_words(outcome.status)}")
        else:
            self.stored += 1

    @property
    def _needs_records(self) -> bool:
        return self._terminal.as_json or self._report is not None

    def _record(self, record: dict[str, Any], *, ok: bool) -> None:
        # The report first: standard output may have lost its reader.
        if self._report is not None:
            self._report.write(record)
            self._watch_report(self._report)
        if ok:
            del record["error"]  # in the records of all commands it means a failure
        self._terminal.record({"ok": ok, **record})

    def _watch_report(self, report: Report) -> None:
        """Tell once that the report is not what it should be."""
        if report.failure is not None and not self._has_told_report:
            self._has_told_report = True
            self._terminal.error(report.failure)

    def _fail(self, error: DicomTlsError) -> None:
        self.failed += 1
        self._lines = 2 + (self._lines if self.failed > 1 else 0)
        self._failure_codes[error.exit_code] = None
        if len(self._first_failures) < _REPEATED:
            self._first_failures.append(error.message)
        if not self._terminal.as_json:  # its record holds it
            self._terminal.error(self._without_old_hint(error))

    def _without_old_hint(self, error: DicomTlsError) -> DicomTlsError:
        """Return `error` without its hint where that would be the last one again: thousands may have one cause."""
        last, self._last_hint = self._last_hint, error.hint
        if error.hint != last:
            return error
        return DicomTlsError(error.message, slug=error.slug, exit_code=error.exit_code)

    def _warn(self, text: str) -> None:
        self._terminal.warning(text)
        self._lines += 1

    # ------------------------------------------------------------------ at the end

    def finish(self, interrupted: int = 0) -> int:
        """Sum up and return the exit code, which is `interrupted` where that is not 0.

        Raises InputError where there was nothing to send.
        """
        self.close()
        if not interrupted:
            self.refuse_nothing()
        code = interrupted or self._exit_code()
        if self.failed and self._lines > _SCREEN:
            self._terminal.result(self._repeated())
        for line in self._refusals.lines():
            self._terminal.result(line)
        self._terminal.result(f"{self._peer}: {', '.join(self._summary())}")
        self._terminal.record(self._summary_record(code))
        return code

    def refuse_nothing(self) -> None:
        """Raise InputError `input.nothing-to-send` where nothing was found that could be sent."""
        if self._wanted or self.already_stored:
            return
        looked = other_files(self.passed_over) if self.passed_over else "nothing was found"
        raise InputError(
            f"there is no DICOM file to send: {looked}",
            "name DICOM files, or folders of them",
            slug="input.nothing-to-send",
        )

    def _exit_code(self) -> int:
        if self.failed:
            if self.stored or self.warned:
                return int(ExitCode.PARTIAL)
            if ExitCode.STATUS in self._failure_codes:
                return int(ExitCode.STATUS)
            of_peer = (code for code in self._failure_codes if code != ExitCode.INPUT)
            return int(next(of_peer, ExitCode.INPUT))
        if self._fail_on_warning and self.warned:
            return int(ExitCode.STATUS)
        is_complete = self._report is None or self._report.failure is None
        return int(ExitCode.OK if is_complete else ExitCode.CANNOT_WRITE)

    def _repeated(self) -> str:
        more = self.failed - len(self._first_failures)
        lines = ["failed:", *(f"  {message}" for message in self._first_failures)]
        return "\n".join([*lines, *([f"  and {more:,} more"] if more else [])])

    def _summary(self) -> Iterator[str]:
        yield f"{self.stored} stored"
        yield f"{self.warned} with a warning"
        yield f"{self.failed} failed"
        if self.already_stored:
            yield f"{self.already_stored} already stored"
        if self._wanted > self._tried:
            yield f"{self._wanted - self._tried} not tried"
        if self.passed_over:
            yield other_files(self.passed_over)
        if self._report is not None and self._report.lost:
            yield f"{self._report.lost} missing in the report"

    def _summary_record(self, code: int) -> dict[str, Any]:
        seconds = time.monotonic() - self._begun
        return {
            "ok": code == 0,
            "peer": str(self._peer),
            "stored": self.stored,
            "warned": self.warned,
            "failed": self.failed,
            "not_tried": self._wanted - self._tried,
            "already_stored": self.already_stored,
            "passed_over": self.passed_over,
            "refused": self._refusals.records(),
            "not_reported": 0 if self._report is None else self._report.lost,
            "bytes": self._length,
            "seconds": round(seconds, 6),
            "mb_per_second": round(self._length / seconds / 1e6, 3) if seconds else None,
        }


def other_files(count: int) -> str:
    """Return how many files were passed over, in words."""
    return f"{counted(count, 'other file')} passed over"
