"""`generate` and `bundle` from Python; what they make is tested where the commands are."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dicomtls_cli import DicomTlsError, Fault, StorageServer, TlsOptions, bundle, echo, generate


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_pair_is_written_and_told(tmp_path: Path) -> None:
    node = generate(
        "pacs", hosts=["pacs.example"], folder=tmp_path, subject="/C=BE/CN=pacs", days=10, key_type="p256"
    )
    assert (node.cert, node.key, node.ca) == (tmp_path / "pacs.crt", tmp_path / "pacs.key", None)
    assert stat.S_IMODE(node.key.stat().st_mode) == 0o600
    made = certificate(node.cert)
    assert made.fingerprint(SHA256()).hex() == node.sha256
    assert made.subject.rfc4514_string() == "CN=pacs,C=BE"
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(names.get_values_for_type(x509.DNSName)) == ["localhost", "pacs.example"]


def test_a_lone_host_is_one(tmp_path: Path) -> None:
    node = generate("pacs", hosts="pacs.example", folder=str(tmp_path), key_type="p256")
    names = certificate(node.cert).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(names.get_values_for_type(x509.DNSName)) == ["localhost", "pacs.example"]


def test_a_key_is_encrypted(tmp_path: Path) -> None:
    node = generate("me", folder=tmp_path, key_type="p256", passphrase=b"sesame")
    assert load_pem_private_key(node.key.read_bytes(), b"sesame")
    with pytest.raises(DicomTlsError) as caught:
        generate("you", folder=tmp_path, passphrase=b"")
    assert caught.value.slug == "usage.invalid-passphrase"


def test_a_ca_signs_and_stays(tmp_path: Path) -> None:
    one = generate("one", folder=tmp_path, ca="hospital", key_type="p256")
    other = generate("other", folder=tmp_path, ca="hospital", key_type="p256")
    assert one.ca == other.ca == tmp_path / "hospital.crt"
    issuers = {certificate(node.cert).issuer for node in (one, other)}
    assert issuers == {certificate(tmp_path / "hospital.crt").subject}
    trusted = bundle(one.ca, tmp_path / "trusted.crt")
    assert len(trusted.certificates) == 1
    tls = [TlsOptions(node.cert, node.key, trust=(tmp_path / "trusted.crt",)) for node in (one, other)]
    with StorageServer(None, tls=tls[0], port=0) as server:
        facts = echo(f"localhost:{server.port}", tls=tls[1]).tls
    assert facts is not None
    assert facts.identified_by == "name"


def test_a_fault_is_made_on_purpose(tmp_path: Path) -> None:
    for fault in (Fault.EXPIRED, "expired"):
        node = generate("late", folder=tmp_path, key_type="p256", fault=fault, force=True)
        assert "faulty: expired" in certificate(node.cert).subject.rfc4514_string()
    with pytest.raises(DicomTlsError) as caught:
        generate("odd", folder=tmp_path, fault="odd")
    assert caught.value.slug == "usage.unknown-word"


@pytest.mark.parametrize("name", ["../me", "me.crt", "", ".me"])
def test_a_name_is_that_of_two_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(DicomTlsError) as caught:
        generate(name, folder=tmp_path)
    assert caught.value.slug == "usage.invalid-name"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unless_it_is_said(tmp_path: Path) -> None:
    node = generate("me", folder=tmp_path, key_type="p256")
    bundle([node.cert], tmp_path / "trusted.crt")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for again in (
        lambda: generate("me", folder=tmp_path, key_type="p256"),
        lambda: bundle([node.cert], tmp_path / "trusted.crt"),
    ):
        with pytest.raises(DicomTlsError) as caught:
            again()
        assert caught.value.slug == "output.exists"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert generate("me", folder=tmp_path, key_type="p256", force=True).sha256 != node.sha256
    assert bundle([node.cert], tmp_path / "trusted.crt", force=True).duplicates == 0


def test_a_bundle_holds_each_certificate_once_and_no_key(tmp_path: Path) -> None:
    node = generate("me", folder=tmp_path, key_type="p256")
    both = tmp_path / "both.pem"
    both.write_bytes(node.cert.read_bytes() + node.key.read_bytes())
    with pytest.raises(DicomTlsError) as caught:
        bundle([both], tmp_path / "trusted.crt")
    assert caught.value.slug == "bundle.private-key"
    found = bundle([both, node.cert], tmp_path / "trusted.crt", strip_keys=True)
    assert [one.sha256 for one in found.certificates] == [node.sha256]
    assert (found.duplicates, found.keys_dropped) == (1, 1)
    with pytest.raises(DicomTlsError) as caught:
        bundle([tmp_path / "trusted.crt"], tmp_path / "trusted.crt", force=True)
    assert caught.value.slug == "output.is-input"
