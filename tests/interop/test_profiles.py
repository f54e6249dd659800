"""Secure transport profiles of PS3.15 Annex B: each of ours with each of DCMTK 3.6.7, in both roles.

Its default is `+py`; `+pz` is TLS 1.2 only, and `+pa` TLS 1.2 with AES128-SHA only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Pki
from tests.support import cli, peers
from tests.support.pki import make_identity

pytestmark = pytest.mark.interop

# 3: TLS 1.3; E: TLS 1.2 with ECDHE and AES-GCM; D: the same, or with DHE; S: TLS 1.2 with AES128-SHA;
# -: nothing in common; u: ours is a usage error, since the profile has no such version.
THEIRS = ("default", "+py", "+px", "+pz", "+pa")
TABLES = {
    "": {
        "bcp195-rfc9325": "3 3 3 E -",
        "bcp195-nd": "3 3 3 D -",
        "bcp195-ext": "E E E E -",
        "bcp195": "3 3 3 D S",
        "aes": "3 3 3 E S",
    },
    "--tls12": {
        "bcp195-rfc9325": "E E E E -",
        "bcp195-nd": "D D D D -",
        "bcp195-ext": "E E E E -",
        "bcp195": "D D D D S",
        "aes": "E E E E S",
    },
    "--tls13": {
        "bcp195-rfc9325": "3 3 3 - -",
        "bcp195-nd": "3 3 3 - -",
        "bcp195-ext": "u u u u u",
        "bcp195": "3 3 3 - -",
        "aes": "3 3 3 - -",
    },
}
ROWS = [
    (ours, version, theirs, outcome)
    for version, table in TABLES.items()
    for ours, outcomes in table.items()
    for theirs, outcome in zip(THEIRS, outcomes.split(), strict=True)
]
SUITES = {
    "3": {("TLSv1.3", "TLS_AES_256_GCM_SHA384")},
    "E": {("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384")},
    "D": {("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"), ("TLSv1.2", "DHE-RSA-AES256-GCM-SHA384")},
    "S": {("TLSv1.2", "AES128-SHA")},
}
OURS_CANNOT = "usage.no-tls-version"


def our_options(ours: str, version: str) -> list[str]:
    return ["--tls-profile", ours, *([version] if version else [])]


def their_options(theirs: str) -> list[str]:
    return [] if theirs == "default" else [theirs]


@pytest.fixture(scope="module")
def dcmtk_storescp(
    pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], peers.Storescp]]:
    """Start DCMTK's storescp once per profile, for all tests of this module."""
    running: dict[str, peers.Storescp] = {}
    with contextlib.ExitStack() as stack:

        def start(theirs: str) -> peers.Storescp:
            if theirs not in running:
                options = [*peers.dcmtk_tls(pki.scp.cert, pki.scp.key, pki.trusted), *their_options(theirs)]
                running[theirs] = stack.enter_context(
                    peers.dcmtk_storescp(tmp_path_factory.mktemp("dcmtk"), *options)
                )
            return running[theirs]

        yield start


@pytest.fixture(scope="module")
def our_storescp(
    pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], peers.OurStorescp]]:
    """Start our storescp once per profile and version, for all tests of this module."""
    running: dict[tuple[str, str], peers.OurStorescp] = {}
    with contextlib.ExitStack() as stack:

        def start(ours: str, version: str) -> peers.OurStorescp:
            if (ours, version) not in running:
                options = [*pki.scp_options, *our_options(ours, version)]
                running[ours, version] = stack.enter_context(
                    peers.our_storescp(tmp_path_factory.mktemp("ours"), *options)
                )
            return running[ours, version]

        yield start


@pytest.mark.parametrize(("ours", "version", "theirs", "outcome"), ROWS)
def test_dcmtk_as_acceptor(
    ours: str,
    version: str,
    theirs: str,
    outcome: str,
    pki: Pki,
    dcmtk_storescp: Callable[[str], peers.Storescp],
) -> None:
    scp = dcmtk_storescp(theirs)
    place = len(scp.log)
    result = cli.run(
        "echoscu", "--json", "localhost", scp.port, *pki.scu_options, *our_options(ours, version)
    )
    is_retired = ours != "bcp195-rfc9325"
    assert ("is retired" in result.stderr) == is_retired
    if outcome == "u":
        assert (result.exit_code, result.json["error"]["code"]) == (2, OURS_CANNOT)
    elif outcome == "-":
        assert (result.exit_code, result.json["error"]["code"]) == (13, "tls.no-common")
        said = scp.log.wait_for("E: Receiving Association failed: ", place)
        assert said.endswith(("TLS error: no shared cipher", "TLS error: unsupported protocol"))
    else:
        assert result.exit_code == 0, result.stderr
        tls = result.json["tls"]
        assert (tls["version"], tls["cipher"]) in SUITES[outcome]


@pytest.mark.parametrize(("ours", "version", "theirs", "outcome"), [row for row in ROWS if row[3] != "u"])
def test_we_as_acceptor(
    ours: str,
    version: str,
    theirs: str,
    outcome: str,
    pki: Pki,
    our_storescp: Callable[[str, str], peers.OurStorescp],
) -> None:
    scp = our_storescp(ours, version)
    place = len(scp.log)
    identity = peers.dcmtk_tls(pki.scu.cert, pki.scu.key, pki.trusted)
    done = peers.dcmtk("echoscu", *identity, *their_options(theirs), "localhost", scp.port)
    if outcome == "-":
        assert done.stderr.strip().endswith(("alert handshake failure", "alert protocol version"))
        error = scp.event("refused", place)["error"]
        assert (error["exit"], error["code"]) == (13, "tls.no-common")
    else:
        assert done.returncode == 0, done.stderr
        tls = scp.event("opened", place)["tls"]
        assert (tls["version"], tls["cipher"]) in SUITES[outcome]


def test_we_as_acceptor_of_a_version_the_profile_lacks(pki: Pki) -> None:
    # As a process of its own: one that listens would never end.
    words = ["storescp", "--json", "--port", "0", *pki.scp_options, *our_options("bcp195-ext", "--tls13")]
    result = cli.run_process(*words)
    assert (result.exit_code, result.json["error"]["code"]) == (2, OURS_CANNOT)


def test_one_cipher_more_reaches_an_old_acceptor(
    pki: Pki, dcmtk_storescp: Callable[[str], peers.Storescp]
) -> None:
    """What the default profile and `+pa` lack in common is one suite, and it can be added."""
    scp = dcmtk_storescp("+pa")
    for name in ("TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"):
        for option in ("+cs", "--tls-cipher"):
            result = cli.run("echoscu", "--json", "localhost", scp.port, *pki.scu_options, option, name)
            assert result.json["tls"]["cipher"] == "AES128-SHA", result.stdout


@pytest.mark.parametrize(
    ("version", "theirs", "exit_code"),
    [("--tls13", "+py", 0), ("--tls12", "+py", 13), ("--tls12", "+pz", 0), ("--tls13", "+pz", 13)],
)
def test_an_ec_certificate_needs_tls_1_3_or_the_extended_profile(
    version: str, theirs: str, exit_code: int, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """DCMTK 3.6.7 has no ECDSA suite in its default profile for TLS 1.2."""
    folder = tmp_path_factory.mktemp("ec")
    its = make_identity(folder, "its")
    options = [*peers.dcmtk_tls(its.cert, its.key, pki.trusted), theirs]
    with peers.dcmtk_storescp(folder / "dcmtk", *options) as scp:
        result = cli.run("echoscu", "localhost", scp.port, *pki.scu_options, "--trust", its.cert, version)
    assert result.exit_code == exit_code, result.stderr
