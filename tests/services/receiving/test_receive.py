"""The SCP's side of one association: what every command is answered with, and what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomtls_cli.dimse.command import (
    Command,
    CommandField,
    decode,
    echo_request,
    encode,
    response,
    store_request,
)
from dicomtls_cli.dimse.status import words
from dicomtls_cli.errors import AssociationLost, ProtocolError
from dicomtls_cli.services.receiving.disk import NoRoom
from dicomtls_cli.services.receiving.receive import InstanceReceived, serve
from dicomtls_cli.services.receiving.reception import Ignored, Incoming, Stored
from dicomtls_cli.services.receiving.storage import Storage
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.codec import encode as encode_pdu
from dicomtls_cli.upperlayer.failures import AssociationAborted, ConnectionBroken
from dicomtls_cli.upperlayer.negotiation import AcceptRules, answer
from tests.support.objects import data_set, element
from tests.support.scripted import (
    AC,
    CT,
    EXPLICIT,
    IMPLICIT,
    LIMIT,
    MR,
    PROVIDER,
    RELEASE_RQ,
    RELEASED,
    USER,
    VERIFICATION,
    Scripted,
    abort,
    p_data,
    pdv,
    played,
    request,
)

ECHO, STORE, OTHER = 1, 3, 5  # presentation contexts
CONTEXTS = ((VERIFICATION, (IMPLICIT,)), (CT, (EXPLICIT,)), (MR, (EXPLICIT,)))


class Scu:
    """A requestor that sends what it is told and reads the answers."""

    def __init__(self, peer: Scripted) -> None:
        self.peer = peer
        peer.send(encode_pdu(request(*CONTEXTS)))
        peer.expect(AC)

    def say(self, context: int, command: Command | bytes, data: bytes | None = None) -> None:
        encoded = command if isinstance(command, bytes) else encode(command)
        self.peer.send(p_data(pdv(context, encoded, command=True)))
        if data is not None:
            for start in range(0, max(len(data), 1), 4000):
                piece = data[start : start + 4000]
                self.peer.send(p_data(pdv(context, piece, last=start + 4000 >= len(data))))

    def hear(self, context: int) -> Command:
        came_on, command, data = self.peer.expect_message()
        assert (came_on, data) == (context, b"")
        return decode(command)

    def ask(self, context: int, command: Command | bytes, data: bytes | None = None) -> Command:
        self.say(context, command, data)
        return self.hear(context)

    def store(self, number: int = 1, instance: str = "1.2.3", data: bytes | None = None) -> Command:
        return self.ask(
            STORE, store_request(number, CT, instance), data_set(instance) if data is None else data
        )

    def release(self) -> None:
        self.peer.send(RELEASE_RQ)
        self.peer.expect(RELEASED)
        self.peer.expect_end()


def run(script: Callable[[Scu], None], receive: Callable[..., Incoming] | Path) -> list[InstanceReceived]:
    """Serve one association that plays `script`; return what was reported."""
    reported: list[InstanceReceived] = []
    with played(lambda peer: script(Scu(peer))) as sock:
        association = Association(sock, acse_timeout=LIMIT, dimse_timeout=LIMIT)
        asked = association.await_request()
        association.accept(asked, answer(asked, AcceptRules()))
        take = Storage(receive).receive if isinstance(receive, Path) else receive
        try:
            serve(association, "SCU", "SCP", take, reported.append)
        finally:
            association.close()
    return reported


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


# --- what goes well --------------------------------------------------------------------------------------


def test_a_store_is_answered_once_the_file_is_in_its_place(tmp_path) -> None:
    def script(scu: Scu) -> None:
        answered = scu.store(7, "1.2.3")
        assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]
        assert answered == Command(
            CommandField.C_STORE_RSP, responded_to=7, sop_class=CT, sop_instance="1.2.3", status=0
        )
        scu.release()

    (received,) = run(script, tmp_path)
    path = tmp_path / "1.2.9" / "1.2.3.dcm"
    assert received.stored == Stored(str(path), len(data_set()), study="1.2.9")
    assert (received.sop_class, received.sop_instance, received.transfer_syntax) == (CT, "1.2.3", EXPLICIT)
    assert (received.status, received.comment) == (0, "")
    assert path.read_bytes().endswith(data_set())
    assert pydicom.dcmread(path).SOPInstanceUID == "1.2.3"


def test_echo_and_store_on_one_association(tmp_path) -> None:
    def script(scu: Scu) -> None:
        for number in range(1, 4):
            assert scu.ask(ECHO, echo_request(2 * number)) == Command(
                CommandField.C_ECHO_RSP, responded_to=2 * number, sop_class=VERIFICATION, status=0
            )
            assert scu.store(2 * number + 1, f"1.2.{number}").status == 0
        scu.release()

    assert [r.sop_instance for r in run(script, tmp_path)] == ["1.2.1", "1.2.2", "1.2.3"]
    assert files(tmp_path) == [f"1.2.9/1.2.{number}.dcm" for number in (1, 2, 3)]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 2500), max_size=8), st.lists(st.integers(0, 2500), max_size=3))
def test_whatever_the_fragmentation_the_file_is_the_same(tmp_path_factory, cuts, writes) -> None:
    directory = tmp_path_factory.mktemp("split")
    command, data = encode(store_request(1, CT, "1.2.3")), data_set()

    def pieces(whole: bytes, at: Iterable[int]) -> list[bytes]:
        borders = [0, *sorted(cut for cut in at if cut < len(whole)), len(whole)]
        return [whole[a:b] for a, b in pairwise(borders)]

    def script(scu: Scu) -> None:
        for kind, whole in ((True, command), (False, data)):
            parts = pieces(whole, cuts)
            pdvs = [
                pdv(STORE, part, command=kind, last=number == len(parts))
                for number, part in enumerate(parts, 1)
            ]
            scu.peer.send(*pieces(p_data(*pdvs), writes))
        assert scu.hear(STORE).status == 0
        scu.release()

    (received,) = run(script, directory)
    assert received.stored is not None
    assert received.stored.path is not None
    assert received.stored.path.read_bytes().endswith(data)


def test_an_instance_again_says_that_it_replaced_the_file(tmp_path) -> None:
    def script(scu: Scu) -> None:
        scu.store(1)
        scu.store(2)
        scu.store(3, data=data_set(pixels=b"\2" * 1000))
        scu.release()

    stored = [received.stored for received in run(script, tmp_path)]
    assert [(s.replaced, s.identical) for s in stored if s] == [(False, False), (True, True), (True, False)]


def test_what_is_ignored_is_read_to_its_end_and_answered_with_success(tmp_path) -> None:
    def script(scu: Scu) -> None:
        assert scu.store().status == 0
        scu.release()

    (received,) = run(script, lambda _: Ignored())
    assert received.stored == Stored(None, len(data_set()))


def test_an_empty_data_set(tmp_path) -> None:
    """Nothing says which study it is of; everything that is said is kept."""

    def script(scu: Scu) -> None:
        assert scu.store(data=b"").status == 0
        scu.release()

    run(script, tmp_path)
    assert files(tmp_path) == ["unknown/1.2.3.dcm"]


# --- what is refused -------------------------------------------------------------------------------------

FIND = Command(CommandField.C_FIND_RQ, 9, sop_class=CT, priority=0, has_data=True)


def malformed(command: Command, tag: int) -> bytes:
    """Return `command` without one element."""
    data, at = encode(command), 12
    while data[at + 2 : at + 4] != tag.to_bytes(2, "little"):
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return data[:at] + data[at + 8 + int.from_bytes(data[at + 4 : at + 8], "little") :]


@pytest.mark.parametrize(
    ("context", "command", "data", "status"),
    [
        pytest.param(STORE, store_request(9, CT, "1.2.3"), data_set("1.2.4"), 0xA900, id="instance differs"),
        pytest.param(
            STORE, store_request(9, CT, "1.2.3"), data_set(sop_class=MR), 0xA900, id="class differs"
        ),
        pytest.param(STORE, store_request(9, CT, "1.2.3"), data_set()[:40], 0xC000, id="cut off"),
        pytest.param(STORE, store_request(9, CT, "1.2.3"), b"\xff" * 9000, 0xC000, id="garbage"),
        pytest.param(STORE, store_request(9, CT, "../../x"), data_set(), 0x0117, id="no UID"),
        pytest.param(STORE, store_request(9, CT, "1." * 40 + "1"), data_set(), 0x0117, id="UID too long"),
        pytest.param(STORE, store_request(9, MR, "1.2.3"), data_set(), 0x0122, id="class of another context"),
        pytest.param(
            OTHER, store_request(9, CT, "1.2.3"), data_set(), 0x0122, id="class not of this context"
        ),
        pytest.param(ECHO, store_request(9, CT, "1.2.3"), data_set(), 0x0211, id="C-STORE where C-ECHO is"),
        pytest.param(STORE, echo_request(9), None, 0x0211, id="C-ECHO where C-STORE is"),
        pytest.param(STORE, FIND, bytes(10_000), 0x0211, id="C-FIND"),
        pytest.param(STORE, Command(CommandField.N_CREATE_RQ, 9), None, 0x0211, id="N-CREATE"),
        pytest.param(STORE, Command(0x0777, 9, has_data=True), bytes(10), 0x0211, id="unknown operation"),
        pytest.param(
            STORE, malformed(store_request(9, CT, "1.2.3"), 0x1000), data_set(), 0x0212, id="no instance UID"
        ),
        pytest.param(
            STORE, malformed(store_request(9, CT, "1.2.3"), 0x0002), data_set(), 0x0212, id="no class UID"
        ),
        pytest.param(
            STORE,
            encode(store_request(9, CT, "1.2.3")).replace(
                b"\0\0\0\7\2\0\0\0\0\0", b"\0\0\0\7\4\0\0\0\0\0\0\0"
            ),
            data_set(),
            0x0212,
            id="priority of four bytes",
        ),
    ],
)
def test_a_refusal_has_its_status_and_the_association_lives_on(
    context, command, data, status, tmp_path
) -> None:
    def script(scu: Scu) -> None:
        answered = scu.ask(context, command, data)
        assert (answered.status, answered.responded_to) == (status, 9)
        asked = command if isinstance(command, Command) else store_request(9, CT, "1.2.3")
        assert answered.field == asked.field | 0x8000
        assert len(answered.error_comment) <= 64
        assert answered.error_comment
        assert scu.store(10, "1.2.77").status == 0
        assert scu.ask(ECHO, echo_request(11)).status == 0
        scu.release()

    reported = run(script, tmp_path)
    assert files(tmp_path) == ["1.2.9/1.2.77.dcm"]
    refused = [r for r in reported if r.stored is None]
    if status not in (0x0211, 0x0212):
        assert [(r.status, r.stored) for r in refused] == [(status, None)]
        assert words(status)


def test_the_comment_of_a_refusal_holds_nothing_a_terminal_acts_on(tmp_path) -> None:
    data = element(0x00080016, b"UI", CT.encode()) + element(0x00080018, b"UI", b"\x1b[2J\r\n\x07")
    data += element(0x0020000D, b"UI", b"1.2.9")

    def script(scu: Scu) -> None:
        answered = scu.store(data=data)
        assert answered.status == 0xA900
        assert answered.error_comment.isprintable()
        scu.release()

    run(script, tmp_path)


class Failing:
    """An instance that cannot be kept from some piece on."""

    def __init__(self, error: Exception, when: str) -> None:
        self.error = error
        self.when = when
        self.discarded = 0

    def write(self, piece: memoryview) -> None:
        if self.when == "write":
            raise self.error

    def commit(self) -> Stored:
        raise self.error

    def discard(self) -> None:
        self.discarded += 1


@pytest.mark.parametrize("when", ["receive", "write", "commit"])
def test_no_room_is_a700_and_the_association_lives_on(when) -> None:
    tried: list[Failing] = []

    def receive(_: object) -> Incoming:
        if len(tried) == 2:
            return Ignored()
        failing = Failing(NoRoom("disk full"), when)
        tried.append(failing)
        if when == "receive":
            raise NoRoom("disk full")
        return failing

    def script(scu: Scu) -> None:
        for number in (1, 2):
            answered = scu.store(number, data=bytes(300_000))
            assert (answered.status, answered.responded_to) == (0xA700, number)
            assert "disk full" not in answered.error_comment  # nothing about our paths for the peer
        assert scu.store(3).status == 0
        scu.release()

    reported = run(script, receive)
    assert [r.status for r in reported] == [0xA700, 0xA700, 0]
    assert [r.stored is None for r in reported] == [True, True, False]
    if when != "receive":
        assert [failing.discarded for failing in tried] == [1, 1]


def test_a_defect_while_storing_leaves_no_part_and_is_not_hidden(tmp_path) -> None:
    failing = Failing(ZeroDivisionError("a defect"), "write")

    def script(scu: Scu) -> None:
        scu.say(STORE, store_request(1, CT, "1.2.3"), data_set())
        assert scu.peer.sock.recv(1) == b""

    with pytest.raises(ZeroDivisionError):
        run(script, lambda _: failing)
    assert failing.discarded


def test_a_cancel_is_ignored(tmp_path) -> None:
    def script(scu: Scu) -> None:
        scu.say(STORE, Command(CommandField.C_CANCEL_RQ, responded_to=1))
        assert scu.store(2).status == 0
        scu.say(ECHO, Command(CommandField.C_CANCEL_RQ, responded_to=2))
        scu.release()

    assert len(run(script, tmp_path)) == 1


# --- what ends the association ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        pytest.param(b"", 6, id="empty"),
        pytest.param(b"\xff" * 100, 6, id="garbage"),
        pytest.param(malformed(store_request(9, CT, "1.2.3"), 0x0800), 6, id="unknown whether data follows"),
        pytest.param(malformed(store_request(9, CT, "1.2.3"), 0x0110), 6, id="no message id"),
        pytest.param(encode(response(echo_request(1), 0)), 5, id="an answer to nothing"),
    ],
)
def test_what_cannot_be_answered_is_aborted(command, reason, tmp_path) -> None:
    def script(scu: Scu) -> None:
        scu.say(STORE, command)
        scu.peer.expect_abort(PROVIDER, reason)

    with pytest.raises(ProtocolError):
        run(script, tmp_path)


def in_mid_object(scu: Scu) -> None:
    scu.peer.send(p_data(pdv(STORE, encode(store_request(1, CT, "1.2.3")), command=True)))
    scu.peer.send(p_data(pdv(STORE, data_set()[:500], last=False)))


@pytest.mark.parametrize(
    ("leave", "error"),
    [
        (lambda peer: peer.send(abort(USER, 0)), AssociationAborted),
        (lambda peer: peer.close(), ConnectionBroken),
        (lambda peer: peer.reset(), ConnectionBroken),
        (lambda peer: (peer.send(RELEASE_RQ), peer.expect_abort(PROVIDER, 2)), ProtocolError),
    ],
    ids=["A-ABORT", "close", "reset", "release"],
)
def test_a_peer_that_leaves_in_mid_object_leaves_nothing(leave, error, tmp_path) -> None:
    def script(scu: Scu) -> None:
        in_mid_object(scu)
        leave(scu.peer)

    with pytest.raises(error):
        run(script, tmp_path)
    assert files(tmp_path) == []


def test_an_instance_is_reported_also_where_its_sender_does_not_wait_for_the_answer(tmp_path) -> None:
    """It is on the disk: the log has to say so."""
    reported: list[InstanceReceived] = []

    class Gone(Association):
        def send(self, *_: object, **__: object) -> None:
            raise ConnectionBroken(ConnectionResetError(104, "Connection reset by peer"))

    def script(peer: Scripted) -> None:
        scu = Scu(peer)
        scu.say(STORE, store_request(1, CT, "1.2.3"), data_set())
        peer.expect_end()

    with played(script) as sock:
        association = Gone(sock, acse_timeout=LIMIT, dimse_timeout=LIMIT)
        asked = association.await_request()
        association.accept(asked, answer(asked, AcceptRules()))
        with pytest.raises(AssociationLost):
            serve(association, "SCU", "SCP", Storage(tmp_path).receive, reported.append)
        association.close()
    assert [r.stored and r.stored.path for r in reported] == [tmp_path / "1.2.9" / "1.2.3.dcm"]


def test_the_log_says_what_dcmtk_says(tmp_path, caplog) -> None:
    def script(scu: Scu) -> None:
        scu.ask(ECHO, echo_request(1))
        scu.store(2)
        scu.release()

    with caplog.at_level("INFO", logger="dicomtls"):
        run(script, tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        "Received Echo Request (MsgID 1)",
        "Received Store Request (MsgID 2, CT)",
        f"storing DICOM file: {tmp_path / '1.2.9' / '1.2.3.dcm'}",
        "Association Release",
    ]
