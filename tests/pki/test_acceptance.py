from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.pki.acceptance import key_kind, pair_fault, trust_fault
from tests.support.pki import make_identity

from .conftest import openssl


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory):
    return make_identity(tmp_path_factory.mktemp("acceptance"), "one")


def test_what_loads_has_no_fault(one, tmp_path: Path):
    assert pair_fault(one.cert, one.key) is None
    assert trust_fault(one.cert) is None
    weak = make_identity(tmp_path, "weak", ec_key=False, key_size=1024, valid=(-20, -10))
    assert pair_fault(weak.cert, weak.key) is None, "neither strength nor dates hinder loading"


def test_the_fix_of_an_encrypted_key_makes_one_that_loads(one, tmp_path: Path):
    import shlex
    import subprocess

    key = tmp_path / "a key.pem"
    openssl("pkey", "-in", one.key, "-aes256", "-passout", "pass:secret", "-out", key)
    fault = pair_fault(one.cert, key)
    assert fault is not None
    assert fault.code == "key-encrypted"
    command = fault.fix.split("`")[1].replace("openssl pkey", "openssl pkey -passin pass:secret")
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)
    made = Path(shlex.split(command.rstrip(")"))[-1])
    assert pair_fault(one.cert, made) is None
    assert made.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("form", ["DER", "PKCS7", "UTF-16"])
def test_the_fix_of_trust_makes_a_file_that_loads(form: str, one, tmp_path: Path):
    import shlex

    from tests.support import cli

    path = tmp_path / "trust.crt"
    if form == "DER":
        path.write_bytes(one.der)
    elif form == "PKCS7":
        openssl("crl2pkcs7", "-nocrl", "-certfile", one.cert, "-out", path)
    else:
        path.write_bytes(one.pem.encode("utf-16"))
    fault = trust_fault(path)
    assert fault is not None
    words = shlex.split(fault.fix.split("`")[1])
    assert cli.run(*words[1:]).exit_code == 0
    assert trust_fault(Path(words[-1])) is None


def test_kinds_of_keys(one, tmp_path: Path):
    assert key_kind(one.der) == "EC"
    assert key_kind(make_identity(tmp_path, "rsa", ec_key=False).der) == "RSA"
    assert key_kind(b"\x30\x00") == ""
    openssl(
        "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", tmp_path / "k", "-subj", "/CN=a",
        "-outform", "DER", "-out", tmp_path / "ed.der",
    )  # fmt: skip
    assert key_kind((tmp_path / "ed.der").read_bytes()) == "ED25519"


@given(data=st.data())
def test_any_bytes_are_judged(one, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    """Whatever OpenSSL refuses gets words, and nothing raises."""
    folder = tmp_path_factory.getbasetemp()
    good = data.draw(st.sampled_from([one.pem.encode(), one.key.read_bytes(), one.der, b""]))
    at = data.draw(st.integers(0, len(good)))
    noise = data.draw(
        st.binary(max_size=20) | st.sampled_from([b"-----BEGIN CERTIFICATE-----", b"\n\n", b"\0"])
    )
    path = folder / "damaged"
    path.write_bytes(good[:at] + noise + good[at + data.draw(st.integers(0, 20)) :])
    for fault in (pair_fault(path, one.key), pair_fault(one.cert, path), trust_fault(path)):
        if fault is not None:
            assert fault.text
            assert fault.fix
