from __future__ import annotations

import json
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import InputError, UsageError
from dicomtls_cli.services.orthanc import files
from dicomtls_cli.services.orthanc.check import check
from dicomtls_cli.services.orthanc.configuration import Configuration, Setting, read_configuration
from dicomtls_cli.services.orthanc.dialect import parse, substitute
from dicomtls_cli.services.orthanc.findings import SINCE, Finding, Version, When, parse_version
from dicomtls_cli.services.orthanc.rights import is_hidden_from
from dicomtls_cli.services.orthanc.settings import (
    Modality,
    Wanted,
    environment,
    examine,
    needs,
    render,
    settings,
)
from tests.conftest import Pki
from tests.support.pki import Identity
from tests.support.rights import ordinary_rights


def wanted(pki: Pki, **more: Any) -> Wanted:
    return Wanted(pki.scp.cert, pki.scp.key, pki.trusted, **more)


def codes(findings: list[Finding], when: When | None = None) -> list[str]:
    return [one.code for one in findings if when in (None, one.when)]


def judged(pki: Pki, version: Version | None = None, **keys: object) -> dict[str, When]:
    """Return what is found in a right configuration with these keys changed; None takes one out.

    The worst comes last, and counts where a code is there twice.
    """
    whole = {**settings(wanted(pki)), **keys}
    found = {key: Setting(value, Path("c.json"), 1) for key, value in whole.items() if value is not None}
    said = check(Configuration(found, ()), version=version, probe_ports=False)
    return {one.code: one.when for one in reversed(said)}


# ---------------------------------------------------------------------- what is written


def test_paths_are_absolute_and_nothing_else_is_in_it(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pki.trusted.parent)
    found = settings(Wanted(Path("scp.crt"), Path("scp.key"), Path("trusted.crt")))
    assert found == {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(pki.scp.cert),
        "DicomTlsPrivateKey": str(pki.scp.key),
        "DicomTlsTrustedCertificates": str(pki.trusted),
        "DicomTlsRemoteCertificateRequired": True,
    }
    assert needs(found) == (1, 9, 3)


def test_newer_options_are_written_when_asked_for_only(pki: Pki) -> None:
    found = settings(wanted(pki, minimum="1.3", ciphers=("TLS_AES_128_GCM_SHA256",), aet="A", port=104))
    assert found["DicomTlsMinimumProtocolVersion"] == 5
    assert found["DicomTlsCiphersAccepted"] == ["TLS_AES_128_GCM_SHA256"]
    assert (found["DicomAet"], found["DicomPort"]) == ("A", 104)
    assert needs(found) == (1, 12, 4)
    # Orthanc has no ciphers of its own once a version is chosen.
    assert len(settings(wanted(pki, minimum="1.2"))["DicomTlsCiphersAccepted"]) > 3


def test_modalities_speak_tls(pki: Pki) -> None:
    found = settings(wanted(pki, modalities=(Modality("ct", "CT", "10.0.0.5", 2762),)))
    assert found["DicomModalities"] == {
        "ct": {"AET": "CT", "Host": "10.0.0.5", "Port": 2762, "UseDicomTls": True}
    }


@given(st.dictionaries(st.text(min_size=1), st.text() | st.booleans() | st.integers(0, 65535), max_size=4))
def test_what_is_written_is_what_orthanc_reads(keys: dict[str, Any]) -> None:
    """No value is taken for a variable."""
    text = render(keys).decode()
    assert parse(substitute(text, {"a": "b"}).text).values == json.loads(text) == keys


def from_variable(name: str) -> str:
    """Return the key that the images orthancteam/orthanc make of a variable's name."""
    return "".join(word[0] + word.lower()[1:] for word in name.removeprefix("ORTHANC__").split("_"))


def from_text(text: str) -> Any:
    """Return the value that they make of a variable's text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.parametrize("aet", ["ARCHIVE", "123", "true", "1E5", '"A"', "[A]", "null"])
def test_a_string_stays_one_in_a_variable(aet: str) -> None:
    assert from_text(environment({"DicomAet": aet})["ORTHANC__DICOM_AET"]) == aet


def test_variables_of_the_environment(pki: Pki) -> None:
    keys = settings(
        wanted(pki, minimum="1.2", aet="A", port=104, modalities=(Modality("ct", "CT", "h", 2762),))
    )
    variables = environment(keys)
    assert variables["ORTHANC__DICOM_TLS_ENABLED"] == "true"
    assert variables["ORTHANC__DICOM_TLS_CERTIFICATE"] == str(pki.scp.cert)
    assert set(SINCE) & set(keys) <= {from_variable(name) for name in variables}

    assert {from_variable(name): from_text(text) for name, text in variables.items()} == keys
    assert not any("\n" in text for text in variables.values())


def test_what_would_not_start_is_not_written(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        examine(settings(wanted(pki)._replace(key=pki.scu.key)), tmp_path / "o.json", None)
    assert caught.value.slug == "orthanc.unusable-file"
    assert "does not belong to" in caught.value.message


# ---------------------------------------------------------------------- versions


@pytest.mark.parametrize(("text", "version"), [("1.12.4", (1, 12, 4)), ("1.9", (1, 9, 0))])
def test_a_version(text: str, version: Version) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "1", "v1.12.4", "1.12.4.1", "1.12-rc", "१.२.३", "1.12.4\n"])
def test_no_version(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_version(text)
    assert caught.value.slug == "usage.orthanc-version"


OLD, NEW = (1, 12, 3), (1, 12, 4)
NO_TRUST: dict[str, object] = {"DicomTlsTrustedCertificates": None}
NOT_REQUIRED: dict[str, object] = {"DicomTlsRemoteCertificateRequired": False}


@pytest.mark.parametrize(
    ("version", "keys", "found"),
    [
        (NEW, {}, {}),
        ((1, 8, 2), {}, {"too-old": When.PEER}),
        ((1, 9, 2), {}, {"too-old": When.NOTE}),
        (OLD, NOT_REQUIRED, {"not-required": When.NOTE}),
        (OLD, {**NOT_REQUIRED, **NO_TRUST}, {"not-required": When.NOTE, "file-not-set": When.START}),
        (NEW, {**NOT_REQUIRED, **NO_TRUST}, {"not-required": When.NOTE}),
        (None, {**NOT_REQUIRED, **NO_TRUST}, {"not-required": When.NOTE, "file-not-set": When.START}),
        (OLD, {"DicomTlsMinimumProtocolVersion": 5}, {"too-old": When.NOTE}),
        (OLD, {"DicomTlsMinimumProtocolVersion": "5"}, {"too-old": When.NOTE}),
        (NEW, {"DicomTlsMinimumProtocolVersion": "5"}, {"wrong-kind": When.START}),
        (NEW, {"DicomTlsMinimumProtocolVersion": -1}, {"wrong-kind": When.START}),
        (NEW, {"DicomTlsCiphersAccepted": ["AES128-SHA"]}, {"ciphers": When.START}),
        (NEW, {"DicomTlsCiphersAccepted": ["AES128-SHA"], "DicomTlsMinimumProtocolVersion": 4}, {}),
        (OLD, {"DicomTlsCiphersAccepted": ["AES128-SHA"]}, {"too-old": When.NOTE}),
    ],
)  # fmt: skip
def test_what_depends_on_the_version(
    version: Version | None, keys: dict[str, object], found: dict[str, When], pki: Pki
) -> None:
    ignored = {"peer-expires-soon", "own-expires-soon", "hidden-from-service"}  # of the certificates here
    said = judged(pki, version, **keys)
    assert {code: when for code, when in said.items() if code not in ignored} == found


# ---------------------------------------------------------------------- what the tests with Orthanc leave out


def test_further_findings(pki: Pki, tmp_path: Path) -> None:
    assert judged(pki, DicomServerEnabled=False)["no-listener"] is When.NOTE
    assert judged(pki, DicomAlwaysAllowStore=False)["known-peers-only"] is When.NOTE
    assert judged(pki, DicomAet="A\\B")["ae-title"] is When.PEER
    assert (
        judged(pki, DicomModalitiesInDatabase=True, DicomModalities=[])["modalities-in-database"] is When.NOTE
    )
    assert judged(pki, DicomModalities={"m": {"AET": "M", "Host": "h", "Port": 104, "UseDicomTls": False}})[
        "plain-modality"
    ] is When.NOTE  # fmt: skip
    with_key = tmp_path / "both.pem"
    with_key.write_text(pki.scu.cert.read_text() + pki.scu.key.read_text())
    assert judged(pki, DicomTlsTrustedCertificates=str(with_key))["private-key"] is When.NOTE


def test_ports_that_are_none() -> None:
    found = {"DicomPort": Setting(70000, Path("c"), 1), "HttpPort": Setting(0, Path("c"), 1)}
    assert codes(check(Configuration(found, ())), When.PEER).count("port") == 2


def test_a_relative_path_is_checked_from_here(pki: Pki, tmp_path: Path) -> None:
    (tmp_path / "here.crt").write_bytes(pki.scp.cert.read_bytes())
    assert judged(pki, DicomTlsCertificate="here.crt")["relative-path"] is When.NOTE
    assert judged(pki, DicomTlsCertificate="there.crt")["file-missing"] is When.START


def test_what_a_service_cannot_read(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SERVICE_USER", "nobody")
    assert ("hidden-from-service" in judged(pki)) == is_hidden_from("nobody", pki.scp.key)
    for user, path in (("no-such-user", pki.scp.key), ("nobody", Path("/nowhere")), ("nobody", Path("a\0b"))):
        assert not is_hidden_from(user, path)


def test_what_we_cannot_read(pki: Pki, tmp_path: Path) -> None:
    """Orthanc may be able to."""
    key = tmp_path / "secret.key"
    key.write_bytes(pki.scp.key.read_bytes())
    key.chmod(0)
    with ordinary_rights():
        assert judged(pki, DicomTlsPrivateKey=str(key))["unreadable-here"] is When.NOTE


def test_the_worst_comes_first(pki: Pki) -> None:
    broken = {"DicomPort": "x", "DicomCheckCalledAet": True, "DicomModalities": {"m": ["M", "h", 104]}}
    found = [*judged(pki, **broken).values()][::-1]
    assert len(set(found)) == 3
    assert found == sorted(found, key=[When.START, When.PEER, When.NOTE].index)


# ---------------------------------------------------------------------- reading


def test_a_folder_is_read_as_orthanc_does(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"A": 1}')
    (tmp_path / ".b.JSON").write_text('{"B": "${X:-x}"}')
    (tmp_path / "c.txt").write_text("{{")
    (tmp_path / "d.json").mkdir()
    found = read_configuration(tmp_path, {"X": "y"})
    assert {key: setting.value for key, setting in found.settings.items()} == {"A": 1, "B": "y"}
    assert found.findings == ()
    assert found.settings["A"].where == f"{tmp_path / 'a.json'}:1"


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    assert codes(list(read_configuration(tmp_path, {}).findings)) == ["no-json"]


def test_after_what_cannot_be_read_nothing_is_judged(tmp_path: Path) -> None:
    """The missing half would be blamed."""
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").symlink_to("nowhere")
    (tmp_path / "c.json").write_text('{"DicomPort": "x"}')
    assert codes(check(read_configuration(tmp_path, {}))) == ["json", "file-unreadable"]


def test_a_name_of_any_bytes(tmp_path: Path, pki: Pki) -> None:
    """Orthanc looks at no encoding, and neither do file systems."""
    name = tmp_path / "caf\udce9.crt"
    name.write_bytes(pki.scp.cert.read_bytes())
    config = tmp_path / "c.json"
    config.write_bytes(b'{"DicomTlsCertificate": "%b"}' % bytes(name))
    assert read_configuration(config, {}).settings["DicomTlsCertificate"].value == str(name)


@pytest.mark.parametrize("stem", ["caf\udce9", "café", "💀", "a${b}"])
def test_a_name_that_is_written_is_read_as_the_same_bytes(stem: str, tmp_path: Path) -> None:
    config, name = tmp_path / "c.json", f"/certificates/{stem}.crt"
    config.write_bytes(render({"DicomTlsCertificate": name}))
    assert read_configuration(config, {}).settings["DicomTlsCertificate"].value == name


def test_half_a_character_is_what_it_is_to_orthanc(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(r'{"DicomTlsCertificate": "/caf\udce9.crt"}')
    read = read_configuration(config, {}).settings["DicomTlsCertificate"].value
    assert os.fsencode(read) == b"/caf\xed\xb3\xa9.crt"


def test_own_certificates_fault_is_that_of_the_first(pki: Pki, expired: Identity, tmp_path: Path) -> None:
    """What stands behind it is for the peer to judge."""
    chain = tmp_path / "chain.crt"
    chain.write_text(pki.scp.pem + expired.pem)
    assert "own-expired" not in judged(pki, DicomTlsCertificate=str(chain))


@pytest.fixture
def expired(tmp_path: Path) -> Identity:
    from tests.support.pki import make_identity

    return make_identity(tmp_path, "expired", valid=(-20, -10))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "hidden"),
    [
        ("nobody", "root", 0o400, False),
        ("nobody", "root", 0o044, True),
        ("root", "nobody", 0o640, False),
        ("root", "nobody", 0o604, True),
        ("root", "root", 0o600, True),
        ("root", "root", 0o644, False),
    ],
)
def test_who_may_read_what(owner: str, group: str, mode: int, hidden: bool) -> None:
    """Outside pytest's own folder, which nobody else can enter."""
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "file"
        folder.chmod(0o755)
        path.touch()
        os.chown(path, user.pw_uid if owner == "nobody" else 0, user.pw_gid if group == "nobody" else 0)
        path.chmod(mode)
        assert is_hidden_from("nobody", path) == hidden
        assert not is_hidden_from("root", path)
        folder.chmod(0o700)
        assert is_hidden_from("nobody", path)
