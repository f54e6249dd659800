"""THE factory of TLS contexts, and the sockets of those contexts, which decide who the peer is.

Whoever holds one of these contexts gets the check, pynetdicom included: it is part of the handshake of the
context's own socket class, and no application byte passes before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dicomtls_cli.errors import printable
from dicomtls_cli.tls.der import may_sign_certificates
from dicomtls_cli.tls.handshake import watch_messages
from dicomtls_cli.tls.names import host_matches, named_hosts, subject_text
from dicomtls_cli.tls.policy import Identity, PeerCheck, Role, TlsPolicy

_VERIFY_MODES = {
    PeerCheck.REQUIRE: ssl.CERT_REQUIRED,
    PeerCheck.VERIFY: ssl.CERT_OPTIONAL,
    PeerCheck.IGNORE: ssl.CERT_NONE,
}


_DH_GROUP = Path(__file__).with_name("ffdhe2048.pem")
_APPLICATION_VERIFICATION = 50  # X509_V_ERR_APPLICATION_VERIFICATION


class IdentityError(ssl.SSLCertVerificationError):
    """The peer's certificate is valid, but not the one that is meant.

    An `ssl` error, so that any program that holds our contexts treats it as the failed handshake it is.
    `slug` names the rule that failed; `message` and `hint` are for people.
    """

    def __init__(self, slug: str, message: str, hint: str) -> None:
        super().__init__(ssl.SSL_ERROR_SSL, message)
        self.slug, self.message, self.hint = slug, printable(message), printable(hint)
        self.reason = "PEER_NOT_IDENTIFIED"
        self.verify_code, self.verify_message = _APPLICATION_VERIFICATION, self.message


def client_context(policy: TlsPolicy) -> ssl.SSLContext:
    """Return the context of a requestor; `wrap_socket(sock, server_hostname=HOST)` names the host dialled.

    Raises ssl.SSLError or OSError where the key pair or trust cannot be loaded.
    """
    if policy.role is not Role.REQUESTOR:
        raise ValueError("the policy is an acceptor's")
    context = _DicomContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the name is one of several proofs: see _identify
    _configure(context, policy)
    return context


def server_context(policy: TlsPolicy) -> ssl.SSLContext:
    """Return the context of an acceptor; its sockets make the handshake at their first use, not in accept.

    Raises ssl.SSLError or OSError where the key pair or trust cannot be loaded.
    """
    if policy.role is not Role.ACCEPTOR:
        raise ValueError("the policy is a requestor's")
    context = _DicomContext(ssl.PROTOCOL_TLS_SERVER)
    _configure(context, policy)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    if any(name.startswith("DHE-") for name in policy.tls12_suites):
        context.load_dh_params(str(_DH_GROUP))  # without a group the suites are listed, and never agreed on
    return context


def _configure(context: _DicomContext, policy: TlsPolicy) -> None:
    context.policy = policy
    context.pins = policy.trust.pins if policy.trust else frozenset()
    context.chains = {}
    context.verify_mode = _VERIFY_MODES[policy.peer_check]
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_TRUSTED_FIRST
    if policy.x509_strict:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    else:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.minimum_version, context.maximum_version = policy.tls_versions[0], policy.tls_versions[-1]
    if policy.tls12_suites:
        context.set_ciphers(":".join((*policy.tls12_suites, "@SECLEVEL=2")))
    # Hardly a DICOM peer resumes: a ticket would only be a second way in that skips the certificate.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.set_alpn_protocols(["dicom"])
    if policy.key_pair is not None:
        pair = policy.key_pair
        context.load_cert_chain(pair.cert_file, pair.key_file, pair.passphrase)
    if policy.trust is not None:
        if policy.trust.anchors:
            context.load_verify_locations(cadata=b"".join(policy.trust.anchors))
        if policy.trust.system:
            context.load_default_certs()
    watch_messages(context)


class _Identifying:
    """What the socket and the object of a context share: the identity check at the end of the handshake."""

    _identified = False
    identified_by = ""
    vouched_by: tuple[str, ...] = ()
    context: Any
    server_hostname: Any
    getpeercert: Any
    session_reused: Any
    _sslobj: Any

    def do_handshake(self, *arguments: Any) -> None:
        super().do_handshake(*arguments)  # type: ignore[misc]
        if not self._identified:
            identified_by = _identify(self)
            if identified_by:
                chain = _verified_chain(self)
                _refuse_revoked(self, chain)
                self.vouched_by = _authorities(self, chain)
            self.identified_by = identified_by
            self._identified = True

    def read(self, *arguments: Any) -> Any:
        if not self._identified:
            self.do_handshake()
        return super().read(*arguments)  # type: ignore[misc]

    def write(self, *arguments: Any) -> Any:
        if not self._identified:
            self.do_handshake()
        return super().write(*arguments)  # type: ignore[misc]


class DicomTlsSocket(_Identifying, ssl.SSLSocket):
    """A TLS socket that raises IdentityError before one byte of an unidentified peer is read or sent."""

    suppress_ragged_eofs: bool

    def connect(self, address: Any) -> None:
        """Connect and make the handshake; the socket is closed where that fails."""
        with self._closed_on_failure():
            super().connect(address)

    def connect_ex(self, address: Any) -> Any:
        """Do the same, but return the error number where the connection does not come about."""
        with self._closed_on_failure():
            return super().connect_ex(address)

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        # ssl.SSLSocket drops its TLS object here but leaves the connection open: what is sent on it after the
        # failed handshake would go out in the clear, and to a peer that was just refused.
        try:
            yield
        except BaseException:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return what came; closed where a reset comes while the socket is made: `ssl` would leave it open."""
        try:
            return super().recv(buflen, flags)
        except ConnectionError:
            if self._sslobj is None:
                self.close()
            raise

    # `recv` and `recv_into` of ssl.SSLSocket read through `read`; `send` has its own way to the TLS object. Both are
    # called for each record, and once the peer is identified the way of ssl.SSLSocket is longer than the record's own.
    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Read into `buffer`, after the handshake and identity check."""
        if self._identified and nbytes and not flags and self._sslobj is not None:
            try:
                count: int = self._sslobj.read(nbytes, buffer)
                return count
            except ssl.SSLEOFError:
                if self.suppress_ragged_eofs:
                    return 0
                raise
        return super().recv_into(buffer, nbytes, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what fits of `data`, after the handshake and identity check."""
        if not self._identified:
            self.do_handshake()
        elif self._sslobj is not None and not flags:
            count: int = self._sslobj.write(data)
            return count
        return super().send(data, flags)


class DicomTlsObject(_Identifying, ssl.SSLObject):
    """The same for TLS over memory (`wrap_bio`, asyncio)."""


class _DicomContext(ssl.SSLContext):
    policy: TlsPolicy
    pins: frozenset[bytes]  # those of the policy's trust, hashed once
    chains: dict[bytes, tuple[bytes, ...]]  # SHA-256 of an identified peer -> its verified chain
    sslsocket_class = DicomTlsSocket
    sslobject_class = DicomTlsObject

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """Wrap a socket; on the acceptor's side the handshake waits for the first use.

        pynetdicom wraps inside its accept loop, where one silent client would block everybody.
        """
        deferred = self.policy.role is Role.ACCEPTOR
        return super().wrap_socket(
            sock,
            server_side=server_side,
            do_handshake_on_connect=do_handshake_on_connect and not deferred,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=server_hostname,
            session=session,
        )


def _identify(connection: _Identifying) -> str:
    """Decide whether the peer is the one that is meant; return by what it is known ("" for not at all).

    docs/security.md has the rules in words. Raises IdentityError.
    """
    policy: TlsPolicy = connection.context.policy
    der = connection.getpeercert(True)
    if policy.peer_check is PeerCheck.IGNORE or (der is None and policy.peer_check is PeerCheck.VERIFY):
        return ""
    if der is None:
        raise IdentityError(
            "tls.peer-no-certificate", "the peer showed no certificate", "the peer needs one of its own"
        )
    assert policy.trust is not None
    digest = hashlib.sha256(der).digest()
    certificate = _decoded(connection)
    shown = f"{subject_text(certificate)} (SHA-256 {digest.hex()})"
    if policy.pin is not None:
        if digest != policy.pin:
            raise IdentityError(
                "tls.pin-mismatch",
                f"the peer showed another certificate than the pinned one: {shown}",
                f"if its certificate was renewed on purpose, pin the new one: `--pin {digest.hex()}`",
            )
        return "pin"
    if policy.identity is Identity.NONE:
        return "chain"
    pinned = digest in connection.context.pins
    if pinned and policy.identity is not Identity.NAME:
        return "pin"
    if policy.identity is Identity.PINNED or not (pinned or _has_authority(connection, policy)):
        raise IdentityError(
            "tls.peer-not-pinned",
            f"the peer's certificate is not among the trusted ones, and no trusted CA vouches for it: {shown}",
            "if the peer is right, add its certificate with `--trust FILE`; if the trusted certificate that "
            "signed it is meant to be a CA, say so with `--trust-ca FILE`",
        )
    if policy.role is Role.REQUESTOR:
        _check_name(connection.server_hostname, certificate, digest)
        return "name"
    return "ca"


def _check_name(host: str | None, certificate: Mapping[str, Any], digest: bytes) -> None:
    if host is None or not host_matches(host, certificate):
        names = ", ".join(named_hosts(certificate)) or "no host"
        raise IdentityError(
            "tls.name-mismatch",
            f"the peer's certificate is made out to {names}, not to `{host or '(no host name given)'}`: "
            f"{subject_text(certificate)} (SHA-256 {digest.hex()})",
            f"dial one of its names, or, if it is the right one all the same, `--pin {digest.hex()}`",
        )


def _has_authority(connection: _Identifying, policy: TlsPolicy) -> bool:
    """Tell whether the verified chain ends in a certificate that is meant to sign others.

    A bundled certificate that is CA:TRUE by accident (`openssl req -x509` makes such) vouches only for
    itself: its holder could otherwise mint any identity.
    """
    assert policy.trust is not None
    chain = _verified_chain(connection)
    if len(chain) < 2:
        return False
    anchor = chain[-1]
    return hashlib.sha256(anchor).digest() in policy.trust.authorities or may_sign_certificates(anchor)


def _refuse_revoked(connection: _Identifying, chain: tuple[bytes, ...]) -> None:
    """Raise IdentityError if revocation lists are wanted, and do not let the peer of `chain` pass."""
    trust = connection.context.policy.trust
    if trust is not None and trust.revocation is not None:
        refusal = trust.revocation(chain, _digest(connection) in connection.context.pins)
        if refusal is not None:
            raise IdentityError(*refusal)


def _authorities(connection: _Identifying, chain: tuple[bytes, ...]) -> tuple[str, ...]:
    """Return the SHA-256 digests (hexadecimal) of the CAs in `chain`, nearest first; keep it for a resumption.

    Only an acceptor asks: it knows nobody by a host name.
    """
    connection.context.chains[_digest(connection)] = chain
    if connection.context.policy.role is Role.REQUESTOR:
        return ()
    return tuple(hashlib.sha256(ca).hexdigest() for ca in chain[1:])


def _verified_chain(connection: _Identifying) -> tuple[bytes, ...]:
    """Return the chain from the peer's certificate (DER) to its anchor, empty where it is not known."""
    if connection.session_reused:
        # A resumed session (TLS 1.2, as Java does it) has no chain. It can only be one of this context's.
        chains: dict[bytes, tuple[bytes, ...]] = connection.context.chains
        return chains.get(_digest(connection), ())
    if hasattr(ssl.SSLSocket, "get_verified_chain"):  # Python 3.13
        chain = super(_Identifying, connection).get_verified_chain()  # type: ignore[misc]
    else:
        chain = connection._sslobj.get_verified_chain()
    links = chain or ()
    return tuple(
        der if isinstance(der, bytes) else ssl.PEM_cert_to_DER_cert(der.public_bytes()) for der in links
    )


def _digest(connection: _Identifying) -> bytes:
    return hashlib.sha256(connection.getpeercert(True)).digest()


def _decoded(connection: _Identifying) -> Mapping[str, Any]:
    """Return the names and dates of the peer's certificate; nothing where `ssl` cannot decode them."""
    try:
        return connection.getpeercert() or {}
    except (ValueError, ssl.SSLError):  # a name that is no UTF-8 can be pinned, but names no host
        return {}
