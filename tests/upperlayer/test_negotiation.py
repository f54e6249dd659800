"""Negotiation: equal to pynetdicom's where ours follows the same rule, and our own rules one by one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom._uid_dict import UID_dictionary
from pynetdicom.pdu import A_ASSOCIATE_RQ as OracleRequest
from pynetdicom.presentation import PresentationContext as OracleContext
from pynetdicom.presentation import negotiate_as_acceptor
from pynetdicom.sop_class import _QR_CLASSES, _STORAGE_CLASSES

from dicomtls_cli.errors import ExitCode, ProtocolError, UsageError
from dicomtls_cli.upperlayer import registry
from dicomtls_cli.upperlayer.codec import decode, encode
from dicomtls_cli.upperlayer.items import (
    AsyncOperations,
    ImplementationClassUID,
    ImplementationVersion,
    MaximumLength,
    OpaqueItem,
    RoleSelection,
    UserIdentity,
    UserIdentityResponse,
)
from dicomtls_cli.upperlayer.negotiation import (
    AcceptedContext,
    AcceptRules,
    accepted_contexts,
    ae_title,
    answer,
    negotiate,
    propose,
    refused_contexts,
    user_identity,
)
from dicomtls_cli.upperlayer.pdu import AssociateAccept, AssociateRequest, ContextResult, PresentationContext

few = settings(max_examples=60, deadline=None)

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
FIND = "1.2.840.10008.5.1.4.1.2.1.1"
IMPLICIT, EXPLICIT, BIG = registry.UNCOMPRESSED
DEFLATED = registry.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
JPEG = "1.2.840.10008.1.2.4.50"


def request(*contexts: tuple[str, tuple[str, ...]], items: tuple[object, ...] = ()) -> AssociateRequest:
    made = tuple(PresentationContext(2 * n + 1, *context) for n, context in enumerate(contexts))
    return AssociateRequest("PACS", "ME", made, items)


def accept(*results: ContextResult) -> AssociateAccept:
    return AssociateAccept("PACS", "ME", results, ())


def judged(abstract: str, *syntaxes: str, rules: AcceptRules | None = None) -> tuple[int, str]:
    (result,) = negotiate(request((abstract, syntaxes)), rules or AcceptRules())
    return result.result, result.transfer_syntax


# --- against pynetdicom ----------------------------------------------------------------------------------

# pynetdicom takes the acceptor's order, we the proposer's: propose in the acceptor's, deflated last.
ORDER = [IMPLICIT, EXPLICIT, BIG, JPEG, "1.2.840.10008.1.2.4.90", DEFLATED]
STRANGE = ["1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.7.1", "1.2.3.4.5"]
SERVED = [registry.VERIFICATION, CT, MR, "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.34.7"]
REFUSED = [
    FIND,
    "1.2.840.10008.5.1.4.31",
    "1.2.840.10008.1.20.1",
    "1.2.840.10008.5.1.1.9",
    "1.2.840.10008.9.9",
]

in_order = st.sets(st.sampled_from(ORDER + STRANGE), min_size=1).map(
    lambda some: [s for s in STRANGE + ORDER if s in some]
)
proposals = st.lists(st.tuples(st.sampled_from(SERVED + REFUSED), in_order), min_size=1, max_size=8)
role_sets = st.dictionaries(
    st.sampled_from(SERVED), st.sampled_from([(True, False), (True, True), (False, True)])
)


@few
@given(proposals, role_sets, st.one_of(st.none(), st.sets(st.sampled_from(ORDER), min_size=1)))
def test_negotiation_equals_pynetdicoms(offered, roles, restriction) -> None:
    ours_rq = request(
        *((abstract, tuple(syntaxes)) for abstract, syntaxes in offered),
        items=tuple(RoleSelection(uid, *role) for uid, role in roles.items()),
    )
    theirs_rq = []
    for context in ours_rq.contexts:
        made = OracleContext()
        made.context_id, made.abstract_syntax = context.context_id, context.abstract_syntax
        made.transfer_syntax = list(context.transfer_syntaxes)
        theirs_rq.append(made)
    supported = []
    for abstract in SERVED:
        made = OracleContext()
        made.abstract_syntax = abstract
        made.transfer_syntax = [s for s in ORDER if restriction is None or s in restriction]
        if abstract == registry.VERIFICATION:
            made.transfer_syntax = [IMPLICIT, EXPLICIT, BIG]
        if abstract in roles:
            made.scu_role, made.scp_role = True, False
        supported.append(made)
    theirs, their_roles = negotiate_as_acceptor(theirs_rq, supported, dict(roles))
    rules = AcceptRules(transfer_syntaxes=None if restriction is None else tuple(restriction))
    ours = answer(ours_rq, rules)
    assert [(c.context_id, c.result) for c in theirs] == [(r.context_id, r.result) for r in ours.results]
    assert [c.transfer_syntax[0] for c in theirs if c.result == 0] == [
        r.transfer_syntax for r in ours.results if r.result == 0
    ]
    assert {r.sop_class_uid: (r.scu_role, r.scp_role) for r in their_roles} == {
        uid: (role.scu, role.scp) for uid, role in ours.roles.items()
    }


# --- the registry against pydicom's and pynetdicom's -----------------------------------------------------

SOP_CLASSES = {
    uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] in ("SOP Class", "Meta SOP Class")
}
NAMELESS = {
    uid for uid, name in SOP_CLASSES.items() if not name
}  # retired with their names, in the storage root


def means_storage(name: str) -> bool:
    return bool(re.search(r"Storage( SOP Class)?$|Storage - ", name)) and "Commitment" not in name


@pytest.mark.parametrize("uid", sorted(uid for uid in SOP_CLASSES if uid not in NAMELESS))
def test_every_storage_sop_class_and_no_other_is_served(uid: str) -> None:
    assert registry.is_storage(uid) is means_storage(SOP_CLASSES[uid])


def test_pynetdicoms_storage_classes_are_served_and_its_queries_are_not() -> None:
    assert all(registry.is_storage(uid) for uid in _STORAGE_CLASSES.values())
    assert not any(registry.is_storage(uid) for uid in _QR_CLASSES.values())
    assert all(registry.is_storage(uid) for uid in NAMELESS)


def test_every_data_set_transfer_syntax_is_known() -> None:
    listed = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    streams = {uid for uid in listed if re.match(r"1\.2\.840\.10008\.1\.2\.[67]\.", uid)}
    assert len(streams) == 5
    newer_than_pydicom = {f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112)} | {"1.2.840.10008.1.2.8.1"}
    private = {"1.2.840.113619.5.2"}
    assert (
        registry.TRANSFER_SYNTAXES | newer_than_pydicom == (listed - streams) | newer_than_pydicom | private
    )
    deflated = {uid for uid in listed if re.search("Deflate(?!d Image Frame)", UID_dictionary[uid][0])}
    assert deflated == registry.DEFLATED


@pytest.mark.parametrize(
    ("uid", "served"),
    [
        ("1.3.12.2.1107.5.9.1", True),  # Siemens' private storage
        ("2.25.1", True),
        ("1.2.840.10008.5.1.4.1.1.9999.1", True),  # a storage class of tomorrow
        ("1.2.840.10008.5.1.4.1.1.x", False),
        ("1.2.840.10008.5.1.4.99", False),
        ("1.2.840.10008.1.1", False),
        ("", False),
        ("../../x", False),
        ("1..2", False),
        ("1.2." + "3" * 61, False),
        ("\u0661.\u0662", False),  # digits, but not ASCII
    ],
)
def test_private_and_future_classes_are_served_what_is_no_uid_is_not(uid: str, served: bool) -> None:
    assert registry.is_storage(uid) is served


# --- acceptor --------------------------------------------------------------------------------------------


def test_the_proposers_order_decides() -> None:
    assert judged(CT, JPEG, EXPLICIT, IMPLICIT) == (0, JPEG)
    assert judged(CT, IMPLICIT, JPEG) == (0, IMPLICIT)


def test_deflated_only_where_nothing_else_is_proposed() -> None:
    assert judged(CT, DEFLATED, JPEG, IMPLICIT) == (0, JPEG)
    assert judged(CT, DEFLATED) == (0, DEFLATED)
    assert judged(CT, DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.3") == (0, DEFLATED)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.7.3", "1.2.3.4", "", CT])
def test_an_unknown_syntax_is_never_taken(syntax: str) -> None:
    assert judged(CT, syntax) == (4, syntax)
    assert judged(CT, syntax, EXPLICIT) == (0, EXPLICIT)
    assert judged(CT, syntax, rules=AcceptRules(transfer_syntaxes=(syntax,))) == (4, syntax)


def test_ge_private_syntax_is_known() -> None:
    assert judged(CT, "1.2.840.113619.5.2") == (0, "1.2.840.113619.5.2")


def test_verification_is_uncompressed_whatever_storage_may_be() -> None:
    assert judged(registry.VERIFICATION, JPEG, DEFLATED, BIG) == (0, BIG)
    assert judged(registry.VERIFICATION, JPEG) == (4, JPEG)
    assert judged(registry.VERIFICATION, IMPLICIT, rules=AcceptRules(transfer_syntaxes=(JPEG,))) == (
        0,
        IMPLICIT,
    )


def test_restrictions() -> None:
    rules = AcceptRules(transfer_syntaxes=(EXPLICIT, DEFLATED))
    assert judged(CT, JPEG, DEFLATED, EXPLICIT, rules=rules) == (0, EXPLICIT)
    assert judged(CT, JPEG, rules=rules) == (4, JPEG)
    assert judged(CT, IMPLICIT, rules=AcceptRules(storage=False)) == (3, IMPLICIT)
    assert judged(registry.VERIFICATION, IMPLICIT, rules=AcceptRules(storage=False)) == (0, IMPLICIT)


def test_an_unserved_class_is_refused_before_its_syntaxes_are_looked_at() -> None:
    assert judged(FIND, "1.2.3") == (3, "1.2.3")
    assert judged(FIND) == (3, "")


def test_a_context_without_syntaxes_costs_only_itself() -> None:
    results = negotiate(request((CT, ()), (MR, (IMPLICIT,))), AcceptRules())
    assert [result.result for result in results] == [4, 0]


def test_one_class_on_several_contexts_is_judged_for_each() -> None:
    results = negotiate(request((CT, (JPEG,)), (CT, (IMPLICIT,)), (CT, ("1.2",))), AcceptRules())
    assert [(r.context_id, r.result) for r in results] == [(1, 0), (3, 0), (5, 4)]


# --- interop.md section 9.6: what the A-ASSOCIATE-AC says ------------------------------------------------


def test_the_plain_answer() -> None:
    accepted = answer(request((CT, (IMPLICIT,))), AcceptRules(), 65536)
    assert (accepted.called_ae, accepted.calling_ae) == ("PACS", "ME")
    assert accepted.application_context == "1.2.840.10008.3.1.1.1"
    assert accepted.protocol_version == 1
    kinds = [type(item) for item in accepted.user_information]
    assert kinds == [MaximumLength, ImplementationClassUID, ImplementationVersion]
    assert accepted.maximum_length == 65536


@pytest.mark.parametrize(
    ("asked", "ours", "granted"), [(5, 1, 1), (1, 5, 1), (5, 3, 3), (0, 4, 4), (0, 1, 1)]
)
def test_the_window_is_the_smaller_and_nothing_is_performed_in_parallel(
    asked: int, ours: int, granted: int
) -> None:
    made = request((CT, (IMPLICIT,)), items=(AsyncOperations(asked, 7),))
    assert answer(made, AcceptRules(), most_invoked=ours).async_operations == AsyncOperations(granted, 1)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
def test_a_user_identity_is_answered_only_when_asked(kind: int) -> None:
    asked = request((CT, (IMPLICIT,)), items=(UserIdentity(kind, True, b"bob"),))
    assert answer(asked, AcceptRules()).user_identity_response == UserIdentityResponse(b"")
    not_asked = request((CT, (IMPLICIT,)), items=(UserIdentity(kind, False, b"bob"),))
    assert answer(not_asked, AcceptRules()).user_identity_response is None


def test_roles_are_answered_for_served_classes_the_scp_role_never_granted() -> None:
    roles = (
        RoleSelection(CT, True, True),
        RoleSelection(FIND, True, False),
        RoleSelection("1.2.3", True, False),
    )
    accepted = answer(request((CT, (IMPLICIT,)), (FIND, (IMPLICIT,)), items=roles), AcceptRules())
    assert accepted.roles == {CT: RoleSelection(CT, True, False)}


def test_a_requestor_that_only_wants_to_serve_is_rejected() -> None:
    made = request((CT, (IMPLICIT,)), items=(RoleSelection(CT, False, True),))
    assert [result.result for result in answer(made, AcceptRules()).results] == [1]


def test_extended_negotiation_and_unknown_items_are_ignored() -> None:
    made = request(
        (CT, (IMPLICIT,)), items=(OpaqueItem(0x56, b"?"), OpaqueItem(0x57, b""), OpaqueItem(0xEE, b""))
    )
    assert not any(isinstance(item, OpaqueItem) for item in answer(made, AcceptRules()).user_information)


@few
@given(proposals, role_sets)
def test_what_we_answer_is_a_valid_accept_of_the_request(offered, roles) -> None:
    made = request(
        *((abstract, tuple(syntaxes)) for abstract, syntaxes in offered),
        items=tuple(RoleSelection(uid, *role) for uid, role in roles.items()),
    )
    data = encode(answer(made, AcceptRules()))
    accepted = accepted_contexts(made, decode(data[0], data[6:]))
    refused = refused_contexts(made, decode(data[0], data[6:]))
    assert accepted.keys() | refused.keys() == {context.context_id for context in made.contexts}
    assert not accepted.keys() & refused.keys()


# --- requestor -------------------------------------------------------------------------------------------


def test_ids_are_odd_and_ascending_and_repeats_count_once() -> None:
    proposed = propose([(CT, (EXPLICIT,)), (MR, (IMPLICIT,)), (CT, (EXPLICIT,)), (CT, (JPEG,))])
    assert [(c.context_id, c.abstract_syntax) for c in proposed] == [(1, CT), (3, MR), (5, CT)]


@pytest.mark.parametrize("pairs", [[], [(CT, ())]])
def test_senseless_proposals(pairs) -> None:
    with pytest.raises(ValueError):
        propose(pairs)


PROPOSED = request((CT, (JPEG, EXPLICIT)), (MR, (IMPLICIT,)))


def test_a_context_that_is_not_answered_is_refused() -> None:
    accepted = accept(ContextResult(1, 0, EXPLICIT))
    assert accepted_contexts(PROPOSED, accepted) == {1: AcceptedContext(1, CT, EXPLICIT)}
    assert refused_contexts(PROPOSED, accepted) == {3: "not answered, which means refused"}
    assert accepted_contexts(PROPOSED, accept()) == {}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (1, "rejected by the user"),
        (2, "no reason given"),
        (3, "abstract syntax not supported"),
        (4, "transfer syntaxes not supported"),
    ],
)
def test_refusals_in_words_their_syntax_is_not_tested(result: int, words: str) -> None:
    accepted = accept(ContextResult(1, result, "1.2.never.proposed"), ContextResult(3, 0, IMPLICIT))
    assert accepted_contexts(PROPOSED, accepted) == {3: AcceptedContext(3, MR, IMPLICIT)}
    assert refused_contexts(PROPOSED, accepted) == {1: words}


@pytest.mark.parametrize(
    "result",
    [
        ContextResult(5, 0, IMPLICIT),  # an id never proposed
        ContextResult(2, 3, IMPLICIT),  # the same, refused
        ContextResult(1, 0, IMPLICIT),  # a syntax proposed, but for another context
        ContextResult(1, 0, ""),
        ContextResult(1, 5, JPEG),  # no such result
    ],
)
def test_answers_to_abort_on(result: ContextResult) -> None:
    with pytest.raises(ProtocolError) as caught:
        accepted_contexts(PROPOSED, accept(result))
    assert caught.value.abort_reason == 6


# --- AE titles -------------------------------------------------------------------------------------------


@given(st.text(max_size=600), st.none() | st.text(max_size=600), st.booleans())
def test_a_user_identity_says_who_as_pynetdicom_reads_it(
    name: str, passcode: str | None, asked: bool
) -> None:
    longest = max(len(text.encode()) for text in (name, passcode or ""))
    if not name.isprintable() or not name.strip() or longest > 1024:
        with pytest.raises(UsageError):
            user_identity(name, passcode, response_requested=asked)
        return
    made = user_identity(name, passcode, response_requested=asked)
    read = OracleRequest()
    read.decode(encode(request((CT, (IMPLICIT,)), items=(made,))))
    theirs = read.user_information.user_identity
    assert theirs is not None
    assert (theirs.user_identity_type, theirs.positive_response_requested) == (
        1 + (passcode is not None),
        asked,
    )
    assert (theirs.primary_field, theirs.secondary_field or b"") == (name.encode(), (passcode or "").encode())
    assert repr(made) == f"UserIdentity({made.identity_type}, {asked})"


@pytest.mark.parametrize(
    ("name", "passcode"),
    [("", None), (" ", "x"), ("a\0", None), ("x" * 1025, None), ("x", "é" * 513), ("\udc80", "")],
)
def test_what_is_no_user(name: str, passcode: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        user_identity(name, passcode)
    assert caught.value.slug == "usage.user-identity"


@pytest.mark.parametrize("text", ["A", "DICOMTLS", " PACS ", "A B-C_d.9", "x" * 16, "~" * 16 + "  "])
def test_good_ae_titles(text: str) -> None:
    assert ae_title(text) == text.strip()


@pytest.mark.parametrize("text", ["", "   ", "x" * 17, "A\\B", "A\nB", "\tA", "é", "A\x7f", "\u2028"])
def test_bad_ae_titles(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ae_title(text)
    assert caught.value.slug == "usage.ae-title"
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint
