"""`dicomtls storescu` as it is typed: what it prints, how it sums up, how it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicomtls_cli.dimse.command import decode, encode, response
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role
from tests.support import cli
from tests.support.discs import dicomdir
from tests.support.objects import data_set, write
from tests.support.scripted import (
    CT,
    EXPLICIT,
    IMPLICIT,
    LIMIT,
    MR,
    RQ,
    Scripted,
    accept_of,
    listening,
    p_data,
    pdv,
    reject,
)
from tests.support.sending import Script, made, run, scp, summary
from tests.support.server import serving

# --- what is printed -------------------------------------------------------------------------------------


def test_the_summary_of_what_went_well(dicomtls, tmp_path) -> None:
    with serving(tmp_path / "output") as server:
        result = dicomtls("storescu", "--no-tls", f"127.0.0.1:{server.port}", made(tmp_path / "in", 3))
        assert result.stdout == f"127.0.0.1:{server.port}: 3 stored, 0 with a warning, 0 failed\n"
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(list((tmp_path / "output" / "1.2.9").iterdir())) == 3


def test_over_mutual_tls(dicomtls, pki, tmp_path) -> None:
    context = tls_context(Role.ACCEPTOR, TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,)))
    with serving(tmp_path / "output", context=context) as server:
        result = dicomtls("storescu", "localhost", server.port, made(tmp_path / "in", 2), *pki.scu_options)
    assert (result.exit_code, summary(result)) == (0, "2 stored, 0 with a warning, 0 failed")


def test_dcmtks_lines(tmp_path) -> None:
    path = made(tmp_path, 1) / "1.dcm"
    result = run("-v", path, scripts=(scp(0),))
    assert [line for line in result.stderr.splitlines() if line.startswith("I: ")] == [
        "I: Requesting Association",
        "I: Association Accepted (Max Send PDV: 16372)",
        f"I: Sending file: {path}",
        "I: Sending Store Request (MsgID 1, CT)",
        "I: Received Store Response (Success)",
        "I: Releasing Association",
    ]


def test_json_records_of_all_kinds(tmp_path) -> None:
    made(tmp_path, 4)
    write(tmp_path / "5.dcm", data_set("1.2.5")[:40], "1.2.5")
    (tmp_path / "readme.txt").write_text("no image")
    result = run("--json", tmp_path, scripts=(scp(0, 0xB000, 0xA700, 0),))
    assert result.stderr.count("warning:") == result.stderr.count("\n")
    records = {Path(r["path"]).name: r for r in result.records[:-1]}
    assert {name: (r["ok"], r.get("status")) for name, r in records.items()} == {
        "1.dcm": (True, "0000"),
        "2.dcm": (True, "B000"),
        "3.dcm": (False, "A700"),
        "4.dcm": (True, "0000"),
        "5.dcm": (False, None),
    }
    assert records["1.dcm"]["sop_class"] == CT
    assert records["1.dcm"]["sop_instance"] == "1.2.1"
    assert records["1.dcm"]["transfer_syntax"] == EXPLICIT
    assert records["1.dcm"]["bytes"] == len(data_set("1.2.1"))
    assert records["3.dcm"]["error"]["code"] == "dimse.failure-status"
    assert records["5.dcm"]["error"]["code"] == "input.truncated"
    last = result.json
    assert {key: last[key] for key in ("ok", "stored", "warned", "failed", "not_tried", "passed_over")} == {
        "ok": False, "stored": 2, "warned": 1, "failed": 2, "not_tried": 0, "passed_over": 1,
    }  # fmt: skip
    assert result.exit_code == 31


# --- which files -----------------------------------------------------------------------------------------


def listed(*words: object, stdin: str, scripts: tuple[Script, ...] = ()) -> cli.Result:
    """Run with a list of paths on standard input."""
    with listening(*scripts) as port:
        return cli.run_process("storescu", "--no-tls", f"127.0.0.1:{port}", *words, stdin=stdin)


@pytest.mark.parametrize("separator", ["\n", "\0", "\r\n"])
def test_a_list_of_paths_on_standard_input(separator, tmp_path) -> None:
    """Its paths are named: a hidden file is sent, and one that is no DICOM is a failure."""
    made(tmp_path / "in", 3)
    write(tmp_path / ".hidden.dcm", sop_instance="1.2.4")
    (tmp_path / "readme.txt").write_text("no image")
    wanted = [tmp_path / "in", tmp_path / ".hidden.dcm", tmp_path / "readme.txt", tmp_path / "gone.dcm"]
    result = listed("-", stdin="".join(f"{path}{separator}" for path in wanted), scripts=(scp(0, 0, 0, 0),))
    assert (result.exit_code, summary(result)) == (31, "4 stored, 0 with a warning, 2 failed")
    assert f"`{tmp_path}/readme.txt` is not a DICOM file" in result.stderr
    assert f"cannot read `{tmp_path}/gone.dcm`" in result.stderr


def test_a_list_among_paths(tmp_path) -> None:
    made(tmp_path, 2)
    result = listed("-v", tmp_path / "1.dcm", "-", stdin=f"{tmp_path}/2.dcm", scripts=(scp(0, 0),))
    assert result.exit_code == 0
    sent = [line for line in result.stderr.splitlines() if line.startswith("I: Sending file: ")]
    assert sent == [f"I: Sending file: {tmp_path}/{number}.dcm" for number in (1, 2)]


def test_an_empty_list_is_nothing_to_send() -> None:
    result = listed("-", "--json", stdin="")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "input.nothing-to-send")


def test_a_file_of_that_name(tmp_path, monkeypatch) -> None:
    write(tmp_path / "-")
    monkeypatch.chdir(tmp_path)
    assert run("./-", scripts=(scp(0),)).exit_code == 0


def test_a_list_that_cannot_be_read(tmp_path) -> None:
    with (tmp_path / "sink").open("w") as write_only:
        done = subprocess.run(
            [sys.executable, "-m", "dicomtls_cli", "storescu", "--no-tls", "127.0.0.1:1", "-"], stdin=write_only,
            env=cli.environment(), capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    error, hint = done.stderr.splitlines()
    assert error == "error: cannot read the list of paths on standard input: Bad file descriptor"
    assert hint


def test_nobody_waits_for_a_person_to_type_paths() -> None:
    """Nor is a peer connected to."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "dicomtls_cli", "storescu", "--no-tls", "127.0.0.1:1", "-"]
    for stdin, close in ((theirs, ""), (None, " <&-")):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@"{close}', "sh", *command], stdin=stdin, env=cli.environment(),
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        error, hint = done.stderr.splitlines()
        assert f"that is {'closed' if close else 'a terminal'}" in error
        assert "-print0 | dicomtls storescu" in hint
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("spelling", ["+sp", "--scan-pattern"])
def test_a_pattern_for_files_in_folders(spelling, tmp_path) -> None:
    made(tmp_path, 3)
    write(tmp_path / "4.ima", sop_instance="1.2.4")
    result = run(spelling, "[12].dcm", spelling, "*.ima", tmp_path, scripts=(scp(0, 0, 0),))
    assert (result.exit_code, summary(result)) == (0, "3 stored, 0 with a warning, 0 failed")


def test_what_is_hidden_is_counted_and_strictly_a_failure(tmp_path) -> None:
    made(tmp_path, 1)
    write(tmp_path / ".2.dcm")
    result = run(tmp_path, scripts=(scp(0),))
    assert summary(result) == "1 stored, 0 with a warning, 0 failed, 1 other file passed over"
    result = run("--strict-files", "--json", tmp_path, scripts=(scp(0),))
    assert result.exit_code == 31
    assert [record["error"]["code"] for record in result.records if "error" in record] == ["input.hidden"]


def test_why_a_file_is_passed_over_is_told_at_d(tmp_path) -> None:
    made(tmp_path, 1)
    (tmp_path / "readme.txt").write_text("no image")
    result = run("-d", tmp_path, scripts=(scp(0),))
    assert f"D: passed over: `{tmp_path}/readme.txt` is not a DICOM file" in result.stderr


def test_a_bare_data_set_goes_with_a_warning(tmp_path) -> None:
    path = tmp_path / "bare"
    path.write_bytes(data_set())
    result = run("-f", path, scripts=(scp(0),))
    assert (result.exit_code, result.stderr) == (
        0,
        f"warning: `{path}`: it has no file meta; its data set is explicit VR little endian\n",
    )


def test_a_dicomdir_leads_to_its_files(tmp_path) -> None:
    made(tmp_path, 2)
    (tmp_path / "DICOMDIR").write_bytes(dicomdir("1.dcm", "2.dcm"))
    for path in (tmp_path / "DICOMDIR", tmp_path):
        result = run(path, scripts=(scp(0, 0),))
        assert summary(result) == "2 stored, 0 with a warning, 0 failed, 1 other file passed over"


def test_a_difference_between_meta_and_data_set_is_a_warning(tmp_path) -> None:
    path = write(tmp_path / "a.dcm", data_set("1.2.99"), "1.2.3")
    result = run(path, scripts=(scp(0),))
    assert result.exit_code == 0
    told = f"warning: `{path}`: the file meta has another SOP Instance UID (1.2.3)"
    assert result.stderr.splitlines() == [told]


def test_each_failure_is_told_with_its_file_and_status_in_words(tmp_path) -> None:
    result = run(made(tmp_path, 2), scripts=(scp(0xA700, 0, comment="disk full"),))
    error, hint = result.stderr.splitlines()
    assert error.startswith(f"error: the peer did not store `{tmp_path / '1.dcm'}`: 0xA700 (")
    assert error.endswith(": disk full")
    assert hint.startswith("hint: ")
    assert summary(result) == "1 stored, 0 with a warning, 1 failed"


# --- how it ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "options", "code", "summed"),
    [
        ((0, 0), [], 0, "2 stored, 0 with a warning, 0 failed"),
        ((0, 0xB000), [], 0, "1 stored, 1 with a warning, 0 failed"),
        ((0, 0xB000), ["--fail-on-warning"], 30, "1 stored, 1 with a warning, 0 failed"),
        ((0, 0x0107), ["--fail-on-warning"], 30, "1 stored, 1 with a warning, 0 failed"),
        ((0, 0xA700), [], 31, "1 stored, 0 with a warning, 1 failed"),
        ((0xA700, 0xC000), [], 30, "0 stored, 0 with a warning, 2 failed"),
        ((0xFE00, 0xFE00), [], 30, "0 stored, 0 with a warning, 2 failed"),
        ((0xA700,), ["--halt"], 30, "0 stored, 0 with a warning, 1 failed, 1 not tried"),
        ((0xB000, 0xA700), ["--halt"], 31, "0 stored, 1 with a warning, 1 failed"),
    ],
)
def test_exit_codes_of_statuses(statuses, options, code, summed, tmp_path) -> None:
    result = run(*options, made(tmp_path, 2), scripts=(scp(*statuses),))
    assert (result.exit_code, summary(result)) == (code, summed)


def test_no_accepted_context(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept_of((1, 3, "")))
        peer.release()

    result = run(made(tmp_path, 2), scripts=(script,))
    assert result.exit_code == 22
    assert result.stderr.count("error: ") == 2


def test_one_class_is_refused_and_the_other_stored(tmp_path) -> None:
    made(tmp_path, 1)
    write(tmp_path / "mr.dcm", data_set("1.2.7", sop_class=MR), "1.2.7", sop_class=MR)

    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(accept_of((1, 0, EXPLICIT), (3, 3, IMPLICIT)))
        context_id, command, _ = peer.expect_message()
        peer.send(p_data(pdv(context_id, encode(response(decode(command), 0)), command=True)))
        peer.release()

    result = run(tmp_path, scripts=(script,))
    assert result.exit_code == 31
    assert "mr.dcm" in result.stderr


def test_a_lost_association(tmp_path) -> None:
    made(tmp_path, 3)
    assert run(tmp_path, scripts=(scp(0, None), scp(0))).exit_code == 31
    result = run(tmp_path, scripts=(scp(None), scp(None)))
    assert (result.exit_code, summary(result)) == (21, "0 stored, 0 with a warning, 3 failed")
    assert [str(tmp_path / f"{n}.dcm") in result.stderr for n in (1, 2, 3)] == [True] * 3
    hints = [line for line in result.stderr.splitlines() if line.startswith("hint: ")]
    assert len(hints) == 1  # of one cause, however many it is the cause of


def test_a_rejected_association(tmp_path) -> None:
    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        peer.send(reject(1, 1, 7))
        peer.expect_end()

    result = run(made(tmp_path, 1), scripts=(script,))
    assert result.exit_code == 20
    assert result.stdout == ""


def test_broken_files_only(dicomtls, tmp_path) -> None:
    """They never get as far as an association."""
    write(tmp_path / "odd.dcm", data_set() + b"\0")
    result = run(tmp_path, scripts=(scp(),))
    assert (result.exit_code, "odd number of bytes" in result.stderr) == (3, True)
    (tmp_path / "odd.dcm").write_bytes(b"")
    assert dicomtls("storescu", "--no-tls", "127.0.0.1:1", tmp_path / "odd.dcm").exit_code == 3


def test_nothing_to_send(dicomtls, tmp_path) -> None:
    (tmp_path / "readme.txt").write_text("no image")
    result = dicomtls("storescu", "--no-tls", "--json", "127.0.0.1:1", tmp_path)
    assert (result.exit_code, result.json["error"]["code"]) == (3, "input.nothing-to-send")
    assert "1 other file" in result.json["error"]["message"]


def test_bad_files_among_good_ones(tmp_path) -> None:
    made(tmp_path, 2)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    result = run(tmp_path, tmp_path / "missing.dcm", scripts=(scp(0, 0),))
    assert result.exit_code == 31
    assert "missing.dcm" in result.stderr
    assert summary(result).startswith("2 stored, 0 with a warning, ")


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        (["127.0.0.1:104"], "usage.no-path"),
        (["127.0.0.1", "104"], "usage.no-path"),
        (["-c", "A@127.0.0.1:104", "--halt"], "usage.no-path"),
        (["-c", "A@127.0.0.1:104", "--prior-low"], "usage.no-path"),
        ([], "usage.no-peer"),
        (["127.0.0.1:104", "cert.crt"], "usage.pem-as-dicom"),
        (["127.0.0.1:104", "a.dcm", "cert.pem"], "usage.pem-as-dicom"),
    ],
)
def test_words_that_make_no_sense(dicomtls, words, slug, tmp_path) -> None:
    for name in ("cert.crt", "cert.pem"):
        (tmp_path / name).write_text("-----BEGIN CERTIFICATE-----\n")
    result = dicomtls("storescu", "--no-tls", "--json", *words)
    assert (result.exit_code, result.json["error"]["code"]) == (2, slug)


# --- -c alone: dcm4che's C-ECHO --------------------------------------------------------------------------


def test_dcm4ches_echo(dicomtls, pki, scp: cli.Receiver) -> None:
    result = dicomtls("storescu", "-c", f"PACS@localhost:{scp.port}", "-b", "ME", "+v", *pki.scu_options)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"localhost:{scp.port}: C-ECHO success in ")
    assert result.stderr == (
        f"nothing to send is named: a C-ECHO verifies `localhost:{scp.port}`, as dcm4che's storescu does\n"
    )
    opened = next(event for event in scp.events() if event["event"] == "opened")
    assert (opened["calling_aet"], opened["called_aet"]) == ("ME", "PACS")


def test_dcm4ches_echo_for_programs_and_its_failures(dicomtls, pki, scp: cli.Receiver) -> None:
    line = ["storescu", "--json", "-c", f"localhost:{scp.port}"]
    assert dicomtls(*line, *pki.scu_options).json["ok"] is True
    refused = dicomtls(*line, "--trust", pki.trusted)
    assert (refused.exit_code, refused.json["error"]["code"]) == (12, "tls.refused-no-certificate")


def test_a_path_that_looks_like_a_port(tmp_path) -> None:
    """After `host:port` it is a path; after a bare host it would be the port."""
    write(tmp_path / "104")
    assert run("./104", scripts=(scp(0),)).exit_code == 0
    assert run("104", scripts=(scp(0),)).exit_code == 0


def test_a_folder_without_its_folders(tmp_path) -> None:
    made(tmp_path, 1)
    made(tmp_path / "below", 1)
    assert summary(run("-r", tmp_path, scripts=(scp(0),))) == "1 stored, 0 with a warning, 0 failed"


def test_file_names_do_nothing_to_the_terminal(tmp_path) -> None:
    write(tmp_path / "\x1b]0;owned\x07[bold].dcm", data_set() + b"\0")
    result = run(tmp_path, scripts=(scp(),))
    assert result.exit_code == 3
    assert "\x1b" not in result.stderr + result.stdout
    assert "[bold].dcm" in result.stderr


# --- Ctrl-C ----------------------------------------------------------------------------------------------


def interrupted(port: int, path: Path, *words: str) -> subprocess.Popen[str]:
    line = [
        sys.executable,
        "-m",
        "dicomtls_cli",
        "storescu",
        "--no-tls",
        *words,
        f"127.0.0.1:{port}",
        str(path),
    ]
    return subprocess.Popen(
        line, env=cli.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rest_said(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for its end; return what it still said on stdout and stderr (the script reads its note there)."""
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        return process.stdout.read(), process.stderr.read()


def expect_note(process: subprocess.Popen[str]) -> None:
    """Read that the first signal was noted."""
    assert process.stderr is not None
    assert process.stderr.readline().startswith("interrupted: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_lets_the_instance_in_flight_arrive_and_no_other(number, code, tmp_path) -> None:
    """The peer stops reading in the middle of a large object; the sender is interrupted there."""
    for name in ("1.dcm", "2.dcm"):
        write(tmp_path / name, data_set(pixels=bytes(32 << 20)))

    def script(peer: Scripted) -> None:
        peer.accept()
        peer.sock.recv(1, socket.MSG_PEEK)
        process.send_signal(number)
        expect_note(process)
        context_id, command, _ = peer.expect_message()
        peer.send(p_data(pdv(context_id, encode(response(decode(command), 0)), command=True)))
        peer.release()

    with listening(script) as port:
        process = interrupted(port, tmp_path)
    out, _ = rest_said(process)
    assert process.returncode == code
    assert "1 stored, 0 with a warning, 0 failed, 1 not tried" in out


def test_a_second_interrupt_ends_it_in_mid_object(tmp_path) -> None:
    write(tmp_path / "large.dcm", data_set(pixels=bytes(32 << 20)))
    ended = []

    def script(peer: Scripted) -> None:
        peer.accept()
        peer.read(200_000)
        process.send_signal(signal.SIGINT)
        expect_note(process)
        process.send_signal(signal.SIGINT)
        ended.append(rest_of(peer))

    with listening(script) as port:
        process = interrupted(port, tmp_path)
    out, err = rest_said(process)
    assert process.returncode == 130
    assert err.strip() == "error: interrupted"
    assert out == ""
    (rest,) = ended
    assert rest < 32 << 20  # the object did not go on


def rest_of(peer: Scripted) -> int:
    """Read to the end; return how many bytes still came."""
    count = 0
    while piece := peer.sock.recv(1 << 20):
        count += len(piece)
    return count


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_while_nobody_answered_yet_ends_it_at_once(number, code, tmp_path) -> None:
    """There is nothing to finish before the association is open."""

    def script(peer: Scripted) -> None:
        peer.expect(RQ)
        process.send_signal(number)
        peer.expect_end()

    with listening(script) as port:
        process = interrupted(port, made(tmp_path, 2), "--json")
    out, err = rest_said(process)
    assert process.returncode == code
    assert err.strip() == ""
    assert json.loads(out)["error"]["code"] == "interrupted"
