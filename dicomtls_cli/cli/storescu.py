"""`dicomtls storescu`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomtls_cli.cli.dialects import STORESCU
from dicomtls_cli.cli.options import Link, Switch, association_options, output_options, tls_options
from dicomtls_cli.cli.plan import tell_plan
from dicomtls_cli.cli.requestor import connect_option, make_requestor, refuse_pem_files
from dicomtls_cli.cli.tally import Tally
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.values import AE_TITLE, FILE, not_empty, parse_peer, take_peer
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.dimse.command import Priority
from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.peer import Peer, TlsOptions
from dicomtls_cli.services.scan import scan
from dicomtls_cli.services.send import send
from dicomtls_cli.tls.policy import Role

if TYPE_CHECKING:
    from dicomtls_cli.services.report import Report, StoredBefore

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
    report: Path | None,
    resume: Path | None,
    dry_run: bool,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
    **priority: str | bool | None,
) -> int:
    """Send the DICOM files at each PATH (files, or folders with all in them) to PEER by C-STORE over TLS.

    PEER is `[AET@]host[:port]`, or `host port` as DCMTK writes it; port 2762 unless given (11112 with
    --no-tls). Each file is proposed and sent exactly as it is stored, over as few associations as possible.
    The exit code is 0 only if every instance was stored.

    \b
      dicomtls storescu pacs.example 2762 images/ --cert me.crt --key me.key --trust pacs.crt
      dicomtls storescu localhost 4242 +tls dcmtk.key dcmtk.crt +cf orthanc.crt a.dcm b.dcm
    """  # noqa: D301
    refuse_pem_files(words)
    peer, paths = _peer_and_paths(words, connect, aec, tls is not None)
    chosen = _PRIORITIES[PRIORITY.take(priority) or "medium"]
    found = scan(paths, recurse=not no_recurse)
    if dry_run:
        return tell_plan(terminal, peer, found, report, resume)
    requestor = make_requestor(link, tls)
    written, before = _open_reports(report, resume, peer)
    with Tally(
        terminal, peer, fail_on_warning=fail_on_warning, halt=halt, report=written, before=before
    ) as tally:
        instances = tally.instances(found)
        for outcome in send(peer, instances, requestor, priority=chosen, halt=halt):
            tally.add(outcome)
        for _ in instances:  # what --halt left: it is counted
            pass
    return tally.finish()


def _open_reports(
    report: Path | None, resume: Path | None, peer: Peer
) -> tuple[Report | None, StoredBefore | None]:
    if report is None and resume is None:
        return None, None
    from dicomtls_cli.services.report import open_reports

    return open_reports(report, resume, peer)


def _peer_and_paths(
    words: tuple[str, ...], connect: str | None, aec: str | None, tls: bool
) -> tuple[Peer, list[Path]]:
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
    return peer, [Path(not_empty(word)) for word in rest]
