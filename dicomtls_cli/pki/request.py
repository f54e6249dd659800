"""Certificates that follow something there is: a signing request (PKCS#10), or a certificate to be renewed."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.errors import InputError, UsageError, printable
from dicomtls_cli.pki.contents import Kind, read_contents
from dicomtls_cli.pki.extensions import general_name
from dicomtls_cli.pki.generate import Profile, key_pem, new_key, prepare, subject_name
from dicomtls_cli.pki.hosts import parse_host
from dicomtls_cli.pki.keystore import Password, read_opened
from dicomtls_cli.pki.pair import Pair, open_key, read_pair
from dicomtls_cli.pki.subject import SubjectPart

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from dicomtls_cli.pki.generate import PrivateKey, PublicKey


class Followed(NamedTuple):
    """What a new certificate takes over: its profile and public key, and the private key where it is ours.

    `self_signed` and `sha256` are those of the certificate that is renewed.
    """

    profile: Profile
    public: PublicKey
    key: PrivateKey | None = None
    self_signed: bool = False
    sha256: str = ""


def make_request(profile: Profile, passphrase: bytes | None = None) -> tuple[bytes, bytes]:
    """Make a key and the request (PKCS#10, RFC 2986) for a certificate as in `profile`; return both as PEM.

    Of the profile the subject and the names go into it; the rest is the CA's to say.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding

    key = new_key(profile)
    names = x509.SubjectAlternativeName([general_name(name) for name in profile.names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject_name(profile))
    hashed = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = builder.add_extension(names, critical=False).sign(key, hashed)
    return key_pem(key, passphrase), request.public_bytes(Encoding.PEM)


def read_request(path: Path, name: str, *, days: int, hosts: tuple[str, ...] = ()) -> Followed:
    """Read the request in `path`, PEM or DER, for a certificate called `name` that is valid for `days` days.

    Subject and key are the request's, the names too unless `hosts` are given; whatever else it asks for (to be
    a CA, say) is not listened to. Raises `InputError` for what is no request, damaged, or has a weak key.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    contents = read_contents(path, "request")
    item = next((one for one in contents.items if one.kind is Kind.REQUEST), None)
    if item is None:
        raise InputError(
            f"`{path}` is {contents.main_kind.value}, not a certificate signing request",
            "a request is made with `dicomtls gencert NAME --csr`, or `openssl req -new`",
            slug="request.not-a-request",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request = x509.load_pem_x509_csr(item.pem) if item.pem else x509.load_der_x509_csr(item.der)
            whole = request.is_signature_valid
            public, extensions = request.public_key(), request.extensions
            subject = request.subject
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        whole = False
    if not whole:
        raise InputError(
            f"the request `{path}` is damaged, or its signature is not that of its key",
            "get it again from its owner",
            slug="request.damaged",
        )
    names = tuple(map(parse_host, hosts)) or _names(extensions) or _name_from(subject)
    if not names:
        raise InputError(
            f"the request `{path}` names no host",
            "say for which host the certificate is: `--host HOST`",
            slug="request.no-names",
        )
    _check_key(public, path)
    return Followed(_profile(name, subject, names, days), public)  # type: ignore[arg-type]


def read_for_renewal(
    cert: Path, key: Path | None, name: str, *, days: int, password: Password, by_ca: bool
) -> Followed:
    """Read the certificate `cert`, to be issued again as `name` with the same key, subject and names.

    The private key is in `key`, else in `cert` itself, else in the file of that name ending in `.key`; only
    a certificate that is signed `by_ca` can do without, and then only `key` is looked at. `password` is for an
    encrypted one. Raises `InputError`.
    """
    from cryptography import x509

    certificates = read_opened(cert, "certificate", password).certificates
    beside = cert.with_suffix(".key")
    if key is None and not by_ca and beside.exists() and beside != cert:
        key = beside
    private = None
    if key is not None or not by_ca:
        pair = read_pair(cert, key, password)
        private, key = _opened_key(pair, password), pair.key_path
    try:
        old = x509.load_der_x509_certificate(certificates[0])
        names = _names(old.extensions) or _name_from(old.subject)
        public = old.public_key()
    except (ValueError, IndexError):
        raise InputError(
            f"`{cert}` holds no certificate that can be parsed",
            "get the certificate again, or make a new pair with `dicomtls gencert NAME`",
            slug="certificate.damaged",
        ) from None
    if private is not None and private.public_key() != public:
        raise InputError(
            f"the private key `{key}` does not belong to the certificate `{cert}`",
            "name the key of this certificate with `--key`",
            slug="key.mismatch",
        )
    _check_key(public, cert)
    profile = _profile(name, old.subject, names or ("localhost",), days)
    digest = hashlib.sha256(certificates[0]).hexdigest()
    return Followed(profile, public, private, old.issuer == old.subject, digest)  # type: ignore[arg-type]


def _opened_key(pair: Pair, password: Password) -> PrivateKeyTypes:
    secret = None
    if pair.key.kind is Kind.ENCRYPTED_KEY:
        if password is None:
            raise InputError(
                f"the private key `{pair.key_path}` is encrypted and no passphrase was given",
                "name the file of its passphrase: `--passphrase-file FILE`",
                slug="key.encrypted",
            )
        secret = password()
    return open_key(pair.key, pair.key_path, secret)


def _profile(name: str, subject: x509.Name, names: tuple[str, ...], days: int) -> Profile:
    base = prepare("x", days=days)
    shown = tuple(
        SubjectPart(part.rfc4514_attribute_name, part.oid.dotted_string, printable(str(part.value)))
        for part in subject
    )
    return replace(base, name=name, subject=shown, names=names, exact=subject)


def _names(extensions: x509.Extensions) -> tuple[str, ...]:
    """Return the DNS names and addresses of a subjectAltName; other kinds of names mean nothing in TLS."""
    from cryptography import x509

    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    kept = []
    for one in found:
        if isinstance(one, x509.DNSName | x509.IPAddress):
            with suppress(UsageError):
                kept.append(parse_host(str(one.value)))
    return tuple(dict.fromkeys(kept))


def _name_from(subject: x509.Name) -> tuple[str, ...]:
    from cryptography.x509.oid import NameOID

    for part in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        with suppress(UsageError):
            return (parse_host(str(part.value)),)
    return ()


def _check_key(public: object, path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    least = {rsa.RSAPublicKey: 2048, ec.EllipticCurvePublicKey: 256}
    for kind, bits in least.items():
        if isinstance(public, kind) and getattr(public, "key_size", 0) >= bits:
            return
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise InputError(
            f"the key in `{path}` is too small, or of a kind that DICOM's TLS profiles do not have",
            "PS3.15 B.12 asks for RSA of 2048 bits or more, or an elliptic curve of 256",
            slug="request.weak-key",
        )
