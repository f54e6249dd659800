"""`dicomtls bundle`: collect certificates into one trust file, look after it, and see what is wrong with it."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dicomtls_cli.cli.bundled import tell, tell_findings, tell_list
from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.passphrase import store_password
from dicomtls_cli.cli.terminal import counted, is_interactive
from dicomtls_cli.cli.values import FILE, not_empty, parse_peer
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import ConnectionFailed, ExitCode, InputError, UsageError, printable
from dicomtls_cli.material import Prompt

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.pki.bundle import Bundle, BundledCertificate
    from dicomtls_cli.pki.keystore import Password


@click.command(cls=StrictCommand)
@click.argument("inputs", metavar="INPUT...", nargs=-1, type=FILE)
@click.option("--output", "-o", "output", type=FILE, metavar="OUT", help="The file to write.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["pem", "p12"]),
    help="Of OUT: PEM, or a trust store for Java  [default: pem; that of OUT when it is edited].",
)
@click.option("--append", is_flag=True, help="Add the INPUTs to what is in OUT.")
@click.option(
    "--remove", metavar="SHA256|FILE", multiple=True, help="Take this certificate out of OUT; repeat."
)
@click.option(
    "--from", "peers", metavar="HOST[:PORT]", multiple=True, help="Add the certificate that a peer shows."
)
@click.option(
    "--fingerprint", metavar="SHA256", multiple=True, help="The certificate that --from has to show; repeat."
)
@click.option("--yes", is_flag=True, help="Believe what --from shows, whoever it is.")
@click.option(
    "--list", "listing", is_flag=True, help="List the certificates of the INPUTs, and write nothing."
)
@click.option(
    "--check",
    is_flag=True,
    help="Say what is wrong with the INPUTs, and write nothing; exit 40 if anything is.",
)
@click.option(
    "--warn-days",
    type=click.IntRange(0, 3650),
    help="--check finds certificates that end within so many days  [default: 30].",
)
@click.option(
    "--strip-keys", is_flag=True, help="Drop private keys from the inputs instead of refusing them."
)
@click.option(
    "--passphrase-file",
    type=FILE,
    metavar="FILE",
    help="Password of PKCS#12 files, read or written: the first line of FILE. Read ones are tried without, and with "
    "`secret`, unless it is given; a written one has none unless it is.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@output_options
def bundle(terminal: Terminal, inputs: tuple[Path, ...], **given: Any) -> int:
    """Write the certificates of all INPUTs into one file for `--trust`.

    An INPUT is a file in PEM (with any number of certificates), DER, PKCS#7 or PKCS#12, or a directory of such
    (.pem, .crt, .cer, .der, .p7b). Each certificate is written once, in the order of the INPUTs.
    """
    wanted = _Wanted(**given)
    _check_combination(inputs, wanted)
    password = store_password(wanted.passphrase_file)
    if wanted.listing or wanted.check:
        from dicomtls_cli.pki.bundle import collect

        collected = collect(inputs, strip_keys=True, password=password)
        if wanted.listing:
            tell_list(terminal, collected)
            return 0
        return tell_findings(terminal, collected, 30 if wanted.warn_days is None else wanted.warn_days)
    assert wanted.output is not None
    _write(terminal, inputs, wanted, wanted.output, password)
    return 0


class _Wanted(NamedTuple):
    """The options as they were given."""

    output: Path | None
    kind: str | None
    append: bool
    remove: tuple[str, ...]
    peers: tuple[str, ...]
    fingerprint: tuple[str, ...]
    yes: bool
    listing: bool
    check: bool
    warn_days: int | None
    strip_keys: bool
    passphrase_file: Path | None
    force: bool

    @property
    def edits(self) -> bool:
        """Whether OUT is read, and written anew."""
        return self.append or bool(self.remove)


def _check_combination(inputs: tuple[Path, ...], wanted: _Wanted) -> None:
    looking = "--list" if wanted.listing else "--check"
    reads_only = wanted.listing or wanted.check
    clashes = {
        "`--list` and `--check`": wanted.listing and wanted.check,
        f"`{looking}` and `--output`": reads_only and wanted.output is not None,
        f"`{looking}` and `--from`": reads_only and bool(wanted.peers),
        f"`{looking}` and an option about OUT": reads_only
        and bool(wanted.edits or wanted.kind or wanted.force or wanted.strip_keys),
        "`--remove` and INPUTs": bool(wanted.remove) and bool(inputs or wanted.peers) and not wanted.append,
        "`--append` and `--remove`": wanted.append and bool(wanted.remove),
        "`--force` and an edit of OUT": wanted.force and wanted.edits,
        "`--yes` and `--fingerprint`": wanted.yes and bool(wanted.fingerprint),
    }
    for words, clash in clashes.items():
        if clash:
            raise UsageError(
                f"{words} do not go together", "leave one of them out", slug="usage.contradiction"
            )
    alone = {
        "--warn-days": ("--check", wanted.warn_days is not None and not wanted.check),
        "--fingerprint": ("--from", bool(wanted.fingerprint) and not wanted.peers),
        "--yes": ("--from", wanted.yes and not wanted.peers),
    }
    for option, (other, clash) in alone.items():
        if clash:
            raise UsageError(
                f"`{option}` means nothing without `{other}`", f"add `{other}`", slug="usage.contradiction"
            )
    if wanted.output is None and not reads_only:
        raise UsageError("no output is named", "write `-o trusted.crt`", slug="usage.no-output")
    if not (inputs or wanted.peers or wanted.remove):
        raise UsageError(
            "no certificate is named",
            "as in `dicomtls bundle a.crt b.crt -o trusted.crt`",
            slug="usage.no-input",
        )


def _write(
    terminal: Terminal, inputs: tuple[Path, ...], wanted: _Wanted, output: Path, password: Password
) -> None:
    from dicomtls_cli.pki.bundle import is_pkcs12
    from dicomtls_cli.pki.files import check_targets, refuse_output_among_inputs
    from dicomtls_cli.pki.locking import locked

    secrets = [] if wanted.passphrase_file is None else [wanted.passphrase_file]
    refuse_output_among_inputs(output, [*inputs, *secrets])
    check_targets([output], force=wanted.force or wanted.edits)
    if wanted.edits and output.is_symlink():
        output = output.resolve()  # what it names is edited, for all who read that
    kind = wanted.kind or ("p12" if wanted.edits and is_pkcs12(output) else "pem")
    fetched = _fetch(terminal, wanted)
    with locked(output.parent) if wanted.edits else nullcontext():
        collected = _write_anew(terminal, inputs, wanted, output, kind, password, fetched)
    tell(terminal, output, collected)


def _write_anew(
    terminal: Terminal,
    inputs: tuple[Path, ...],
    wanted: _Wanted,
    output: Path,
    kind: str,
    password: Password,
    fetched: list[bytes],
) -> Bundle:
    """Write OUT from what is to be in it, its old content too where it is edited; return what is in it now."""
    from dicomtls_cli.pki.bundle import collect, render, without
    from dicomtls_cli.pki.files import NewFile, refuse_output_among_inputs, write_files
    from dicomtls_cli.pki.keystore import trust_store

    sources = (output, *inputs) if wanted.edits else inputs
    collected = collect(sources, strip_keys=wanted.strip_keys, password=password, more=fetched)
    refuse_output_among_inputs(output, collected.files[1:] if wanted.edits else collected.files)
    if wanted.remove:
        collected = without(collected, wanted.remove, password=password)
    if collected.keys_dropped:
        terminal.warning(f"{counted(collected.keys_dropped, 'private key')} in the inputs left out")
    if collected.lists_dropped:
        lists = counted(collected.lists_dropped, "revocation list")
        terminal.warning(f"{lists} in the inputs left out: a list has a file of its own, for `--crl FILE`")
    if kind == "pem":
        data = render(collected)
    else:
        secret = b"" if password is None or isinstance(password, Prompt) else password()
        data = trust_store([one.der for one in collected.certificates], secret)
    write_files([NewFile(output, data, replaces=wanted.edits)], force=wanted.force)
    return collected


def _fetch(terminal: Terminal, wanted: _Wanted) -> list[bytes]:
    """Return the certificates (DER) that the peers of `--from` show, once somebody has vouched for them."""
    from dicomtls_cli.pki.bundle import describe
    from dicomtls_cli.services.peer import Timeouts, digest_from
    from dicomtls_cli.services.shown import peer_certificate

    digests = set()
    for text in wanted.fingerprint:
        digest = digest_from(text)
        if digest is None:
            raise UsageError(
                f"`{text}` is no SHA-256 fingerprint",
                "64 hexadecimal digits, colons allowed",
                slug="usage.fingerprint",
            )
        digests.add(digest.hex())
    fetched = []
    for text in wanted.peers:
        peer, _ = parse_peer(not_empty(text), aec=None, tls=True)
        try:
            shown = describe(peer_certificate(peer, Timeouts()))
        except ConnectionFailed as error:
            if error.slug.startswith("tls."):  # what it may be to other commands, doctor finds out
                error.hint = printable(f"see what answers there: `dicomtls doctor {shlex.quote(str(peer))}`")
            raise
        _vouch(terminal, str(peer), shown, digests, believe=wanted.yes)
        fetched.append(shown.der)
    return fetched


def _vouch(
    terminal: Terminal, peer: str, shown: BundledCertificate, digests: set[str], *, believe: bool
) -> None:
    """Raise InputError unless the certificate is the expected one, or somebody believes it."""
    said = (
        f"`{peer}` shows {printable(shown.subject or 'an unreadable subject', 200)}, SHA-256 {shown.sha256}"
    )
    if digests:
        if shown.sha256 not in digests:
            raise InputError(
                f"{said}, which is not the certificate of `--fingerprint`",
                "somebody else may be answering; ask the peer's owner which certificate is in use",
                slug="bundle.other-fingerprint",
                exit_code=ExitCode.PEER_UNTRUSTED,
            )
        return
    if believe:
        terminal.warning(f"{said}; nobody has compared that with its owner")
        return
    if is_interactive() and click.confirm(f"{printable(said)}\nIs that what its owner says?", err=True):
        return
    raise InputError(
        f"{said}, and nobody vouches for it",
        f"ask its owner for the SHA-256, and if it is the same: `--fingerprint {shown.sha256}`",
        slug="bundle.unconfirmed",
        exit_code=ExitCode.PEER_UNTRUSTED,
    )
