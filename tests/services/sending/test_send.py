"""C-STORE as an SCU, against an SCP that answers whatever a script says."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from dicomtls_cli.dimse.command import Command, CommandField, Priority, decode, echo_request, encode, response
from dicomtls_cli.errors import AssociationLost, ConnectionFailed, DicomTlsError, ExitCode
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.scan import Instance, scan
from dicomtls_cli.services.peer import Peer, Requestor, Timeouts
from dicomtls_cli.services.sending import sender as module
from dicomtls_cli.services.sending import staging
from dicomtls_cli.services.sending.send import Outcome, Wishes, send
from dicomtls_cli.upperlayer.codec import decode as decode_pdu
from dicomtls_cli.upperlayer.pdu import AssociateRequest
from tests.support import images
from tests.support.objects import data_set, write
from tests.support.scripted import (
    CT,
    EXPLICIT,
    MR,
    PROVIDER,
    RELEASE_RQ,
    RELEASED,
    RQ,
    USER,
    Scripted,
    abort,
    accept_of,
    listening,
    p_data,
    pdv,
    reject,
)
from tests.support.server import Events, serving

DEFLATED = "1.2.840.10008.1.2.1.99"
SOON = Timeouts(connect=10, tls=10, acse=0.3, dimse=0.3)

Script = Callable[[Scripted], None]
Answer = Callable[[Scripted, int, Command], None]


def made(folder: Path, count: int) -> list[Instance]:
    """Write `count` files and return them as instances 1.2.1, 1.2.2 and so on."""
    for number in range(1, count + 1):
        write(folder / f"{number:03d}.dcm", sop_instance=f"1.2.{number}")
    return instances(folder)


def instances(*paths: Path) -> list[Instance]:
    found = list(scan(paths))
    assert all(isinstance(one, Instance) for one in found), found
    return found  # type: ignore[return-value]


def outcomes(
    port: int,
    wanted: Iterable[Instance],
    *,
    timeouts: Timeouts | None = None,
    jobs: int = 1,
    ending: threading.Event | None = None,
    read_ahead: ReadAhead | None = None,
    **wishes: object,
) -> list[Outcome]:
    requestor = Requestor(timeouts=timeouts or Timeouts())
    sending = send(
        Peer("127.0.0.1", port),
        wanted,
        requestor,
        Wishes(**wishes),  # type: ignore[arg-type]
        jobs=jobs,
        ending=ending,
        read_ahead=read_ahead,
    )
    return list(sending)


def statuses(found: Sequence[Outcome]) -> list[int | None]:
    return [outcome.status for outcome in found]


def slugs(found: Sequence[Outcome]) -> list[str]:
    return [outcome.error.slug if outcome.error else "" for outcome in found]


def answering(status: int, comment: str = "") -> Answer:
    def answer(peer: Scripted, context_id: int, asked: Command) -> None:
        peer.send(p_data(pdv(context_id, encode(response(asked, status, comment)), command=True)))

    return answer


STORED = answering(0)


def take(peer: Scripted) -> tuple[int, Command, bytes]:
    context_id, command, data = peer.expect_message()
    return context_id, decode(command), data


def scp(*answers: Answer, release: bool = True) -> Script:
    """Return an SCP that takes every context and answers one C-STORE after the other."""

    def script(peer: Scripted) -> None:
        peer.accept()
        for answer in answers:
            context_id, asked, _ = take(peer)
            answer(peer, context_id, asked)
        if release:
            peer.release()

    return script


def storing(received: list[bytes]) -> Script:
    """Return an SCP that keeps in `received` the data set of the one instance it gets."""

    def script(peer: Scripted) -> None:
        peer.accept()
        context_id, asked, data = take(peer)
        received.append(data)
        STORED(peer, context_id, asked)
        peer.release()

    return script


# --- what goes well --------------------------------------------------------------------------------------


def test_what_is_sent_is_what_the_file_holds(tmp_path) -> None:
    paths = [images.FOLDER / name for name in ("CT_small.dcm", "MR_small.dcm", "693_J2KI.dcm")]
    wanted = instances(*paths)
    got: list[tuple[Command, bytes]] = []

    def script(peer: Scripted) -> None:
        peer.accept()
        for _ in wanted:
            context_id, asked, data = take(peer)
            got.append((asked, data))
            STORED(peer, context_id, asked)
        peer.release()

    with listening(script) as port:
        found = outcomes(port, wanted, priority=Priority.HIGH)
    assert [data for _, data in got] == [images.data_set(path) for path in paths]
    assert [(c.sop_class, c.sop_instance) for c, _ in got] == [(i.sop_class, i.sop_instance) for i in wanted]
    assert {(c.field, c.priority, c.has_data) for c, _ in got} == {
        (CommandField.C_STORE_RQ, Priority.HIGH, True)
    }
    assert len({c.message_id for c, _ in got}) == len(wanted)
    assert all(outcome.is_stored and not outcome.is_warning for outcome in found)
    assert [outcome.instance for outcome in found] == wanted
    assert [outcome.length for outcome in found] == [len(data) for _, data in got]


def test_the_uids_of_the_data_set_are_sent_not_the_file_metas(tmp_path) -> None:
    """As DCMTK does; an SCP that looks would refuse the other."""
    path = write(tmp_path / "a.dcm", data_set("1.2.99", sop_class=MR), "1.2.3")
    events = Events()
    with serving(tmp_path / "output", events) as server:
        (outcome,) = outcomes(server.port, instances(path))
    assert outcome.is_stored
    assert (outcome.instance.sop_class, outcome.instance.sop_instance) == (MR, "1.2.99")
    assert outcome.instance.remark
    assert (tmp_path / "output" / "1.2.9" / "1.2.99.dcm").exists()


def test_every_kind_of_file_arrives_as_it_is(tmp_path) -> None:
    wanted = instances(*images.variety())
    with serving(tmp_path) as server:
        found = outcomes(server.port, wanted)
    assert slugs(found) == [""] * len(wanted)
    stored = {path.stem: path for path in tmp_path.rglob("*.dcm")}
    for outcome in found:
        assert images.data_set(stored[outcome.instance.sop_instance]) == images.as_sent(outcome.instance.path)


def test_exactly_one_context_for_each_class_and_syntax(tmp_path) -> None:
    for number, (sop_class, syntax) in enumerate(
        [(CT, EXPLICIT), (MR, EXPLICIT), (CT, DEFLATED), (CT, EXPLICIT), (MR, EXPLICIT)]
    ):
        uid = f"1.2.{number}"
        data = data_set(uid, sop_class=sop_class)
        if syntax == DEFLATED:
            packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data = packer.compress(data) + packer.flush()
        write(tmp_path / f"{number}.dcm", data, uid, sop_class=sop_class, transfer_syntax=syntax)
    used: list[int] = []

    def script(peer: Scripted) -> None:
        asked = decode_pdu(RQ, peer.expect(RQ))
        assert isinstance(asked, AssociateRequest)
        assert [(c.context_id, c.abstract_syntax, c.transfer_syntaxes) for c in asked.contexts] == [
            (1, CT, (EXPLICIT,)),
            (3, MR, (EXPLICIT,)),
            (5, CT, (DEFLATED,)),
        ]
        peer.send(accept_of((1, 0, EXPLICIT), (3, 0, EXPLICIT), (5, 0, DEFLATED)))
        for _ in range(5):
            context_id, command, _ = take(peer)
            used.append(context_id)
            STORED(peer, context_id, command)
        peer.release()

    with listening(script) as port:
        assert statuses(outcomes(port, instances(tmp_path), transcode=False)) == [0] * 5
    assert used == [1, 3, 5, 1, 3]


@pytest.mark.parametrize("order", ["sorted", "mixed"])
def test_more_than_128_contexts_take_further_associations(order, tmp_path) -> None:
    classes, each = 300, 2
    for number in range(classes * each):
        which = number // each if order == "sorted" else number % classes
        uid, sop_class = f"1.2.{number}", f"1.2.840.10008.5.1.4.1.1.9999.{which}"
        write(tmp_path / f"{number:04d}.dcm", data_set(uid, sop_class=sop_class), uid, sop_class=sop_class)
    wanted, events = instances(tmp_path), Events()
    with serving(None, events) as server:
        found = outcomes(server.port, wanted, transcode=False)
    assert statuses(found) == [0] * classes * each
    assert {outcome.instance for outcome in found} == set(wanted)
    opened = [event for event in events.told if type(event).__name__ == "Opened"]
    assert 3 <= len(opened) <= 4


def test_nothing_to_send_needs_no_association() -> None:
    assert outcomes(1, []) == []


# --- odd lengths -----------------------------------------------------------------------------------------


def test_a_deflated_data_set_of_odd_length_gets_a_nul(tmp_path) -> None:
    for level in range(1, 200):
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = (
            packer.compress(data_set(pixels=bytes(range(level)) * 3 + b"\0" * (level % 2))) + packer.flush()
        )
        if len(data) % 2:
            break
    assert len(data) % 2
    wanted = instances(write(tmp_path / "a.dcm", data, transfer_syntax=DEFLATED))
    got: list[bytes] = []
    with listening(storing(got)) as port:
        (outcome,) = outcomes(port, wanted)
    assert got == [data + b"\0"]
    assert outcome.length == len(data) + 1


def test_any_other_data_set_of_odd_length_is_reported_and_not_sent(tmp_path) -> None:
    write(tmp_path / "1.dcm", data_set("1.2.1") + b"\0", "1.2.1")
    write(tmp_path / "2.dcm", sop_instance="1.2.2")
    with listening(scp(STORED)) as port:
        odd, good = outcomes(port, instances(tmp_path))
    assert odd.error is not None
    assert odd.error.slug == "input.odd-length"
    assert odd.error.exit_code == ExitCode.INPUT
    assert good.is_stored


# --- what the SCP answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, "success"),
        (0x0001, "warning"),
        (0x0107, "warning"),
        (0x0116, "warning"),
        (0xB000, "warning"),
        (0xBFFF, "warning"),
        (0xA700, "failure"),
        (0xA900, "failure"),
        (0xC000, "failure"),
        (0x0110, "failure"),
        (0x0122, "failure"),
        (0xFE00, "failure"),
        (0xFF00, "failure"),
        (0x1234, "failure"),
    ],
)
def test_every_status_is_what_it_means(status, kind, tmp_path) -> None:
    wanted = made(tmp_path, 2)
    with listening(scp(answering(status, "the reason\x1b[2J"), STORED)) as port:
        first, second = outcomes(port, wanted)
    assert first.status == status
    assert first.is_stored == (kind != "failure")
    assert first.is_warning == (kind == "warning")
    if kind == "failure":
        assert first.error is not None
        assert first.error.slug == "dimse.failure-status"
        assert first.error.exit_code == ExitCode.STATUS
        assert f"0x{status:04X}" in first.error.message
        assert "the reason" in first.error.message
        assert "\x1b" not in first.error.message
    assert second.is_stored


def test_refused_contexts_are_reported_per_file(tmp_path) -> None:
    write(tmp_path / "1.dcm", data_set("1.2.1"), "1.2.1")
    write(tmp_path / "2.dcm", data_set("1.2.2", sop_class=MR), "1.2.2", sop_class=MR)
    write(tmp_path / "3.dcm", data_set("1.2.3"), "1.2.3")

    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept_of((1, 0, EXPLICIT), (3, 3, "")))
        for _ in range(2):
            context_id, asked, _ = take(peer)
            assert asked.sop_class == CT
            STORED(peer, context_id, asked)
        peer.release()

    with listening(script) as port:
        found = outcomes(port, instances(tmp_path), transcode=False)
    assert slugs(found) == ["", "association.no-context", ""]
    error = found[1].error
    assert error is not None
    assert error.exit_code == ExitCode.NO_CONTEXT
    assert "2.dcm" in error.message
    assert MR in error.message
    assert "abstract syntax not supported" in error.message


def test_an_scp_that_takes_none_of_the_contexts(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept_of((1, 4, "")))
        peer.release()

    with listening(script) as port:
        found = outcomes(port, made(tmp_path, 3))
    assert slugs(found) == ["association.no-context"] * 3


def wrong_id(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.send(p_data(pdv(context_id, encode(response(echo_request(99), 0)), command=True)))


def wrong_context(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.send(p_data(pdv(context_id + 2, encode(response(asked, 0)), command=True)))


def unknown_context(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.send(p_data(pdv(99, encode(response(asked, 0)), command=True)))


def a_request(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.send(p_data(pdv(context_id, encode(echo_request(1)), command=True)))


def garbage(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.send(p_data(pdv(context_id, b"\xff" * 30, command=True)))


def no_status(peer: Scripted, context_id: int, asked: Command) -> None:
    answered = Command(CommandField.C_STORE_RSP, responded_to=asked.message_id)
    peer.send(p_data(pdv(context_id, encode(answered), command=True)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [(wrong_id, 0), (wrong_context, 0), (unknown_context, 6), (a_request, 0), (garbage, 6), (no_status, 6)],
)
def test_a_wrong_answer_is_aborted_named_and_the_rest_goes_on(wrong, reason, tmp_path) -> None:
    wanted = made(tmp_path / "ct", 2)
    write(tmp_path / "mr.dcm", data_set("1.2.9", sop_class=MR), "1.2.9", sop_class=MR)
    wanted += instances(tmp_path / "mr.dcm")

    def first(peer: Scripted) -> None:
        scp(wrong, release=False)(peer)
        peer.expect_abort(PROVIDER, reason)

    with listening(first, scp(STORED, STORED)) as port:
        found = outcomes(port, wanted)
    assert slugs(found) == ["association.protocol-error", "", ""]
    assert found[0].error is not None
    assert found[0].error.exit_code == ExitCode.ABORTED
    assert str(wanted[0].path) in found[0].error.message


def test_affected_uids_may_be_missing_in_an_answer(tmp_path) -> None:
    def bare(peer: Scripted, context_id: int, asked: Command) -> None:
        answered = Command(CommandField.C_STORE_RSP, responded_to=asked.message_id, status=0)
        peer.send(p_data(pdv(context_id, encode(answered), command=True)))

    with listening(scp(bare)) as port:
        assert statuses(outcomes(port, made(tmp_path, 1))) == [0]


# --- associations that do not last -------------------------------------------------------------------------


def aborting(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.send(abort(USER, 0))
    peer.close()


def closing(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.close()


def resetting(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.reset()


def releasing(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.send(RELEASE_RQ)
    peer.expect(RELEASED)
    peer.expect_end()


def silent(peer: Scripted, context_id: int, asked: Command) -> None:
    peer.expect_abort(PROVIDER, 0)


LOSSES = [
    pytest.param(aborting, "association.aborted", id="A-ABORT"),
    pytest.param(closing, "association.lost", id="close"),
    pytest.param(resetting, "association.lost", id="reset"),
    pytest.param(releasing, "association.released", id="release"),
    pytest.param(silent, "association.timeout", id="silence"),
]


@pytest.mark.parametrize(("losing", "slug"), LOSSES)
def test_after_a_lost_association_the_rest_goes_over_a_new_one(losing, slug, tmp_path) -> None:
    wanted = made(tmp_path, 4)
    with listening(scp(STORED, losing, release=False), scp(STORED, STORED)) as port:
        found = outcomes(port, wanted, timeouts=SOON)
    assert slugs(found) == ["", slug, "", ""]
    assert [outcome.instance for outcome in found] == wanted
    error = found[1].error
    assert error is not None
    assert error.exit_code == ExitCode.ABORTED
    assert error.message.startswith(f"`{wanted[1].path}` was not stored: `127.0.0.1:{port}`: ")


@pytest.mark.parametrize(("losing", "slug"), LOSSES)
def test_two_associations_in_a_row_that_store_nothing_end_it(losing, slug, tmp_path) -> None:
    wanted = made(tmp_path, 5)
    script = scp(losing, release=False)
    with listening(script, script) as port:
        found = outcomes(port, wanted, timeouts=SOON)
    assert slugs(found) == [slug] * 5
    for outcome in found:  # each names its own file
        assert outcome.error is not None
        assert str(outcome.instance.path) in outcome.error.message
        assert sum(str(other.path) in outcome.error.message for other in wanted) == 1
    assert "was not stored" in found[1].error.message  # type: ignore[union-attr]
    assert "was not sent" in found[2].error.message  # type: ignore[union-attr]


def test_a_file_that_the_peer_cannot_stand_does_not_end_it(tmp_path) -> None:
    """Every association stores something before it is lost."""
    wanted = made(tmp_path, 6)
    script = scp(STORED, aborting, release=False)
    with listening(script, script, script) as port:
        found = outcomes(port, wanted)
    assert slugs(found) == ["", "association.aborted"] * 3


def test_a_peer_that_is_gone_after_the_first_association(tmp_path) -> None:
    wanted = made(tmp_path, 4)
    with listening(scp(STORED, aborting, release=False), lambda peer: reject_everything(peer)) as port:
        found = outcomes(port, wanted)
    assert slugs(found) == ["", "association.aborted", "association.rejected", "association.rejected"]
    for outcome in found[2:]:
        assert outcome.error is not None
        assert outcome.error.exit_code == ExitCode.REJECTED
        assert str(outcome.instance.path) in outcome.error.message


def reject_everything(peer: Scripted) -> None:
    peer.expect(RQ)
    peer.send(reject(2, 3, 2))
    peer.expect_end()


def test_without_a_first_association_it_raises(tmp_path) -> None:
    wanted = made(tmp_path, 2)
    with listening(reject_everything) as port, pytest.raises(AssociationLost) as rejected:
        outcomes(port, wanted)
    assert rejected.value.exit_code == ExitCode.REJECTED
    with pytest.raises(ConnectionFailed) as refused:  # nobody listens there any more
        outcomes(port, wanted)
    assert refused.value.slug == "peer.connection-refused"


def test_a_release_that_goes_wrong_loses_nothing(tmp_path, caplog) -> None:
    with listening(scp(STORED, STORED, release=False)) as port:  # and leaves instead of answering
        assert statuses(outcomes(port, made(tmp_path, 2))) == [0, 0]
    assert "the peer closed the connection" in caplog.text


# --- files that change -----------------------------------------------------------------------------------


def test_a_file_that_changed_after_it_was_looked_at_is_not_sent(tmp_path) -> None:
    wanted = made(tmp_path, 3)
    wanted[1].path.write_bytes(wanted[1].path.read_bytes() + b"more")
    wanted[2].path.unlink()
    with listening(scp(STORED)) as port:
        found = outcomes(port, wanted)
    assert slugs(found) == ["", "input.file-changed", "input.unreadable"]
    assert all(o.error.exit_code == ExitCode.INPUT for o in found if o.error)


def test_what_was_read_ahead_is_sent_byte_for_byte_unless_it_changed(tmp_path) -> None:
    for number in (1, 2, 3):
        write(tmp_path / f"{number}.dcm", sop_instance=f"1.2.{number}")
    read_ahead = ReadAhead()
    wanted = list(scan([tmp_path], read_ahead=read_ahead))
    whole = (tmp_path / "1.dcm").read_bytes()
    (tmp_path / "2.dcm").write_bytes(b"something else")
    (tmp_path / "3.dcm").unlink()
    received: list[bytes] = []
    with listening(storing(received)) as port:
        found = outcomes(port, wanted, read_ahead=read_ahead)  # type: ignore[arg-type]
    assert slugs(found) == ["", "input.file-changed", "input.unreadable"]
    assert whole.endswith(received[0])
    assert len(received[0]) == found[0].length


def test_small_files_that_shrink_before_they_are_sent_cost_only_themselves(tmp_path, monkeypatch) -> None:
    """Nothing of them was sent: the association goes on."""
    wanted = made(tmp_path, 4)
    opened = staging.open_data_set

    def shrinking(instance, read_ahead):
        data, length = opened(instance, read_ahead)
        if instance.sop_instance in ("1.2.1", "1.2.2"):
            instance.path.write_bytes(instance.path.read_bytes()[:-100])
        return data, length

    monkeypatch.setattr(staging, "open_data_set", shrinking)

    with listening(scp(STORED, STORED)) as port:
        found = outcomes(port, wanted)
    assert slugs(found) == ["input.file-shrank", "input.file-shrank", "", ""]


def shrink_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file of 1 MiB become shorter once it is open: past its first block, which is laid out by then."""
    opened = staging.open_data_set

    def shrinking(instance, read_ahead):
        data, length = opened(instance, read_ahead)
        if instance.size == 1 << 20:
            os.truncate(instance.path, 600_000)
        return data, length

    monkeypatch.setattr(staging, "open_data_set", shrinking)


def test_large_files_that_shrink_while_they_are_sent_end_their_association_but_not_the_rest(
    tmp_path, monkeypatch
) -> None:
    """Twice in a row: it is not the peer's fault, and no reason to give up on it."""
    wanted = made(tmp_path, 4)
    for instance in wanted[:2]:
        with instance.path.open("ab") as file:
            file.truncate(1 << 20)
    wanted = [
        i._replace(size=about.st_size, modified=about.st_mtime_ns)
        for i in wanted
        for about in [i.path.stat()]
    ]
    shrink_large_ones(monkeypatch)

    def aborted(peer: Scripted) -> None:
        peer.accept()
        pdu_type, body = peer.read_pdu()
        while pdu_type != 7:
            pdu_type, body = peer.read_pdu()
        assert tuple(body[2:]) == (USER, 0)
        peer.expect_end()

    with listening(aborted, aborted, scp(STORED, STORED)) as port:
        found = outcomes(port, wanted)
    assert slugs(found) == ["input.file-shrank", "input.file-shrank", "", ""]


# --- stopping --------------------------------------------------------------------------------------------


def test_halt_ends_with_the_first_failure_and_releases(tmp_path) -> None:
    with listening(scp(STORED, answering(0xA700))) as port:
        found = outcomes(port, made(tmp_path, 5), halt=True)
    assert statuses(found) == [0, 0xA700]


def test_halt_does_not_stop_at_a_warning(tmp_path) -> None:
    with listening(scp(answering(0xB000), STORED)) as port:
        assert statuses(outcomes(port, made(tmp_path, 2), halt=True)) == [0xB000, 0]


def test_who_stops_asking_leaves_no_association_open(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        scp(STORED, release=False)(peer)
        take(peer)  # it left before the first outcome was told
        peer.expect_abort(USER, 0)

    with listening(script) as port:
        sending = send(Peer("127.0.0.1", port), made(tmp_path, 3), Requestor())
        assert next(sending).is_stored
        sending.close()


def test_an_interrupt_aborts_the_association(tmp_path, monkeypatch) -> None:
    def script(peer: Scripted) -> None:
        scp(STORED, release=False)(peer)
        take(peer)
        peer.expect_abort(USER, 0)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with listening(script) as port:
        sending = send(Peer("127.0.0.1", port), made(tmp_path, 3), Requestor())
        next(sending)
        monkeypatch.setattr(module, "expect_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(sending)


def test_every_error_of_an_outcome_can_be_told(tmp_path) -> None:
    with listening(scp(answering(0xC123))) as port:
        (outcome,) = outcomes(port, made(tmp_path, 1))
    assert isinstance(outcome.error, DicomTlsError)
    assert outcome.error.hint


def test_the_log_says_what_dcmtk_says(tmp_path, caplog) -> None:
    wanted = made(tmp_path, 1)
    with caplog.at_level("INFO", logger="dicomtls.association"), listening(scp(STORED)) as port:
        outcomes(port, wanted)
    assert [record.getMessage() for record in caplog.records] == [
        "Requesting Association",
        "Association Accepted (Max Send PDV: 16372)",
        f"Sending file: {wanted[0].path}",
        "Sending Store Request (MsgID 1, CT)",
        "Received Store Response (Success)",
        "Releasing Association",
    ]
