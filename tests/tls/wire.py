"""TLS between two ends in memory: no sockets, no threads, so nothing here can hang."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dicomtls_cli.material import KeyPair, Trust
from dicomtls_cli.services.diagnosis.diagnose import Stage, diagnose
from dicomtls_cli.tls.policy import Role
from tests.support.pki import Identity

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
HOST = "peer.test"


def key_pair(identity: Identity, chain: tuple[Identity, ...] = ()) -> KeyPair:
    """Return the pair as `ssl` loads it; `chain` follows the certificate in its file."""
    path = identity.cert
    if chain:
        path = identity.cert.with_name("-".join(i.cert.stem for i in (identity, *chain)) + ".pem")
        path.write_text("".join(i.pem for i in (identity, *chain)))
    return KeyPair(str(path), str(identity.key), lambda: b"")


def trust(*identities: Identity, authorities: tuple[Identity, ...] = ()) -> Trust:
    """Return a bundle of `identities`; `authorities` are those of them named as CAs."""
    return Trust(
        tuple(i.der for i in identities), frozenset(bytes.fromhex(i.fingerprint) for i in authorities)
    )


def plain_context(
    role: Role, pair: KeyPair | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Return a context of the standard library's, which takes any peer: the other end of ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if role is Role.REQUESTOR else ssl.PROTOCOL_TLS_SERVER)
    if role is Role.REQUESTOR:
        context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if pair is not None:
        context.load_cert_chain(pair.cert_file, pair.key_file, pair.passphrase)
    return context


@dataclass
class End:
    """One end of a connection and how its handshake went."""

    tls: ssl.SSLObject
    role: Role
    incoming: ssl.MemoryBIO = field(repr=False)
    outgoing: ssl.MemoryBIO = field(repr=False)
    error: OSError | None = None
    done: bool = False

    def step(self) -> None:
        """Go as far as the bytes that came allow."""
        if self.done or self.error:
            return
        try:
            self.tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self.error = error

    @property
    def slug(self) -> str:
        """The cause as a person gets it told."""
        assert self.error is not None
        return diagnose(self.error, role=self.role, stage=Stage.TLS, peer="peer").slug

    @property
    def outcome(self) -> str:
        """By what the peer was identified, or why it was refused."""
        return str(getattr(self.tls, "identified_by", "")) if self.done else self.slug

    def reason(self) -> str:
        """What the other end said when it refused: in the handshake, or at the first read after it."""
        error = self.error
        if error is None:
            error = caught(lambda: self.tls.read(1))
        return str(getattr(error, "reason", error))


def caught(action: Callable[[], object]) -> OSError | None:
    """Return the error that `action` raises."""
    try:
        action()
    except OSError as error:
        return error
    return None


def connect(
    client: ssl.SSLContext,
    server: ssl.SSLContext,
    host: str | None = HOST,
    session: ssl.SSLSession | None = None,
) -> tuple[End, End]:
    """Make the handshake between two contexts as far as it goes; return the client's and the server's end."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    requestor = End(
        client.wrap_bio(down, up, server_hostname=host, session=session), Role.REQUESTOR, down, up
    )
    acceptor = End(server.wrap_bio(up, down, server_side=True), Role.ACCEPTOR, up, down)
    for _ in range(8):  # flights of a handshake: four at most, and an alert
        requestor.step()
        acceptor.step()
    return requestor, acceptor


def write_pem(path: Path, der: bytes, key_pem: bytes) -> KeyPair:
    """Write certificate and key into one file."""
    path.write_bytes(ssl.DER_cert_to_PEM_cert(der).encode() + key_pem)
    return KeyPair(str(path), str(path), lambda: b"")
