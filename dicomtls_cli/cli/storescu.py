"""`dicomtls storescu`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import click

from dicomtls_cli.cli.association import Link, association_options
from dicomtls_cli.cli.dialects import STORESCU
from dicomtls_cli.cli.interrupt import interruptible
from dicomtls_cli.cli.options import Switch, output_options
from dicomtls_cli.cli.requestor import connect_option, make_requestor, refuse_pem_files, report_echo
from dicomtls_cli.cli.terminal import Terminal, error_record
from dicomtls_cli.cli.tls import tls_options
from dicomtls_cli.cli.values import AE_TITLE, not_empty, parse_peer, take_peer
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.dimse.command import Priority
from dicomtls_cli.dimse.status import words as status_words
from dicomtls_cli.errors import DicomTlsError, ExitCode, InputError, UsageError
from dicomtls_cli.services.echo import echo
from dicomtls_cli.services.images import GeneratedImages
from dicomtls_cli.services.peer import Peer, Requestor, TlsOptions
from dicomtls_cli.services.scan import Instance, Skipped, scan
from dicomtls_cli.services.send import Outcome, Wishes, send
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
@click.option("--halt", is_flag=True, help="Stop at the first failure [go on with the rest].")
@click.option("--fail-on-warning", is_flag=True, help="Count a warning status as a failure.")
@click.option("--priority", type=click.Choice(list(_PRIORITIES)), help="DIMSE priority [medium].")
@PRIORITY.flags
@click.option("--jobs", type=click.IntRange(1, 64), default=1, help="Associations that send at once [1].")
@click.option(
    "--async-window",
    "--max-ops-invoked",
    "window",
    type=click.IntRange(1, 65535),
    default=1,
    help="Instances on their way at once in an association, where the peer agrees [1].",
)
@click.option("--not-async", is_flag=True, hidden=True)
@click.option(
    "--retry",
    type=click.IntRange(0, 1000),
    default=0,
    help="Times to send again what a lost connection left without an answer [0].",
)
@click.option(
    "--generate",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Also send N test images, made on the spot: CT slices of one study, of no person.",
)
@output_options
@tls_options(Role.REQUESTOR)
@association_options(Role.REQUESTOR)
def storescu(
    words: tuple[str, ...],
    connect: str | None,
    aec: str | None,
    no_recurse: bool,
    halt: bool,
    fail_on_warning: bool,
    jobs: int,
    window: int,
    not_async: bool,
    retry: int,
    generate: int | None,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
    **priority: str | bool | None,
) -> int:
    """Send the DICOM files at each PATH (files, or folders with all in them) to PEER by C-STORE over TLS.

    PEER is `[AET@]host[:port]`, or `host port` as DCMTK writes it; port 2762 unless given (11112 with
    --no-tls). Each file is proposed and sent exactly as it is stored, over as few associations as possible.
    The exit code is 0 only if every instance was stored. With --generate, PATH may be left out.

    \b
      dicomtls storescu pacs.example 2762 images/ --cert me.crt --key me.key --trust pacs.crt
      dicomtls storescu localhost 4242 +tls dcmtk.key dcmtk.crt +cf orthanc.crt a.dcm b.dcm
    """  # noqa: D301
    if not_async and window > 1:
        raise UsageError(
            f"`--not-async` contradicts `--async-window {window}`",
            "give one of them",
            slug="usage.contradiction",
        )
    refuse_pem_files(words)
    peer, paths = _peer_and_paths(words, connect, aec, tls is not None, generate)
    if not paths and generate is None:
        return _verify(peer, make_requestor(link, tls), terminal)
    requestor = make_requestor(link, tls)
    tally = _Tally(terminal, peer, fail_on_warning)
    wishes = Wishes(_PRIORITIES[PRIORITY.take(priority) or "medium"], halt, 1 if not_async else window, retry)
    with GeneratedImages(generate or 0) as images, interruptible() as interruption:
        found = chain(
            tally.instances(scan(paths, recurse=not no_recurse), halt=halt),
            takewhile(lambda _: not (halt and tally.failed), images),
        )
        tally.wanted += generate or 0
        sending = send(
            peer,
            found,
            requestor,
            wishes,
            jobs=jobs,
            ending=interruption.ending,
            on_connected=interruption.arm,
        )
        for outcome in sending:
            tally.add(outcome)
            images.discard(outcome.instance)
        if not interruption.code:
            for _ in found:  # what --halt left: it is counted
                pass
    return tally.finish(interruption.code)


def _peer_and_paths(
    words: tuple[str, ...], connect: str | None, aec: str | None, tls: bool, generate: int | None
) -> tuple[Peer, list[Path]]:
    """Return the peer and the PATHs; there may be none with `generate`, or with dcm4che's `-c`."""
    if connect is not None:
        peer, rest = parse_peer(connect, aec=aec, tls=tls)[0], list(words)
    elif words:
        peer, rest = take_peer(list(words), aec=aec, tls=tls)
    else:
        raise UsageError("no peer and no file is named", "write `PEER PATH...`", slug="usage.no-peer")
    if not rest and connect is None and generate is None:
        raise _no_path(peer)
    return peer, [Path(not_empty(word)) for word in rest]


def _no_path(peer: Peer) -> UsageError:
    return UsageError(
        f"nothing to send to `{peer}` is named",
        "name DICOM files or folders; `dicomtls echoscu` only verifies the peer",
        slug="usage.no-path",
    )


def _verify(peer: Peer, requestor: Requestor, terminal: Terminal) -> int:
    """Do what dcm4che's storescu does with nothing but a peer, and say so.

    An option that echoscu does not have says that something was to be sent: perhaps an empty variable of a
    shell stands for it, and success would be a lie.
    """
    from dicomtls_cli.cli.echoscu import echoscu

    ctx = click.get_current_context()
    for_sending = {parameter.name for parameter in ctx.command.params} - {p.name for p in echoscu.params}
    given = (ctx.get_parameter_source(name) for name in for_sending if name is not None)
    if click.core.ParameterSource.COMMANDLINE in given:
        raise _no_path(peer)
    terminal.note(f"nothing to send is named: a C-ECHO verifies `{peer}`, as dcm4che's storescu does")
    return report_echo(terminal, echo(peer, requestor))


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

    def finish(self, interrupted: int = 0) -> int:
        """Sum up and return the exit code, which is `interrupted` where that is not 0."""
        if not self.wanted and not interrupted:
            raise self.nothing_to_send()
        stored, warned, failed = self.counts["stored"], self.counts["warned"], len(self.failed)
        not_tried = self.wanted - self.tried
        parts = [f"{stored} stored", f"{warned} with a warning", f"{failed} failed"]
        parts += [f"{not_tried} not tried"] if not_tried else []
        parts += [_other_files(self.passed_over)] if self.passed_over else []
        self.terminal.result(f"{self.peer}: {', '.join(parts)}")
        code = interrupted or self._exit_code(stored + warned)
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
