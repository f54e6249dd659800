"""The fault laboratory, Orthanc: what test_modes_orthanc leaves out, hints that are followed, and races.

The other rows of faults (untrusted, expired, not yet valid, of the wrong kind, in either direction and both versions;
chains; names) are asserted in test_modes_orthanc.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import Faults
from tests.support import cli, peers
from tests.support.pki import Identity, make_identity, write_bundle
from tests.support.told import failure

pytestmark = pytest.mark.interop

HOST = "localhost"
BOTH_VERSIONS = pytest.mark.parametrize("version", ["--tls12", "--tls13"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Orthanc]:
    with peers.orthanc(tmp_path_factory.mktemp("plain"), DicomAet="ARCHIVE") as running:
        yield running


def shown(identity: Identity) -> list[str]:
    return ["--cert", str(identity.cert), "--key", str(identity.key)]


# ---------------------------------------------------------------------- what its ports are


def test_tls_to_its_plain_port(plain: peers.Orthanc, faults: Faults) -> None:
    peer = f"{HOST}:{plain.dicom_port}"
    place = len(plain.log)
    told = failure("echoscu", peer, *shown(faults.good), "--trust", faults.trusted, peer=peer)
    assert told.outcome == (13, "tls.peer-plain")
    assert "it speaks plain DICOM, not TLS" in told.message
    assert "Orthanc: `DicomTlsEnabled`" in told.hint
    assert ["--no-tls"] in told.options
    plain.log.wait_for("Unrecognized PDU type: 16", place)
    assert cli.run("echoscu", peer, "--no-tls").exit_code == 0


@pytest.mark.parametrize(
    ("words", "outcome"),
    [(["--no-tls"], (21, "association.peer-speaks-http")), (["--trust", "FILE"], (13, "tls.peer-plain"))],
    ids=["plain", "tls"],
)
def test_its_web_port(
    words: list[str], outcome: tuple[int, str], plain: peers.Orthanc, faults: Faults
) -> None:
    peer = f"{HOST}:{plain.http_port}"
    options = [str(faults.trusted) if word == "FILE" else word for word in words]
    told = failure("echoscu", peer, *options, peer=peer)
    assert told.outcome == outcome
    assert "HTTP" in told.message


def test_plain_to_its_tls_port(requiring: peers.Orthanc, faults: Faults) -> None:
    peer = f"{HOST}:{requiring.dicom_port}"
    told = failure("echoscu", peer, "--no-tls", peer=peer)
    assert told.outcome == (13, "association.peer-speaks-tls")
    assert ["--trust", "FILE"] in told.options
    whole = [*shown(faults.good), "--trust", str(faults.trusted)]
    assert cli.run("echoscu", peer, *whole).exit_code == 0


# ---------------------------------------------------------------------- its certificate


@BOTH_VERSIONS
def test_a_weak_key_of_its(version: str, faults: Faults, tmp_path: Path) -> None:
    weak = make_identity(tmp_path, "weak", ec_key=False, key_size=1024)
    trusted = write_bundle(tmp_path / "trusted.crt", faults.good, weak)
    with peers.orthanc(tmp_path / "orthanc", **peers.orthanc_tls(weak.cert, weak.key, trusted)) as orthanc:
        peer = f"{HOST}:{orthanc.dicom_port}"
        told = failure("echoscu", peer, version, *shown(faults.good), "--trust", trusted, peer=peer)
    assert told.outcome == (11, "tls.peer-weak")
    assert weak.fingerprint in told.message


@BOTH_VERSIONS
def test_its_certificate_is_fetched_as_the_hint_says(
    version: str, requiring: peers.Orthanc, faults: Faults
) -> None:
    peer = f"{HOST}:{requiring.dicom_port}"
    words = ["echoscu", peer, version, *shown(faults.good)]
    told = failure(*words, "--trust", faults.good.cert, peer=peer)
    assert told.outcome == (11, "tls.peer-untrusted")
    (command,) = told.commands
    assert cli.run(*command).exit_code == 0
    assert cli.run(*words, "--trust", "peer.crt").exit_code == 0


def test_an_address_needs_its_own_name(faults: Faults, tmp_path: Path) -> None:
    ca = make_identity(tmp_path, "ca", subject="CA", ca=True, ec_key=False)
    its = make_identity(tmp_path, "its", issuer=ca, addresses=(), ec_key=False)
    with peers.orthanc(
        tmp_path / "orthanc", **peers.orthanc_tls(its.cert, its.key, faults.trusted)
    ) as orthanc:
        peer = f"127.0.0.1:{orthanc.dicom_port}"
        words = ["echoscu", peer, *shown(faults.good), "--trust", ca.cert]
        told = failure(*words, peer=peer)
        assert told.outcome == (11, "tls.name-mismatch")
        assert cli.run(*words, "--pin", its.fingerprint).exit_code == 0
        assert ["--pin", its.fingerprint] in told.options
        assert cli.run("echoscu", f"{HOST}:{orthanc.dicom_port}", *words[2:]).exit_code == 0


# ---------------------------------------------------------------------- our certificate


@BOTH_VERSIONS
def test_our_certificate_is_trusted_as_the_hint_says(version: str, faults: Faults, tmp_path: Path) -> None:
    trusted = write_bundle(tmp_path / "trusted.crt", faults.good)
    options = peers.orthanc_tls(faults.peer.cert, faults.peer.key, trusted)
    words = ["echoscu", version, *shown(faults.stranger), "--trust", str(faults.peer.cert)]
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        peer = f"{HOST}:{orthanc.dicom_port}"
        told = failure(*words, peer, peer=peer)
    assert told.outcome == (12, "tls.refused-unknown-ca")
    assert "`DicomTlsTrustedCertificates`" in told.hint
    (command,) = told.commands
    assert command[-1] == "FILE"
    assert cli.run(*command[:-1], trusted).exit_code == 0
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        assert cli.run(*words, f"{HOST}:{orthanc.dicom_port}").exit_code == 0


@BOTH_VERSIONS
def test_our_chain_is_completed_as_the_hint_says(version: str, faults: Faults, tmp_path: Path) -> None:
    """Orthanc trusts the root; the leaf alone, or the leaf among its trusted ones, would not do."""
    root = make_identity(tmp_path, "root", subject="Root", ca=True, ec_key=False)
    middle = make_identity(tmp_path, "CA", subject="Middle", ca=True, issuer=root, ec_key=False)
    leaf = make_identity(tmp_path, "leaf", issuer=middle, ec_key=False)
    with peers.orthanc(
        tmp_path / "orthanc", **peers.orthanc_tls(faults.peer.cert, faults.peer.key, root.cert)
    ) as it:
        peer = f"{HOST}:{it.dicom_port}"
        words = ["echoscu", peer, version, "--key", str(leaf.key), "--trust", str(faults.peer.cert)]
        told = failure(*words, "--cert", leaf.cert, peer=peer)
        assert told.outcome == (12, "tls.refused-unknown-ca")
        assert "signed by CN=Middle" in told.hint
        (command,) = told.commands
        assert cli.run(*command).exit_code == 0  # the CA's file is CA.crt in this folder
        assert ["--cert", "chain.crt"] in told.options
        assert cli.run(*words, "--cert", "chain.crt").exit_code == 0


@pytest.mark.parametrize(
    ("ours", "slug"),
    [
        ("expired", "tls.refused-expired"),
        ("not_yet_valid", "tls.refused-bad-certificate"),
        ("client_wrong_usage", "tls.refused-wrong-usage"),
    ],
)
def test_our_certificate_is_replaced_as_the_hint_says(
    ours: str, slug: str, faults: Faults, tmp_path: Path
) -> None:
    identity: Identity = getattr(faults, ours)
    for file in (identity.cert, identity.key):
        shutil.copy(file, tmp_path / f"me{file.suffix}")
    trusted = write_bundle(tmp_path / "trusted.crt", identity)
    options = peers.orthanc_tls(faults.peer.cert, faults.peer.key, trusted)
    trust = ["--trust", str(faults.peer.cert)]
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        peer = f"{HOST}:{orthanc.dicom_port}"
        told = failure("echoscu", peer, "--cert", "me.crt", "--key", "me.key", *trust, peer=peer)
    assert told.outcome == (12, slug)
    (command,) = told.commands
    made = cli.run(*command, "--json")
    assert made.exit_code == 0, made.stderr
    new, key = (made.json.get(part, "me.key") for part in ("certificate", "key"))
    assert cli.run("bundle", new, "--append", "-o", trusted).exit_code == 0
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        peer = f"{HOST}:{orthanc.dicom_port}"
        assert cli.run("echoscu", peer, "--cert", new, "--key", key, *trust).exit_code == 0


@BOTH_VERSIONS
@pytest.mark.parametrize(
    ("ours", "slug"), [("stranger", "tls.refused-unknown-ca"), ("", "tls.refused-no-certificate")]
)
def test_the_same_reason_every_time(
    ours: str, slug: str, version: str, requiring: peers.Orthanc, faults: Faults
) -> None:
    pair = shown(getattr(faults, ours)) if ours else []
    words = ["echoscu", "--json", f"{HOST}:{requiring.dicom_port}", version, *pair, "--trust", faults.trusted]
    assert [cli.run(*words).json["error"]["code"] for _ in range(20)] == [slug] * 20


# ---------------------------------------------------------------------- versions, suites, AE titles


def test_no_version_in_common_is_mended_as_the_hint_says(faults: Faults, tmp_path: Path) -> None:
    """An EC certificate serves nobody over TLS 1.2 here, and the peer tells no more than that."""
    its = make_identity(tmp_path, "ec")
    with peers.orthanc(
        tmp_path / "orthanc", **peers.orthanc_tls(its.cert, its.key, faults.trusted)
    ) as orthanc:
        peer = f"{HOST}:{orthanc.dicom_port}"
        words = ["echoscu", peer, *shown(faults.good), "--trust", str(its.cert)]
        told = failure(*words, "--tls12", peer=peer)
        assert told.outcome == (13, "tls.no-common")
        assert "it takes TLS 1.3" in told.message
        assert "leave out what narrows our choice" in told.hint
        assert cli.run(*words).exit_code == 0


@pytest.mark.parametrize(
    ("configuration", "words", "reason", "setting", "mended"),
    [
        ({"DicomCheckCalledAet": True, "DicomAet": "ARCHIVE"}, ["--aec", "WRONG"], "called AE title not recognised",
         "`--aec` (Orthanc: `DicomAet`)", ["--aec", "ARCHIVE"]),
        ({"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False,
          "DicomModalities": {"m": {"AET": "KNOWN", "Host": "localhost", "Port": 104}}}, ["--aet", "NOBODY"],
         "calling AE title not recognised", "`--aet`, or add it there (Orthanc: `DicomModalities`)",
         ["--aet", "KNOWN"]),
    ],
    ids=["called", "calling"],
)  # fmt: skip
def test_an_ae_title_is_mended_as_the_hint_says(
    configuration: dict[str, object],
    words: list[str],
    reason: str,
    setting: str,
    mended: list[str],
    tmp_path: Path,
) -> None:
    with peers.orthanc(tmp_path / "orthanc", **configuration) as orthanc:
        peer = f"{HOST}:{orthanc.dicom_port}"
        told = failure("echoscu", peer, "--no-tls", *words, peer=peer)
        assert told.outcome == (20, "association.rejected")
        assert reason in told.message
        assert setting in told.hint
        assert f"`{words[1]}`" in told.hint
        assert cli.run("echoscu", peer, "--no-tls", *mended).exit_code == 0


def test_an_abort_names_the_settings_that_are_likely(tmp_path: Path) -> None:
    modality = {"AET": "KNOWN", "Host": "localhost", "Port": 104, "AllowEcho": False}
    options = {"DicomAlwaysAllowEcho": False, "DicomModalities": {"m": modality}}
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        peer = f"{HOST}:{orthanc.dicom_port}"
        told = failure("echoscu", peer, "--no-tls", "--aet", "KNOWN", peer=peer)
        assert told.outcome == (21, "association.aborted")
        assert "`AllowEcho`" in told.hint
        assert "`DicomModalities`" in told.hint
    modality["AllowEcho"] = True
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        assert cli.run("echoscu", f"{HOST}:{orthanc.dicom_port}", "--no-tls", "--aet", "KNOWN").exit_code == 0
