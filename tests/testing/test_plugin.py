"""The plugin of pytest, in runs of pytest of their own: what it does, and that it does nothing unasked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.cli import LIMIT, environment

ROOT = Path(__file__).parents[2]
PLUGIN = ("-p", "dicomtls_cli.testing")
FIXTURES = {
    "dicomtls_images", "dicomtls_orthanc", "dicomtls_orthanc_options", "dicomtls_pki", "dicomtls_storescp",
}  # fmt: skip


def run(suite: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `suite` in this test's folder, with the checkout on the path and no plugin but those named."""
    Path("test_suite.py").write_text(suite)
    env = {**environment(), "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


# ---------------------------------------------------------------------- unasked


def test_it_loads_nothing_but_itself() -> None:
    done = python("import json, sys, dicomtls_cli.testing; print(json.dumps(sorted(sys.modules)))")
    ours = {name for name in json.loads(done.stdout) if name.partition(".")[0] == "dicomtls_cli"}
    assert ours == {"dicomtls_cli", "dicomtls_cli.testing"}
    assert not set(json.loads(done.stdout)) & {"cryptography", "pydicom", "pynetdicom", "click"}


def test_a_test_that_asks_for_nothing_gets_nothing() -> None:
    """No fixture works of its own accord, and every name has the prefix."""
    listed = run("def test_nothing(): pass\n", *PLUGIN, "--fixtures").stdout
    ours = listed.partition("fixtures defined from dicomtls_cli.testing")[2].partition("\n---")[0]
    assert set(re.findall(r"^(\w+).* -- ", ours.partition("\n")[2], flags=re.M)) == FIXTURES
    planned = run("def test_nothing(): pass\n", *PLUGIN, "--setup-plan").stdout
    assert "1 passed" in planned or "no tests ran" in planned
    assert "SETUP" not in planned
    assert "SETUP" in run("def test_it(dicomtls_pki): pass\n", *PLUGIN, "--setup-plan").stdout


def test_it_is_registered_by_the_name_of_its_module() -> None:
    found = [one for one in entry_points(group="pytest11") if one.value == "dicomtls_cli.testing"]
    if not found:
        pytest.skip("this is run from a checkout that is not installed")
    assert {one.name for one in found} == {"dicomtls_cli.testing"}


def test_it_bears_to_be_named_twice_and_to_be_turned_off() -> None:
    suite = "pytest_plugins = ['dicomtls_cli.testing']\ndef test_it(dicomtls_images): pass\n"
    assert "1 passed" in run(suite, *PLUGIN, *PLUGIN, PYTEST_DISABLE_PLUGIN_AUTOLOAD="").stdout
    asking = "def test_it(dicomtls_images): pass\n"
    off = run(asking, "-p", "no:dicomtls_cli.testing", PYTEST_DISABLE_PLUGIN_AUTOLOAD="")
    assert "fixture 'dicomtls_images' not found" in off.stdout


def test_it_says_what_it_lacks() -> None:
    done = python("import sys; sys.modules['pytest'] = None; import dicomtls_cli.testing")
    assert done.stderr.splitlines()[-1] == (
        "ImportError: dicomtls_cli.testing is a plugin of pytest: `pip install pytest`"
    )


def test_it_has_no_other_names() -> None:
    import dicomtls_cli.testing as plugin

    assert {getattr(plugin, name).__name__ for name in plugin.__all__ if name != "Images"} == {
        "Orthanc", "Pki", "Receiver",
    }  # fmt: skip
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        plugin.no_such_name  # noqa: B018


# ---------------------------------------------------------------------- certificates, receiver, images

OURS = """
import pytest
from pathlib import Path
from dicomtls_cli import DicomTlsError, Fault, Received, Refused, bundle, echo, send


def refusal(receiver, tls):
    with pytest.raises(DicomTlsError) as caught:
        echo(receiver.peer, tls=tls)
    return caught.value.slug, receiver.wait_for(Refused)[0].error.slug


def test_who_is_trusted_comes_in(dicomtls_storescp, dicomtls_pki):
    for node in (dicomtls_pki.own, dicomtls_pki.peer, dicomtls_pki.signed):
        assert echo(dicomtls_storescp.peer, tls=dicomtls_pki.tls(node)).tls.identified_by == "pin"
    assert not dicomtls_storescp.files(0)


def test_a_stranger_does_not(dicomtls_storescp, dicomtls_pki):
    found = refusal(dicomtls_storescp, dicomtls_pki.tls(dicomtls_pki.stranger))
    assert found == ("tls.refused-unknown-ca", "tls.peer-untrusted")


@pytest.mark.parametrize(("fault", "refused", "reason"), [
    ("expired", "tls.refused-expired", "tls.peer-expired"),
    ("not-yet-valid", "tls.refused-bad-certificate", "tls.peer-not-yet-valid"),
    ("wrong-eku", "tls.refused-wrong-usage", "tls.peer-wrong-usage"),
    ("corrupt-signature", "tls.refused-bad-certificate", "tls.peer-untrusted"),
])
def test_a_fault_is_the_reason(fault, refused, reason, dicomtls_storescp, dicomtls_pki):
    assert refusal(dicomtls_storescp, dicomtls_pki.tls(dicomtls_pki.faulty(fault))) == (refused, reason)


def test_a_faulty_node_is_made_once(dicomtls_pki):
    assert dicomtls_pki.faulty("ca-true") is dicomtls_pki.faulty(Fault.CA_TRUE)


def test_images_arrive(dicomtls_storescp, dicomtls_pki, dicomtls_images):
    images = dicomtls_images(3)
    assert len(images) == len(set(images + dicomtls_images(2))) - 2 == 3
    assert all(one.is_stored for one in send(dicomtls_storescp.peer, images, tls=dicomtls_pki.own_tls))
    stored = dicomtls_storescp.files(3)
    assert [path.is_relative_to(dicomtls_storescp.folder) for path in stored] == [True] * 3
    assert [event.client.calling_aet for event in dicomtls_storescp.wait_for(Received)] == ["DICOMTLS"]


def test_what_does_not_come_is_not_waited_for_in_vain(dicomtls_storescp):
    with pytest.raises(AssertionError, match=r"0 of 2 Received came within 0.01 s: \\[\\]"):
        dicomtls_storescp.files(2, seconds=0.01)
"""


def test_certificates_receiver_and_images() -> None:
    done = run(OURS, *PLUGIN)
    assert "9 passed" in done.stdout, done.stdout


# ---------------------------------------------------------------------- Orthanc

ORTHANC = """
import pytest
from urllib.error import HTTPError
from dicomtls_cli import DicomTlsError, TlsOptions, echo, send


@pytest.fixture
def dicomtls_orthanc_options():
    return {"DicomCheckCalledAet": True}


def test_it_stores(dicomtls_orthanc, dicomtls_pki, dicomtls_images):
    for one in send(dicomtls_orthanc.peer, dicomtls_images(2), tls=dicomtls_pki.own_tls):
        assert one.is_stored, one.error
    assert dicomtls_orthanc.get("/statistics")["CountInstances"] == len(dicomtls_orthanc.instances()) == 2
    assert "Association Received from AET DICOMTLS" in dicomtls_orthanc.log


def test_it_has_the_options(dicomtls_orthanc, dicomtls_pki):
    assert dicomtls_orthanc.instances() == [], "each test has its own"
    with pytest.raises(DicomTlsError) as caught:
        echo(f"SOMEBODY@localhost:{dicomtls_orthanc.dicom_port}", tls=dicomtls_pki.own_tls)
    assert caught.value.slug == "association.rejected"


def test_it_requires_a_certificate_that_is_trusted(dicomtls_orthanc, dicomtls_pki):
    for tls, slug in (
        (TlsOptions(trust=(dicomtls_pki.trusted,)), "tls.refused-no-certificate"),
        (dicomtls_pki.tls(dicomtls_pki.stranger), "tls.refused-unknown-ca"),
        (dicomtls_pki.tls(dicomtls_pki.faulty("expired")), "tls.refused-expired"),
    ):
        with pytest.raises(DicomTlsError) as caught:
            echo(dicomtls_orthanc.peer, tls=tls)
        assert caught.value.slug == slug


def test_it_sends(dicomtls_orthanc, dicomtls_storescp, dicomtls_images):
    dicomtls_orthanc.add_modality("us", dicomtls_storescp.port, aet="US")
    instances = [dicomtls_orthanc.upload(path) for path in dicomtls_images(2)]
    dicomtls_orthanc.post("/modalities/us/store", instances)
    assert len(dicomtls_storescp.files(2)) == 2
    with pytest.raises(HTTPError):
        dicomtls_orthanc.post("/modalities/nobody/store", instances)
"""


@pytest.mark.interop
def test_an_orthanc() -> None:
    peers.need(peers.ORTHANC)
    done = run(ORTHANC, *PLUGIN, HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1")
    assert "4 passed" in done.stdout, done.stdout


def test_no_orthanc_is_a_skipped_test_unless_it_is_required() -> None:
    suite = "def test_it(dicomtls_orthanc): pass\n"
    nowhere = {"DICOMTLS_ORTHANC": "/no/such/Orthanc"}
    reason = "Orthanc is not there: DICOMTLS_ORTHANC names `/no/such/Orthanc`"
    done = run(suite, *PLUGIN, "-rs", **nowhere, DICOMTLS_REQUIRE_PEERS="")
    assert (done.returncode, reason in done.stdout, "1 skipped" in done.stdout) == (0, True, True), (
        done.stdout
    )
    done = run(suite, *PLUGIN, DICOMTLS_REQUIRE_PEERS="1", **nowhere)
    assert done.returncode == 1
    assert f"{reason}, and DICOMTLS_REQUIRE_PEERS is set" in done.stdout


def test_an_orthanc_that_does_not_start_says_why(tmp_path: Path) -> None:
    program = tmp_path / "Orthanc"
    program.write_text("#!/bin/sh\necho something is wrong with $2\nexit 1\n")
    program.chmod(0o755)
    done = run("def test_it(dicomtls_orthanc): pass\n", *PLUGIN, DICOMTLS_ORTHANC=str(program))
    assert done.returncode == 1
    assert re.search(
        r"RuntimeError: Orthanc does not start:\nE +something is wrong with \S+configuration.json",
        done.stdout,
    )
