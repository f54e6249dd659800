"""Every mode of our SCU against our SCP: who is let in, who is told what, and that the SCP serves on."""

from __future__ import annotations

import contextlib
import queue
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from dicomtls_cli.errors import ConnectionFailed
from dicomtls_cli.services.echo import echo
from dicomtls_cli.services.peer import Peer, Requestor, TlsOptions, tls_context
from dicomtls_cli.services.receiving.events import Closed, Event, Opened, Refused
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer
from dicomtls_cli.tls.policy import PeerCheck, Role
from tests.conftest import Pki
from tests.support import cli
from tests.support.pki import Identity, make_identity, write_bundle

LIMIT = 30.0


@dataclass(frozen=True)
class Cast:
    """The certificates of both sides. All but `stranger` are in `trusted`, `elsewhere` through its CA."""

    people: dict[str, Identity]
    trusted: Path

    def __getitem__(self, name: str) -> Identity:
        return self.people[name]


@pytest.fixture(scope="session")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Cast:
    folder = tmp_path_factory.mktemp("cast")
    server_only, client_only = (ExtendedKeyUsageOID.SERVER_AUTH,), (ExtendedKeyUsageOID.CLIENT_AUTH,)
    ca = make_identity(folder, "ca", subject="ca", ca=True, hosts=(), addresses=())
    people = {
        "scp": make_identity(folder, "scp"),
        "trusted": make_identity(folder, "trusted"),
        "expired": make_identity(folder, "expired", valid=(-20, -1)),
        "not yet valid": make_identity(folder, "future", valid=(1, 20)),
        "server only": make_identity(folder, "server-only", usages=server_only),
        "client only": make_identity(folder, "client-only", usages=client_only),
    }
    bundle = write_bundle(folder / "bundle.crt", *people.values(), ca)
    people["stranger"] = make_identity(folder, "stranger")
    people["elsewhere"] = make_identity(
        folder, "elsewhere", hosts=("elsewhere.test",), addresses=(), issuer=ca
    )
    return Cast(people, bundle)


@dataclass
class Scp:
    """A running SCP of ours in this process, and what it tells of."""

    server: StorageServer
    events: queue.Queue[Event]

    @property
    def port(self) -> int:
        return self.server.port

    def next_event(self) -> Event:
        return self.events.get(timeout=LIMIT)

    def refusal(self) -> Refused:
        event = self.next_event()
        assert isinstance(event, Refused), event
        return event


@contextlib.contextmanager
def _scp(cast: Cast, who: str = "scp", check: PeerCheck = PeerCheck.REQUIRE) -> Iterator[Scp]:
    options = TlsOptions(cast[who].cert, cast[who].key, trust=(cast.trusted,), peer_check=check)
    events: queue.Queue[Event] = queue.Queue()
    context = tls_context(Role.ACCEPTOR, options)
    with StorageServer(ServerOptions(port=0, hosts=("127.0.0.1",), context=context), events.put) as server:
        yield Scp(server, events)


def _echo(scp: Scp, cast: Cast, who: str | None, *options: str) -> cli.Result:
    shown = ["--cert", cast[who].cert, "--key", cast[who].key] if who else ["--anonymous-tls"]
    return cli.run("echoscu", "--json", f"localhost:{scp.port}", *shown, "--trust", cast.trusted, *options)


@dataclass(frozen=True)
class Outcome:
    """What the SCU reports and ends with, and what the SCP tells of; `code` "": accepted."""

    code: str = ""
    exit: int = 0
    scp: str = ""


ACCEPTED = Outcome()


@dataclass(frozen=True)
class Mode:
    """A client and what comes of it under each check of the SCP."""

    who: str | None
    require: Outcome
    verify: Outcome
    ignore: Outcome = ACCEPTED


def _refused(code: str, scp: str) -> Outcome:
    return Outcome(f"tls.refused-{code}", 12, f"tls.peer-{scp}")


_UNTRUSTED = _refused("unknown-ca", "untrusted")
_EXPIRED = _refused("expired", "expired")
_FUTURE = _refused("bad-certificate", "not-yet-valid")
_USAGE = _refused("wrong-usage", "wrong-usage")

CLIENTS = {
    "trusted": Mode("trusted", ACCEPTED, ACCEPTED),
    "untrusted": Mode("stranger", _UNTRUSTED, _UNTRUSTED),
    "none": Mode(None, _refused("no-certificate", "no-certificate"), ACCEPTED),
    "expired": Mode("expired", _EXPIRED, _EXPIRED),
    "not yet valid": Mode("not yet valid", _FUTURE, _FUTURE),
    "wrong EKU": Mode("server only", _USAGE, _USAGE),
}
VERSIONS = pytest.mark.parametrize("version", ["--tls12", "--tls13"])
_NAMES = {"--tls12": "TLSv1.2", "--tls13": "TLSv1.3"}


def _serves_on(scp: Scp, cast: Cast) -> None:
    assert _echo(scp, cast, "trusted").exit_code == 0
    assert isinstance(scp.next_event(), Opened)
    closed = scp.next_event()
    assert isinstance(closed, Closed)
    assert closed.error is None


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("check", list(PeerCheck))
@VERSIONS
def test_the_scp_checks_its_clients(check: PeerCheck, client: str, version: str, cast: Cast) -> None:
    mode = CLIENTS[client]
    expected: Outcome = getattr(mode, check.value)
    with _scp(cast, check=check) as scp:
        result = _echo(scp, cast, mode.who, version)
        assert result.exit_code == expected.exit
        if expected == ACCEPTED:
            assert result.json["tls"]["version"] == _NAMES[version]
            assert result.json["tls"]["identified_by"] == "pin"
            opened = scp.next_event()
            assert isinstance(opened, Opened)
            seen = cast[mode.who].der if mode.who and check is not PeerCheck.IGNORE else None
            assert opened.client.certificate == seen
            assert isinstance(scp.next_event(), Closed)
        else:
            assert result.json["error"]["code"] == expected.code
            assert result.json["error"]["hint"]
            refused = scp.refusal()
            assert refused.error.slug == expected.scp
            assert refused.client.certificate == (cast[mode.who].der if mode.who else None)
        _serves_on(scp, cast)
        assert scp.events.empty()  # nothing was asked twice


@pytest.mark.parametrize("check", list(PeerCheck))
def test_plain_dicom_meets_tls(check: PeerCheck, cast: Cast) -> None:
    with _scp(cast, check=check) as scp:
        result = cli.run("echoscu", "--json", f"localhost:{scp.port}", "--no-tls")
        assert result.exit_code == 13
        assert result.json["error"]["code"] == "association.peer-speaks-tls"
        assert scp.refusal().error.slug == "tls.peer-plain"
        # The SCU asked once more, by TLS and without a certificate, to say what speaks there.
        assert isinstance(scp.next_event(), Refused)
        _serves_on(scp, cast)


@VERSIONS
def test_tls_meets_plain_dicom(version: str, cast: Cast) -> None:
    events: queue.Queue[Event] = queue.Queue()
    with StorageServer(ServerOptions(port=0, hosts=("127.0.0.1",)), events.put) as server:
        scp = Scp(server, events)
        result = _echo(scp, cast, "trusted", version)
        assert result.exit_code == 13
        assert result.json["error"]["code"] == "tls.peer-plain"
        assert scp.refusal().error.exit_code == 13
        assert cli.run("echoscu", f"localhost:{server.port}", "--no-tls").exit_code == 0


def _distrusted(code: str, scp: str) -> Outcome:
    return Outcome(f"tls.{code}", 11, scp)


# The SCP hears an alert of the handshake; of an identity that is not the one meant, decided after it, only
# that the SCU has left.
SERVERS = {
    "trusted": ("scp", ACCEPTED),
    "untrusted": ("stranger", _distrusted("peer-untrusted", "tls.refused-unknown-ca")),
    "expired": ("expired", _distrusted("peer-expired", "tls.refused-expired")),
    "not yet valid": ("not yet valid", _distrusted("peer-not-yet-valid", "tls.refused-bad-certificate")),
    "wrong EKU": ("client only", _distrusted("peer-wrong-usage", "tls.refused-wrong-usage")),
    "wrong name": ("elsewhere", _distrusted("name-mismatch", "association.lost")),
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("check", ["require", "ignore"])
@VERSIONS
def test_the_scu_checks_its_server(check: str, server: str, version: str, cast: Cast) -> None:
    who, expected = SERVERS[server]
    if check == "ignore":
        expected = ACCEPTED
    with _scp(cast, who) as scp:
        result = _echo(scp, cast, "trusted", version, "--peer-cert", check)
        assert result.exit_code == expected.exit
        if expected == ACCEPTED:
            identified = {"require": "pin", "ignore": ""}[check]
            assert result.json["tls"]["identified_by"] == identified
            assert ("warning:" in result.stderr) == (check == "ignore")
            assert isinstance(scp.next_event(), Opened)
            assert isinstance(scp.next_event(), Closed)
        else:
            assert result.json["error"]["code"] == expected.code
            assert result.json["error"]["hint"]
            assert scp.refusal().error.slug == expected.scp
        # It serves those who take it as it is.
        assert _echo(scp, cast, "trusted", "--peer-cert", "ignore").exit_code == 0


def test_the_scp_tells_of_a_refusal(pki: Pki, scp: cli.Receiver) -> None:
    """The same through the command and its JSON events."""
    stranger = ["--cert", pki.stranger.cert, "--key", pki.stranger.key, "--trust", pki.trusted]
    result = cli.run("echoscu", "--json", f"localhost:{scp.port}", *stranger)
    assert (result.exit_code, result.json["error"]["code"]) == (12, "tls.refused-unknown-ca")
    assert cli.run("echoscu", f"localhost:{scp.port}", *pki.scu_options).exit_code == 0
    scp.process.terminate()  # the event may come after the peer's alert, but not after the end
    assert scp.process.wait(cli.LIMIT) == 0
    (event,) = [event for event in scp.events() if event["event"] == "refused"]
    assert event["event"] == "refused"
    assert event["error"]["code"] == "tls.peer-untrusted"
    assert event["certificate_sha256"] == pki.stranger.fingerprint


@VERSIONS
def test_a_refused_client_always_learns_why(version: str, cast: Cast) -> None:
    """60 of 60, each on its first connection: our SCP waits until the client has read the alert."""
    wanted = {"--tls12": ssl.TLSVersion.TLSv1_2, "--tls13": ssl.TLSVersion.TLSv1_3}[version]
    stranger = TlsOptions(
        cast["stranger"].cert, cast["stranger"].key, trust=(cast.trusted,), versions=frozenset({wanted})
    )
    requestor = Requestor(context=tls_context(Role.REQUESTOR, stranger), shows_certificate=True)
    told = []
    with _scp(cast) as scp:
        for _ in range(60):
            with pytest.raises(ConnectionFailed) as caught:
                echo(Peer("127.0.0.1", scp.port), requestor)
            told.append(caught.value.slug)
        refused = [scp.refusal().error.slug for _ in range(60)]
        assert scp.events.empty()  # no second connection was needed to find out
    assert told == ["tls.refused-unknown-ca"] * 60
    assert refused == ["tls.peer-untrusted"] * 60
