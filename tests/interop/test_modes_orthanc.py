"""Every way a DICOM TLS connection with Orthanc can go: Orthanc's own scenarios, and the faults of either side.

Orthanc's own tests have three certificates of one subject: `scp` is Orthanc's, `scu` a modality it trusts,
`stranger` one it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.interop.conftest import Faults
from tests.support import cli, images, peers
from tests.support.pki import Identity, make_identity, write_bundle

pytestmark = pytest.mark.interop

CT = images.FOLDER / "CT_small.dcm"
BOTH_VERSIONS = pytest.mark.parametrize("version", ["--tls12", "--tls13"])


@pytest.fixture(scope="module")
def not_requiring(faults: Faults, tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Orthanc]:
    options = peers.orthanc_tls(faults.peer.cert, faults.peer.key, faults.trusted, required=False)
    with peers.orthanc(tmp_path_factory.mktemp("not-requiring"), **options) as running:
        yield running


def shown(identity: Identity) -> list[str]:
    return ["--cert", str(identity.cert), "--key", str(identity.key)]


def echo(orthanc: peers.Orthanc, *words: object) -> tuple[int, str]:
    """Return exit code and slug of an echo; the slug is "" where it went well."""
    result = cli.run("echoscu", "--json", "localhost", orthanc.dicom_port, *words)
    return result.exit_code, result.json.get("error", {}).get("code", "")


# ---------------------------------------------------------------------- Orthanc's own: no certificate required


def test_plain_echo_fails(not_requiring: peers.Orthanc) -> None:
    place = len(not_requiring.log)
    assert echo(not_requiring, "--no-tls") == (13, "association.peer-speaks-tls")
    not_requiring.log.wait_for("TLS error: wrong version number", place)


def test_trust_without_tls_fails(not_requiring: peers.Orthanc, faults: Faults) -> None:
    """With DCMTK's echoscu it fails on the wire; here such a line contradicts itself."""
    assert echo(not_requiring, "--disable-tls", "+cf", faults.trusted) == (2, "usage.no-tls-contradiction")


@BOTH_VERSIONS
def test_echo_with_a_trusted_certificate_works(
    not_requiring: peers.Orthanc, faults: Faults, version: str
) -> None:
    assert echo(not_requiring, version, *shown(faults.good), "--trust", faults.trusted) == (0, "")


@BOTH_VERSIONS
def test_anonymous_echo_works(not_requiring: peers.Orthanc, faults: Faults, version: str) -> None:
    assert echo(not_requiring, version, "--anonymous-tls", "--trust", faults.peer.cert) == (0, "")


@pytest.mark.parametrize(("tls", "status"), [(False, 500), (True, 200)])
def test_orthanc_stores_to_itself_over_tls_only(not_requiring: peers.Orthanc, tls: bool, status: int) -> None:
    name = f"itself-{tls}"
    not_requiring.knows(name, not_requiring.dicom_port, aet="ORTHANC", tls=tls)
    instance = not_requiring.upload(CT)
    assert not_requiring.send("POST", f"/modalities/{name}/store", instance)[0] == status


# ---------------------------------------------------------------------- Orthanc's own: a certificate required


def test_echo_with_an_untrusted_certificate_fails(requiring: peers.Orthanc, faults: Faults) -> None:
    place = len(requiring.log)
    assert echo(requiring, *shown(faults.stranger), "--trust", faults.trusted) == (
        12,
        "tls.refused-unknown-ca",
    )
    requiring.log.wait_for("TLS error: certificate verify failed", place)


def test_echo_that_trusts_another_certificate_fails(requiring: peers.Orthanc, faults: Faults) -> None:
    place = len(requiring.log)
    assert echo(requiring, *shown(faults.good), "--trust", faults.good.cert) == (11, "tls.peer-untrusted")
    requiring.log.wait_for("TLS error: tlsv1 alert unknown ca", place)


# ---------------------------------------------------------------------- faults of our certificate

OURS = {
    "good": (0, "", "Association Received from AET"),
    "stranger": (12, "tls.refused-unknown-ca", "certificate verify failed"),
    "expired": (12, "tls.refused-expired", "certificate verify failed"),
    "not_yet_valid": (12, "tls.refused-bad-certificate", "certificate verify failed"),
    "client_wrong_usage": (12, "tls.refused-wrong-usage", "certificate verify failed"),
}


@BOTH_VERSIONS
@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("required", [True, False], ids=["required", "not-required"])
def test_an_invalid_certificate_is_never_accepted(
    required: bool,
    ours: str,
    version: str,
    requiring: peers.Orthanc,
    not_requiring: peers.Orthanc,
    faults: Faults,
) -> None:
    orthanc = requiring if required else not_requiring
    exit_code, slug, told = OURS[ours]
    place = len(orthanc.log)
    options = [version, *shown(getattr(faults, ours)), "--trust", faults.trusted]
    assert echo(orthanc, *options) == (exit_code, slug)
    orthanc.log.wait_for(told, place)


@BOTH_VERSIONS
def test_no_certificate_at_all_is_told_as_such(
    requiring: peers.Orthanc, faults: Faults, version: str
) -> None:
    """Under TLS 1.2 it is the alert of "no common cipher"."""
    place = len(requiring.log)
    anonymous = [version, "--anonymous-tls", "--trust", faults.trusted]
    assert echo(requiring, *anonymous) == (12, "tls.refused-no-certificate")
    requiring.log.wait_for("TLS error: peer did not return a certificate", place)


# ---------------------------------------------------------------------- faults of Orthanc's certificate

ITS = {
    "peer": (0, "", "Association Received from AET"),
    "stranger": (11, "tls.peer-untrusted", "tlsv1 alert unknown ca"),
    "expired": (11, "tls.peer-expired", "sslv3 alert certificate expired"),
    "not_yet_valid": (11, "tls.peer-not-yet-valid", "sslv3 alert bad certificate"),
    "server_wrong_usage": (11, "tls.peer-wrong-usage", "sslv3 alert unsupported certificate"),
}


@pytest.mark.parametrize("its", ITS)
def test_we_accept_no_invalid_certificate_of_its(its: str, faults: Faults, tmp_path: Path) -> None:
    exit_code, slug, told = ITS[its]
    identity: Identity = getattr(faults, its)
    with peers.orthanc(
        tmp_path / "orthanc", **peers.orthanc_tls(identity.cert, identity.key, faults.trusted)
    ) as orthanc:
        for version in ("--tls12", "--tls13"):
            place = len(orthanc.log)
            options = [version, *shown(faults.good), "--trust", faults.trusted]
            assert echo(orthanc, *options) == (exit_code, slug)
            orthanc.log.wait_for(told, place)
            # ... unless we are told not to look.
            assert echo(orthanc, version, *shown(faults.good), "--peer-cert", "ignore") == (0, "")


@pytest.mark.parametrize(
    ("its", "slug"),
    [
        ("stranger", "tls.peer-untrusted"),
        ("expired", "tls.peer-expired"),
        ("not_yet_valid", "tls.peer-not-yet-valid"),
        ("client_wrong_usage", "tls.peer-wrong-usage"),
    ],
)
@pytest.mark.parametrize("check", ["require", "verify"])
def test_our_storescp_accepts_no_invalid_certificate_of_its(
    its: str, slug: str, check: str, faults: Faults, tmp_path: Path
) -> None:
    identity: Identity = getattr(faults, its)
    ours = [*shown(faults.good), "--trust", str(faults.trusted), "--peer-cert", check]
    with (
        peers.our_storescp(tmp_path / "ours", *ours) as scp,
        peers.orthanc(
            tmp_path / "orthanc", **peers.orthanc_tls(identity.cert, identity.key, faults.trusted)
        ) as orthanc,
    ):
        orthanc.knows("ours", scp.port)
        status, answer = orthanc.send("POST", "/modalities/ours/store", orthanc.upload(CT))
        refused = scp.event("refused")
        assert (status, refused["error"]["code"]) == (500, slug)
        assert "Peer aborted Association" in answer["Details"]
        assert refused["certificate_sha256"] == identity.fingerprint
        served = cli.run("echoscu", "localhost", scp.port, *shown(faults.peer), "--trust", faults.trusted)
        assert served.exit_code == 0, served.stderr


@pytest.mark.parametrize(
    ("ours", "slug"),
    [
        ("stranger", "tls.refused-unknown-ca"),
        ("expired", "tls.refused-expired"),
        ("not_yet_valid", "tls.refused-bad-certificate"),
        ("server_wrong_usage", "tls.refused-wrong-usage"),
    ],
)
def test_orthanc_stores_to_no_invalid_certificate_of_ours(
    ours: str, slug: str, requiring: peers.Orthanc, faults: Faults, tmp_path: Path
) -> None:
    options = [*shown(getattr(faults, ours)), "--trust", str(faults.trusted)]
    with peers.our_storescp(tmp_path / "ours", *options) as scp:
        requiring.knows(f"ours-{ours}", scp.port)
        status, answer = requiring.send("POST", f"/modalities/ours-{ours}/store", requiring.upload(CT))
        assert scp.event("refused")["error"]["code"] == slug
    assert status == 500
    assert "TLS error: certificate verify failed" in answer["Details"]


@BOTH_VERSIONS
def test_orthanc_stores_to_us_over_one_version(
    version: str, requiring: peers.Orthanc, faults: Faults, tmp_path: Path
) -> None:
    options = [version, *shown(faults.good), "--trust", str(faults.trusted)]
    with peers.our_storescp(tmp_path / "ours", *options) as scp:
        requiring.knows(f"ours{version}", scp.port)
        status, answer = requiring.send("POST", f"/modalities/ours{version}/store", requiring.upload(CT))
        assert status == 200, answer
        assert (
            scp.event("received")["tls"]["version"] == {"--tls12": "TLSv1.2", "--tls13": "TLSv1.3"}[version]
        )


@pytest.mark.parametrize("tls", [True, False], ids=["tls-to-plain", "plain-to-tls"])
def test_plain_meets_tls_when_orthanc_stores(
    tls: bool, requiring: peers.Orthanc, faults: Faults, tmp_path: Path
) -> None:
    options = ["--no-tls"] if tls else [*shown(faults.good), "--trust", str(faults.trusted)]
    with peers.our_storescp(tmp_path / "ours", *options) as scp:
        requiring.knows(f"plain-{tls}", scp.port, tls=tls)
        status, answer = requiring.send("POST", f"/modalities/plain-{tls}/store", requiring.upload(CT))
        refused = scp.event("refused")["error"]
    assert status == 500
    if tls:
        # Ours answers with an A-ABORT, which Orthanc reads as TLS; other plain peers: "OpenSSL I/O error".
        assert "TLS error: wrong version number" in answer["Details"]
        assert (refused["exit"], refused["code"]) == (13, "association.peer-speaks-tls")
    else:
        assert "Peer aborted Association" in answer["Details"]
        assert (refused["exit"], refused["code"]) == (13, "tls.peer-plain")


# ---------------------------------------------------------------------- chains and equal subjects


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    """A root, an intermediate CA and one leaf for either side; `<leaf>.chain` holds leaf and intermediate."""
    folder = tmp_path_factory.mktemp("chain")
    root = make_identity(folder, "root", subject="Root", ca=True, ec_key=False)
    middle = make_identity(folder, "middle", subject="Middle", ca=True, issuer=root, ec_key=False)
    made = {"root": root, "middle": middle}
    for name in ("orthanc", "ours"):
        leaf = made[name] = make_identity(folder, name, issuer=middle, ec_key=False)
        write_bundle(leaf.cert.with_suffix(".chain"), leaf, middle)
    return made


@BOTH_VERSIONS
def test_a_chain_with_an_intermediate_is_followed_by_both(
    chain: dict[str, Identity], version: str, tmp_path: Path
) -> None:
    root, ours, its = chain["root"].cert, chain["ours"], chain["orthanc"]
    options = peers.orthanc_tls(its.cert.with_suffix(".chain"), its.key, root)
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        whole = ["--cert", ours.cert.with_suffix(".chain"), "--key", ours.key, "--trust", root]
        assert echo(orthanc, version, *whole) == (0, "")
        # Without the intermediate nobody can tell that the root vouches for the leaf.
        assert echo(orthanc, version, *shown(ours), "--trust", root) == (12, "tls.refused-unknown-ca")
        for host in ("localhost", "127.0.0.1"):  # a CA vouches for names: both of these are in the leaf
            result = cli.run("echoscu", "--json", host, orthanc.dicom_port, version, *whole)
            assert result.json["tls"]["identified_by"] == "name"


def test_orthanc_takes_no_leaf_of_a_ca_as_an_anchor(chain: dict[str, Identity], tmp_path: Path) -> None:
    """We do: the very certificate is trusted, whoever signed it."""
    ours, its = chain["ours"], chain["orthanc"]
    with peers.orthanc(tmp_path / "orthanc", **peers.orthanc_tls(its.cert, its.key, ours.cert)) as orthanc:
        assert echo(orthanc, *shown(ours), "--trust", its.cert) == (12, "tls.refused-unknown-ca")
        orthanc.log.wait_for("TLS error: certificate verify failed")


def test_a_chain_without_its_intermediate_is_refused_by_us(
    chain: dict[str, Identity], tmp_path: Path
) -> None:
    root, ours, its = chain["root"].cert, chain["ours"], chain["orthanc"]
    with peers.orthanc(tmp_path / "orthanc", **peers.orthanc_tls(its.cert, its.key, root)) as orthanc:
        whole = ["--cert", ours.cert.with_suffix(".chain"), "--key", ours.key]
        assert echo(orthanc, *whole, "--trust", root) == (11, "tls.peer-untrusted")
        # The intermediate or the leaf itself will do.
        for anchor in (chain["middle"].cert, its.cert):
            assert echo(orthanc, *whole, "--trust", anchor) == (0, "")


def test_a_ca_vouches_for_the_right_name_only(chain: dict[str, Identity], tmp_path: Path) -> None:
    elsewhere = make_identity(
        tmp_path, "elsewhere", hosts=("pacs.example",), addresses=(), issuer=chain["middle"], ec_key=False
    )
    cert = write_bundle(tmp_path / "elsewhere.chain", elsewhere, chain["middle"])
    root, ours = chain["root"].cert, chain["ours"]
    with peers.orthanc(tmp_path / "orthanc", **peers.orthanc_tls(cert, elsewhere.key, root)) as orthanc:
        whole = ["--cert", ours.cert.with_suffix(".chain"), "--key", ours.key, "--trust", root]
        assert echo(orthanc, *whole) == (11, "tls.name-mismatch")
        assert echo(orthanc, *whole, "--identity", "none") == (0, "")
        assert echo(orthanc, *whole, "--pin", elsewhere.fingerprint) == (0, "")
        assert echo(orthanc, *whole, "--pin", ours.fingerprint) == (11, "tls.pin-mismatch")


def test_equal_subjects_in_one_bundle_all_count(pki: Pki, faults: Faults, tmp_path: Path) -> None:
    """All five have the subject CN=localhost, and each is known for itself."""
    bundle = write_bundle(tmp_path / "all.crt", pki.scp, pki.scu, pki.stranger, faults.good, faults.peer)
    for its in (pki.scp, pki.stranger):
        with peers.orthanc(
            tmp_path / its.cert.stem, **peers.orthanc_tls(its.cert, its.key, bundle)
        ) as orthanc:
            for ours in (pki.scu, faults.good, faults.peer):
                assert echo(orthanc, *shown(ours), "--trust", bundle) == (0, "")


# ---------------------------------------------------------------------- AE titles

_TITLES = {
    "called": (
        {"DicomCheckCalledAet": True, "DicomAet": "ARCHIVE"},
        ["-aec", "WRONG"],
        (20, "association.rejected"),
        "bad called AET",
    ),
    "called-right": (
        {"DicomCheckCalledAet": True, "DicomAet": "ARCHIVE"},
        ["-aec", "ARCHIVE"],
        (0, ""),
        "Association Received from AET",
    ),
    "calling": (
        {"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False},
        ["-aet", "NOBODY"],
        (20, "association.rejected"),
        'not listed in the "DicomModalities"',
    ),
    "not-allowed": (
        {
            "DicomAlwaysAllowEcho": False,
            "DicomModalities": {"m": {"AET": "KNOWN", "Host": "localhost", "Port": 104, "AllowEcho": False}},
        },
        ["-aet", "KNOWN"],
        (21, "association.aborted"),
        "not allowed",
    ),
}


@pytest.mark.parametrize("case", _TITLES)
def test_ae_titles_are_told(case: str, pki: Pki, tmp_path: Path) -> None:
    configuration, titles, outcome, told = _TITLES[case]
    options = peers.orthanc_tls(pki.scp.cert, pki.scp.key, pki.trusted) | configuration
    with peers.orthanc(tmp_path / "orthanc", **options) as orthanc:
        assert echo(orthanc, *titles, *pki.scu_options) == outcome
        orthanc.log.wait_for(told)


# ---------------------------------------------------------------------- TLS versions


def test_an_ec_certificate_of_its_works_over_tls_1_3_only(pki: Pki, tmp_path: Path) -> None:
    its = make_identity(tmp_path, "ec")
    with peers.orthanc(tmp_path / "orthanc", **peers.orthanc_tls(its.cert, its.key, pki.trusted)) as orthanc:
        options = [*shown(pki.scu), "--trust", its.cert]
        assert echo(orthanc, "--tls13", *options) == (0, "")
        place = len(orthanc.log)
        assert echo(orthanc, "--tls12", *options) == (13, "tls.no-common")
        orthanc.log.wait_for("TLS error: no shared cipher", place)


@BOTH_VERSIONS
def test_one_version_is_one_version(version: str, requiring: peers.Orthanc, faults: Faults) -> None:
    result = cli.run(
        "echoscu",
        "--json",
        version,
        "localhost",
        requiring.dicom_port,
        *shown(faults.good),
        "--trust",
        faults.trusted,
    )
    assert result.json["tls"]["version"] == {"--tls12": "TLSv1.2", "--tls13": "TLSv1.3"}[version]
