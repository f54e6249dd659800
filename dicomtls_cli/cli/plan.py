"""`storescu --dry-run`: what would be sent, without a connection."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dicomtls_cli.cli.tally import Tally, other_files
from dicomtls_cli.cli.terminal import Terminal, counted, size_words
from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services.files.scan import Instance, Skipped
from dicomtls_cli.services.peer import Peer
from dicomtls_cli.services.sending.agenda import as_stored
from dicomtls_cli.services.sending.plan import Plan, uid_name
from dicomtls_cli.services.sending.send import convertible

if TYPE_CHECKING:
    from dicomtls_cli.services.sending.report import StoredBefore

logger = logging.getLogger("dicomtls.association")


def tell_plan(
    terminal: Terminal,
    peer: Peer,
    found: Iterable[Instance | Skipped],
    report: Path | None,
    resume: Path | None,
    *,
    transcode: bool,
) -> int:
    """Tell which files would be sent to `peer` and in which contexts; return the exit code.

    `transcode` says that contexts for converted instances are proposed too.

    Raises InputError where there is nothing to send, and what is wrong with the reports as `open_reports`.
    """
    tally = Tally(terminal, peer, before=_read_reports(report, resume, peer))
    plan = Plan(convertible if transcode else as_stored)
    for instance in tally.instances(found):
        logger.info("Would send file: %s", instance.file)
        if terminal.as_json:
            from dicomtls_cli.services.sending.report import planned_record

            terminal.record({"ok": True, "dry_run": True, **planned_record(instance)})
        plan.add(instance)
    tally.refuse_nothing()
    _tell_contexts(terminal, plan)
    terminal.result(f"{peer}: {', '.join(_summary(plan, tally))}; nothing was sent")
    terminal.record(
        {
            "ok": not tally.failed,
            "dry_run": True,
            "peer": str(peer),
            "instances": plan.instances,
            "bytes": plan.length,
            "contexts": len(plan.contexts),
            "associations": plan.associations,
            "failed": tally.failed,
            "already_stored": tally.already_stored,
            "passed_over": tally.passed_over,
        }
    )
    return int(ExitCode.INPUT if tally.failed else ExitCode.OK)


def _read_reports(report: Path | None, resume: Path | None, peer: Peer) -> StoredBefore | None:
    if report is None and resume is None:
        return None
    from dicomtls_cli.services.sending.report import check_report, read_report

    if report is not None:
        check_report(report, resume)
    return None if resume is None else read_report(resume, peer)


def _tell_contexts(terminal: Terminal, plan: Plan) -> None:
    sop_class = ""
    for context in plan.contexts:
        if context.sop_class != sop_class:
            sop_class = context.sop_class
            terminal.heading(uid_name(sop_class))
        syntax = uid_name(context.transfer_syntax)
        terminal.result(f"  {syntax}: {counted(context.instances, 'file')}, {size_words(context.length)}")
        terminal.record(
            {
                "ok": True,
                "dry_run": True,
                "sop_class": sop_class,
                "sop_class_name": uid_name(sop_class),
                "transfer_syntax": context.transfer_syntax,
                "transfer_syntax_name": syntax,
                "instances": context.instances,
                "bytes": context.length,
            }
        )


def _summary(plan: Plan, tally: Tally) -> Iterator[str]:
    yield f"{counted(plan.instances, 'file')} to send"
    if plan.instances:
        yield size_words(plan.length)
        yield counted(len(plan.contexts), "presentation context")
        yield f"at least {counted(plan.associations, 'association')}"
    if tally.failed:
        yield f"{counted(tally.failed, 'file')} that cannot be sent"
    if tally.already_stored:
        yield f"{tally.already_stored} already stored"
    if tally.passed_over:
        yield other_files(tally.passed_over)
