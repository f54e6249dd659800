"""Associations in both roles, against a peer that sends exact bytes; the rules of PS3.8 one by one."""

from __future__ import annotations

import contextlib
import io
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomtls_cli.errors import ExitCode, InputError, ProtocolError
from dicomtls_cli.upperlayer.association import Association
from dicomtls_cli.upperlayer.codec import decode, encode
from dicomtls_cli.upperlayer.failures import (
    AssociationAborted,
    AssociationRejected,
    AssociationTimeout,
    ConnectionBroken,
)
from dicomtls_cli.upperlayer.header import NotDicom
from dicomtls_cli.upperlayer.negotiation import AcceptRules, answer
from dicomtls_cli.upperlayer.pdu import AssociateAccept, AssociateReject
from tests.support.scripted import (
    AC,
    CT,
    EXPLICIT,
    IMPLICIT,
    LIMIT,
    P_DATA,
    PROVIDER,
    RELEASE,
    RELEASE_RP,
    RELEASE_RQ,
    RELEASED,
    RJ,
    RQ,
    USER,
    VERIFICATION,
    Scripted,
    abort,
    accept,
    accept_of,
    header,
    p_data,
    pdv,
    played,
    reject,
    request,
)

Script = Callable[[Scripted], None]

SOON = 0.3  # seconds: time-outs of the phase under test; all others are long
LATE = 60.0
NOT_SPECIFIED, UNRECOGNISED, UNEXPECTED, UNEXPECTED_PARAMETER, INVALID = 0, 1, 2, 5, 6
COMMAND = b"command of some bytes."
DATA = bytes(range(256)) * 4
ASKED = request((VERIFICATION, (IMPLICIT,)), (CT, (EXPLICIT,)))


def patient(sock: socket.socket, **more: float) -> Association:
    return Association(sock, **{"acse_timeout": LATE, "dimse_timeout": LATE, **more})


@contextmanager
def requestor(script: Script, *, maximum: int = 16384, **more: float) -> Iterator[Association]:
    """Yield an open association whose peer accepted contexts 1 and 3 and plays `script` from there on."""

    def play(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept(ASKED, maximum))
        script(peer)

    with played(play) as sock:
        association = patient(sock, **more)
        association.request(ASKED)
        yield association


@contextmanager
def acceptor(script: Script, *, maximum: int = 16384, **more: float) -> Iterator[Association]:
    """The same with our side as the acceptor."""

    def play(peer: Scripted) -> None:
        asked = request((VERIFICATION, (IMPLICIT,)), (CT, (EXPLICIT,)), maximum=maximum)
        peer.send(encode(asked))
        peer.expect(AC)
        script(peer)

    with played(play) as sock:
        association = patient(sock, **more)
        asked = association.await_request()
        association.accept(asked, answer(asked, AcceptRules()))
        yield association


ROLES = pytest.mark.parametrize("role", [requestor, acceptor])


def sending(*pieces: bytes) -> Script:
    """Return a script that sends `pieces` and then nothing more."""

    def script(peer: Scripted) -> None:
        peer.send(*pieces)
        peer.finish()
        while peer.sock.recv(65536):
            pass

    return script


def answered_by_abort(reason: int, *pieces: bytes) -> Script:
    """Return a script that sends `pieces` and wants them answered by our A-ABORT as the provider."""

    def script(peer: Scripted) -> None:
        peer.send(*pieces)
        peer.expect_abort(PROVIDER, reason)

    return script


def silent(peer: Scripted) -> None:
    """Say nothing; what came to an end must have been told to us."""
    peer.expect_abort(PROVIDER, NOT_SPECIFIED)


def receive_all(association: Association) -> list[tuple[int, bytes, bytes]]:
    """Receive messages until the release; a command set that begins with `+` is followed by data."""
    messages = []
    while (message := association.receive()) is not None:
        context_id, command = message
        data = b""
        if command.startswith(b"+"):
            data = b"".join(bytes(piece) for piece in association.receive_data(context_id))
        messages.append((context_id, command, data))
    return messages


# --- negotiation as the requestor ------------------------------------------------------------------------


def test_a_request_opens_the_association_in_the_contexts_that_were_accepted() -> None:
    def script(peer: Scripted) -> None:
        assert decode(RQ, peer.expect(RQ)) == ASKED
        peer.send(accept_of((1, 3, ""), (3, 0, EXPLICIT), maximum=16384))
        peer.release()

    with played(script) as sock:
        association = patient(sock)
        answer_ = association.request(ASKED)
        assert isinstance(answer_, AssociateAccept)
        assert association.is_open
        assert association.is_requestor
        assert {n: (c.abstract_syntax, c.transfer_syntax) for n, c in association.contexts.items()} == {
            3: (CT, EXPLICIT)
        }
        assert association.max_send_pdv == 16372
        association.release()
        assert not association.is_open


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1, 1, 1), "no reason given, permanent"),
        ((1, 1, 2), "application context name not supported"),
        ((1, 1, 3), "calling AE title not recognised"),
        ((1, 1, 7), "called AE title not recognised"),
        ((1, 2, 1), "no reason given"),
        ((1, 2, 2), "protocol version not supported"),
        ((2, 3, 1), "temporary congestion, transient"),
        ((2, 3, 2), "local limit exceeded"),
        ((9, 9, 9), "PS3.8 does not know"),
    ],
)
def test_every_rejection_is_told_in_words(numbers, words) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(reject(*numbers))
        peer.expect_end()  # and no A-ABORT

    with played(script) as sock, pytest.raises(AssociationRejected) as caught:
        patient(sock).request(ASKED)
    assert caught.value.slug == "association.rejected"
    assert caught.value.exit_code == ExitCode.REJECTED
    assert words in caught.value.message
    assert "/".join(map(str, numbers)) in caught.value.message
    assert caught.value.reject == AssociateReject(*numbers)


@pytest.mark.parametrize(
    ("answered", "reason"),
    [
        pytest.param(accept_of((5, 0, EXPLICIT)), INVALID, id="an id never proposed"),
        pytest.param(accept_of((1, 0, EXPLICIT)), INVALID, id="a syntax never proposed"),
        pytest.param(accept_of((1, 5, IMPLICIT)), INVALID, id="result 5"),
        pytest.param(accept_of((1, 0, IMPLICIT), (1, 0, IMPLICIT)), INVALID, id="an id twice"),
        pytest.param(accept(ASKED, 63), INVALID, id="maximum length 63"),
        pytest.param(accept(ASKED, 1), INVALID, id="maximum length 1"),
        pytest.param(header(AC, 10) + bytes(10), INVALID, id="too short"),
        pytest.param(header(AC, 0xFFFFFFFF), INVALID, id="AC of 4 GB"),
        pytest.param(header(RJ, 5) + bytes(5), INVALID, id="RJ of 5 bytes"),
        pytest.param(header(7, 0xFFFFFFFF), INVALID, id="A-ABORT of 4 GB"),
        pytest.param(header(0x08, 4) + bytes(4), UNRECOGNISED, id="PDU type 8"),
        pytest.param(header(0x00, 4) + bytes(4), UNRECOGNISED, id="PDU type 0"),
        pytest.param(header(0xFF, 0xFFFFFFFF), UNRECOGNISED, id="PDU type 255"),
        pytest.param(p_data(pdv(1, COMMAND, command=True)), UNEXPECTED, id="P-DATA first"),
        pytest.param(encode(ASKED), UNEXPECTED, id="A-ASSOCIATE-RQ"),
        pytest.param(RELEASE_RQ, UNEXPECTED, id="A-RELEASE-RQ"),
        pytest.param(RELEASE_RP, UNEXPECTED, id="A-RELEASE-RP"),
    ],
)
def test_a_wrong_answer_to_the_request_is_aborted(answered, reason) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(answered)
        peer.expect_abort(PROVIDER, reason)

    with played(script) as sock, pytest.raises(ProtocolError) as caught:
        patient(sock).request(ASKED)
    assert caught.value.slug == "association.protocol-error"
    assert caught.value.exit_code == ExitCode.ABORTED
    assert caught.value.hint


def test_a_context_accepted_in_two_transfer_syntaxes_is_aborted() -> None:
    syntax = b"\x40\0\0\x11" + IMPLICIT.encode()
    good, two = accept_of((1, 0, IMPLICIT)), b"\x21\0\0\x2e\x01\0\0\0" + syntax + syntax
    one = b"\x21\0\0\x19\x01\0\0\0" + syntax
    assert one in good
    bad = good[6:].replace(one, two)

    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(header(AC, len(bad)) + bad)
        peer.expect_abort(PROVIDER, INVALID)

    with played(script) as sock, pytest.raises(ProtocolError, match="2 transfer syntaxes"):
        patient(sock).request(ASKED)


def test_what_is_not_to_be_tested_in_an_accept_is_not_tested() -> None:
    """Reserved bytes, AE fields, other bits of the version, a context that is not mentioned."""
    good = bytearray(accept_of((3, 0, EXPLICIT)))
    good[1] = 0xFF
    good[6:8] = b"\xff\xff"
    good[8:74] = b"\xee" * 66

    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(bytes(good))
        peer.release()

    with played(script) as sock:
        association = patient(sock)
        association.request(ASKED)
        assert list(association.contexts) == [3]
        association.release()


@pytest.mark.parametrize(
    ("said", "protocol"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
    ],
)
@pytest.mark.parametrize("as_requestor", [True, False])
def test_a_peer_of_another_protocol_is_named(said, protocol, as_requestor) -> None:
    def script(peer: Scripted) -> None:
        if as_requestor:
            peer.expect(RQ)
        peer.send(said)
        peer.expect_abort(PROVIDER, UNRECOGNISED)

    with played(script) as sock, pytest.raises(NotDicom) as caught:
        patient(sock).request(ASKED) if as_requestor else patient(sock).await_request()
    assert caught.value.protocol == protocol
    assert caught.value.slug == f"association.peer-speaks-{protocol.lower()}"


# --- negotiation as the acceptor -------------------------------------------------------------------------


def test_an_acceptor_accepts() -> None:
    def script(peer: Scripted) -> None:
        asked = request((CT, (EXPLICIT,)), maximum=4096)
        peer.send(encode(asked))
        answered = decode(AC, peer.expect(AC))
        assert isinstance(answered, AssociateAccept)
        assert [(r.context_id, r.result, r.transfer_syntax) for r in answered.results] == [(1, 0, EXPLICIT)]
        peer.send(RELEASE_RQ)
        peer.expect(RELEASED)
        peer.expect_end()

    with played(script) as sock:
        association = patient(sock)
        asked = association.await_request()
        assert (asked.calling_ae, asked.called_ae) == ("SCU", "SCP")
        association.accept(asked, answer(asked, AcceptRules()))
        assert association.is_open
        assert not association.is_requestor
        assert association.max_send_pdv == 4084
        assert association.receive() is None
        assert not association.is_open


def test_a_rejected_requestor_reads_why_although_it_went_on_sending() -> None:
    def script(peer: Scripted) -> None:
        peer.send(encode(ASKED), bytes(100_000))  # unread bytes would turn a plain close into a reset
        assert peer.expect(RJ) == bytes((0, 2, 3, 2))
        peer.expect_end()

    with played(script) as sock:
        association = patient(sock)
        association.await_request()
        association.reject(AssociateReject(2, 3, 2))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(header(RQ, 68) + bytes(68), INVALID, id="nothing in it"),
        pytest.param(header(RQ, 0xFFFFFFFF), INVALID, id="4 GB"),
        pytest.param(accept(ASKED), UNEXPECTED, id="A-ASSOCIATE-AC"),
        pytest.param(p_data(pdv(1, COMMAND, command=True)), UNEXPECTED, id="P-DATA"),
        pytest.param(RELEASE_RQ, UNEXPECTED, id="A-RELEASE-RQ"),
        pytest.param(header(0x99, 4) + bytes(4), UNRECOGNISED, id="PDU type 0x99"),
    ],
)
def test_a_wrong_first_pdu_is_aborted(sent, reason) -> None:
    with (
        played(answered_by_abort(reason, sent)) as sock,
        pytest.raises(ProtocolError),
    ):
        patient(sock).await_request()


def test_an_acceptor_refuses_a_maximum_length_under_64() -> None:
    with played(answered_by_abort(INVALID, encode(request(maximum=63)))) as sock:
        association = patient(sock)
        asked = association.await_request()
        with pytest.raises(ProtocolError, match="63 bytes"):
            association.accept(asked, answer(asked, AcceptRules()))
        assert not association.is_open


# --- what the peer may do at any stage: abort, leave, break, be silent, be slow -----------------------------


def ask(sock: socket.socket, **timeouts: float) -> None:
    patient(sock, **timeouts).request(ASKED)


def be_asked(sock: socket.socket, **timeouts: float) -> None:
    patient(sock, **timeouts).await_request()


def open_as_requestor(sock: socket.socket, **timeouts: float) -> Association:
    association = patient(sock, **timeouts)
    association.request(ASKED)
    return association


def wait_for_command(sock: socket.socket, **timeouts: float) -> None:
    open_as_requestor(sock, **timeouts).receive()


def wait_for_data(sock: socket.socket, **timeouts: float) -> None:
    association = open_as_requestor(sock, **timeouts)
    received = association.receive()
    assert received is not None
    for _ in association.receive_data(received[0]):
        pass


def release(sock: socket.socket, **timeouts: float) -> None:
    open_as_requestor(sock, **timeouts).release()


def _asked(peer: Scripted) -> None:
    peer.expect(RQ)


def _opened(peer: Scripted) -> None:
    peer.expect(RQ)
    peer.send(accept(ASKED))


def _half_a_pdu(peer: Scripted) -> None:
    _opened(peer)
    peer.send(p_data(pdv(3, COMMAND, command=True))[:20])


def _in_data(peer: Scripted) -> None:
    _opened(peer)
    peer.send(p_data(pdv(3, COMMAND, command=True), pdv(3, DATA, last=False)))


def _half_a_fragment(peer: Scripted) -> None:
    _in_data(peer)
    peer.send(p_data(pdv(3, DATA))[:500])


def _releasing(peer: Scripted) -> None:
    _opened(peer)
    peer.expect(RELEASE)


STAGES = [
    pytest.param(_asked, ask, id="before the AC"),
    pytest.param(lambda peer: peer.send(encode(ASKED)[:40]), be_asked, id="in the middle of the RQ"),
    pytest.param(lambda peer: None, be_asked, id="before the RQ"),
    pytest.param(_opened, wait_for_command, id="where a command is due"),
    pytest.param(_half_a_pdu, wait_for_command, id="in the middle of a PDU"),
    pytest.param(_in_data, wait_for_data, id="between two fragments"),
    pytest.param(_half_a_fragment, wait_for_data, id="in the middle of a fragment"),
    pytest.param(_releasing, release, id="before the release is answered"),
]
WHOLE_PDUS = [stage for stage in STAGES if "middle" not in str(stage.id)]


@pytest.mark.parametrize(("before", "doing"), STAGES)
def test_a_peer_that_closes_is_told_of(before, doing) -> None:
    def script(peer: Scripted) -> None:
        before(peer)
        peer.finish()
        peer.expect_end()  # nobody is there to read an A-ABORT

    with played(script) as sock, pytest.raises(ConnectionBroken) as caught:
        doing(sock)
    assert caught.value.message == "the peer closed the connection"
    assert caught.value.slug == "association.lost"
    assert caught.value.exit_code == ExitCode.ABORTED


@pytest.mark.parametrize(("before", "doing"), STAGES)
def test_a_peer_that_resets_is_told_of(before, doing) -> None:
    def script(peer: Scripted) -> None:
        before(peer)
        peer.reset()

    with played(script) as sock, pytest.raises(ConnectionBroken) as caught:
        doing(sock)
    assert isinstance(caught.value.error, ConnectionError)
    assert caught.value.slug == "association.lost"


@pytest.mark.parametrize(("before", "doing"), WHOLE_PDUS)
@pytest.mark.parametrize("numbers", [(USER, 0), (PROVIDER, 2), (PROVIDER, 6), (1, 99)])
def test_a_peer_that_aborts_is_told_of(before, doing, numbers) -> None:
    def script(peer: Scripted) -> None:
        before(peer)
        peer.send(abort(*numbers))
        peer.expect_end()  # an A-ABORT is not answered

    with played(script) as sock, pytest.raises(AssociationAborted) as caught:
        doing(sock)
    assert caught.value.slug == "association.aborted"
    assert caught.value.exit_code == ExitCode.ABORTED
    assert (caught.value.abort.source, caught.value.abort.reason) == numbers
    assert f"{numbers[0]}/{numbers[1]}" in caught.value.message


@pytest.mark.parametrize(("before", "doing"), STAGES)
def test_a_peer_that_falls_silent_is_aborted_in_time(before, doing) -> None:
    def script(peer: Scripted) -> None:
        before(peer)
        silent(peer)

    with played(script) as sock, pytest.raises(AssociationTimeout) as caught:
        doing(sock, acse_timeout=SOON, dimse_timeout=SOON)
    assert caught.value.slug == "association.timeout"
    assert caught.value.exit_code == ExitCode.ABORTED
    assert "0.3 s" in caught.value.message


def _fragment_in_drops(peer: Scripted) -> None:
    _in_data(peer)
    peer.drip(p_data(pdv(3, bytes(16000))))


def _many_fragments_in_drops(peer: Scripted) -> None:
    """Each of them is in time; the PDU they are in is not."""
    _in_data(peer)
    one_pdu = p_data(*[pdv(3, b"x", last=False)] * 1000)
    peer.send(one_pdu[:6])
    peer.drip(one_pdu[6:])


DRIPS = [
    pytest.param(lambda peer: (_asked(peer), peer.drip(accept(ASKED))), ask, id="AC"),
    pytest.param(lambda peer: peer.drip(encode(ASKED)), be_asked, id="RQ"),
    pytest.param(
        lambda peer: (_opened(peer), peer.drip(p_data(pdv(3, bytes(16000), command=True)))),
        wait_for_command,
        id="command",
    ),
    pytest.param(_fragment_in_drops, wait_for_data, id="data"),
    pytest.param(_many_fragments_in_drops, wait_for_data, id="data in many PDVs of one PDU"),
    pytest.param(
        lambda peer: (_releasing(peer), peer.drip(p_data(pdv(3, bytes(16000))))), release, id="release"
    ),
]


@pytest.mark.parametrize(("dripping", "doing"), DRIPS)
def test_a_peer_that_drips_byte_by_byte_is_aborted_in_time(dripping, doing) -> None:
    """A socket time-out alone would wait for ever: every byte comes in time."""

    def script(peer: Scripted) -> None:
        dripping(peer)
        silent(peer)

    with played(script) as sock, pytest.raises(AssociationTimeout):
        doing(sock, acse_timeout=SOON, dimse_timeout=SOON)


def test_data_may_take_longer_than_the_time_out_as_long_as_each_pdu_is_in_time() -> None:
    """The deadline is the PDU's, not the object's: each pause is shorter than it, their sum is longer."""
    fragments = 12
    never = threading.Event()

    def script(peer: Scripted) -> None:
        peer.send(p_data(pdv(3, b"+", command=True)))
        for number in range(fragments):
            never.wait(0.1)
            peer.send(p_data(pdv(3, DATA, last=number == fragments - 1)))
        peer.send(RELEASE_RQ)
        peer.expect(RELEASED)

    with requestor(script, dimse_timeout=1.0) as association:
        assert receive_all(association) == [(3, b"+", DATA * fragments)]


@ROLES
def test_a_peer_that_reads_nothing_ends_the_sending(role) -> None:
    left = threading.Event()

    def idle(peer: Scripted) -> None:
        left.wait(LIMIT)

    with role(idle, dimse_timeout=SOON) as association:
        with pytest.raises(AssociationTimeout, match="the peer took nothing") as caught:
            association.send(3, COMMAND, io.BytesIO(bytes(64 << 20)), 64 << 20)
        left.set()
        assert caught.value.slug == "association.timeout"
        assert not association.is_open


def test_a_slow_reader_is_no_obstacle_as_long_as_it_reads() -> None:
    """Each of its pauses is shorter than the time-out, all of them together are longer."""
    size = 12 << 20
    never = threading.Event()

    def script(peer: Scripted) -> None:
        for _ in range(12):
            never.wait(0.1)
            peer.read(500_000)
        while peer.sock.recv(1 << 20)[-10:] != RELEASE_RQ:
            pass
        peer.send(RELEASE_RP)
        peer.expect_end()

    with requestor(script, dimse_timeout=1.0) as association:
        association.send(3, COMMAND, io.BytesIO(bytes(size)), size)
        association.release()


# --- receiving -------------------------------------------------------------------------------------------


@ROLES
def test_command_and_data_packed_into_one_pdu(role) -> None:
    """As dcm4che and pydcm do."""
    packed = p_data(pdv(3, b"+one", command=True), pdv(3, DATA), pdv(1, b"two", command=True))
    with role(sending(packed, RELEASE_RQ)) as association:
        assert receive_all(association) == [(3, b"+one", DATA), (1, b"two", b"")]


def test_the_other_bits_of_the_control_header_are_ignored() -> None:
    pieces = (
        p_data(pdv(3, b"+", command=True, reserved=0xFC)),
        p_data(pdv(3, DATA, last=False, reserved=0x80), pdv(3, DATA, reserved=0x7C)),
        RELEASE_RQ,
    )
    with requestor(sending(*pieces)) as association:
        assert receive_all(association) == [(3, b"+", DATA + DATA)]


@st.composite
def split(draw: st.DrawFn, data: bytes, most: int = 6) -> list[bytes]:
    """Draw how `data` is cut into pieces, empty ones among them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=most)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[tuple[int, bytes, bytes]], list[bytes]]:
    """Draw messages, and one of the many ways to put them into PDUs and writes."""
    messages = draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 3]),
                st.binary(max_size=200).map(lambda b: b"-" + b),
                st.none() | st.binary(max_size=5000) | st.integers(60_000, 70_000).map(bytes),
            ),
            min_size=1,
            max_size=3,
        )
    )
    pdvs, expected = [], []
    for context_id, command, data in messages:
        if data is not None:
            command = b"+" + command
        expected.append((context_id, command, data or b""))
        for kind, whole in ((True, command), (False, data)):
            if whole is None:
                continue
            pieces = draw(split(whole))
            pdvs += [
                pdv(context_id, piece, command=kind, last=number == len(pieces))
                for number, piece in enumerate(pieces, 1)
            ]
    pdus = b""
    while pdvs:
        count = draw(st.integers(1, len(pdvs)))
        pdus += (
            p_data(*pdvs[:count])
            if sum(map(len, pdvs[:count])) <= 131072
            else b"".join(map(p_data, pdvs[:count]))
        )
        del pdvs[:count]
    return expected, draw(split(pdus + RELEASE_RQ))


@settings(max_examples=150)
@given(conversations())
def test_whatever_the_fragmentation_the_messages_arrive_as_they_are(conversation) -> None:
    expected, writes = conversation
    with requestor(sending(*writes)) as association:
        assert receive_all(association) == expected


WRONG = [
    pytest.param(INVALID, p_data(struct.pack(">I", 0) + b"\3\3"), "length 0", id="PDV length 0"),
    pytest.param(INVALID, p_data(struct.pack(">I", 1) + b"\3\3"), "length 1", id="PDV length 1"),
    pytest.param(
        INVALID, header(P_DATA, 20) + struct.pack(">IBB", 100, 3, 3), "does not fit", id="PDV beyond its PDU"
    ),
    pytest.param(
        INVALID, header(P_DATA, 20) + struct.pack(">IBB", 0xFFFFFFFF, 3, 3), "does not fit", id="PDV of 4 GB"
    ),
    pytest.param(INVALID, p_data(pdv(3, COMMAND, command=True), b"12345"), "does not fit", id="5 bytes over"),
    pytest.param(INVALID, header(P_DATA, 5) + bytes(5), "5 bytes", id="PDU of 5 bytes"),
    pytest.param(INVALID, header(P_DATA, 0), "0 bytes", id="PDU of 0 bytes"),
    pytest.param(INVALID, header(P_DATA, 131073), "131073 bytes", id="PDU longer than we said"),
    pytest.param(INVALID, header(P_DATA, 0xFFFFFFFF), "4294967295 bytes", id="PDU of 4 GB"),
    pytest.param(INVALID, p_data(pdv(5, COMMAND, command=True)), "context 5", id="context not accepted"),
    pytest.param(
        UNEXPECTED_PARAMETER, p_data(pdv(3, DATA)), "data without a command", id="data without command"
    ),
    pytest.param(
        UNEXPECTED_PARAMETER,
        p_data(pdv(3, b"+", command=True), pdv(3, DATA, last=False), pdv(3, b"+", command=True)),
        "a command before the data",
        id="second command before the data's end",
    ),
    pytest.param(
        UNEXPECTED_PARAMETER,
        p_data(pdv(3, b"+", command=True), pdv(1, b"", command=True)),
        "a command before the data",
        id="command of another context before the data's end",
    ),
    pytest.param(
        UNEXPECTED_PARAMETER,
        p_data(pdv(3, b"+", command=True, last=False), pdv(3, DATA)),
        "data without a command",
        id="data before the command's end",
    ),
    pytest.param(
        INVALID,
        p_data(pdv(3, b"+", command=True), pdv(1, DATA)),
        "another presentation context",
        id="data on another context",
    ),
    pytest.param(
        INVALID,
        p_data(pdv(3, b"+", command=True), pdv(7, DATA)),
        "context 7",
        id="data on a context not accepted",
    ),
    pytest.param(
        INVALID,
        p_data(pdv(3, b"+", command=True, last=False), pdv(1, b"+", command=True)),
        "two presentation contexts",
        id="a command on two contexts",
    ),
    pytest.param(
        UNEXPECTED,
        p_data(pdv(3, b"+", command=True, last=False)) + RELEASE_RQ,
        "release in the middle of a message",
        id="release in a command",
    ),
    pytest.param(
        UNEXPECTED,
        p_data(pdv(3, b"+", command=True), pdv(3, DATA, last=False)) + RELEASE_RQ,
        "release in the middle of a data set",
        id="release in the data",
    ),
    pytest.param(UNEXPECTED, RELEASE_RP, "ReleaseResponse", id="A-RELEASE-RP unasked"),
    pytest.param(UNEXPECTED, accept(ASKED), "AssociateAccept", id="second AC"),
    pytest.param(UNEXPECTED, encode(ASKED), "AssociateRequest", id="second RQ"),
    pytest.param(UNEXPECTED, reject(1, 1, 1), "AssociateReject", id="late RJ"),
    pytest.param(INVALID, header(RELEASE, 5) + bytes(5), "type 0x05", id="release of 5 bytes"),
    pytest.param(INVALID, header(RELEASE, 0xFFFFFFFF), "type 0x05", id="release of 4 GB"),
    pytest.param(UNRECOGNISED, header(0x42, 0xFFFFFFFF), "no DICOM PDU", id="unknown PDU"),
]


@ROLES
@pytest.mark.parametrize(("reason", "sent", "words"), WRONG)
def test_what_ps38_does_not_allow_is_aborted_and_named(role, reason, sent, words) -> None:
    with role(answered_by_abort(reason, sent)) as association:
        with pytest.raises(ProtocolError, match=words) as caught:
            receive_all(association)
        assert caught.value.slug == "association.protocol-error"
        assert caught.value.exit_code == ExitCode.ABORTED
        assert not association.is_open


def test_our_own_maximum_length_is_the_limit() -> None:
    full = p_data(pdv(3, b"+", command=True), pdv(3, bytes(4096 - 6 - 7)))
    assert len(full) == 4096 + 6
    with requestor(sending(full, RELEASE_RQ), maximum_length=4096) as association:
        ((_, _, data),) = receive_all(association)
        assert len(data) == 4083
    longer = p_data(pdv(3, b"+", command=True), pdv(3, bytes(4096 - 6 - 6)))
    with (
        requestor(answered_by_abort(INVALID, longer), maximum_length=4096) as association,
        pytest.raises(ProtocolError, match="4097 bytes"),
    ):
        receive_all(association)


@pytest.mark.parametrize("command", [True, False])
def test_empty_pdvs_are_counted_and_capped(command) -> None:
    start = p_data(pdv(3, b"+", command=True, last=not command))
    empty = [p_data(pdv(3, b"", command=command, last=False))]
    some = pdv(3, b"x", command=command, last=False)
    rest = (pdv(3, b"", command=True), pdv(3, b"")) if command else (pdv(3, b""),)
    fine = (start, *empty * 60, p_data(some), *empty * 60, p_data(some, *rest), RELEASE_RQ)
    with requestor(sending(*fine)) as association:
        ((_, first, second),) = receive_all(association)
        assert first + second == b"+xx"
    with (
        requestor(answered_by_abort(INVALID, start, *empty * 100)) as association,
        pytest.raises(ProtocolError, match="empty"),
    ):
        receive_all(association)


def test_a_command_set_has_a_greatest_size() -> None:
    most = 65536
    in_two = (
        p_data(pdv(1, bytes(most // 2), command=True, last=False)),
        p_data(pdv(1, bytes(most // 2), command=True)),
    )
    with requestor(sending(*in_two, RELEASE_RQ)) as association:
        assert receive_all(association) == [(1, bytes(most), b"")]
    for sent in (
        p_data(pdv(1, bytes(most + 2), command=True)),
        p_data(pdv(1, bytes(most), command=True, last=False), pdv(1, b"12", command=True)),
    ):
        with (
            requestor(answered_by_abort(INVALID, sent)) as association,
            pytest.raises(ProtocolError, match="more than 65536 bytes"),
        ):
            receive_all(association)


def test_a_wait_of_its_own_for_the_next_message() -> None:
    with requestor(silent) as association, pytest.raises(AssociationTimeout, match=r"no message .* 0\.3 s"):
        association.receive(timeout=SOON)


# --- release ---------------------------------------------------------------------------------------------


@ROLES
def test_a_release_is_answered(role) -> None:
    def script(peer: Scripted) -> None:
        peer.send(RELEASE_RQ)
        peer.expect(RELEASED)
        peer.expect_end()

    with role(script) as association:
        assert association.receive() is None
        assert not association.is_open


@ROLES
def test_our_release_is_answered(role) -> None:
    with role(lambda peer: peer.release()) as association:
        association.release()
        assert not association.is_open


@ROLES
def test_p_data_may_still_come_after_our_release_request(role) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RELEASE)
        peer.send(p_data(pdv(1, COMMAND, command=True)), p_data(pdv(3, bytes(100_000))), RELEASE_RP)
        peer.expect_end()

    with role(script) as association:
        association.release()


@ROLES
def test_what_is_left_of_a_pdu_does_not_disturb_the_release(role) -> None:
    """The peer put more into the PDU of its last message than anybody waits for."""

    def script(peer: Scripted) -> None:
        peer.send(p_data(pdv(1, b"response", command=True), pdv(1, bytes(30_000), command=True)))
        peer.release()

    with role(script) as association:
        assert association.receive() == (1, b"response")
        association.release()


def test_the_requestor_answers_first_in_a_collision_of_releases() -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RELEASE)
        peer.send(RELEASE_RQ)
        peer.expect(RELEASED)
        peer.send(RELEASE_RP)
        peer.expect_end()

    with requestor(script) as association:
        association.release()


def test_the_acceptor_waits_for_the_answer_in_a_collision_of_releases() -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RELEASE)
        peer.send(RELEASE_RQ)
        peer.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):  # nothing, before we as the requestor have answered
            peer.read(1)
        peer.sock.settimeout(LIMIT)
        peer.send(RELEASE_RP)
        peer.expect(RELEASED)
        peer.expect_end()

    with acceptor(script) as association:
        association.release()


@ROLES
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (accept(ASKED), UNEXPECTED),
        (header(P_DATA, 131073), INVALID),
        (header(0x42, 4) + bytes(4), UNRECOGNISED),
    ],
)
def test_a_wrong_answer_to_the_release_is_aborted(role, sent, reason) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RELEASE)
        peer.send(sent)
        peer.expect_abort(PROVIDER, reason)

    with role(script) as association, pytest.raises(ProtocolError):
        association.release()


def test_a_third_release_request_is_aborted() -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RELEASE)
        peer.send(RELEASE_RQ, RELEASE_RQ)
        peer.expect(RELEASED)
        peer.expect_abort(PROVIDER, UNEXPECTED)

    with requestor(script) as association, pytest.raises(ProtocolError):
        association.release()


def test_a_peer_that_asks_for_release_and_leaves_at_once_has_released() -> None:
    """Everything was answered; that the answer to the release reaches nobody harms nobody."""

    def script(peer: Scripted) -> None:
        peer.send(RELEASE_RQ)
        peer.reset()

    for _ in range(20):
        with acceptor(script) as association:
            assert association.receive() is None


@ROLES
def test_our_abort_reaches_a_peer_in_the_middle_of_sending(role) -> None:
    def script(peer: Scripted) -> None:
        peer.send(p_data(pdv(3, bytes(100_000))))
        peer.expect_abort(USER, 0)

    with role(script) as association:
        association.abort()
        assert not association.is_open


# --- sending ---------------------------------------------------------------------------------------------


def fragment_of(maximum: int, ours: int = 131072) -> int:
    return (min(maximum or ours, ours) - 6) // 2 * 2


def check_pdus(peer: Scripted, maximum: int, length: int) -> bytes:
    """Read one message and judge every PDU of it; return its data set."""
    fragment = fragment_of(maximum)
    command, data, sizes = b"", bytearray(), []
    while True:
        body = peer.expect(P_DATA)
        size, context_id, control = struct.unpack_from(">IBB", body)
        assert len(body) <= (maximum or 131072)
        assert size == len(body) - 4
        assert len(body) % 2 == 0
        assert context_id == 3
        if control & 1:
            assert not data
            command += body[6:]
            continue
        data += body[6:]
        sizes.append(size - 2)
        assert control in (0, 2)
        if control == 2:
            break
    assert command == COMMAND
    assert sizes[:-1] == [fragment] * (len(sizes) - 1)
    assert len(sizes) == max(-(-length // fragment), 1)
    return bytes(data)


def pattern(length: int) -> bytes:
    """Return bytes in which no fragment can stand for another."""
    return b"".join(struct.pack(">I", n) for n in range(length // 4 + 1))[:length]


def borders(maximum: int, timeout: float = LATE) -> list[int]:
    """Return the sizes around the borders of fragments and of the blocks that are sent at once."""
    fragment = fragment_of(maximum)
    block = (64 if timeout < 5 else 256) * 1024 // (fragment + 12) * fragment
    near = {0, 2, fragment, 3 * fragment, block, 2 * block}
    return sorted({size + more for size in near for more in (-2, 0, 2) if size + more >= 0})


def is_fragmented_well(path: Path, maximum: int, limit: int, timeout: float) -> None:
    sizes = borders(min(maximum or limit, limit), timeout)

    def script(peer: Scripted) -> None:
        for size in sizes:
            for _ in ("file", "memory"):
                assert check_pdus(peer, min(maximum or limit, limit), size) == pattern(size)
        peer.release()

    def play(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept(ASKED, maximum))
        script(peer)

    with played(play) as sock:
        association = patient(sock, dimse_timeout=timeout)
        association.request(ASKED, limit=limit)
        for size in sizes:
            path.write_bytes(b"head" + pattern(size))
            with path.open("rb", buffering=0) as file:
                file.seek(4)
                association.send(3, COMMAND, file, size)
            association.send(3, COMMAND, io.BytesIO(pattern(size)), size)
        association.release()


@pytest.mark.parametrize("maximum", [64, 65, 254, 255, 16384, 16385, 131072, 262144, 0])
def test_fragments_are_even_and_keep_the_peers_maximum_at_every_border(maximum, tmp_path) -> None:
    is_fragmented_well(tmp_path / "data", maximum, 131072, LATE)


def test_our_own_limit_on_what_we_send_is_kept(tmp_path) -> None:
    is_fragmented_well(tmp_path / "data", 0, 4096, LATE)


def test_smaller_blocks_under_a_short_time_out_change_nothing(tmp_path) -> None:
    is_fragmented_well(tmp_path / "data", 16384, 131072, 4.0)


@pytest.mark.parametrize(("maximum", "size"), [(64, 58), (65, 58), (16384, 16378)])
def test_a_command_set_longer_than_a_fragment_is_cut_too(maximum, size) -> None:
    command = pattern(3 * size + 2)

    def script(peer: Scripted) -> None:
        bodies = [peer.expect(P_DATA) for _ in range(4)]
        assert [len(body) - 6 for body in bodies] == [size, size, size, 2]
        assert [body[5] for body in bodies] == [1, 1, 1, 3]
        assert b"".join(body[6:] for body in bodies) == command
        assert peer.expect(P_DATA)[6:] == DATA[:50]
        peer.release()

    with requestor(script, maximum=maximum) as association:
        association.send(1, command, io.BytesIO(DATA), 50)
        association.release()


def test_a_buffered_file_is_sent_from_where_it_stands(tmp_path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"head" + pattern(100_000))

    def script(peer: Scripted) -> None:
        assert check_pdus(peer, 16384, 100_000) == pattern(100_000)
        peer.release()

    with requestor(script) as association, path.open("rb") as file:
        assert file.read(4) == b"head"  # and much more into its buffer
        association.send(3, COMMAND, file, 100_000)
        association.release()


class Trickle(io.RawIOBase):
    """A source that gives little at a time, as a pipe does."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self._data.read(min(len(buffer), 777))
        buffer[: len(piece)] = piece
        return len(piece)


def test_a_source_that_gives_little_at_a_time_is_read_to_its_end() -> None:
    def script(peer: Scripted) -> None:
        assert check_pdus(peer, 16384, 600_000) == pattern(600_000)
        peer.release()

    with requestor(script) as association:
        association.send(3, COMMAND, Trickle(pattern(600_000)), 600_000)
        association.release()


@pytest.mark.parametrize("there", [0, 2, 16378, 20_000])
def test_a_file_that_is_short_before_anything_was_sent_costs_only_itself(there, tmp_path) -> None:
    """Nothing of it is on the wire, and the next message goes over the same association."""
    path = tmp_path / "short"
    path.write_bytes(pattern(there))

    def script(peer: Scripted) -> None:
        assert check_pdus(peer, 16384, 100) == pattern(100)
        peer.release()

    with requestor(script) as association, path.open("rb", buffering=0) as data:
        with pytest.raises(InputError) as caught:
            association.send(3, COMMAND, data, 400_000)
        assert caught.value.slug == "input.file-shrank"
        assert association.is_open
        association.send(3, COMMAND, io.BytesIO(pattern(100)), 100)
        association.release()


@pytest.mark.parametrize("there", [262_080, 300_000])
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_file_that_shrinks_while_it_is_sent_is_aborted_and_never_padded(there, kind, tmp_path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(pattern(there))

    def script(peer: Scripted) -> None:
        got = bytearray()
        while True:
            pdu_type, body = peer.read_pdu()
            if pdu_type == 7:
                break
            if not body[5] & 1:
                assert body[5] == 0, "the last fragment must not come"
                got += body[6:]
        assert tuple(body[2:]) == (USER, 0)
        assert bytes(got) == pattern(there)[: len(got)]
        peer.expect_end()

    with (
        requestor(script) as association,
        path.open("rb", buffering=0) if kind == "file" else io.BytesIO(pattern(there)) as data,
    ):
        with pytest.raises(InputError) as caught:
            association.send(3, COMMAND, data, 400_000)
        assert caught.value.slug == "input.file-shrank"
        assert caught.value.exit_code == ExitCode.INPUT
        assert ("shrinking" in caught.value.message) == (kind == "file")
        assert not association.is_open


class Broken(io.BytesIO):
    """A file on a disk that fails after the first block."""

    name = "on-a-bad-disk"

    def readinto(self, buffer) -> int:
        if self.tell() >= 300_000:
            raise OSError(5, "Input/output error")
        return super().readinto(buffer)


def test_a_file_that_cannot_be_read_on_is_aborted_too() -> None:
    """The peer would take the next command for the rest of the data set."""

    def script(peer: Scripted) -> None:
        while (pdu := peer.read_pdu())[0] == P_DATA:
            pass
        assert pdu[0] == 7
        peer.expect_end()

    with requestor(script) as association:
        with pytest.raises(InputError, match="cannot read `on-a-bad-disk`: Input/output error") as caught:
            association.send(3, COMMAND, Broken(bytes(600_000)), 600_000)
        assert caught.value.slug == "input.unreadable"
        assert not association.is_open


# --- a send that fails: read once before judging -------------------------------------------------------------

LARGE = 32 << 20


def abort_in_mid_object(peer: Scripted) -> None:
    peer.read(200_000)
    peer.send(abort(USER, 0))
    peer.close()  # over unread bytes: our sending is answered by a reset


@ROLES
def test_a_peer_that_aborts_in_mid_object_is_understood_every_time(role) -> None:
    source = io.BytesIO(bytes(LARGE))
    for _ in range(20):
        source.seek(0)
        with role(abort_in_mid_object) as association, pytest.raises(AssociationAborted):
            association.send(3, COMMAND, source, LARGE)


def test_an_answer_before_the_abort_does_not_hide_it() -> None:
    """An SCP that cannot store says so at once, and then gives up on the rest of the object."""

    def script(peer: Scripted) -> None:
        peer.read(200_000)
        peer.send(p_data(pdv(3, COMMAND, command=True)) + abort(PROVIDER, 0))
        peer.close()

    for _ in range(10):
        with requestor(script) as association, pytest.raises(AssociationAborted):
            association.send(3, COMMAND, io.BytesIO(bytes(LARGE)), LARGE)


def test_a_peer_that_aborts_and_just_stops_reading_is_understood() -> None:
    left = threading.Event()

    def script(peer: Scripted) -> None:
        peer.read(200_000)
        peer.send(abort(USER, 0))
        left.wait(LIMIT)

    with requestor(script, dimse_timeout=SOON) as association:
        with pytest.raises(AssociationAborted):
            association.send(3, COMMAND, io.BytesIO(bytes(LARGE)), LARGE)
        left.set()


@ROLES
def test_a_peer_that_leaves_in_mid_object_without_a_word(role) -> None:
    def script(peer: Scripted) -> None:
        peer.read(200_000)
        peer.close()

    with role(script) as association:
        with pytest.raises(ConnectionBroken) as caught:
            association.send(3, COMMAND, io.BytesIO(bytes(LARGE)), LARGE)
        assert caught.value.slug == "association.lost"
        assert not association.is_open


def tls_pair(cert: Path, key: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cert)
    return client, server


def test_over_tls_too_a_peer_that_aborts_in_mid_object_is_understood_every_time(pki) -> None:
    client, server = tls_pair(pki.scp.cert, pki.scp.key)

    def script(peer: Scripted) -> None:
        with server.wrap_socket(peer.sock, server_side=True) as secured:
            inner = Scripted(secured)
            inner.expect(RQ)
            inner.send(accept(ASKED))
            abort_in_mid_object(inner)

    source = io.BytesIO(bytes(LARGE))
    for _ in range(20):
        source.seek(0)
        with played(script) as plain, client.wrap_socket(plain, server_hostname="localhost") as sock:
            association = patient(sock)
            association.request(ASKED)
            with pytest.raises(AssociationAborted):
                association.send(3, COMMAND, source, LARGE)


def test_what_is_left_of_a_tls_record_is_told_of(pki) -> None:
    """Whoever waits for the socket does not see it: it was read from there already."""
    client, server = tls_pair(pki.scp.cert, pki.scp.key)

    def script(peer: Scripted) -> None:
        with server.wrap_socket(peer.sock, server_side=True) as secured:
            secured.sendall(bytes(100))
            with contextlib.suppress(OSError):
                secured.recv(1)

    with played(script) as plain, client.wrap_socket(plain, server_hostname="localhost") as sock:
        association = patient(sock)
        assert not association.has_buffered
        assert sock.recv(10) == bytes(10)
        assert association.has_buffered


def test_a_message_that_came_in_two_pieces_is_seen_at_one_look(pki) -> None:
    """DCMTK writes the header of a PDU by itself: with TLS it is a record of its own, read by itself."""
    client, server = tls_pair(pki.scp.cert, pki.scp.key)
    message = p_data(pdv(3, COMMAND, command=True))
    both_records = len(message) + 2 * 22  # a header, a type and a tag each, RFC 8446 5.2
    is_sent = threading.Event()

    def script(peer: Scripted) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with server.wrap_socket(peer.sock, server_side=True) as secured:
            inner = Scripted(secured)
            inner.expect(RQ)
            inner.send(accept(ASKED))
            inner.send(message[:12])
            inner.send(message[12:])
            is_sent.set()
            with contextlib.suppress(OSError):
                secured.recv(1)

    with played(script) as plain, client.wrap_socket(plain, server_hostname="localhost") as sock:
        association = patient(sock)
        association.request(ASKED)
        assert is_sent.wait(LIMIT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, both_records)
        assert select.select([sock], [], [], LIMIT)[0]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        assert association.has_command() is True
        assert association.receive() == (3, COMMAND)


# --- the socket ------------------------------------------------------------------------------------------


class Watched(socket.socket):
    """A socket that notes the order of what is asked of it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.calls: list[object] = []

    def setsockopt(self, *args: int) -> None:  # type: ignore[override]
        self.calls.append(args)
        super().setsockopt(*args)

    def recv_into(self, *args: object) -> int:  # type: ignore[override]
        self.calls.append("recv")
        return super().recv_into(*args)  # type: ignore[arg-type]

    def send(self, *args: object) -> int:  # type: ignore[override]
        self.calls.append("send")
        return super().send(*args)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="TCP_QUICKACK is Linux's")
def test_quickack_is_rearmed_after_whatever_is_sent_and_nagle_is_off() -> None:
    """Linux leaves that mode with each segment that is sent."""

    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept(ASKED))
        for _ in range(3):
            peer.expect(P_DATA)
            peer.send(p_data(pdv(3, b"+", command=True)), p_data(pdv(3, bytes(100_000))))
        peer.release()

    with played(script) as plain, Watched(plain) as sock:
        association = patient(sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        association.request(ASKED)
        for _ in range(3):
            association.send(3, COMMAND)
            assert association.receive() == (3, b"+")
            assert sum(len(piece) for piece in association.receive_data(3)) == 100_000
        association.release()
        calls = sock.calls[sock.calls.index("send") :]
        first_reads = [at for at in range(2, len(calls)) if calls[at] == "recv" and calls[at - 2] == "send"]
        assert len(first_reads) == 5  # to the request, three commands and the release
        assert "send" not in [sent for sent, read in pairwise(calls) if read == "recv"]
        quickack = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        assert all(calls[at - 1] == quickack for at in first_reads)


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no such option")
def test_little_of_a_large_object_waits_in_the_socket_and_all_of_a_small_one_may() -> None:
    """What waits there is sent in the time of the peer, when that acknowledges what came before."""
    sizes = (1000, 4 << 20, 500_000)

    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept(ASKED))
        for size in sizes:
            assert len(peer.expect_message()[2]) == size
        peer.release()

    with played(script) as sock:
        association = patient(sock)
        association.request(ASKED)
        limits = []
        for size in sizes:
            association.send(3, COMMAND, io.BytesIO(bytes(size)), size)
            limits.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT))
        association.release()
        assert limits == [0, 32 * 1024, 0]


def test_a_socket_that_is_not_tcp_is_fine() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Scripted(theirs)
        peer.send(accept(ASKED), RELEASE_RP)
        association = patient(ours)
        association.request(ASKED)
        association.release()
        assert peer.expect(RQ)
        assert peer.expect(RELEASE) == bytes(4)
        peer.expect_end()


def test_close_says_nothing() -> None:
    with requestor(lambda peer: peer.expect_end()) as association:
        association.close()
        assert not association.is_open
