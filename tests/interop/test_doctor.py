"""`doctor` against real peers: what it finds out, and what that comes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pki
from tests.interop.conftest import Faults
from tests.support import cli, peers
from tests.support.pki import make_identity, write_bundle

pytestmark = pytest.mark.interop

OLD = {"TLS 1.0": True, "TLS 1.1": True, "TLS 1.2": True, "TLS 1.3": True}
B12 = {"TLS 1.0": False, "TLS 1.1": False, "TLS 1.2": True, "TLS 1.3": True}


def steps(record: Any) -> dict[str, tuple[str, str]]:
    """Return status and code of each step."""
    return {one["step"]: (one["status"], one["code"]) for one in record["steps"]}


def doctor(*words: object) -> Any:
    result = cli.run("doctor", "--json", "localhost", *words)
    (record,) = result.records
    assert result.exit_code == record["exit"]
    assert record["facts"]["connections"] <= 80
    return record


# ---------------------------------------------------------------------- Orthanc


def test_orthanc_is_found_out(pki: Pki, tmp_path: Path) -> None:
    """It still accepts TLS 1.0 and 1.1 and AES128-SHA, and so does not conform to B.12."""
    options = peers.orthanc_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        record = doctor(orthanc.dicom_port, *pki.scu_options, "--probe-stranger")
        orthanc.log.wait_for("Association Received from AET")
    facts, found = record["facts"], steps(record)
    assert record["exit"] == 40
    assert facts["versions"] == OLD
    assert not facts["ssl3"]
    assert "AES128-SHA" in facts["suites_tls12"]
    assert facts["suites_tls12_complete"]
    assert set(facts["suites_tls13"]) >= {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"}
    assert facts["groups"]["P-256"]
    assert not facts["groups"]["X25519"]
    assert facts["identified_by"] == "pin"
    assert facts["association"]["implementation_version"] == "OFFIS_DCMTK_367"
    assert facts["association"]["maximum_length"] == 16384
    assert found["versions"] == ("fail", "doctor.old-version")
    assert found["suites"] == ("warn", "doctor.weak-suite")
    assert found["profile"] == ("fail", "doctor.not-conforming")
    for name in ("trust", "identity", "client-certificate", "stranger", "association", "echo"):
        assert found[name] == ("ok", ""), name
    assert facts["echo_seconds"] > 0


def test_orthanc_without_anything_of_ours(pki: Pki, tmp_path: Path) -> None:
    options = peers.orthanc_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        record = doctor(orthanc.dicom_port)
    found = steps(record)
    assert record["exit"] == 12
    assert record["facts"]["versions"] == OLD
    assert record["facts"]["chain"] == [pki.scp.pem]
    assert found["client-certificate"] == ("fail", "tls.refused-no-certificate")
    assert found["trust"] == found["association"] == ("skipped", "")
    assert found["profile"] == ("fail", "doctor.not-conforming")


def test_an_ae_title_that_orthanc_does_not_know(pki: Pki, tmp_path: Path) -> None:
    options = peers.orthanc_tls(pki.scp.cert, pki.scp.key, pki.trusted)
    with peers.orthanc(tmp_path / "orthanc", DicomCheckCalledAet=True, **options) as orthanc:
        record = doctor(orthanc.dicom_port, *pki.scu_options, "--aec", "NOBODY")
        assert doctor(orthanc.dicom_port, *pki.scu_options, "--aec", "ORTHANC")["exit"] == 40
    found = steps(record)
    assert record["exit"] == 20
    assert found["identity"] == ("ok", "")
    assert found["association"] == ("fail", "association.rejected")
    (fix,) = [one["fix"] for one in record["steps"] if one["step"] == "association"]
    assert "--aec" in fix


def test_plain_orthanc(pki: Pki, tmp_path: Path) -> None:
    with peers.orthanc(tmp_path / "orthanc") as orthanc:
        record = doctor(orthanc.dicom_port, *pki.scu_options)
        plain = doctor(orthanc.dicom_port, "--no-tls")
    assert record["exit"] == 13
    assert record["facts"]["speaks"] == "plain DICOM"
    (protocol,) = [one for one in record["steps"] if one["step"] == "protocol"]
    assert "--no-tls" in protocol["fix"]
    assert (plain["exit"], plain["facts"]["association"]["maximum_length"]) == (0, 16384)
    assert steps(plain)["protocol"] == ("warn", "doctor.no-protection")


# ---------------------------------------------------------------------- DCMTK

Started = Callable[..., peers.Storescp]


@pytest.mark.parametrize(
    ("profile", "code", "versions", "suites", "verdict"),
    [
        ("+py", 0, B12, {"DHE-RSA-AES256-GCM-SHA384"}, ("warn", "doctor.against-advice")),
        ("+px", 40, OLD, {"AES128-SHA"}, ("fail", "doctor.not-conforming")),
        ("+pz", 0, {**B12, "TLS 1.3": False}, {"ECDHE-RSA-AES256-GCM-SHA384"}, ("warn", "doctor.against-advice")),
        ("+pa", 13, {**OLD, "TLS 1.3": False}, {"AES128-SHA"}, ("fail", "doctor.not-conforming")),
        ("+pn", 13, {**OLD, "TLS 1.3": False}, {"NULL-SHA"}, ("fail", "doctor.not-conforming")),
    ],
)  # fmt: skip
def test_profiles_of_dcmtk(
    profile: str, code: int, versions: dict[str, bool], suites: set[str], verdict: tuple[str, str],
    pki: Pki, tmp_path: Path,
) -> None:  # fmt: skip
    options = [*peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted), profile]
    with peers.dcmtk_storescp(tmp_path / "out", *options) as scp:
        record = doctor(scp.port, *pki.scu_options)
    facts = record["facts"]
    assert (record["exit"], facts["versions"]) == (code, versions)
    assert suites <= set(facts["suites_tls12"])
    assert steps(record)["profile"] == verdict


def test_the_profile_that_is_named_reaches_it(pki: Pki, tmp_path: Path) -> None:
    options = [*peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted), "+pa"]
    with peers.dcmtk_storescp(tmp_path / "out", *options) as scp:
        record = doctor(scp.port, *pki.scu_options)
        (fix,) = [one["fix"] for one in record["steps"] if one["step"] == "handshake"]
        profile = fix.split("`")[1].split()
        assert cli.run("echoscu", "localhost", scp.port, *pki.scu_options, *profile).exit_code == 0


@pytest.mark.parametrize(
    ("check", "mine", "stranger"),
    [
        ("-rc", ("ok", ""), ("ok", "")),
        ("-vc", ("warn", "doctor.anybody-connects"), ("ok", "")),
        ("-ic", ("warn", "doctor.anybody-connects"), ("skipped", "")),
    ],
)
def test_whom_dcmtk_lets_in(
    check: str, mine: tuple[str, str], stranger: tuple[str, str], pki: Pki, tmp_path: Path
) -> None:
    options = [*peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted), check]
    with peers.dcmtk_storescp(tmp_path / "out", *options) as scp:
        record = doctor(scp.port, *pki.scu_options, "--probe-stranger")
    found = steps(record)
    assert (found["client-certificate"], found["stranger"]) == (mine, stranger)
    assert found["echo"] == ("ok", "")


# ---------------------------------------------------------------------- ours


def test_ours_conforms(pki: Pki, tmp_path: Path) -> None:
    with peers.our_storescp(tmp_path, *pki.scp_options) as scp:
        record = doctor(scp.port, *pki.scu_options, "--probe-stranger")
    assert record["exit"] == 0
    assert record["ok"]
    assert record["facts"]["versions"] == B12
    assert not [one for one in record["facts"]["suites_tls12"] if not one.startswith("ECDHE-")]
    found = steps(record)
    assert found.pop("dates") == ("warn", "doctor.expires-soon")  # those of the tests last a month
    assert set(found.values()) == {("ok", "")}


def test_ours_in_a_retired_profile_is_against_the_advice(pki: Pki, tmp_path: Path) -> None:
    with peers.our_storescp(tmp_path, *pki.scp_options, "--tls-profile", "aes") as scp:
        record = doctor(scp.port, *pki.scu_options)
    assert record["exit"] == 0
    assert steps(record)["suites"] == ("warn", "doctor.weak-suite")


def test_ours_in_the_clear(pki: Pki, tmp_path: Path) -> None:
    with peers.our_storescp(tmp_path, "--no-tls") as scp:
        record = doctor(scp.port, *pki.scu_options)
        assert doctor(scp.port, "--no-tls")["exit"] == 0
    assert (record["exit"], record["facts"]["speaks"]) == (13, "plain DICOM")


def test_tls_where_plain_dicom_is_asked_for(pki: Pki, tmp_path: Path) -> None:
    with peers.our_storescp(tmp_path, *pki.scp_options) as scp:
        record = doctor(scp.port, "--no-tls")
    assert record["exit"] == 13
    assert steps(record)["protocol"] == ("fail", "association.peer-speaks-tls")


def test_a_ca_and_a_name(pki: Pki, tmp_path: Path) -> None:
    """What is shown is the whole chain; what is verified ends at the CA, and at the name that was dialled."""
    ca = make_identity(tmp_path, "ca", subject="Our CA", hosts=(), addresses=(), ca=True)
    named = make_identity(tmp_path, "named", subject="named", issuer=ca, ec_key=False)
    chain = write_bundle(tmp_path / "chain.pem", named, ca)
    options = ["--cert", chain, "--key", named.key, "--trust", pki.scu.cert]
    ours = ["--cert", pki.scu.cert, "--key", pki.scu.key, "--trust", ca.cert]
    with peers.our_storescp(tmp_path, *options) as scp:
        record = doctor(scp.port, *ours)
        by_address = cli.run("doctor", "--json", "127.0.0.2", scp.port, *ours).json
    assert (record["exit"], record["facts"]["identified_by"]) == (0, "name")
    assert record["facts"]["chain"] == [named.pem, ca.pem]
    found = steps(by_address)
    assert by_address["exit"] == 11
    assert (found["trust"], found["identity"]) == (("ok", ""), ("fail", "tls.name-mismatch"))


# ---------------------------------------------------------------------- certificates at fault


@pytest.mark.parametrize(
    ("scp", "trusted", "code", "expected"),
    [
        ("stranger", "trusted", 11, {"trust": "tls.peer-untrusted"}),
        ("expired", "trusted", 11, {"trust": "tls.peer-expired", "dates": "doctor.certificate-dates"}),
        ("not_yet_valid", "trusted", 11, {"trust": "tls.peer-not-yet-valid", "dates": "doctor.certificate-dates"}),
        ("server_wrong_usage", "trusted", 11, {"trust": "tls.peer-wrong-usage", "usage": "doctor.certificate-usage"}),
        ("peer", "stranger", 11, {"trust": "tls.peer-untrusted"}),
    ],
)  # fmt: skip
def test_a_peer_that_we_refuse(
    scp: str, trusted: str, code: int, expected: dict[str, str], faults: Faults, tmp_path: Path
) -> None:
    shown = getattr(faults, scp)
    trust = faults.trusted if trusted == "trusted" else getattr(faults, trusted).cert
    ours = ["--cert", faults.good.cert, "--key", faults.good.key, "--trust", trust]
    with peers.dcmtk_storescp(
        tmp_path / "out", *peers.dcmtk_tls(shown.cert, shown.key, faults.good.cert)
    ) as running:
        record = doctor(running.port, *ours)
    assert record["exit"] == code
    found = steps(record)
    assert {name: slug for name, (_, slug) in found.items() if name in expected} == expected
    assert found["association"] == found["echo"] == ("skipped", "")
    assert record["facts"]["chain"] == [shown.pem]
    assert record["facts"]["suites_tls12"]  # the survey goes on


@pytest.mark.parametrize("version", ["+pz", "+py"])
@pytest.mark.parametrize(
    ("ours", "slug"),
    [
        ("stranger", "tls.refused-unknown-ca"),
        ("expired", "tls.refused-expired"),
        ("client_wrong_usage", "tls.refused-wrong-usage"),
    ],
)
def test_a_peer_that_refuses_us(ours: str, slug: str, version: str, faults: Faults, tmp_path: Path) -> None:
    mine = getattr(faults, ours)
    words = ["--cert", mine.cert, "--key", mine.key, "--trust", faults.peer.cert]
    options = peers.dcmtk_tls(faults.peer.cert, faults.peer.key, faults.trusted)
    with peers.dcmtk_storescp(tmp_path / "out", *options, version) as running:
        record = doctor(running.port, *words)
    assert record["exit"] == 12
    assert steps(record)["client-certificate"] == ("fail", slug)


def test_a_pin_of_another_certificate(pki: Pki, tmp_path: Path) -> None:
    with peers.our_storescp(tmp_path, *pki.scp_options) as scp:
        record = doctor(scp.port, *pki.scu_options, "--pin", pki.scu.fingerprint)
    found = steps(record)
    assert record["exit"] == 11
    assert (found["trust"], found["identity"]) == (("ok", ""), ("fail", "tls.pin-mismatch"))
