"""What a certificate says beside its name, key and dates (RFC 5280 4.2): those of a node, and those of a CA."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicomtls_cli.pki.hosts import is_address

if TYPE_CHECKING:
    from cryptography import x509

    from dicomtls_cli.pki.generate import Issuer, PublicKey


def identifier_of_its_own(public: PublicKey, serial: int) -> x509.SubjectKeyIdentifier:
    """Return a key identifier for a renewed self-signed certificate.

    With the same one as its predecessor's, OpenSSL takes either of the two for the issuer of the other, and
    refuses one of them where a bundle holds both.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return x509.SubjectKeyIdentifier(hashlib.sha256(key + serial.to_bytes(20)).digest()[:20])


def authority_key(issuer: Issuer | None, own: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    """Return the identifier of the `issuer`'s key, without one that of the certificate's `own`."""
    from cryptography import x509

    if issuer is None:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    try:
        identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _key_usage(**bits: bool) -> x509.KeyUsage:
    from cryptography import x509

    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


def ca_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    """Return those of a CA that signs certificates of nodes, and no further CAs."""
    from cryptography import x509

    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
    ]


def node_extensions(
    names: Sequence[str], public: PublicKey, *, is_for_tls: bool = True, is_ca: bool = False
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of the certificate of a node with these `names`, each with whether it is critical.

    Without `is_for_tls`, and with `is_ca`, they are wrong on purpose.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID

    roles = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    if not is_for_tls:
        roles = [ExtendedKeyUsageOID.EMAIL_PROTECTION]
    # RSA key transport is gone from our suites; peers with older ones look for keyEncipherment.
    usage = _key_usage(digital_signature=True, key_encipherment=isinstance(public, rsa.RSAPublicKey))
    return [
        (x509.BasicConstraints(ca=is_ca, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage(roles), False),
        (x509.SubjectAlternativeName([general_name(name) for name in names]), False),
    ]


def general_name(name: str) -> x509.GeneralName:
    """Return `name`, a DNS name or address, as a subjectAltName holds it."""
    from cryptography import x509

    return x509.IPAddress(ipaddress.ip_address(name)) if is_address(name) else x509.DNSName(name)
