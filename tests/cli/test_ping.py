"""`dicomtls echoscu` as a ping, as it is typed."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest

from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role
from tests.support import cli
from tests.support.output import Output
from tests.support.server import serving
from tests.support.tty import on_terminal, screen

NUMBER = r"\d+\.\d+"


def acceptor(pki):
    return tls_context(Role.ACCEPTOR, TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,)))


def test_a_line_each_and_statistics(dicomtls, pki) -> None:
    with serving(None, context=acceptor(pki)) as server:
        peer = f"localhost:{server.port}"
        result = dicomtls("echoscu", peer, "--count", 3, "--interval", "1ms", *pki.scu_options)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    phases = rf"\(connect {NUMBER}, TLS {NUMBER}, association {NUMBER}, echo {NUMBER}\)"
    for number in (1, 2, 3):
        assert re.fullmatch(rf"{peer}: seq {number}, {NUMBER} ms {phases}", lines[number - 1])
    assert lines[3] == f"--- {peer}: 3 sent, 3 answered, 0 failed"
    assert lines[4].split() == ["ms", "min", "avg", "max", "stddev"]
    assert [line.split()[0] for line in lines[5:]] == ["total", "connect", "TLS", "association", "echo"]


def test_without_tls_there_is_no_such_phase(dicomtls) -> None:
    with serving(None) as server:
        result = dicomtls("echoscu", "--no-tls", f"127.0.0.1:{server.port}", "--repeat", 1)
    assert "TLS" not in result.stdout


def test_json_lines(dicomtls) -> None:
    with serving(None) as server, socket.create_server(("127.0.0.1", 0)) as gone:
        gone_port = gone.getsockname()[1]
        gone.close()
        words = ("--no-tls", f"127.0.0.1:{server.port}", f"127.0.0.1:{gone_port}")
        result = dicomtls("echoscu", "--json", *words, "--count", 2, "--interval", "1ms")
    assert (result.exit_code, result.stderr) == (10, "")
    *replies, first, second = result.records
    assert sorted((r["peer"], r["sequence"], r["ok"]) for r in replies) == sorted(
        (f"127.0.0.1:{port}", number, ok)
        for port, ok in ((server.port, True), (gone_port, False))
        for number in (1, 2)
    )
    assert {r["error"]["code"] for r in replies if not r["ok"]} == {"peer.connection-refused"}
    assert (first["ok"], first["sent"], first["answered"], first["failed"]) == (True, 2, 2, 0)
    assert set(first["phases"]["total"]) == {"min", "avg", "max", "stddev"}
    assert (second["ok"], second["answered"], second["phases"]) == (False, 0, {})


def test_what_to_do_is_told_once_for_each_cause(dicomtls) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    result = dicomtls("echoscu", "--no-tls", f"127.0.0.1:{port}", "--count", 3, "--interval", "1ms")
    assert (result.exit_code, result.stderr.count("error:"), result.stderr.count("hint:")) == (10, 3, 1)


def test_the_deadline_ends_it(dicomtls) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        result = dicomtls("echoscu", "--no-tls", f"127.0.0.1:{port}", "--deadline", "200ms")
    assert result.exit_code == 10
    assert f"error: `127.0.0.1:{port}` did not answer before the deadline of 0.2 s\n" in result.stderr
    assert "1 sent, 0 answered, 1 failed" in result.stdout


def test_ctrl_c_sums_up(tmp_path) -> None:
    with serving(None) as server:
        words = ["echoscu", "--no-tls", f"127.0.0.1:{server.port}", "--count", "1000", "--interval", "1h"]
        words[-1] = "3600"
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "dicomtls_cli", *words],
            env=cli.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        out = Output(process.stdout)
        out.wait_for("seq 1,")
        process.send_signal(signal.SIGINT)
        out.wait_for("1 sent, 1 answered, 0 failed")
        assert process.wait(cli.LIMIT) == 130
        out.close()


def test_a_live_table_of_several_peers() -> None:
    with serving(None) as server, socket.create_server(("127.0.0.1", 0)) as gone:
        gone_port = gone.getsockname()[1]
        gone.close()
        peers = (f"127.0.0.1:{server.port}", f"127.0.0.1:{gone_port}")
        with on_terminal("echoscu", "--no-tls", *peers, "--count", "3", "--interval", "150ms") as tty:
            assert tty.end() == 10
            assert tty.is_as_before
    shown = tty.screen()
    assert shown[0].split() == ["peer", "sent", "failed", "last", "ms", "avg", "ms", "max", "ms"]
    assert shown[1].split()[:3] == [peers[0], "3", "0"]
    assert shown[2].split() == [peers[1], "3", "3", "-", "-", "-", "peer.connection-refused"]
    assert shown[3].startswith("error: no connection to")  # in full, once, below the table
    assert tty.text.count("peer  ") > 1  # it was drawn as the replies came
    assert "\x1b[?25l" not in tty.text


def test_more_peers_than_rows() -> None:
    """Those that fail stand on top; the rest is counted."""
    with serving(None) as server, socket.create_server(("127.0.0.1", 0)) as gone:
        gone_port = gone.getsockname()[1]
        gone.close()
        peers = [f"127.0.0.1:{server.port}"] * 60 + [f"127.0.0.1:{gone_port}"]
        with on_terminal("echoscu", "--no-tls", *peers, "--count", "1") as tty:
            assert tty.end() == 10
    shown = tty.screen()
    assert shown[1].split()[0] == f"127.0.0.1:{gone_port}"
    assert "and 26 more" in shown, shown[-5:]


def test_below_the_table_the_same_hint_is_given_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        peers = [f"127.0.0.1:{gone.getsockname()[1]}"] * 3
    with on_terminal("echoscu", "--no-tls", *peers, "--count", "1") as tty:
        assert tty.end() == 10
    assert [line[:5] for line in tty.screen()[4:8]] == ["error", "hint:", "error", "error"]


def test_an_interval_of_one_time_is_refused(dicomtls) -> None:
    result = dicomtls("echoscu", "--no-tls", "127.0.0.1:1", "--interval", 1, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.contradiction")


def test_ctrl_c_in_the_live_table() -> None:
    """The terminal writes ^C below the table, which is then drawn once more, whole, at its place."""
    with serving(None) as server:
        peers = [f"127.0.0.1:{server.port}"] * 2
        with on_terminal("echoscu", "--no-tls", *peers, "--count", "9", "--interval", "3600") as tty:
            tty.wait_for("max ms\r\n" + peers[0])
            tty.type("\x03")
            assert tty.end() == 130
            assert tty.is_as_before
    shown = tty.screen()
    assert [line.split()[0] for line in shown if line] == ["peer", *peers]


@pytest.mark.parametrize("columns", [10, 20, 30, 60])
def test_the_table_on_a_narrow_terminal(columns) -> None:
    """Whole columns, as many as there is room for; the peers' names are cut before them."""
    with serving(None) as server:
        peers = [f"127.0.0.1:{server.port}"] * 2
        with on_terminal("echoscu", "--no-tls", *peers, "--count", "1", columns=columns) as tty:
            assert tty.end() == 0
    heading, *rows = screen(tty.text, columns)[:3]
    titles = {
        10: [],
        20: ["failed"],
        30: ["failed", "last", "ms"],
        60: ["failed", "last", "ms", "avg", "ms", "max", "ms"],
    }
    assert heading.split() == ["peer", "sent", *titles[columns]]
    for row in rows:
        assert peers[0].startswith(row.split()[0])
        assert row.split()[1:3] == ["1", "0"][: len(heading.split()) - 1]
        assert len(row) < columns


def test_who_of_several_failed_is_in_the_record(dicomtls) -> None:
    with serving(None) as server, socket.create_server(("127.0.0.1", 0)) as gone:
        gone_port = gone.getsockname()[1]
        gone.close()
        peers = [f"127.0.0.1:{gone_port}", f"127.0.0.1:{server.port}"]
        result = dicomtls("echoscu", "--json", "--no-tls", *peers)
    assert (result.exit_code, result.stderr) == (10, "")
    assert [(record["peer"], record["ok"]) for record in result.records] == [
        (peers[0], False),
        (peers[1], True),
    ]
    assert result.records[0]["error"]["code"] == "peer.connection-refused"
