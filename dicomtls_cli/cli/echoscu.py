"""`dicomtls echoscu`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue

import click

from dicomtls_cli.cli.association import Link, association_options
from dicomtls_cli.cli.dialects import ECHOSCU
from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.requestor import (
    connect_option,
    make_requestor,
    peers_from,
    refuse_pem_files,
    report_echo,
)
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.tls import tls_options
from dicomtls_cli.cli.values import AE_TITLE
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.services.echo import EchoResult, echo
from dicomtls_cli.services.peer import Peer, Requestor, TlsOptions
from dicomtls_cli.tls.policy import Role

_AT_ONCE = 16


@click.command(cls=StrictCommand, dialect=ECHOSCU, short_help="Verify peers: C-ECHO over TLS.")
@click.argument("words", nargs=-1, metavar="PEER...")
@connect_option
@click.option("-aec", "--call", "--aec", "aec", type=AE_TITLE, help="Called AE title [ANY-SCP].")
@output_options
@tls_options(Role.REQUESTOR)
@association_options(Role.REQUESTOR)
def echoscu(
    words: tuple[str, ...],
    connect: str | None,
    aec: str | None,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
) -> int:
    """Verify each PEER by a C-ECHO over TLS.

    PEER is `[AET@]host[:port]`, or `host port` as DCMTK writes it; port 2762 unless given (11112 with
    --no-tls). Several peers are verified at once. The exit code is 0 only if all of them answered with
    success.

    \b
      dicomtls echoscu pacs.example 2762 --cert me.crt --key me.key --trust pacs.crt
      dicomtls echoscu -aet DCMTK localhost 4242 +tls dcmtk.key dcmtk.crt +cf orthanc.crt
    """  # noqa: D301
    refuse_pem_files(words)
    peers = peers_from(words, connect, aec=aec, tls=tls is not None)
    requestor = make_requestor(link, tls)
    if len(peers) == 1:
        return report_echo(terminal, echo(peers[0], requestor))
    codes = []
    for outcome in _verify_all(peers, requestor):
        if isinstance(outcome, DicomTlsError):
            terminal.error(outcome)
            codes.append(int(outcome.exit_code))
        else:
            codes.append(report_echo(terminal, outcome))
    return next((code for code in codes if code), 0)


def _verify_all(peers: Sequence[Peer], requestor: Requestor) -> Iterator[EchoResult | DicomTlsError]:
    """Verify `peers`, several at once, and yield what came of each in their order.

    In daemon threads: Ctrl-C does not wait for peers that say nothing.
    """
    outcomes: list[SimpleQueue[EchoResult | DicomTlsError]] = [SimpleQueue() for _ in peers]
    jobs = iter(zip(peers, outcomes, strict=True))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            peer, outcome = job
            outcome.put(_try(peer, requestor))

    for _ in range(min(len(peers), _AT_ONCE)):
        threading.Thread(target=work, daemon=True).start()
    for outcome in outcomes:
        yield outcome.get()


def _try(peer: Peer, requestor: Requestor) -> EchoResult | DicomTlsError:
    try:
        return echo(peer, requestor)
    except DicomTlsError as error:
        return error
    except Exception as error:  # a defect; the other peers are verified all the same
        return DicomTlsError(f"`{peer}`: unexpected {type(error).__name__}: {error}", slug="unexpected")
