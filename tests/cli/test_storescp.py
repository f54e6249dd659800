"""`dicomtls storescp` as a process of its own: how it starts, what it tells, how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
from pathlib import Path

import pydicom
import pytest

from dicomtls_cli.dimse.command import decode, encode, store_request
from dicomtls_cli.upperlayer.codec import encode as encode_pdu
from tests.support import cli
from tests.support.objects import data_set
from tests.support.receiver import storescp, until_nobody_listens
from tests.support.scripted import CT, RJ, p_data, pdv
from tests.support.server import ASKED, STORE, Client, echoes

ACTS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def files(directory: str = "output") -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file())


# --- how it starts ---------------------------------------------------------------------------------------


def test_the_ready_file_tells_where_it_listens() -> None:
    with storescp() as scp:
        assert scp.ready["pid"] == scp.process.pid
        assert scp.ready["port"] > 0
        assert scp.ready["addresses"][0] == "127.0.0.1"
        assert set(scp.ready["addresses"]) <= {"127.0.0.1", "::1"}  # plain DICOM stays on this machine
        assert echoes(scp.port)
        assert [path.name for path in Path().iterdir() if "ready" in path.name] == ["ready.json"]


def test_who_finds_the_ready_file_may_send_signals(dicomtls, monkeypatch) -> None:
    def write(*_: object) -> None:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("dicomtls_cli.cli.storescp._write_ready_file", write)
    assert dicomtls("storescp", "--no-tls", "--port", "0", "--ignore", "--ready-file", "x").exit_code == 0


@pytest.mark.parametrize(
    "place", [("0",), ("--bind", "0"), ("-b", "ME:0"), ("0", "--port", "0")], ids=" ".join
)
def test_port_0_is_a_free_one(place) -> None:
    with storescp("--ignore", place=place) as scp:
        assert scp.port > 0
        if place[0] != "-b":  # who writes its AE title there takes no other
            assert echoes(scp.port)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0"])
def test_bind(host) -> None:
    if host == "::1":
        try:
            with socket.socket(socket.AF_INET6) as sock:
                sock.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    with storescp("--bind", host) as scp:
        addresses = scp.ready["addresses"]
        assert host in addresses or host == "localhost"
        assert len(addresses) == 1 or host == "localhost"
        socket.create_connection((addresses[0].replace("0.0.0.0", "127.0.0.1"), scp.port)).close()


def test_a_port_that_is_taken(dicomtls) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = dicomtls("storescp", "--no-tls", "--json", "--bind", "127.0.0.1", port, "--ignore")
    assert (result.exit_code, result.json["error"]["code"]) == (5, "listen.failed")
    assert str(port) in result.json["error"]["message"]


@pytest.mark.parametrize(
    ("words", "code", "slug"),
    [
        (["--output", "file"], 4, "output.directory"),
        (["--output", "file/below"], 4, "output.directory"),
        (["--ignore", "--output", "x"], 2, "usage.contradiction"),
        (["--ignore", "00"], 2, "usage.port"),
        (["--ignore", "70000"], 2, "usage.port"),
        (["--ignore", "--port", "70000"], 2, "usage.port"),
        (["--ignore", "--port", "1", "2"], 2, "usage.contradiction"),
        (["--ignore", "--port", "0", "--ready-file", "no/such/folder/file"], 4, "output.no-directory"),
        (["--ignore", "--port", "0", "--bind", "192.0.2.1"], 5, "listen.failed"),
        (["--ignore", "--port", "0", "--bind", "no-such-host.invalid"], 5, "listen.unknown-address"),
    ],
)
def test_a_start_that_cannot_be(words, code, slug) -> None:
    Path("file").write_text("")
    result = cli.run_process("storescp", "--no-tls", "--json", *words)
    assert (result.exit_code, result.json["error"]["code"]) == (code, slug)
    assert Path("file").read_text() == ""


# --- what it stores and tells ----------------------------------------------------------------------------


def test_a_stored_instance_is_told_of() -> None:
    with storescp("--json") as scp, Client(scp.port).associate() as client:
        assert client.store().status == 0
        client.end()
        received, closed = scp.event("received"), scp.event("closed")
    assert received["ok"] is True
    assert (received["status"], received["path"]) == ("0000", "output/1.2.9/1.2.3.dcm")
    assert (received["sop_class"], received["sop_instance"]) == (CT, "1.2.3")
    assert received["bytes"] == len(data_set())
    assert (received["calling_aet"], received["called_aet"], received["tls"]) == ("SCU", "SCP", None)
    assert (closed["instances"], closed["error"]) == (1, None)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$", received["time"])
    assert pydicom.dcmread("output/1.2.9/1.2.3.dcm").SOPInstanceUID == "1.2.3"


def test_what_is_ignored_is_not_stored() -> None:
    with storescp("--json", "--ignore") as scp, Client(scp.port).associate() as client:
        assert client.store().status == 0
        client.end()
        received = scp.event("received")
        assert (received["ok"], received["path"], received["bytes"]) == (True, None, len(data_set()))
    assert list(Path().rglob("*.dcm")) == []
    assert not Path(".incoming").exists()


def test_dcmtks_lines() -> None:
    with storescp("-v") as scp, Client(scp.port).associate() as client:
        client.store()
        client.end()
        scp.err.wait_for("Association Release")
    assert [line for line in scp.err.lines() if line.startswith("I: ")] == [
        "I: Association Received",
        "I: Association Acknowledged (Max Send PDV: 16372)",
        "I: Received Store Request (MsgID 1, CT)",
        "I: storing DICOM file: output/1.2.9/1.2.3.dcm",
        "I: Association Release",
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_peers_strings_do_nothing_to_the_terminal(as_json) -> None:
    asked = bytearray(encode_pdu(ASKED))
    asked[26:42] = b"\x1b]0;owned\x07[bold]"
    with storescp("-d", *(["--json"] if as_json else [])) as scp:
        with Client(scp.port) as client:
            client.send(bytes(asked))
            assert tuple(client.expect(RJ)[1:]) == (1, 1, 3)
            client.expect_end()
        scp.out.wait_for("owned")
        with Client(scp.port).associate() as client:
            command = encode(store_request(1, CT, "1.2\x1b[2J\r\n\x07"))
            client.send(p_data(pdv(STORE, command, command=True), pdv(STORE, data_set())))
            assert decode(client.expect_message()[1]).status == 0x0117
            client.end()
        scp.out.wait_for("1.2")
        scp.process.terminate()
        assert scp.ends_with() == 0
    assert not ACTS.search(scp.out.text + scp.err.text)


def test_a_full_disk_is_a700_and_the_association_lives() -> None:
    """Files may have 100 KB: the kernel refuses the rest (EFBIG), as a full disk does."""

    with (
        storescp("--json", limits={resource.RLIMIT_FSIZE: (100_000, 100_000)}) as scp,
        Client(scp.port).associate() as client,
    ):
        for number, size in enumerate((50_000, 500_000, 50_000, 200_000), 1):
            uid = f"1.2.{number}"
            client.send(p_data(pdv(STORE, encode(store_request(number, CT, uid)), command=True)))
            data = data_set(uid, pixels=bytes(size))
            for start in range(0, len(data), 10_000):
                piece = data[start : start + 10_000]
                client.send(p_data(pdv(STORE, piece, last=start + 10_000 >= len(data))))
            assert decode(client.expect_message()[1]).status == (0 if size < 100_000 else 0xA700)
        client.end()
    assert files() == ["1.2.9/1.2.1.dcm", "1.2.9/1.2.3.dcm"]


# --- how it ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number) -> None:
    with storescp() as scp, Client(scp.port):  # one is connected, and says nothing
        scp.process.send_signal(number)
        assert scp.ends_with() == 0
    assert scp.err.lines()[1:] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_transfer_in_flight_is_finished_first(number) -> None:
    with storescp("--json") as scp, Client(scp.port).associate() as client:
        rest = client.begin_store()
        scp.process.send_signal(number)
        until_nobody_listens(scp.port)
        assert client.end_store(rest).status == 0
        client.end()
        assert scp.ends_with() == 0
        assert scp.event("closed")["error"] is None
    assert files() == ["1.2.9/1.2.3.dcm"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once_and_leaves_nothing_half_written(number, code) -> None:
    with storescp() as scp, Client(scp.port).associate() as client:
        client.begin_store()
        scp.process.send_signal(number)
        until_nobody_listens(scp.port)
        scp.process.send_signal(number)
        assert scp.ends_with() == code
        assert "Traceback" not in scp.err.text
        assert files() == []


def parts_of(process: int) -> list[str]:
    """Return what the process has begun to write in `.incoming`, its files without a name among them."""
    found = []
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was just closed
            path = descriptor.readlink()
            if path.parent.name == ".incoming" and descriptor.stat().st_size:
                found.append(f".incoming/{path.name}")
    return found


def test_kill_9_in_mid_object_leaves_nothing_outside_incoming_and_the_next_start_cleans_up() -> None:
    with storescp() as scp, Client(scp.port).associate() as client:
        assert client.store(1, "1.2.4").status == 0
        client.begin_store(2)
        while not (parts := parts_of(scp.process.pid)):
            os.sched_yield()
        scp.process.kill()
        scp.ends_with()
    # Where the file system has files without a name, nothing is left at all.
    assert files() == [*(part for part in parts if Path("output", part).exists()), "1.2.9/1.2.4.dcm"]
    with storescp() as scp:
        assert files() == ["1.2.9/1.2.4.dcm"]
        assert echoes(scp.port)
