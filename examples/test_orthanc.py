"""An interoperability suite against a real Orthanc: `pytest test_orthanc.py`, with dicomtls-cli installed."""

import pytest

from dicomtls_cli import DicomTlsError, echo, send
from dicomtls_cli.testing import Images, Orthanc, Pki


def test_echo_and_store(dicomtls_orthanc: Orthanc, dicomtls_pki: Pki, dicomtls_images: Images) -> None:
    assert echo(dicomtls_orthanc.peer, tls=dicomtls_pki.own_tls).peer.called_aet == "ORTHANC"
    for one in send(dicomtls_orthanc.peer, dicomtls_images(3), tls=dicomtls_pki.own_tls):
        assert one.is_stored, one.error
    assert len(dicomtls_orthanc.instances()) == 3


def test_an_expired_certificate_is_refused(dicomtls_orthanc: Orthanc, dicomtls_pki: Pki) -> None:
    with pytest.raises(DicomTlsError) as caught:
        echo(dicomtls_orthanc.peer, tls=dicomtls_pki.tls(dicomtls_pki.faulty("expired")))
    assert caught.value.slug == "tls.refused-expired"
