"""The tables of causes: what a failure of TLS means, in words, and what to do about it. Data, no decisions.

The keys are what OpenSSL reports as reason and verify code (never its text). `{own}` in a hint is the file of our
certificate.
"""

from __future__ import annotations

from typing import NamedTuple

from dicomtls_cli.errors import ExitCode


class Diagnosis(NamedTuple):
    """One row of the tables: stable name, cause, next step, exit code."""

    slug: str
    cause: str
    hint: str
    exit_code: ExitCode


_D = Diagnosis
_UNTRUSTED = ExitCode.PEER_UNTRUSTED
_REFUSED = ExitCode.REFUSED_BY_PEER
_NO_TLS = ExitCode.NO_COMMON_TLS

NOT_TRUSTED = _D(
    "tls.peer-untrusted",
    "its certificate is not trusted here",
    "if the peer is right, give its certificate, or its CA's, with `--trust FILE`",
    _UNTRUSTED,
)
_WEAK = _D(
    "tls.peer-weak",
    "its certificate is too weak",
    "the peer needs one with RSA 2048 or ECC 256, and SHA-256: `dicomtls gencert NAME` makes such",
    _UNTRUSTED,
)
_WRONG_NAME = _D("tls.name-mismatch", "its certificate has another name", "dial a name it has", _UNTRUSTED)

# X509_V_ERR_* of OpenSSL -> what it means for the side that verified.
VERIFY_CODES = {
    9: _D(
        "tls.peer-not-yet-valid", "its certificate is not valid yet", "check both clocks: `date`", _UNTRUSTED
    ),
    10: _D(
        "tls.peer-expired",
        "its certificate has expired",
        "the peer needs a new one (`dicomtls gencert --renew FILE`), which is then trusted here",
        _UNTRUSTED,
    ),
    26: _D(
        "tls.peer-wrong-usage",
        "its certificate is not made for this role (extended key usage)",
        "the peer needs one with serverAuth and clientAuth: `dicomtls gencert NAME` makes such",
        _UNTRUSTED,
    ),
    62: _WRONG_NAME,
    64: _WRONG_NAME,
    66: _WEAK,
    67: _WEAK,
    68: _WEAK,
}

SHOW_ONE = _D(
    "tls.refused-no-certificate",
    "it requires a certificate of ours",
    "give `--cert FILE --key FILE` (`dicomtls gencert NAME` makes both) and have that certificate trusted by "
    "the peer",
    _REFUSED,
)
NO_COMMON = _D(
    "tls.no-common",
    "it shares no TLS version or cipher suite with us",
    "allow TLS 1.2 or 1.3 with ECDHE and AES-GCM on the peer (DCMTK: `+py`, from 3.6.8 on `+pg`; dcm4che: "
    "`--tls-cipher TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`; Orthanc from 1.12.4 on: `DicomTlsCiphersAccepted`)",
    _NO_TLS,
)
PEER_PLAIN = _D(
    "tls.peer-plain",
    "it does not speak TLS on this port",
    "use its TLS port, or `--no-tls` for plain DICOM",
    _NO_TLS,
)
GARBLED = _D(
    "tls.failed",
    "it begins like TLS, and then sends what cannot be followed",
    "see the peer's log; something between may have changed what it sends",
    _NO_TLS,
)
BAD_CERTIFICATE = _D(
    "tls.refused-bad-certificate",
    "it refused our certificate",
    "see the peer's log; `dicomtls bundle --check {own}` says what is wrong with ours",
    _REFUSED,
)
_EXPIRED_HERE = "renew it, and give the new one to the peers: `dicomtls gencert --renew {own}`"
_ANOTHER = "use another one: `--cert FILE --key FILE`"

# `SSLError.reason` -> cause, as the requestor sees it.
REQUESTOR = {
    "TLSV1_ALERT_UNKNOWN_CA": _D(
        "tls.refused-unknown-ca",
        "it does not trust our certificate",
        "have it trusted there: `dicomtls bundle {own} --append -o FILE`, where FILE is the peer's (Orthanc: "
        "`DicomTlsTrustedCertificates`, DCMTK: `+cf`, ours: `--trust`), and restart the peer",
        _REFUSED,
    ),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": SHOW_ONE,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _D(
        "tls.refused-expired", "our certificate has expired", _EXPIRED_HERE, _REFUSED
    ),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _D(
        "tls.refused-revoked", "our certificate is revoked", _ANOTHER, _REFUSED
    ),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _D(
        "tls.refused-wrong-usage",
        "our certificate is not made for this role (extended key usage)",
        "use one with serverAuth and clientAuth: `dicomtls gencert NAME` makes such",
        _REFUSED,
    ),
    "SSLV3_ALERT_BAD_CERTIFICATE": BAD_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": BAD_CERTIFICATE,
    "TLSV1_ALERT_ACCESS_DENIED": BAD_CERTIFICATE,
    "TLSV1_ALERT_DECRYPT_ERROR": BAD_CERTIFICATE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": NO_COMMON,
    "TLSV1_ALERT_PROTOCOL_VERSION": NO_COMMON,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": NO_COMMON,
    "UNSUPPORTED_PROTOCOL": NO_COMMON,
    "NO_SHARED_CIPHER": NO_COMMON,
    "WRONG_VERSION_NUMBER": PEER_PLAIN,
    "WRONG_SSL_VERSION": PEER_PLAIN,
    "UNEXPECTED_MESSAGE": PEER_PLAIN,
    "RECORD_LAYER_FAILURE": PEER_PLAIN,
}

# ... and as the acceptor sees it.
_CLIENT_DISTRUSTS = _D(
    "tls.refused-unknown-ca",
    "it does not trust our certificate",
    "give it the file of `--cert` to trust (Orthanc: `DicomTlsTrustedCertificates`, DCMTK: `+cf`, dcm4che: "
    "`--trust-store`; ours: `--trust`)",
    _REFUSED,
)
ACCEPTOR = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": _D(
        "tls.peer-no-certificate",
        "it showed no certificate",
        "the peer needs one of its own (DCMTK: `+tls KEY CERT`, dcm4che: `--key-store`); `--peer-cert verify` "
        "lets peers without one in",
        _UNTRUSTED,
    ),
    "TLSV1_ALERT_UNKNOWN_CA": _CLIENT_DISTRUSTS,
    "SSLV3_ALERT_BAD_CERTIFICATE": BAD_CERTIFICATE,  # by OpenSSL not valid yet, or of another name
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _CLIENT_DISTRUSTS,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _D(
        "tls.refused-expired", "it says our certificate has expired", _EXPIRED_HERE, _REFUSED
    ),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _D(
        "tls.refused-revoked", "it says our certificate is revoked", _ANOTHER, _REFUSED
    ),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _D(
        "tls.refused-wrong-usage",
        "it says our certificate is of the wrong kind",
        "use one with serverAuth and clientAuth: `dicomtls gencert NAME` makes such",
        _REFUSED,
    ),
    "NO_SHARED_CIPHER": NO_COMMON,
    "UNSUPPORTED_PROTOCOL": NO_COMMON,
    "VERSION_TOO_LOW": NO_COMMON,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": NO_COMMON,
    "WRONG_VERSION_NUMBER": PEER_PLAIN,
    "HTTP_REQUEST": PEER_PLAIN,
    "HTTPS_PROXY_REQUEST": PEER_PLAIN,
}

HUNG_UP = _D(
    "tls.peer-hung-up",
    "it closed the connection during the TLS handshake",
    "see its log for the reason",
    _NO_TLS,
)
CLOSED_AT_ONCE = _D(
    "peer.closed-at-once",
    "it closes the connection before anything is said",
    "what listens there lets nobody in: a load balancer or container without its server, an access list; see "
    "its log",
    ExitCode.UNREACHABLE,
)
CAME_AND_WENT = _D(
    "peer.closed-at-once",
    "it connected and closed without a word",
    "the health check of a load balancer, or a port scanner: nothing to do, if it is meant to be there",
    ExitCode.UNREACHABLE,
)
SILENT = _D(
    "tls.peer-silent",
    "it took the connection, but did not finish the TLS handshake in time",
    "it may be overloaded, serve one peer at a time, or speak another protocol on this port; `--tls-timeout 30` "
    "waits longer",
    ExitCode.UNREACHABLE,
)
STALLED = _D(
    "tls.peer-silent",
    "it connected, but did not finish the TLS handshake in time",
    "it may be overloaded, or have gone without a word; `--tls-timeout 30` waits longer",
    ExitCode.UNREACHABLE,
)

_WEB = "this is a web server's port; DICOM has its own (Orthanc: `DicomPort`, not `HttpPort`)"
_SHELL = "this is not a DICOM port: check host and port"

# What speaks where TLS should -> the next step for a requestor, and for an acceptor.
PROTOCOLS = {
    "plain DICOM": (
        "use its TLS port, or turn TLS on there (Orthanc: `DicomTlsEnabled`, DCMTK: `+tls KEY CERT`); "
        "`--no-tls` sends without protection",
        "turn TLS on in the peer (Orthanc: `UseDicomTls`, DCMTK: `+tls KEY CERT`, dcm4che: `--tls-cipher "
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`), or serve it with `--no-tls`",
    ),
    "HTTP": (
        _WEB,
        "a browser or the health check of a load balancer: nothing to do, if it is meant to be there",
    ),
    "SSH": (_SHELL, "an SSH client: nothing to do, or point it at its own port"),
}

# (source, reason) of an A-ASSOCIATE-RJ (PS3.8 9.3.4) -> what to change; `{called}`, `{calling}`: our AE titles.
_TOO_MANY = "the peer has all the associations it takes; try again later"
_NO_REASON = "see the peer's log for the reason"
REJECTIONS = {
    (1, 2): "the peer takes no DICOM application context: it may be something else than a DICOM node",
    (
        1,
        3,
    ): "the peer does not know the calling AE title `{calling}`; give one it knows with `--aet`, or add it "
    "there (Orthanc: `DicomModalities`)",
    (1, 7): "the peer does not know the called AE title `{called}`; give its own with `--aec` (Orthanc: "
    "`DicomAet`)",
    (2, 2): "the peer speaks another version of the protocol: it may be something else than a DICOM node",
    (3, 1): _TOO_MANY,
    (3, 2): _TOO_MANY,
}


def rejection_hint(source: int, reason: int, *, called: str, calling: str) -> str:
    """Return what to change where a peer rejects an association for `reason` (PS3.8 9.3.4)."""
    return REJECTIONS.get((source, reason), _NO_REASON).format(called=called, calling=calling)


def begins_tls(start: bytes) -> bool:
    """Tell whether `start` begins a record of TLS (RFC 8446 5.1), whatever is in it."""
    return start[:1] in (b"\x14", b"\x15", b"\x16", b"\x17") and start[1:2] in (b"", b"\x03")


def protocol_of(start: bytes) -> str:
    """Return what begins with the bytes `start`, where TLS should: a key of PROTOCOLS, or "" for unknown."""
    if len(start) > 1 and 1 <= start[0] <= 7 and start[1] == 0:  # type of a PDU and its reserved byte
        return "plain DICOM"
    if start.startswith((b"HTTP", b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"PRI ", b"CONN", b"DELE")):
        return "HTTP"
    return "SSH" if start.startswith(b"SSH-") else ""
