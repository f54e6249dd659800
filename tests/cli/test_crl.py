"""Revocation lists on the commands: both roles, both TLS versions, DCMTK on the other side, a list that is renewed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role
from tests.support import cli, peers
from tests.support.images import FOLDER
from tests.support.pki import Identity, make_identity
from tests.support.receiver import storescp
from tests.support.revocation import make_crl

VERSIONS = pytest.mark.parametrize("version", ["--tls12", "--tls13"])
CT = FOLDER / "CT_small.dcm"


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the CA `ward`, the nodes pacs, scanner and lost, and ward.crl, which names lost; all by gencert."""
    folder = tmp_path_factory.mktemp("ward")
    for words in (("pacs", "scanner", "lost"), ("--revoke", folder / "lost.crt")):
        made = cli.run("gencert", "--ca", "ward", *words, "--out-dir", folder)
        assert made.exit_code == 0, made.stderr
    return folder


def options(ward: Path, name: str, *more: object) -> tuple[object, ...]:
    return (
        "--cert",
        ward / f"{name}.crt",
        "--key",
        ward / f"{name}.key",
        "--trust",
        ward / "ward.crt",
        *more,
    )


@pytest.fixture(scope="module")
def receiver(ward: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.OurStorescp]:
    """Our SCP, which looks into the list."""
    folder = tmp_path_factory.mktemp("scp")
    with peers.our_storescp(folder, *options(ward, "pacs", "+crl", ward / "ward.crl")) as running:
        yield running


@VERSIONS
def test_our_receiver_refuses_the_revoked_one(version: str, receiver: peers.OurStorescp, ward: Path) -> None:
    assert cli.run("echoscu", "localhost", receiver.port, *options(ward, "scanner", version)).exit_code == 0
    seen = len(receiver.log)
    result = cli.run("storescu", "localhost", receiver.port, CT, *options(ward, "lost", version), "--json")
    assert result.exit_code in (12, 21), "it is told nothing: Python cannot send an alert of its own"
    event = receiver.event("refused", seen)
    assert (event["error"]["code"], event["error"]["exit"]) == ("tls.peer-revoked", 11)
    assert "CN=lost" in event["error"]["message"]
    assert "ward.crl` of `CN=ward`" in event["error"]["message"]
    assert not list(receiver.output.rglob("*.dcm"))


@pytest.mark.interop
@VERSIONS
@pytest.mark.parametrize(("who", "code"), [("pacs", None), ("lost", "tls.peer-revoked")])
def test_our_scus_refuse_a_revoked_dcmtk(
    who: str, code: str | None, version: str, ward: Path, tmp_path: Path
) -> None:
    own = (ward / f"{who}.crt", ward / f"{who}.key", ward / "ward.crt")
    crl = ("--crl", ward / "ward.crl", version)
    with peers.dcmtk_storescp(tmp_path / "dcmtk", *peers.dcmtk_tls(*own)) as dcmtk:
        for command, *paths in (("echoscu",), ("storescu", CT)):
            words = (command, "localhost", dcmtk.port, *paths, *options(ward, "scanner", *crl), "--json")
            result = cli.run(*words)
            errors = [one["error"]["code"] for one in result.records if one.get("error")]
            assert set(errors) == ({code} if code else set())
            assert result.exit_code == (11 if code else 0)
        assert len(list(dcmtk.output.iterdir())) == (0 if code else 1)


@pytest.mark.interop
def test_our_receiver_refuses_a_revoked_dcmtk(receiver: peers.OurStorescp, ward: Path) -> None:
    for who, event in (("scanner", "opened"), ("lost", "refused")):
        seen = len(receiver.log)
        own = peers.dcmtk_tls(ward / f"{who}.crt", ward / f"{who}.key", ward / "ward.crt")
        peers.dcmtk("echoscu", "localhost", receiver.port, *own)
        found = receiver.event(event, seen)
        assert found.get("error", {}).get("code") == ("tls.peer-revoked" if event == "refused" else None)


@pytest.mark.interop
def test_a_list_works_alike_in_dcmtk(ward: Path, tmp_path: Path) -> None:
    """The oracle: DCMTK's own `+crl` with the list that gencert made."""
    own = (ward / "pacs.crt", ward / "pacs.key", ward / "ward.crt")
    with peers.dcmtk_storescp(tmp_path, *peers.dcmtk_tls(*own), "+crl", ward / "ward.crl") as dcmtk:
        assert cli.run("echoscu", "localhost", dcmtk.port, *options(ward, "scanner")).exit_code == 0
        result = cli.run("echoscu", "localhost", dcmtk.port, *options(ward, "lost"), "--json")
        assert result.json["error"]["code"] == "tls.refused-revoked"


# ---------------------------------------------------------------------- one receiver, many lists


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder = tmp_path_factory.mktemp("family")
    found: dict[str, Identity] = {}
    for name, issuer in (("ca", ""), ("twin", ""), ("node", "ca"), ("scu", "ca"), ("self", "")):
        subject = "ca" if name == "twin" else name
        found[name] = make_identity(
            folder, name, subject=subject, ca=not issuer and name != "self", issuer=found.get(issuer)
        )
    return found


@pytest.fixture(scope="module")
def node(family: dict[str, Identity], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of our SCP with the certificate `node`, which takes everybody of the CA."""
    own = family["node"]
    words = ("--cert", own.cert, "--key", own.key, "--trust", family["ca"].cert)
    with cli.receiver(tmp_path_factory.mktemp("node"), *words) as running:
        yield running.port


def echo(node: int, family: dict[str, Identity], *words: object, trust: str = "ca") -> str | None:
    """Return the slug with which `echoscu` ends; None for success."""
    own = ("--cert", family["scu"].cert, "--key", family["scu"].key, "--trust", family[trust].cert)
    result = cli.run("echoscu", "localhost", node, "--json", *own, *words)
    if result.exit_code == 0:
        return None
    error = result.json["error"]
    assert error["exit"] == result.exit_code
    assert error["hint"]
    return str(error["code"])


def test_what_a_list_must_be(node: int, family: dict[str, Identity]) -> None:
    ca, own = family["ca"], family["node"]
    lists = {
        "good.crl": (make_crl(Path("good.crl"), ca), None),
        "revoked.der": (make_crl(Path("revoked.der"), ca, own), "tls.peer-revoked"),
        "old.crl": (make_crl(Path("old.crl"), ca, valid=(-9, -1)), "tls.crl-expired"),
        "early.crl": (make_crl(Path("early.crl"), ca, valid=(1, 9)), "tls.crl-not-yet-valid"),
        "forged.crl": (make_crl(Path("forged.crl"), ca, signer=family["twin"]), "tls.crl-unusable"),
        "other.crl": (make_crl(Path("other.crl"), family["scu"]), "tls.crl-missing"),
        "node.crt": (own.cert, "crl.not-a-list"),
        "missing.crl": (Path("missing.crl"), "file.missing"),
    }
    for path, slug in lists.values():
        assert echo(node, family, "--crl", path) == slug, path
    # By the digest alone it is the CA that vouches, and narrowing that to one certificate makes no pin of it.
    assert echo(node, family, "--crl", "old.crl", "--pin", own.fingerprint) == "tls.crl-expired"
    assert echo(node, family, "--crl", "old.crl", "--crl", "good.crl") is None


def test_a_peer_in_the_bundle(node: int, family: dict[str, Identity]) -> None:
    """It needs no list; its CA's list that names it counts, if that CA is trusted too."""
    listed = make_crl(Path("list.crl"), family["ca"], family["node"])
    old = make_crl(Path("old.crl"), family["ca"], valid=(-9, -1))
    assert echo(node, family, "--crl", old, trust="node") is None
    assert echo(node, family, "--crl", old, "--trust", family["node"].cert) is None
    assert echo(node, family, "--crl", listed, "--trust", family["node"].cert) == "tls.peer-revoked"
    assert echo(node, family, "--crl", listed, "--pin", family["node"].cert) == "tls.peer-revoked"


def test_lists_among_the_trusted_certificates(node: int, family: dict[str, Identity]) -> None:
    both = Path("both.pem")
    both.write_text(family["ca"].pem + make_crl(Path("list.crl"), family["ca"], family["node"]).read_text())
    own = ("--cert", family["scu"].cert, "--key", family["scu"].key, "--trust", both)
    result = cli.run("echoscu", "localhost", node, *own)
    assert (result.exit_code, "warning: the trust file `both.pem` also holds" in result.stderr) == (0, True)
    for spelling in ("+crv", "--enable-crl-vfy"):
        result = cli.run("echoscu", "localhost", node, *own, spelling, "--json")
        assert (result.exit_code, result.json["error"]["code"]) == (11, "tls.peer-revoked")
    assert echo(node, family, "+crv") == "usage.no-crl"


@pytest.mark.parametrize("plain", ["--no-tls", "--disable-tls"])
def test_contradictions(plain: str, family: dict[str, Identity]) -> None:
    listed = make_crl(Path("list.crl"), family["ca"])
    for words, slug in (
        ((plain, "--crl", listed), "usage.no-tls-contradiction"),
        ((plain, "+crv"), "usage.no-tls-contradiction"),
        (("-ic", "--crl", listed), "usage.contradiction"),
        (("--crl", listed), "usage.no-trust"),
        (("--crl", ""), "usage.empty-path"),
    ):
        result = cli.run("echoscu", "localhost", "1", "--json", *words)
        assert (result.exit_code, result.json["error"]["code"]) == (2, slug), words


def test_a_name_where_names_are_due(family: dict[str, Identity]) -> None:
    with pytest.raises(UsageError) as caught:
        tls_context(Role.REQUESTOR, TlsOptions(trust=(family["ca"].cert,), crls="list.crl"))  # type: ignore[arg-type]
    assert caught.value.slug == "usage.empty-path"


def test_what_v_says(node: int, family: dict[str, Identity]) -> None:
    listed = make_crl(Path("list.crl"), family["ca"])
    own = ("--cert", family["scu"].cert, "--key", family["scu"].key, "--trust", family["ca"].cert)
    result = cli.run("echoscu", "localhost", node, *own, "--crl", listed, "-v")
    assert "T: the revocation list `list.crl` of `CN=ca` does not name CN=node\n" in result.stderr


def test_a_reload_reads_the_lists_anew(family: dict[str, Identity]) -> None:
    ca, own, scu = family["ca"], family["node"], family["scu"]
    make_crl(Path("list.crl"), ca)
    words = (
        "--cert",
        own.cert,
        "--key",
        own.key,
        "--trust",
        ca.cert,
        "--crl",
        "list.crl",
        "--json",
        "--ignore",
    )
    with storescp(*words) as scp:

        def reload(answer: str) -> None:
            seen = len(scp.err)
            scp.process.send_signal(signal.SIGHUP)
            scp.err.wait_for(answer, seen)

        assert echo(scp.port, family) is None
        make_crl(Path("list.crl"), ca, scu)
        assert echo(scp.port, family) is None, "not before it is told to"
        reload("reloaded certificates")
        assert echo(scp.port, family) == "association.lost"
        assert scp.event("refused")["error"]["code"] == "tls.peer-revoked"
        # What cannot be read does not come into force, and what ends is warned of.
        Path("list.crl").write_text("nonsense")
        reload("nothing was reloaded")
        assert echo(scp.port, family) == "association.lost"
        make_crl(Path("list.crl"), ca, valid=(-9, 1))
        reload("reloaded certificates")
        assert "warning: the revocation list `list.crl` of `CN=ca` is in force until" in scp.err.text
