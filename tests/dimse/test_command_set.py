"""Command sets against pynetdicom's DIMSE messages, and interop.md section 9.4."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom import dimse_messages as oracle
from pynetdicom import dimse_primitives as primitives
from pynetdicom.dsutils import decode as oracle_decode
from pynetdicom.dsutils import encode as oracle_encode

from dicomtls_cli.dimse.command import (
    Command,
    CommandField,
    MalformedCommand,
    Priority,
    decode,
    echo_request,
    encode,
    next_message_id,
    response,
    store_request,
)
from dicomtls_cli.dimse.repeated import CommandReader, encode_store_request, encode_success
from dicomtls_cli.errors import ProtocolError

few = settings(max_examples=50, deadline=None)
many = settings(max_examples=200, deadline=None)

uids = st.lists(st.integers(0, 9999), min_size=2, max_size=8).map(lambda parts: ".".join(map(str, parts)))
ids = st.integers(0, 0xFFFF)
texts = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), min_size=1)
ae_titles = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), min_size=1, max_size=16
)
comments = st.one_of(
    st.just(""),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), max_size=64),
)
statuses = st.sampled_from([0x0000, 0x0110, 0x0122, 0x0211, 0x0212, 0xA700, 0xA900, 0xB000, 0xB007, 0xC000])
tags = st.lists(st.tuples(ids, ids), max_size=3).map(tuple)


def made(*values, **named):
    """Without annotations: hypothesis would make up the fields that are not given."""
    return Command(*values, **named)


store_requests = st.builds(
    made,
    st.just(0x0001),
    ids,
    sop_class=uids,
    sop_instance=uids,
    has_data=st.just(True),
    priority=st.sampled_from(Priority),
    move_originator=st.one_of(st.just(""), ae_titles),
    move_originator_id=st.one_of(st.none(), ids),
)
echo_requests = st.builds(echo_request, ids)
requests = st.one_of(store_requests, echo_requests)
responses = st.builds(response, requests, statuses, comments, tags)
cancels = st.builds(made, st.just(0x0FFF), responded_to=ids)


def element(number: int, value: bytes, group: int = 0) -> bytes:
    return struct.pack("<HHI", group, number, len(value)) + value


def us(number: int, value: int) -> bytes:
    return element(number, struct.pack("<H", value))


ECHO = (element(0x0002, b"1.2.840.10008.1.1\0"), us(0x0100, 0x30), us(0x0110, 7), us(0x0800, 0x0101))
STORE = (
    element(0x0002, b"1.2.3\0"),
    us(0x0100, 1),
    us(0x0110, 7),
    us(0x0700, 0),
    us(0x0800, 1),
    element(0x1000, b"1.2.4\0"),
)
ECHO_READ = Command(0x30, 7, sop_class="1.2.840.10008.1.1")


def malformed(*elements: bytes) -> MalformedCommand:
    with pytest.raises(MalformedCommand) as caught:
        decode(b"".join(elements))
    assert isinstance(caught.value, ProtocolError)
    assert caught.value.abort_reason == 6
    return caught.value


# --- our bytes against pynetdicom's ----------------------------------------------------------------------


def oracle_message(command: Command):
    """The DIMSE message pynetdicom makes for the same service, with its command set."""
    store = command.field & 0x7FFF == CommandField.C_STORE_RQ
    primitive = primitives.C_STORE() if store else primitives.C_ECHO()
    primitive.AffectedSOPClassUID = UID(command.sop_class)
    if command.is_response:
        primitive.MessageIDBeingRespondedTo = command.responded_to
        primitive.Status = command.status
        if command.error_comment:
            primitive.ErrorComment = command.error_comment
        message = oracle.C_STORE_RSP() if store else oracle.C_ECHO_RSP()
    else:
        primitive.MessageID = command.message_id
        message = oracle.C_STORE_RQ() if store else oracle.C_ECHO_RQ()
    if store:
        primitive.AffectedSOPInstanceUID = UID(command.sop_instance)
        if command.is_response and command.offending:
            primitive.OffendingElement = [tag[0] << 16 | tag[1] for tag in command.offending]
        if not command.is_response:
            primitive.Priority = int(command.priority)
            primitive.DataSet = BytesIO(b"\0\0")
            if command.move_originator:
                primitive.MoveOriginatorApplicationEntityTitle = command.move_originator
            if command.move_originator_id is not None:
                primitive.MoveOriginatorMessageID = command.move_originator_id
    message.primitive_to_message(primitive)
    return message


@few
@given(st.one_of(requests, responses))
def test_our_bytes_are_pynetdicoms_and_we_read_them(command: Command) -> None:
    if command.field == CommandField.C_ECHO_RSP:  # has no Offending Element; PS3.7 table 9.3-13
        command = response(Command(0x30, command.responded_to, sop_class=command.sop_class), command.status)
    theirs = oracle_encode(oracle_message(command).command_set, True, True)
    assert encode(command) == theirs
    assert decode(theirs) == command


@few
@given(st.one_of(requests, responses, cancels))
def test_pynetdicom_reads_our_bytes(command: Command) -> None:
    data = encode(command)
    theirs = oracle_decode(BytesIO(data), True, True)
    assert oracle_encode(theirs, True, True) == data
    assert theirs.CommandGroupLength == len(data) - 12
    assert theirs.CommandField == command.field
    assert (theirs.CommandDataSetType != 0x0101) is command.has_data
    assert theirs.get("MessageID") == command.message_id
    assert theirs.get("MessageIDBeingRespondedTo") == command.responded_to
    assert theirs.get("AffectedSOPClassUID", "") == command.sop_class
    assert theirs.get("AffectedSOPInstanceUID", "") == command.sop_instance
    assert theirs.get("Status") == command.status
    assert theirs.get("ErrorComment", "") == command.error_comment
    assert theirs.get("Priority") == command.priority
    assert theirs.get("MoveOriginatorApplicationEntityTitle", "") == command.move_originator
    assert theirs.get("MoveOriginatorMessageID") == command.move_originator_id
    assert list(map(len, struct_values(data))) == [
        length for length in map(len, struct_values(data)) if length % 2 == 0
    ]


def struct_values(data: bytes) -> list[bytes]:
    values, offset = [], 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset + 4)
        values.append(data[offset + 8 : offset + 8 + length])
        offset += 8 + length
    return values


OTHER_REQUESTS = sorted(
    name for name in oracle._COMMAND_SET_KEYWORDS if name.endswith("RQ") and "CANCEL" not in name
)


@pytest.mark.parametrize("name", OTHER_REQUESTS)
def test_any_request_is_read_well_enough_to_be_answered(name: str) -> None:
    message = getattr(oracle, name.replace("-", "_"))()
    for keyword in [e.keyword for e in message.command_set]:
        if "UID" in keyword:
            setattr(message.command_set, keyword, "1.2.3.4")
        elif keyword == "MoveDestination":
            message.command_set.MoveDestination = "HERE"
        elif keyword == "AttributeIdentifierList":
            message.command_set.AttributeIdentifierList = [0x00100010]
        elif keyword.startswith("MoveOriginatorA"):
            message.command_set.MoveOriginatorApplicationEntityTitle = "A"
        else:
            setattr(message.command_set, keyword, 5)
    field = CommandField[name.replace("-", "_")]
    message.command_set.CommandField = int(field)
    request = decode(oracle_encode(message.command_set, True, True))
    assert (request.name, request.message_id, request.has_data, request.is_response) == (name, 5, True, False)

    answered = oracle_decode(BytesIO(encode(response(request, 0x0211))), True, True)
    assert oracle._MESSAGE_TYPES[answered.CommandField][0] == name.replace("RQ", "RSP")
    assert (answered.MessageIDBeingRespondedTo, answered.Status) == (5, 0x0211)
    assert answered.CommandDataSetType == 0x0101


def test_an_operation_nobody_knows_is_answered_too() -> None:
    request = decode(b"".join((us(0x0100, 0x0777), us(0x0110, 9), us(0x0800, 0x0101))))
    assert request.name == "0x0777"
    assert response(request, 0x0211) == Command(0x8777, responded_to=9, status=0x0211)


def test_command_fields_are_pynetdicoms() -> None:
    theirs = {field: names[0] for field, names in oracle._MESSAGE_TYPES.items()}
    assert {int(field): Command(field).name for field in CommandField} == theirs


def test_a_cancel_is_recognised() -> None:
    cancel = decode(encode(Command(CommandField.C_CANCEL_RQ, responded_to=3)))
    assert (cancel.name, cancel.responded_to, cancel.has_data) == ("C-CANCEL-RQ", 3, False)


# --- interop.md section 9.4 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "follows"), [(0x0101, False), (0, True), (1, True), (0x0102, True), (0xFEFE, True)]
)
def test_data_follows_unless_0101h(value: int, follows: bool) -> None:
    assert decode(b"".join((*STORE[:4], us(0x0800, 1), STORE[5]))).has_data
    assert decode(b"".join((us(0x0100, 0x20), us(0x0110, 1), us(0x0800, value)))).has_data is follows


def test_affected_uids_may_be_missing_in_a_response() -> None:
    data = b"".join((us(0x0100, 0x8001), us(0x0120, 4), us(0x0800, 0x0101), us(0x0900, 0)))
    assert decode(data) == Command(0x8001, responded_to=4, status=0)


def test_message_ids_wrap_and_stay_unique() -> None:
    assert next_message_id(0) == 1
    assert next_message_id(65534) == 65535
    assert next_message_id(65535) == 1
    assert next_message_id(3, {4, 5}) == 6
    assert next_message_id(65535, {1}) == 2
    with pytest.raises(ValueError):
        next_message_id(5, range(1, 65536))


# --- lenient and strict ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "group_length", [b"", element(0, b"\xff\xff\xff\xff"), element(0, b"\0\0"), element(0, b"")]
)
def test_the_group_length_is_not_relied_on(group_length: bytes) -> None:
    assert decode(group_length + b"".join(ECHO)) == ECHO_READ


def test_order_and_unknown_elements_do_not_matter() -> None:
    assert decode(b"".join(reversed(ECHO)) + element(0x5010, b"x")) == ECHO_READ


@pytest.mark.parametrize("uid", [b"1.2.840.10008.1.1", b"1.2.840.10008.1.1\0\0\0", b"1.2.840.10008.1.1 "])
def test_odd_and_padded_values_are_read(uid: bytes) -> None:
    assert decode(element(2, uid) + b"".join(ECHO[1:])) == ECHO_READ


def test_an_overlong_uid_is_read_for_the_service_to_judge() -> None:
    uid = "1." + "2" * 200
    assert decode(b"".join((*STORE[:5], element(0x1000, uid.encode())))).sop_instance == uid


@pytest.mark.parametrize(
    ("elements", "answerable"),
    [
        ((), False),
        ((ECHO[0],), False),
        (ECHO[:3], False),  # nobody knows whether data follows
        ((ECHO[0], ECHO[2], ECHO[3]), False),  # no command field
        ((ECHO[0], ECHO[1], ECHO[3]), False),  # no message id
        ((*ECHO, b"\0\0"), True),  # slack
        ((*ECHO, ECHO[0]), True),  # twice
        ((*ECHO, element(0x0010, b"x ", group=8)), True),
        ((*ECHO, b"\0\0\0\x09\xff\xff\xff\xff"), True),  # undefined length
        ((*ECHO, us(0x0900, 0)[:-1]), True),
        ((*ECHO, element(0x0901, b"123456")), True),  # not a number of tags
        ((us(0x0100, 0x30), element(0x0110, b"\1\0\2\0"), us(0x0800, 0x0101)), False),
        ((*STORE[:3], element(0x0700, b"\1"), *STORE[4:]), True),  # fault in the middle, id known
        (STORE[1:], True),  # no SOP class
        (STORE[:-1], True),  # no instance
        ((*STORE[:4], us(0x0800, 0x0101), STORE[5]), True),  # a store of nothing
        ((us(0x0100, 0x8030), us(0x0800, 0x0101), us(0x0900, 0)), False),
        ((us(0x0100, 0x8030), us(0x0800, 0x0101), us(0x0120, 1)), False),
        ((us(0x0100, 0x8030), us(0x0110, 1), us(0x0800, 0x0101)), False),  # a response is not answered
        ((*ECHO, element(0x5000, b"x" * 65536)), False),  # too long to read at all
    ],
)
def test_malformed_command_sets(elements: tuple[bytes, ...], answerable: bool) -> None:
    error = malformed(*elements)
    assert (error.command is not None) is answerable
    if error.command is not None:
        answered = response(error.command, 0x0212)
        assert (answered.responded_to, answered.status, answered.is_response) == (7, 0x0212, True)


def test_a_malformed_store_still_tells_that_data_follows() -> None:
    assert malformed(*STORE[1:]).command == Command(1, 7, sop_instance="1.2.4", has_data=True, priority=0)


@many
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_our_error_only(data: bytes) -> None:
    with pytest.raises(MalformedCommand):
        decode(data)


@many
@given(st.one_of(requests, responses, cancels), st.data())
def test_mutated_command_sets_raise_our_error_only(command: Command, draw: st.DataObject) -> None:
    data = bytearray(encode(command))
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, max(len(data) - 1, 0)))
        if draw.draw(st.booleans()):
            data[at : at + 1] = draw.draw(st.binary(max_size=3))
        else:
            del data[at : at + draw.draw(st.integers(1, 12))]
    try:
        read = decode(memoryview(data))
    except MalformedCommand:
        return
    assert decode(encode(read)) == read


# --- making them -----------------------------------------------------------------------------------------


def test_the_requests() -> None:
    assert echo_request(7) == ECHO_READ
    assert store_request(7, "1.2.3", "1.2.4") == decode(b"".join(STORE))
    assert store_request(1, "1.2", "1.3", Priority.HIGH).priority == 1


def test_an_error_comment_fits_and_is_printable() -> None:
    comment = response(ECHO_READ, 0xC000, "\x1b[2J\\" + "x" * 100).error_comment
    assert len(comment) == 64
    assert comment.isprintable()
    assert "\\" not in comment
    assert decode(encode(response(ECHO_READ, 0xC000, "naïve €"))).error_comment == "naïve ?"


@pytest.mark.parametrize("message_id", [-1, 65536])
def test_numbers_that_do_not_fit_are_not_sent(message_id: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode(echo_request(message_id))


# --- the fast ways are the same ways -----------------------------------------------------------------------

uids = st.from_regex(r"[1-9]([.][0-9]{1,3}){1,12}", fullmatch=True)


@given(st.integers(0, 0xFFFF), uids, uids, st.sampled_from(Priority))
def test_a_store_request_made_fast_is_the_same(number, sop_class, sop_instance, priority) -> None:
    assert encode_store_request(number, sop_class, sop_instance, priority) == encode(
        store_request(number, sop_class, sop_instance, priority)
    )


def test_a_message_id_that_does_not_fit() -> None:
    for number in (-1, 0x10000):
        with pytest.raises(ValueError, match="0110"):
            encode_store_request(number, "1.2", "1.3", Priority.LOW)


responses = st.builds(
    lambda number, sop_class, uid, status, comment: encode(
        response(store_request(number, sop_class, uid), status, comment)
    ),
    st.integers(0, 0xFFFF),
    st.sampled_from(["1.2.840.10008.5.1.4.1.1.2", "1.2.3"]),
    uids | st.just(""),
    st.sampled_from([0, 0xB000, 0xA700]),
    st.sampled_from(["", "", "no room"]),
)


requests = st.builds(
    lambda number, sop_class, uid, priority: encode(store_request(number, sop_class, uid, priority)),
    st.integers(0, 0xFFFF),
    st.sampled_from(["1.2.840.10008.5.1.4.1.1.2", "1.2.3"]),
    uids,
    st.sampled_from(Priority),
)


@given(st.integers(0, 0xFFFF), uids, uids | st.just(""))
def test_a_success_made_fast_is_the_same(number, sop_class, sop_instance) -> None:
    asked = store_request(number, sop_class, sop_instance)
    assert encode_success(asked) == encode(response(asked, 0))


@given(st.lists(responses | requests, max_size=12))
def test_commands_read_fast_are_the_same(data: list[bytes]) -> None:
    reader = CommandReader()
    assert [reader.read(one) for one in data] == [decode(one) for one in data]


@given(responses | requests, st.integers(0, 200), st.integers(0, 255))
def test_a_command_that_differs_in_one_byte_is_read_as_it_is(data: bytes, place: int, value: int) -> None:
    reader = CommandReader()
    reader.read(data)
    changed = bytearray(data)
    changed[place % len(data)] = value
    try:
        expected: object = decode(bytes(changed))
    except MalformedCommand as error:
        expected = str(error)
    try:
        found: object = reader.read(bytes(changed))
    except MalformedCommand as error:
        found = str(error)
    assert found == expected
