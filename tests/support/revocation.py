"""Revocation lists of the tests, made by `cryptography`, right and wrong in many ways."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.pki import DAY, Identity


def make_crl(
    path: Path,
    issuer: Identity,
    *revoked: Identity,
    valid: tuple[float, float | None] = (-1, 30),
    signer: Identity | None = None,
    serials: Sequence[int] = (),
    hashed: hashes.HashAlgorithm | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    entry_extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Path:
    """Write the list of `issuer`, in force from and to `valid` (days), DER if `path` ends in .der, else PEM.

    `signer` signs it in place of `issuer`; `serials` are revoked too.
    """
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(now + valid[0] * DAY)
    builder = builder.next_update(now + (valid[1] or 1) * DAY)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for serial in (*(one.certificate.serial_number for one in revoked), *serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - 2 * DAY)
        for extension, critical in entry_extensions:
            entry = entry.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(entry.build())
    crl = builder.sign((signer or issuer).private_key, hashed or hashes.SHA256())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(crl.public_bytes(Encoding.DER if path.suffix == ".der" else Encoding.PEM))
    return path
