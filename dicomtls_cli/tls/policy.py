"""What is wanted of TLS, as one frozen value: no files, no sockets, no contexts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum

from dicomtls_cli.errors import UsageError
from dicomtls_cli.material import KeyPair, Trust
from dicomtls_cli.tls.profiles import DEFAULT_PROFILE, Profile, suite


class Role(StrEnum):
    """Who opened the association (PS3.8): the requestor is the TLS client, the acceptor the server."""

    REQUESTOR = "requestor"
    ACCEPTOR = "acceptor"


class PeerCheck(StrEnum):
    """What is asked of the peer's certificate, in DCMTK's words and with their meaning."""

    REQUIRE = "require"
    VERIFY = "verify"
    IGNORE = "ignore"


class Identity(StrEnum):
    """How a peer whose certificate is valid is known to be the one that is meant (docs/security.md)."""

    AUTO = "auto"
    PINNED = "pinned"
    NAME = "name"
    NONE = "none"


def _member(kind: type[StrEnum], word: str) -> StrEnum:
    try:
        return kind(word)
    except ValueError:
        raise UsageError(
            f"`{word}` is no {kind.__name__}", f"it is one of {', '.join(kind)}", slug="usage.unknown-word"
        ) from None


@dataclass(frozen=True, eq=False, repr=False, match_args=False)  # each would be made at every start
class TlsPolicy:
    """Everything a TLS context is made from, checked for sense.

    `pin` is the SHA-256 digest (32 bytes) of the only certificate the peer may show. `ciphers` (IANA or
    OpenSSL names) replace the suites of `profile`, `extra_ciphers` are added to them; `versions` narrow its
    TLS versions. Raises UsageError where the choices contradict each other.
    """

    role: Role
    key_pair: KeyPair | None = None
    trust: Trust | None = None
    peer_check: PeerCheck = PeerCheck.REQUIRE
    identity: Identity = Identity.AUTO
    pin: bytes | None = None
    profile: Profile = DEFAULT_PROFILE
    ciphers: tuple[str, ...] = ()
    extra_ciphers: tuple[str, ...] = ()
    versions: frozenset[ssl.TLSVersion] = frozenset()
    x509_strict: bool = False

    def __post_init__(self) -> None:
        # The words are as good as the members, and must not pass for something else.
        for name, kind in (("role", Role), ("peer_check", PeerCheck), ("identity", Identity)):
            object.__setattr__(self, name, _member(kind, getattr(self, name)))
        self._check_role()
        checked = self.peer_check is not PeerCheck.IGNORE
        if checked and (self.trust is None or not (self.trust.anchors or self.trust.system)):
            raise UsageError(
                "no trusted certificate is given, so the peer cannot be verified",
                "name the peer's certificate, or its CA's, with `--trust FILE`",
                slug="usage.no-trust",
            )
        if not checked and (self.pin or self.identity in (Identity.PINNED, Identity.NAME)):
            raise UsageError(
                "a peer whose certificate is ignored cannot be identified by it",
                "drop `--peer-cert ignore`, or drop `--pin` and `--identity`",
                slug="usage.identity-ignored",
            )
        if not checked and self.trust is not None and self.trust.revocation is not None:
            raise UsageError(
                "a peer whose certificate is ignored cannot be looked up in a revocation list",
                "drop `--peer-cert ignore`, or drop `--crl` and `+crv`",
                slug="usage.contradiction",
            )
        if self.pin is not None and self.identity in (Identity.NAME, Identity.NONE):
            raise UsageError(
                f"`--pin` names the one certificate, so `--identity {self.identity}` would change nothing",
                "give one of them",
                slug="usage.contradiction",
            )
        if not self.tls_versions:
            raise UsageError(
                f"profile `{self.profile.name}` and the chosen ciphers and versions leave no TLS version",
                "choose another `--tls-profile`, or drop the version option",
                slug="usage.no-tls-version",
            )

    def _check_role(self) -> None:
        if self.role is Role.REQUESTOR and self.peer_check is PeerCheck.VERIFY:
            raise UsageError(
                "`verify` is for the acceptor: a TLS server always shows a certificate",
                "use `--peer-cert require`",
                slug="usage.verify-requestor",
            )
        if self.role is Role.ACCEPTOR:
            if self.key_pair is None:
                raise UsageError(
                    "an SCP needs a certificate and a key of its own for TLS",
                    "give `--cert FILE --key FILE` (`dicomtls gencert NAME` makes both), or `--no-tls`",
                    slug="usage.no-certificate",
                )
            if self.trust is not None and self.trust.system and self.peer_check is not PeerCheck.IGNORE:
                raise UsageError(
                    "an SCP cannot trust this machine's CAs: they vouch for names, and nobody was dialled",
                    "name the certificates of the peers, or a CA of your own, with `--trust FILE`",
                    slug="usage.system-acceptor",
                )
            if self.identity is Identity.NAME:
                raise UsageError(
                    "the acceptor did not dial a name, so it has none to check",
                    "use `--identity auto` or `pinned`",
                    slug="usage.name-acceptor",
                )

    @property
    def tls_versions(self) -> tuple[ssl.TLSVersion, ...]:
        """The TLS versions that remain, lowest first."""
        versions = [v for v in self.profile.versions if not self.versions or v in self.versions]
        if self.ciphers:
            named = {suite(name)[0] for name in self.ciphers}
            versions = [v for v in versions if v in named]
        return tuple(versions)

    @property
    def tls12_suites(self) -> tuple[str, ...]:
        """OpenSSL names of the TLS 1.2 suites, best first."""
        names = self.ciphers or self.profile.suites
        found = [suite(name) for name in (*names, *self.extra_ciphers)]
        return tuple(dict.fromkeys(name for version, name in found if version is ssl.TLSVersion.TLSv1_2))
