from __future__ import annotations

import contextlib
import datetime
import json
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7, pkcs12
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tests.support import cli
from tests.support.pki import Identity, make_identity, write_bundle
from tests.support.repeating import repeating
from tests.support.scripted import Scripted, abort, listening
from tests.support.specimens import tlv
from tests.support.told import failure
from tests.support.tty import on_terminal

SOON = ["--connect-timeout", "2s", "--tls-timeout", "500ms"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The current folder, with a.crt and a.key."""
    make_identity(tmp_path, "a", subject="peer a")
    return tmp_path


@pytest.fixture
def family(tmp_path: Path) -> tuple[Identity, Identity]:
    """ca.crt, and leaf.crt that it issued."""
    ca = make_identity(tmp_path, "ca", subject="the ca", ca=True)
    return ca, make_identity(tmp_path, "leaf", subject="the leaf", issuer=ca)


def field(output: str, label: str) -> str:
    """Return what stands on the first line with this label."""
    return next(line[16:] for line in output.splitlines() if line[:16].strip() == label)


# ---------------------------------------------------------------------- what is said


def test_a_certificate(dicomtls, here):
    result = dicomtls("inspect", "a.crt")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "a.crt: PEM, 1 certificate"
    certificate = x509.load_pem_x509_certificate(Path("a.crt").read_bytes())
    assert field(result.stdout, "subject") == "CN=peer a"
    assert field(result.stdout, "issuer") == "itself (self-signed)"
    assert field(result.stdout, "names") == "localhost, 127.0.0.1"
    assert field(result.stdout, "valid").endswith(" UTC: 29 days left")
    assert field(result.stdout, "key") == "EC P-256, 256 bits"
    assert field(result.stdout, "usage") == "digitalSignature; extended serverAuth, clientAuth"
    assert field(result.stdout, "constraints") == "CA:FALSE"
    assert field(result.stdout, "SHA-256").split()[0] == certificate.fingerprint(hashes.SHA256()).hex()
    assert field(result.stdout, "SHA-1") == certificate.fingerprint(hashes.SHA1()).hex()
    assert field(result.stdout, "private key") == "not here"
    table = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("    ")}
    assert table["Orthanc"] == ["limited", "yes"]
    assert table["dicomtls"] == ["yes", "yes"]
    assert (
        "    limited: over TLS 1.3 only: its TLS 1.2 has suites for RSA keys alone (Orthanc, DCMTK as an SCP's)"
        in lines
    )


def test_the_pin_is_what_pin_takes(dicomtls, here):
    """The digits can be pasted: `--pin` gets as far as the network with them."""
    pin = field(dicomtls("inspect", "a.crt").stdout, "SHA-256").split()[0]
    result = dicomtls("echoscu", "localhost:1", "--trust", "a.crt", "--pin", pin, "--json")
    assert result.json["error"]["code"] == "peer.connection-refused"


def test_a_key_and_its_certificate(dicomtls, here):
    make_identity(here, "b", subject="peer b")
    result = dicomtls("inspect", "a.key", "a.crt", "b.key")
    assert result.exit_code == 0
    first, second, third = result.stdout.split("\n\n")
    assert first.splitlines()[0] == "a.key: PEM, 1 private key"
    assert field(first, "belongs to") == "CN=peer a in a.crt"
    assert field(second, "private key") == "in a.key"
    assert "its own" in second
    assert field(third, "belongs to") == "NONE of the certificates here"
    records = dicomtls("inspect", "a.key", "a.crt", "b.key", "--json").records
    owner = {"source": "a.crt", "subject": "CN=peer a", "sha256": records[1]["certificates"][0]["sha256"]}
    assert [record["keys"][0]["belongs_to"] for record in records if record["keys"]] == [[owner], []]
    assert records[1]["certificates"][0]["private_key_in"] == ["a.key"]


def test_a_chain(dicomtls, family, here):
    write_bundle(here / "chain.pem", family[1], family[0])
    write_bundle(here / "wrong.pem", family[0], family[1], family[1])
    assert field(dicomtls("inspect", "chain.pem").stdout, "chain") == "in order; complete"
    result = dicomtls("inspect", "wrong.pem")
    assert field(result.stdout, "chain") == "out of order: write 2, 1, own one first; complete"
    assert field(result.stdout, "duplicates") == "1 certificate in it more than once"
    assert " certificate 3: the same as certificate 2" in result.stdout
    record = dicomtls("inspect", "leaf.crt", "--json").json
    assert record["chain"] == {
        "one_chain": True, "in_order": True, "complete": False, "missing_issuer": "CN=the ca", "order": [0]
    }  # fmt: skip
    verdict = record["certificates"][0]["works_with"]["orthanc"]["scu"]
    assert verdict["answer"] == "no"
    assert verdict["reasons"][0]["code"] == "ca-absent"
    record = dicomtls("inspect", "leaf.crt", "ca.crt", "--json").records[0]
    assert record["certificates"][0]["works_with"]["orthanc"]["scu"]["answer"] == "yes"


def test_every_form(dicomtls, here, family):
    ca, leaf = family
    certificates, key = [leaf.certificate, ca.certificate], leaf.private_key
    secret = serialization.BestAvailableEncryption(b"secret")
    Path("pair.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(b"x", key, leaf.certificate, [ca.certificate], secret)
    )
    Path("trust.p12").write_bytes(
        pkcs12.serialize_java_truststore([pkcs12.PKCS12Certificate(ca.certificate, b"c")], NoEncryption())
    )
    Path("c.p7b").write_bytes(pkcs7.serialize_certificates(certificates, Encoding.DER))
    Path("leaf.der").write_bytes(leaf.der)
    Path("key.der").write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    Path("pub.pem").write_bytes(public)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(leaf.certificate.subject)
        .sign(key, hashes.SHA256())
    )
    Path("leaf.csr").write_bytes(csr.public_bytes(Encoding.PEM))
    heads = {
        "pair.p12": "PKCS#12, 2 certificates, 1 private key",
        "trust.p12": "PKCS#12, 1 certificate",
        "c.p7b": "PKCS#7, 2 certificates",
        "leaf.der": "DER, 1 certificate",
        "key.der": "DER, 1 private key",
        "pub.pem": "PEM, 1 public key",
        "leaf.csr": "PEM, 1 signing request",
    }
    result = dicomtls("inspect", *heads)
    assert (result.exit_code, result.stderr) == (0, "")
    for name, head in heads.items():
        assert f"{name}: {head}\n" in result.stdout
    records = {record["source"]: record for record in dicomtls("inspect", *heads, "--json").records}
    owners = {owner["source"] for owner in records["key.der"]["keys"][0]["belongs_to"]}
    assert owners == {"pair.p12", "c.p7b", "leaf.der"}
    assert {owner["source"] for owner in records["pub.pem"]["keys"][0]["belongs_to"]} == owners
    assert records["leaf.csr"]["requests"][0]["private_key_in"] == ["pair.p12", "key.der"]
    assert records["leaf.csr"]["requests"][0]["signed_by_its_key"]
    assert records["trust.p12"]["certificates"][0]["also_in"] == ["pair.p12", "c.p7b"]


def test_an_openssh_key(dicomtls, here, family):
    key = family[1].private_key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    Path("id").write_bytes(key)
    result = dicomtls("inspect", "id", "leaf.crt")
    assert result.exit_code == 0
    assert "ssh-keygen" in field(result.stdout, "private key")
    assert dicomtls("inspect", "id", "--json").json["keys"][0]["belongs_to"] is None


def test_a_question_for_the_passphrase(here):
    """Asked once, for all that is encrypted, and only where something is."""
    line = "openssl pkcs8 -topk8 -in a.key -out e.key -passout pass:hello -iter 1000"
    subprocess.run(line.split(), check=True, capture_output=True)
    with on_terminal("inspect", "a.crt", "e.key", "e.key") as terminal:
        terminal.wait_for("Password of the encrypted files")
        terminal.type("hello\n")
        assert terminal.end() == 0
    assert terminal.text.count("Password of") == 1
    assert "belongs to    CN=peer a in a.crt" in terminal.text


def test_encrypted_keys(dicomtls, here, family):
    leaf = family[1]
    encryption = serialization.BestAvailableEncryption(b"hello")
    Path("e.key").write_bytes(leaf.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    Path("right").write_text("hello\n")
    Path("wrong").write_text("goodbye\n")
    result = dicomtls("inspect", "e.key", "leaf.crt")
    assert result.exit_code == 0
    assert "--passphrase-file" in field(result.stdout, "private key")
    record = dicomtls(
        "inspect", "e.key", "leaf.crt", "ca.crt", "--passphrase-file", "right", "--json"
    ).records
    assert record[0]["keys"][0]["encrypted"]
    assert record[0]["keys"][0]["belongs_to"][0]["source"] == "leaf.crt"
    own = {
        name: uses["own"]["answer"]
        for name, uses in record[1]["certificates"][0]["works_with"].items()
        if "own" in uses
    }
    assert own == {"dicomtls": "limited", "orthanc": "no", "dcmtk": "limited"}
    assert (
        dicomtls("inspect", "e.key", "--passphrase-file", "wrong", "--json").json["error"]["code"]
        == "key.wrong-passphrase"
    )
    store = pkcs12.serialize_key_and_certificates(b"x", leaf.private_key, leaf.certificate, None, encryption)
    Path("e.p12").write_bytes(store)
    assert dicomtls("inspect", "e.p12", "--json").json["error"]["code"] == "store.locked"
    assert dicomtls("inspect", "e.p12", "--passphrase-file", "right").exit_code == 0


def _integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1))


PBES2, PBKDF2, SCRYPT, AES = (
    bytes.fromhex(oid)
    for oid in (
        "06092a864886f70d01050d",
        "06092a864886f70d01050c",
        "06092b06010401da47040b",
        "060960864801650304012a",
    )
)


def _locked_key(derivation: bytes) -> bytes:
    """Return a key (PKCS#8, DER) under a passphrase that is turned into a key as `derivation` says."""
    cipher = tlv(0x30, AES, tlv(4, bytes(16)))
    return tlv(0x30, tlv(0x30, PBES2, tlv(0x30, derivation, cipher)), tlv(4, bytes(64)))


def _scrypt(cost: int, block: int) -> bytes:
    return tlv(0x30, SCRYPT, tlv(0x30, tlv(4, bytes(16)), _integer(cost), _integer(block), _integer(1)))


def test_parameters_that_openssl_chokes_on(dicomtls):
    """The cost of scrypt is a power of two; with another one `cryptography` raises what is no ValueError."""
    Path("odd.key").write_bytes(_locked_key(_scrypt(1000, 8)))
    Path("pw").write_text("x\n")
    result = dicomtls("inspect", "odd.key", "--passphrase-file", "pw", "--json")
    assert result.json["error"]["code"] == "key.wrong-passphrase"


@pytest.mark.parametrize(
    "derivation",
    [
        tlv(0x30, PBKDF2, tlv(0x30, tlv(4, bytes(16)), _integer(2**31 - 1))),
        tlv(0x30, PBKDF2, tlv(0x30, tlv(4, bytes(16)), _integer(2**31 - 1), _integer(32))),
        _scrypt(2**20, 1024),
    ],
    ids=["pbkdf2", "pbkdf2-length", "scrypt"],
)
def test_a_key_that_would_take_for_ever_is_not_opened(derivation, dicomtls):
    """PBKDF2 with two billion rounds, and scrypt that wants 128 GB."""
    der = _locked_key(derivation)
    pem = ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "ENCRYPTED PRIVATE KEY")
    first, rest = pem.split("\n", 1)
    Path("slow.key").write_text(pem)
    Path("spaced.key").write_text(first + "\n" + rest.replace("A", " A ", 3).replace("\n", "\t\r\n", 1))
    Path("headed.key").write_text(f"{first}\nComment: x\n\n{rest}")
    Path("slow.der").write_bytes(der)
    Path("pw").write_text("x\n")
    for name in ("slow.key", "spaced.key", "headed.key", "slow.der"):
        result = dicomtls("inspect", name, "--passphrase-file", "pw", "--json")
        assert result.json["error"]["code"] == "store.iterations", result.json


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """An encrypted key (DER, one round), and a file of the right passphrase."""
    folder = tmp_path_factory.mktemp("locked")
    leaf = make_identity(folder, "a")
    line = f"openssl pkcs8 -topk8 -iter 1 -in {leaf.key} -outform der -out {folder / 'e.key'} -passout pass:x"
    subprocess.run(line.split(), check=True, capture_output=True)
    (folder / "pw").write_text("x\n")
    return (folder / "e.key").read_bytes(), folder / "pw"


@given(at=st.integers(0, 110), count=st.integers(0, 3), put=st.binary(max_size=3))
def test_a_damaged_key_is_opened_or_refused(
    at: int, count: int, put: bytes, locked: tuple[bytes, Path]
) -> None:
    whole, passphrase = locked
    damaged = passphrase.with_name("damaged.key")
    damaged.write_bytes(whole[:at] + put + whole[at + count :])
    result = cli.run("inspect", damaged, "--passphrase-file", passphrase)
    assert result.exit_code in (0, 3)


def test_a_folder(dicomtls, family, here):
    Path("notes.txt").write_text("not looked into")
    Path("empty").mkdir()
    records = dicomtls("inspect", here, "--json").records
    assert [Path(record["source"]).name for record in records] == [
        "a.crt", "a.key", "ca.crt", "ca.key", "leaf.crt", "leaf.key"
    ]  # fmt: skip
    assert dicomtls("inspect", "empty", "--json").json["error"]["code"] == "trust.empty-directory"


def test_a_revocation_list_and_what_is_on_it(dicomtls, here):
    for line in (["scanner", "viewer"], ["--revoke", "scanner.crt"]):
        assert dicomtls("gencert", "--ca", "ward", *line).exit_code == 0
    records = dicomtls("inspect", "scanner.crt", "viewer.crt", "ward.crl", "--json").records
    assert [record["certificates"][0]["revoked"] for record in records[:2]] == [True, False]
    assert records[2]["crls"][0]["revoked"] == [records[0]["certificates"][0]["serial"]]
    assert "revoked" in dicomtls("inspect", "scanner.crt", "ward.crl").stdout


def test_namesakes_are_noted(dicomtls, here):
    """What makes OpenSSL-based peers see only one of two is said where both are named."""
    for name in ("b", "c"):
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                 f"{name}.key", "-out", f"{name}.crt", "-subj", "/CN=same", "-addext", "subjectKeyIdentifier=none",
                 "-addext", "authorityKeyIdentifier=none"]  # fmt: skip
        subprocess.run(words, check=True, capture_output=True)
    note = [
        line for line in dicomtls("inspect", "b.crt", "c.crt").stdout.splitlines() if "same subject" in line
    ]
    assert len(note) == 2
    codes = [
        one["code"]
        for one in dicomtls("inspect", "b.crt", "c.crt", "--json").records[0]["certificates"][0]["findings"]
    ]
    assert "same-subject" in codes


# ---------------------------------------------------------------------- --expires-in


@pytest.mark.parametrize(
    ("span", "exit_code"),
    [("30d", 40), ("28d", 0), ("5w", 40), ("4w", 0), ("719h", 0), ("721h", 40), ("0d", 0)],
)
def test_what_ends_soon(span, exit_code, dicomtls, here):
    """a.crt has 30 days less the instant since it was made."""
    result = dicomtls("inspect", "a.crt", "a.key", "--expires-in", span)
    assert result.exit_code == exit_code
    assert ("ends too soon: CN=peer a in a.crt" in result.stderr) == (exit_code == 40)
    records = dicomtls("inspect", "a.crt", "a.key", "--expires-in", span, "--json").records
    assert [record["ok"] for record in records] == [exit_code == 0, True]
    assert len(records[0]["ending"]) == (exit_code == 40)


def test_what_has_ended_ends_soon(dicomtls, here):
    make_identity(here, "old", subject="old", valid=(-20, -10))
    result = dicomtls("inspect", "old.crt", "--expires-in", "0h")
    assert result.exit_code == 40
    assert field(result.stdout, "valid").endswith("EXPIRED 10 days ago")
    assert dicomtls("inspect", "old.crt").exit_code == 0


def test_a_list_ends_too(dicomtls, here):
    for line in (["scanner"], ["--crl"]):
        assert dicomtls("gencert", "--ca", "ward", *line).exit_code == 0
    assert dicomtls("inspect", "ward.crl", "--expires-in", "31d").exit_code == 40
    assert dicomtls("inspect", "ward.crl", "--expires-in", "29d").exit_code == 0


def test_quiet_leaves_the_exit_code(dicomtls, here):
    result = dicomtls("inspect", "a.crt", "-q", "--expires-in", "60d")
    assert result == cli.Result(40, "", "")


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        ([], 2, "usage.no-input"),
        ([""], 2, "usage.empty-path"),
        (["a.crt", "--expires-in", "30"], 2, "usage.span"),
        (["a.crt", "--expires-in", "-1d"], 2, "usage.span"),
        (["a.crt", "--expires-in", "9999999w"], 2, "usage.span"),
        (["a.crt", "--expires-in", "1.5d"], 2, "usage.span"),
        (["a.crt", "--no-such"], 2, "usage.no-such-option"),
        (["pacs:99999"], 2, "usage.port"),
        (["missing.crt"], 3, "file.missing"),
        (["./pacs:2762"], 3, "file.missing"),
        (["pacs"], 3, "inspect.not-found"),
        (["pacs.example.org", "a.crt"], 3, "inspect.not-found"),
        (["empty"], 3, "inspect.nothing"),
        (["junk"], 3, "inspect.nothing"),
        (["bad.other"], 3, "inspect.nothing"),
        (["image.dcm"], 3, "inspect.dicom"),
        (["store.jks"], 3, "inspect.is-jks"),
        (["cut.pem"], 3, "pem.damaged"),
        (["bad.pem"], 3, "inspect.damaged"),
        (["bad.csr"], 3, "inspect.damaged"),
        (["bad.crl"], 3, "inspect.damaged"),
        (["bad.pub"], 3, "inspect.damaged"),
        (["bad.key"], 3, "key.damaged"),
        (["/dev/null"], 3, "file.not-regular"),
        (["localhost:1"], 10, "peer.connection-refused"),
        (["localhost", "1"], 10, "peer.connection-refused"),
        (["no.such.host.invalid:2762"], 10, "peer.unknown-host"),
    ],
)  # fmt: skip
def test_what_is_refused(words, exit_code, code, dicomtls, here):
    Path("empty").touch()
    Path("junk").write_text("hello")
    Path("image.dcm").write_bytes(bytes(128) + b"DICM\x02\x00")
    Path("store.jks").write_bytes(b"\xfe\xed\xfe\xed" + bytes(40))
    pem = Path("a.crt").read_text()
    Path("cut.pem").write_text(pem[:200])
    labels = {"pem": "CERTIFICATE", "csr": "CERTIFICATE REQUEST", "crl": "X509 CRL", "pub": "PUBLIC KEY",
              "key": "PRIVATE KEY", "other": "DH PARAMETERS"}  # fmt: skip
    for name, label in labels.items():
        Path(f"bad.{name}").write_text(f"-----BEGIN {label}-----\nMAMCAQA=\n-----END {label}-----\n")
    result = dicomtls("inspect", *words)
    assert result.exit_code == exit_code
    assert result.stderr.count("error: ") == result.stderr.count("hint: ") == 1
    assert "Traceback" not in result.stderr
    errors = [
        record["error"] for record in dicomtls("inspect", *words, "--json").records if "error" in record
    ]
    assert [(error["code"], error["exit"]) for error in errors] == [(code, exit_code)]


def test_the_others_are_told_where_one_cannot_be_read(dicomtls, here):
    result = dicomtls("inspect", "missing.crt", "a.crt", "localhost:1")
    assert result.exit_code == 3
    assert "CN=peer a" in result.stdout
    assert result.stderr.count("error: ") == 2


def test_a_file_of_that_name_wins(dicomtls, here):
    Path("localhost:2762").write_bytes(Path("a.crt").read_bytes())
    Path("104").write_bytes(Path("a.crt").read_bytes())
    assert dicomtls("inspect", "localhost:2762").stdout.startswith("localhost:2762: PEM, 1 certificate")
    assert dicomtls("inspect", "./104").stdout.startswith("104: PEM, 1 certificate")


@given(
    data=st.binary(max_size=400),
    label=st.sampled_from(["", "CERTIFICATE", "PRIVATE KEY", "X509 CRL", "PKCS7"]),
)
def test_any_bytes_are_described_or_refused(
    data: bytes, label: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bytes"
    if label:
        data = ssl.DER_cert_to_PEM_cert(data).replace("CERTIFICATE", label).encode()
    path.write_bytes(data)
    result = cli.run("inspect", path)
    assert result.exit_code in (0, 3)
    assert "unexpected" not in result.stderr


# ---------------------------------------------------------------------- peers


@contextlib.contextmanager
def showing(cert: Path, key: Path, *, requires: bool = False, newest: bool = True) -> Iterator[int]:
    """A TLS server that shows what is in `cert`, for one connection, and wants one of ours if it `requires`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if not newest:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if requires:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cert)

    def serve(peer: Scripted) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(peer.sock, server_side=True) as secured:
            secured.recv(1)

    with listening(serve) as port:
        yield port


@pytest.mark.parametrize("newest", [True, False], ids=["TLS1.3", "TLS1.2"])
@pytest.mark.parametrize("requires", [True, False], ids=["required", "not-required"])
def test_a_peer(requires, newest, dicomtls, family, here):
    """Its whole chain, also where it ends the handshake for want of a certificate of ours."""
    ca, leaf = family
    write_bundle(here / "chain.pem", leaf, ca)
    with showing(here / "chain.pem", leaf.key, requires=requires, newest=newest) as port:
        result = dicomtls("inspect", f"localhost:{port}", "--json")
    assert result.exit_code == 0
    record = result.json
    assert (record["source"], record["form"]) == (f"localhost:{port}", "TLS")
    assert [one["sha256"] for one in record["certificates"]] == [leaf.fingerprint, ca.fingerprint]
    assert (record["chain"]["in_order"], record["chain"]["complete"]) == (True, True)
    assert record["connection"]["certificate_requested"] == requires
    failed = requires and not newest  # TLS 1.3 tells only after the handshake
    assert (record["connection"]["failure"] is not None) == failed
    if failed:
        assert record["connection"]["failure"]["code"] == "tls.refused-no-certificate"
    else:
        assert record["connection"]["version"] == ("TLSv1.3" if newest else "TLSv1.2")


def test_a_peer_and_the_file_of_its_ca(dicomtls, family, here):
    with showing(family[1].cert, family[1].key) as port:
        result = dicomtls("inspect", "localhost", port, "ca.crt", "leaf.key")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"localhost:{port}: TLS, 1 certificate\n")
    assert field(result.stdout, "private key") == "in leaf.key"
    assert "CN=the leaf in localhost:" in result.stdout
    with showing(family[1].cert, family[1].key) as port:
        assert dicomtls("inspect", f"localhost:{port}", "--expires-in", "90d").exit_code == 40


def _odd_certificate(folder: Path, name: str, subject: str, hosts: list[str]) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is longer than RFC 5280 allows
        called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject, _validate=False)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, False)
    certificate = builder.sign(key, hashes.SHA256())
    cert, private = folder / f"{name}.crt", folder / f"{name}.key"
    cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert, private


NASTY = "pacs\0\x1b]0;owned\x07\r\nSHA-256  0000\u202e\u2028"


@pytest.mark.parametrize("live", [True, False], ids=["peer", "file"])
def test_nasty_names_are_harmless(live, dicomtls, here):
    long = "a" * 65536
    hosts = ["x\0y", "\x1b[2J", long, *("h" + str(n) for n in range(99))]
    cert, key = _odd_certificate(here, "nasty", NASTY, hosts)
    with contextlib.ExitStack() as stack:
        what = f"localhost:{stack.enter_context(showing(cert, key))}" if live else "nasty.crt"
        result = dicomtls("inspect", what)
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").isprintable()
    assert "pacs\\00\\x1b" in field(result.stdout, "subject")
    assert field(result.stdout, "names").endswith(", and 82 more")
    assert len([line for line in result.stdout.splitlines() if line.lstrip().startswith("SHA-256")]) == 1
    assert max(map(len, result.stdout.splitlines())) < 2000
    record = json.dumps(dicomtls("inspect", "nasty.crt", "--json").json)
    assert record.isprintable()


def test_an_absurd_extension_is_shown_in_short(dicomtls, here):
    made = make_identity(here, "odd")
    name = made.certificate.subject
    builder = x509.CertificateBuilder(
        name, name, made.private_key.public_key(), 1,
        made.certificate.not_valid_before_utc.replace(tzinfo=None),
        made.certificate.not_valid_after_utc.replace(tzinfo=None),
    )  # fmt: skip
    usages = [x509.ObjectIdentifier(f"1.2.3.{number}") for number in range(5000)]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier(bytes(40_000)), critical=False)
    Path("odd.crt").write_bytes(builder.sign(made.private_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    lines = dicomtls("inspect", "odd.crt").stdout.splitlines()
    assert max(map(len, lines)) < 6000
    record = dicomtls("inspect", "odd.crt", "--json").json["certificates"][0]
    assert (len(record["extended_key_usage"]), len(record["subject_key_id"])) == (5000, 80_000)


def test_a_peer_with_more_than_openssl_takes(dicomtls, here):
    """OpenSSL ends the handshake at 100 KB of certificates: that much is kept in memory, and no more."""
    cert, key = _odd_certificate(here, "huge", "x" * 65536, [])
    with showing(cert, key) as port:
        result = dicomtls("inspect", f"localhost:{port}", "--json")
    assert result.exit_code == 13
    assert result.json["error"]["code"] == "tls.failed"
    assert field(dicomtls("inspect", "huge.crt").stdout, "subject").startswith("CN=xxx")


def _record(kind: int, body: bytes) -> bytes:
    return bytes([kind, 3, 3]) + len(body).to_bytes(2) + body


def _message(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(body) if length is None else length).to_bytes(3) + body


# TLS 1.2, ECDHE-ECDSA-AES128-GCM-SHA256, secure renegotiation: a hello that OpenSSL goes on from.
HELLO = _record(
    22, _message(2, b"\x03\x03" + bytes(32) + b"\0" + b"\xc0\x2b" + b"\0" + b"\0\x05\xff\x01\0\x01\0")
)


def _listed(*certificates: bytes) -> bytes:
    body = b"".join(len(one).to_bytes(3) + one for one in certificates)
    return _record(22, _message(11, len(body).to_bytes(3) + body))


@pytest.mark.parametrize(
    ("sent", "exit_code", "code"),
    [
        (b"\xff" * 200, 13, "tls.peer-plain"),
        (_record(22, b"\x0e\0\0\0"), 13, "tls.failed"),
        (b"", 13, "tls.peer-hung-up"),
        (HELLO, 13, "tls.peer-hung-up"),
        (HELLO + _record(22, _message(11, b"\xff" * 2000, 0xFFFFFF)), 13, "tls.failed"),
        (HELLO + _record(22, _message(11, b"\xff\xff\xff" + bytes(100))), 13, "tls.failed"),
        (HELLO + _listed(), 13, "tls.failed"),
        (HELLO + b"\x16\x03\x03\xff\xff" + bytes(65535), 13, "tls.failed"),
        (HELLO + _listed(b"\x30\x03\x02\x01\x00"), 3, "inspect.damaged"),
        (HELLO + _listed(*[b"\x30\x03\x02\x01\x00"] * 1000), 3, "inspect.damaged"),
    ],
)  # fmt: skip
def test_a_hostile_peer(sent, exit_code, code, dicomtls):
    def script(peer: Scripted) -> None:
        peer.read(5)
        with contextlib.suppress(OSError):
            peer.send(sent)
            peer.finish()
            while peer.sock.recv(4096):
                pass

    with listening(script) as port:
        result = dicomtls("inspect", f"localhost:{port}", "--json", *SOON)
    assert result.exit_code == exit_code
    assert result.json["error"]["code"] == code


@pytest.mark.parametrize(
    ("sent", "speaks"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"), (abort(2, 1), "plain DICOM"), (b"SSH-2.0-x\r\n", "SSH")],
    ids=["http", "dicom", "ssh"],
)
def test_what_speaks_there_is_named(sent, speaks, dicomtls):
    """With a hint that this command can follow."""

    def script(peer: Scripted) -> None:
        peer.read(5)
        peer.send(sent)

    with listening(script) as port:
        told = failure("inspect", f"localhost:{port}", *SOON, peer=f"localhost:{port}")
    assert told.outcome == (13, "tls.peer-plain")
    assert f"it speaks {speaks}, not TLS" in told.message
    assert not told.options


@pytest.mark.parametrize("script", [lambda _: None, Scripted.reset], ids=["closes", "resets"])
def test_a_peer_that_leaves_at_once_is_told_every_time(script, dicomtls):
    with repeating(script) as peer:
        words = ["inspect", f"localhost:{peer.port}", "--json"]
        told = [dicomtls(*words).json["error"]["code"] for _ in range(20)]
    assert told == ["peer.closed-at-once"] * 20


@pytest.mark.parametrize("sent", [b"", HELLO, HELLO + _record(22, _message(11, b"\0\xff\xff", 0xFFFF))])
def test_a_peer_that_falls_silent(sent, dicomtls):
    done = threading.Event()

    def script(peer: Scripted) -> None:
        peer.send(sent)
        done.wait(30)

    with listening(script) as port:
        result = dicomtls("inspect", f"localhost:{port}", "--json", *SOON)
        done.set()
    assert result.exit_code == 10
    assert result.json["error"]["code"] == "tls.peer-silent"
