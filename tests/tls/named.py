"""Certificates of any names at all, also of those no CA should sign."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

_KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
_NOW = datetime.datetime.now(datetime.UTC)
_SUBJECT_ALTERNATIVE_NAME = ObjectIdentifier("2.5.29.17")


@dataclass(frozen=True)
class Names:
    """What a certificate is made out to; DNS entries in any characters, as a careless CA would sign them."""

    dns: tuple[str | bytes, ...] = ()
    addresses: tuple[str, ...] = ()
    common: str = "somebody"

    def der(self) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common)])
        builder = x509.CertificateBuilder(
            name, name, _KEY.public_key(), 1, _NOW - datetime.timedelta(1), _NOW + datetime.timedelta(1)
        )
        entries = b"".join(_tlv(0x82, _encoded(dns)) for dns in self.dns)
        entries += b"".join(_tlv(0x87, ipaddress.ip_address(a).packed) for a in self.addresses)
        if entries:
            extension = x509.UnrecognizedExtension(_SUBJECT_ALTERNATIVE_NAME, _tlv(0x30, entries))
            builder = builder.add_extension(extension, False)
        return builder.sign(_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _encoded(dns: str | bytes) -> bytes:
    return dns if isinstance(dns, bytes) else dns.encode()


def _tlv(tag: int, value: bytes) -> bytes:
    assert len(value) < 0x100
    return bytes([tag, 0x81, len(value)] if len(value) > 0x7F else [tag, len(value)]) + value
