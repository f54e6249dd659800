"""Headers of PDUs and PDVs: interop.md section 9, rules 1 to 3, and what is not DICOM."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from dicomtls_cli.errors import ProtocolError
from dicomtls_cli.upperlayer.header import (
    OWN_MAXIMUM,
    AbortReason,
    NotDicom,
    PduType,
    data_pdu_header,
    max_fragment,
    parse_pdu_header,
    pdv_header,
)

few = settings(max_examples=50, deadline=None)
odd = st.integers(0, 127).map(lambda n: 2 * n + 1)


@few
@given(odd, st.booleans(), st.booleans(), st.binary(min_size=1, max_size=200))
def test_our_data_pdu_is_pynetdicoms(context_id: int, is_command: bool, is_last: bool, data: bytes) -> None:
    ours = data_pdu_header(context_id, is_command, is_last, len(data)) + data
    primitive = P_DATA()
    control = bytes((is_command | is_last << 1,))
    primitive.presentation_data_value_list.append([context_id, control + data])
    theirs = P_DATA_TF(primitive)
    assert ours == theirs.encode()
    assert parse_pdu_header(ours[:6]) == (PduType.P_DATA, len(data) + 6)
    assert pdv_header(ours[6:12]) == (len(data), context_id, is_command, is_last)


@few
@given(st.binary(min_size=6, max_size=6), st.integers(0, 1 << 32))
def test_arbitrary_headers_raise_protocol_error_only(header: bytes, limit: int) -> None:
    for parse in (lambda: parse_pdu_header(header, limit), lambda: pdv_header(memoryview(header))):
        with contextlib.suppress(ProtocolError):
            parse()


# --- rule 1 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("maximum", "fragment"),
    [
        (0, 131066),  # no limit, and yet not more than 128 KB
        (64, 58),
        (65, 58),
        (66, 60),
        (16384, 16378),  # DCMTK calls this "Max Send PDV: 16372"
        (16383, 16376),
        (131072, 131066),
        (131073, 131066),
        (0xFFFFFFFF, 131066),
    ],
)
def test_fragments_fit_and_are_even(maximum: int, fragment: int) -> None:
    assert max_fragment(maximum) == fragment


def test_our_own_limit_counts_too() -> None:
    assert max_fragment(0, 1000) == max_fragment(5000, 1000) == 994
    assert max_fragment(500, 1000) == 494


@few
@given(st.integers(64, 1 << 32))
def test_the_maximum_counts_the_variable_field(maximum: int) -> None:
    fragment = max_fragment(maximum)
    length = int.from_bytes(data_pdu_header(1, False, True, fragment)[2:6], "big")
    assert length <= min(maximum, OWN_MAXIMUM) < length + 2
    assert fragment % 2 == 0


@pytest.mark.parametrize("maximum", [1, 6, 63])
def test_a_maximum_that_is_of_no_use_is_refused(maximum: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        max_fragment(maximum)
    assert caught.value.abort_reason == AbortReason.INVALID_PARAMETER


# --- rule 3 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", range(256))
def test_only_two_bits_of_the_control_header_count(control: int) -> None:
    header = b"\0\0\0\x0a\x05" + bytes((control,))
    assert pdv_header(header) == (8, 5, bool(control & 1), bool(control & 2))


@pytest.mark.parametrize("length", [0, 1])
def test_a_pdv_holds_at_least_its_own_header(length: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        pdv_header(bytes((0, 0, 0, length, 1, 3)))
    assert caught.value.abort_reason == AbortReason.INVALID_PARAMETER


def test_an_empty_pdv_is_allowed_here_and_counted_elsewhere() -> None:
    assert pdv_header(b"\0\0\0\2\1\2") == (0, 1, False, True)


# --- caps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pdu_type", "length", "limit", "good"),
    [
        (1, 1 << 20, 0, True),
        (1, (1 << 20) + 1, 0, False),
        (2, 0xFFFFFFFF, 0, False),
        (3, 4, 0, True),
        (5, 5, 0, False),
        (6, 0, 0, False),
        (7, 4, 0, True),
        (4, 1000, 1000, True),
        (4, 1001, 1000, False),
        (4, 6, 1000, True),
        (4, 5, 1000, False),  # not even one PDV
        (4, 131072, None, True),
        (4, 131073, None, False),
    ],
)
def test_lengths_are_capped_by_type(pdu_type: int, length: int, limit: int | None, good: bool) -> None:
    header = bytes((pdu_type, 0xFF)) + length.to_bytes(4, "big")  # the second byte is reserved: not tested
    arguments = (header,) if limit is None else (header, limit)
    if good:
        assert parse_pdu_header(*arguments) == (pdu_type, length)
    else:
        with pytest.raises(ProtocolError) as caught:
            parse_pdu_header(*arguments)
        assert caught.value.abort_reason == AbortReason.INVALID_PARAMETER


# --- what is not DICOM -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "protocol"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),  # ClientHello
        (b"\x15\x03\x03\x00\x02\x02", "TLS"),  # alert of a TLS server that got plain DICOM
        (b"HTTP/1.1 400", "HTTP"),
        (b"GET / HTTP", "HTTP"),
        (b"POST /x", "HTTP"),
        (b"SSH-2.0-OpenSSH", "SSH"),
    ],
)
def test_other_protocols_are_named(start: bytes, protocol: str) -> None:
    with pytest.raises(NotDicom, match=f"the peer speaks {protocol}") as caught:
        parse_pdu_header(start[:6])
    assert caught.value.protocol == protocol
    assert caught.value.abort_reason == AbortReason.UNRECOGNISED_PDU
    assert caught.value.slug == f"association.peer-speaks-{protocol.lower()}"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("start", "shown"), [(b"220 ma", "220 ma"), (b"\x00\x01\x02\x03\x04\x05", "00 01 02")]
)
def test_the_unknown_is_shown(start: bytes, shown: str) -> None:
    with pytest.raises(ProtocolError, match=shown) as caught:
        parse_pdu_header(start)
    assert not isinstance(caught.value, NotDicom)
    assert caught.value.abort_reason == AbortReason.UNRECOGNISED_PDU
