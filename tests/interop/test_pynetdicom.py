"""Any pynetdicom program gets DICOM TLS from our contexts: pynetdicom on one side or on both."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Identity as IdentityRule
from dicomtls_cli.tls.policy import PeerCheck, Role
from tests.support import cli
from tests.support.pki import Identity, make_identity, write_bundle
from tests.support.revocation import make_crl

LIMIT = 30.0
VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name
)


@dataclass(frozen=True)
class Cast:
    """The certificates; `bundle` holds `scp`, `scu`, a CA, and an `openssl req -x509`-like one."""

    people: dict[str, Identity]
    bundle: Path

    def context(self, role: Role, who: str | None, **choices: Any) -> ssl.SSLContext:
        own = self.people[who] if who else None
        options = {"trust": (self.bundle,), **choices}
        return tls_context(role, TlsOptions(own and own.cert, own and own.key, **options))


@pytest.fixture(scope="session")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Cast:
    folder = tmp_path_factory.mktemp("cast")
    ca = make_identity(folder, "ca", subject="ca", ca=True, hosts=(), addresses=())
    openssl = make_identity(folder, "openssl", subject="openssl", ca=True, key_usage=False)
    people = {
        "ca": ca,
        "scp": make_identity(folder, "scp"),
        "scu": make_identity(folder, "scu"),
        "stranger": make_identity(folder, "stranger"),
        "child": make_identity(folder, "child", issuer=openssl),
        "by_ca": make_identity(folder, "by-ca", issuer=ca),
        "elsewhere": make_identity(folder, "elsewhere", hosts=("elsewhere.test",), addresses=(), issuer=ca),
        "expired": make_identity(folder, "expired", valid=(-20, -1)),
    }
    bundle = write_bundle(folder / "bundle.crt", people["scp"], people["scu"], people["expired"], ca, openssl)
    return Cast(people, bundle)


@dataclass
class Scp:
    """A running pynetdicom SCP and what came to it."""

    port: int
    echoes: list[str]
    stored: list[Any]


def _keep(sockets: list[ssl.SSLSocket]) -> Callable[[Any], None]:
    """Return a handler that keeps the socket of each connection, to be closed by the test.

    pynetdicom does not close the one whose peer has left first: its `shutdown` fails, and it stops at that.
    """
    return lambda event: sockets.append(event.assoc.dul.socket.socket)


@contextlib.contextmanager
def _scp(context: ssl.SSLContext) -> Iterator[Scp]:
    """Run pynetdicom's server with `context`: its whole setting up is the `ssl_context` argument."""
    echoes: list[str] = []
    stored: list[Any] = []

    def echoed(event: Any) -> int:
        echoes.append(event.assoc.requestor.ae_title)
        return 0x0000

    def store(event: Any) -> int:
        stored.append(event.dataset)
        return 0x0000

    ae = AE("PYNETDICOM")
    ae.network_timeout = LIMIT
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage)
    sockets: list[ssl.SSLSocket] = []
    handlers = [(evt.EVT_C_ECHO, echoed), (evt.EVT_C_STORE, store), (evt.EVT_CONN_OPEN, _keep(sockets))]
    server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
    assert server is not None
    try:
        yield Scp(server.server_address[1], echoes, stored)
    finally:
        server.shutdown()
        for sock in sockets:
            sock.close()


Scps = Callable[..., Scp]


@pytest.fixture(scope="module")
def scps(cast: Cast) -> Iterator[Scps]:
    """Give out an SCP per certificate and peer check; each takes pynetdicom half a second to end."""
    with contextlib.ExitStack() as stack:
        running: dict[tuple[str, PeerCheck], Scp] = {}

        def scp(who: str = "scp", check: PeerCheck = PeerCheck.REQUIRE) -> Scp:
            if (who, check) not in running:
                context = cast.context(Role.ACCEPTOR, who, peer_check=check)
                running[who, check] = stack.enter_context(_scp(context))
            found = running[who, check]
            found.echoes.clear()
            found.stored.clear()
            return found

        yield scp


@contextlib.contextmanager
def _association(port: int, context: ssl.SSLContext, host: str = "localhost") -> Iterator[Any]:
    """Associate with pynetdicom; its whole setting up is the `tls_args` argument."""
    ae = AE("PYNETSCU")
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = LIMIT
    ae.add_requested_context(Verification)
    ae.add_requested_context(CTImageStorage)
    sockets: list[ssl.SSLSocket] = []
    handlers = [(evt.EVT_CONN_OPEN, _keep(sockets))]
    try:
        yield ae.associate("127.0.0.1", port, tls_args=(context, host), evt_handlers=handlers)
    finally:
        for sock in sockets:
            sock.close()


def _is_served(port: int, context: ssl.SSLContext, host: str = "localhost") -> bool:
    """Tell whether pynetdicom gets an association and an answer to its C-ECHO."""
    with _association(port, context, host) as association:
        if not association.is_established:
            return False
        status = association.send_c_echo()
        association.release()
        return bool(status) and status.Status == 0x0000


@VERSIONS
def test_echo_and_store_between_two_pynetdicoms(version: ssl.TLSVersion, cast: Cast, scps: Scps) -> None:
    image = dcmread(str(get_testdata_file("CT_small.dcm")))
    scp = scps()
    client = cast.context(Role.REQUESTOR, "scu", versions=frozenset({version}))
    with _association(scp.port, client) as association:
        assert association.is_established
        assert association.send_c_echo().Status == 0x0000
        assert association.send_c_store(image).Status == 0x0000
        association.release()
    assert scp.echoes == ["PYNETSCU"]
    assert [data_set.SOPInstanceUID for data_set in scp.stored] == [image.SOPInstanceUID]
    assert scp.stored[0].PixelData == image.PixelData


def test_pynetdicoms_scp_serves_our_scu(cast: Cast, scps: Scps) -> None:
    me, scp = cast.people["scu"], scps()
    options = ["--cert", me.cert, "--key", me.key, "--trust", cast.bundle]
    assert cli.run("echoscu", f"localhost:{scp.port}", *options).exit_code == 0
    sent = cli.run("storescu", f"localhost:{scp.port}", get_testdata_file("CT_small.dcm"), *options)
    assert sent.exit_code == 0, sent.stderr
    assert len(scp.stored) == 1


def test_our_scp_serves_pynetdicoms_scu(cast: Cast, tmp_path: Path) -> None:
    own = cast.people["scp"]
    with cli.receiver(tmp_path / "scp", "--cert", own.cert, "--key", own.key, "--trust", cast.bundle) as scp:
        assert _is_served(scp.port, cast.context(Role.REQUESTOR, "scu"))


@pytest.mark.parametrize(
    ("who", "check", "served"),
    [
        ("scu", PeerCheck.REQUIRE, True),
        ("by_ca", PeerCheck.REQUIRE, True),
        ("stranger", PeerCheck.REQUIRE, False),
        ("child", PeerCheck.REQUIRE, False),
        ("expired", PeerCheck.REQUIRE, False),
        (None, PeerCheck.REQUIRE, False),
        ("scu", PeerCheck.VERIFY, True),
        ("stranger", PeerCheck.VERIFY, False),
        ("child", PeerCheck.VERIFY, False),
        ("expired", PeerCheck.VERIFY, False),
        (None, PeerCheck.VERIFY, True),
        ("stranger", PeerCheck.IGNORE, True),
        (None, PeerCheck.IGNORE, True),
    ],
)
@VERSIONS
def test_whom_pynetdicoms_scp_lets_in(
    who: str | None, check: PeerCheck, served: bool, version: ssl.TLSVersion, cast: Cast, scps: Scps
) -> None:
    scp = scps(check=check)
    client = cast.context(Role.REQUESTOR, who, versions=frozenset({version}))
    assert _is_served(scp.port, client) == served
    assert scp.echoes == ["PYNETSCU"] * served
    assert _is_served(scp.port, cast.context(Role.REQUESTOR, "scu"))  # it serves on


@pytest.mark.parametrize(
    ("who", "choices", "host", "served"),
    [
        ("scp", {}, "localhost", True),
        ("scp", {}, "any.other.name", True),  # in the bundle: known by that, whatever its name
        ("scp", {"identity": IdentityRule.NAME}, "any.other.name", False),
        ("by_ca", {}, "localhost", True),
        ("by_ca", {}, "127.0.0.1", True),
        ("by_ca", {}, "any.other.name", False),
        ("by_ca", {"identity": IdentityRule.PINNED}, "localhost", False),
        ("elsewhere", {}, "localhost", False),
        ("elsewhere", {}, "elsewhere.test", True),
        ("stranger", {}, "localhost", False),
        ("child", {}, "localhost", False),
        ("expired", {}, "localhost", False),
        ("stranger", {"peer_check": PeerCheck.IGNORE}, "localhost", True),
    ],
)
@VERSIONS
def test_whom_pynetdicoms_scu_takes_for_its_peer(
    who: str,
    choices: dict[str, Any],
    host: str,
    served: bool,
    version: ssl.TLSVersion,
    cast: Cast,
    scps: Scps,
) -> None:
    scp = scps(who)
    client = cast.context(Role.REQUESTOR, "scu", versions=frozenset({version}), **choices)
    assert _is_served(scp.port, client, host) == served
    assert scp.echoes == ["PYNETSCU"] * served


def test_silent_clients_do_not_stop_pynetdicoms_scp(cast: Cast) -> None:
    """Without our context its handshake is made in the accept loop: one silent client stops everybody."""
    with _scp(cast.context(Role.ACCEPTOR, "scp")) as scp, contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", scp.port), LIMIT)) for _ in range(2)
        ]
        answered: list[bool] = []
        client = cast.context(Role.REQUESTOR, "scu")
        thread = threading.Thread(target=lambda: answered.append(_is_served(scp.port, client)), daemon=True)
        thread.start()
        thread.join(LIMIT)
        assert answered == [True]
        for sock in silent:  # they are still there
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)


def test_pynetdicom_looks_into_revocation_lists_too(cast: Cast, scps: Scps) -> None:
    ca, peer = cast.people["ca"], cast.people["by_ca"]
    empty, listed = make_crl(Path("empty.crl"), ca), make_crl(Path("listed.crl"), ca, peer)
    scp = scps("by_ca")
    for crl, served in ((empty, True), (listed, False)):
        assert _is_served(scp.port, cast.context(Role.REQUESTOR, "scu", crls=(crl,))) == served
    with _scp(cast.context(Role.ACCEPTOR, "scp", crls=(listed,))) as checking:
        assert not _is_served(checking.port, cast.context(Role.REQUESTOR, "by_ca"))
        assert _is_served(checking.port, cast.context(Role.REQUESTOR, "scu")), "it is in the bundle itself"
        assert checking.echoes == ["PYNETSCU"]
