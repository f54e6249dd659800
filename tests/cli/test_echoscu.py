"""`dicomtls echoscu` as it is typed: what it prints, how it ends, how peers may be written."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dicomtls_cli.dimse.command import echo_request, encode, response
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.services.receiving.events import Opened
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.codec import decode as decode_pdu
from dicomtls_cli.upperlayer.codec import encode as encode_pdu
from dicomtls_cli.upperlayer.items import ImplementationVersion, MaximumLength
from dicomtls_cli.upperlayer.pdu import AssociateAccept, AssociateRequest, ContextResult
from tests.support import cli
from tests.support.scripted import IMPLICIT, RQ, Scripted, listening, p_data, pdv, reject
from tests.support.server import Events, serving

EVIL = "\x1b]0;owned\x07[bold red]x[/]\x9b2J"
ACTS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # what a terminal acts upon, but for the line feed


@contextmanager
def tls_server(pki) -> Iterator[tuple[int, Events]]:
    context = tls_context(Role.ACCEPTOR, TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,)))
    events = Events()
    with serving(None, events, context=context) as server:
        yield server.port, events


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def rejecting(peer: Scripted) -> None:
    peer.expect(RQ)
    peer.send(reject(1, 1, 7))
    peer.expect_end()


def answering(status: int, comment: str = "", implementation: str = "X"):
    def script(peer: Scripted) -> None:
        asked = decode_pdu(RQ, peer.expect(RQ))
        assert isinstance(asked, AssociateRequest)
        items = (MaximumLength(16384), ImplementationVersion(implementation))
        peer.send(encode_pdu(AssociateAccept("", "", (ContextResult(1, 0, IMPLICIT),), items)))
        peer.expect_message()
        answered = encode(response(echo_request(1), status))
        if comment:
            field = comment.encode("latin-1")
            field += b" " * (len(field) % 2)
            answered = answered[12:] + b"\0\0\x02\x09" + len(field).to_bytes(4, "little") + field
            answered = b"\0\0\0\0\4\0\0\0" + len(answered).to_bytes(4, "little") + answered
        peer.send(p_data(pdv(1, answered, command=True)))
        peer.release()

    return script


# --- what is printed -------------------------------------------------------------------------------------


def test_dcmtks_five_lines_in_order_and_ours_about_tls(pki) -> None:
    with tls_server(pki) as (port, _):
        result = cli.run_process("echoscu", "-v", "-aet", "DCMTK", "localhost", port, *pki.scu_options)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("I: ")] == [
        "I: Requesting Association",
        "I: Association Accepted (Max Send PDV: 131060)",
        "I: Sending Echo Request (MsgID 1)",
        "I: Received Echo Response (Success)",
        "I: Releasing Association",
    ]
    about_tls = [line for line in lines if line.startswith("T: ")]
    assert "T: TLSv1.3, TLS_AES_256_GCM_SHA384" in about_tls
    assert f"T: peer certificate SHA-256 {pki.scp.fingerprint}, identified by pin" in about_tls
    assert len(about_tls) + 5 == len(lines)


def test_the_line_of_a_result(dicomtls, pki) -> None:
    with tls_server(pki) as (port, _):
        result = dicomtls("echoscu", f"localhost:{port}", *pki.scu_options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(
        rf"localhost:{port}: C-ECHO success in \d+\.\d ms, TLSv1\.3 \S+, peer identified by pin, DICOMTLS_\S+\n",
        result.stdout,
    )


def test_json_is_one_record_and_nothing_else(dicomtls, pki) -> None:
    with tls_server(pki) as (port, _):
        result = dicomtls("echoscu", "--json", f"PACS@localhost:{port}", *pki.scu_options)
    (record,) = result.records
    assert record["ok"] is True
    assert (record["peer"], record["called_aet"]) == (f"localhost:{port}", "PACS")
    assert record["tls"]["version"] == "TLSv1.3"
    assert record["tls"]["peer_sha256"] == pki.scp.fingerprint
    assert record["total_seconds"] >= record["seconds"] >= 0
    assert result.stderr == ""


def test_quiet_is_silent(dicomtls) -> None:
    with serving(None) as server:
        assert dicomtls("echoscu", "-q", "--no-tls", f"127.0.0.1:{server.port}").stdout == ""


def test_debug_dumps_the_association(dicomtls) -> None:
    with serving(None) as server:
        result = dicomtls("echoscu", "-d", "--no-tls", f"127.0.0.1:{server.port}")
    assert "D: A-ASSOCIATE-RQ" in result.stderr
    assert "D: A-ASSOCIATE-AC" in result.stderr
    assert "1.2.840.10008.1.1" in result.stderr


# --- how a peer is written -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["127.0.0.1", "{port}"], "ANY-SCP"),
        (["127.0.0.1:{port}"], "ANY-SCP"),
        (["PACS@127.0.0.1:{port}"], "PACS"),
        (["PACS@127.0.0.1", "{port}"], "PACS"),
        (["-c", "PACS@127.0.0.1:{port}"], "PACS"),
        (["--connect", "127.0.0.1:{port}", "-aec", "OTHER"], "OTHER"),
        (["-aec", "PACS", "127.0.0.1", "{port}"], "PACS"),
        (["localhost", "{port}", "-4"], "ANY-SCP"),
    ],
)
def test_every_form_of_a_peer(dicomtls, words, called) -> None:
    events = Events()
    with serving(None, events) as server:
        line = [word.format(port=server.port) for word in words]
        result = dicomtls("echoscu", "--no-tls", "--aet", "ME", *line)
    assert (result.exit_code, result.stderr) == (0, "")
    client = events.wait_for(Opened).client
    assert (client.calling_aet, client.called_aet) == ("ME", called)


def test_ipv6(dicomtls) -> None:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with serving(None, hosts=("::1",)) as server:
        for words in ([f"[::1]:{server.port}"], ["::1", server.port], [f"A@[::1]:{server.port}", "-6"]):
            result = dicomtls("echoscu", "--no-tls", *words)
            assert (result.exit_code, result.stderr) == (0, "")
            assert result.stdout.startswith(f"[::1]:{server.port}: C-ECHO success")
        assert dicomtls("echoscu", "--no-tls", "-4", f"[::1]:{server.port}").exit_code == 10


def test_several_peers_are_told_of_in_their_order_and_the_first_failure_is_the_exit_code(dicomtls) -> None:
    shut = closed_port()
    with serving(None) as server, listening(rejecting) as rejector:
        result = dicomtls(
            "echoscu", "--no-tls", f"127.0.0.1:{server.port}", "127.0.0.1", rejector, f"127.0.0.1:{shut}",
            f"127.0.0.1:{server.port}",
        )  # fmt: skip
    assert result.exit_code == 20
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [f"127.0.0.1:{server.port}"] * 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert [str(rejector) in errors[0], str(shut) in errors[1], len(errors)] == [True, True, 2]


def test_several_peers_in_json(dicomtls) -> None:
    shut = closed_port()
    with serving(None) as server:
        result = dicomtls("echoscu", "--no-tls", "--json", f"127.0.0.1:{shut}", f"127.0.0.1:{server.port}")
    assert result.exit_code == 10
    assert [record["ok"] for record in result.records] == [False, True]
    assert result.records[0]["error"]["code"] == "peer.connection-refused"
    assert result.stderr == ""


# --- how it ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "slug"),
    [
        (rejecting, 20, "association.rejected"),
        (answering(0xA700), 30, "dimse.failure-status"),
        (lambda peer: peer.expect(RQ) and peer.finish(), 21, "association.lost"),
    ],
)
def test_exit_codes(dicomtls, script, code, slug) -> None:
    """The probe that follows a hang-up (does the peer speak TLS?) finds nobody."""
    with listening(script) as port:
        plain = dicomtls("echoscu", "--no-tls", f"127.0.0.1:{port}")
    assert plain.exit_code == code
    assert plain.stdout == ""
    assert [line.split(":")[0] for line in plain.stderr.splitlines()] == ["error", "hint"]
    with listening(script) as port:
        as_json = dicomtls("echoscu", "--no-tls", "--json", f"127.0.0.1:{port}")
    assert as_json.exit_code == code == as_json.json["error"]["exit"]
    assert as_json.json["error"]["code"] == slug
    assert as_json.json["ok"] is False


def test_a_closed_port(dicomtls) -> None:
    result = dicomtls("echoscu", "--no-tls", f"127.0.0.1:{closed_port()}")
    assert result.exit_code == 10
    assert "nothing listens there" in result.stderr


def test_an_unknown_host(dicomtls) -> None:
    result = dicomtls("echoscu", "--no-tls", "--json", "no-such-host.invalid:104")
    assert result.exit_code == 10
    assert result.json["error"]["code"] == "peer.unknown-host"


@pytest.mark.parametrize("options", [["--no-tls", "-ta", "300ms"], ["--tls-timeout", "300ms"]])
def test_a_silent_peer_ends_it_in_time(dicomtls, pki, options) -> None:
    def script(peer: Scripted) -> None:
        while peer.sock.recv(65536):  # until we leave
            pass

    tls = [] if "--no-tls" in options else pki.scu_options
    with listening(script) as port:
        result = dicomtls("echoscu", "--json", f"127.0.0.1:{port}", *options, *tls)
    assert result.json["error"]["code"] == ("tls.peer-silent" if tls else "association.timeout")
    assert result.exit_code == (10 if tls else 21)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        (["--accept-timeout", "100ms", "--release-timeout", "0.2s"], "0.2 s"),
        (["--release-timeout", "150ms"], "0.15 s"),
        (["-ta", "150ms", "--accept-timeout", "0.15s"], "0.15 s"),
    ],
)
def test_dcm4ches_time_outs_for_one_of_ours(dicomtls, options, seconds) -> None:
    """Two of its time-outs are one here: the longer counts, and `-v` says so."""

    def script(peer: Scripted) -> None:
        while peer.sock.recv(65536):
            pass

    with listening(script) as port:
        result = dicomtls("echoscu", "--no-tls", "-v", f"127.0.0.1:{port}", *options)
    assert result.exit_code == 21
    assert seconds in result.stderr
    assert ("the longer one counts" in result.stderr) == (len(options) == 4 and options[0] != "-ta")


@pytest.mark.parametrize(
    "options",
    [
        ["-ta", "5", "--accept-timeout", "6s"],
        ["--dimse-timeout", "5s", "--store-timeout", "6s", "--response-timeout", "5s"],
    ],
)
def test_a_time_out_said_twice(dicomtls, options) -> None:
    result = dicomtls("echoscu", "--json", "h:104", *options)
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.contradiction")


@pytest.mark.parametrize("option", ["--user-rsp", "--user-pass=x", "--store-timeout=5s", "--bind=ME"])
def test_what_only_dcm4che_spells_so_makes_bare_numbers_ambiguous(dicomtls, option) -> None:
    result = dicomtls("echoscu", "--json", "h:104", "--connect-timeout", "5000", "--user", "bob", option)
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.ambiguous-seconds")


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        (["localhost:104", "--aec", "SEVENTEEN-LETTERS"], "usage.ae-title"),
        (["localhost:104", "--aec", "A\\B"], "usage.ae-title"),
        (["localhost:104", "--aec", ""], "usage.ae-title"),
        (["localhost:104", "--aet", "   "], "usage.ae-title"),
        (["localhost:104", "--aet=\x1b[2J"], "usage.ae-title"),
        (["SEVENTEEN-LETTERS@localhost:104"], "usage.ae-title"),
        (["@localhost:104"], "usage.ae-title"),
        (["localhost:0"], "usage.port"),
        (["localhost:70000"], "usage.port"),
        (["localhost", "70000"], "usage.port"),
        (["localhost", "0"], "usage.port"),
        (["localhost:"], "usage.port"),
        (["104"], "usage.peer"),
        ([":104"], "usage.peer"),
        (["[::1"], "usage.peer"),
        (["host name:104"], "usage.peer"),
        ([], "usage.no-peer"),
        (["A@localhost:104", "--aec", "B"], "usage.contradiction"),
    ],
)
def test_words_that_make_no_sense(dicomtls, words, slug) -> None:
    result = dicomtls("echoscu", "--no-tls", "--json", *words)
    assert (result.exit_code, result.json["error"]["code"]) == (2, slug)
    assert result.json["error"]["hint"]


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        (["--aec=-d"], "usage.ae-title"),
        (["--aec", "-PACS"], "usage.ae-title"),
        (["--aec", "-d"], "usage.option-value"),
    ],
)
def test_an_ae_title_with_a_leading_dash_is_a_forgotten_value(dicomtls, words, slug) -> None:
    result = dicomtls("echoscu", "--json", "--no-tls", "localhost:104", *words)
    assert (result.exit_code, result.json["error"]["code"]) == (2, slug)


# --- what a peer may put on our terminal -----------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["-v"], ["-d"], ["--json"], ["--color", "always"]])
def test_a_peers_name_of_itself_does_nothing_to_the_terminal(dicomtls, more) -> None:
    with listening(answering(0, implementation=EVIL[:16])) as port:
        result = dicomtls("echoscu", "--no-tls", *more, f"127.0.0.1:{port}")
    assert result.exit_code == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout + result.stderr)  # our own colours
    assert not ACTS.search(shown)
    if "--json" not in more:
        assert "owned" in shown


@pytest.mark.parametrize("more", [[], ["-v"], ["-d"], ["--json"]])
def test_a_peers_error_comment_does_nothing_to_the_terminal(dicomtls, more) -> None:
    with listening(answering(0xA700, comment=EVIL)) as port:
        result = dicomtls("echoscu", "--no-tls", *more, f"127.0.0.1:{port}")
    assert result.exit_code == 30
    told = result.stdout + result.stderr
    assert not ACTS.search(told)
    assert "[bold red]x[/]" in told  # shown, not obeyed
    if more == ["--json"]:
        assert not ACTS.search(json.loads(result.stdout)["error"]["message"])
