"""The identity rules of docs/security.md as a table: what is shown, what is trusted, who is let in.

The other end is the standard library's: it shows the certificate and takes whatever comes.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

import pytest

from dicomtls_cli.services.diagnosis.diagnose import Stage, diagnose
from dicomtls_cli.tls.context import IdentityError, client_context, server_context
from dicomtls_cli.tls.handshake import messages
from dicomtls_cli.tls.policy import Identity, PeerCheck, Role, TlsPolicy
from tests.tls.conftest import Zoo
from tests.tls.wire import HOST, TLS12, TLS13, End, connect, key_pair, plain_context, trust

AUTO, PINNED, NAME, NONE = Identity
BOTH = (Role.REQUESTOR, Role.ACCEPTOR)


@dataclass(frozen=True)
class Case:
    """The peer shows `shows` (certificate, then its chain); we trust `trusts`.

    `requestor` and `acceptor` say what comes of it where we are the one or the other: by what the peer is
    identified, or the slug of the refusal; None: not asked in this role.
    """

    shows: str
    trusts: str
    requestor: str | None
    acceptor: str | None
    identity: Identity = AUTO
    host: str = HOST
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        more = "".join(f", {name} {value}" for name, value in self.options.items())
        at = "" if self.host == HOST else f" at {self.host}"
        return f"{self.identity}: {self.shows or 'nothing'}{at}, trusting {self.trusts}{more}"


UNTRUSTED, NOT_PINNED, OTHER_NAME = "tls.peer-untrusted", "tls.peer-not-pinned", "tls.name-mismatch"
OTHER_PIN, NO_CERTIFICATE = "tls.pin-mismatch", "tls.peer-no-certificate"
EXPIRED, FUTURE, WRONG_USAGE = "tls.peer-expired", "tls.peer-not-yet-valid", "tls.peer-wrong-usage"


def _four(
    shows: str,
    trusts: str,
    auto: tuple[str, str],
    pinned: tuple[str, str],
    name: str,
    none: tuple[str, str] = ("chain", "chain"),
    host: str = HOST,
    **options: str,
) -> list[Case]:
    """One line per rule: (as requestor, as acceptor); there is no name to check in the acceptor."""
    return [
        Case(shows, trusts, *auto, AUTO, host, options),
        Case(shows, trusts, *pinned, PINNED, host, options),
        Case(shows, trusts, name, None, NAME, host, options),
        Case(shows, trusts, *none, NONE, host, options),
    ]


def _never(slug: str) -> dict[str, tuple[str, str] | str]:
    """Refused by OpenSSL's verification, whatever the rule."""
    return {"auto": (slug, slug), "pinned": (slug, slug), "name": slug, "none": (slug, slug)}


_PIN, _REFUSED = ("pin", "pin"), (NOT_PINNED, NOT_PINNED)

CASES = [
    # Self-signed certificates. Two of one subject in one bundle both work.
    *_four("self", "self twin", _PIN, _PIN, "name"),
    *_four("twin", "self twin", _PIN, _PIN, "name"),
    *_four("self_elsewhere", "self_elsewhere", _PIN, _PIN, OTHER_NAME),
    *_four("stranger", "self twin", **_never(UNTRUSTED)),
    # Issued by a CA.
    *_four("leaf", "ca", ("name", "ca"), _REFUSED, "name"),
    *_four("leaf_elsewhere", "ca", (OTHER_NAME, "ca"), _REFUSED, OTHER_NAME),
    *_four("leaf", "leaf", _PIN, _PIN, "name"),
    *_four("leaf_elsewhere", "leaf_elsewhere ca", _PIN, _PIN, OTHER_NAME),
    *_four("leaf_twin", "leaf", **_never(UNTRUSTED)),
    *_four("leaf", "self", **_never(UNTRUSTED)),
    # ... through an intermediate: sent, not sent, trusted here, trusted here alone.
    *_four("deep intermediate", "ca", ("name", "ca"), _REFUSED, "name"),
    *_four("deep", "ca", **_never(UNTRUSTED)),
    *_four("deep", "ca intermediate", ("name", "ca"), _REFUSED, "name"),
    *_four("deep", "intermediate", ("name", "ca"), _REFUSED, "name"),
    # Names.
    Case("leaf_address", "ca", "name", None, host="127.0.0.1"),
    Case("leaf_address", "ca", "name", None, host="::1"),
    Case("leaf_address", "ca", OTHER_NAME, None, host="127.0.0.2"),
    Case("leaf_address", "ca", OTHER_NAME, None, host="localhost"),
    Case("leaf_localhost", "ca", "name", None, host="localhost"),
    Case("leaf_localhost", "ca", "name", None, host="LOCALHOST"),
    Case("leaf_localhost", "ca", OTHER_NAME, None, host="127.0.0.1"),
    Case("leaf_wildcard", "ca", "name", None, host="a.wild.test"),
    Case("leaf_wildcard", "ca", OTHER_NAME, None, host="a.b.wild.test"),
    Case("leaf_wildcard", "ca", OTHER_NAME, None, host="wild.test"),
    Case("leaf_idn", "ca", "name", None, host="bücher.test"),
    Case("leaf_common_name", "ca", "name", None),
    Case("leaf_common_address", "ca", OTHER_NAME, None, host="127.0.0.1"),
    # A trusted certificate that is CA:TRUE by accident vouches for itself, not for what its key signs.
    *_four("openssl", "openssl", _PIN, _PIN, "name"),
    *_four("child", "openssl", _REFUSED, _REFUSED, NOT_PINNED),
    *_four("child", "openssl ca", _REFUSED, _REFUSED, NOT_PINNED),
    *_four("grandchild rogue", "openssl", _REFUSED, _REFUSED, NOT_PINNED),
    *_four("child", "openssl child", _PIN, _PIN, "name"),
    # ... unless it is named as a CA on purpose.
    *_four("child", "openssl", ("name", "ca"), _REFUSED, "name", authorities="openssl"),
    *_four("child_elsewhere", "openssl", (OTHER_NAME, "ca"), _REFUSED, OTHER_NAME, authorities="openssl"),
    *_four("child", "openssl ca", _REFUSED, _REFUSED, NOT_PINNED, authorities="ca"),
    # What is wrong with a certificate stays wrong, trusted or not.
    *_four("self_expired", "self_expired", **_never(EXPIRED)),
    *_four("self_future", "self_future", **_never(FUTURE)),
    *_four("leaf_expired", "ca", **_never(EXPIRED)),
    *_four("leaf_future", "ca", **_never(FUTURE)),
    Case("self_server", "self_server", "pin", WRONG_USAGE),
    Case("self_client", "self_client", WRONG_USAGE, "pin"),
    Case("leaf_server", "ca", "name", WRONG_USAGE),
    Case("leaf_client", "ca", WRONG_USAGE, "ca"),
    # --pin: this peer is one certificate, whatever else is trusted and whatever the name.
    Case("self", "self twin", "pin", "pin", options={"pin": "self"}),
    Case("twin", "self twin", OTHER_PIN, OTHER_PIN, options={"pin": "self"}),
    Case("self_elsewhere", "self_elsewhere", "pin", "pin", options={"pin": "self_elsewhere"}),
    Case("leaf", "ca", "pin", "pin", options={"pin": "leaf"}),
    Case("leaf_twin", "ca", OTHER_PIN, OTHER_PIN, options={"pin": "leaf"}),
    Case("leaf_twin", "ca", OTHER_PIN, OTHER_PIN, PINNED, options={"pin": "leaf"}),
    Case("child", "openssl", OTHER_PIN, OTHER_PIN, options={"pin": "openssl"}),
    Case("stranger", "self", UNTRUSTED, UNTRUSTED, options={"pin": "stranger"}),
    Case("self_expired", "self_expired", EXPIRED, EXPIRED, options={"pin": "self_expired"}),
    # The other peer checks.
    Case("", "self", None, NO_CERTIFICATE),
    Case("", "self", None, "", options={"check": "verify"}),
    Case("self", "self", None, "pin", options={"check": "verify"}),
    Case("leaf", "ca", None, "ca", options={"check": "verify"}),
    Case("stranger", "self", None, UNTRUSTED, options={"check": "verify"}),
    Case("child", "openssl", None, NOT_PINNED, options={"check": "verify"}),
    Case("self_expired", "self_expired", None, EXPIRED, options={"check": "verify"}),
    Case("stranger", "self", "", "", options={"check": "ignore"}),
    Case("self_expired", "self", "", "", options={"check": "ignore"}),
    Case("", "self", None, "", options={"check": "ignore"}),
]


def _run(case: Case, role: Role, version: ssl.TLSVersion, zoo: Zoo) -> tuple[End, End]:
    """Return our end and the peer's."""
    shown = zoo.all(case.shows)
    pair = key_pair(shown[0], shown[1:]) if shown else None
    options = case.options
    policy = TlsPolicy(
        role,
        key_pair(zoo["own"]),
        trust(*zoo.all(case.trusts), authorities=zoo.all(options.get("authorities", ""))),
        PeerCheck(options.get("check", "require")),
        case.identity,
        bytes.fromhex(zoo[options["pin"]].fingerprint) if "pin" in options else None,
        versions=frozenset({version}),
    )
    if role is Role.REQUESTOR:
        return connect(client_context(policy), plain_context(Role.ACCEPTOR, pair, version), case.host)
    theirs, ours = connect(plain_context(Role.REQUESTOR, pair, version), server_context(policy), case.host)
    return ours, theirs


@pytest.mark.parametrize(
    ("case", "role"),
    [(c, role) for c in CASES for role in BOTH if getattr(c, role.value) is not None],
    ids=str,
)
def test_who_is_let_in(case: Case, role: Role, zoo: Zoo) -> None:
    expected = getattr(case, role.value)
    for version in (TLS12, TLS13):
        ours, _ = _run(case, role, version, zoo)
        assert (version, ours.outcome) == (version, expected)
        assert ours.done == (not expected.startswith("tls."))
        # ... and what it showed is known, also where it was refused.
        shown = zoo.all(case.shows)
        asked = role is Role.REQUESTOR or case.options.get("check") != "ignore"
        assert messages(ours.tls).certificate == (shown[0].der if shown and asked else None)


def test_the_table_holds_every_rule_in_every_role() -> None:
    asked = {(c.identity, role) for c in CASES for role in BOTH if getattr(c, role.value) is not None}
    assert asked == {(i, r) for i in Identity for r in BOTH} - {(NAME, Role.ACCEPTOR)}


# ---------------------------------------------------------------------- what a refusal says


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (Case("child", "openssl", NOT_PINNED, None), "CN=peer"),
        (Case("leaf_elsewhere", "ca", OTHER_NAME, None), "elsewhere.test, not to `peer.test`"),
        (Case("twin", "self twin", OTHER_PIN, None, options={"pin": "self"}), "another certificate"),
    ],
    ids=lambda value: str(value),
)
def test_a_refusal_names_the_certificate(case: Case, words: str, zoo: Zoo) -> None:
    ours, _ = _run(case, Role.REQUESTOR, TLS13, zoo)
    assert isinstance(ours.error, IdentityError)
    assert words in ours.error.message
    assert zoo[case.shows].fingerprint in ours.error.message
    assert ours.error.hint
    # It is an `ssl` error like any other to those who know nothing of us.
    assert isinstance(ours.error, ssl.SSLCertVerificationError)
    assert ours.error.verify_code == 50
    assert ours.error.message in str(ours.error)
    told = diagnose(ours.error, role=Role.REQUESTOR, stage=Stage.TLS, peer="host:1")
    assert (told.slug, told.exit_code) == (ours.error.slug, 11)
    assert told.message.startswith("refused `host:1`: ")


def test_terminal_escapes_in_a_subject_are_harmless(
    zoo: Zoo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.support.pki import make_identity

    folder = tmp_path_factory.mktemp("escape")
    peer = make_identity(folder, "peer", subject="\x1b[2Jgood", issuer=zoo["openssl"], hosts=(HOST,))
    client = client_context(TlsPolicy(Role.REQUESTOR, None, trust(zoo["openssl"])))
    ours, _ = connect(client, plain_context(Role.ACCEPTOR, key_pair(peer)))
    assert isinstance(ours.error, IdentityError)
    assert "\\x1b[2Jgood" in ours.error.message
    assert "\x1b" not in ours.error.message


def test_a_tampered_context_does_not_let_in_who_shows_nothing(zoo: Zoo) -> None:
    """A holder that turns verification off loses the peer's certificate, and with it every peer."""
    server = server_context(TlsPolicy(Role.ACCEPTOR, key_pair(zoo["own"]), trust(zoo["self"])))
    server.verify_mode = ssl.CERT_NONE
    _, ours = connect(plain_context(Role.REQUESTOR, key_pair(zoo["self"])), server)
    assert ours.outcome == NO_CERTIFICATE


def test_what_is_put_into_a_context_by_hand_is_no_pin(zoo: Zoo) -> None:
    """Pins are those of the policy; a CA that shows its own certificate is not a peer it vouches for."""
    for animal in ("self", "openssl", "ca"):
        server = server_context(TlsPolicy(Role.ACCEPTOR, key_pair(zoo["own"]), trust(zoo["twin"])))
        server.load_verify_locations(cadata=zoo[animal].der)
        _, ours = connect(plain_context(Role.REQUESTOR, key_pair(zoo[animal])), server)
        assert ours.outcome == NOT_PINNED
