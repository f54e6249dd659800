"""`storescu` with `--report`, `--resume` and `--dry-run`, and its summary, as they are typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.services.sending.plan import Plan, uid_name
from tests.support import cli
from tests.support.objects import data_set, write
from tests.support.scripted import CT, EXPLICIT, MR, Scripted, listening
from tests.support.sending import answer, made, run, scp, summary
from tests.support.server import serving

DOCUMENT = Path(__file__).parents[2] / "docs" / "report.md"


def lines(path: Path | str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def outcomes(path: Path | str) -> dict[str, str]:
    return {Path(line["path"]).name: line["outcome"] for line in lines(path) if "outcome" in line}


class Archive:
    """A storage SCP that several runs send to, and what it got in all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._serving = serving(folder)

    def __enter__(self) -> Archive:
        self.port = self._serving.__enter__().port
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)

    def send(self, *words: object) -> cli.Result:
        return cli.run("storescu", "--no-tls", f"127.0.0.1:{self.port}", *words)

    def take(self) -> set[str]:
        """Return which instances came since the last time."""
        found = list(self.folder.glob("1.2.9/*.dcm"))
        for path in found:
            path.unlink()
        return {path.stem for path in found}


@pytest.fixture
def archive(tmp_path: Path):
    with Archive(tmp_path / "archive") as running:
        yield running


# --- the report ------------------------------------------------------------------------------------------


def test_every_outcome_is_in_the_report(tmp_path: Path) -> None:
    made(tmp_path / "in", 3)
    write(tmp_path / "in" / "4.dcm", data_set("1.2.4")[:40])
    (tmp_path / "in" / "readme.txt").write_text("no image")
    result = run("in", "missing.dcm", "--report", "r", "--json", scripts=(scp(0, 0xB000, 0xA700),))
    assert result.exit_code == 31
    assert outcomes("r") == {
        "1.dcm": "stored", "2.dcm": "warned", "3.dcm": "failed", "4.dcm": "failed", "missing.dcm": "failed",
    }  # fmt: skip
    rest = lines("r")[1:]
    told = {record["path"]: {"error": None, **record} for record in result.records[:-1]}
    assert all("error" not in record for record in result.records[:-1] if record["ok"])
    assert len(told) == 5
    for line in rest:
        record = told[os.path.relpath(line["path"])]
        assert record == {"ok": line["error"] is None, **line, "path": record["path"]}


def test_the_document_names_what_is_in_it(tmp_path: Path) -> None:
    made(tmp_path / "in", 1)
    run("in", "--report", "r", scripts=(scp(0),))
    header, line = lines("r")
    tables = DOCUMENT.read_text().split("| name |")[1:]
    for table, record in zip(tables, (header, line), strict=True):
        assert re.findall(r"^\| `(\w+)` \|", table, flags=re.M) == list(record)


def test_a_report_of_nothing_is_not_left_where_the_peer_cannot_be_reached(tmp_path: Path) -> None:
    """The same line works the next time."""
    made(tmp_path / "in", 1)
    line = ["storescu", "--no-tls", "127.0.0.1:1", "in", "--report", "r"]
    assert cli.run(*line).exit_code == 10
    assert cli.run(*line).exit_code == 10
    assert not Path("r").exists()


def test_a_report_is_not_overwritten(archive: Archive, tmp_path: Path) -> None:
    made(tmp_path / "in", 1)
    assert archive.send("in", "--report", "r").exit_code == 0
    archive.take()
    before = Path("r").read_bytes()
    for more in ([], ["--dry-run"]):
        result = archive.send("in", "--report", "r", "--json", *more)
        assert (result.exit_code, result.json["error"]["code"]) == (4, "output.exists")
    assert Path("r").read_bytes() == before
    assert archive.take() == set()


@pytest.mark.parametrize("option", ["--report", "--resume"])
def test_a_place_that_is_none(option: str, tmp_path: Path) -> None:
    made(tmp_path / "in", 1)
    for more in ([], ["--dry-run"]):
        result = cli.run("storescu", "--no-tls", "127.0.0.1:1", "in", option, "no/folder/r", "--json", *more)
        code, slug = (4, "output.no-directory") if option == "--report" else (3, "file.missing")
        assert (result.exit_code, result.json["error"]["code"]) == (code, slug)


# --- a full disk -----------------------------------------------------------------------------------------


def test_a_full_disk_stops_no_image(archive: Archive, tmp_path: Path) -> None:
    made(tmp_path / "in", 3)
    result = archive.send("in", "--report", "/dev/full")
    assert result.exit_code == 4
    assert archive.take() == {"1.2.1", "1.2.2", "1.2.3"}
    assert summary(result) == "3 stored, 0 with a warning, 0 failed, 3 missing in the report"
    assert result.stderr.count("error:") == 1
    assert "`/dev/full`: No space left on device" in result.stderr


def test_a_disk_that_gets_full_and_what_is_sent_again(archive: Archive, tmp_path: Path) -> None:
    made(tmp_path / "in", 10)
    words = [sys.executable, "-m", "dicomtls_cli", "storescu", "--no-tls", f"127.0.0.1:{archive.port}", "in"]
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 4; exec {shlex.join(words)} --report r --json"],
        env=cli.environment(), capture_output=True, text=True, timeout=cli.LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert len(archive.take()) == 10
    *records, last = map(json.loads, done.stdout.splitlines())
    assert [r["error"]["code"] for r in records if not r["ok"]] == ["output.report-incomplete"]
    kept = outcomes("r")
    assert 0 < len(kept) < 10
    assert (last["ok"], last["stored"], last["not_reported"]) == (False, 10, 10 - len(kept))
    assert archive.send("in", "--report", "r", "--resume", "r").exit_code == 0
    assert archive.take() == {f"1.2.{n}" for n in range(1, 11) if f"{n}.dcm" not in kept}
    assert len(outcomes("r")) == 10


def test_the_failures_of_instances_decide_about_the_exit_code(tmp_path: Path) -> None:
    made(tmp_path / "in", 2)
    assert run("in", "--report", "/dev/full", scripts=(scp(0, 0xA700),)).exit_code == 31


# --- going on --------------------------------------------------------------------------------------------


def test_only_what_is_left_is_sent(tmp_path: Path) -> None:
    made(tmp_path / "in", 4)
    report = tmp_path / "r"
    with listening(scp(0, 0xA700, 0xB000, 0), scp(0xC000), scp(0)) as port:
        line = ["storescu", "--no-tls", f"127.0.0.1:{port}", "in", "--report", report]
        assert cli.run(*line).exit_code == 31
        result = cli.run(*line, "--resume", report)
        assert result.exit_code == 30
        assert summary(result) == "0 stored, 0 with a warning, 1 failed, 3 already stored"
        result = cli.run(*line, "--resume", report, "--json")
        assert result.exit_code == 0
        assert (result.json["ok"], result.json["stored"], result.json["already_stored"]) == (True, 1, 3)
    assert outcomes(report) == {"1.dcm": "stored", "2.dcm": "stored", "3.dcm": "warned", "4.dcm": "stored"}


def test_where_all_is_stored_nobody_is_connected_to(archive: Archive, tmp_path: Path) -> None:
    made(tmp_path / "in", 2)
    assert archive.send("in", "--report", "r").exit_code == 0
    text = Path("r").read_text().replace(f":{archive.port}", ":1")
    Path("r").write_text(text)
    result = cli.run("storescu", "--no-tls", "127.0.0.1:1", "in", "--resume", "r")
    assert (result.exit_code, result.stderr) == (0, "")
    assert summary(result) == "0 stored, 0 with a warning, 0 failed, 2 already stored"


def test_a_file_that_changed_is_sent_again(archive: Archive, tmp_path: Path) -> None:
    made(tmp_path / "in", 3)
    archive.send("in", "--report", "r")
    archive.take()
    os.utime(tmp_path / "in" / "2.dcm", ns=(0, 1))
    write(tmp_path / "in" / "3.dcm", data_set("1.2.3", pixels=bytes(8)), "1.2.3")
    result = archive.send("in", "--resume", "r")
    assert (result.exit_code, archive.take()) == (0, {"1.2.2", "1.2.3"})


def test_a_new_report_holds_what_the_old_one_does(archive: Archive, tmp_path: Path) -> None:
    made(tmp_path / "in", 1)
    archive.send("in", "--report", "first")
    made(tmp_path / "in", 2)  # the first of them anew
    archive.send("in", "--report", "second", "--resume", "first")
    assert outcomes("second") == {"1.dcm": "stored", "2.dcm": "stored"}
    archive.send("in", "--report", "third", "--resume", "second")
    assert outcomes("third") == {"1.dcm": "already_stored", "2.dcm": "already_stored"}
    archive.take()
    assert archive.send("in", "--resume", "third").exit_code == 0
    assert archive.take() == set()


def test_a_path_that_is_no_text(archive: Archive, tmp_path: Path) -> None:
    write(tmp_path / "in" / os.fsdecode(b"caf\xe9\n\x1b.dcm"))
    archive.send("in", "--report", "r")
    assert archive.take() == {"1.2.3"}
    result = archive.send("in", "--resume", "r")
    assert summary(result).endswith("1 already stored")


def test_the_report_of_another_peer(archive: Archive, tmp_path: Path) -> None:
    made(tmp_path / "in", 1)
    archive.send("in", "--report", "r")
    result = archive.send("in", "--resume", "r", "-aec", "OTHER", "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "input.report-of-another-peer")
    assert f"ANY-SCP@127.0.0.1:{archive.port}" in result.json["error"]["message"]


def test_a_killed_run_is_gone_on_with(archive: Archive, tmp_path: Path) -> None:
    """It is killed while the fourth instance is under way; all arrive in the end.

    The fourth leaves before the third is written down: that one may be sent again.
    """
    made(tmp_path / "in", 7)

    def script(peer: Scripted) -> None:
        peer.accept()
        for _ in range(3):
            answer(peer, 0)
        peer.expect_message()
        process.kill()

    with listening(script) as port:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicomtls_cli", "storescu", "--no-tls", f"127.0.0.1:{port}", "in", "--report", "r"],
            env=cli.environment(),
        )  # fmt: skip
        process.wait(cli.LIMIT)
    known = outcomes("r")
    assert known.items() >= {"1.dcm": "stored", "2.dcm": "stored"}.items()
    assert known.keys() <= {"1.dcm", "2.dcm", "3.dcm"}
    Path("r").write_text(Path("r").read_text().replace(f":{port}", f":{archive.port}"))
    assert archive.send("in", "--resume", "r", "--report", "r").exit_code == 0
    assert archive.take() == {f"1.2.{n}" for n in range(1, 8) if f"{n}.dcm" not in known}


def test_a_lost_association_leaves_what_is_not_stored(tmp_path: Path) -> None:
    made(tmp_path / "in", 3)
    run("in", "--report", "r", scripts=(scp(0, None), scp(None)))
    assert [line["error"] and line["error"]["code"] for line in lines("r")[1:]] == [
        None, *["association.aborted"] * 2,
    ]  # fmt: skip


# --- what would be sent ----------------------------------------------------------------------------------


def test_a_dry_run_connects_to_nobody_and_needs_no_certificate(tmp_path: Path) -> None:
    made(tmp_path / "in", 2)
    write(
        tmp_path / "in" / "mr.dcm", data_set("1.2.7", sop_class=MR, pixels=bytes(2000)), "1.2.7", sop_class=MR
    )
    (tmp_path / "in" / "readme.txt").write_text("no image")
    result = cli.run("storescu", "PACS@nowhere.invalid:104", "in", "--dry-run", "--report", "r")
    assert (result.exit_code, result.stderr) == (0, "")
    size, large = len(data_set("1.2.1")), len(data_set("1.2.7", sop_class=MR, pixels=bytes(2000)))
    assert result.stdout.splitlines() == [
        "CT Image Storage",
        f"  Explicit VR Little Endian: 2 files, {2 * size / 1000:.1f} kB",
        "MR Image Storage",
        f"  Explicit VR Little Endian: 1 file, {large / 1000:.1f} kB",
        f"nowhere.invalid:104: 3 files to send, {(2 * size + large) / 1000:.1f} kB, 2 presentation contexts, "
        "at least 1 association, 1 other file passed over; nothing was sent",
    ]
    assert not Path("r").exists()


def test_a_dry_run_in_records(tmp_path: Path) -> None:
    made(tmp_path / "in", 2)
    result = cli.run("storescu", "h", "104", "in", "--dry-run", "--json")
    *files, context, last = result.records
    assert [record["sop_instance"] for record in files] == ["1.2.1", "1.2.2"]
    assert files[0].keys() == {
        "ok", "dry_run", "path", "size", "mtime", "sop_class", "sop_instance", "transfer_syntax", "remark",
    }  # fmt: skip
    assert files[0]["size"] == (tmp_path / "in" / "1.dcm").stat().st_size
    size = len(data_set("1.2.1"))
    assert context == {
        "ok": True, "dry_run": True, "sop_class": CT, "sop_class_name": "CT Image Storage",
        "transfer_syntax": EXPLICIT, "transfer_syntax_name": "Explicit VR Little Endian",
        "instances": 2, "bytes": 2 * size,
    }  # fmt: skip
    assert last == {
        "ok": True, "dry_run": True, "peer": "h:104", "instances": 2, "bytes": 2 * size, "contexts": 1,
        "associations": 1, "failed": 0, "already_stored": 0, "passed_over": 0,
    }  # fmt: skip


def test_a_dry_run_names_each_file_at_v(tmp_path: Path) -> None:
    made(tmp_path / "in", 1)
    assert "I: Would send file: in/1.dcm" in cli.run("storescu", "h:104", "in", "--dry-run", "-v").stderr


def test_a_dry_run_with_what_cannot_be_sent(tmp_path: Path) -> None:
    made(tmp_path / "in", 1)
    result = cli.run("storescu", "h:104", "in", "missing.dcm", "--dry-run")
    assert result.exit_code == 3
    assert "cannot read `missing.dcm`" in result.stderr
    assert "1 file to send, " in result.stdout
    assert ", 1 file that cannot be sent; nothing" in result.stdout
    result = cli.run("storescu", "h:104", "missing.dcm", "--dry-run", "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "input.nothing-to-send")


def test_a_dry_run_tells_what_is_left(archive: Archive, tmp_path: Path) -> None:
    made(tmp_path / "in", 1)
    archive.send("in", "--report", "r")
    made(tmp_path / "more", 2)
    before = Path("r").read_bytes()
    result = archive.send("in", "more", "--dry-run", "--resume", "r", "--report", "r")
    assert (result.exit_code, summary(result).split(", ")[0]) == (0, "2 files to send")
    assert ", 1 already stored; nothing was sent" in result.stdout
    result = archive.send("in", "--dry-run", "--resume", "r")
    assert summary(result) == "0 files to send, 1 already stored; nothing was sent"
    assert Path("r").read_bytes() == before


def test_associations_for_many_contexts() -> None:
    plan = Plan()
    assert plan.associations == 0
    for number in range(129):
        plan.add(Instance("x", 1100, 100, f"1.2.{number}", "1.2.3", EXPLICIT))
        assert plan.associations == (1 if number < 128 else 2)
    assert (plan.instances, plan.length) == (129, 129_000)


def test_names_of_uids() -> None:
    assert uid_name("1.2.840.10008.1.2.4.90") == "JPEG 2000 Image Compression (Lossless Only)"
    assert uid_name("1.2.3") == "1.2.3"


# --- the summary -----------------------------------------------------------------------------------------


def test_the_summary_in_figures(tmp_path: Path) -> None:
    made(tmp_path / "in", 3)
    last = run("in", "--json", scripts=(scp(0, 0xB000, 0xA700),)).json
    assert last["bytes"] == 2 * len(data_set("1.2.1"))
    assert last["seconds"] > 0
    assert last["mb_per_second"] == pytest.approx(last["bytes"] / last["seconds"] / 1e6, abs=0.001)
    assert (last["already_stored"], last["not_reported"]) == (0, 0)


def test_failures_out_of_sight_are_named_again(tmp_path: Path) -> None:
    made(tmp_path / "in", 15)
    result = run("in", scripts=(scp(*[0xA700] * 15),))
    again = result.stdout.splitlines()
    assert again[0] == "failed:"
    assert [line.split("`")[1] for line in again[1:11]] == sorted(f"in/{n}.dcm" for n in range(1, 16))[:10]
    assert all("0xA700 (refused: out of resources)" in line for line in again[1:11])
    assert again[11] == "  and 5 more"
    assert again[12].endswith(": 0 stored, 0 with a warning, 15 failed")
    assert result.stderr.count("error:") == 15


def test_failures_in_sight_are_named_once(tmp_path: Path) -> None:
    made(tmp_path / "in", 15)
    result = run("in", scripts=(scp(0xA700, *[0] * 14),))
    assert result.stdout.count("\n") == 1


def test_a_failure_among_many_lines_is_named_again(tmp_path: Path) -> None:
    made(tmp_path / "in", 15)
    result = run("in", "-v", scripts=(scp(0xA700, *[0] * 14),))
    assert result.stdout.splitlines()[1].startswith("  the peer did not store `in/1.dcm`")
