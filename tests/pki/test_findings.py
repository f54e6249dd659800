from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from dicomtls_cli.pki.bundle import collect, describe
from dicomtls_cli.pki.findings import find
from dicomtls_cli.pki.generate import generate
from tests.support.pki import Identity, make_identity

from .conftest import openssl


def codes(*identities: Identity, **options: object) -> list[str]:
    return [one.code for one in find([describe(one.der) for one in identities], **options)]  # type: ignore[arg-type]


def test_ours_are_in_order(put):
    paths = [put(f"{name}.crt", generate("same", key_type="p256").certificate) for name in ("a", "b")]
    assert find(collect(paths).certificates) == []


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, []),
        ({"valid": (-20, -10)}, ["expired"]),
        ({"valid": (10, 90)}, ["not-yet-valid"]),
        ({"valid": (-10, 20)}, ["expires-soon"]),
        ({"ec_key": False, "key_size": 1024}, ["weak-key"]),
        ({"usages": (ExtendedKeyUsageOID.SERVER_AUTH,)}, ["wrong-eku"]),
        ({"usages": (ExtendedKeyUsageOID.EMAIL_PROTECTION,)}, ["wrong-eku", "wrong-eku"]),
        ({"usages": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}, ["wrong-eku", "wrong-eku"]),
        ({"usages": ()}, []),
        ({"ca": True}, []),
        ({"ca": True, "key_usage": False}, ["ca-true"]),
    ],
)
def test_one_fault(options, found, tmp_path: Path):
    assert codes(make_identity(tmp_path, "a", **{"valid": (-1, 60), **options})) == found


def test_the_days_are_counted_from_now(tmp_path: Path):
    one = make_identity(tmp_path, "a", valid=(-1, 60))
    assert codes(one, warn_days=61) == ["expires-soon"]
    assert codes(one, now=datetime.now(UTC) + timedelta(days=31)) == ["expires-soon"]
    assert codes(one, now=datetime.now(UTC) + timedelta(days=61)) == ["expired"]


def test_a_leaf_needs_its_ca(tmp_path: Path):
    ca = make_identity(tmp_path, "ca", subject="ca", ca=True, valid=(-1, 60))
    leaf = make_identity(tmp_path, "leaf", issuer=ca, valid=(-1, 60))
    impostor = make_identity(tmp_path, "impostor", subject="ca", ca=True, valid=(-1, 60))
    assert codes(leaf) == ["ca-absent"]
    assert codes(ca, leaf) == codes(leaf, ca) == []
    assert codes(impostor, leaf) == ["ca-absent"], "the same name is not the same key"


def test_weak_signatures_and_equal_subjects(tmp_path: Path):
    """As OpenSSL's command makes them; `cryptography` does not sign with SHA-1, nor leave identifiers out."""
    made = []
    for name in ("a", "b"):
        cert = tmp_path / f"{name}.crt"
        openssl(
            "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-keyout", tmp_path / "k", "-out", cert, "-sha1",
            "-subj", "/CN=localhost", "-days", "60", "-addext", "basicConstraints=CA:FALSE",
            "-addext", "subjectKeyIdentifier=none", "-addext", "authorityKeyIdentifier=none",
        )  # fmt: skip
        made.append(cert)
    assert [one.code for one in find(collect(made).certificates)] == ["weak-signature", "same-subject"] * 2
    assert [one.code for one in find(collect(made[:1]).certificates)] == ["weak-signature"]


def test_what_cannot_be_parsed_is_a_finding():
    (found,) = find([describe(b"0\x03\x02\x01\x01")])
    assert found.code == "unreadable"
