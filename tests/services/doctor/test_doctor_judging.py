"""What is made of what was seen: pure, from facts written by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import AssociationLost, ConnectionFailed, DicomTlsError, ExitCode
from dicomtls_cli.services.doctor.facts import Address, Associated, Facts, Speaks
from dicomtls_cli.services.doctor.judgement import Status, Step
from dicomtls_cli.services.doctor.record import walk_record
from dicomtls_cli.services.doctor.rules import RECOMMENDED, suite_rule, violations
from dicomtls_cli.services.doctor.speech import name_protocol, speech_of
from dicomtls_cli.services.doctor.steps import decisive, exit_code, judge
from dicomtls_cli.services.peer import Peer
from dicomtls_cli.tls.handshake import TlsFacts
from dicomtls_cli.tls.survey import VERSIONS, Ending, Seen, old_suites
from dicomtls_cli.upperlayer.items import ImplementationClassUID, ImplementationVersion, MaximumLength
from dicomtls_cli.upperlayer.pdu import AssociateAccept
from tests.support.pki import make_identity

NOW = datetime.now(UTC)
PEER = Peer("pacs.example", 2762)
GCM = "ECDHE-RSA-AES256-GCM-SHA384"
REFUSED = Seen(Ending.ALERT, start=b"\x15\3\1", alert=70)


@pytest.fixture(scope="module")
def der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_identity(tmp_path_factory.mktemp("doctor"), "peer", valid=(-1, 90)).der


def answered(version: str, cipher: str, chain: tuple[bytes, ...] = (), **more: Any) -> Seen:
    values: dict[str, Any] = {"group": "X25519", "start": b"\x16\3\3", "handshake_done": True, **more}
    return Seen(Ending.DONE, version, cipher, chain=chain, **values)


def wanting(seen: Seen) -> Seen:
    """Return `seen` of a server that ended it because it got no certificate."""
    done = seen.version == "TLSv1.3"
    return seen._replace(ending=Ending.ALERT, certificate_requested=True, alert=116, handshake_done=done)


def good(der: bytes) -> Facts:
    """Return what is seen of a peer that does everything right."""
    tls13 = wanting(answered("TLSv1.3", "TLS_AES_256_GCM_SHA384", (der,), alpn="dicom"))
    accept = AssociateAccept(
        "X", "Y", (), (MaximumLength(16384), ImplementationClassUID("1.2.3"), ImplementationVersion("GOOD"))
    )
    return Facts(
        PEER,
        resolve_seconds=0.001,
        addresses=[Address("192.0.2.1", 0.002)],
        speaks=Speaks.TLS,
        hello=tls13,
        versions={
            "TLSv1": REFUSED,
            "TLSv1.1": REFUSED,
            "TLSv1.2": wanting(answered("TLSv1.2", GCM, (der,))),
            "TLSv1.3": tls13,
        },
        suites={GCM: "X25519"},
        suites_complete=True,
        suites_13=["TLS_AES_256_GCM_SHA384"],
        groups={"X25519": True, "P-256": True},
        tls=TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", der, "CN=peer", "pin", True),
        associated=Associated(accept, 0.003),
        echo_seconds=0.001,
        connections=20,
    )


def step(facts: Facts, name: str, now: datetime = NOW) -> Step:
    (found,) = [one for one in judge(facts, now=now) if one.name == name]
    return found


def refused(facts: Facts, slug: str, code: ExitCode, **changes: Any) -> Facts:
    """Return `facts` of a peer that no association was opened with."""
    error = ConnectionFailed(f"because of {slug}", "do something", slug=slug, exit_code=code)
    return replace(facts, refusal=error, associated=None, echo_seconds=None, **{"tls": None, **changes})


# ---------------------------------------------------------------------- a peer that does everything right


def test_all_is_well(der: bytes) -> None:
    steps = judge(good(der), now=NOW)
    assert {one.status for one in steps if one.name != "stranger"} == {Status.OK}
    assert exit_code(steps) is ExitCode.OK
    assert decisive(steps) is None
    assert [one.name for one in steps] == [
        "resolve", "connect", "protocol", "versions", "suites", "groups", "chain", "dates", "strength", "usage",
        "handshake", "trust", "identity", "client-certificate", "stranger", "alpn", "association", "echo",
        "latency", "profile",
    ]  # fmt: skip


def test_what_is_told(der: bytes) -> None:
    facts = good(der)
    assert step(facts, "resolve").text == "pacs.example is 192.0.2.1 (1.0 ms)"
    assert step(facts, "association").text == (
        "`ANY-SCP` accepts `DICOMTLS`; PDUs up to 16384 bytes; GOOD, implementation class 1.2.3"
    )
    assert step(facts, "versions").text == f"accepted: TLS 1.2 ({GCM}), TLS 1.3 (TLS_AES_256_GCM_SHA384)"
    assert step(facts, "client-certificate").text == "one is required; ours is accepted"
    assert "association 3.0 ms, C-ECHO 1.0 ms" in step(facts, "latency").text


# ---------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("changes", "name", "slug", "status"),
    [
        ({"versions": {"TLSv1": answered("TLSv1", "AES128-SHA")}}, "versions", "doctor.old-version", "fail"),
        ({"versions": {"TLSv1.2": REFUSED}}, "versions", "doctor.no-tls12", "fail"),
        ({"hello": answered("TLSv1.2", GCM)}, "versions", "doctor.prefers-older", "fail"),
        ({"speaks_ssl3": True}, "versions", "doctor.old-version", "fail"),
        ({"versions": {"TLSv1.2": answered("TLSv1.2", GCM, secure_renegotiation=False)}}, "versions",
         "doctor.insecure-renegotiation", "fail"),
        ({"suites": {GCM: "", "NULL-SHA256": ""}}, "suites", "doctor.broken-suite", "fail"),
        ({"suites": {GCM: "", "ADH-AES128-GCM-SHA256": ""}}, "suites", "doctor.broken-suite", "fail"),
        ({"suites": {GCM: "", "RC4-SHA": ""}}, "suites", "doctor.broken-suite", "fail"),
        ({"suites": {GCM: "", "AES128-SHA": ""}}, "suites", "doctor.weak-suite", "warn"),
        ({"suites": {GCM: "", "DHE-RSA-AES128-GCM-SHA256": "DH 2048"}}, "suites", "doctor.weak-suite", "warn"),
        ({"suites": {GCM: "", "DES-CBC3-SHA": ""}}, "suites", "doctor.weak-suite", "warn"),
        ({"suites": {"ECDHE-RSA-AES128-SHA256": ""}}, "suites", "doctor.no-recommended-suite", "warn"),
        ({"suites": {GCM: "", "DHE-RSA-AES128-SHA": "DH 1024"}}, "groups", "doctor.weak-group", "fail"),
    ],
)  # fmt: skip
def test_a_rule_that_is_broken(
    changes: dict[str, Any], name: str, slug: str, status: str, der: bytes
) -> None:
    facts = good(der)
    if "versions" in changes:
        changes = {"versions": facts.versions | changes["versions"]}
    facts = replace(facts, **changes)
    found = step(facts, name)
    assert (found.slug, found.status) == (slug, status)
    assert found.fix
    assert found.notes
    profile = step(facts, "profile")
    assert profile.status == status
    assert all(any(note.startswith(rule) for rule in profile.notes) for note in found.notes)
    assert exit_code(judge(facts, now=NOW)) is (ExitCode.FINDING if status == "fail" else ExitCode.OK)


def test_every_suite_of_this_openssl_is_judged() -> None:
    rules = {name: suite_rule(name) for name in old_suites()}
    assert [name for name, rule in rules.items() if rule is None] == [
        name for name in rules if name.startswith("ECDHE-") and "NULL" not in name
    ]
    assert [name for name, rule in rules.items() if rule and rule[1]] == [
        name for name in rules if "NULL" in name or name.startswith(("ADH-", "AECDH-"))
    ]
    assert not [name for name in RECOMMENDED if rules[name]]


def test_a_weak_certificate_breaks_the_profile(tmp_path: Path, der: bytes) -> None:
    weak = make_identity(tmp_path, "weak", ec_key=False, key_size=1024).der
    facts = replace(good(der), hello=good(weak).hello)
    assert step(facts, "strength").slug == "doctor.weak-certificate"
    assert "1024 bits" in step(facts, "profile").notes[0]
    assert exit_code(judge(facts, now=NOW)) is ExitCode.FINDING


def test_dates(der: bytes) -> None:
    assert re.search(
        r", (89|90) more days$", step(good(der), "dates").text
    )  # dates have no fractions of seconds
    soon = step(good(der), "dates", NOW + timedelta(days=70))
    assert (soon.status, soon.slug) == (Status.WARN, "doctor.expires-soon")
    for instant in (NOW + timedelta(days=91), NOW - timedelta(days=2)):
        late = step(good(der), "dates", instant)
        assert (late.status, late.slug, late.exit_code) == (
            Status.FAIL, "doctor.certificate-dates", ExitCode.FINDING,
        )  # fmt: skip


def test_what_could_not_be_tried_is_not_praised(der: bytes) -> None:
    facts = replace(good(der), suites_complete=False, cut_short="the time that was allowed is over")
    assert step(facts, "profile").text.endswith("as far as was tried")
    assert step(facts, "completeness").slug == "doctor.cut-short"
    assert "and perhaps more" in step(facts, "suites").text


def test_versions_that_were_not_offered_are_no_refusals(der: bytes) -> None:
    cut = replace(good(der), cut_short="the time that was allowed is over")
    old = {name: cut.versions[name] for name in ("TLSv1", "TLSv1.1")}
    assert step(replace(cut, versions=old), "versions").text == cut.cut_short
    older = {**old, "TLSv1.2": cut.versions["TLSv1.2"]}
    assert step(replace(cut, versions=older), "versions").text.endswith("; not told: TLS 1.3")


# ---------------------------------------------------------------------- what stops a C-ECHO


@pytest.mark.parametrize(
    ("slug", "code", "name"),
    [
        ("tls.peer-untrusted", ExitCode.PEER_UNTRUSTED, "trust"),
        ("tls.peer-expired", ExitCode.PEER_UNTRUSTED, "trust"),
        ("tls.name-mismatch", ExitCode.PEER_UNTRUSTED, "identity"),
        ("tls.peer-not-pinned", ExitCode.PEER_UNTRUSTED, "identity"),
        ("tls.pin-mismatch", ExitCode.PEER_UNTRUSTED, "identity"),
        ("tls.refused-no-certificate", ExitCode.REFUSED_BY_PEER, "client-certificate"),
        ("tls.no-common", ExitCode.NO_COMMON_TLS, "handshake"),
        ("tls.failed", ExitCode.NO_COMMON_TLS, "handshake"),
        ("tls.peer-silent", ExitCode.UNREACHABLE, "handshake"),
        ("peer.connection-refused", ExitCode.UNREACHABLE, "handshake"),
        ("association.rejected", ExitCode.REJECTED, "association"),
        ("association.lost", ExitCode.ABORTED, "association"),
        ("doctor.user-untrusted", ExitCode.PEER_UNTRUSTED, "association"),
    ],
)
def test_the_step_at_which_it_ends(slug: str, code: ExitCode, name: str, der: bytes) -> None:
    facts = refused(good(der), slug, code, trusts=slug != "doctor.user-untrusted")
    steps = judge(facts, now=NOW)
    assert exit_code(steps) is code
    (failed,) = [one for one in steps if one.status is Status.FAIL]
    assert (failed.name, failed.slug) == (name, slug)
    assert failed.fix == "do something" or slug == "tls.peer-untrusted"
    assert decisive(steps) == failed
    after = [one for one in steps if one.name in ("association", "echo") and one.name != name]
    assert all(one.text == f"not reached: see `{name}`" for one in after)


def test_an_association_without_c_echo(der: bytes) -> None:
    error = DicomTlsError("a bad status", "", slug="dimse.failure-status", exit_code=ExitCode.STATUS)
    facts = replace(good(der), refusal=error, echo_seconds=None)
    assert step(facts, "association").status is Status.OK
    assert step(facts, "echo").slug == "dimse.failure-status"
    assert exit_code(judge(facts, now=NOW)) is ExitCode.STATUS


def test_what_stops_a_c_echo_goes_before_a_finding(der: bytes) -> None:
    broken = replace(good(der), speaks_ssl3=True)
    facts = refused(broken, "association.rejected", ExitCode.REJECTED, tls=broken.tls)
    assert exit_code(judge(facts, now=NOW)) is ExitCode.REJECTED


def test_trust_that_nobody_gave_is_not_judged(der: bytes) -> None:
    facts = replace(good(der), trusts=False)
    for name in ("trust", "identity"):
        assert step(facts, name).status is Status.SKIPPED
        assert "trust" in step(facts, name).fix
    assert exit_code(judge(facts, now=NOW)) is ExitCode.OK


@pytest.mark.parametrize(
    ("seen", "status", "slug"),
    [
        (answered("TLSv1.2", GCM, certificate_requested=True), Status.FAIL, "doctor.stranger-accepted"),
        (wanting(answered("TLSv1.2", GCM)), Status.OK, ""),
        (answered("TLSv1.2", GCM), Status.SKIPPED, ""),
        (Seen(Ending.SILENT, certificate_requested=True), Status.SKIPPED, ""),
    ],
)
def test_a_stranger(seen: Seen, status: Status, slug: str, der: bytes) -> None:
    facts = replace(good(der), asked_stranger=True, stranger=seen)
    found = step(facts, "stranger")
    assert (found.status, found.slug) == (status, slug)


@pytest.mark.parametrize(
    ("requested", "text"),
    [(False, "none is asked for: anybody may connect"),
     (True, "one is asked for, but none is needed: anybody may connect; ours is accepted")],
)  # fmt: skip
def test_who_may_connect(requested: bool, text: str, der: bytes) -> None:
    hello = answered("TLSv1.3", "TLS_AES_128_GCM_SHA256", (der,), certificate_requested=requested)
    tls = TlsFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", der, "CN=peer", "pin", requested)
    facts = replace(good(der), hello=hello, versions={"TLSv1.3": hello}, tls=tls)
    found = step(facts, "client-certificate")
    assert (found.status, found.slug, found.text) == (Status.WARN, "doctor.anybody-connects", text)


def test_a_dead_address_is_a_warning(der: bytes) -> None:
    dead = Address("2001:db8::1", 0.0, ConnectionFailed("no", slug="peer.timeout"))
    facts = replace(good(der), addresses=[dead, Address("192.0.2.1", 0.002)])
    found = step(facts, "connect")
    assert (found.status, found.slug) == (Status.WARN, "doctor.dead-address")
    assert "2001:db8::1" in found.text


def test_nothing_at_all_is_judged() -> None:
    steps = judge(Facts(PEER), now=NOW)
    assert {one.status for one in steps} <= {Status.SKIPPED, Status.OK}


# ---------------------------------------------------------------------- what speaks there


@pytest.mark.parametrize(
    ("start", "speaks"),
    [
        (b"\x16\3\3", Speaks.TLS),
        (b"\x15\3\1", Speaks.TLS),
        (b"\x16", Speaks.TLS),
        (b"\x16\x99", Speaks.OTHER),
        (b"HTTP/1.1 400", Speaks.HTTP),
        (b"SSH-2.0-OpenSSH", Speaks.SSH),
        (b"\7\0\0\0\0\4\0\0\2\1", Speaks.DICOM),
        (b"\3\0\0\0\0\4\0\1\1\1", Speaks.DICOM),
        (b"220 mail", Speaks.OTHER),
        (b"", None),
    ],
)
def test_protocols_by_their_first_bytes(start: bytes, speaks: Speaks | None) -> None:
    assert name_protocol(start) is speaks


def test_protocols_by_how_they_answer() -> None:
    assert speech_of(None) is Speaks.DICOM
    rejected = AssociationLost("no", slug="association.rejected", exit_code=ExitCode.REJECTED)
    assert speech_of(rejected) is Speaks.DICOM
    assert speech_of(AssociationLost("no", slug="association.peer-speaks-http")) is Speaks.HTTP
    assert speech_of(ConnectionFailed("no", slug="peer.timeout")) is None


# ---------------------------------------------------------------------- whatever was seen

_SEEN = st.builds(
    Seen,
    st.sampled_from(Ending),
    st.sampled_from(["", *VERSIONS, "SSLv3", "0x7F12"]),
    st.sampled_from(["", GCM, "AES128-SHA", "0x0001"]),
    st.sampled_from(["", "X25519", "DH 512", "group 7"]),
    st.lists(st.binary(min_size=1, max_size=30), max_size=3).map(tuple),
    st.booleans(),
    st.booleans(),
    alpn=st.text(max_size=5),
    start=st.binary(max_size=64),
    handshake_done=st.booleans(),
)
_ERROR = st.builds(
    lambda slug, code: DicomTlsError("it failed", "mend it", slug=slug, exit_code=code),
    st.sampled_from(["tls.peer-untrusted", "tls.name-mismatch", "tls.no-common", "tls.peer-plain", "x.y"]),
    st.sampled_from([code for code in ExitCode if code not in (ExitCode.OK, ExitCode.FINDING)]),
)
_FACTS = st.builds(
    Facts,
    st.just(PEER),
    wants_tls=st.booleans(),
    trusts=st.booleans(),
    shows_certificate=st.booleans(),
    addresses=st.lists(
        st.builds(Address, st.just("192.0.2.1"), st.floats(0, 9), st.none() | _ERROR), max_size=3
    ),
    speaks=st.none() | st.sampled_from(Speaks),
    said=st.binary(max_size=64),
    hello=st.none() | _SEEN,
    ours=st.none() | _SEEN,
    stranger=st.none() | _SEEN,
    asked_stranger=st.booleans(),
    versions=st.dictionaries(st.sampled_from(list(VERSIONS)), _SEEN),
    suites=st.dictionaries(
        st.sampled_from([GCM, "AES128-SHA", "0x0001", "-"]), st.sampled_from(["", "DH 99"])
    ),
    groups=st.dictionaries(st.sampled_from(["P-256", "X448"]), st.booleans()),
    speaks_ssl3=st.booleans(),
    refusal=st.none() | _ERROR,
    stalled=st.booleans(),
    cut_short=st.sampled_from(["", "enough"]),
)


@given(_FACTS)
def test_whatever_was_seen_is_judged(facts: Facts) -> None:
    steps = judge(facts, now=NOW)
    for one in steps:
        assert one.text
        assert all(text.isprintable() for text in (one.text, *one.notes))
        assert one.status is not Status.FAIL or (one.slug and one.exit_code)
        assert one.status is not Status.WARN or one.slug
    code = exit_code(steps)
    assert (code is ExitCode.OK) == all(one.status is not Status.FAIL for one in steps)
    assert (decisive(steps) is None) == (code is ExitCode.OK)
    assert walk_record(facts, steps, int(code))["ok"] == (code is ExitCode.OK)
    assert all(one.rule and one.fix for one in violations(facts))
