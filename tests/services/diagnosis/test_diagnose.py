"""From an error to its meaning, where a peer cannot be made to cause it every time."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.services.diagnosis.causes import PROTOCOLS, protocol_of, rejection_hint
from dicomtls_cli.services.diagnosis.diagnose import ClosedAtOnce, Stage, diagnose
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.failures import AssociationTimeout, ConnectionBroken
from dicomtls_cli.upperlayer.stream import PeerClosed


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def meaning(
    error: BaseException, stage: Stage = Stage.TLS, role: Role = Role.REQUESTOR, **seen: Any
) -> DicomTlsError:
    return diagnose(error, role=role, stage=stage, peer="host:1", **seen)


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (PeerClosed("gone"), "closed"),
        (ConnectionResetError(104, "reset"), "reset"),
        (BrokenPipeError(32, "pipe"), "closed"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "closed"),
        (ssl.SSLZeroReturnError(6, "closed"), "closed"),
    ],
)
def test_an_end_without_an_alert_is_no_reason(error: OSError, how: str) -> None:
    """OpenSSL tells of an end as of an error; the handshake was long done."""
    found = meaning(ConnectionBroken(error), Stage.ASSOCIATION)
    assert (found.slug, found.exit_code) == ("association.lost", 21)
    assert found.message == f"`host:1`: the peer {how} the connection before it answered"


@pytest.mark.parametrize(
    ("stage", "option"), [(Stage.ASSOCIATION, "--acse-timeout"), (Stage.DIMSE, "--dimse-timeout")]
)
def test_a_time_out_names_the_option_that_waits_longer(stage: Stage, option: str) -> None:
    assert f"`{option} " in meaning(AssociationTimeout("no answer", 1.0), stage).hint
    assert "-timeout" not in meaning(AssociationTimeout("no answer", 1.0), stage, Role.ACCEPTOR).hint


def test_an_alert_under_an_association_is_the_reason() -> None:
    broken = ConnectionBroken(ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"))
    assert meaning(broken, Stage.ASSOCIATION).slug == "tls.refused-no-certificate"


@pytest.mark.parametrize(
    ("requested", "showed", "slug"),
    [
        (False, False, "tls.no-common"),
        (False, True, "tls.no-common"),
        (True, False, "tls.refused-no-certificate"),
        (True, True, "tls.refused-bad-certificate"),
    ],
)
def test_one_alert_of_tls_1_2_has_three_meanings(requested: bool, showed: bool, slug: str) -> None:
    alert = ssl_error("SSLV3_ALERT_HANDSHAKE_FAILURE")
    assert meaning(alert, requested_certificate=requested, showed_certificate=showed).slug == slug


def test_a_connection_that_is_reset_before_it_stands() -> None:
    assert meaning(ConnectionResetError(104, "reset"), Stage.CONNECT).slug == "peer.closed-at-once"


def test_who_closes_at_once_is_told_from_either_side() -> None:
    assert "it closes the connection" in meaning(ClosedAtOnce()).message
    assert "it connected and closed" in meaning(ClosedAtOnce(), role=Role.ACCEPTOR).message


def test_who_does_not_go_on_is_told_from_either_side() -> None:
    assert "it took the connection, but" in meaning(TimeoutError()).message
    assert "it connected, but" in meaning(TimeoutError(), role=Role.ACCEPTOR).message


def test_the_file_of_our_certificate_is_one_word_of_the_hint() -> None:
    alert = ssl_error("TLSV1_ALERT_UNKNOWN_CA")
    assert "bundle 'my own.crt' --append" in meaning(alert, own_certificate="my own.crt").hint
    assert "bundle OUR.crt --append" in meaning(alert).hint


@pytest.mark.parametrize(
    ("start", "protocol"),
    [
        (b"\x01\0\0\0\0", "plain DICOM"),
        (b"\x07\0\0\0\0", "plain DICOM"),
        (b"\x07\x01\0\0\0", ""),
        (b"\x08\0\0\0\0", ""),
        (b"\x01", ""),
        (b"HTTP/", "HTTP"),
        (b"PRI *", "HTTP"),
        (b"SSH-2", "SSH"),
        (b"\x16\x03\x01\0\0", ""),
        (b"", ""),
    ],
)
def test_what_begins_so(start: bytes, protocol: str) -> None:
    assert protocol_of(start) == protocol
    assert protocol in {*PROTOCOLS, ""}


@pytest.mark.parametrize("start", [b"\x16", b"\x16\x03\x03\0\x04", b"\x15\x03", b"\x17\x03\x03"])
def test_what_begins_like_tls_is_not_called_something_else(start: bytes) -> None:
    found = meaning(ssl_error("UNEXPECTED_MESSAGE"), start=start)
    assert (found.slug, found.exit_code) == ("tls.failed", 13)
    assert "begins like TLS" in found.message
    assert meaning(ssl_error("UNEXPECTED_MESSAGE"), start=b"\x16\x02").slug == "tls.peer-plain"


def test_no_hint_for_a_rejection_is_left_unfilled() -> None:
    for source in range(5):
        for reason in range(11):
            told = rejection_hint(source, reason, called="{ITS}", calling="OURS")
            assert told
            assert "{called}" not in told
            assert "{calling}" not in told
