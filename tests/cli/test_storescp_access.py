"""Who may open an association with `dicomtls storescp`: what the peer gets, and what the log says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pki
from tests.support import cli, peers
from tests.support.pki import Identity, make_identity, write_bundle
from tests.support.receiver import Scp, storescp
from tests.support.server import Client


def echo(scp: Scp, who: Identity, aet: str = "CT1", aec: str = "ARCHIVE", *words: object) -> int:
    shown = ("--cert", who.cert, "--key", who.key, "--trust", "trusted.crt")
    return cli.run("echoscu", scp.address, "--aet", aet, "--aec", aec, *shown, *words).exit_code


def refused(scp: Scp, number: int) -> dict[str, Any]:
    """Return the event of the refusal with this number, the first is 1."""
    seen = 0
    for _ in range(number):
        scp.out.wait_for('"event": "refused"', seen)
        seen = next(n for n, line in enumerate(scp.out.lines()) if n >= seen and '"refused"' in line) + 1
    event: dict[str, Any] = json.loads(scp.out.lines()[seen - 1])
    return event


def entry(aet: str, **keys: str) -> str:
    return "[[peer]]\n" + "".join(f'{key} = "{value}"\n' for key, value in (keys | {"aet": aet}).items())


@pytest.fixture
def tls(pki: Pki) -> list[str]:
    write_bundle(Path("trusted.crt"), pki.scp, pki.scu)
    return ["--json", "--cert", str(pki.scp.cert), "--key", str(pki.scp.key), "--trust", "trusted.crt"]


def test_ae_titles(tls: list[str], pki: Pki) -> None:
    with storescp(*tls, "--aet", "ARCHIVE", "--aet-only", "--allow", "CT1", "--allow", "CT2") as scp:
        assert echo(scp, pki.scu, "CT1") == echo(scp, pki.scu, "CT2") == 0
        assert echo(scp, pki.scu, "CT1", "OTHER") == 20
        assert echo(scp, pki.scu, "CT3") == 20
        called, calling = refused(scp, 1), refused(scp, 2)
    assert (called["error"]["code"], calling["error"]["code"]) == ("access.called-aet", "access.calling-aet")
    assert "1/1/7" in called["error"]["message"]
    assert "1/1/3" in calling["error"]["message"]
    assert (called["called_aet"], calling["calling_aet"]) == ("OTHER", "CT3")


def test_the_ae_map_by_certificate(tls: list[str], pki: Pki) -> None:
    """Both certificates are trusted and have the same subject; only one may come, and as nobody else."""
    Path("map.toml").write_text(entry("CT1", certificate=pki.scu.fingerprint))
    with storescp(*tls, "--ae-map", "map.toml") as scp:
        assert echo(scp, pki.scu, "CT1") == 0
        assert echo(scp, pki.scu, "CT2") == 20
        assert echo(scp, pki.scp, "CT1") == 20
        other_title, other_certificate = refused(scp, 1), refused(scp, 2)
    assert other_title["error"]["code"] == "access.not-its-aet"
    assert other_certificate["error"]["code"] == "access.not-in-map"
    for event, identity in ((other_title, pki.scu), (other_certificate, pki.scp)):
        assert event["certificate_sha256"] == identity.fingerprint
        assert event["certificate_subject"] == "CN=localhost"
        assert event["peer"].startswith(("127.0.0.1:", "[::1]:"))
        assert "1/1/3" in event["error"]["message"]


@pytest.mark.parametrize("version", ["--tls12", "--tls13"])
def test_the_ae_map_by_ca_and_subject(tls: list[str], pki: Pki, version: str) -> None:
    ca, other_ca = (make_identity(Path(), name, subject=name, ca=True) for name in ("ca", "other"))
    one, renewed = (make_identity(Path(), name, subject="ct1", issuer=ca) for name in ("one", "renewed"))
    two = make_identity(Path(), "two", subject="ct2", issuer=ca)
    impostor = make_identity(Path(), "impostor", subject="ct1", issuer=other_ca)
    write_bundle(Path("trusted.crt"), pki.scp, ca, other_ca)
    Path("map.toml").write_text(entry("CT1", ca=ca.fingerprint, subject="CN=ct1"))
    with storescp(*tls, "--ae-map", "map.toml") as scp:
        assert echo(scp, one, "CT1", "ARCHIVE", version) == echo(scp, renewed, "CT1", "ARCHIVE", version) == 0
        for who, aet in ((one, "CT2"), (two, "CT1"), (impostor, "CT1")):
            assert echo(scp, who, aet, "ARCHIVE", version) == 20
        codes = [refused(scp, number)["error"]["code"] for number in (1, 2, 3)]
    assert codes == ["access.not-its-aet", "access.not-in-map", "access.not-in-map"]


def test_a_ca_of_the_same_name_is_another(tls: list[str], pki: Pki) -> None:
    """A certificate of the same subject, sent with the true CA beside it: what is verified counts."""
    ca, twin = (make_identity(Path(name), name, subject="ca", ca=True) for name in ("ca", "twin"))
    true = make_identity(Path(), "true", subject="ct1", issuer=ca)
    false = make_identity(Path(), "false", subject="ct1", issuer=twin)
    write_bundle(Path("trusted.crt"), pki.scp, twin, ca)
    Path("map.toml").write_text(entry("CT1", ca=ca.fingerprint, subject="CN=ct1"))
    with storescp(*tls, "--ae-map", "map.toml") as scp:
        assert echo(scp, true, "CT1") == 0
        false.cert.write_text(false.pem + ca.pem + true.pem)
        assert echo(scp, false, "CT1") == 20
        assert refused(scp, 1)["error"]["code"] == "access.not-in-map"


def test_an_ae_title_counts_whole(tls: list[str], pki: Pki) -> None:
    Path("map.toml").write_text(entry("CT1", certificate=pki.scu.fingerprint))
    others = ["CT", "CT11", "CT1X", "ct1", "C T1", "CT1.", "*"]
    with storescp(*tls, "--ae-map", "map.toml") as scp:
        for aet in others:
            assert echo(scp, pki.scu, aet) == 20, aet
        codes = {refused(scp, number)["error"]["code"] for number in range(1, len(others) + 1)}
        # Spaces around it are padding, and none of it (PS3.5 6.2).
        assert echo(scp, pki.scu, " CT1 ") == 0
    assert codes == {"access.not-its-aet"}


def test_the_ae_map_and_a_peer_without_a_certificate(tls: list[str], pki: Pki) -> None:
    Path("map.toml").write_text(entry("CT1", certificate=pki.scu.fingerprint))
    with storescp(*tls, "--peer-cert", "verify", "--ae-map", "map.toml") as scp:
        result = cli.run("echoscu", scp.address, "--aet", "CT1", "--anonymous-tls", "--trust", "trusted.crt")
        assert result.exit_code == 20
        assert echo(scp, pki.scu, "CT1") == 0
        event = refused(scp, 1)
    assert (event["error"]["code"], event["certificate_sha256"]) == ("access.no-certificate", None)


def test_a_line_says_who_from_where_with_what_and_why(tls: list[str], pki: Pki) -> None:
    Path("map.toml").write_text(entry("CT1", certificate=pki.scu.fingerprint))
    with storescp(*tls[1:], "--ae-map", "map.toml") as scp:
        assert echo(scp, pki.scp, "CT1") == 20
        line = scp.out.wait_for("refused")
    for word in ("127.0.0.1:", "CT1 -> ARCHIVE", "map.toml", "1/1/3", "CN=localhost", pki.scp.fingerprint):
        assert word in line.replace("[::1]:", "127.0.0.1:")
    # The line that is missing in the map is there to be copied.
    assert f'`certificate = "{pki.scp.fingerprint}"`' in line


@pytest.mark.interop
def test_dcmtk_is_told_the_reason(tls: list[str], pki: Pki) -> None:
    trust = peers.dcmtk_tls(pki.scu.cert, pki.scu.key, Path("trusted.crt"))
    Path("map.toml").write_text(entry("CT1", certificate=pki.scu.fingerprint))
    with storescp(*tls, "--aet", "ARCHIVE", "--aet-only", "--ae-map", "map.toml") as scp:

        def told(aet: str, aec: str) -> str:
            done = peers.dcmtk("echoscu", "-v", "-aet", aet, "-aec", aec, *trust, "localhost", scp.port)
            return done.stdout + done.stderr

        assert "Received Echo Response (Success)" in told("CT1", "ARCHIVE")
        assert "Reason: Called AE Title Not Recognized" in told("CT1", "OTHER")
        assert "Reason: Calling AE Title Not Recognized" in told("CT2", "ARCHIVE")


def test_dcm4ches_bind_with_an_ae_title_takes_no_other() -> None:
    with storescp("--json", "--ignore", "-b", "ARCHIVE@127.0.0.1") as scp:
        plain = ("echoscu", f"127.0.0.1:{scp.port}", "--no-tls", "--aec")
        assert cli.run(*plain, "ARCHIVE").exit_code == 0
        assert cli.run(*plain, "OTHER").exit_code == 20
        assert refused(scp, 1)["error"]["code"] == "access.called-aet"


def test_the_association_after_the_last_is_told_so() -> None:
    with storescp("--json", "--max-associations", "1") as scp, Client(scp.port).associate() as first:
        assert cli.run("echoscu", f"127.0.0.1:{scp.port}", "--no-tls").exit_code == 20
        assert refused(scp, 1)["error"]["code"] == "access.too-many"
        assert first.echo().status == 0
        first.end()


@pytest.mark.parametrize(
    ("words", "code", "slug"),
    [
        (["--no-tls", "--ae-map", "map.toml"], 2, "usage.contradiction"),
        (["--peer-cert", "ignore", "--ae-map", "map.toml"], 2, "usage.contradiction"),
        (["--ae-map", "missing.toml"], 3, "file.missing"),
        (["--ae-map", "map.toml"], 3, "access.map-key"),
        (["-b", "STORE:11112", "--idle-timeout", "60"], 2, "usage.ambiguous-seconds"),
    ],
)
def test_a_start_that_cannot_be(tls: list[str], words: list[str], code: int, slug: str) -> None:
    Path("map.toml").write_text("[[peer]]\nsubject = 'CN=ct1'\naet = 'CT1'\n")
    own = ["--json"] if "--no-tls" in words else tls
    result = cli.run("storescp", *own, "--port", "0", "--ignore", *words)
    assert (result.exit_code, result.json["error"]["code"]) == (code, slug)
