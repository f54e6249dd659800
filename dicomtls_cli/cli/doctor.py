"""`dicomtls doctor`."""

from __future__ import annotations

from typing import NamedTuple

import click

from dicomtls_cli.cli.association import Link, association_options
from dicomtls_cli.cli.dialects import DOCTOR
from dicomtls_cli.cli.doctor_report import tell_lines, tell_markdown
from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.requestor import (
    config_option,
    connect_option,
    make_requestor,
    peers_from,
    refuse_pem_files,
)
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.tls import tls_options
from dicomtls_cli.cli.values import AE_TITLE, SECONDS
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import DicomTlsError, UsageError
from dicomtls_cli.services.peer import Peer, TlsOptions
from dicomtls_cli.tls.policy import PeerCheck, Role

_LEAST_CONNECTIONS = 8


class _Wanted(NamedTuple):
    probe_stranger: bool
    max_connections: int
    deadline: float
    markdown: bool


@click.command(
    cls=StrictCommand, dialect=DOCTOR, short_help="Say how a peer speaks TLS and DICOM, and what is wrong."
)
@click.argument("words", nargs=-1, metavar="PEER")
@connect_option
@config_option
@click.option("-aec", "--call", "--aec", "aec", type=AE_TITLE, help="Called AE title [ANY-SCP].")
@click.option("--probe-stranger", is_flag=True, help="Also show the peer a certificate that nobody knows.")
@click.option(
    "--max-connections",
    type=click.IntRange(_LEAST_CONNECTIONS, 1000),
    default=80,
    help="Make at most this many connections [80].",
)
@click.option("--deadline", type=SECONDS, default=60.0, help="Seconds for all of it [60].")
@click.option("--markdown", is_flag=True, help="Print the report as Markdown.")
@output_options
@tls_options(Role.REQUESTOR)
@association_options(Role.REQUESTOR)
def doctor(
    words: tuple[str, ...],
    connect: str | None,
    aec: str | None,
    probe_stranger: bool,
    max_connections: int,
    deadline: float,
    markdown: bool,
    terminal: Terminal,
    tls: TlsOptions | None,
    link: Link,
) -> int:
    """Walk through PEER and say at each step what is fine, what is not, why, and what to do.

    From its name to a C-ECHO: addresses, TCP, what speaks there, TLS versions, suites and groups, its
    certificates, who it is, whether it wants certificates and takes ours, the association. How it speaks TLS
    is judged by PS3.15 B.12 (RFC 9325). Nothing is stored. Without --trust and --cert all is told that can
    be told without.

    The exit code is that of an echoscu; where a C-ECHO works and the profile is broken, 40.

    \b
      dicomtls doctor pacs.example 2762
      dicomtls doctor pacs.example 2762 --cert me.crt --key me.key --trust pacs.crt --markdown > report.md
    """  # noqa: D301
    peer = _peer_from(words, connect, aec, tls)
    if markdown and terminal.as_json:
        raise UsageError(
            "`--markdown` and `--json` are two forms of the report",
            "give one of them",
            slug="usage.contradiction",
        )
    return _examine(terminal, peer, link, tls, _Wanted(probe_stranger, max_connections, deadline, markdown))


def _peer_from(words: tuple[str, ...], connect: str | None, aec: str | None, tls: TlsOptions | None) -> Peer:
    refuse_pem_files(words)
    peers = peers_from(words, connect, aec=aec, tls=tls is not None)
    if len(peers) > 1:
        raise UsageError(
            f"{len(peers)} peers are named, and one is examined at a time",
            f"name one: `dicomtls doctor {peers[0]}`",
            slug="usage.one-peer",
        )
    (peer,) = peers
    assert not isinstance(peer, str)  # `@NAME` alone on a line was replaced by its address
    return peer


def _examine(terminal: Terminal, peer: Peer, link: Link, tls: TlsOptions | None, wanted: _Wanted) -> int:
    from datetime import UTC, datetime

    from dicomtls_cli.services.doctor.probes import Limits
    from dicomtls_cli.services.doctor.record import walk_record
    from dicomtls_cli.services.doctor.steps import decisive, exit_code, judge
    from dicomtls_cli.services.doctor.walk import examine

    trusts = tls is None or _names_trust(tls)
    if tls is not None and not trusts:
        tls = tls._replace(peer_check=PeerCheck.IGNORE)  # the steps say that nobody was verified
    requestor = make_requestor(link, tls)
    terminal.note(
        f"examining {peer} by at most {wanted.max_connections} connections, one at a time, in at most "
        f"{wanted.deadline:g} s; nothing is stored"
    )
    limits = Limits(wanted.max_connections, wanted.deadline)
    facts = examine(peer, requestor, limits, trusts=trusts, probe_stranger=wanted.probe_stranger)
    now = datetime.now(UTC)
    steps = judge(facts, now=now)
    code = int(exit_code(steps))
    if wanted.markdown:
        tell_markdown(terminal, facts, steps, now)
    else:
        tell_lines(terminal, facts, steps)
    terminal.record(walk_record(facts, steps, code))
    ending = decisive(steps)
    if terminal.verbosity < 0 and not (wanted.markdown or terminal.as_json) and ending is not None:
        terminal.error(DicomTlsError(ending.text, ending.fix, slug=ending.slug, exit_code=ending.exit_code))
    return code


def _names_trust(tls: TlsOptions) -> bool:
    """Tell whether somebody said whom to trust; `--peer-cert ignore` says that too."""
    return tls.peer_check is PeerCheck.IGNORE or bool(
        tls.trust or tls.authorities or tls.system_trust or tls.pin is not None
    )
