"""What `inspect` says of a certificate, against what Orthanc, DCMTK, Java and dicomtls then do with it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.pki.compatibility import RULES, Answer, Program, Use, Verdict
from dicomtls_cli.pki.keystore import key_store, trust_store
from dicomtls_cli.services.inspection import Inspection, look_at
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role
from tests.support import cli, peers
from tests.support.specimens import Specimen, is_taken_as_scu, make_specimens, make_twins, showing_scp

pytestmark = pytest.mark.interop
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@dataclass(frozen=True)
class Collection:
    """One specimen of each kind, and one file that trusts them all."""

    specimens: dict[str, Specimen]
    trusted: Path
    good: Specimen


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("specimens")
    specimens = make_specimens(folder)
    trusted = folder / "all.pem"
    files = dict.fromkeys(path.read_bytes() for one in specimens.values() for path in one.trusted)
    trusted.write_bytes(b"".join(files))
    return Collection(specimens, trusted, specimens["good"])


def verdict(specimen: Specimen, program: Program, use: Use, key: Path | None = None) -> Verdict:
    """Return what we say of it, looked at together with what the other side trusts."""
    files = [specimen.cert, *specimen.trusted, *([] if key is None else [key])]
    password = None if key is None else lambda: b"secret"
    found = [look_at(path, password) for path in files]
    verdicts = Inspection(found).verdicts(found[0].holding.certificates[0])
    return next(one for one in verdicts if (one.program, one.use) == (program, use))


def measured(
    takes: Callable[[ssl.TLSVersion], bool], versions: Sequence[ssl.TLSVersion] = VERSIONS
) -> Answer:
    """Return what a program does over both versions of TLS, in the words of a verdict."""
    answers = [takes(version) for version in versions]
    return Answer.YES if all(answers) else Answer.LIMITED if any(answers) else Answer.NO


def expect(collection: Collection, program: Program, use: Use, judge: Callable[[Specimen], Answer]) -> None:
    wrong = {}
    for name, specimen in collection.specimens.items():
        said = verdict(specimen, program, use)
        codes = {reason.code for reason in said.reasons}
        # What is said to work on a condition: here it is called by its name, and its CA is not named as one.
        answer = Answer.NO if "trust-ca" in codes else Answer.YES if "names" in codes else said.answer
        if answer is not (real := judge(specimen)):
            wrong[name] = (said, real)
    assert not wrong


# ---------------------------------------------------------------------- an SCU's: the program listens


@contextlib.contextmanager
def listening(program: Program, collection: Collection, folder: Path) -> Iterator[int]:
    """Run an SCP that requires a certificate and trusts all of the collection; yield its port."""
    good, trusted = collection.good, collection.trusted
    if program is Program.OURS:
        words = ("--cert", good.cert, "--key", good.key, "--trust", trusted)
        with peers.our_storescp(folder, *words) as ours:
            yield ours.port
    elif program is Program.DCMTK:
        with peers.dcmtk_storescp(folder, *peers.dcmtk_tls(good.cert, good.key, trusted)) as dcmtk:
            yield dcmtk.port
    else:
        with peers.orthanc(folder, **peers.orthanc_tls(good.cert, good.key, trusted)) as orthanc:
            yield orthanc.dicom_port


@pytest.mark.parametrize("program", [Program.OURS, Program.DCMTK, Program.ORTHANC])
def test_an_scu_is_taken_or_not_as_we_say(program: Program, collection: Collection, tmp_path: Path) -> None:
    with listening(program, collection, tmp_path) as port:
        expect(
            collection,
            program,
            Use.SCU,
            lambda one: measured(lambda version: is_taken_as_scu(one, port, version)),
        )


@pytest.mark.parametrize("program", [Program.OURS, Program.DCMTK, Program.ORTHANC])
def test_it_is_seen_what_a_peer_shows(program: Program, collection: Collection, tmp_path: Path) -> None:
    """All of them require a certificate, and none is shown to them."""
    with listening(program, collection, tmp_path) as port:
        result = cli.run("inspect", f"localhost:{port}", collection.good.key, "--json")
    assert result.exit_code == 0, result.stdout
    peer, key = result.records
    assert peer["connection"]["certificate_requested"]
    assert peer["certificates"][0]["subject"] == "CN=good"
    assert key["keys"][0]["belongs_to"][0]["source"] == f"localhost:{port}"


@pytest.mark.parametrize("program", [Program.OURS, Program.DCMTK, Program.ORTHANC])
def test_of_two_of_one_subject_the_first_is_taken(
    program: Program, collection: Collection, tmp_path: Path
) -> None:
    first, second = make_twins(tmp_path)
    with listening(program, replace(collection, trusted=first.trusted[0]), tmp_path) as port:
        real = [
            measured(lambda version, one=one: is_taken_as_scu(one, port, version)) for one in (first, second)
        ]  # type: ignore[misc]
    said = [verdict(one, program, Use.SCU).answer for one in (first, second)]
    if program is Program.OURS:
        assert said == real == [Answer.YES, Answer.YES]
    else:
        assert said == [Answer.LIMITED, Answer.LIMITED]
        assert real == [Answer.YES, Answer.NO]


# ---------------------------------------------------------------------- an SCP's: the program calls


def is_taken_as_scp(
    specimen: Specimen, version: ssl.TLSVersion, call: Callable[[Specimen, int], object]
) -> bool:
    with showing_scp(specimen, version) as showing:
        call(specimen, showing.port)
        return showing.accepted


def test_dcmtk_takes_an_scp_or_not_as_we_say(collection: Collection) -> None:
    def call(_: Specimen, port: int) -> None:
        peers.dcmtk("echoscu", "localhost", port, "--anonymous-tls", "+cf", collection.trusted)

    def judge(one: Specimen) -> Answer:
        return measured(lambda version: is_taken_as_scp(one, version, call))

    expect(collection, Program.DCMTK, Use.SCP, judge)


def test_orthanc_takes_an_scp_or_not_as_we_say(collection: Collection, tmp_path: Path) -> None:
    good = collection.good
    with peers.orthanc(tmp_path, **peers.orthanc_tls(good.cert, good.key, collection.trusted)) as orthanc:

        def call(_: Specimen, port: int) -> None:
            orthanc.knows("specimen", port)
            orthanc.send("POST", "/modalities/specimen/echo", {})

        def judge(one: Specimen) -> Answer:
            return measured(lambda version: is_taken_as_scp(one, version, call))

        expect(collection, Program.ORTHANC, Use.SCP, judge)


def test_we_take_an_scp_or_not_as_we_say(collection: Collection) -> None:
    """Called by a name that it has: that is the condition of some of the verdicts."""

    def call(one: Specimen, port: int) -> None:
        context = tls_context(Role.REQUESTOR, TlsOptions(trust=one.trusted))
        certificate = x509.load_pem_x509_certificate(one.cert.read_bytes())
        names = [part.value for part in certificate.subject]
        with contextlib.suppress(x509.ExtensionNotFound):
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = alternatives.value.get_values_for_type(x509.DNSName)
        sock = socket.create_connection(("127.0.0.1", port), 30)
        with (
            contextlib.suppress(OSError),
            sock,
            context.wrap_socket(sock, server_hostname=str(names[0])) as ours,
        ):
            ours.sendall(b"\x01")

    def judge(one: Specimen) -> Answer:
        return measured(lambda version: is_taken_as_scp(one, version, call))

    expect(collection, Program.OURS, Use.SCP, judge)


# ---------------------------------------------------------------------- its own


OWN = (
    "good",
    "sha1",
    "issued-sha1",
    "rsa1024",
    "p256",
    "ed448",
    "secp256k1",
    "unknown-critical",
    "encrypted",
)


@pytest.fixture(scope="module")
def with_encrypted(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Specimen]:
    good = collection.good
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    folder = tmp_path_factory.mktemp("forms")
    locked = folder / "locked.key"
    form = serialization.PrivateFormat.PKCS8
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
    )
    found = {"encrypted": Specimen("encrypted", good.cert, locked, good.trusted)}
    (folder / "good.der").write_bytes(_ders(good.cert)[0])
    (folder / "key.der").write_bytes(key.private_bytes(Encoding.DER, form, serialization.NoEncryption()))
    found["der"] = Specimen("der", folder / "good.der", folder / "key.der", good.trusted)
    store = folder / "good.p12"
    store.write_bytes(key_store("own", key, _ders(good.cert), b"secret"))  # type: ignore[arg-type]
    found["p12"] = Specimen("p12", store, store, good.trusted)
    return {**collection.specimens, **found}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("program", [Program.OURS, Program.DCMTK, Program.ORTHANC])
def test_a_program_has_it_as_its_own_or_not_as_we_say(
    name: str, program: Program, with_encrypted: dict[str, Specimen], collection: Collection, tmp_path: Path
) -> None:
    own = with_encrypted[name]
    said = verdict(own, program, Use.OWN, own.key)
    with contextlib.ExitStack() as stack:
        real = Answer.NO
        with contextlib.suppress(AssertionError, DicomTlsError):
            port = stack.enter_context(_having(program, own, collection, tmp_path))
            real = measured(lambda version: is_taken_as_scu(collection.good, port, version))
    if said.answer is Answer.LIMITED and name in ("encrypted", "der", "p12"):
        assert real is (Answer.YES if name == "encrypted" else Answer.NO), (
            "the passphrase is given, PEM is not"
        )
    else:
        assert said.answer is real, said


@contextlib.contextmanager
def _having(program: Program, own: Specimen, collection: Collection, folder: Path) -> Iterator[int]:
    trusted = collection.good.trusted[0]
    if program is Program.DCMTK:
        secret = ("+pw", "secret") if own.name == "encrypted" else ()
        with peers.dcmtk_storescp(folder, *peers.dcmtk_tls(own.cert, own.key, trusted), *secret) as dcmtk:
            yield dcmtk.port
    elif program is Program.ORTHANC:
        with peers.orthanc(folder, **peers.orthanc_tls(own.cert, own.key, trusted)) as orthanc:
            yield orthanc.dicom_port
    else:
        passphrase = folder / "passphrase"
        passphrase.write_text("secret")
        # In this process first: a refusal is an error here, and in a process of its own a wait for nothing.
        tls_context(Role.ACCEPTOR, TlsOptions(own.cert, own.key, lambda: b"secret", trust=(trusted,)))
        words = (
            "--cert",
            own.cert,
            "--key",
            own.key,
            "--key-passphrase-file",
            passphrase,
            "--trust",
            trusted,
        )
        with peers.our_storescp(folder, *words) as ours:
            yield ours.port


# ---------------------------------------------------------------------- Java

JAVA = """
import java.io.*;
import java.security.KeyStore;
import javax.net.ssl.*;
class Judge {
    static KeyStore store(String file, String password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream in = new FileInputStream(file)) { store.load(in, password.toCharArray()); }
        return store;
    }
    static SSLContext context(String keys, String trust) throws Exception {
        KeyManagerFactory own = KeyManagerFactory.getInstance("PKIX");
        own.init(store(keys, "secret"), "secret".toCharArray());
        TrustManagerFactory theirs = TrustManagerFactory.getInstance("PKIX");
        theirs.init(store(trust, ""));
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(own.getKeyManagers(), theirs.getTrustManagers(), null);
        return context;
    }
    static void call(SSLContext context, int port) {
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("localhost", port)) {
            socket.setSoTimeout(20000);
            socket.getOutputStream().write(1);
        } catch (IOException refused) { }
    }
    static void serve(SSLServerSocket listener) {
        while (true) {
            try (SSLSocket socket = (SSLSocket) listener.accept()) {
                socket.setSoTimeout(20000);
                socket.setNeedClientAuth(true);
                socket.getInputStream().read();
                socket.getOutputStream().write(2);
            } catch (IOException refused) { }
        }
    }
    public static void main(String[] words) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] asked = line.split("\\t");
            SSLContext context = context(words[0], asked[1]);
            if (asked[0].equals("serve")) {
                SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0);
                Thread thread = new Thread(() -> serve(listener));
                thread.setDaemon(true);
                thread.start();
                System.out.println(listener.getLocalPort());
            } else {
                call(context, Integer.parseInt(asked[0]));
                System.out.println("called");
            }
            System.out.flush();
        }
    }
}
"""


def _ders(path: Path) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(path.read_bytes())]


@pytest.fixture(scope="module")
def java(
    collection: Collection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str | int, Path], str]]:
    """A Java program that is told `serve` or a port to call, and a trust store; it answers in one line."""
    program = shutil.which("java")
    if not (program and shutil.which("javac")):
        pytest.skip("there is no Java compiler")
    folder, good = tmp_path_factory.mktemp("java"), collection.good
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    (folder / "own.p12").write_bytes(key_store("own", key, _ders(good.cert), b"secret"))  # type: ignore[arg-type]
    (folder / "Judge.java").write_text(JAVA)
    words = [program, str(folder / "Judge.java"), str(folder / "own.p12")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(what: str | int, trust: Path) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{what}\t{trust}\n")
            process.stdin.flush()
            return process.stdout.readline()

        yield ask
        process.kill()


def test_java_takes_it_or_not_as_we_say(
    collection: Collection, java: Callable[[str | int, Path], str], tmp_path: Path
) -> None:
    """Over one version of TLS for each role, as it takes half a minute else: Java knows no difference."""
    stores = {}
    for name, specimen in collection.specimens.items():
        stores[name] = tmp_path / f"{name}.p12"
        stores[name].write_bytes(trust_store(_ders(specimen.trusted[0]), b""))

    def as_scu(one: Specimen) -> Answer:
        port = int(java("serve", stores[one.name]))
        return measured(lambda version: is_taken_as_scu(one, port, version), VERSIONS[:1])

    def as_scp(one: Specimen) -> Answer:
        return measured(
            lambda version: is_taken_as_scp(one, version, lambda _, port: java(port, stores[one.name])),
            VERSIONS[1:],
        )

    expect(collection, Program.JAVA, Use.SCU, as_scu)
    expect(collection, Program.JAVA, Use.SCP, as_scp)


# ---------------------------------------------------------------------- the table itself


def test_every_rule_is_asked_of_a_specimen(with_encrypted: dict[str, Specimen], tmp_path: Path) -> None:
    """A rule that no specimen meets would be a claim that nobody has looked at; dicom-rs is not here to ask."""
    met = set()
    for specimen in (*with_encrypted.values(), *make_twins(tmp_path)):
        files = (specimen.cert, *specimen.trusted, *([specimen.key] if specimen.name in OWN else []))
        found = [look_at(path, lambda: b"secret") for path in files]
        for one in Inspection(found).verdicts(found[0].holding.certificates[0]):
            met |= {(one.program, one.use, reason.code) for reason in one.reasons}
    claimed = {(*place, rule.code) for rule in RULES for place in rule.where if rule.code != "unreadable"}
    assert claimed - met - {place for place in claimed if place[0] is Program.RUSTLS} == set()
