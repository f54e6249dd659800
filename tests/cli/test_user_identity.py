"""User identity negotiation (PS3.7 D.3.3.7): what reaches a peer, what it answers, and what nobody gets to see."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from dicomtls_cli.services.files.images import write_test_images
from tests.conftest import Pki
from tests.support import cli, peers
from tests.support.scripted import Scripted, listening, reject

SECRET = "hunter2-Öl"
FILE = "passcode"
ARRIVES = [
    (["--user", "bob"], (1, False, b"bob", b"")),
    (["-usr", "Zoë Ö", "-rsp"], (1, True, "Zoë Ö".encode(), b"")),
    (["--user", "bob", "--user-pass-file", FILE], (2, False, b"bob", SECRET.encode())),
    (["--user", "bob", "--user-pass-file", FILE, "--user-rsp"], (2, True, b"bob", SECRET.encode())),
    (["-usr", "bob", "-pwd", SECRET], (2, False, b"bob", SECRET.encode())),
    (["--user", "bob", "--user-pass", "", "--pos-response"], (2, True, b"bob", b"")),
    (["-usr", "bob", "-epw"], (2, False, b"bob", b"")),
]


@pytest.fixture(autouse=True)
def _passcode() -> None:
    path = Path(FILE)
    path.write_bytes(f"{SECRET}\r\nanother line\n".encode())
    path.chmod(0o600)


@dataclass
class Acceptor:
    """A pynetdicom SCP that notes every user it is told, and takes those it likes."""

    port: int = 0
    users: list[tuple[Any, ...]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    likes: bool = True

    def told(self, event: Any) -> tuple[bool, bytes | None]:
        asked = event.assoc.requestor.user_identity
        self.users.append(
            (
                event.user_id_type,
                asked.positive_response_requested,
                event.primary_field,
                event.secondary_field,
            )
        )
        return self.likes, None

    def operated(self, event: Any) -> int:
        self.operations.append(event.event.name)
        return 0


@pytest.fixture(scope="module")
def pynetdicoms() -> Iterator[Acceptor]:
    acceptor = Acceptor()
    sockets: list[Any] = []  # pynetdicom leaves them open where the peer left first
    ae = AE("PYNETDICOM")
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage)
    handlers = [
        (evt.EVT_USER_ID, acceptor.told),
        (evt.EVT_C_ECHO, acceptor.operated),
        (evt.EVT_C_STORE, acceptor.operated),
        (evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket.socket)),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    acceptor.port = server.server_address[1]
    try:
        yield acceptor
    finally:
        server.shutdown()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.close()


@pytest.fixture
def acceptor(pynetdicoms: Acceptor) -> Acceptor:
    pynetdicoms.users.clear()
    pynetdicoms.operations.clear()
    pynetdicoms.likes = True
    return pynetdicoms


def to(port: int, command: str = "echoscu", *words: object) -> cli.Result:
    images = ["--generate", "2"] if command == "storescu" else []
    return cli.run(command, "--no-tls", f"127.0.0.1:{port}", *images, *words)


# ---------------------------------------------------------------------- what arrives, what is answered


@pytest.mark.parametrize(("options", "expected"), ARRIVES, ids=lambda value: " ".join(map(str, value)))
def test_what_pynetdicom_is_told(options, expected, acceptor: Acceptor) -> None:
    """It never confirms a name (types 1 and 2), so whoever wants that is told that it does not."""
    result = to(acceptor.port, "echoscu", *options, "--json")
    assert acceptor.users == [expected]
    if not expected[1]:
        assert (result.exit_code, acceptor.operations) == (0, ["EVT_C_ECHO"])
        return
    assert (result.exit_code, result.json["error"]["code"]) == (20, "association.user-not-confirmed")
    assert "--user-rsp" in result.json["error"]["hint"]
    assert acceptor.operations == []


def test_every_association_of_storescu_tells_it(acceptor: Acceptor) -> None:
    result = to(acceptor.port, "storescu", "--user", "bob", "--user-pass-file", FILE)
    assert result.exit_code == 0, result.stderr
    assert acceptor.users == [(2, False, b"bob", SECRET.encode())]
    assert acceptor.operations == ["EVT_C_STORE"] * 2


def test_nothing_is_said_unless_asked_for(acceptor: Acceptor) -> None:
    assert to(acceptor.port).exit_code == 0
    assert acceptor.users == []


@pytest.mark.parametrize("command", ["echoscu", "storescu"])
def test_a_user_who_is_not_liked(command, acceptor: Acceptor) -> None:
    """pynetdicom's way to refuse a user is 2/2/1: no reason given, by the upper layer."""
    acceptor.likes = False
    result = to(acceptor.port, command, "--user", "bob", "--user-pass-file", FILE, "--json")
    error = result.json["error"]
    assert (result.exit_code, error["code"]) == (20, "association.rejected")
    assert "user" in error["hint"]


@pytest.mark.parametrize(
    ("numbers", "user", "blamed"),
    [
        ((1, 1, 1), "bob", True),
        ((1, 1, 1), None, False),
        ((1, 1, 7), "bob", False),
        ((2, 3, 1), "bob", False),
    ],
)
def test_a_rejection_is_blamed_on_the_user_where_it_may_be(numbers, user, blamed) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(1)
        peer.send(reject(*numbers))

    with listening(script) as port:
        result = to(port, "echoscu", "--json", *(["--user", user] if user else []))
    assert ("--user" in result.json["error"]["hint"]) == blamed


def test_ours_confirms_over_tls(scp: cli.Receiver, pki: Pki) -> None:
    options = ["--user", "bob", "--user-pass-file", FILE, "--user-rsp", "-d", *pki.scu_options]
    result = cli.run("echoscu", "localhost", scp.port, *options)
    assert (result.exit_code, result.stderr.count("warning:")) == (0, 0)
    assert "I: User Identity Confirmed" in result.stderr.splitlines()
    assert "user identity: username and passcode (not shown), response requested yes" in result.stderr
    assert "bob" not in result.stderr
    assert "hunter2" not in result.stderr
    assert "hunter2" not in scp.log.read_text()


@pytest.mark.interop
def test_dcmtks_storescp_takes_any_user_and_confirms_none(tmp_path: Path) -> None:
    with peers.dcmtk_storescp(tmp_path / "out") as storescp:
        taken = to(storescp.port, "storescu", "--user", "bob", "--user-pass-file", FILE)
        assert taken.exit_code == 0, taken.stderr
        at = storescp.log.lines().index("D: Requested User Identity Negotiation:")
        assert storescp.log.lines()[at + 1 : at + 5] == [
            "D:   Authentication mode 2: Username/Password",
            "D:   Username: [bob]",
            f"D:   Password: [{SECRET}]",
            "D:   Positive Response requested: No",
        ]
        asked = to(storescp.port, "storescu", "--user", "bob", "-rsp", "--json")
        assert asked.json["error"]["code"] == "association.user-not-confirmed"
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.interop
def test_ours_confirms_to_dcmtks_storescu(pki: Pki, scp: cli.Receiver, tmp_path: Path) -> None:
    """It gives up without a confirmation, as ours does."""
    image = write_test_images(tmp_path, 1)[0]
    secured = peers.dcmtk_tls(pki.scu.cert, pki.scu.key, pki.trusted)
    user = ["-usr", "bob", "-pwd", SECRET, "-rsp"]
    done = peers.dcmtk("storescu", *secured, *user, "localhost", scp.port, image)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hunter2" not in scp.log.read_text()


# ---------------------------------------------------------------------- who else may see the passcode


def warnings(result: cli.Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("warning:")]


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (["--user-pass-file", FILE], ["in the clear"]),
        (["-pwd", SECRET], ["process list", "in the clear"]),
        (["-epw"], []),
        ([], []),
    ],
)
def test_warnings_over_plain_dicom(options, warned, acceptor: Acceptor) -> None:
    result = to(acceptor.port, "echoscu", "--user", "bob", *options)
    told = warnings(result)
    assert len(told) == len(warned)
    assert all(words in line for words, line in zip(warned, told, strict=True))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1), (0o602, 1)])
def test_a_passcode_file_that_others_may_open(mode, warned, scp: cli.Receiver, pki: Pki) -> None:
    Path(FILE).chmod(mode)
    result = cli.run(
        "echoscu", "localhost", scp.port, *pki.scu_options, "--user", "bob", "--user-pass-file", FILE
    )
    assert (result.exit_code, len(warnings(result))) == (0, warned)
    assert result.stderr.count("chmod 600") == warned


def test_whoever_answers_gets_it(scp: cli.Receiver, pki: Pki) -> None:
    options = ["--cert", pki.scu.cert, "--key", pki.scu.key, "-ic", "--user", "bob", "--user-pass-file", FILE]
    result = cli.run("echoscu", "localhost", scp.port, *options)
    assert result.exit_code == 0
    assert "whoever answers" in warnings(result)[-1]


HIDING = [
    ["-pwd", SECRET],
    ["--user", "bob", "-pwd", SECRET, "-epw"],
    ["--user", "bob", "-pwd", SECRET, "--user-pass-file", FILE],
    ["--user", "bob", "--user-pass-file", FILE],
    ["--user", "bob", f"--user-pass={SECRET}", "--user-rsp"],
    ["--user", "bob", f"--user-pas={SECRET}"],
    ["--user", "bob", "--user-pass", SECRET + "\udc80"],
    ["--user", "bob", "--user-pass", SECRET * 400],
    ["--user", f"{SECRET}\n", "-epw"],
    ["--user", "bob", "-pwd", SECRET, "--user-jwt", "x"],
    ["--user", "bob", "-pwd", SECRET, "--dimse-timeout", "5", "-b", "ME"],
]


@pytest.mark.parametrize("verbosity", ["-d", "--json"])
@pytest.mark.parametrize("options", HIDING, ids=lambda options: " ".join(map(ascii, options))[:50])
def test_the_passcode_is_nowhere(options, verbosity, acceptor: Acceptor) -> None:
    """Nor is what may be one: a misplaced word. Not in logs, dumps and errors, whatever goes wrong."""
    acceptor.likes = False
    result = to(acceptor.port, "echoscu", *options, verbosity, "--log-file", "log")
    for handler in logging.getLogger("dicomtls").handlers:
        handler.close()
    assert result.exit_code in (2, 20)
    log = Path("log").read_text() if Path("log").exists() else ""
    assert "hunter2" not in result.stdout + result.stderr + log


# ---------------------------------------------------------------------- words that make no sense


@pytest.mark.parametrize(
    ("options", "slug", "named"),
    [
        (["-pwd", "x"], "usage.no-user", "a passcode"),
        (["--user-pass-file", FILE], "usage.no-user", "a passcode"),
        (["-epw"], "usage.no-user", "a passcode"),
        (["-rsp"], "usage.no-user", "a confirmation"),
        (["--user", "b", "-pwd", "x", "-epw"], "usage.contradiction", "passcode"),
        (["--user", "b", "-pwd", "", "--user-pass-file", FILE], "usage.contradiction", "passcode"),
        (["--user", ""], "usage.user-identity", "user name"),
        (["--user", "  "], "usage.user-identity", "user name"),
        (["--user", "a\tb"], "usage.user-identity", "user name"),
        (["--user", "ä" * 513], "usage.user-identity", "1024 bytes"),
        (["--user", "b", "--user-pass-file", "missing"], "file.missing", "missing"),
        (["--user", "b", "--user-pass-file", "."], "file.is-directory", "passcode file"),
        (["--user", "b", "--user-pass-file", ""], "usage.empty-path", "empty"),
    ],
    ids=lambda value: "" if isinstance(value, list) else value,
)
def test_words_that_make_no_sense(options, slug, named, dicomtls) -> None:
    result = dicomtls("echoscu", "--no-tls", "127.0.0.1:1", "--json", *options)
    error = result.json["error"]
    assert (result.exit_code, error["code"]) == (3 if slug.startswith("file") else 2, slug)
    assert named in error["message"]
    assert error["hint"]


@pytest.mark.parametrize(
    ("content", "slug"),
    [
        (b"", "file.no-passcode"),
        (b"\nsecond\n", "file.no-passcode"),
        (b"\xef\xbb\xbf\n", "file.no-passcode"),
        (b"\xe4\n", "file.no-passcode"),
        (b"x" * 1025, "usage.user-identity"),
        (b"x" * 65537, "file.too-large"),
    ],
    ids=ascii,
)
def test_passcode_files_without_a_passcode(content, slug, dicomtls) -> None:
    Path(FILE).write_bytes(content)
    result = dicomtls("echoscu", "--no-tls", "127.0.0.1:1", "--user", "b", "--user-pass-file", FILE, "--json")
    assert result.json["error"]["code"] == slug


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfword\n", b"word", b"word\n\n", b"word\r\nmore"], ids=ascii)
def test_the_passcode_is_the_first_line(content, acceptor: Acceptor) -> None:
    Path(FILE).write_bytes(content)
    assert to(acceptor.port, "echoscu", "--user", "bob", "--user-pass-file", FILE).exit_code == 0
    assert acceptor.users == [(2, False, b"bob", b"word")]
