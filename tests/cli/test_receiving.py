"""`dicomtls storescp` with what it does to instances: names, duplicates, commands, faults, figures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import socket
import struct
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicomtls_cli.dimse.command import decode, encode, store_request
from dicomtls_cli.upperlayer.codec import encode as encode_pdu
from dicomtls_cli.upperlayer.items import MaximumLength
from tests.support import cli
from tests.support.disk import tiny_disk
from tests.support.names import HOSTILE, is_harmless
from tests.support.objects import data_set, element
from tests.support.scripted import (
    ABORT,
    AC,
    CT,
    EXPLICIT,
    IMPLICIT,
    RJ,
    VERIFICATION,
    p_data,
    pdv,
    request,
)
from tests.support.server import ASKED, STORE, Client, echoes

LIMIT = 30.0


@dataclass
class Scp:
    """A running plain storescp, which writes a log at info level."""

    receiver: cli.Receiver
    log_file: Path

    @property
    def port(self) -> int:
        return self.receiver.port

    @property
    def output(self) -> Path:
        return self.receiver.output

    def event(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Return the `count`th event of its kind, once it was told."""
        never = threading.Event()
        for _ in range(int(LIMIT / 0.01)):
            found = [event for event in self.receiver.events() if event["event"] == kind]
            if len(found) >= count:
                event: dict[str, Any] = found[count - 1]
                return event
            never.wait(0.01)
        raise AssertionError(f"no {kind} in {self.receiver.events()}")

    def end(self) -> int:
        """Ask it to end, in order, and return its exit code."""
        self.receiver.process.terminate()
        return self.receiver.process.wait(LIMIT)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.output)) for p in self.output.rglob("*") if p.is_file())


@contextlib.contextmanager
def storescp(*words: object, folder: Path | None = None) -> Iterator[Scp]:
    where = folder or Path.cwd() / "scp"
    log = Path.cwd() / "log"
    with cli.receiver(where, "--no-tls", "--log-file", log, *words) as running:
        yield Scp(running, log)


def send(client: Client, data: bytes, uid: str = "1.2.3", number: int = 1) -> int:
    """Store `data` and return the status of the answer."""
    client.send(p_data(pdv(STORE, encode(store_request(number, CT, uid)), command=True)))
    for start in range(0, max(1, len(data)), 10_000):
        client.send(p_data(pdv(STORE, data[start : start + 10_000], last=start + 10_000 >= len(data))))
    status = decode(client.expect_message()[1]).status
    assert status is not None
    return status


def script(text: str, name: str = "hook") -> Path:
    path = Path(name).absolute()
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# --- words that cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        (["--layout", "../{SOPInstanceUID}"], "usage.layout"),
        (["--layout", "{PatientID}", "-su", "x"], "usage.contradiction"),
        (["-su", "x", "-sp"], "usage.contradiction"),
        (["-uf", "+uf"], "usage.contradiction"),
        (["-su", "../x"], "usage.layout"),
        (["-fe", "/x"], "usage.layout"),
        (["--accept-ts", "JPEG2000Losless"], "usage.transfer-syntax"),
        (["--exec", "echo {path} | mail"], "usage.hook"),
        (["--exec-study", "echo {path}"], "usage.hook"),
        (["--exec", "no-such-program-here"], "usage.hook-program"),
        (["-tos", "5"], "usage.contradiction"),
        (["-tos", "5", "--exec", "echo"], "usage.contradiction"),
        (["-xs"], "usage.contradiction"),
        (["--exec-timeout", "5"], "usage.contradiction"),
        (["--abort-on", "2"], "usage.contradiction"),
        (["--delay", "1", "--response-delay", "1s"], "usage.contradiction"),
        (["--ignore", "--fsync"], "usage.contradiction"),
        (["--ignore", "-su", ""], None),
        (["--ignore", "-su", "x"], "usage.contradiction"),
        (["--ignore", "--exec", "echo {path}"], "usage.contradiction"),
        (["--ignore", "--exec-study", "echo"], "usage.contradiction"),
    ],
)  # fmt: skip
def test_words_that_cannot_be(words, slug, dicomtls) -> None:
    result = dicomtls(
        "storescp", "--no-tls", "--json", "--port", "0", "--bind", "no-such-host.invalid", *words
    )
    code = result.json["error"]["code"]
    assert (result.exit_code, code) == ((2, slug) if slug else (5, "listen.unknown-address"))
    assert result.json["error"]["hint"]


def test_a_misspelled_transfer_syntax_is_told_the_right_one(dicomtls) -> None:
    result = dicomtls("storescp", "--no-tls", "--accept-ts", "JPEG2000Losless")
    assert "`JPEG2000Lossless`" in result.stderr


# --- storing -----------------------------------------------------------------------------------------------


def test_layout_duplicates_modes_and_digests() -> None:
    words = ["--layout", "{PatientName}/{SOPInstanceUID}.dcm", "--on-duplicate", "suffix", "--file-mode", "0600",
             "--fsync", "--sha256", "--min-free", "1K"]  # fmt: skip
    with storescp(*words) as scp, Client(scp.port).associate() as client:
        for _ in range(2):
            assert client.store().status == 0
        client.end()
        paths = [Path(scp.event("received", count)["path"]) for count in (1, 2)]
        assert [path.name for path in paths] == ["1.2.3.dcm", "1.2.3_2.dcm"]
        assert paths[0].parent.name.startswith("Test_Object_")
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
        digest = hashlib.sha256(paths[0].read_bytes()).hexdigest()
        assert scp.event("received")["sha256"] == digest


def test_a_duplicate_is_refused_with_0111_and_the_association_lives() -> None:
    with storescp("--on-duplicate", "refuse") as scp, Client(scp.port).associate() as client:
        assert [client.store(number).status for number in (1, 2)] == [0, 0x0111]
        assert client.store(3, "1.2.4").status == 0
        client.end()
        assert scp.event("received", 2)["status"] == "0111"
        assert scp.files() == ["1.2.9/1.2.3.dcm", "1.2.9/1.2.4.dcm"]


def test_what_was_there_and_stays_is_told() -> None:
    with storescp("--on-duplicate", "skip") as scp, Client(scp.port).associate() as client:
        client.store(1)
        assert client.store(2).status == 0
        client.end()
        received = scp.event("received", 2)
    assert (received["ok"], received["kept"], received["replaced"], received["identical"]) == (
        True,
        True,
        False,
        True,
    )


def test_only_the_transfer_syntaxes_that_are_named() -> None:
    asked = request((CT, (EXPLICIT,)), (CT, (EXPLICIT, IMPLICIT)), (VERIFICATION, (EXPLICIT,)))
    with storescp("--accept-ts", "ImplicitVRLittleEndian") as scp, Client(scp.port) as client:
        client.send(encode_pdu(asked))
        body = client.expect(AC)
        results = [body[at + 6] for at in items(body, 0x21)]
        assert results == [4, 0, 0]
        client.end()


def items(body: bytes, kind: int) -> Iterator[int]:
    """Yield where the items of this type begin in the body of an A-ASSOCIATE-AC."""
    at = 68
    while at < len(body):
        if body[at] == kind:
            yield at
        at += 4 + struct.unpack_from(">H", body, at + 2)[0]


@pytest.mark.parametrize(
    "words", [[], ["--layout", "{PatientID}/{StudyID}{PatientName}.dcm"], ["-sp", "-tn"]]
)
def test_hostile_values_stay_inside_and_reach_commands_as_data(words) -> None:
    """UIDs, a patient ID and an AE title that would like to be a path or a command."""
    hook = script('printf "%s\\n" "$DICOM_EVENT_STUDY_UID" >> studies; printf "%s\\n" "$1" >> paths')
    values = [text for text in HOSTILE if text != "\udcff"]  # which is no text that could be encoded
    with storescp("--exec", f"{hook} {{path}}", *words) as scp, Client(scp.port).associate() as client:
        for number, text in enumerate(values, 1):
            patient = element(0x00100020, b"LO", text.encode())
            data = data_set(f"1.2.{number}", study=text, before_study=patient)
            assert send(client, data, f"1.2.{number}", number) == 0
        for uid in ("..", "../../x", "/etc/x", "1" * 300, "1\0.2", "1.2\n", ";$(x)", "\N{GRINNING FACE}"):
            command = encode(store_request(99, CT, "1.2.3")).replace(
                b"\0\0\0\x10\6\0\0\0" + b"1.2.3\0", struct.pack("<HHL", 0, 0x1000, even(uid)) + padded(uid)
            )
            fixed = struct.pack("<L", len(command) - 12)
            client.send(
                p_data(pdv(STORE, command[:8] + fixed + command[12:], command=True), pdv(STORE, data_set()))
            )
            assert decode(client.expect_message()[1]).status == 0x0117
        client.end()
        assert scp.end() == 0
        files = scp.files()
    assert len(files) == len(values)
    assert all(map(is_harmless, (part for file in files for part in file.split("/"))))
    inside = {"hook", "log", "paths", "ready", "scp", "storescp.log", "studies"}
    assert {path.name for path in Path().iterdir()} | {path.name for path in Path("scp").iterdir()} <= {
        *inside,
        "received",
    }
    assert sorted(Path("paths").read_text().splitlines()) == sorted(str(scp.output / file) for file in files)
    assert len(Path("studies").read_text().splitlines()) == len(values)
    assert "$(reboot)" in Path("studies").read_text()


def padded(uid: str) -> bytes:
    data = uid.encode()
    return data + b"\0" * (len(data) % 2)


def even(uid: str) -> int:
    return len(padded(uid))


def test_a_full_disk_and_its_end() -> None:
    """A700 until there is room; what was acknowledged is whole."""
    with tiny_disk(Path.cwd() / "scp", 300_000), storescp() as scp, Client(scp.port).associate() as client:
        answers = [
            send(client, data_set(f"1.2.{n}", pixels=bytes(40_000)), f"1.2.{n}", n) for n in range(1, 11)
        ]
        assert answers[0] == 0
        assert answers[-1] == 0xA700
        stored = scp.files()
        kept = [name for name in stored if name.endswith(".dcm")]
        assert len(kept) == answers.count(0) == len(stored)
        for name in kept:
            assert len(pydicom.dcmread(scp.output / name).PixelData) == 40_000
        (scp.output / kept[0]).unlink()
        assert client.store(99, "1.3").status == 0
        client.end()


def test_an_output_directory_that_is_removed_and_back() -> None:
    with storescp() as scp, Client(scp.port).associate() as client:
        assert client.store(1).status == 0
        scp.output.rename("away")
        scp.output.write_text("a file in its place")
        assert client.store(2).status == 0xA700
        scp.output.unlink()
        assert client.store(3).status == 0
        client.end()
        assert scp.files() == ["1.2.9/1.2.3.dcm"]


MOMENTS, FEW = 50, 4


@pytest.mark.parametrize(
    "moment", [pytest.param(n, marks=pytest.mark.long if n >= FEW else ()) for n in range(MOMENTS)]
)
def test_killed_at_any_moment_every_acknowledged_instance_is_whole(moment) -> None:
    """... and nothing in the output is not; at fifty moments where there is time."""
    acknowledged: list[str] = []
    sizes = random.Random(moment)
    with storescp(*(["--fsync"] if moment % 2 else [])) as scp, Client(scp.port).associate() as client:
        end = threading.Timer(sizes.random() * 0.12, scp.receiver.process.kill)
        end.start()
        with contextlib.suppress(OSError, AssertionError):
            for number in range(1, 30_000):
                uid = f"1.2.{number}"
                assert send(client, data_set(uid, pixels=bytes(sizes.randrange(90_000))), uid, number) == 0
                acknowledged.append(uid)
        end.join()
        scp.receiver.process.wait()
    stored = [path for path in scp.output.rglob("*") if path.is_file() and ".incoming" not in path.parts]
    found = set()
    for path in stored:
        data = path.read_bytes()
        read = pydicom.dcmread(path)
        found.add(str(read.SOPInstanceUID))
        assert data.endswith(bytes(len(read.PixelData)))
        assert path.name == f"{read.SOPInstanceUID}.dcm"
    assert set(acknowledged) <= found
    assert len(found) <= len(acknowledged) + 1
    with storescp():
        assert list((scp.output / ".incoming").iterdir()) == []


# --- commands ----------------------------------------------------------------------------------------------


def test_dcmtks_commands() -> None:
    instance = script('echo "$@" >> instances')
    study = script('echo "$@" $DICOM_EVENT_INSTANCES >> studies', "study")
    words = ["-su", "st", "-xcr", f"{instance} #p #f #a #c #r", "-xcs", f"{study} #p", "-tos", "100", "-xs"]
    with storescp(*words) as scp, Client(scp.port).associate() as client:
        for number in (1, 2):
            client.store(number, f"1.2.{number}")
        client.end()
        assert scp.end() == 0
        folder = scp.output / "st_1.2.9"
    assert Path("instances").read_text().splitlines() == [
        f"{folder} CT.1.2.{number} SCU SCP 127.0.0.1" for number in (1, 2)
    ]
    assert Path("studies").read_text().splitlines() == [f"{folder} 2"]


def test_a_study_ends_while_the_server_runs() -> None:
    done = script('mv "$1" done', "study")
    with storescp("--exec-study", f"{done} {{dir}}", "--study-timeout", "100ms") as scp:
        with Client(scp.port).associate() as client:
            client.store()
            client.end()
        never = threading.Event()
        for _ in range(1000):
            if Path("done/1.2.3.dcm").exists():
                break
            never.wait(0.01)
        assert Path("done/1.2.3.dcm").exists()
        with Client(scp.port).associate() as client:  # the folder is made again
            assert client.store().status == 0
            client.end()


def test_a_command_that_fails_changes_nothing_for_the_sender() -> None:
    with storescp("--exec", f"{script('echo no luck; exit 9')}") as scp:
        with Client(scp.port).associate() as client:
            assert client.store().status == 0
            client.end()
        assert scp.end() == 0
    assert "E: `--exec` ended with exit code 9: no luck" in scp.log


def test_a_second_signal_ends_commands_too() -> None:
    hook = script("echo $$ > began; exec sleep 100")
    with storescp("--exec", f"{hook}") as scp:
        with Client(scp.port).associate() as client:
            client.store()
            client.end()
        scp.event("closed")
        scp.receiver.process.terminate()
        never = threading.Event()
        for _ in range(3000):
            if Path("began").exists() and not listens(scp.port):
                break
            never.wait(0.01)
        scp.receiver.process.terminate()
        assert scp.receiver.process.wait(LIMIT) == 143
    assert "1 were killed" in scp.log


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True


# --- a receiver that misbehaves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "asked", "rejected"),
    [
        (["--refuse"], ASKED, True),
        (["--reject"], ASKED._replace(user_information=(MaximumLength(16384),)), True),
        (["--reject"], ASKED, False),
    ],
)
def test_associations_that_are_rejected_on_purpose(words, asked, rejected) -> None:
    with storescp(*words) as scp, Client(scp.port) as client:
        client.send(encode_pdu(asked))
        if not rejected:
            client.expect(AC)
            client.end()
            return
        assert tuple(client.expect(RJ)[1:]) == (1, 1, 1)
        client.close()
        assert scp.event("refused")["stage"] == "association"


def test_a_status_on_purpose() -> None:
    with storescp("--status", "A700H") as scp, Client(scp.port).associate() as client:
        assert client.store().status == 0xA700
        assert client.echo(2).status == 0
        client.end()
        assert scp.files() == []
    with storescp("--status", "B000") as scp, Client(scp.port).associate() as client:
        assert client.store().status == 0xB000
        client.end()
        assert scp.files() == ["1.2.9/1.2.3.dcm"]


@pytest.mark.parametrize(
    "words", [["--delay", "50ms"], ["--response-delay", "50ms"], ["--sleep-during", "0.05"]]
)
def test_an_answer_that_comes_late(words) -> None:
    with storescp(*words) as scp, Client(scp.port).associate() as client:
        assert client.store().status == 0
        client.end()
        assert scp.event("received")["seconds"] >= 0.05


def test_a_pause_after_the_answer() -> None:
    with storescp("--sleep-after", "0.05") as scp, Client(scp.port).associate() as client:
        for number in (1, 2):
            assert client.store(number).status == 0
        client.end()
        assert scp.event("closed")["seconds"] >= 0.1


@pytest.mark.parametrize(("words", "number"), [([], 1), (["--abort-on", "3"], 3)])
@pytest.mark.parametrize("when", ["--abort-during", "--abort-after"])
def test_an_abort_on_purpose(when, words, number) -> None:
    with storescp(when, *words) as scp, Client(scp.port).associate() as client:
        for count in range(1, number):
            assert client.store(count, f"1.2.{count}").status == 0
        rest = client.begin_store(number, "1.9")
        if when == "--abort-after":
            client.send(p_data(pdv(STORE, rest)))
        assert tuple(client.expect(ABORT)[2:]) == (0, 0)
        client.close()
        closed = scp.event("closed")
        assert closed["error"]["code"] == "association.test-abort"
        assert scp.files() == [f"1.2.9/1.2.{count}.dcm" for count in range(1, number)]
        assert echoes(scp.port)


def test_a_receiver_that_misbehaves_says_so(dicomtls) -> None:
    result = dicomtls("storescp", "--no-tls", "--reject", "--delay", "1", "--bind", "no-such-host.invalid")
    assert "warning: this is a test receiver: it misbehaves on purpose (--reject, --delay)" in result.stderr
    result = dicomtls("storescp", "--no-tls", "--status", "0000", "--bind", "no-such-host.invalid")
    assert "test receiver" not in result.stderr


# --- what it tells -----------------------------------------------------------------------------------------


def test_it_ends_after_so_many_instances_and_tells_the_totals() -> None:
    with (
        storescp("--exit-after", "3", "--on-duplicate", "refuse") as scp,
        Client(scp.port).associate() as client,
    ):
        answers = [
            client.store(n, uid).status for n, uid in enumerate(["1.2.1", "1.2.1", "1.2.2", "1.2.3"], 1)
        ]
        assert answers == [0, 0x0111, 0, 0]
        client.end()
        assert scp.receiver.process.wait(LIMIT) == 0
        total = scp.event("total")
    del total["time"]
    assert total == {
        "event": "total",
        "associations": 1,
        "refused": 0,
        "stored": 3,
        "replaced": 0,
        "not_stored": 1,
        "bytes": 3 * len(data_set()),
    }


def test_a_refused_peers_certificate_is_in_the_record(pki) -> None:
    with cli.receiver(Path("scp"), *pki.scp_options) as running:
        result = cli.run(
            "echoscu", "localhost", running.port, "--cert", pki.stranger.cert, "--key", pki.stranger.key,
            "--trust", pki.trusted,
        )  # fmt: skip
        assert result.exit_code == 12
        scp = Scp(running, Path("log"))
        refused = scp.event("refused")
    assert refused["stage"] == "tls"
    assert refused["certificate_pem"].split() == pki.stranger.cert.read_text().split()


def test_figures_for_prometheus() -> None:
    pytest.importorskip("prometheus_client")
    with storescp("--metrics", "0") as scp:
        port = json.loads(Path("scp/ready").read_text())["metrics_port"]
        with Client(scp.port).associate() as client:
            client.store(1)
            assert send(client, data_set("1.2.4"), "1.2.3", 2) == 0xA900
            figures = read_metrics(port)
            assert figures["dicomtls_associations_open"] == 1
            client.end()
        with Client(scp.port) as client:
            client.send(encode_pdu(request(called=" ")))
            client.expect(RJ)
        scp.event("closed")
        scp.event("refused")
        figures = read_metrics(port)
        assert scp.end() == 0
    assert figures == {
        **figures,
        "dicomtls_associations_total": 1,
        "dicomtls_associations_open": 0,
        'dicomtls_refused_total{reason="association.rejected",stage="association"}': 1,
        "dicomtls_lost_total": 0,
        'dicomtls_instances_total{status="0000"}': 1,
        'dicomtls_instances_total{status="A900"}': 1,
        "dicomtls_bytes_total": len(data_set()),
        "dicomtls_store_seconds_count": 2,
    }


def read_metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(dicomtls_\S+) (\S+)$", text, re.MULTILINE)}


def test_figures_on_a_port_that_is_taken() -> None:
    pytest.importorskip("prometheus_client")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli.run_process("storescp", "--no-tls", "--json", "--port", "0", "--metrics", port)
    assert (result.exit_code, result.json["error"]["code"]) == (5, "listen.failed")
    assert not Path(".incoming").exists()


def test_figures_without_the_package(monkeypatch, dicomtls) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    result = dicomtls("storescp", "--no-tls", "--json", "--port", "0", "--metrics", "0")
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.no-prometheus")
