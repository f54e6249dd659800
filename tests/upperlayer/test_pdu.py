"""PDUs against pynetdicom: what one side writes, the other reads as the same values and writes alike."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as oracle
from pynetdicom import pdu_items as oracle_items
from pynetdicom import pdu_primitives as primitives
from pynetdicom.presentation import PresentationContext as OracleContext

from dicomtls_cli.errors import ProtocolError
from dicomtls_cli.upperlayer import pdu as pdus
from dicomtls_cli.upperlayer.codec import decode, encode
from dicomtls_cli.upperlayer.header import AbortReason, PduType
from dicomtls_cli.upperlayer.items import (
    AsyncOperations,
    ImplementationClassUID,
    ImplementationVersion,
    MaximumLength,
    OpaqueItem,
    RoleSelection,
    UserIdentity,
    UserIdentityResponse,
    type_of,
)
from dicomtls_cli.upperlayer.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
    PresentationContext,
    ReleaseRequest,
    ReleaseResponse,
)
from dicomtls_cli.upperlayer.words import abort_words, describe, reject_words, result_words

few = settings(max_examples=40, deadline=None)
many = settings(max_examples=200, deadline=None)

# --- strategies ------------------------------------------------------------------------------------------

uids = st.lists(st.integers(0, 99999), min_size=2, max_size=9).map(lambda parts: ".".join(map(str, parts)))
ae_titles = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), min_size=1, max_size=16
)
context_ids = st.integers(0, 127).map(lambda n: 2 * n + 1)
numbers = st.integers(0, 0xFFFF)


def counted(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


extended = st.builds(
    lambda uid, info: OpaqueItem(0x56, counted(uid.encode()) + info), uids, st.binary(max_size=20)
)
common_extended = st.builds(
    lambda uid, service, related: OpaqueItem(
        0x57,
        counted(uid.encode())
        + counted(service.encode())
        + counted(b"".join(counted(one.encode()) for one in related)),
    ),
    uids,
    uids,
    st.lists(uids, max_size=3),
)
maximum = st.builds(MaximumLength, st.integers(0, 0xFFFFFFFF))
implementation = st.builds(ImplementationClassUID, uids)
version = st.builds(ImplementationVersion, ae_titles)
window = st.builds(AsyncOperations, numbers, numbers)
role = st.builds(RoleSelection, uids, st.booleans(), st.booleans())
identity = st.builds(
    UserIdentity,
    st.integers(1, 5),
    st.booleans(),
    st.binary(min_size=1, max_size=300),
    st.binary(max_size=20),
)
identity_response = st.builds(UserIdentityResponse, st.binary(max_size=300))
request_items = st.lists(
    st.one_of(maximum, implementation, version, window, role, extended, common_extended, identity), max_size=8
).map(tuple)
accept_items = st.lists(
    st.one_of(maximum, implementation, version, window, role, extended, identity_response), max_size=8
).map(tuple)

contexts = st.lists(
    st.builds(PresentationContext, context_ids, uids, st.lists(uids, min_size=1, max_size=4).map(tuple)),
    min_size=1,
    max_size=6,
    unique_by=lambda context: context.context_id,
).map(tuple)
results = st.lists(
    st.builds(ContextResult, context_ids, st.integers(0, 4), uids),
    max_size=6,
    unique_by=lambda r: r.context_id,
).map(tuple)
versions = st.integers(0, 0xFFFF)
requests = st.builds(AssociateRequest, ae_titles, ae_titles, contexts, request_items, uids, versions)
accepts = st.builds(AssociateAccept, ae_titles, ae_titles, results, accept_items, uids, versions)
short_pdus = st.one_of(
    st.builds(AssociateReject, st.integers(1, 2), st.integers(1, 3), st.integers(1, 10)),
    st.builds(ReleaseRequest),
    st.builds(ReleaseResponse),
    st.builds(Abort, st.sampled_from([0, 2]), st.integers(0, 6)),
)
any_pdu = st.one_of(requests, accepts, short_pdus)

SIMPLE = AssociateRequest(
    "ANY-SCP",
    "DICOMTLS",
    (PresentationContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),),
    (MaximumLength(16384), ImplementationClassUID(pdus.IMPLEMENTATION_CLASS_UID)),
)
SIMPLE_ACCEPT = AssociateAccept(
    "ANY-SCP", "DICOMTLS", (ContextResult(1, 0, "1.2.840.10008.1.2"),), (MaximumLength(16384),)
)


def body(pdu: pdus.Pdu) -> bytes:
    return encode(pdu)[6:]


def reread(pdu: pdus.Pdu) -> pdus.Pdu:
    data = encode(pdu)
    return decode(data[0], data[6:])


def item(kind: int, content: bytes) -> bytes:
    return bytes((kind, 0)) + counted(content)


def request_of(*items_: bytes, fixed: bytes | None = None) -> bytes:
    """A hand-made body of an A-ASSOCIATE."""
    return (body(SIMPLE)[:68] if fixed is None else fixed) + b"".join(items_)


APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
CONTEXT = item(0x20, b"\1\0\0\0" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
RESULT = item(0x21, b"\1\0\0\0" + item(0x40, b"1.2.840.10008.1.2"))
USER = item(0x50, item(0x51, b"\0\0\x40\0"))


def fault(pdu_type: int, data: bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode(pdu_type, data)
    return caught.value


def read_or_refuse(pdu_type: int, data: bytes | memoryview) -> pdus.Pdu | None:
    """The PDU, or None after our error; any other exception passes."""
    try:
        return decode(pdu_type, data)
    except ProtocolError as error:
        reason = error.abort_reason
    assert reason in (1, 2, 4, 5, 6)
    return None


# --- our bytes, read by pynetdicom -----------------------------------------------------------------------


def same_items(theirs: list[object], ours: tuple[object, ...]) -> None:
    assert len(theirs) == len(ours)
    for their, our in zip(theirs, ours, strict=True):
        match our:
            case MaximumLength(value):
                assert their.maximum_length_received == value
            case ImplementationClassUID(uid):
                assert their.implementation_class_uid == uid
            case ImplementationVersion(name):
                assert their.implementation_version_name == name
            case AsyncOperations(invoked, performed):
                assert their.maximum_number_operations_invoked == invoked
                assert their.maximum_number_operations_performed == performed
            case RoleSelection(sop_class, scu, scp):
                assert (their.uid, their.scu, their.scp) == (sop_class, scu, scp)
            case UserIdentity(kind, wanted, primary, secondary):
                assert (their.id_type, their.response_requested) == (kind, wanted)
                assert (their.primary, their.secondary or b"") == (primary, secondary)
            case UserIdentityResponse(response):
                assert (their.response or b"") == response
            case OpaqueItem(kind, _):
                assert their.item_type == kind


@few
@given(requests)
def test_pynetdicom_reads_our_request(ours: AssociateRequest) -> None:
    data = encode(ours)
    theirs = oracle.A_ASSOCIATE_RQ()
    theirs.decode(data)
    assert theirs.encode() == data
    assert (theirs.called_ae_title, theirs.calling_ae_title) == (ours.called_ae, ours.calling_ae)
    assert theirs.protocol_version == ours.protocol_version
    assert theirs.application_context_name == ours.application_context
    read = [
        PresentationContext(c.context_id, c.abstract_syntax, tuple(c.transfer_syntax))
        for c in theirs.presentation_context
    ]
    assert tuple(read) == ours.contexts
    same_items(theirs.user_information.user_data, ours.user_information)


@few
@given(accepts)
def test_pynetdicom_reads_our_accept(ours: AssociateAccept) -> None:
    data = encode(ours)
    theirs = oracle.A_ASSOCIATE_AC()
    theirs.decode(data)
    assert theirs.encode() == data
    assert (theirs.reserved_aet, theirs.reserved_aec) == (ours.called_ae, ours.calling_ae)
    read = [(c.context_id, c.result_reason) for c in theirs.presentation_context]
    assert read == [(r.context_id, r.result) for r in ours.results]
    granted = [c.transfer_syntax for c in theirs.presentation_context if c.result_reason == 0]
    assert granted == [r.transfer_syntax for r in ours.results if r.result == 0]
    same_items(theirs.user_information.user_data, ours.user_information)


@few
@given(short_pdus)
def test_pynetdicom_reads_our_short_pdus(ours: pdus.Pdu) -> None:
    data = encode(ours)
    kinds = {3: oracle.A_ASSOCIATE_RJ, 5: oracle.A_RELEASE_RQ, 6: oracle.A_RELEASE_RP, 7: oracle.A_ABORT_RQ}
    theirs = kinds[data[0]]()
    theirs.decode(data)
    assert theirs.encode() == data
    match ours:
        case AssociateReject(result, source, reason):
            assert (theirs.result, theirs.source, theirs.reason_diagnostic) == (result, source, reason)
        case Abort(source, reason):
            assert (theirs.source, theirs.reason_diagnostic) == (source, reason)


# --- pynetdicom's bytes, read by us ----------------------------------------------------------------------


def primitive_of(ours: object) -> object:
    """The user information item `ours`, as pynetdicom's API makes it."""
    match ours:
        case MaximumLength(value):
            made = primitives.MaximumLengthNotification()
            made.maximum_length_received = value
        case ImplementationClassUID(uid):
            made = primitives.ImplementationClassUIDNotification()
            made.implementation_class_uid = uid
        case ImplementationVersion(name):
            made = primitives.ImplementationVersionNameNotification()
            made.implementation_version_name = name
        case AsyncOperations(invoked, performed):
            made = primitives.AsynchronousOperationsWindowNegotiation()
            made.maximum_number_operations_invoked = invoked
            made.maximum_number_operations_performed = performed
        case RoleSelection(sop_class, scu, scp):
            made = primitives.SCP_SCU_RoleSelectionNegotiation()
            made.sop_class_uid = sop_class
            made.scu_role, made.scp_role = scu, scp
        case UserIdentity(kind, wanted, primary, secondary):
            made = primitives.UserIdentityNegotiation()
            made.user_identity_type, made.positive_response_requested = kind, wanted
            made.primary_field, made.secondary_field = primary, secondary
        case UserIdentityResponse(response):
            made = primitives.UserIdentityNegotiation()
            made.server_response = response
        case OpaqueItem(0x56, data):
            length = int.from_bytes(data[:2], "big")
            made = primitives.SOPClassExtendedNegotiation()
            made.sop_class_uid = data[2 : 2 + length].decode()
            made.service_class_application_information = data[2 + length :]
    return made


def oracle_associate(called: str, calling: str, items: tuple[object, ...]) -> primitives.A_ASSOCIATE:
    made = primitives.A_ASSOCIATE()
    made.application_context_name = "1.2.840.10008.3.1.1.1"
    made.called_ae_title, made.calling_ae_title = called, calling
    made.user_information = [primitive_of(one) for one in items]
    return made


sendable = st.tuples(
    maximum,
    implementation,
    st.lists(st.one_of(role.filter(lambda r: r.scu or r.scp), extended), max_size=3),
    st.lists(
        st.one_of(version, window, identity.filter(lambda i: i.identity_type != 2 or i.secondary)), max_size=2
    ),
).map(lambda parts: (parts[0], parts[1], *parts[2], *parts[3]))


@few
@given(ae_titles, ae_titles, contexts, sendable)
def test_we_read_pynetdicoms_request(
    called: str, calling: str, offered: tuple[PresentationContext, ...], items
) -> None:
    primitive = oracle_associate(called, calling, items)
    proposed = []
    for context in offered:
        made = OracleContext()
        made.context_id, made.abstract_syntax = context.context_id, context.abstract_syntax
        made.transfer_syntax = list(dict.fromkeys(context.transfer_syntaxes))
        proposed.append(made)
    primitive.presentation_context_definition_list = proposed
    data = oracle.A_ASSOCIATE_RQ(primitive).encode()
    ours = decode(data[0], data[6:])
    assert encode(ours) == data
    assert (ours.called_ae, ours.calling_ae, ours.protocol_version) == (called, calling, 1)
    assert ours.application_context == pdus.APPLICATION_CONTEXT
    assert [(c.context_id, c.abstract_syntax, list(c.transfer_syntaxes)) for c in ours.contexts] == [
        (c.context_id, c.abstract_syntax, list(c.transfer_syntax)) for c in proposed
    ]
    assert ours.user_information == items
    assert ours.maximum_length == items[0].value
    assert ours.implementation_class_uid == items[1].uid


@few
@given(ae_titles, ae_titles, results, sendable, identity_response.filter(lambda item_: item_.response))
def test_we_read_pynetdicoms_accept(called: str, calling: str, answers, items, response) -> None:
    items = (*(one for one in items if not isinstance(one, UserIdentity)), response)
    primitive = oracle_associate(called, calling, items)
    primitive.result = 0
    made = []
    for answer in answers:
        context = OracleContext()
        context.context_id, context.result = answer.context_id, answer.result
        context.transfer_syntax = [answer.transfer_syntax]
        made.append(context)
    primitive.presentation_context_definition_results_list = made
    data = oracle.A_ASSOCIATE_AC(primitive).encode()
    ours = decode(data[0], data[6:])
    assert encode(ours) == data
    assert (ours.results, ours.user_information) == (answers, items)
    assert ours.user_identity_response == response


@pytest.mark.parametrize("source", [1, 2, 3])
def test_we_read_pynetdicoms_reject(source: int) -> None:
    theirs = oracle.A_ASSOCIATE_RJ()
    theirs.result, theirs.source, theirs.reason_diagnostic = 1, source, 2
    data = theirs.encode()
    assert decode(data[0], data[6:]) == AssociateReject(1, source, 2)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(oracle.A_RELEASE_RQ, ReleaseRequest()), (oracle.A_RELEASE_RP, ReleaseResponse())],
)
def test_we_read_pynetdicoms_release(kind, expected: pdus.Pdu) -> None:
    data = kind().encode()
    assert decode(data[0], data[6:]) == expected
    assert encode(expected) == data


def test_we_read_pynetdicoms_abort() -> None:
    theirs = oracle.A_ABORT_RQ()
    theirs.source, theirs.reason_diagnostic = 2, 5
    data = theirs.encode()
    assert decode(data[0], data[6:]) == Abort(2, 5)


def test_oracle_knows_the_item_types_we_know() -> None:
    ours = {
        type_of(MaximumLength(0)),
        type_of(ImplementationClassUID("1.2")),
        type_of(AsyncOperations(1, 1)),
        type_of(RoleSelection("1.2", True, False)),
        type_of(ImplementationVersion("X")),
        type_of(UserIdentity(1, False, b"x")),
        type_of(UserIdentityResponse()),
        0x56,
        0x57,
    }
    assert ours == {kind for kind in oracle_items.PDU_ITEM_TYPES if kind > 0x50}


# --- nothing but our error -------------------------------------------------------------------------------


@many
@given(st.integers(0, 255), st.binary(max_size=300))
def test_arbitrary_bytes_raise_protocol_error_only(pdu_type: int, data: bytes) -> None:
    read_or_refuse(pdu_type, data)


@many
@given(any_pdu, st.data())
def test_mutated_pdus_raise_protocol_error_only(pdu: pdus.Pdu, draw: st.DataObject) -> None:
    data = bytearray(encode(pdu))
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(6, max(len(data) - 1, 6)))
        match draw.draw(st.sampled_from(["set", "cut", "insert", "delete"])):
            case "set":
                data[at : at + 1] = draw.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw.draw(st.binary(max_size=4))
            case "delete":
                del data[at : at + draw.draw(st.integers(1, 8))]
    read = read_or_refuse(data[0], memoryview(data)[6:])
    if read is not None:  # then it can be written and said, and means the same
        assert reread(read) == read
    if isinstance(read, AssociateRequest | AssociateAccept):
        assert all(line.isprintable() for line in describe(read))


@pytest.mark.parametrize("pdu", [SIMPLE, SIMPLE_ACCEPT])
def test_every_truncation_is_an_invalid_parameter(pdu: pdus.Pdu) -> None:
    data = encode(pdu)
    for end in range(6, len(data)):
        read = read_or_refuse(data[0], data[6:end])
        # None, or cut exactly between items, and what is optional is gone
        assert read is None or read.user_information == ()


# --- interop.md section 9.5: what is tested and what is not ----------------------------------------------


def test_reserved_bytes_are_not_tested() -> None:
    data = bytearray(body(SIMPLE))
    data[2:4] = b"\xff\xff"
    data[36:68] = bytes(range(32))
    data[69] = 0xFF  # reserved byte of the application context item
    assert decode(1, data) == SIMPLE


@pytest.mark.parametrize("field", [b"\0" * 16, b" " * 16, bytes(range(16)), b"\xff" * 16])
def test_ae_fields_of_an_accept_are_not_tested(field: bytes) -> None:
    data = bytearray(body(SIMPLE_ACCEPT))
    data[4:20] = data[20:36] = field
    assert decode(2, data).results == SIMPLE_ACCEPT.results


def test_ae_titles_are_trimmed_and_may_be_anything() -> None:
    data = bytearray(body(SIMPLE))
    data[4:36] = b"  PACS\xe9".ljust(16) + b"\0" * 16
    read = decode(1, data)
    assert (read.called_ae, read.calling_ae) == ("PACSé", "")
    assert reread(read) == read


def test_item_order_is_not_tested() -> None:
    assert decode(1, request_of(USER, CONTEXT, APPLICATION)) == decode(
        1, request_of(APPLICATION, CONTEXT, USER)
    )


def test_unknown_items_are_ignored_or_kept() -> None:
    strange = item(0x77, b"?")
    context = item(0x20, b"\1\0\0\0" + item(0x30, b"1.2") + strange + item(0x40, b"1.2.3"))
    read = decode(1, request_of(strange, APPLICATION, context, item(0x50, strange), strange))
    assert read.contexts == (PresentationContext(1, "1.2", ("1.2.3",)),)
    assert read.user_information == (OpaqueItem(0x77, b"?"),)


@pytest.mark.parametrize("transfer", [b"", item(0x40, b""), item(0x40, b"\xff\0"), item(0x40, b"1.2") * 2])
def test_the_syntax_of_a_refused_context_is_not_tested(transfer: bytes) -> None:
    read = decode(2, request_of(APPLICATION, item(0x21, b"\1\0\3\0" + transfer), USER))
    assert (read.results[0].context_id, read.results[0].result) == (1, 3)


@pytest.mark.parametrize("transfer", [b"", item(0x40, b"1.2") * 2])
def test_an_accepted_context_has_one_syntax(transfer: bytes) -> None:
    error = fault(2, request_of(APPLICATION, item(0x21, b"\1\0\0\0" + transfer), USER))
    assert error.abort_reason == AbortReason.INVALID_PARAMETER


@pytest.mark.parametrize(
    ("version_", "speaks"), [(1, True), (3, True), (0xFFFF, True), (0, False), (2, False)]
)
def test_only_bit_0_of_the_protocol_version_counts(version_: int, speaks: bool) -> None:
    data = bytearray(body(SIMPLE))
    data[:2] = version_.to_bytes(2, "big")
    assert decode(1, data).speaks_version_1 is speaks


def test_uids_may_be_padded() -> None:
    padded = item(0x20, b"\1\0\0\0" + item(0x30, b"1.2.3\0") + item(0x40, b"1.2.4 "))
    read = decode(
        1, request_of(item(0x10, b"1.2.840.10008.3.1.1.1\0"), padded, item(0x50, item(0x52, b"1.5\0")))
    )
    assert read.contexts == (PresentationContext(1, "1.2.3", ("1.2.4",)),)
    assert read.application_context == pdus.APPLICATION_CONTEXT
    assert read.implementation_class_uid == "1.5"


def test_user_information_may_be_missing() -> None:
    read = decode(1, request_of(APPLICATION, CONTEXT))
    assert (read.maximum_length, read.implementation_class_uid, read.implementation_version) == (
        16384,
        "",
        "",
    )
    assert (read.async_operations, read.roles, read.user_identity) == (None, {}, None)


def test_of_a_repeated_user_item_the_first_counts() -> None:
    twice = (
        MaximumLength(1000),
        MaximumLength(2000),
        RoleSelection("1.2", True, False),
        RoleSelection("1.2", False, True),
    )
    read = reread(AssociateRequest("A", "B", SIMPLE.contexts, twice))
    assert read.maximum_length == 1000
    assert read.roles == {"1.2": RoleSelection("1.2", True, False)}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (request_of(CONTEXT, USER), AbortReason.INVALID_PARAMETER),  # no application context
        (request_of(APPLICATION, USER), AbortReason.INVALID_PARAMETER),  # no context
        (request_of(APPLICATION, CONTEXT, CONTEXT, USER), AbortReason.INVALID_PARAMETER),  # one id twice
        (
            request_of(APPLICATION, CONTEXT.replace(b"\1\0\0\0", b"\2\0\0\0"), USER),
            AbortReason.INVALID_PARAMETER,
        ),
        (
            request_of(APPLICATION, item(0x20, b"\1\0\0\0" + item(0x40, b"1.2"))),
            AbortReason.INVALID_PARAMETER,
        ),
        (
            request_of(APPLICATION, item(0x20, b"\1\0\0\0" + item(0x30, b"1.2") * 2), USER),
            AbortReason.INVALID_PARAMETER,
        ),
        (request_of(APPLICATION, item(0x20, b"\1\0"), USER), AbortReason.INVALID_PARAMETER),
        (request_of(APPLICATION, CONTEXT, USER, b"\0"), AbortReason.INVALID_PARAMETER),  # slack
        (request_of(APPLICATION, CONTEXT, USER[:3] + b"\xff"), AbortReason.INVALID_PARAMETER),  # overrun
        (request_of(fixed=b"\0" * 67), AbortReason.INVALID_PARAMETER),
        (request_of(APPLICATION, APPLICATION, CONTEXT, USER), AbortReason.UNEXPECTED_PARAMETER),
        (request_of(APPLICATION, CONTEXT, USER, USER), AbortReason.UNEXPECTED_PARAMETER),
        (request_of(APPLICATION, CONTEXT, RESULT, USER), AbortReason.UNEXPECTED_PARAMETER),
        *(
            (request_of(APPLICATION, CONTEXT, item(0x50, bad)), AbortReason.INVALID_PARAMETER)
            for bad in (
                item(0x51, b"\0\0\1"),
                item(0x53, b"\0\1"),
                item(0x54, b"\0"),
                item(0x54, b"\0\x031.2\1"),
                item(0x54, b"\0\x091.2\1\0"),
                item(0x58, b"\1"),
                item(0x58, b"\1\0\0\3bob"),
                item(0x58, b"\1\0\0\3bob\0\0!"),
                item(0x59, b"\0\4abc"),
                item(0x59, b"\0\1abc"),
                b"\x51",
            )
        ),
    ],
)
def test_malformed_requests(data: bytes, reason: int) -> None:
    assert fault(1, data).abort_reason == reason


def test_an_accept_may_leave_contexts_out_but_not_repeat_them() -> None:
    assert decode(2, request_of(APPLICATION, USER)).results == ()
    assert (
        fault(2, request_of(APPLICATION, RESULT, RESULT, USER)).abort_reason == AbortReason.INVALID_PARAMETER
    )
    assert fault(2, request_of(APPLICATION, CONTEXT, USER)).abort_reason == AbortReason.UNEXPECTED_PARAMETER
    assert fault(2, request_of(APPLICATION, item(0x21, b"\1\0"))).abort_reason == 6


def test_128_contexts_are_read_and_a_129th_repeats_an_id() -> None:
    all_of_them = tuple(PresentationContext(n, "1.2", ("1.3",)) for n in range(1, 256, 2))
    full = AssociateRequest("A", "B", all_of_them, ())
    assert reread(full).contexts == all_of_them
    extra = PresentationContext(1, "1.4", ("1.3",))
    assert fault(1, body(AssociateRequest("A", "B", (*all_of_them, extra), ()))).abort_reason == 6


@pytest.mark.parametrize("pdu_type", [3, 5, 6, 7])
@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\0\0"])
def test_short_pdus_have_four_bytes(pdu_type: int, data: bytes) -> None:
    assert fault(pdu_type, data).abort_reason == AbortReason.INVALID_PARAMETER


@pytest.mark.parametrize(("pdu_type", "reason"), [(0, 1), (8, 1), (0x16, 1), (255, 1), (PduType.P_DATA, 2)])
def test_types_that_are_not_whole_pdus(pdu_type: int, reason: int) -> None:
    assert fault(pdu_type, b"\0\0\0\0").abort_reason == reason


def test_what_does_not_fit_is_not_sent() -> None:
    with pytest.raises(ValueError, match="longer than 16"):
        encode(AssociateRequest("A" * 17, "B", SIMPLE.contexts, ()))
    with pytest.raises(ValueError, match="cannot hold"):
        encode(AssociateRequest("A", "B", SIMPLE.contexts, (UserIdentity(4, True, b"x" * 65536),)))
    with pytest.raises(ValueError, match="cannot hold"):
        encode(AssociateRequest("A", "B", SIMPLE.contexts, (OpaqueItem(0x56, b"x" * 65530),) * 2))


def test_who_we_are() -> None:
    assert pdus.IMPLEMENTATION_VERSION.startswith("DICOMTLS_")
    assert len(pdus.IMPLEMENTATION_VERSION) <= 16
    assert pdus.IMPLEMENTATION_CLASS_UID.startswith("2.25.")
    number = int(pdus.IMPLEMENTATION_CLASS_UID.removeprefix("2.25."))
    assert (number >> 76) & 0xF == 4  # a random UUID
    assert (number >> 62) & 0b11 == 0b10


# --- in words --------------------------------------------------------------------------------------------


def test_a_user_identity_is_never_shown() -> None:
    identity_ = UserIdentity(2, True, b"bob", b"secret")
    request = AssociateRequest("A", "B", SIMPLE.contexts, (identity_, UserIdentityResponse(b"secret")))
    shown = repr(request) + str(request) + "\n".join(describe(request))
    assert "bob" not in shown
    assert "secret" not in shown
    assert "username and passcode" in shown


@few
@given(st.one_of(requests, accepts))
@example(
    AssociateRequest(
        "\x1b[2J", "[red]\n", (PresentationContext(1, "\x9b", ("\r",)),), (ImplementationVersion("\n"),)
    )
)
def test_the_dump_is_printable_and_complete(pdu: AssociateRequest | AssociateAccept) -> None:
    lines = list(describe(pdu))
    assert all(line.isprintable() for line in lines)
    syntaxes = sum(len(c.transfer_syntaxes) for c in pdu.contexts) if isinstance(pdu, AssociateRequest) else 0
    offered = pdu.contexts if isinstance(pdu, AssociateRequest) else pdu.results
    assert len(lines) == 5 + len(pdu.user_information) + len(offered) + syntaxes


def test_the_dump_line_by_line() -> None:
    items = (
        MaximumLength(0),
        ImplementationClassUID("1.2.3"),
        AsyncOperations(0, 1),
        RoleSelection("1.5", True, False),
        ImplementationVersion("X_1"),
        OpaqueItem(0x56, b"abc"),
        UserIdentity(9, False, b""),
    )
    assert list(describe(AssociateRequest("PACS", "ME", SIMPLE.contexts, items))) == [
        "A-ASSOCIATE-RQ",
        "  protocol version: 1",
        "  calling AE title: ME",
        "  called AE title: PACS",
        "  application context: 1.2.840.10008.3.1.1.1",
        "  maximum length: no limit",
        "  implementation class UID: 1.2.3",
        "  asynchronous operations (0 is no limit): invoked 0, performed 1",
        "  roles: 1.5 SCU yes, SCP no",
        "  implementation version: X_1",
        "  item 0x56: 3 bytes",
        "  user identity: type 9 (not shown), response requested no",
        "  presentation context 1: 1.2.840.10008.1.1",
        "    transfer syntax: 1.2.840.10008.1.2",
    ]
    answers = (ContextResult(1, 0, "1.2"), ContextResult(3, 4, "1.2"))
    assert list(describe(AssociateAccept("PACS", "ME", answers, ())))[-2:] == [
        "  presentation context 1: accepted in 1.2",
        "  presentation context 3: transfer syntaxes not supported",
    ]


@pytest.mark.parametrize(
    ("reject", "words"),
    [
        (AssociateReject(1, 1, 2), "application context name not supported, permanent, 1/1/2"),
        (AssociateReject(1, 1, 3), "calling AE title not recognised, permanent, 1/1/3"),
        (AssociateReject(1, 1, 7), "called AE title not recognised, permanent, 1/1/7"),
        (AssociateReject(1, 1, 1), "no reason given, permanent, 1/1/1"),
        (AssociateReject(1, 2, 2), "protocol version not supported, permanent, 1/2/2"),
        (AssociateReject(2, 3, 2), "local limit exceeded, transient, 2/3/2"),
        (AssociateReject(2, 3, 1), "temporary congestion, transient, 2/3/1"),
        (AssociateReject(9, 9, 9), "a reason PS3.8 does not know, a result PS3.8 does not know, 9/9/9"),
    ],
)
def test_reject_words(reject: AssociateReject, words: str) -> None:
    assert reject_words(reject) == words


@pytest.mark.parametrize(
    ("abort", "words"),
    [
        (Abort(0, 0), "by the application, 0/0"),
        (Abort(0, 6), "by the application, 0/6"),
        (Abort(2, 0), "by the upper layer: no reason given, 2/0"),
        (Abort(2, 1), "by the upper layer: unrecognised PDU, 2/1"),
        (Abort(2, 2), "by the upper layer: unexpected PDU, 2/2"),
        (Abort(2, 4), "by the upper layer: unrecognised PDU parameter, 2/4"),
        (Abort(2, 5), "by the upper layer: unexpected PDU parameter, 2/5"),
        (Abort(2, 6), "by the upper layer: invalid PDU parameter value, 2/6"),
        (Abort(2, 3), "by the upper layer: a reason PS3.8 does not know, 2/3"),
    ],
)
def test_abort_words(abort: Abort, words: str) -> None:
    assert abort_words(abort) == words


def test_words_for_a_result_that_does_not_exist() -> None:
    assert result_words(77) == "result 77, which PS3.8 does not know"
