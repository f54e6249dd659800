"""`dicomtls echoscu`."""

from __future__ import annotations

import contextlib

import click

from dicomtls_cli.cli.association import Link, association_options
from dicomtls_cli.cli.dialects import ECHOSCU
from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.requestor import (
    config_option,
    connect_option,
    peers_from,
    refuse_pem_files,
    report_echo,
    report_failure,
    targets_from,
)
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.tls import tls_options
from dicomtls_cli.cli.values import AE_TITLE, SECONDS
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import DicomTlsError, UsageError
from dicomtls_cli.services.echo import EchoResult, echo
from dicomtls_cli.services.peer import Target, TlsOptions
from dicomtls_cli.tls.policy import Role


@click.command(cls=StrictCommand, dialect=ECHOSCU, short_help="Verify peers: C-ECHO over TLS.")
@click.argument("words", nargs=-1, metavar="PEER...")
@connect_option
@config_option
@click.option("-aec", "--call", "--aec", "aec", type=AE_TITLE, help="Called AE title [ANY-SCP].")
@click.option(
    "--count",
    "--repeat",
    "count",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Verify each peer N times, as ping does [1; without end with --deadline].",
)
@click.option("--interval", type=SECONDS, help="Seconds from one time to the next [1].")
@click.option(
    "--deadline", type=SECONDS, help="Seconds after which all ends; who has not answered by then has failed."
)
@output_options
@tls_options(Role.REQUESTOR)
@association_options(Role.REQUESTOR)
def echoscu(
    words: tuple[str, ...],
    connect: str | None,
    aec: str | None,
    count: int | None,
    interval: float | None,
    deadline: float | None,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
) -> int:
    """Verify each PEER by a C-ECHO over TLS.

    PEER is `[AET@]host[:port]`, or `host port` as DCMTK writes it, port 2762 unless given (11112 with
    --no-tls); or `@NAME` of a peers file (docs/peers.md). Several peers are verified at once. The exit code is
    0 only if all of them answered with success, each time. Each time is an association of its own: name and TCP,
    TLS, association and echo are timed.

    \b
      dicomtls echoscu pacs.example 2762 --cert me.crt --key me.key --trust pacs.crt
      dicomtls echoscu -aet DCMTK localhost 4242 +tls dcmtk.key dcmtk.crt +cf orthanc.crt
    """  # noqa: D301
    refuse_pem_files(words)
    targets = targets_from(peers_from(words, connect, aec=aec, tls=tls is not None), link, tls)
    if count is None and deadline is None:
        if interval is not None:
            raise UsageError(
                "`--interval` is the time between several times, and there is one",
                "add `--count N` or `--deadline SECONDS`",
                slug="usage.contradiction",
            )
        if len(targets) > 1:
            return _once(terminal, targets)
        return report_echo(terminal, echo(*targets[0]))
    return _again(terminal, targets, count, interval or 1.0, deadline)


def _once(terminal: Terminal, targets: list[Target]) -> int:
    """Verify all of `targets`, several at once, and tell what came of each in their order."""
    from dicomtls_cli.services.ping import ping

    code = told = 0
    outcomes: dict[int, EchoResult | DicomTlsError] = {}
    for reply in ping(targets):
        outcomes[reply.peer] = reply.outcome
        while told in outcomes:
            outcome = outcomes.pop(told)
            if isinstance(outcome, DicomTlsError):
                report_failure(terminal, targets[told].peer, outcome)
                code = code or int(outcome.exit_code)
            else:
                report_echo(terminal, outcome)
            told += 1
    return code


def _again(
    terminal: Terminal,
    targets: list[Target],
    count: int | None,
    interval: float,
    deadline: float | None,
) -> int:
    """Verify `targets` again and again, and sum up, also after Ctrl-C."""
    from dicomtls_cli.cli.interrupt import interruptible
    from dicomtls_cli.cli.ping import Replies
    from dicomtls_cli.services.ping import ping

    replies = Replies(terminal, [target.peer for target in targets])
    with interruptible() as interruption:
        with contextlib.suppress(KeyboardInterrupt):  # nothing is to be finished; the statistics are wanted
            replies.tell(ping(targets, count=count, interval=interval, deadline=deadline))
        code = replies.finish()
    return interruption.code or code
