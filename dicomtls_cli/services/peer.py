"""What a command line says about a peer and about TLS, and the TLS context that comes of it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import InputError, UsageError
from dicomtls_cli.material import KeyPair, Trust
from dicomtls_cli.pki.load import key_pair, load_trust
from dicomtls_cli.tls.context import client_context, server_context
from dicomtls_cli.tls.policy import Identity, PeerCheck, Role, TlsPolicy
from dicomtls_cli.tls.profiles import DEFAULT_PROFILE, Profile
from dicomtls_cli.upperlayer.header import OWN_MAXIMUM
from dicomtls_cli.upperlayer.items import UserIdentity
from dicomtls_cli.upperlayer.negotiation import ae_title

TLS_PORT = 2762
PLAIN_PORT = 11112

_PORT = re.compile(r"\d{1,5}")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[^\x00-\x7f]\S*")


class Peer(NamedTuple):
    """Where a peer listens and what it is called."""

    host: str
    port: int
    called_aet: str = "ANY-SCP"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Timeouts(NamedTuple):
    """Seconds for each phase: TCP connect, TLS handshake, association and release, one DIMSE message.

    `idle` is how long an acceptor waits for the next message to begin; None: as long as for one begun.
    """

    connect: float = 10.0
    tls: float = 10.0
    acse: float = 30.0
    dimse: float = 60.0
    idle: float | None = None


class TlsOptions(NamedTuple):
    """What is wanted of TLS, with files that were not read yet.

    `passphrase` is called when the key, or the PKCS#12 file it is in, turns out to be encrypted,
    `trust_passphrase` for the PKCS#12 files among the trusted certificates; `pin` is 64 hexadecimal digits (colons
    allowed) or the path of a certificate file. `crls` are files of revocation lists; with them, or with
    `check_crls`, those among `trust` count too. The rest is as in TlsPolicy.
    """

    cert: Path | str | None = None
    key: Path | str | None = None
    passphrase: Callable[[], bytes] | None = None
    trust_passphrase: Callable[[], bytes] | None = None
    trust: tuple[Path | str, ...] = ()
    authorities: tuple[Path | str, ...] = ()
    system_trust: bool = False
    crls: tuple[Path | str, ...] = ()
    check_crls: bool = False
    peer_check: PeerCheck = PeerCheck.REQUIRE
    identity: Identity = Identity.AUTO
    pin: str | None = None
    profile: Profile = DEFAULT_PROFILE
    ciphers: tuple[str, ...] = ()
    extra_ciphers: tuple[str, ...] = ()
    versions: frozenset[ssl.TLSVersion] = frozenset()
    x509_strict: bool = False

    @property
    def certificate_file(self) -> str:
        """What the hints call our certificate; "" where there is none."""
        return "" if self.cert is None else str(self.cert)


class Requestor(NamedTuple):
    """Everything an SCU needs to reach its peers, apart from the peer: who it is and how it connects.

    `context` None means plain DICOM. `maximum_length` is the greatest P-DATA PDU we take, `send_limit` the
    greatest we send, in bytes. `family` is AF_INET, AF_INET6 or AF_UNSPEC. `user` is who we say the user is
    (`upperlayer.negotiation.user_identity` makes one). `certificate_file` is what the hints call our certificate.
    """

    calling_aet: str = "DICOMTLS"
    context: ssl.SSLContext | None = None
    timeouts: Timeouts = Timeouts()
    maximum_length: int = OWN_MAXIMUM
    send_limit: int = OWN_MAXIMUM
    family: socket.AddressFamily = socket.AF_UNSPEC
    shows_certificate: bool = False
    user: UserIdentity | None = None
    certificate_file: str = ""


class Target(NamedTuple):
    """A peer, and how it is reached."""

    peer: Peer
    requestor: Requestor


def parse_peer(text: str, *, aec: str | None, tls: bool) -> tuple[Peer, bool]:
    """Parse `[AET@]host[:port]` or `[AET@][v6]:port`; tell also whether the port was written.

    The default port is 2762 with TLS, 11112 without. Raises UsageError.
    """
    called, at, address = text.rpartition("@")
    if at and not called and ":" not in address:
        raise UsageError(
            f"`{text}` is not a peer",
            "write `[AET@]host[:port]`; the name of a peers file stands alone: `dicomtls echoscu @pacs`",
            slug="usage.peer",
        )
    if at:
        called = ae_title(called)
        if aec is not None and aec != called:
            raise UsageError(
                f"`{text}` and `--aec {aec}` name different called AE titles",
                "give one of them",
                slug="usage.contradiction",
            )
    host, port = split_address(address, text)
    number = port if port is not None else TLS_PORT if tls else PLAIN_PORT
    return Peer(host, number, called if at else aec or "ANY-SCP"), port is not None


def split_address(address: str, text: str) -> tuple[str, int | None]:
    """Split `host[:port]` or `[v6]:port`, a part of `text`, into host and port; raise UsageError."""
    port: str | None = None
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise _not_a_peer(text)
        port = rest[1:] if rest else None
    elif address.count(":") > 1:
        host = address
    else:
        host, colon, after = address.partition(":")
        port = after if colon else None
        if not _HOST.fullmatch(host) or host.isdigit():
            raise _not_a_peer(text)
    if ":" in host and not re.fullmatch(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?", host):
        raise _not_a_peer(text)
    return host, None if port is None else parse_port(port)


def parse_port(text: str) -> int:
    """Parse a TCP port, 1 to 65535; raise UsageError."""
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise UsageError(f"`{text}` is not a port", "a port is a number from 1 to 65535", slug="usage.port")
    return int(text)


def _not_a_peer(text: str) -> UsageError:
    return UsageError(
        f"`{text}` is not a peer",
        "write `[AET@]host[:port]`, `host port`, or `[IPv6]:port`",
        slug="usage.peer",
    )


def tls_context(role: Role, options: TlsOptions) -> ssl.SSLContext:
    """Read the files of `options` and return the TLS context of `role`.

    Raises UsageError for contradictions, InputError for files that are missing or not what they should be.
    """
    _check_names(options)
    trust = _trust(options)
    with contextlib.ExitStack() as stack:
        pair: KeyPair | None = None
        cert, key = (None if path is None else Path(path) for path in (options.cert, options.key))
        if cert is not None:
            pair = stack.enter_context(key_pair(cert, key, options.passphrase))
        elif key is not None:
            raise UsageError(
                "a key without its certificate", "give `--cert FILE` too", slug="usage.half-key-pair"
            )
        policy = TlsPolicy(
            role=role,
            key_pair=pair,
            trust=trust,
            peer_check=options.peer_check,
            identity=options.identity,
            pin=_pin_digest(options.pin, options.trust_passphrase),
            profile=options.profile,
            ciphers=options.ciphers,
            extra_ciphers=options.extra_ciphers,
            versions=options.versions,
            x509_strict=options.x509_strict,
        )
        try:
            return client_context(policy) if policy.role is Role.REQUESTOR else server_context(policy)
        except (ssl.SSLError, OSError) as error:
            if cert is None:
                raise
            from dicomtls_cli.pki.explain import explain_key_pair

            raise explain_key_pair(cert, key, error, passphrase=options.passphrase) from error


def _check_names(options: TlsOptions) -> None:
    """Refuse what only looks like names of files: `""` would be the current folder, a `str` many letters."""
    several = (options.trust, options.authorities, options.crls)
    names = [options.cert, options.key, options.pin, *(name for group in several for name in group)]
    if any(isinstance(names, str | Path) for names in several) or "" in names:
        raise UsageError(
            "a name of a file is empty, or one stands where a tuple of them is due",
            'write `trust=("pacs.crt",)`',
            slug="usage.empty-path",
        )


def _trust(options: TlsOptions) -> Trust | None:
    files = [Path(path) for path in options.trust]
    authorities = [Path(path) for path in options.authorities]
    if options.pin is not None and digest_from(options.pin) is None:
        files.append(Path(options.pin))
    if not (files or authorities or options.system_trust or options.crls or options.check_crls):
        return None
    return load_trust(
        files,
        authorities,
        system=options.system_trust,
        password=options.trust_passphrase,
        crls=[Path(path) for path in options.crls],
        check_crls=options.check_crls,
    )


def digest_from(text: str) -> bytes | None:
    """Return the SHA-256 digest that `text` writes, 64 hexadecimal digits (colons allowed), None if it is none."""
    digits = text.replace(":", "")
    return bytes.fromhex(digits) if re.fullmatch(r"[0-9A-Fa-f]{64}", digits) else None


def _pin_digest(pin: str | None, password: Callable[[], bytes] | None) -> bytes | None:
    if pin is None:
        return None
    if (digest := digest_from(pin)) is not None:
        return digest
    anchors = load_trust([Path(pin)], password=password).anchors
    if len(anchors) != 1:
        raise InputError(
            f"`{pin}` holds {len(anchors)} certificates; a pin is exactly one",
            "give a file with the peer's certificate alone, or its SHA-256 digest",
            slug="trust.not-one-certificate",
        )
    return hashlib.sha256(anchors[0]).digest()
