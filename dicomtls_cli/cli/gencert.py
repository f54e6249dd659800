"""`dicomtls gencert`: make key and certificate for one or more DICOM nodes, and a small CA to sign them."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.values import FILE
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import UsageError, printable

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.pki.authority import Authority, Entry
    from dicomtls_cli.pki.generate import Profile
    from dicomtls_cli.services.issuance import Made, Wanted

# Browsers and Apple's TLS refuse longer ones.
_LONG_DAYS = 825
_ATNA_DAYS = 731  # IHE ITI TF-2, 3.19
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
    from dicomtls_cli.pki.authority import locked
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
    _warn(terminal, [one.profile for one in planned], wanted, authority)
    if authority is not None and authority.new:
        _tell_authority(terminal, authority, dry_run=wanted.dry_run)
    made = planned if wanted.dry_run else [make(one, wanted, authority, passphrase) for one in planned]
    if not wanted.dry_run:
        write(made, authority, force=wanted.force)
    for one in made:
        _tell(terminal, one, dry_run=wanted.dry_run)
    if not wanted.dry_run:
        terminal.result(_next_steps(wanted, names, authority))


def _revoke(terminal: Terminal, authority: Authority, wanted: Wanted) -> None:
    from dicomtls_cli.pki.authority import CRL_DAYS, revoke
    from dicomtls_cli.pki.files import write_files

    files, revoked = revoke(authority, wanted.revoke)
    if not wanted.dry_run:
        write_files(files)
    path = authority.path("crl")
    terminal.record(
        {
            "ok": True,
            "crl": str(path),
            "revoked": [
                {"serial": f"{one.serial:x}", "sha256": one.sha256, "subject": one.subject} for one in revoked
            ],
            "dry_run": wanted.dry_run,
        }
    )
    lines = _revoked_lines(path, revoked, CRL_DAYS, dry_run=wanted.dry_run)
    use = f"--trust {_word(authority.path('crt'))} --crl {_word(path)}"
    terminal.result(
        "\n".join([*lines, f"peers look into it with {use}; a running storescp reads it on SIGHUP"])
    )


def _revoked_lines(path: Path, revoked: list[Entry], days: int, *, dry_run: bool) -> list[str]:
    verb = "would write" if dry_run else "wrote"
    return [
        f"{verb} {_word(path)}, valid for {days} days",
        *(f"  revoked  {one.subject}, serial {one.serial:x}, sha256 {one.sha256}" for one in revoked),
    ]


def _warn(terminal: Terminal, profiles: list[Profile], wanted: Wanted, authority: Authority | None) -> None:
    if wanted.days > _LONG_DAYS:
        terminal.warning(
            f"some TLS software refuses certificates that are valid for more than {_LONG_DAYS} days"
        )
    elif wanted.days > _ATNA_DAYS:
        terminal.warning("IHE ATNA recommends certificates that are valid for two years at most")
    if wanted.passphrase_file is not None and wanted.renew is None:
        terminal.warning("Orthanc cannot read an encrypted key")
    if wanted.p12 and wanted.passphrase_file is None:
        terminal.warning(
            "the key store has the password `secret`, as dcm4che's have; `--passphrase-file` sets another"
        )
    if wanted.fault is not None:
        terminal.warning(f"faulty on purpose ({wanted.fault}): for tests only")
    if authority is not None and any(one.not_after == authority.ends for one in profiles):
        terminal.warning(f"nothing is valid longer than its CA, which ends on {authority.ends:%Y-%m-%d}")
    if wanted.renew is not None or wanted.sign is not None or wanted.fault is not None:
        return
    for profile in profiles:
        if "." in profile.name and profile.name.lower() not in profile.names:
            terminal.warning(
                f"`{profile.name}` is not among the names the certificate is for; "
                f"if it is a host, add `--host {profile.name}`"
            )


def _tell_authority(terminal: Terminal, authority: Authority, *, dry_run: bool) -> None:
    key, cert = authority.path("key"), authority.path("crt")
    subject = authority.issuer.certificate.subject.rfc4514_string()
    terminal.record(
        {
            "ok": True,
            "ca": authority.name,
            "certificate": str(cert),
            "key": str(key),
            "subject": subject,
            "not_after": f"{authority.ends:%Y-%m-%dT%H:%M:%SZ}",
            "dry_run": dry_run,
        }
    )
    terminal.result(
        f"{'would make' if dry_run else 'made'} the CA {_word(key)} and {_word(cert)}\n"
        f"  subject  {printable(subject, 200)}\n  until    {authority.ends:%Y-%m-%d %H:%M:%S} UTC"
    )


def _tell(terminal: Terminal, one: Made, *, dry_run: bool) -> None:
    import hashlib

    profile = one.profile
    files = {path.suffix[1:]: path for path in one.files}
    sha256 = None if one.der is None else hashlib.sha256(one.der).hexdigest()
    record: dict[str, Any] = {"ok": True, "name": profile.name}
    record |= {word: str(files[kind]) for kind, word in _FILE_WORDS.items() if kind in files}
    if "key" in files:
        record["key_type"] = str(profile.key_type)
    record |= {"subject": profile.subject_text, "hosts": list(profile.names)}
    lines = [
        f"{'would make' if dry_run else 'made'} {' and '.join(map(_word, one.files))}"
        + (f" ({profile.key_type})" if "key" in files else ""),
        f"  subject  {profile.subject_text}",
        f"  for      {', '.join(profile.names)}",
    ]
    if "csr" not in files:
        record |= {
            "not_before": f"{profile.not_before:%Y-%m-%dT%H:%M:%SZ}",
            "not_after": f"{profile.not_after:%Y-%m-%dT%H:%M:%SZ}",
            "sha256": sha256,
        }
        lines.append(f"  until    {profile.not_after:%Y-%m-%d %H:%M:%S} UTC")
    if sha256:
        lines.append(f"  sha256   {sha256}")
    terminal.record({**record, "dry_run": dry_run})
    terminal.result("\n".join(lines))


_FILE_WORDS = {"crt": "certificate", "key": "key", "csr": "request", "p12": "key_store"}


def _next_steps(wanted: Wanted, names: tuple[str, ...], authority: Authority | None) -> str:
    """Return commands that work as they stand, on this machine, with the files just made."""

    def file(name: str, kind: str) -> str:
        return _word(wanted.out_dir / f"{name}.{kind}")

    if wanted.csr:
        return "give the request (.csr) to the CA, the key to nobody; its owner runs:\n" + "\n".join(
            f"  dicomtls gencert --ca CA --sign {file(name, 'csr')}" for name in names
        )
    if wanted.renew is not None:
        old, new = _word(wanted.renew), file(names[0], "crt")
        if authority is not None:
            return f"the key stays; use {new} with it: the peers trust the CA already"
        return (
            f"the key stays, the old certificate is valid until it ends. First let the peers trust both:\n"
            f"  dicomtls bundle {old} {new} -o {_word(wanted.out_dir / 'both.crt')}\n"
            f"then use {new} instead of {old}, and take the old one out of the bundles"
        )
    if authority is not None and (wanted.sign is not None or not names):
        return (
            f"the peers need {_word(authority.path('crt'))}, as in `--trust {_word(authority.path('crt'))}`"
        )
    return _try_it(wanted, names, authority, file)


def _try_it(
    wanted: Wanted, names: tuple[str, ...], authority: Authority | None, file: Callable[[str, str], str]
) -> str:
    key, cert = file(names[0], "key"), file(names[0], "crt")
    other_key, other_cert = file(names[-1], "key"), file(names[-1], "crt")
    secret = (
        "" if wanted.passphrase_file is None else f" --key-passphrase-file {_word(wanted.passphrase_file)}"
    )
    trusted, steps = cert, []
    if authority is not None:
        trusted = _word(authority.path("crt"))
    elif len(names) > 1:
        trusted = _word(wanted.out_dir / "trusted.crt")
        certs = " ".join(file(name, "crt") for name in names)
        steps.append(f"dicomtls bundle {certs} -o {trusted}")
    steps += [
        f"dicomtls storescp 2762 --cert {cert} --key {key} --trust {trusted}{secret}",
        f"dicomtls echoscu localhost 2762 --cert {other_cert} --key {other_key} --trust {trusted}{secret}",
    ]
    kind = "certificates (.crt)" if len(names) > 1 else f"certificate {cert}"
    if authority is not None:
        kind = f"CA's certificate {trusted}"
    return "\n".join(
        [
            f"give the {kind} to the peers, the key to nobody; to try it here:",
            *(f"  {step}" for step in steps),
        ]
    )


def _word(path: Path) -> str:
    """Return `path` as one word of a command line, never to be taken for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text[:1] in ("-", "+", "~") else text)
