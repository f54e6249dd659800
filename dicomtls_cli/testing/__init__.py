"""A pytest plugin for tests of DICOM over TLS (docs/testing.md): certificates, a receiver, an Orthanc, images.

It does nothing until a test asks for one of its fixtures; what these need is imported then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import pytest
except ImportError as error:
    raise ImportError("dicomtls_cli.testing is a plugin of pytest: `pip install pytest`") from error

if TYPE_CHECKING:
    from dicomtls_cli.testing.orthanc import Orthanc
    from dicomtls_cli.testing.pki import Pki
    from dicomtls_cli.testing.receiver import Receiver

__all__ = ["Images", "Orthanc", "Pki", "Receiver"]

Images = Callable[[int], list[Path]]
"""What `dicomtls_images` is: it writes so many images and returns their paths."""


def __getattr__(name: str) -> Any:
    if name == "Orthanc":
        from dicomtls_cli.testing.orthanc import Orthanc

        return Orthanc
    if name == "Pki":
        from dicomtls_cli.testing.pki import Pki

        return Pki
    if name == "Receiver":
        from dicomtls_cli.testing.receiver import Receiver

        return Receiver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@pytest.fixture(scope="session")
def dicomtls_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Make throw-away certificates: `own` and `peer`, the bundle `trusted`, a `stranger`, and faulty ones."""
    from dicomtls_cli.testing.pki import Pki

    return Pki(tmp_path_factory.mktemp("dicomtls-pki"))


@pytest.fixture
def dicomtls_images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Return a function that writes so many test images, CT slices of one study of no person."""

    def write(count: int) -> list[Path]:
        from dicomtls_cli.services.files.images import write_test_images

        return write_test_images(tmp_path_factory.mktemp("dicomtls-images"), count)

    return write


@pytest.fixture
def dicomtls_storescp(dicomtls_pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Run a receiver of ours on loopback with the certificate of the peer; it requires a trusted one."""
    from dicomtls_cli.testing.receiver import receiver

    with receiver(tmp_path_factory.mktemp("dicomtls-storescp"), dicomtls_pki.peer_tls) as running:
        yield running


@pytest.fixture
def dicomtls_orthanc_options() -> Mapping[str, object]:
    """Return what the configuration of `dicomtls_orthanc` has beside the usual: override it to add options."""
    return {}


@pytest.fixture
def dicomtls_orthanc(
    request: pytest.FixtureRequest,
    dicomtls_orthanc_options: Mapping[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Orthanc]:
    """Run an Orthanc on loopback with the certificate of the peer; it requires a trusted one.

    Skips the test where Orthanc is not installed; fails it there if DICOMTLS_REQUIRE_PEERS is set.
    """
    from dicomtls_cli.testing.orthanc import REQUIRED, absence, is_required, orthanc

    if missing := absence():
        if is_required():
            pytest.fail(f"{missing}, and {REQUIRED} is set")
        pytest.skip(missing)
    pki: Pki = request.getfixturevalue("dicomtls_pki")  # only now: nothing is made for a test that is skipped
    folder = tmp_path_factory.mktemp("dicomtls-orthanc")
    with orthanc(folder, pki.peer_tls, dicomtls_orthanc_options) as running:
        yield running
