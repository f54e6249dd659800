"""Kinds of key and ways to sign, in words."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomtls_cli.pki.issuer import key_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


class KeyFacts(NamedTuple):
    """A public key, or the public half of a private one: its kind, its bits, its digest.

    `kind` is `RSA`, `DSA`, `EC`, `Ed25519`, `Ed448` or the class of another; `curve` is for EC only. `digest`
    is the SHA-256 of the key itself: equal for the certificate, the key and the request that belong together.
    """

    kind: str
    bits: int
    curve: str = ""
    digest: bytes = b""

    def __str__(self) -> str:
        if self.curve:
            return f"{self.kind} {self.curve}, {self.bits} bits"
        return self.kind if self.kind.startswith("Ed") else f"{self.kind}, {self.bits} bits"


class SignatureFacts(NamedTuple):
    """With what something is signed: in words, and the hash alone (`sha256`; "" where it is part of the scheme)."""

    text: str
    hash: str


def describe_key(key: PublicKeyTypes) -> KeyFacts:
    """Return what kind of key `key` is."""
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

    digest = key_digest(key)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return KeyFacts("EC", key.key_size, _CURVES.get(key.curve.name, key.curve.name), digest)
    bits = getattr(key, "key_size", 0)
    for kind, name, size in (
        (rsa.RSAPublicKey, "RSA", bits),
        (dsa.DSAPublicKey, "DSA", bits),
        (ed25519.Ed25519PublicKey, "Ed25519", 256),
        (ed448.Ed448PublicKey, "Ed448", 456),
    ):
        if isinstance(key, kind):
            return KeyFacts(name, size, "", digest)
    return KeyFacts(type(key).__name__.removesuffix("PublicKey"), bits, "", digest)


def describe_signature(signed: Any) -> SignatureFacts:
    """Return with what a certificate, request or list of `cryptography` is signed."""
    from cryptography.exceptions import UnsupportedAlgorithm

    oid = signed.signature_algorithm_oid.dotted_string
    name = ""
    with suppress(ValueError, UnsupportedAlgorithm):
        name = "" if signed.signature_hash_algorithm is None else signed.signature_hash_algorithm.name
    scheme = _SCHEMES.get(oid)
    if scheme is None:
        return SignatureFacts(f"unknown ({oid})", name)
    return SignatureFacts(f"{_HASHES.get(name, name.upper())} with {scheme}" if name else scheme, name)


_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp224r1": "P-224"}
_HASHES = {
    "sha1": "SHA-1",
    "sha224": "SHA-224",
    "sha256": "SHA-256",
    "sha384": "SHA-384",
    "sha512": "SHA-512",
}
_SCHEMES = {
    **{f"1.2.840.113549.1.1.{n}": "RSA" for n in (2, 4, 5, 11, 12, 13, 14, 15, 16)},
    "1.2.840.113549.1.1.10": "RSA-PSS",
    "1.2.840.10045.4.1": "ECDSA",
    **{f"1.2.840.10045.4.3.{n}": "ECDSA" for n in (1, 2, 3, 4)},
    **{f"2.16.840.1.101.3.4.3.{n}": "ECDSA" for n in (9, 10, 11, 12)},
    **{f"2.16.840.1.101.3.4.3.{n}": "RSA" for n in (13, 14, 15, 16)},
    "1.2.840.10040.4.3": "DSA",
    "2.16.840.1.101.3.4.3.2": "DSA",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
}
