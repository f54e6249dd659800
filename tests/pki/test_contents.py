from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import InputError
from dicomtls_cli.pki import der
from dicomtls_cli.pki.contents import Kind, parse_contents

from .conftest import Foreign, openssl

HERE = Path("file.pem")


def parse(data: bytes):
    return parse_contents(data, HERE)


def damaged(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        parse(data)
    assert caught.value.slug == "pem.damaged"
    assert "`file.pem`" in caught.value.message
    return caught.value.message


class TestPem:
    def test_plain(self, foreign: Foreign):
        found = parse(foreign.cert_pem + foreign.ca_pem)
        assert found.certificates == (foreign.cert_der, foreign.ca_der)
        assert found.openssl_ready

    @pytest.mark.parametrize("label", [b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"])
    def test_other_labels(self, foreign: Foreign, label):
        found = parse(foreign.cert_pem.replace(b" CERTIFICATE", b" " + label))
        assert found.certificates == (foreign.cert_der,)

    def test_openssl_trusted_certificate_loses_its_trailer(self, foreign: Foreign, put):
        path = put("c.pem", foreign.cert_pem)
        trusted = openssl("x509", "-in", path, "-trustout", "-addtrust", "serverAuth", "-setalias", "me")
        assert "TRUSTED" in trusted
        assert parse(trusted.encode()).certificates == (foreign.cert_der,)

    @pytest.mark.parametrize(
        ("change", "ready"),
        [
            (lambda pem: pem.replace(b"\n", b"\r\n"), True),
            (lambda pem: b"subject=/CN=x\n\n" + pem + b"the end", True),
            (lambda pem: pem.rstrip(b"\n"), True),
            (lambda pem: pem.replace(b"\n", b"\r"), False),
            (lambda pem: b"\xef\xbb\xbf" + pem, False),
            (lambda pem: pem.decode().encode("utf-16"), False),
            (lambda pem: b"\xfe\xff" + pem.decode().encode("utf-16-be"), False),
            (lambda pem: b"  " + pem.replace(b"\n", b"\n  "), False),
            (lambda pem: pem.replace(b"\n", b" "), False),
            (lambda pem: b"here: " + pem, False),
            (lambda pem: pem.replace(b"\n", b"\n\n"), False),
            (lambda pem: b"\0\n" + pem, False),
            (lambda pem: pem.replace(b"\n", b"  \n"), True),
            (lambda pem: b"#" * 1000 + b"\n" + pem, True),
            (lambda pem: b"Bag Attributes\n    localKeyID: 01\n" + pem, True),
        ],
    )
    def test_layouts_from_the_field(self, foreign: Foreign, put, change, ready):
        data = change(foreign.cert_pem)
        found = parse(data)
        assert found.certificates == (foreign.cert_der,)
        assert found.openssl_ready == ready
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ready:
            context.load_verify_locations(cafile=put("c.pem", data))
            assert context.cert_store_stats()["x509"] == 1

    def test_missing_newline_between_blocks(self, foreign: Foreign, other: Foreign):
        found = parse(foreign.cert_pem.rstrip(b"\n") + other.cert_pem)
        assert found.certificates == (foreign.cert_der, other.cert_der)
        assert not found.openssl_ready

    def test_cut_off_in_the_middle(self, foreign: Foreign):
        assert "has no END line" in damaged(foreign.ca_pem + foreign.cert_pem[:200])
        assert "stands where none can be" in damaged(foreign.cert_pem[:200] + b"\n" + foreign.ca_pem)
        assert "stands where none can be" in damaged(foreign.cert_pem[100:])
        assert "`-----END X-----`" in damaged(foreign.cert_pem.replace(b"END CERTIFICATE", b"END X"))

    def test_not_base64_and_not_der_inside(self, foreign: Foreign):
        assert "not base64" in damaged(foreign.cert_pem.replace(b"MI", b"M!", 1))
        assert "not DER" in damaged(foreign.cert_pem.replace(b"MI", b"AA", 1))
        assert "not DER" in damaged(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")

    def test_a_damaged_block_that_is_no_certificate_does_not_matter(self, foreign: Foreign):
        junk = b"-----BEGIN DH PARAMETERS-----\n???\n-----END DH PARAMETERS-----\n"
        assert parse(junk + foreign.cert_pem).certificates == (foreign.cert_der,)
        assert parse(junk).main_kind is Kind.OTHER

    def test_a_file_full_of_markers_is_read_in_one_pass(self):
        damaged(b"-----BEGIN CERTIFICATE-----\n" * 300_000)


class TestKinds:
    def test_empty(self):
        for data in (b"", b"\n\n", b" \t\r\n"):
            assert parse(data).main_kind is Kind.EMPTY

    def test_unknown(self):
        for data in (
            b"0",
            b"0\x80",
            b"0\x84\xff\xff\xff\xff",
            b"hello",
            bytes(1000),
            b"\xef\xbb\xbf",
            b"0\0",
        ):
            assert parse(data).main_kind is Kind.UNKNOWN

    def test_dicom_and_java(self):
        assert parse(bytes(128) + b"DICM" + bytes(20)).main_kind is Kind.DICOM
        assert parse(b"\xfe\xed\xfe\xed\0\0\0\x02").main_kind is Kind.JAVA_KEYSTORE

    def test_der_certificate(self, foreign: Foreign):
        for trailer in (b"", b"\n", b"\0\0"):
            found = parse(foreign.cert_der + trailer)
            assert found.certificates == (foreign.cert_der,)
            assert not found.openssl_ready
        assert parse(foreign.cert_der + b"x").main_kind is Kind.UNKNOWN
        assert parse(foreign.cert_der[:-1]).main_kind is Kind.UNKNOWN

    @pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
    @pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
    def test_keys(self, foreign: Foreign, other: Foreign, encoding, form):
        for pair in (foreign, other):
            assert parse(pair.key(encoding, form)).main_kind is Kind.PRIVATE_KEY

    def test_encrypted_keys(self, foreign: Foreign):
        for encoding in (Encoding.PEM, Encoding.DER):
            assert parse(foreign.key(encoding, passphrase=b"x")).main_kind is Kind.ENCRYPTED_KEY
        old = foreign.key(form=PrivateFormat.TraditionalOpenSSL, passphrase=b"x")
        assert b"Proc-Type" in old
        assert parse(old).main_kind is Kind.ENCRYPTED_KEY

    def test_ec_parameters_before_the_key(self, put):
        path = put("k.pem", openssl("ecparam", "-name", "prime256v1", "-genkey").encode())
        found = parse(path.read_bytes())
        assert [item.kind for item in found.items] == [Kind.OTHER, Kind.PRIVATE_KEY]
        assert found.main_kind is Kind.PRIVATE_KEY

    @pytest.mark.parametrize("form", ["PEM", "DER"])
    def test_what_openssl_makes(self, foreign: Foreign, put, tmp_path, form):
        key, cert = put("k.pem", foreign.key_pem), put("c.pem", foreign.cert_pem)
        out = tmp_path / "out"
        made = {
            Kind.REQUEST: ("req", "-new", "-key", key, "-subj", "/CN=x", "-outform", form),
            Kind.PUBLIC_KEY: ("pkey", "-in", key, "-pubout", "-outform", form),
            Kind.PKCS7: ("crl2pkcs7", "-nocrl", "-certfile", cert, "-outform", form),
            Kind.CERTIFICATE: ("x509", "-in", cert, "-outform", form),
        }
        for kind, words in made.items():
            openssl(*words, "-out", out)
            assert parse(out.read_bytes()).main_kind is kind
        openssl("rsa", "-in", key, "-RSAPublicKey_out", "-outform", form, "-out", out)
        assert parse(out.read_bytes()).main_kind is Kind.PUBLIC_KEY

    def test_pkcs12(self, foreign: Foreign, put, tmp_path):
        key, cert = put("k.pem", foreign.key_pem), put("c.pem", foreign.cert_pem)
        openssl(
            "pkcs12", "-export", "-inkey", key, "-in", cert, "-passout", "pass:", "-out", tmp_path / "p12"
        )
        assert parse((tmp_path / "p12").read_bytes()).main_kind is Kind.PKCS12

    def test_crl(self):
        import datetime

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        now = datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")]))
            .last_update(now)
            .next_update(now)
            .sign(key, hashes.SHA256())
        )
        for encoding in (Encoding.PEM, Encoding.DER):
            assert parse(crl.public_bytes(encoding)).main_kind is Kind.CRL

    def test_version_1_certificate(self, foreign: Foreign, put, tmp_path):
        key, csr = put("k.pem", foreign.key_pem), tmp_path / "csr"
        openssl("req", "-new", "-key", key, "-subj", "/CN=x", "-out", csr)
        openssl("x509", "-req", "-in", csr, "-signkey", key, "-outform", "DER", "-out", tmp_path / "v1")
        assert parse((tmp_path / "v1").read_bytes()).main_kind is Kind.CERTIFICATE

    def test_openssh(self):
        body = base64.b64encode(b"openssh-key-v1\0")
        pem = b"-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n-----END OPENSSH PRIVATE KEY-----\n" % body
        assert parse(pem).main_kind is Kind.OPENSSH_KEY

    def test_no_data_in_the_repr(self, foreign: Foreign):
        assert "MII" not in repr(parse(foreign.key_pem))


@given(st.binary(max_size=300) | st.text("-BEGINDCRTF \n", max_size=300).map(str.encode))
def test_arbitrary_bytes_raise_only_our_error(data: bytes):
    try:
        found = parse_contents(data, HERE)
    except InputError:
        return
    assert found.items


@given(st.binary(max_size=40))
def test_arbitrary_elements_have_a_shape(data: bytes):
    for element in (data, b"\x30" + bytes([len(data)]) + data):
        der.shape(element)


JUNK = st.binary(max_size=60).filter(lambda b: b"-" not in b and not b.startswith((b"\xff", b"\xfe", b"0")))


@given(before=JUNK, between=JUNK, after=JUNK)
def test_junk_around_blocks_changes_nothing(foreign: Foreign, other: Foreign, before, between, after):
    data = before + foreign.cert_pem.strip() + between + other.cert_pem.strip() + after
    assert parse_contents(data, HERE).certificates == (foreign.cert_der, other.cert_der)


@given(cut=st.integers(min_value=1, max_value=5000))
def test_a_cut_file_never_yields_a_wrong_certificate(foreign: Foreign, cut):
    data = (foreign.cert_pem + foreign.ca_pem)[:-cut]
    try:
        found = parse_contents(data, HERE)
    except InputError:
        return
    assert found.certificates in ((foreign.cert_der,), (foreign.cert_der, foreign.ca_der), ())
