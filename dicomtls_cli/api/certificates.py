"""Key pairs and trust files, as `gencert` and `bundle` make them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.api.words import path, paths, several
from dicomtls_cli.errors import UsageError
from dicomtls_cli.pki.bundle import Bundle, collect, render
from dicomtls_cli.pki.files import NewFile, check_targets, refuse_output_among_inputs, write_files
from dicomtls_cli.pki.generate import Fault, KeyType, check_new_passphrase
from dicomtls_cli.pki.keystore import Password
from dicomtls_cli.pki.locking import locked
from dicomtls_cli.services.issuance import Wanted, check_names, make, open_ca, plan, targets_of, write


class NodeFiles(NamedTuple):
    """The files of a node: its certificate and private key, and its CA's certificate where one signed it.

    `sha256` is the hexadecimal digest of the certificate.
    """

    cert: Path
    key: Path
    sha256: str
    ca: Path | None = None


def generate(
    name: str,
    *,
    hosts: Sequence[str] = (),
    folder: Path | str = ".",
    subject: str | None = None,
    days: int = 365,
    key_type: str = KeyType.RSA2048,
    passphrase: bytes | None = None,
    ca: str | None = None,
    fault: Fault | str | None = None,
    force: bool = False,
) -> NodeFiles:
    """Make a key and a certificate for the node `name`: `name`.key (0600) and `name`.crt in `folder`.

    `hosts` are the DNS names and addresses it is for: 127.0.0.1, ::1 and this machine's name unless given,
    `localhost` always. `subject` is written as `/C=BE/CN=localhost`, CN=`name` unless given. The certificate is valid
    for `days` days, and self-signed unless the CA of the name `ca` in `folder` signs it, which is made where it is not
    there. `passphrase` encrypts the key. `fault` makes a certificate that is wrong on purpose, for tests.

    Raises UsageError for what makes no sense, InputError for a CA that is not in order, and OutputError: without
    `force` no file is replaced.
    """
    wanted = Wanted(
        hosts=several(hosts),
        subject=subject,
        days=days,
        key_type=key_type,
        out_dir=path(folder),
        ca=ca,
        fault=None if fault is None else _fault(fault),
        force=force,
    )
    check_names([name] if ca is None else [name, ca])
    if passphrase is not None:
        check_new_passphrase(passphrase)
    with contextlib.nullcontext() if ca is None else locked(wanted.out_dir):
        authority = open_ca(wanted)
        _, planned = plan((name,), wanted, authority)
        check_targets(targets_of(planned, authority), force=force)
        made = make(planned[0], wanted, authority, passphrase)
        write([made], authority, force=force)
    assert made.der is not None
    key, cert = made.files
    digest = hashlib.sha256(made.der).hexdigest()
    return NodeFiles(cert, key, digest, None if authority is None else authority.path("crt"))


def _fault(word: Fault | str) -> Fault:
    try:
        return Fault(word)
    except ValueError:
        raise UsageError(
            f"`{word}` is no Fault", f"it is one of {', '.join(Fault)}", slug="usage.unknown-word"
        ) from None


def bundle(
    inputs: Iterable[Path | str] | Path | str,
    output: Path | str,
    *,
    passphrase: Password = None,
    strip_keys: bool = False,
    force: bool = False,
) -> Bundle:
    """Write the certificates of `inputs`, each once, into the PEM file `output`; return what is in it.

    `inputs` are files in PEM, DER, PKCS#7 or PKCS#12 (`passphrase` is asked for theirs), or folders of such. Raises
    InputError for what cannot be read, and for a private key among them unless `strip_keys` drops it; OutputError:
    without `force` no file is replaced.
    """
    sources, target = paths(inputs), path(output)
    refuse_output_among_inputs(target, sources)
    check_targets([target], force=force)
    collected = collect(sources, strip_keys=strip_keys, password=passphrase)
    refuse_output_among_inputs(target, collected.files)
    write_files([NewFile(target, render(collected))], force=force)
    return collected
