"""The table of who takes what, written down; tests/interop/test_inspect_verdicts.py asks the programs themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dicomtls_cli.pki.circumstances import Case, is_authority
from dicomtls_cli.pki.compatibility import Answer, Program, Use, judge
from dicomtls_cli.pki.description import CertificateFacts
from dicomtls_cli.services.inspection import Inspection, look_at
from tests.support.specimens import Specimen, make_specimens

# Of each program: what it does with the certificate as an SCP's, and as an SCU's; y(es), l(imited), - no.
# dicom-rs is the one that nobody can ask here: rustls 0.23.45 was, for certificates of SCPs.
TABLE = """
    kind                         dicomtls orthanc dcmtk java dicom-rs
    good                         yy yy yy yy yy
    openssl-req                  yy yy yy yy --
    ca-signing                   yy yy yy yy --
    no-san                       yy yy yy yy -y
    other-san                    yy yy yy yy -y
    expired                      -- -- -- yy --
    not-yet-valid                -- -- -- yy --
    server-only                  y- y- y- yy y-
    client-only                  -y -y -y yy -y
    any-usage                    -- -- -- yy --
    email-only                   -- -- -- yy --
    no-usages                    yy yy yy yy yy
    key-encipherment-only        y- y- y- yy yy
    digital-signature-only       yy yy yy yy yy
    key-agreement-only           yy yy yy yy yy
    non-repudiation-only         -- -- -- yy yy
    no-constraints               yy yy yy yy yy
    no-identifiers               yy yy yy yy yy
    unknown-critical             -- -- -- yy --
    v1                           yy yy yy yy --
    sha1                         yy yy yy yy --
    rsa1024                      -- yy yy yy --
    rsa3072                      yy yy yy yy yy
    p256                         yy ly ly yy yy
    p384                         yy ly ly yy yy
    p521                         yy ly ly yy ll
    secp256k1                    -- -- -- -- --
    ed25519                      yy ly ly yy yy
    ed448                        yy ly ly yy --
    leaf-alone                   yy -- -- yy --
    sha1-leaf-alone              yy -- -- yy --
    issued-by-expired            -- -- -- yy yy
    issued-by-no-ca              -- -- -- -- yy
    issued-by-mute-root          -- -- -- -- yy
    issued-by-bare-root          ll yy yy yy yy
    leaf-and-root                yy yy yy yy yy
    whole-chain                  yy yy yy yy yy
    chain-not-shown              yy -- -- yy --
    issued-sha1                  -- yy yy yy --
    issued-rsa1024               -- yy yy yy --
    issued-expired               -- -- -- -- --
    issued-not-yet-valid         -- -- -- -- --
    issued-server-only           y- y- y- y- y-
    issued-client-only           -y -y -y -y -y
    issued-any-usage             -- -- -- yy --
    issued-key-encipherment-only y- y- y- -- yy
    issued-key-agreement-only    yy yy yy -- yy
    issued-other-san             yy yy yy yy -y
    issued-no-san                ly yy yy yy -y
    issued-unknown-critical      -- -- -- -- --
"""
_LETTERS = {Answer.YES: "y", Answer.LIMITED: "l", Answer.UNKNOWN: "?", Answer.NO: "-"}
_KINDS = {line.split()[0]: line.split()[1:] for line in TABLE.strip().splitlines()[1:]}


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Specimen]:
    return make_specimens(tmp_path_factory.mktemp("specimens"))


def looked_at(specimen: Specimen) -> tuple[Inspection, CertificateFacts]:
    found = [look_at(path) for path in (specimen.cert, *specimen.trusted)]
    return Inspection(found), found[0].holding.certificates[0]


def test_the_table_has_every_specimen(specimens: dict[str, Specimen]) -> None:
    assert _KINDS.keys() == specimens.keys()


@pytest.mark.parametrize("kind", _KINDS)
def test_who_takes_it(kind: str, specimens: dict[str, Specimen]) -> None:
    inspection, certificate = looked_at(specimens[kind])
    answers = {(one.program, one.use): _LETTERS[one.answer] for one in inspection.verdicts(certificate)}
    assert [answers[one, Use.SCP] + answers[one, Use.SCU] for one in Program] == _KINDS[kind]


def test_no_answer_but_yes_is_without_a_reason(specimens: dict[str, Specimen]) -> None:
    for specimen in specimens.values():
        inspection, certificate = looked_at(specimen)
        for one in inspection.verdicts(certificate):
            assert one.reasons or one.answer is Answer.YES


def test_a_reason_is_one_of_the_worst_answer(specimens: dict[str, Specimen]) -> None:
    """Ed448 is limited to TLS 1.3; of an expired one only that it has expired is told."""
    _, certificate = looked_at(specimens["ed448"])
    late = Case(certificate, datetime.now(UTC) + timedelta(days=400))
    (verdict,) = [one for one in judge(late) if (one.program, one.use) == (Program.DCMTK, Use.SCP)]
    assert verdict.answer is Answer.NO
    assert [reason.code for reason in verdict.reasons] == ["expired"]
    assert verdict.reasons[0].text.startswith("it expired on ")


def test_what_cannot_be_read_is_not_known() -> None:
    for unread in ("certificate", "extensions", "key", "dates"):
        odd = CertificateFacts(b"", "", "", version=3, self_signed=True, unread=(unread,))
        assert {one.answer for one in judge(Case(odd, datetime.now(UTC)))} == {Answer.UNKNOWN}


def test_a_ca_is_not_judged() -> None:
    facts = CertificateFacts(b"", "", "", ca=True, key_usage=("keyCertSign", "digitalSignature"))
    assert is_authority(facts)
    assert not is_authority(facts._replace(extended_usage=("serverAuth",)))
    assert not is_authority(facts._replace(key_usage=None))
    assert not is_authority(facts._replace(ca=False))
