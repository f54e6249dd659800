"""What the TLS factory takes, from files: trusted certificates and own key pair, without `cryptography`."""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import InputError, UsageError, printable
from dicomtls_cli.material import KeyPair, RevocationCheck, Trust
from dicomtls_cli.pki.contents import MAX_PASSPHRASE, Contents, Item, Kind
from dicomtls_cli.pki.files import read_capped, word
from dicomtls_cli.pki.keystore import Password, read_opened
from dicomtls_cli.pki.pair import encrypted_without_passphrase, open_key, read_pair
from dicomtls_cli.pki.temporary import temporary_files

_log = logging.getLogger("dicomtls.pki")

SUFFIXES = frozenset({".pem", ".crt", ".cer", ".der", ".p7b"})
"""The files of a directory that are read as certificates, in any case of letters."""

_PARSED_AT_ONCE = 200  # certificates

_NOT_TRUST: dict[Kind, tuple[str, str]] = {
    Kind.EMPTY: ("trust.empty", "put the peers' certificates into it: `dicomtls bundle CERT... -o FILE`"),
    Kind.PRIVATE_KEY: (
        "trust.is-key",
        "name the certificate that belongs to it; a key is never handed around",
    ),
    Kind.PUBLIC_KEY: ("trust.is-public-key", "name the certificate, not the bare public key"),
    Kind.REQUEST: ("trust.is-request", "name the certificate that was issued for this request"),
    Kind.CRL: (
        "trust.is-crl",
        "name the certificate of the CA that issued this list, and the list with `--crl FILE`",
    ),
    Kind.JAVA_KEYSTORE: ("trust.is-jks", "convert it: `keytool -exportcert -rfc -keystore FILE -alias NAME`"),
}
_NOT_TRUST[Kind.ENCRYPTED_KEY] = _NOT_TRUST[Kind.OPENSSH_KEY] = _NOT_TRUST[Kind.PRIVATE_KEY]
_NO_CERTIFICATE = ("trust.not-a-certificate", "a certificate is PEM (`-----BEGIN CERTIFICATE-----`) or DER")


class CertificateFile(NamedTuple):
    """The certificates of one file, DER; how many private keys are in it too, and which revocation lists."""

    path: Path
    certificates: tuple[bytes, ...]
    keys: int = 0
    lists: tuple[Item, ...] = ()


def load_trust(
    files: Sequence[Path],
    authorities: Sequence[Path] = (),
    *,
    system: bool = False,
    password: Password = None,
    crls: Sequence[Path] = (),
    check_crls: bool = False,
) -> Trust:
    """Read the trusted certificates in `files`, and in `authorities`, which are CAs by the user's word.

    Each is a file in PEM, DER, PKCS#7 or PKCS#12 (opened by `password`, see `read_opened`), or a directory
    of such. A certificate found twice counts once. A private key among them is left out, and warned of
    through the logger `dicomtls.pki`. Revocation lists are wanted if there are `crls`, files of such, or with
    `check_crls`; those in `files` count then too, and are warned of otherwise. Raises `InputError` for what
    cannot be read and for a file or directory without a certificate, `UsageError` where lists are wanted and
    there is none.
    """
    wanted = bool(crls) or check_crls
    trusted = read_certificate_files(files, password=password, allow_list_only=wanted)
    named_as_ca = read_certificate_files(authorities, password=password)
    for file in (*trusted, *named_as_ca):
        if file.lists and not wanted:
            _log.warning(
                "the trust file `%s` also holds a revocation list, which is looked at with `--crl FILE` or `+crv` only",
                printable(str(file.path)),
            )
        if file.keys:
            _log.warning(
                "the trust file `%s` also holds a private key, and such files are handed around; "
                "make one without it: `dicomtls bundle --strip-keys FILE -o NEW`",
                printable(str(file.path)),
            )
    anchors = [der for file in (*trusted, *named_as_ca) for der in file.certificates]
    digests = frozenset(hashlib.sha256(der).digest() for file in named_as_ca for der in file.certificates)
    unique = tuple(dict.fromkeys(anchors))
    check = _revocation_check(crls, (*trusted, *named_as_ca), unique) if wanted else None
    return Trust(unique, digests, system, check)


def _revocation_check(
    crls: Sequence[Path], trusted: Sequence[CertificateFile], anchors: Sequence[bytes]
) -> RevocationCheck:
    from dicomtls_cli.pki.revocation import RevocationLists, gather

    lists = gather(crls, trusted)
    if not lists:
        raise UsageError(
            "revocation lists are to be checked, and there is none",
            "give that of each CA with `--crl FILE`",
            slug="usage.no-crl",
        )
    return RevocationLists(lists, anchors).check


def read_certificate_files(
    entries: Sequence[Path],
    *,
    allow_key_only: bool = False,
    allow_list_only: bool = False,
    password: Password = None,
) -> list[CertificateFile]:
    """Read the certificates of `entries`: PEM, DER, PKCS#7, PKCS#12, or directories of such (`SUFFIXES`).

    `password` is for PKCS#12. With `allow_key_only` a file with nothing but a private key is not an error, with
    `allow_list_only` one with nothing but revocation lists (in directories .crl, too).
    Every certificate returned is one that OpenSSL can parse. Raises `InputError` naming the file at fault.
    """
    suffixes = SUFFIXES | {".crl"} if allow_list_only else SUFFIXES
    paths = [path for entry in entries for path in certificate_paths(entry, suffixes)]
    files = [_certificates_of(path, allow_key_only, allow_list_only, password) for path in paths]
    parsed = 0
    for file in files:
        for number, der in enumerate(file.certificates, 1):
            if parsed % _PARSED_AT_ONCE == 0:
                # A context nobody ever connects with: it is the only X.509 parser in the standard library,
                # and keeps what it has parsed, in time that grows with the square.
                parser = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            parsed += 1
            try:
                parser.load_verify_locations(cadata=der)
            except (ssl.SSLError, ValueError):
                raise InputError(
                    f"certificate {number} in `{file.path}` cannot be parsed",
                    "get the certificate again from its owner",
                    slug="trust.damaged",
                ) from None
    return files


def certificate_paths(entry: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """Return `entry`, or if it is a directory the files with these suffixes in it by name, hidden ones left out."""
    if not entry.is_dir():
        return [entry]
    try:
        inside = sorted(path for path in entry.iterdir() if path.suffix.lower() in suffixes)
    except OSError as error:
        raise InputError(
            f"the directory `{entry}` cannot be read: {error.strerror}",
            f"check it with `ls -ld {word(entry)}`",
            slug="file.unreadable",
        ) from None
    found = [path for path in inside if not path.name.startswith(".") and not path.is_dir()]
    if not found:
        raise InputError(
            f"the directory `{entry}` holds no certificate file",
            f"files ending in {', '.join(sorted(suffixes))} are read",
            slug="trust.empty-directory",
        )
    return found


def _certificates_of(
    path: Path, allow_key_only: bool, allow_list_only: bool, password: Password
) -> CertificateFile:
    contents = read_opened(path, "certificate", password)
    lists = tuple(item for item in contents.items if item.kind is Kind.CRL)
    found = CertificateFile(path, contents.certificates, len(contents.keys), lists)
    enough = found.certificates or (allow_key_only and found.keys) or (allow_list_only and lists)
    if not enough:
        kind = contents.main_kind
        slug, hint = _NOT_TRUST.get(kind, _NO_CERTIFICATE)
        raise InputError(f"`{path}` is {kind.value}, not a certificate", hint, slug=slug)
    return found


def read_passphrase(path: Path, what: str = "passphrase") -> bytes:
    """Return the first line of `path` without its end, as OpenSSL's `file:` does; it may be empty.

    `what` names the secret in the sentence of an error.
    """
    lines = read_capped(path, what, limit=64 * 1024).splitlines()
    return lines[0] if lines else b""


@contextmanager
def key_pair(
    cert: Path, key: Path | None = None, passphrase: Callable[[], bytes] | None = None
) -> Iterator[KeyPair]:
    """Yield what `ssl` loads for the certificate (chain) `cert` and its private `key`; valid inside `with`.

    `key` None means that the key is in `cert`. PEM files are handed over as they are. What OpenSSL cannot
    read by itself (PKCS#12; DER; PEM with a byte order mark or joined lines) goes through files that end
    with the context, in memory where the system has such, the key encrypted under a random passphrase:
    never in the clear. `passphrase` is called at most once, and only for an encrypted key or a key store.
    Raises `InputError` for files that are missing, not what they should be, or an encrypted key without
    `passphrase`; also when OpenSSL asks for it later on.
    """
    pair = read_pair(cert, key, passphrase)
    answer = _Answer(passphrase, pair.key_path)
    if pair.key_contents.store and pair.key_contents.store.keys > 1:
        _log.warning(
            "the key store `%s` holds %d private keys; the first is used",
            printable(str(pair.key_path)),
            pair.key_contents.store.keys,
        )
    if pair.key.kind is Kind.ENCRYPTED_KEY and passphrase is None:
        raise encrypted_without_passphrase(pair.key_path)
    with ExitStack() as stack:
        cert_file, key_file = str(cert), str(pair.key_path)
        if not (pair.certificates.openssl_ready and pair.key_contents.openssl_ready):
            keep = stack.enter_context(temporary_files())
            if not pair.certificates.openssl_ready:
                cert_file = keep("chain.pem", _chain(pair.certificates))
            if not pair.key_contents.openssl_ready:
                secret = os.urandom(32).hex().encode()
                key_file = keep("key.pem", _key(pair.key, pair.key_path, answer, secret))
                answer = _Answer(lambda: secret, pair.key_path)
        yield KeyPair(cert_file, key_file, answer)


class _Answer:
    """The passphrase callback: always answers or raises, so OpenSSL never asks on the terminal."""

    def __init__(self, ask: Callable[[], bytes] | None, path: Path) -> None:
        self._ask = ask
        self._path = path
        self._known: bytes | None = None

    def __call__(self) -> bytes:
        if self._known is None:
            if self._ask is None:
                raise encrypted_without_passphrase(self._path)
            known = self._ask()
            if len(known) > MAX_PASSPHRASE:
                raise InputError(
                    f"the passphrase of `{self._path}` is longer than {MAX_PASSPHRASE} bytes",
                    "check that the passphrase file is the one you mean",
                    slug="key.passphrase-too-long",
                )
            self._known = known
        return self._known


def _chain(contents: Contents) -> bytes:
    """Return what is shown to a peer, PEM: of a key store only the chain of its key, not what it trusts."""
    chain = contents.store.chain if contents.store else 0
    shown = contents.certificates[: chain or None]
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in shown).encode()


def _key(key: Item, source: Path, answer: _Answer, secret: bytes) -> bytes:
    """Return the key as PEM, encrypted under `secret`."""
    from cryptography.hazmat.primitives import serialization

    opened = open_key(key, source, answer() if key.kind is Kind.ENCRYPTED_KEY else None)
    encryption = serialization.BestAvailableEncryption(secret)
    return opened.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
