"""PKCS#12 and PKCS#7, made by OpenSSL's command line, by Java's keytool and by `cryptography`."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomtls_cli.errors import InputError
from dicomtls_cli.material import Prompt
from dicomtls_cli.pki.contents import Kind, parse_contents
from dicomtls_cli.pki.der import greatest_iterations
from dicomtls_cli.pki.keystore import opened
from dicomtls_cli.pki.load import key_pair, load_trust

from .conftest import Foreign, openssl
from .test_load import Asked, load, refused

MODERN: tuple[str, ...] = ()
RC2 = ("-legacy",)
TRIPLE_DES = ("-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1")


def der_sequence(*elements: bytes) -> bytes:
    content = b"".join(elements)
    return bytes([0x30, len(content)]) + content


@pytest.fixture
def export(foreign: Foreign, put, tmp_path):
    """Let OpenSSL write a key store with the chain of `foreign`, as people do."""
    key, chain = put("k.pem", foreign.key_pem), put("c.pem", foreign.cert_pem + foreign.ca_pem)

    def make(*words: str | Path, password: str = "") -> Path:
        out = tmp_path / f"store-{len(list(tmp_path.iterdir()))}.p12"
        openssl(
            "pkcs12", "-export", "-inkey", key, "-in", chain, *words, "-passout", f"pass:{password}", "-out", out
        )  # fmt: skip
        return out

    return make


class TestKeyStore:
    @pytest.mark.parametrize("how", [MODERN, RC2, TRIPLE_DES], ids=["modern", "rc2", "3des"])
    def test_openssls_with_the_usual_passwords_or_a_given_one(self, export, how):
        for password in ("", "secret"):
            load(export(*how, password=password))
        asked = Asked(b"pass w\xc3\xb6rd")
        load(export(*how, password="pass wörd"), passphrase=asked)
        assert asked.times == 1

    def test_the_chain_is_shown_and_nothing_else(self, export, foreign: Foreign, other: Foreign, put):
        store = export("-certfile", put("more.pem", other.cert_pem + other.ca_pem))
        with key_pair(store) as pair:
            shown = Path(pair.cert_file).read_text()
        assert shown == "".join(map(ssl.DER_cert_to_PEM_cert, (foreign.cert_der, foreign.ca_der)))
        assert set(load_trust([store]).anchors) == {
            foreign.cert_der, foreign.ca_der, other.cert_der, other.ca_der
        }  # fmt: skip

    def test_key_and_certificate_may_be_apart(self, export, foreign: Foreign, put):
        store = export(password="secret")
        load(put("a.crt", foreign.cert_pem), store)
        load(store, put("a.key", foreign.key(passphrase=b"secret")), lambda: b"secret")

    def test_a_given_password_is_the_only_one_tried(self, export):
        refused("store.wrong-password", load, export(password=""), passphrase=lambda: b"secret")
        refused("store.wrong-password", load, export(password="secret"), passphrase=lambda: b"")

    def test_a_person_is_asked_last_and_once(self, export):
        prompt = Asked(b"x")
        load(export(password="secret"), passphrase=Prompt(prompt))
        assert prompt.times == 0
        store, asked = export(password="x"), Prompt(prompt)
        load(store, passphrase=asked)
        load(store, passphrase=asked)
        assert prompt.times == 1

    def test_refusals(self, export, put):
        locked = export(password="other")
        refused("store.locked", load, locked)
        assert str(locked) in refused("store.wrong-password", load, locked, passphrase=lambda: b"x").message
        refused("key.passphrase-too-long", load, locked, passphrase=lambda: b"x" * 1024)
        refused("store.damaged", load, put("cut.p12", locked.read_bytes()[:-10] + bytes(10)))
        refused("key.not-given", load, export("-nokeys"))

    def test_how_often_a_key_is_derived_is_capped(self, export, put):
        data = export("-iter", "300000", password="secret").read_bytes()
        assert greatest_iterations(data) == 300_000
        assert greatest_iterations(export(*RC2, password="secret").read_bytes()) == 2048
        load(put("slow.p12", data))
        key = der_sequence(b"\x04\x08saltsalt", b"\x02\x04\x7f\xff\xff\xff")
        store = der_sequence(b"\x02\x01\x03", der_sequence(), der_sequence(der_sequence(), key))
        error = refused("store.iterations", load_trust, [put("hostile.p12", store)])
        assert "2147483647" in error.message

    @pytest.mark.interop
    def test_keytools_with_two_keys(self, tmp_path, caplog):
        keytool = shutil.which("keytool") or pytest.skip("there is no keytool")
        store = tmp_path / "java.p12"
        for alias in ("one", "two"):
            subprocess.run(
                [keytool, "-genkeypair", "-alias", alias, "-keyalg", "EC", "-dname", f"CN={alias}", "-storetype",
                 "PKCS12", "-keystore", store, "-storepass", "changeit"],
                check=True, capture_output=True,
            )  # fmt: skip
        load(store, passphrase=lambda: b"changeit")
        assert "holds 2 private keys; the first is used" in caplog.text
        assert len(load_trust([store], password=lambda: b"changeit").anchors) == 2

    @pytest.mark.parametrize("how", [RC2, MODERN], ids=["rc2", "modern"])
    def test_without_openssls_legacy_provider(self, export, how):
        store = export(*how, password="secret")
        program = (
            "import pathlib\nfrom dicomtls_cli.errors import InputError\nfrom dicomtls_cli.pki.load import load_trust\n"
            f"try:\n print(len(load_trust([pathlib.Path({str(store)!r})]).anchors))\n"
            "except InputError as error:\n print(error.slug)\n"
        )
        run = subprocess.run(
            [sys.executable, "-B", "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"},
        )  # fmt: skip
        assert run.stdout == ("store.unsupported\n" if how is RC2 else "2\n")

    def test_the_key_never_touches_a_disk_and_never_lies_open(self, export, tmp_path, monkeypatch):
        store = export(password="secret")
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with key_pair(store) as pair:
            assert Path(pair.key_file).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            if hasattr(os, "memfd_create"):
                assert sorted(tmp_path.rglob("*")) == before
        assert sorted(tmp_path.rglob("*")) == before


class TestTrustStore:
    def test_openssls_javas_and_cryptographys(self, export, foreign: Foreign, other: Foreign, put):
        assert load_trust([export("-nokeys")]).anchors == (foreign.cert_der, foreign.ca_der)
        anchors = [pkcs12.PKCS12Certificate(x509.load_der_x509_certificate(other.ca_der), b"ca")]
        java = pkcs12.serialize_java_truststore(anchors, serialization.NoEncryption())
        assert load_trust([put("java.p12", java)]).anchors == (other.ca_der,)

    def test_a_private_key_in_it_is_warned_of(self, export, foreign: Foreign, caplog):
        assert load_trust([export()]).anchors == (foreign.cert_der, foreign.ca_der)
        assert "also holds a private key" in caplog.text

    def test_password(self, export):
        store = export("-nokeys", password="pw")
        refused("store.locked", load_trust, [store])
        assert len(load_trust([store], password=lambda: b"pw").anchors) == 2
        assert len(load_trust([], [store], password=lambda: b"pw").authorities) == 2


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_pkcs7(foreign: Foreign, put, tmp_path, form):
    chain, out = put("c.pem", foreign.cert_pem + foreign.ca_pem), tmp_path / "d" / "chain.P7B"
    out.parent.mkdir()
    openssl("crl2pkcs7", "-nocrl", "-certfile", chain, "-outform", form, "-out", out)
    for named in (out, out.parent):
        assert set(load_trust([named]).anchors) == {foreign.cert_der, foreign.ca_der}
    load(out, put("a.key", foreign.key_pem))
    refused("key.is-certificate", load, chain, out)
    openssl("crl2pkcs7", "-nocrl", "-outform", form, "-out", out)
    refused("store.pkcs7", load_trust, [out])


@pytest.fixture(scope="module")
def store(foreign: Foreign) -> bytes:
    key = serialization.load_pem_private_key(foreign.key_pem, None)
    certificate = x509.load_pem_x509_certificate(foreign.cert_pem)
    return pkcs12.serialize_key_and_certificates(
        b"x", key, certificate, None, serialization.BestAvailableEncryption(b"secret")
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4), kept=st.floats(0.9, 1)
)
def test_a_damaged_store_is_opened_or_an_error_of_ours(store: bytes, changes, kept):
    damaged = bytearray(store[: int(len(store) * kept)])
    for at, value in changes:
        damaged[int(at * len(damaged))] = value
    with contextlib.suppress(InputError):
        found = opened(parse_contents(bytes(damaged), Path("x.p12")))
        assert all(item.kind is not Kind.PKCS12 for item in found.items)
