"""What `gencert` makes, and from what: new pairs, requests, what others asked for, and renewals."""

from __future__ import annotations

import shlex
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from dicomtls_cli.pki.authority import Authority
    from dicomtls_cli.pki.files import NewFile
    from dicomtls_cli.pki.generate import Profile
    from dicomtls_cli.pki.request import Followed

USUAL_PASSWORD = b"secret"
"""Of a key store that nobody gave a password for: dcm4che's own."""


class Wanted(NamedTuple):
    """The options as they were given."""

    hosts: tuple[str, ...] = ()
    subject: str | None = None
    days: int = 365
    key_type: str = "rsa2048"
    out_dir: Path = Path()
    passphrase_file: Path | None = None
    p12: bool = False
    ca: str | None = None
    ca_passphrase_file: Path | None = None
    csr: bool = False
    sign: Path | None = None
    renew: Path | None = None
    key: Path | None = None
    revoke: tuple[Path, ...] = ()
    crl: bool = False
    fault: str | None = None
    force: bool = False
    dry_run: bool = False


class Made(NamedTuple):
    """One certificate or request to be written: its files, and what they say. `der` None: no certificate yet.

    `follows` is the request or certificate that it is made from.
    """

    profile: Profile
    files: tuple[Path, ...]
    follows: Followed | None = None
    contents: tuple[NewFile, ...] = ()
    der: bytes | None = None


def check_names(names: Sequence[str]) -> None:
    """Raise UsageError unless each of `names` can become the name of a file, and they differ."""
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


def open_ca(wanted: Wanted) -> Authority | None:
    """Return the CA that is wanted, a new one (not written yet) where there is none; None: no CA is wanted.

    Raises UsageError where a new one makes no sense, InputError for one whose files are not in order.
    """
    if wanted.ca is None:
        return None
    from dicomtls_cli.pki.authority import open_authority

    secret = new_passphrase(wanted.ca_passphrase_file)
    authority = open_authority(wanted.out_dir, wanted.ca, key_type=wanted.key_type, passphrase=secret)
    if authority.new and (wanted.revoke or wanted.crl):
        raise UsageError(
            f"there is no CA `{wanted.ca}` in `{wanted.out_dir}`",
            "name the folder of its files with `--out-dir`",
            slug="usage.no-ca",
        )
    return authority


def new_passphrase(path: Path | None) -> bytes | None:
    """Return the passphrase in the file `path` for a new key; raise UsageError if it cannot protect one."""
    if path is None:
        return None
    from dicomtls_cli.pki.generate import check_new_passphrase
    from dicomtls_cli.pki.load import read_passphrase

    passphrase = read_passphrase(path)
    check_new_passphrase(passphrase)
    return passphrase


def plan(
    names: tuple[str, ...], wanted: Wanted, authority: Authority | None
) -> tuple[tuple[str, ...], list[Made]]:
    """Return the names of what is to be made, and what it will say; nothing is made yet."""
    from dicomtls_cli.pki.authority import within
    from dicomtls_cli.pki.generate import Fault, faulty, prepare
    from dicomtls_cli.pki.request import read_request

    follows: Followed | None = None
    if wanted.sign is not None:
        names = names or (wanted.sign.stem,)
        follows = read_request(wanted.sign, names[0], days=wanted.days, hosts=wanted.hosts)
        profiles = [follows.profile]
        kinds: tuple[str, ...] = ("crt",)
    elif wanted.renew is not None:
        names = names or (_renewed_name(wanted.renew),)
        follows = _renewal(wanted, names[0], authority)
        profiles = [follows.profile]
        kinds = ("crt",)
    else:
        profiles = [
            prepare(
                name,
                hosts=wanted.hosts,
                subject=wanted.subject,
                days=wanted.days,
                key_type=wanted.key_type,
            )
            for name in names
        ]
        kinds = ("key", "csr" if wanted.csr else "crt")
    if wanted.fault is not None:
        profiles = [faulty(profile, Fault(wanted.fault)) for profile in profiles]
    if authority is not None:
        profiles = [replace(one, not_after=within(authority, one.not_after)) for one in profiles]
    if wanted.p12:
        kinds = (*kinds, "p12")
    folder = wanted.out_dir
    return names, [
        Made(one, tuple(folder / f"{one.name}.{kind}" for kind in kinds), follows) for one in profiles
    ]


def _renewed_name(cert: Path) -> str:
    from datetime import UTC, datetime

    stem, dash, date = cert.stem.rpartition("-")
    base = stem if dash and len(date) == 8 and date.isdigit() else cert.stem
    return f"{base}-{datetime.now(UTC):%Y%m%d}"


def _renewal(wanted: Wanted, name: str, authority: Authority | None) -> Followed:
    from dicomtls_cli.pki.load import read_passphrase
    from dicomtls_cli.pki.request import read_for_renewal

    assert wanted.renew is not None
    secret: Callable[[], bytes] | None = None
    if (file := wanted.passphrase_file) is not None:
        secret = lambda: read_passphrase(file)  # noqa: E731
    found = read_for_renewal(
        wanted.renew, wanted.key, name, days=wanted.days, password=secret,
        by_ca=authority is not None and not wanted.p12,
    )  # fmt: skip
    if authority is None and not found.self_signed:
        raise UsageError(
            f"`{wanted.renew}` was signed by a CA, and only that can renew it",
            "name the CA with `--ca`, or ask it with a new request: `dicomtls gencert NAME --csr`",
            slug="usage.no-ca",
        )
    if authority is not None:
        _refuse_revoked(wanted.renew, found.sha256, authority)
    return found


def _refuse_revoked(cert: Path, sha256: str, authority: Authority) -> None:
    """Raise InputError for a certificate whose key would live on although the CA took it back."""
    for entry in authority.entries:
        if entry.sha256 == sha256 and entry.revoked is not None:
            raise InputError(
                f"`{cert}` was revoked on {entry.revoked:%Y-%m-%d}, and a renewed one would have the same key",
                f"make a new pair: `dicomtls gencert --ca {shlex.quote(authority.name)} NAME`",
                slug="authority.revoked",
            )


def make(one: Made, wanted: Wanted, authority: Authority | None, passphrase: bytes | None) -> Made:
    """Make key and certificate (or request) of `one`."""
    from dicomtls_cli.pki.files import NewFile
    from dicomtls_cli.pki.generate import certify, key_pem, new_key
    from dicomtls_cli.pki.keystore import key_store
    from dicomtls_cli.pki.request import make_request

    def files(*contents: bytes) -> tuple[NewFile, ...]:
        named = zip(one.files, contents, strict=True)
        return tuple(NewFile(path, data, private=path.suffix in (".key", ".p12")) for path, data in named)

    if wanted.csr:
        return one._replace(contents=files(*make_request(one.profile, passphrase)))
    contents = []
    if one.follows is not None:
        key, public = one.follows.key, one.follows.public
    else:
        key = new_key(one.profile)
        public = key.public_key()
        contents.append(key_pem(key, passphrase))
    der = certify(one.profile, public, authority.issuer if authority else None, key)
    contents.append(ssl.DER_cert_to_PEM_cert(der).encode())
    if wanted.p12 and key is not None:
        chain = [der, *([] if authority is None else [authority.der])]
        contents.append(key_store(one.profile.name, key, chain, passphrase or USUAL_PASSWORD))
    return one._replace(contents=files(*contents), der=der)


def targets_of(made: Sequence[Made], authority: Authority | None) -> list[Path]:
    """Return the files that `write` makes anew: those of `made`, and those of a new `authority`."""
    targets = [path for one in made for path in one.files]
    if authority is not None and authority.new:
        targets += [authority.path("key"), authority.path("crt")]
    return targets


def write(made: Sequence[Made], authority: Authority | None, *, force: bool) -> None:
    """Write what was `made`, and what it means for the files of its CA; all or nothing. Raises OutputError."""
    from dicomtls_cli.pki.files import write_files

    files = [file for one in made for file in one.contents]
    if authority is not None:
        files += authority.own_files()
        files.append(authority.index_with([one.der for one in made if one.der is not None]))
    write_files(files, force=force)
