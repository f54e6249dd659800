"""The fault laboratory, DCMTK's storescp: profiles, what its ports are, refusals on purpose, and races.

The matrix of checks and certificates is in test_modes_dcmtk, that of profiles in test_profiles.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.conftest import Faults
from tests.support import cli, images, peers
from tests.support.objects import data_set, write
from tests.support.pki import Identity, make_identity
from tests.support.told import failure

pytestmark = pytest.mark.interop

HOST = "localhost"
CT = images.FOLDER / "CT_small.dcm"
Started = Callable[..., peers.Storescp]


def shown(identity: Identity) -> list[str]:
    return ["--cert", str(identity.cert), "--key", str(identity.key)]


def secured(faults: Faults, *more: str) -> list[str]:
    return [*peers.dcmtk_tls(faults.peer.cert, faults.peer.key, faults.trusted), *more]


def test_tls_to_its_plain_port(dcmtk_storescp: Started, faults: Faults) -> None:
    peer = f"{HOST}:{dcmtk_storescp().port}"
    told = failure("echoscu", peer, *shown(faults.good), "--trust", faults.trusted, peer=peer)
    assert told.outcome == (13, "tls.peer-plain")
    assert "it speaks plain DICOM, not TLS" in told.message
    assert "DCMTK: `+tls KEY CERT`" in told.hint
    assert cli.run("echoscu", peer, "--no-tls").exit_code == 0
    looked = failure("inspect", peer, peer=peer)
    assert looked.message == told.message
    assert not looked.options  # `--no-tls` is for those who send


def test_plain_to_its_tls_port(dcmtk_storescp: Started, faults: Faults) -> None:
    peer = f"{HOST}:{dcmtk_storescp(*secured(faults)).port}"
    told = failure("echoscu", peer, "--no-tls", peer=peer)
    assert told.outcome == (13, "association.peer-speaks-tls")
    whole = [*shown(faults.good), "--trust", str(faults.trusted)]
    assert cli.run("echoscu", peer, *whole).exit_code == 0


@pytest.mark.parametrize(
    ("theirs", "ours", "takes", "hint", "mended"),
    [
        ("+pa", [], "TLS_RSA_WITH_AES_128_CBC_SHA", "`--tls-profile aes` takes that", ["--tls-profile", "aes"]),
        ("+pa", ["--tls12"], "TLS_RSA_WITH_AES_128_CBC_SHA", "`--tls-profile aes`",
         ["--tls-profile", "aes", "--tls12"]),
        ("+pz", ["--tls13"], "TLS 1.2 with TLS_", "leave out what narrows", []),
        ("+pa", ["--tls13"], "TLS_RSA_WITH_AES_128_CBC_SHA", ", and give `--tls-profile aes`",
         ["--tls-profile", "aes"]),
        ("+pa", ["--tls-cipher", "TLS_ECDHE_ECDSA_WITH_AES_256_CCM"], "TLS_RSA_WITH_AES_128_CBC_SHA",
         ", and give `--tls-profile aes`", ["--tls-profile", "aes"]),
        ("+py", ["--tls-cipher", "TLS_ECDHE_ECDSA_WITH_AES_256_CCM"], "TLS 1.3", "leave out what narrows", []),
    ],
)  # fmt: skip
def test_nothing_in_common_is_mended_as_the_hint_says(
    theirs: str,
    ours: list[str],
    takes: str,
    hint: str,
    mended: list[str],
    dcmtk_storescp: Started,
    faults: Faults,
) -> None:
    peer = f"{HOST}:{dcmtk_storescp(*secured(faults, theirs)).port}"
    words = ["echoscu", peer, *shown(faults.good), "--trust", str(faults.trusted)]
    told = failure(*words, *ours, peer=peer)
    assert told.outcome == (13, "tls.no-common")
    assert takes in told.message
    assert hint in told.hint
    assert cli.run(*words, *mended).exit_code == 0


def test_an_ec_certificate_of_its_over_tls_1_2(
    dcmtk_storescp: Started, faults: Faults, tmp_path: Path
) -> None:
    its = make_identity(tmp_path, "its")
    tls = peers.dcmtk_tls(its.cert, its.key, faults.trusted)
    with peers.dcmtk_storescp(tmp_path / "scp", *tls) as scp:
        peer = f"{HOST}:{scp.port}"
        words = ["echoscu", peer, *shown(faults.good), "--trust", str(its.cert)]
        told = failure(*words, "--tls12", peer=peer)
        assert told.outcome == (13, "tls.no-common")
        assert "leave out what narrows" in told.hint
        assert cli.run(*words).exit_code == 0


@pytest.mark.parametrize("check", ["-rc", "-vc"])
@pytest.mark.parametrize("version", ["--tls12", "--tls13"])
def test_our_certificate_is_trusted_as_the_hint_says(
    check: str, version: str, dcmtk_storescp: Started, faults: Faults
) -> None:
    """The hint names the file of our certificate, which DCMTK takes with `+cf` as it is."""
    words = ["echoscu", version, *shown(faults.stranger), "--trust", str(faults.peer.cert)]
    peer = f"{HOST}:{dcmtk_storescp(*secured(faults, check)).port}"
    told = failure(*words, peer, peer=peer)
    assert told.outcome == (12, "tls.refused-unknown-ca")
    assert "DCMTK: `+cf`" in told.hint
    (command,) = told.commands
    assert command[1] == str(faults.stranger.cert)
    knowing = dcmtk_storescp(*secured(faults, check), "+cf", command[1])
    assert cli.run(*words, f"{HOST}:{knowing.port}").exit_code == 0


@pytest.mark.parametrize("version", ["--tls12", "--tls13"])
@pytest.mark.parametrize(
    ("ours", "slug"), [("stranger", "tls.refused-unknown-ca"), ("", "tls.refused-no-certificate")]
)
def test_the_same_reason_every_time(
    ours: str, slug: str, version: str, dcmtk_storescp: Started, faults: Faults
) -> None:
    pair = shown(getattr(faults, ours)) if ours else []
    port = dcmtk_storescp(*secured(faults, "-rc")).port
    words = ["echoscu", "--json", f"{HOST}:{port}", version, *pair, "--trust", faults.trusted]
    assert [cli.run(*words).json["error"]["code"] for _ in range(20)] == [slug] * 20


def test_an_abort_in_the_middle_is_told_every_time(
    dcmtk_storescp: Started, faults: Faults, tmp_path: Path
) -> None:
    """It comes while we still send; a reset is behind it."""
    image = write(tmp_path / "a.dcm", data_set(pixels=bytes(1 << 20)))
    port = dcmtk_storescp(*secured(faults, "--abort-during")).port
    words = [*shown(faults.good), "--trust", faults.trusted]
    told = [
        cli.run("storescu", "--json", f"{HOST}:{port}", image, *words).records[0]["error"]["code"]
        for _ in range(20)
    ]
    assert told == ["association.aborted"] * 20


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        ("--refuse", (20, "association.rejected"), "1/1/1"),
        ("--abort-after", (21, "association.aborted"), "by the application"),
        ("--abort-during", (21, "association.aborted"), "by the application"),
    ],
)
def test_a_fault_on_purpose(
    fault: str, outcome: tuple[int, str], words: str, dcmtk_storescp: Started
) -> None:
    port = dcmtk_storescp(fault).port
    result = cli.run("storescu", "--json", f"{HOST}:{port}", "--no-tls", CT)
    error = result.records[0]["error"]
    assert (result.exit_code, error["code"]) == outcome
    assert words in error["message"]
    assert f"{HOST}:{port}" in error["message"] or str(CT) in error["message"]
    assert error["hint"]
