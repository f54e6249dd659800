"""`dicomtls storescu`."""

from __future__ import annotations

from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomtls_cli.cli.association import Link, association_options
from dicomtls_cli.cli.dialects import STORESCU
from dicomtls_cli.cli.interrupt import interruptible
from dicomtls_cli.cli.options import Switch, output_options
from dicomtls_cli.cli.paths import named_paths
from dicomtls_cli.cli.plan import tell_plan
from dicomtls_cli.cli.requestor import (
    config_option,
    connect_option,
    make_requestor,
    refuse_pem_files,
    report_echo,
)
from dicomtls_cli.cli.tally import Tally
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.tls import tls_options
from dicomtls_cli.cli.values import AE_TITLE, FILE, not_empty, parse_peer, take_peer
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.dimse.command import Priority
from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.echo import echo
from dicomtls_cli.services.files.images import GeneratedImages
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.scan import scan
from dicomtls_cli.services.peer import Peer, Requestor, TlsOptions
from dicomtls_cli.services.sending.send import Wishes, send
from dicomtls_cli.tls.policy import Role

if TYPE_CHECKING:
    from dicomtls_cli.services.sending.report import Report, StoredBefore

PRIORITY = Switch("priority", {("--prior-high",): "high", ("--prior-low",): "low"})
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


@click.command(cls=StrictCommand, dialect=STORESCU, short_help="Send DICOM files and folders over TLS.")
@click.argument("words", nargs=-1, metavar="PEER PATH...")
@connect_option
@config_option
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
@click.option(
    "--report",
    type=FILE,
    help="Write there what becomes of each instance, a JSON line each (docs/report.md).",
)
@click.option(
    "--resume",
    type=FILE,
    help="Leave out what this report says is stored; may be the --report to go on with.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent; connect to nobody, write nothing.")
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
    "--transcode",
    type=click.Choice(["auto", "never"]),
    default="auto",
    help="Convert instances whose transfer syntax the peer refuses [auto] (docs/transcoding.md).",
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
    scan_pattern: tuple[str, ...],
    strict_files: bool,
    halt: bool,
    fail_on_warning: bool,
    report: Path | None,
    resume: Path | None,
    dry_run: bool,
    jobs: int,
    window: int,
    not_async: bool,
    retry: int,
    transcode: str,
    generate: int | None,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
    **priority: str | bool | None,
) -> int:
    """Send the DICOM files at each PATH to PEER by C-STORE over TLS.

    A PATH is a file, a folder with all in it, a DICOMDIR with all it lists, or `-`: a list of paths on standard
    input, one a line, or with NULs between them.

    PEER is `[AET@]host[:port]`, or `host port` as DCMTK writes it, port 2762 unless given (11112 with
    --no-tls); or `@NAME` of a peers file (docs/peers.md). Each file is sent exactly as it is stored, or converted
    where the peer refuses that, over as few associations as possible.
    The exit code is 0 only if every instance was stored. With --generate, PATH may be left out.

    \b
      dicomtls storescu pacs.example 2762 images/ --cert me.crt --key me.key --trust pacs.crt
      dicomtls storescu localhost 4242 +tls dcmtk.key dcmtk.crt +cf orthanc.crt a.dcm b.dcm
      find images -newer last -print0 | dicomtls storescu pacs.example 2762 - --trust pacs.crt
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
    wishes = Wishes(
        _PRIORITIES[PRIORITY.take(priority) or "medium"],
        halt,
        1 if not_async else window,
        retry,
        transcode == "auto",
    )
    read_ahead = ReadAhead()
    found = scan(
        named_paths(paths),
        recurse=not no_recurse,
        patterns=scan_pattern,
        strict=strict_files,
        read_ahead=read_ahead,
    )
    if dry_run:
        if generate is not None:
            raise UsageError(
                "`--generate` makes images to send them, and `--dry-run` sends nothing",
                "leave out one of them",
                slug="usage.contradiction",
            )
        return tell_plan(terminal, peer, found, report, resume, transcode=wishes.transcode)
    requestor = make_requestor(link, tls)
    written, before = _open_reports(report, resume, peer)
    with (
        GeneratedImages(generate or 0) as images,
        interruptible() as interruption,
        Tally(
            terminal, peer, fail_on_warning=fail_on_warning, halt=halt, report=written, before=before
        ) as tally,
    ):
        made = takewhile(lambda _: not (halt and tally.failed), images)
        instances = tally.instances(chain(found, made))
        outcomes = send(
            peer,
            instances,
            requestor,
            wishes,
            jobs=jobs,
            ending=interruption.ending,
            on_connected=interruption.arm,
            read_ahead=read_ahead,
        )
        for outcome in outcomes:
            tally.add(outcome)
            images.discard(outcome.instance)
        tally.leave(images.left)
        if not interruption.code:
            for _ in instances:  # what --halt left: it is counted
                pass
    return tally.finish(interruption.code)


def _open_reports(
    report: Path | None, resume: Path | None, peer: Peer
) -> tuple[Report | None, StoredBefore | None]:
    if report is None and resume is None:
        return None, None
    from dicomtls_cli.services.sending.report import open_reports

    return open_reports(report, resume, peer)


def _peer_and_paths(
    words: tuple[str, ...], connect: str | None, aec: str | None, tls: bool, generate: int | None
) -> tuple[Peer, list[str]]:
    """Return the peer and the PATHs; there may be none with `generate`, or with dcm4che's `-c`."""
    if connect is not None:
        peer, rest = parse_peer(connect, aec=aec, tls=tls)[0], list(words)
    elif words:
        peer, rest = take_peer(list(words), aec=aec, tls=tls)
    else:
        raise UsageError("no peer and no file is named", "write `PEER PATH...`", slug="usage.no-peer")
    if not rest and connect is None and generate is None:
        raise _no_path(peer)
    if rest.count("-") > 1:
        raise UsageError(
            "`-` stands twice on the line, and there is one standard input",
            "name it once; a file of that name is `./-`",
            slug="usage.list-twice",
        )
    return peer, [not_empty(word) for word in rest]


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
