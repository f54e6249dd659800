"""`dicomtls gencert`: make key and certificate for one or more DICOM nodes, and a small CA to sign them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.values import FILE
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import UsageError

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.pki.authority import Authority
    from dicomtls_cli.services.issuance import Wanted

_KEY_TYPES = ("rsa2048", "rsa3072", "rsa4096", "p256", "p384", "ed25519")
_FAULTS = (
    "expired", "not-yet-valid", "wrong-host", "wrong-eku", "weak-key", "ca-true", "corrupt-signature"
)  # fmt: skip


@click.command(cls=StrictCommand)
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="DNS name, wildcard or IP address the certificate is for; repeat for more. `localhost` is always in."
    "  [default: 127.0.0.1, ::1 and this machine's name]",
)
@click.option(
    "--subject",
    "-subj",
    "subject",
    metavar="/TYPE=VALUE...",
    help="The subject, as `openssl req -subj` takes it: /C=BE/CN=localhost.  [default: /CN=NAME]",
)
@click.option(
    "--days", type=click.IntRange(1, 36500), default=365, show_default=True, help="Days of validity."
)
@click.option(
    "--key-type",
    type=click.Choice(_KEY_TYPES),
    default="rsa2048",
    show_default=True,
    help="Kind of key. RSA works with every peer.",
)
@click.option(
    "--out-dir",
    type=FILE,
    default=Path(),
    metavar="DIR",
    help="Directory to write into; it must exist.  [default: the current one]",
)
@click.option(
    "--passphrase-file",
    type=FILE,
    metavar="FILE",
    help="Encrypt the key under the first line of FILE. Orthanc cannot read encrypted keys.",
)
@click.option(
    "--p12", is_flag=True, help="Also write NAME.p12, a key store for Java under that passphrase [secret]."
)
@click.option(
    "--ca",
    metavar="CA",
    help="Sign with the CA of this name in DIR: CA.key and CA.crt; made if they are not there.",
)
@click.option(
    "--ca-passphrase-file",
    type=FILE,
    metavar="FILE",
    help="The CA's key is encrypted under the first line of FILE.",
)
@click.option("--csr", is_flag=True, help="Make a signing request NAME.csr instead of a certificate.")
@click.option(
    "--sign", type=FILE, metavar="CSR", help="Sign this request with the CA; its subject and names stay."
)
@click.option(
    "--renew",
    type=FILE,
    metavar="CERT",
    help="Make CERT anew: same key, subject and names, new dates.  [default NAME: CERT's, with the date]",
)
@click.option(
    "--key", type=FILE, metavar="FILE", help="The key of the CERT to renew, if it is not beside it."
)
@click.option(
    "--revoke", type=FILE, metavar="CERT", multiple=True, help="Put CERT on the CA's list CA.crl; repeat."
)
@click.option("--crl", is_flag=True, help="Write the CA's list CA.crl anew; it is valid for 30 days.")
@click.option(
    "--fault",
    type=click.Choice(_FAULTS),
    help="Make a certificate with this fault, marked as such, for tests. wrong-host and corrupt-signature show "
    "with --ca only: a peer that trusts the very certificate looks at neither.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--dry-run", "-n", "dry_run", is_flag=True, help="Check everything, write nothing.")
@output_options
def gencert(terminal: Terminal, names: tuple[str, ...], **given: Any) -> None:
    """Make a private key NAME.key and a self-signed certificate NAME.crt for each NAME.

    The certificate serves both roles, SCU and SCP. Give the .crt file to the peers; the .key file never
    leaves this machine. With --ca the certificates are signed by a CA of your own, and the peers need only
    that CA's certificate.
    """
    from dicomtls_cli.pki.locking import locked
    from dicomtls_cli.services.issuance import Wanted

    wanted = Wanted(**given)
    _check_combination(names, wanted)
    with locked(wanted.out_dir) if wanted.ca else contextlib.nullcontext():
        _run(terminal, names, wanted)


def _check_combination(names: tuple[str, ...], wanted: Wanted) -> None:
    modes = {
        "--csr": wanted.csr,
        "--sign": wanted.sign is not None,
        "--renew": wanted.renew is not None,
        "--revoke or --crl": bool(wanted.revoke) or wanted.crl,
    }
    chosen = [mode for mode, on in modes.items() if on]
    if len(chosen) > 1:
        raise _contradiction(f"`{chosen[0]}` contradicts `{chosen[1]}`")
    mode = chosen[0] if chosen else "new"
    needs_ca = {"--sign", "--revoke or --crl"}
    if wanted.ca is None and (mode in needs_ca or wanted.ca_passphrase_file):
        what = f"`{mode}`" if mode in needs_ca else "`--ca-passphrase-file`"
        raise UsageError(f"{what} needs a CA", "name it: `--ca NAME`", slug="usage.no-ca")
    unused = {
        "--p12": wanted.p12 and mode not in ("new", "--renew"),
        "--fault": wanted.fault is not None and mode != "new",
        "--ca": wanted.ca is not None and mode == "--csr",
        "--key": wanted.key is not None and mode != "--renew",
        "--subject": wanted.subject is not None and mode not in ("new", "--csr"),
        "--host": bool(wanted.hosts) and mode in ("--renew", "--revoke or --crl"),
        "--passphrase-file": wanted.passphrase_file is not None and mode in ("--sign", "--revoke or --crl"),
        "NAME": bool(names) and mode == "--revoke or --crl",
    }
    for option, is_unused in unused.items():
        if is_unused:
            raise _contradiction(f"`{option}` means nothing {'here' if mode == 'new' else f'with `{mode}`'}")
    if mode in ("--sign", "--renew") and len(names) > 1:
        raise _contradiction(f"`{mode}` makes one certificate, and several NAMEs are given")
    if not names and mode in ("new", "--csr") and (wanted.ca is None or mode == "--csr"):
        raise UsageError("no NAME is given", "as in `dicomtls gencert orthanc`", slug="usage.invalid-name")


def _contradiction(message: str) -> UsageError:
    return UsageError(message, "leave one of them out", slug="usage.contradiction")


def _run(terminal: Terminal, names: tuple[str, ...], wanted: Wanted) -> None:
    from dicomtls_cli.cli.issued import next_steps, tell, tell_authority, warn
    from dicomtls_cli.pki.files import check_targets, refuse_output_among_inputs
    from dicomtls_cli.services.issuance import (
        check_names,
        make,
        new_passphrase,
        open_ca,
        plan,
        targets_of,
        write,
    )

    check_names((*names, *([] if wanted.ca is None else [wanted.ca])))
    authority = open_ca(wanted)
    if wanted.revoke or wanted.crl:
        assert authority is not None
        _revoke(terminal, authority, wanted)
        return
    secrets = [path for path in (wanted.passphrase_file, wanted.ca_passphrase_file) if path is not None]
    passphrase = new_passphrase(wanted.passphrase_file)
    names, planned = plan(names, wanted, authority)
    targets = targets_of(planned, authority)
    check_names((*names, *([] if authority is None else [authority.name])))
    check_targets(targets, force=wanted.force)
    for target in targets:
        refuse_output_among_inputs(
            target, [*secrets, *(path for path in (wanted.sign, wanted.key) if path is not None)]
        )
    warn(terminal, [one.profile for one in planned], wanted, authority)
    made = planned if wanted.dry_run else [make(one, wanted, authority, passphrase) for one in planned]
    if not wanted.dry_run:
        write(made, authority, force=wanted.force)
    if authority is not None and authority.new:
        tell_authority(terminal, authority, dry_run=wanted.dry_run)
    for one in made:
        tell(terminal, one, dry_run=wanted.dry_run)
    if not wanted.dry_run:
        terminal.result(next_steps(wanted, names, authority))


def _revoke(terminal: Terminal, authority: Authority, wanted: Wanted) -> None:
    from dicomtls_cli.cli.issued import tell_revoked
    from dicomtls_cli.pki.authority import revoke
    from dicomtls_cli.pki.files import write_files

    files, revoked = revoke(authority, wanted.revoke)
    if not wanted.dry_run:
        write_files(files)
    tell_revoked(terminal, authority, revoked, dry_run=wanted.dry_run)
