"""Certificates that are not ours: made by trustme and OpenSSL's command line."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)  # a busy machine is not a slow parser
settings.load_profile("no-deadline")


@dataclass(frozen=True)
class Foreign:
    """A leaf certificate of a trustme CA, its CA, and its key (RSA) in the forms keys come in."""

    cert_pem: bytes
    ca_pem: bytes
    key_pem: bytes

    @property
    def cert_der(self) -> bytes:
        return x509.load_pem_x509_certificate(self.cert_pem).public_bytes(Encoding.DER)

    @property
    def ca_der(self) -> bytes:
        return x509.load_pem_x509_certificate(self.ca_pem).public_bytes(Encoding.DER)

    def key(
        self,
        encoding: Encoding = Encoding.PEM,
        form: PrivateFormat = PrivateFormat.PKCS8,
        passphrase: bytes | None = None,
    ) -> bytes:
        key = serialization.load_pem_private_key(self.key_pem, None)
        encryption = (
            NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
        )
        return key.private_bytes(encoding, form, encryption)


def _make(kind: trustme.KeyType) -> Foreign:
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost", "127.0.0.1", key_type=kind)
    return Foreign(leaf.cert_chain_pems[0].bytes(), ca.cert_pem.bytes(), leaf.private_key_pem.bytes())


@pytest.fixture(scope="session")
def foreign() -> Foreign:
    return _make(trustme.KeyType.RSA)


@pytest.fixture(scope="session")
def other() -> Foreign:
    return _make(trustme.KeyType.ECDSA)


@pytest.fixture
def put(tmp_path: Path):
    """Write a file into the test's directory and return its path."""

    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write


def openssl(*words: str | Path) -> str:
    """Run OpenSSL's command line; a failure fails the test with what it said."""
    run = subprocess.run(
        ["openssl", *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr + run.stdout
    return run.stdout
