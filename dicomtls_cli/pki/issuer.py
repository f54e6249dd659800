"""Who issued a certificate, and whose key is whose: decided by signatures and keys, not by names alone."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether `issuer` signed `certificate`, by name and by signature, whatever the hash.

    Both may be a stranger's: every way in which they can be odd means no.
    """
    with suppress(Exception):
        if certificate.issuer != issuer.subject:
            return False
        _verify(certificate, issuer.public_key())
        return True
    return False


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Tell whether `certificate` is signed by its own key."""
    return issued_by(certificate, certificate)


def _verify(certificate: x509.Certificate, key: PublicKeyTypes) -> None:
    # Not by `verify_directly_issued_by`, which raises for SHA-1 and MD5: whether these prove anything is
    # another question than who signed.
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    hashed, parameters = certificate.signature_hash_algorithm, certificate.signature_algorithm_parameters
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        key.verify(signature, signed)
        return
    if hashed is None:
        raise ValueError("the signature names no hash")
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, parameters, hashed)  # type: ignore[arg-type]
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, signed, ec.ECDSA(hashed))
    elif isinstance(key, dsa.DSAPublicKey):
        key.verify(signature, signed, hashed)
    else:
        raise TypeError("a key that signs nothing")


def key_digest(key: PublicKeyTypes) -> bytes:
    """Return the SHA-256 digest of a public key, as RFC 5280 writes it: equal for one key wherever it is found."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def private_key_digest(key: PrivateKeyTypes) -> bytes:
    """Return the digest of the public half of a private key; see `key_digest`."""
    return key_digest(key.public_key())


def certificate_key_digest(der: bytes) -> bytes | None:
    """Return the digest of the public key in the certificate `der`; None if it cannot be parsed."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return key_digest(x509.load_der_x509_certificate(der).public_key())
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None
