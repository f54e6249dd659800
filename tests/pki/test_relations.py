"""Chains, owners and duplicates, on certificates of `tests.support.specimens` and of a small CA."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dicomtls_cli.pki.holding import Holding, files_of, read_holding
from dicomtls_cli.pki.relations import Relations
from tests.support.pki import Identity, make_identity, write_bundle


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder = tmp_path_factory.mktemp("family")
    root = make_identity(folder, "root", subject="root", ca=True)
    middle = make_identity(folder, "middle", subject="middle", ca=True, issuer=root)
    leaf = make_identity(folder, "leaf", subject="leaf", issuer=middle)
    other = make_identity(folder, "other", subject="other")
    namesake = make_identity(folder, "namesake", subject="root", ca=True)
    return {"root": root, "middle": middle, "leaf": leaf, "other": other, "namesake": namesake}


def bundle(tmp_path: Path, family: dict[str, Identity], *names: str) -> Holding:
    path = tmp_path / ("-".join(names) + ".pem")
    return read_holding(write_bundle(path, *(family[name] for name in names)))


@pytest.mark.parametrize(
    ("names", "one", "in_order", "complete", "wants", "order"),
    [
        ("leaf", True, True, False, "CN=middle", (0,)),
        ("root", True, True, True, "", (0,)),
        ("leaf middle root", True, True, True, "", (0, 1, 2)),
        ("leaf middle", True, True, False, "CN=root", (0, 1)),
        ("middle leaf", True, False, False, "CN=root", (1, 0)),
        ("root middle leaf", True, False, True, "", (2, 1, 0)),
        ("leaf middle leaf root", True, True, True, "", (0, 1, 3)),
        ("leaf root", False, False, False, "", ()),
        ("leaf other", False, False, False, "", ()),
        ("middle namesake", False, False, False, "", ()),
        ("leaf middle namesake root", False, False, False, "", ()),
    ],
)
def test_chains(
    names: str, one: bool, in_order: bool, complete: bool, wants: str, order: tuple[int, ...],
    family: dict[str, Identity], tmp_path: Path,
) -> None:  # fmt: skip
    held = bundle(tmp_path, family, *names.split())
    chain = Relations([held]).chain(held)
    assert chain is not None
    assert chain == (one, in_order, complete, wants, order)
    assert held.duplicates == len(names.split()) - len(set(names.split()))


def test_a_chain_over_several_files(family: dict[str, Identity], tmp_path: Path) -> None:
    parts = [bundle(tmp_path, family, name) for name in ("namesake", "root", "leaf", "middle")]
    relations = Relations(parts)
    above = relations.above(parts[2].certificates[0])
    assert [one.subject for one in above.issuers] == ["CN=middle", "CN=root"]
    assert above.issuers[-1].sha256 == family["root"].fingerprint, (
        "the one that signed, not the one of its name"
    )
    assert above.complete
    assert not Relations(parts[2:]).above(parts[2].certificates[0]).complete


def test_whose_key(family: dict[str, Identity], tmp_path: Path) -> None:
    leaf, other = bundle(tmp_path, family, "leaf"), bundle(tmp_path, family, "other")
    key = read_holding(family["leaf"].key)
    relations = Relations([leaf, other, key])
    assert [source for source, _ in relations.owners(key.keys[0].facts)] == [leaf.source]
    assert [held.source for held, _ in relations.private_keys(leaf.certificates[0].key)] == [key.source]
    assert relations.private_keys(other.certificates[0].key) == []


def test_duplicates_in_other_files(family: dict[str, Identity], tmp_path: Path) -> None:
    one, two = bundle(tmp_path, family, "leaf", "leaf"), bundle(tmp_path, family, "leaf", "other")
    relations = Relations([one, two])
    assert relations.others_with(one.certificates[0], one.source) == [two.source]
    assert relations.others_with(two.certificates[1], two.source) == []


def test_two_that_signed_each_other_are_no_endless_chain(tmp_path: Path) -> None:
    """Cross-signed CAs, without the self-signed certificate of either."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in "ab"}
    now = datetime.now(UTC)
    pems = []
    for own, other in ("ab", "ba"):
        called, signer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (own, other))
        builder = x509.CertificateBuilder(
            signer, called, keys[own].public_key(), 1, now, now + timedelta(days=1)
        )
        pems.append(builder.sign(keys[other], hashes.SHA256()).public_bytes(Encoding.PEM))
    path = tmp_path / "both.pem"
    path.write_bytes(b"".join(pems))
    held = read_holding(path)
    relations = Relations([held])
    for one, other in (held.certificates, held.certificates[::-1]):
        assert relations.above(one) == ((other,), False)


def test_the_files_of_a_folder(family: dict[str, Identity]) -> None:
    folder = family["leaf"].cert.parent
    assert {path.suffix for path in files_of(folder)} == {".crt", ".key"}
    assert files_of(family["leaf"].key) == [family["leaf"].key]
