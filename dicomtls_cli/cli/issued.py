"""What `gencert` tells of what it made: warnings, what is in which file, and what to do next."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dicomtls_cli.errors import printable
from dicomtls_cli.pki.authority import CRL_DAYS
from dicomtls_cli.pki.contents import Kind, read_contents
from dicomtls_cli.pki.files import word

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.pki.authority import Authority, Entry
    from dicomtls_cli.pki.generate import Profile
    from dicomtls_cli.services.issuance import Made, Wanted

# Browsers and Apple's TLS refuse longer ones.
_LONG_DAYS = 825
_ATNA_DAYS = 731  # IHE ITI TF-2, 3.19
_FILE_WORDS = {"crt": "certificate", "key": "key", "csr": "request", "p12": "key_store"}


def warn(terminal: Terminal, profiles: list[Profile], wanted: Wanted, authority: Authority | None) -> None:
    """Warn of what peers will not like about the certificates that are wanted."""
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


def tell_authority(terminal: Terminal, authority: Authority, *, dry_run: bool) -> None:
    """Tell of a new CA."""
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
        f"{'would make' if dry_run else 'made'} the CA {word(key)} and {word(cert)}\n"
        f"  subject  {printable(subject, 200)}\n  until    {authority.ends:%Y-%m-%d %H:%M:%S} UTC"
    )


def tell(terminal: Terminal, one: Made, *, dry_run: bool) -> None:
    """Tell of one pair, certificate or request."""
    profile = one.profile
    files = {path.suffix[1:]: path for path in one.files}
    sha256 = None if one.der is None else hashlib.sha256(one.der).hexdigest()
    record: dict[str, Any] = {"ok": True, "name": profile.name}
    record |= {word: str(files[kind]) for kind, word in _FILE_WORDS.items() if kind in files}
    if "key" in files:
        record["key_type"] = str(profile.key_type)
    record |= {"subject": profile.subject_text, "hosts": list(profile.names)}
    lines = [
        f"{'would make' if dry_run else 'made'} {' and '.join(map(word, one.files))}"
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


def tell_revoked(terminal: Terminal, authority: Authority, revoked: list[Entry], *, dry_run: bool) -> None:
    """Tell of the revocation list of a CA, and of what was `revoked` just now."""
    path = authority.path("crl")
    terminal.record(
        {
            "ok": True,
            "crl": str(path),
            "revoked": [
                {"serial": f"{one.serial:x}", "sha256": one.sha256, "subject": one.subject} for one in revoked
            ],
            "dry_run": dry_run,
        }
    )
    lines = [
        f"{'would write' if dry_run else 'wrote'} {word(path)}, valid for {CRL_DAYS} days",
        *(f"  revoked  {one.subject}, serial {one.serial:x}, sha256 {one.sha256}" for one in revoked),
        f"peers look into it with --trust {word(authority.path('crt'))} --crl {word(path)}; "
        "a running storescp reads it on SIGHUP",
    ]
    terminal.result("\n".join(lines))


def next_steps(wanted: Wanted, names: tuple[str, ...], authority: Authority | None) -> str:
    """Return commands that work as they stand, on this machine, with the files just made."""

    def file(name: str, kind: str) -> str:
        return word(wanted.out_dir / f"{name}.{kind}")

    if wanted.csr:
        return "give the request (.csr) to the CA, the key to nobody; its owner runs:\n" + "\n".join(
            f"  dicomtls gencert --ca CA --sign {file(name, 'csr')}" for name in names
        )
    if wanted.renew is not None:
        old, new = word(wanted.renew), file(names[0], "crt")
        if authority is not None:
            return f"the key stays; use {new} with it: the peers trust the CA already"
        if (wanted.out_dir / f"{names[0]}.crt").absolute() == wanted.renew.absolute():
            return f"the key stays, the old certificate is gone: give {new} to the peers before you use it"
        old_file = read_contents(wanted.renew, "certificate")
        strip = " --strip-keys" if old_file.keys or old_file.main_kind is Kind.PKCS12 else ""
        return (
            f"the key stays, the old certificate is valid until it ends. First let the peers trust both:\n"
            f"  dicomtls bundle {old} {new}{strip} -o {word(wanted.out_dir / 'both.crt')}\n"
            f"then use {new} instead of {old}, and take the old one out of the bundles"
        )
    if authority is not None and (wanted.sign is not None or not names):
        return f"the peers need {word(authority.path('crt'))}, as in `--trust {word(authority.path('crt'))}`"
    return _try_it(wanted, names, authority, file)


def _try_it(
    wanted: Wanted, names: tuple[str, ...], authority: Authority | None, file: Callable[[str, str], str]
) -> str:
    key, cert = file(names[0], "key"), file(names[0], "crt")
    other_key, other_cert = file(names[-1], "key"), file(names[-1], "crt")
    secret = (
        "" if wanted.passphrase_file is None else f" --key-passphrase-file {word(wanted.passphrase_file)}"
    )
    trusted, steps = cert, []
    if authority is not None:
        trusted = word(authority.path("crt"))
    elif len(names) > 1:
        trusted = word(wanted.out_dir / "trusted.crt")
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
