"""The matrix with DCMTK: role x peer check x certificate x TLS version -> accepted, or refused and why.

DCMTK 3.6.7 as acceptor: `-rc` refuses untrusted, expired and missing certificates, `-vc` untrusted and
expired ones but takes none, `-ic` never asks. As requestor it has `-rc` and `-ic`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.conftest import Faults
from tests.support import cli, peers
from tests.support.pki import Identity

pytestmark = pytest.mark.interop

VERSIONS = {"--tls12": "TLSv1.2", "--tls13": "TLSv1.3"}
BOTH_VERSIONS = pytest.mark.parametrize("version", VERSIONS)
SEES = "E: Receiving Association failed: "

# What the requestor shows -> exit code and slug of our echoscu where it is refused; what DCMTK's log says;
# slug of our storescp's event where it refuses.
REFUSALS = {
    "stranger": (12, "tls.refused-unknown-ca", "TLS error: certificate verify failed", "tls.peer-untrusted"),
    "expired": (12, "tls.refused-expired", "TLS error: certificate verify failed", "tls.peer-expired"),
    "not_yet_valid": (
        12,
        "tls.refused-bad-certificate",
        "TLS error: certificate verify failed",
        "tls.peer-not-yet-valid",
    ),
    "client_wrong_usage": (
        12,
        "tls.refused-wrong-usage",
        "TLS error: certificate verify failed",
        "tls.peer-wrong-usage",
    ),
    "none": (
        12,
        "tls.refused-no-certificate",
        "TLS error: peer did not return a certificate",
        "tls.peer-no-certificate",
    ),
    "plain": (13, "association.peer-speaks-tls", "TLS error: wrong version number", "tls.peer-plain"),
}
SHOWN = ["good", *REFUSALS]
ROWS = [
    (shown, version) for shown in SHOWN for version in VERSIONS if (shown, version) != ("plain", "--tls13")
]
# The acceptor's check -> what it lets in.
ACCEPTED = {"require": {"good"}, "verify": {"good", "none"}, "ignore": {*SHOWN} - {"plain"}}
DCMTKS_WORD = {"require": "-rc", "verify": "-vc", "ignore": "-ic"}

# What the acceptor shows -> exit code and slug of our echoscu; what DCMTK's storescp then says; what our
# storescp's event says where DCMTK's echoscu refuses.
ACCEPTORS_REFUSALS = {
    "stranger": (11, "tls.peer-untrusted", "tlsv1 alert unknown ca", "tls.refused-unknown-ca"),
    "expired": (11, "tls.peer-expired", "sslv3 alert certificate expired", "tls.refused-expired"),
    "not_yet_valid": (
        11,
        "tls.peer-not-yet-valid",
        "sslv3 alert bad certificate",
        "tls.refused-bad-certificate",
    ),
    "server_wrong_usage": (
        11,
        "tls.peer-wrong-usage",
        "sslv3 alert unsupported certificate",
        "tls.refused-wrong-usage",
    ),
}


def is_identity(shown: str) -> bool:
    return shown not in ("none", "plain")


def dcmtk_words(faults: Faults, shown: str) -> list[str]:
    """Return the options that make DCMTK's echoscu show this."""
    if shown == "plain":
        return []
    if shown == "none":
        return ["+tla", "+cf", str(faults.trusted)]
    identity: Identity = getattr(faults, shown)
    return peers.dcmtk_tls(identity.cert, identity.key, faults.trusted)


def our_words(faults: Faults, shown: str) -> list[str]:
    """Return the options that make our commands show this."""
    if shown == "plain":
        return ["--no-tls"]
    if shown == "none":
        return ["--anonymous-tls", "--trust", str(faults.trusted)]
    identity: Identity = getattr(faults, shown)
    return ["--cert", str(identity.cert), "--key", str(identity.key), "--trust", str(faults.trusted)]


def echo(port: int, *words: object) -> tuple[int, str]:
    """Return exit code and slug of our echo; where it went well, the TLS version instead of a slug."""
    result = cli.run("echoscu", "--json", "localhost", port, *words)
    if result.exit_code:
        return result.exit_code, result.json["error"]["code"]
    return 0, result.json["tls"]["version"]


Started = Callable[..., peers.Storescp]
OurStarted = Callable[..., peers.OurStorescp]


# ---------------------------------------------------------------------- the requestor's certificate


@pytest.mark.parametrize(("shown", "version"), ROWS)
@pytest.mark.parametrize("check", ACCEPTED)
def test_dcmtk_as_acceptor(
    check: str, shown: str, version: str, faults: Faults, dcmtk_storescp: Started
) -> None:
    scp = dcmtk_storescp(
        *peers.dcmtk_tls(faults.peer.cert, faults.peer.key, faults.trusted), DCMTKS_WORD[check]
    )
    place = len(scp.log)
    words = our_words(faults, shown) + ([] if shown == "plain" else [version])
    if shown in ACCEPTED[check]:
        assert echo(scp.port, *words) == (0, VERSIONS[version])
        scp.log.wait_for("I: Association Release", place)
    else:
        exit_code, slug, told, _ = REFUSALS[shown]
        assert echo(scp.port, *words) == (exit_code, slug)
        assert told in scp.log.wait_for(SEES, place)


@pytest.mark.parametrize(("shown", "version"), ROWS)
@pytest.mark.parametrize("check", ACCEPTED)
def test_we_as_acceptor(
    check: str, shown: str, version: str, faults: Faults, our_storescp: OurStarted
) -> None:
    trust = [] if check == "ignore" else ["--trust", str(faults.trusted)]
    identity = ["--cert", str(faults.peer.cert), "--key", str(faults.peer.key)]
    scp = our_storescp(*identity, *trust, "--peer-cert", check, version)
    place = len(scp.log)
    done = peers.dcmtk("echoscu", *dcmtk_words(faults, shown), "localhost", scp.port)
    is_asked = check != "ignore" and is_identity(shown)
    fingerprint = getattr(faults, shown).fingerprint if is_asked else None
    if shown in ACCEPTED[check]:
        assert done.returncode == 0, done.stderr
        event = scp.event("opened", place)
        assert (event["tls"]["version"], event["certificate_sha256"]) == (VERSIONS[version], fingerprint)
        assert scp.event("closed", place)["error"] is None
    else:
        assert done.returncode != 0
        event = scp.event("refused", place)
        assert (event["error"]["code"], event["certificate_sha256"]) == (REFUSALS[shown][3], fingerprint)
        assert event["error"]["exit"] == (13 if shown == "plain" else 11)
        place = len(scp.log)
        served = peers.dcmtk("echoscu", *dcmtk_words(faults, "good"), "localhost", scp.port)
        assert served.returncode == 0, served.stderr
        assert scp.event("closed", place)["error"] is None


# ---------------------------------------------------------------------- the acceptor's certificate


@BOTH_VERSIONS
@pytest.mark.parametrize("check", ["require", "ignore"])
@pytest.mark.parametrize("its", ["peer", *ACCEPTORS_REFUSALS])
def test_we_as_requestor(its: str, check: str, version: str, faults: Faults, dcmtk_storescp: Started) -> None:
    identity: Identity = getattr(faults, its)
    scp = dcmtk_storescp(*peers.dcmtk_tls(identity.cert, identity.key, faults.trusted))
    place = len(scp.log)
    words = [*our_words(faults, "good"), version, "--peer-cert", check]
    if check == "ignore" or its == "peer":
        assert echo(scp.port, *words) == (0, VERSIONS[version])
        scp.log.wait_for("I: Association Release", place)
    else:
        exit_code, slug, told, _ = ACCEPTORS_REFUSALS[its]
        assert echo(scp.port, *words) == (exit_code, slug)
        assert told in scp.log.wait_for(SEES, place)


@pytest.mark.parametrize("check", ["require", "ignore"])
def test_we_as_requestor_of_a_plain_acceptor(check: str, faults: Faults, dcmtk_storescp: Started) -> None:
    scp = dcmtk_storescp()
    exit_code, slug = echo(scp.port, *our_words(faults, "good"), "--peer-cert", check)
    assert (exit_code, slug) == (13, "tls.peer-plain")
    assert cli.run("echoscu", "--no-tls", "localhost", scp.port).exit_code == 0


@BOTH_VERSIONS
@pytest.mark.parametrize("check", ["-rc", "-ic"])
@pytest.mark.parametrize("ours", ["peer", *ACCEPTORS_REFUSALS])
def test_dcmtk_as_requestor(
    ours: str, check: str, version: str, faults: Faults, our_storescp: OurStarted
) -> None:
    scp = our_storescp(*our_words(faults, ours), version)
    place = len(scp.log)
    done = peers.dcmtk("echoscu", *dcmtk_words(faults, "good"), check, "localhost", scp.port)
    if check == "-ic" or ours == "peer":
        assert done.returncode == 0, done.stderr
        assert scp.event("opened", place)["tls"]["version"] == VERSIONS[version]
    else:
        assert "TLS error: certificate verify failed" in done.stderr
        assert scp.event("refused", place)["error"]["code"] == ACCEPTORS_REFUSALS[ours][3]
        served = peers.dcmtk("echoscu", *dcmtk_words(faults, "good"), "-ic", "localhost", scp.port)
        assert served.returncode == 0, served.stderr


def test_dcmtk_as_requestor_of_our_plain_acceptor(faults: Faults, our_storescp: OurStarted) -> None:
    scp = our_storescp("--no-tls")
    done = peers.dcmtk("echoscu", *dcmtk_words(faults, "good"), "localhost", scp.port)
    assert done.returncode != 0
    error = scp.event("refused")["error"]
    assert (error["exit"], error["code"]) == (13, "association.peer-speaks-tls")
    assert peers.dcmtk("echoscu", "localhost", scp.port).returncode == 0
