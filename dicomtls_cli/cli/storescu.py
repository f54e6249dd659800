"""`dicomtls storescu`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click

from dicomtls_cli.cli.dialects import STORESCU
from dicomtls_cli.cli.options import Link, Switch, association_options, output_options, tls_options
from dicomtls_cli.cli.requestor import connect_option, make_requestor, refuse_pem_files
from dicomtls_cli.cli.terminal import Terminal, error_record
from dicomtls_cli.cli.values import AE_TITLE, not_empty, parse_peer, take_peer
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.dimse.command import Priority
from dicomtls_cli.dimse.status import words as status_words
from dicomtls_cli.errors import DicomTlsError, ExitCode, InputError, UsageError
from dicomtls_cli.services.pathlist import read_paths
from dicomtls_cli.services.peer import Peer, TlsOptions
from dicomtls_cli.services.scan import Instance, Skipped, scan
from dicomtls_cli.services.send import Outcome, send
from dicomtls_cli.tls.policy import Role

PRIORITY = Switch("priority", {("--prior-high",): "high", ("--prior-low",): "low"})
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


@click.command(cls=StrictCommand, dialect=STORESCU, short_help="Send DICOM files and folders over TLS.")
@click.argument("words", nargs=-1, metavar="PEER PATH...")
@connect_option
@click.option("-aec", "--call", "--aec", "aec", type=AE_TITLE, help="Called AE title [ANY-SCP].")
@click.option(
    "-r",
    "--no-recurse",
    "--no-recursion",
    "no_recurse",
    is_flag=True,
    help="Do not descend into folders of a folder.",
)
@click.option(
    "+sp",
    "--scan-pattern",
    "scan_pattern",
    metavar="PATTERN",
    multiple=True,
    help="In folders, take only files whose name matches, as `*.dcm`; repeatable [all].",
)
@click.option(
    "--strict-files",
    is_flag=True,
    help="In folders, count what is hidden or no DICOM as a failure [pass it over].",
)
@click.option("--halt", is_flag=True, help="Stop at the first failure [go on with the rest].")
@click.option("--fail-on-warning", is_flag=True, help="Count a warning status as a failure.")
@click.option("--priority", type=click.Choice(list(_PRIORITIES)), help="DIMSE priority [medium].")
@PRIORITY.flags
@output_options
@tls_options(Role.REQUESTOR)
@association_options(Role.REQUESTOR)
def storescu(
    words: tuple[str, ...],
    connect: str | None,
    aec: str | None,
    no_recurse: bool,
    scan_pattern: tuple[str, ...],
    strict_files: bool,
    halt: bool,
    fail_on_warning: bool,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
    **priority: str | bool | None,
) -> int:
    """Send the DICOM files at each PATH to PEER by C-STORE over TLS.

    A PATH is a file, a folder with all in it, a DICOMDIR with all it lists, or `-`: a list of paths on standard
    input, one a line, or with NULs between them.

    PEER is `[AET@]host[:port]`, or `host port` as DCMTK writes it; port 2762 unless given (11112 with
    --no-tls). Each file is proposed and sent exactly as it is stored, over as few associations as possible.
    The exit code is 0 only if every instance was stored.

    \b
      dicomtls storescu pacs.example 2762 images/ --cert me.crt --key me.key --trust pacs.crt
      dicomtls storescu localhost 4242 +tls dcmtk.key dcmtk.crt +cf orthanc.crt a.dcm b.dcm
      find images -newer last -print0 | dicomtls storescu pacs.example 2762 - --trust pacs.crt
    """  # noqa: D301
    refuse_pem_files(words)
    peer, paths = _peer_and_paths(words, connect, aec, tls is not None)
    named = _named(paths, _path_list() if "-" in paths else None)
    requestor = make_requestor(link, tls)
    tally = _Tally(terminal, peer, fail_on_warning)
    files = scan(named, recurse=not no_recurse, patterns=scan_pattern, strict=strict_files)
    found = tally.instances(files, halt=halt)
    for outcome in send(
        peer, found, requestor, priority=_PRIORITIES[PRIORITY.take(priority) or "medium"], halt=halt
    ):
        tally.add(outcome)
    for _ in found:  # what --halt left: it is counted
        pass
    return tally.finish()


def _peer_and_paths(
    words: tuple[str, ...], connect: str | None, aec: str | None, tls: bool
) -> tuple[Peer, list[str]]:
    if connect is not None:
        peer, rest = parse_peer(connect, aec=aec, tls=tls)[0], list(words)
    elif words:
        peer, rest = take_peer(list(words), aec=aec, tls=tls)
    else:
        raise UsageError("no peer and no file is named", "write `PEER PATH...`", slug="usage.no-peer")
    if not rest:
        raise UsageError(
            f"nothing to send to `{peer}` is named",
            "name DICOM files or folders; `dicomtls echoscu` only verifies the peer",
            slug="usage.no-path",
        )
    if rest.count("-") > 1:
        raise UsageError(
            "`-` stands twice on the line, and there is one standard input",
            "name it once; a file of that name is `./-`",
            slug="usage.list-twice",
        )
    return peer, [not_empty(word) for word in rest]


def _path_list() -> IO[bytes]:
    """Return standard input, unbuffered, as a list of paths; a person at a terminal is not waited for."""
    try:
        if not sys.stdin.isatty():
            return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
        why = "a terminal"
    except (AttributeError, ValueError):  # None or closed
        why = "closed"
    raise UsageError(
        f"`-` reads a list of paths on standard input, and that is {why}",
        "pipe one in: `find FOLDER -name '*.dcm' -print0 | dicomtls storescu PEER -`",
        slug="usage.no-list",
    )


def _named(paths: list[str], path_list: IO[bytes] | None) -> Iterator[Path]:
    """Yield the paths of the line, those of the list on standard input where `-` stands."""
    for path in paths:
        if path != "-" or path_list is None:
            yield Path(path)
            continue
        try:
            yield from read_paths(path_list)
        except OSError as error:
            raise InputError(
                f"cannot read the list of paths on standard input: {error.strerror}",
                "pipe one in, or name the files",
                slug="input.unreadable",
            ) from error


@dataclass
class _Tally:
    """What became of everything so far: printed as it comes, summed up at the end."""

    terminal: Terminal
    peer: Peer
    fail_on_warning: bool
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[DicomTlsError] = field(default_factory=list)
    passed_over: int = 0
    wanted: int = 0
    tried: int = 0

    def instances(self, found: Iterable[Instance | Skipped], *, halt: bool) -> Iterator[Instance]:
        """Yield and count what can be sent; report what cannot; with `halt` nothing is sent after that."""
        for item in found:
            if isinstance(item, Skipped):
                self.skip(item)
            else:
                self.wanted += 1
                if not (halt and self.failed):
                    yield item

    def skip(self, skipped: Skipped) -> None:
        if not skipped.expected:
            self.passed_over += 1
            return
        self._fail(skipped.error, {"path": str(skipped.path)})

    def add(self, outcome: Outcome) -> None:
        self.tried += 1
        instance = outcome.instance
        if instance.remark:
            self.terminal.warning(f"`{instance.path}`: {instance.remark}")
        record = {
            "path": str(instance.path),
            "sop_class": instance.sop_class,
            "sop_instance": instance.sop_instance,
            "transfer_syntax": instance.transfer_syntax,
            "status": None if outcome.status is None else f"{outcome.status:04X}",
            "bytes": outcome.length,
            "seconds": round(outcome.seconds, 6),
        }
        if outcome.error is not None:
            self._fail(outcome.error, record)
            return
        self.counts["warned" if outcome.is_warning else "stored"] += 1
        if outcome.is_warning:
            assert outcome.status is not None
            self.terminal.warning(f"`{instance.path}`: stored, with {status_words(outcome.status)}")
        self.terminal.record({"ok": True, **record})

    def _fail(self, error: DicomTlsError, record: dict[str, Any]) -> None:
        self.failed.append(error)
        if self.terminal.as_json:
            self.terminal.record({"ok": False, **record, "error": error_record(error)})
        else:
            self.terminal.error(error)

    def nothing_to_send(self) -> DicomTlsError:
        looked = _other_files(self.passed_over) if self.passed_over else "nothing was found"
        return InputError(
            f"there is no DICOM file to send: {looked}",
            "name DICOM files, or folders of them",
            slug="input.nothing-to-send",
        )

    def finish(self) -> int:
        if not self.wanted:
            raise self.nothing_to_send()
        stored, warned, failed = self.counts["stored"], self.counts["warned"], len(self.failed)
        not_tried = self.wanted - self.tried
        parts = [f"{stored} stored", f"{warned} with a warning", f"{failed} failed"]
        parts += [f"{not_tried} not tried"] if not_tried else []
        parts += [_other_files(self.passed_over)] if self.passed_over else []
        self.terminal.result(f"{self.peer}: {', '.join(parts)}")
        code = self._exit_code(stored + warned)
        self.terminal.record(
            {
                "ok": code == 0,
                "peer": str(self.peer),
                "stored": stored,
                "warned": warned,
                "failed": failed,
                "not_tried": not_tried,
                "passed_over": self.passed_over,
            }
        )
        return code

    def _exit_code(self, arrived: int) -> int:
        if not self.failed:
            return int(ExitCode.STATUS) if self.fail_on_warning and self.counts["warned"] else 0
        if arrived:
            return int(ExitCode.PARTIAL)
        codes = {error.exit_code for error in self.failed if error.exit_code != ExitCode.INPUT}
        return int(codes.pop() if len(codes) == 1 else ExitCode.STATUS if codes else ExitCode.INPUT)


def _other_files(count: int) -> str:
    return f"{count} other file{'' if count == 1 else 's'} passed over"
