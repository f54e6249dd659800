"""Certificates of the tests, made by trustme and `cryptography`, so that `pki` does not test itself."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
BOTH_ROLES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Identity:
    """A key pair in files, and the certificate as `ssl` and as `cryptography` see it."""

    cert: Path
    key: Path
    certificate: x509.Certificate
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        return ssl.DER_cert_to_PEM_cert(self.der)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def make_identity(
    folder: Path,
    name: str,
    *,
    subject: str = "localhost",
    hosts: tuple[str, ...] = ("localhost",),
    addresses: tuple[str, ...] = ("127.0.0.1",),
    issuer: Identity | None = None,
    ca: bool = False,
    key_usage: bool = True,
    usages: tuple[x509.ObjectIdentifier, ...] = BOTH_ROLES,
    valid: tuple[int, int] = (-1, 30),
    ec_key: bool = True,
    key_size: int = 2048,
    unit: str = "",
) -> Identity:
    """Make a certificate in `folder`: self-signed, or signed by `issuer`; `valid` is from and to in days.

    `unit`, of any length, is a further part of the subject, and with it the issuer is somebody else.
    """
    import ipaddress

    folder.mkdir(parents=True, exist_ok=True)
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    key = ec.generate_private_key(ec.SECP256R1()) if ec_key else rsa.generate_private_key(65537, key_size)
    own_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    issuer_name = issuer.certificate.subject if issuer else own_name
    if unit:
        extra = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit, _validate=False)
        own_name = x509.Name([*own_name, extra])
    now = datetime.datetime.now(datetime.UTC)
    signer = issuer.private_key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0] * DAY)
        .not_valid_after(now + valid[1] * DAY)
        .add_extension(x509.BasicConstraints(ca, None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )
    names = [x509.DNSName(h) for h in hosts] + [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    if key_usage:
        builder = builder.add_extension(
            x509.KeyUsage(True, False, not ec_key, False, False, ca, ca, False, False), True
        )
    if usages and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    certificate = builder.sign(signer, hashes.SHA256())
    cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Identity(cert_path, key_path, certificate, key)


def write_bundle(path: Path, *identities: Identity) -> Path:
    """Write the certificates of `identities` into one PEM file."""
    path.write_text("".join(identity.pem for identity in identities))
    return path
