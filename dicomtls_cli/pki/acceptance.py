"""What other programs make of certificate and key files: those that hand them to OpenSSL as PEM, as Orthanc does."""

from __future__ import annotations

import ssl
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError, InputError
from dicomtls_cli.pki.contents import Contents, Kind, read_contents
from dicomtls_cli.pki.explain import explain_key_pair
from dicomtls_cli.pki.files import word
from dicomtls_cli.pki.pair import open_key

LOADS_BUT_TRUSTS_NONE = "trust-none"
"""The one code of a fault that lets a program start: revocation lists alone are a trust file to OpenSSL."""

_UNREADABLE = "has joined lines or an encoding that OpenSSL cannot read"


class Fault(NamedTuple):
    """Why OpenSSL refuses a file: a stable `code`, the fault in words, and what to do."""

    code: str
    text: str
    fix: str


def pair_fault(cert: Path, key: Path) -> Fault | None:
    """Return why a program that reads PEM and knows no passphrase cannot use `cert` with `key`, None if it can.

    Both are regular files. Only what hinders loading counts: not dates, not strength.
    """
    error = _loading_error(cert, key)
    try:
        certificates, keys = read_contents(cert, "certificate"), read_contents(key, "private key")
        if error is None:
            # DCMTK does not read what `ssl` does read.
            return _certificate_fault(certificates) if _has_odd_label(certificates) else None
        return _fault_of_kind(certificates, keys) or _explained(cert, key, error)
    except InputError as damaged:
        return Fault("damaged", damaged.message, damaged.hint) if error else None


def _fault_of_kind(certificates: Contents, keys: Contents) -> Fault | None:
    """Judge by what the files are."""
    cert, key = certificates.path, keys.path
    if not certificates.certificates and certificates.keys and keys.certificates and not keys.keys:
        return Fault(
            "swapped",
            f"certificate and key are swapped: `{key}` is a certificate, `{cert}` is a private key",
            f"exchange the two names: `{key}` for the certificate, `{cert}` for the key",
        )
    return _key_fault(keys) or _certificate_fault(certificates)


def _explained(cert: Path, key: Path, error: Exception) -> Fault:
    """Judge by parsing both files."""
    explained = explain_key_pair(cert, key, error, passphrase=None)
    if explained.slug != "key.mismatch":
        return Fault("refused", explained.message, explained.hint)
    compare = (
        f"`openssl x509 -noout -pubkey -in {word(cert)}` and `openssl pkey -pubout -in {word(key)}` show both"
    )
    return Fault("mismatch", explained.message, f"{explained.hint}; {compare}")


def trust_fault(bundle: Path) -> Fault | None:
    """Return why such a program cannot read the trusted certificates in the regular file `bundle`, None if it can."""
    parser = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing is connected: it is the parser in question
    try:
        parser.load_verify_locations(cafile=str(bundle))
        is_refused = False
    except (ssl.SSLError, OSError, ValueError):
        is_refused = True
    name = word(bundle)
    rewrite = f"`dicomtls bundle {name} -o {word(bundle.with_suffix('.pem.crt'))}`, and name that file"
    try:
        contents = read_contents(bundle, "trusted certificates")
    except InputError as damaged:
        return Fault("trust-damaged", damaged.message, damaged.hint) if is_refused else None
    if not is_refused and contents.certificates:
        return None
    if contents.certificates:
        how = "is DER" if _is_der(contents) else _UNREADABLE
        code = "trust-der" if _is_der(contents) else "trust-damaged"
        return Fault(code, f"the trusted certificates `{bundle}`: the file {how}", rewrite)
    kind = contents.main_kind
    if not is_refused:
        return Fault(
            LOADS_BUT_TRUSTS_NONE,
            f"the file of trusted certificates `{bundle}` can be read, but no certificate is in it: nobody is trusted",
            f"collect them: `dicomtls bundle CERT... -o {name} --force`",
        )
    if kind in (Kind.PKCS12, Kind.PKCS7):
        return Fault(
            "trust-format", f"the trusted certificates `{bundle}` are {kind.value}, and PEM is read", rewrite
        )
    return Fault(
        "trust-empty",
        f"the file of trusted certificates `{bundle}` holds none: it is {kind.value}",
        f"collect them: `dicomtls bundle CERT... -o {name} --force`",
    )


def key_kind(der: bytes) -> str:
    """Return the kind of key in a certificate: "RSA", "EC", "ED25519" and so on, "" if it cannot be told."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    with warnings.catch_warnings(), suppress(ValueError, UnsupportedAlgorithm):
        warnings.simplefilter("ignore")
        key = x509.load_der_x509_certificate(der).public_key()
        return type(key).__name__.removesuffix("PublicKey").upper()
    return ""


def _loading_error(cert: Path, key: Path) -> Exception | None:
    """Let OpenSSL load the pair, with no demand on its strength; return what it says."""
    loader = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # nothing is connected: it is the judge
    loader.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        loader.load_cert_chain(str(cert), str(key), password=_no_passphrase)
    except (ssl.SSLError, OSError, ValueError, DicomTlsError) as error:
        return error
    return None


def _no_passphrase() -> bytes:
    raise InputError("a passphrase is asked for", slug="key.encrypted")


def _key_fault(contents: Contents) -> Fault | None:
    path, name = contents.path, word(contents.path)
    new = word(path.with_name(f"{path.stem}.pem.key"))
    first = next(iter(contents.keys), None)
    if first is None:
        if contents.main_kind is Kind.PKCS12:
            return Fault(
                "key-format",
                f"the private key `{path}` is in a PKCS#12 file, and PEM is read",
                f"take it out: `(umask 077; openssl pkcs12 -in {name} -nocerts -nodes -out {new})`, and name that",
            )
        return Fault(
            "not-a-key",
            f"`{path}` is {contents.main_kind.value}, not a private key",
            "name the file of the key, or make a pair: `dicomtls gencert NAME`",
        )
    if first.kind is Kind.ENCRYPTED_KEY:
        return Fault(
            "key-encrypted",
            f"the private key `{path}` is encrypted, and nobody is asked for its passphrase",
            f"decrypt a copy for it: `(umask 077; openssl pkey -in {name} -out {new})`, and name that",
        )
    if first.kind is Kind.OPENSSH_KEY:
        return Fault(
            "key-format",
            f"the private key `{path}` is in OpenSSH's format",
            f"convert a copy: `ssh-keygen -p -m PKCS8 -f {name}`",
        )
    if _is_der(contents):
        return Fault(
            "key-format",
            f"the private key `{path}` is DER, and PEM is read",
            f"convert it: `(umask 077; openssl pkey -inform DER -in {name} -out {new})`, and name that",
        )
    kind = type(open_key(first, path, None)).__name__.removesuffix("PrivateKey").removeprefix("_").upper()
    if kind in ("X25519", "X448", "DH"):
        return Fault(
            "key-kind",
            f"the private key `{path}` is of kind {kind}, which signs nothing: no certificate can use it",
            "make an RSA pair: `dicomtls gencert NAME`",
        )
    return None


def _certificate_fault(contents: Contents) -> Fault | None:
    path, name = contents.path, word(contents.path)
    new = word(path.with_name(f"{path.stem}.pem.crt"))
    if not contents.certificates:
        if contents.main_kind is Kind.PKCS12:
            return Fault(
                "certificate-format",
                f"the certificate `{path}` is in a PKCS#12 file, and PEM is read",
                f"take it out: `openssl pkcs12 -in {name} -nokeys -clcerts -out {new}`, and name that",
            )
        return Fault(
            "not-a-certificate",
            f"`{path}` is {contents.main_kind.value}, not a certificate",
            "name the file of the certificate, or make a pair: `dicomtls gencert NAME`",
        )
    odd_label = _has_odd_label(contents)
    if _is_der(contents) or odd_label or not contents.openssl_ready:
        how = "is DER" if _is_der(contents) else "is OpenSSL's own TRUSTED CERTIFICATE" if odd_label else ""
        return Fault(
            "certificate-format",
            f"the certificate `{path}` {how or _UNREADABLE}, and PEM is read",
            f"write it anew: `dicomtls bundle --strip-keys {name} -o {new}`, and name that",
        )
    return None


def _has_odd_label(contents: Contents) -> bool:
    return any(item.pem.startswith(b"-----BEGIN TRUSTED") for item in contents.items)


def _is_der(contents: Contents) -> bool:
    return any(item.der and not item.pem for item in contents.items)
