from __future__ import annotations

import hashlib
import logging
import os
import ssl
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from dicomtls_cli.errors import DicomTlsError, InputError
from dicomtls_cli.pki.load import key_pair, load_trust, read_passphrase
from tests.support.rights import ordinary_rights

from .conftest import Foreign, openssl


def refused(slug: str, call, *args, **kwargs) -> DicomTlsError:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert caught.value.slug == slug
    assert caught.value.hint
    assert caught.value.exit_code == 3
    return caught.value


class TestTrust:
    def test_pem_and_der_in_order_and_once(self, foreign: Foreign, other: Foreign, put):
        pem = put("a.pem", foreign.cert_pem + foreign.ca_pem + foreign.cert_pem)
        der = put("b.cer", other.ca_der)
        trust = load_trust([pem, der, pem])
        assert trust.anchors == (foreign.cert_der, foreign.ca_der, other.ca_der)
        assert trust.authorities == frozenset()
        assert not trust.system
        assert hashlib.sha256(other.ca_der).digest() in trust.pins

    def test_authorities_are_anchors_too(self, foreign: Foreign, other: Foreign, put):
        trust = load_trust([put("a", foreign.cert_pem)], [put("b", other.ca_pem)], system=True)
        assert trust.anchors == (foreign.cert_der, other.ca_der)
        assert trust.authorities == {hashlib.sha256(other.ca_der).digest()}
        assert trust.system

    def test_nothing_is_empty_trust(self):
        assert load_trust([]).anchors == ()

    def test_directory(self, foreign: Foreign, other: Foreign, put, tmp_path):
        put("d/b.CRT", foreign.cert_pem)
        put("d/a.pem", other.cert_pem)
        put("d/c.der", foreign.ca_der)
        put("d/d.cer", other.ca_pem)
        put("d/.hidden.pem", b"garbage")
        put("d/own.key", foreign.key_pem)
        put("d/README", b"garbage")
        (tmp_path / "d" / "sub.crt").mkdir()
        trust = load_trust([tmp_path / "d"])
        assert trust.anchors == (other.cert_der, foreign.cert_der, foreign.ca_der, other.ca_der)

    def test_directory_without_certificates(self, put, tmp_path):
        put("d/README", b"x")
        assert str(tmp_path / "d") in refused("trust.empty-directory", load_trust, [tmp_path / "d"]).message

    def test_a_bad_file_in_a_directory_is_named(self, foreign: Foreign, put, tmp_path):
        put("d/a.pem", foreign.cert_pem)
        put("d/b.pem", b"")
        assert "`" + str(tmp_path / "d" / "b.pem") + "` is empty" in (
            refused("trust.empty", load_trust, [tmp_path / "d"]).message
        )
        (tmp_path / "d" / "b.pem").unlink()
        (tmp_path / "d" / "c.pem").symlink_to("nowhere")
        refused("file.missing", load_trust, [tmp_path / "d"])

    def test_a_key_among_the_certificates_is_left_out_and_warned_of(self, foreign: Foreign, put, caplog):
        path = put("a.pem", foreign.key_pem + foreign.cert_pem)
        with caplog.at_level(logging.WARNING, "dicomtls.pki"):
            assert load_trust([path]).anchors == (foreign.cert_der,)
        assert "also holds a private key" in caplog.text
        assert str(path) in caplog.text

    @pytest.mark.parametrize(
        ("data", "slug", "word"),
        [
            (lambda f: b"", "trust.empty", "is empty"),
            (lambda f: b" \n", "trust.empty", "is empty"),
            (lambda f: b"hello", "trust.not-a-certificate", "neither PEM nor DER"),
            (lambda f: bytes(128) + b"DICM", "trust.not-a-certificate", "a DICOM file"),
            (lambda f: f.key_pem, "trust.is-key", "a private key"),
            (lambda f: f.key(Encoding.DER), "trust.is-key", "a private key"),
            (lambda f: f.key(passphrase=b"x"), "trust.is-key", "an encrypted private key"),
            (lambda f: f.cert_pem[:300], "pem.damaged", "no END line"),
            (lambda f: f.cert_pem.replace(b"MI", b"M?", 1), "pem.damaged", "base64"),
            (lambda f: corrupted(f.cert_der), "trust.damaged", "certificate 1"),
            (lambda f: f.ca_pem + pem(corrupted(f.cert_der)), "trust.damaged", "certificate 2"),
            (lambda f: b"\xfe\xed\xfe\xed\0\0\0\2", "trust.is-jks", "Java"),
            (lambda f: b"-----BEGIN DH PARAMETERS-----\nMA==\n-----END DH PARAMETERS-----\n",
             "trust.not-a-certificate", "another kind of PEM block"),
        ],
    )  # fmt: skip
    def test_bad_files_are_told_for_what_they_are(
        self, foreign: Foreign, other: Foreign, put, data, slug, word
    ):
        good, bad = put("good.pem", other.cert_pem), put("bad.pem", data(foreign))
        for error in (refused(slug, load_trust, [good, bad]), refused(slug, load_trust, [good], [bad])):
            assert str(bad) in error.message
            assert word in error.message

    @pytest.mark.parametrize("form", ["PEM", "DER"])
    def test_what_openssl_makes(self, foreign: Foreign, put, tmp_path, form):
        key, out = put("k.pem", foreign.key_pem), tmp_path / "out"
        for slug, words in {
            "trust.is-request": ("req", "-new", "-key", key, "-subj", "/CN=x", "-outform", form),
            "trust.is-public-key": ("pkey", "-in", key, "-pubout", "-outform", form),
        }.items():
            openssl(*words, "-out", out)
            refused(slug, load_trust, [out])

    def test_unreadable_directory(self, tmp_path):
        (tmp_path / "d").mkdir(mode=0)
        with ordinary_rights():
            refused("file.unreadable", load_trust, [tmp_path / "d"])

    def test_odd_paths(self, tmp_path):
        refused("file.missing", load_trust, [tmp_path / "no"])
        refused("file.not-regular", load_trust, [Path(os.devnull)])
        os.mkfifo(tmp_path / "fifo")
        refused("file.not-regular", load_trust, [tmp_path / "fifo"])


def pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


def corrupted(der: bytes) -> bytes:
    """The right outside, and nonsense inside: the version's INTEGER becomes something else."""
    at = der.index(b"\xa0\x03\x02\x01\x02")
    return der[:at] + b"\xa0\x03\x0c\x01\xff" + der[at + 5 :]


class Asked:
    """A passphrase callback that counts."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.times = answer, 0

    def __call__(self) -> bytes:
        self.times += 1
        return self.answer


def load(cert: Path, key: Path | None = None, passphrase=None) -> None:
    """What `tls` does with a KeyPair."""
    with key_pair(cert, key, passphrase) as pair:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            pair.cert_file, pair.key_file, pair.passphrase
        )


class TestKeyPair:
    def test_pem_files_are_handed_over_as_they_are(self, foreign: Foreign, put):
        cert, key = put("a.crt", foreign.cert_pem + foreign.ca_pem), put("a.key", foreign.key_pem)
        with key_pair(cert, key) as pair:
            assert (pair.cert_file, pair.key_file) == (str(cert), str(key))
        load(cert, key)

    def test_key_in_the_certificate_file(self, foreign: Foreign, put):
        path = put("a.pem", foreign.key_pem + foreign.cert_pem)
        with key_pair(path) as pair:
            assert pair.cert_file == pair.key_file == str(path)
        load(path)
        load(path, path)

    def test_an_unencrypted_key_needs_no_passphrase(self, foreign: Foreign, put):
        asked = Asked(b"x")
        load(put("a.crt", foreign.cert_pem), put("a.key", foreign.key_pem), asked)
        load(put("a.crt", foreign.cert_pem), put("a.key", foreign.key(Encoding.DER)), asked)
        assert asked.times == 0

    @pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
    def test_encrypted_pem(self, foreign: Foreign, put, form):
        cert, key = put("a.crt", foreign.cert_pem), put("a.key", foreign.key(form=form, passphrase=b"secret"))
        asked = Asked(b"secret")
        load(cert, key, asked)
        assert asked.times == 1
        error = refused("key.encrypted", load, cert, key)
        assert "--key-passphrase-file" in error.hint
        for wrong in (b"", b"no"):
            with pytest.raises(ssl.SSLError):
                load(cert, key, lambda wrong=wrong: wrong)

    @pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
    def test_der_of_both(self, foreign: Foreign, other: Foreign, put, form):
        for made in (foreign, other):
            cert, key = put("a.cer", made.cert_der), put("a.der", made.key(Encoding.DER, form))
            load(cert, key)
            load(cert, put("k.pem", made.key(form=form)))
            load(put("c.pem", made.cert_pem), key)
            load(put("both.pem", b"\xef\xbb\xbf" + made.cert_pem + made.key(form=form)))

    def test_encrypted_der(self, foreign: Foreign, put):
        cert, key = (
            put("a.cer", foreign.cert_der),
            put("a.der", foreign.key(Encoding.DER, passphrase=b"secret")),
        )
        asked = Asked(b"secret")
        load(cert, key, asked)
        assert asked.times == 1
        refused("key.encrypted", load, cert, key)
        refused("key.wrong-passphrase", load, cert, key, lambda: b"no")
        refused("key.wrong-passphrase", load, cert, key, lambda: b"")

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: b"\xef\xbb\xbf" + data,
            lambda data: data.decode().encode("utf-16"),
            lambda data: data.replace(b"\n", b"\n\n"),
            lambda data: data.replace(b"\n", b"\r"),
        ],
    )
    def test_pem_that_openssl_cannot_read(self, foreign: Foreign, put, change):
        load(put("a.crt", change(foreign.cert_pem)), put("a.key", change(foreign.key_pem)))
        load(put("both.pem", change(foreign.cert_pem + foreign.key_pem)))
        secret = put("b.key", change(foreign.key(passphrase=b"secret")))
        load(put("a.crt", change(foreign.cert_pem)), secret, lambda: b"secret")

    def test_a_joined_chain_is_loaded_whole(self, foreign: Foreign, put):
        cert = put("a.crt", foreign.cert_pem.rstrip(b"\n") + foreign.ca_pem)
        with key_pair(cert, put("a.key", foreign.key_pem)) as pair:
            assert Path(pair.cert_file).read_bytes().count(b"BEGIN") == 2

    def test_the_key_in_memory_is_private_encrypted_and_gone(self, foreign: Foreign, put, monkeypatch):
        if not hasattr(os, "memfd_create"):
            pytest.skip("this system has no files in memory")
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
        cert, key = put("a.cer", foreign.cert_der), put("a.der", foreign.key(Encoding.DER))
        with key_pair(cert, key) as pair:
            path = Path(pair.key_file)
            assert str(path.readlink()).startswith("/memfd:dicomtls-key.pem"), "no name on any disk"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        assert not path.exists() or not str(path.readlink()).startswith("/memfd:dicomtls-")

    def test_the_temporary_key_is_private_encrypted_and_gone(
        self, foreign: Foreign, put, tmp_path, monkeypatch
    ):
        monkeypatch.delattr(os, "memfd_create", raising=False)
        temporary = tmp_path / "tmp"
        temporary.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        cert, key = put("a.cer", foreign.cert_der), put("a.der", foreign.key(Encoding.DER))
        old = os.umask(0)
        try:
            with key_pair(cert, key) as pair:
                path = Path(pair.key_file)
                assert path.is_relative_to(temporary)
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
                assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
                first = pair.passphrase()
                assert first.decode() not in repr(pair)
        finally:
            os.umask(old)
        assert list(temporary.iterdir()) == []
        with pytest.raises(ZeroDivisionError), key_pair(cert, key) as pair:
            assert 1 / (pair.passphrase() == first)  # another passphrase: an error inside the context
        assert list(temporary.iterdir()) == []

    def test_no_temporary_directory(self, foreign: Foreign, put, tmp_path, monkeypatch):
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no"))
        with pytest.raises(DicomTlsError) as caught:
            load(put("a.cer", foreign.cert_der), put("a.key", foreign.key_pem))
        assert caught.value.slug == "output.no-temporary"

    def test_too_long_a_passphrase(self, foreign: Foreign, put):
        cert, key = put("a.crt", foreign.cert_pem), put("a.key", foreign.key(passphrase=b"secret"))
        refused("key.passphrase-too-long", load, cert, key, lambda: b"x" * 1024)

    def test_what_the_callback_raises_comes_through(self, foreign: Foreign, put):
        def cancel() -> bytes:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load(put("a.crt", foreign.cert_pem), put("a.key", foreign.key(passphrase=b"x")), cancel)

    @pytest.mark.parametrize("empty", [True, False])
    def test_openssl_never_asks_on_the_terminal(self, foreign: Foreign, put, empty):
        """In a real pseudo-terminal, with a passphrase that is empty, or none at all."""
        cert, key = put("a.crt", foreign.cert_pem), put("a.key", foreign.key(passphrase=b"secret"))
        program = textwrap.dedent(
            f"""
            import ssl
            from pathlib import Path
            from dicomtls_cli.pki.load import key_pair
            answer = {"lambda: b''" if empty else None}
            try:
                with key_pair(Path({str(cert)!r}), Path({str(key)!r}), answer) as p:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(p.cert_file, p.key_file, p.passphrase)
            except Exception as error:
                print("refused", type(error).__name__)
            """
        )
        spawn = f"import pty; pty.spawn({[sys.executable, '-B', '-c', program]!r})"
        run = subprocess.run(
            [sys.executable, "-B", "-c", spawn],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert run.stdout.split() == ["refused", "SSLError" if empty else "InputError"]

    def test_roles(self, foreign: Foreign, put):
        cert, key = put("a.crt", foreign.cert_pem), put("a.key", foreign.key_pem)
        empty, junk = put("empty", b""), put("junk", b"hello")
        swapped = refused("key.swapped", load, key, cert)
        assert f"--cert {cert} --key {key}" in swapped.hint
        refused("key.not-given", load, cert)
        refused("certificate.is-key", load, key)
        refused("certificate.is-key", load, key, key)
        refused("key.is-certificate", load, cert, put("b.crt", foreign.ca_pem))
        refused("certificate.empty", load, empty, key)
        refused("key.empty", load, cert, empty)
        refused("certificate.not-a-certificate", load, junk, key)
        refused("key.not-a-key", load, cert, junk)
        refused("file.missing", load, cert, cert.with_name("no"))
        refused("file.missing", load, cert.with_name("no"), key)
        refused("file.is-directory", load, cert, cert.parent)
        refused("file.not-regular", load, Path(os.devnull), key)

    def test_openssh_key(self, foreign: Foreign, put):
        key = put("id", foreign.key(form=PrivateFormat.OpenSSH))
        error = refused("key.is-openssh", load, put("a.crt", foreign.cert_pem), key)
        assert "ssh-keygen" in error.hint

    def test_damaged_der_key(self, foreign: Foreign, put):
        der = bytearray(foreign.key(Encoding.DER))
        der[60:70] = bytes(10)
        refused("key.damaged", load, put("a.crt", foreign.cert_pem), put("a.der", bytes(der)))


def test_read_passphrase(put):
    for data, passphrase in {
        b"a b\n": b"a b",
        b"x\r\ny\n": b"x",
        b"": b"",
        b"\nx": b"",
        b" x ": b" x ",
    }.items():
        assert read_passphrase(put("p", data)) == passphrase
    refused("file.too-large", read_passphrase, put("p", b"x" * 70_000))


def test_the_normal_path_does_not_import_cryptography(foreign: Foreign, put):
    cert, key, der = (
        put("a.crt", foreign.cert_pem),
        put("a.key", foreign.key_pem),
        put("a.der", foreign.ca_der),
    )
    program = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        import dicomtls_cli.pki.explain
        from dicomtls_cli.pki.load import key_pair, load_trust
        load_trust([Path({str(cert)!r}), Path({str(der)!r})])
        with key_pair(Path({str(cert)!r}), Path({str(key)!r})):
            pass
        print([name for name in sys.modules if name.split(".")[0] in ("cryptography", "click", "pydicom")])
        """
    )
    run = subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
