"""`dicomtls gencert`: make key and certificate for one or more DICOM nodes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.values import FILE
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import UsageError

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.pki.generate import GeneratedPair, Profile

# Browsers and Apple's TLS refuse longer ones; IHE ATNA recommends two years at most.
_LONG_DAYS = 825
_KEY_TYPES = ("rsa2048", "rsa3072", "rsa4096", "p256", "p384", "ed25519")


@click.command(cls=StrictCommand)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
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
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--dry-run", "-n", "dry_run", is_flag=True, help="Check everything, write nothing.")
@output_options
def gencert(
    terminal: Terminal,
    names: tuple[str, ...],
    out_dir: Path,
    passphrase_file: Path | None,
    force: bool,
    dry_run: bool,
    **wanted: Any,
) -> None:
    """Make a private key NAME.key and a self-signed certificate NAME.crt for each NAME.

    The certificate serves both roles, SCU and SCP. Give the .crt file to the peers; the .key file never
    leaves this machine.
    """
    from dicomtls_cli.pki.files import NewFile, check_targets, refuse_output_among_inputs, write_files
    from dicomtls_cli.pki.generate import check_new_passphrase, issue, prepare
    from dicomtls_cli.pki.load import read_passphrase

    _check_names(names)
    profiles = [prepare(name, **wanted) for name in names]
    targets = [path for name in names for path in _paths(out_dir, name)]
    check_targets(targets, force=force)
    passphrase = None
    if passphrase_file is not None:
        passphrase = read_passphrase(passphrase_file)
        check_new_passphrase(passphrase)
        for target in targets:
            refuse_output_among_inputs(target, [passphrase_file])
    _warn(terminal, profiles, wanted["days"], encrypted=passphrase is not None)
    if dry_run:
        for profile in profiles:
            _tell(terminal, profile, out_dir, None)
        return
    pairs = [issue(profile, passphrase=passphrase) for profile in profiles]
    files = []
    for pair in pairs:
        key_path, cert_path = _paths(out_dir, pair.profile.name)
        files += [NewFile(key_path, pair.key, private=True), NewFile(cert_path, pair.certificate)]
    write_files(files, force=force)
    for pair in pairs:
        _tell(terminal, pair.profile, out_dir, pair)
    terminal.result(_next_steps(out_dir, names, passphrase_file))


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        hint = ""
        if not name.strip() or not name.isprintable():
            hint = "a NAME becomes two file names: write letters and digits, as in `orthanc`"
        elif name[0] in "-.+~" or any(character in '/\\:*?"<>|' for character in name):
            hint = "a NAME becomes two file names: choose the directory with `--out-dir`"
        elif Path(name).suffix.lower() in (".crt", ".key", ".pem", ".cer", ".der"):
            hint = f"write `dicomtls gencert {shlex.quote(Path(name).stem)}`: the endings are added"
        if hint:
            raise UsageError(f"`{name}` cannot be a NAME", hint, slug="usage.invalid-name")
    if len({name.casefold() for name in names}) < len(names):
        raise UsageError("a NAME is given twice", "name each pair once", slug="usage.invalid-name")


def _paths(out_dir: Path, name: str) -> tuple[Path, Path]:
    return out_dir / f"{name}.key", out_dir / f"{name}.crt"


def _warn(terminal: Terminal, profiles: list[Profile], days: int, *, encrypted: bool) -> None:
    if days > _LONG_DAYS:
        terminal.warning(
            f"some TLS software refuses certificates that are valid for more than {_LONG_DAYS} days"
        )
    if encrypted:
        terminal.warning("Orthanc cannot read an encrypted key")
    for profile in profiles:
        if "." in profile.name and profile.name.lower() not in profile.names:
            terminal.warning(
                f"`{profile.name}` is not among the names the certificate is for; "
                f"if it is a host, add `--host {profile.name}`"
            )


def _tell(terminal: Terminal, profile: Profile, out_dir: Path, made: GeneratedPair | None) -> None:
    key_path, cert_path = _paths(out_dir, profile.name)
    terminal.record(
        {
            "ok": True,
            "name": profile.name,
            "certificate": str(cert_path),
            "key": str(key_path),
            "key_type": str(profile.key_type),
            "subject": profile.subject_text,
            "hosts": list(profile.names),
            "not_before": f"{profile.not_before:%Y-%m-%dT%H:%M:%SZ}",
            "not_after": f"{profile.not_after:%Y-%m-%dT%H:%M:%SZ}",
            "sha256": made.sha256 if made else None,
            "dry_run": made is None,
        }
    )
    lines = [
        f"{'made' if made else 'would make'} {_word(key_path)} and {_word(cert_path)} ({profile.key_type})",
        f"  subject  {profile.subject_text}",
        f"  for      {', '.join(profile.names)}",
        f"  until    {profile.not_after:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if made:
        lines.append(f"  sha256   {made.sha256}")
    terminal.result("\n".join(lines))


def _next_steps(out_dir: Path, names: tuple[str, ...], passphrase_file: Path | None) -> str:
    """Return commands that work as they stand, on this machine, with the files just made."""
    key, cert = (_word(path) for path in _paths(out_dir, names[0]))
    other_key, other_cert = (_word(path) for path in _paths(out_dir, names[-1]))
    secret = "" if passphrase_file is None else f" --key-passphrase-file {_word(passphrase_file)}"
    trusted, steps = cert, []
    if len(names) > 1:
        trusted = _word(out_dir / "trusted.crt")
        certs = " ".join(_word(_paths(out_dir, name)[1]) for name in names)
        steps.append(f"dicomtls bundle {certs} -o {trusted}")
    steps += [
        f"dicomtls storescp 2762 --cert {cert} --key {key} --trust {trusted}{secret}",
        f"dicomtls echoscu localhost 2762 --cert {other_cert} --key {other_key} --trust {trusted}{secret}",
    ]
    kind = "certificates (.crt)" if len(names) > 1 else f"certificate {cert}"
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
