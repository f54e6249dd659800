"""The report of a sending: what is written comes back, whatever happened to the file in between."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import DicomTlsError, InputError, OutputError
from dicomtls_cli.services.files.scan import Instance, Skipped
from dicomtls_cli.services.peer import Peer
from dicomtls_cli.services.sending.report import (
    Report,
    already_stored_record,
    check_report,
    open_reports,
    outcome_record,
    read_report,
    skipped_record,
)
from dicomtls_cli.services.sending.send import Outcome
from tests.support import cli

PEER = Peer("pacs.example", 104, "ARCHIVE")
FAILURE = DicomTlsError("it was not stored", "see the log", slug="dimse.failure-status")


def instance(number: int = 1, path: str = "", **more: Any) -> Instance:
    known = {"size": 1000 + number, "modified": 1_700_000_000_123_456_789 + number, **more}
    return Instance(
        path or f"/images/{number}.dcm", known.pop("size"), 300, "1.2.840.10008.5.1.4.1.1.2",
        known.pop("sop_instance", f"1.2.{number}"), "1.2.840.10008.1.2.1", **known,
    )  # fmt: skip


def stored(number: int = 1, status: int = 0, **more: Any) -> Outcome:
    return Outcome(instance(number, **more), status, None, 0.25, 700)


def failed(number: int = 1, status: int | None = 0xA700) -> Outcome:
    return Outcome(instance(number), status, FAILURE, 0.25, 0)


def written(path: Path, *outcomes: Outcome, peer: Peer = PEER) -> Path:
    report = new(path, peer)
    for outcome in outcomes:
        report.write(outcome_record(outcome))
    report.close()
    return path


def new(path: Path, peer: Peer = PEER) -> Report:
    report, before = open_reports(path, None, peer)
    assert report is not None
    assert before is None
    return report


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- what is in it ---------------------------------------------------------------------------------------


def test_a_line_for_each_and_a_header_first(tmp_path: Path) -> None:
    path = written(tmp_path / "r", stored(1), stored(2, 0xB000, remark="odd"), failed(3), failed(4, None))
    header, *rest = lines(path)
    assert header["dicomtls_report"] == 1
    assert (header["peer"], header["called_aet"]) == ("pacs.example:104", "ARCHIVE")
    assert rest[0] == {
        "path": "/images/1.dcm", "size": 1001, "mtime": "1700000000.123456790",
        "sop_class": "1.2.840.10008.5.1.4.1.1.2", "sop_instance": "1.2.1",
        "transfer_syntax": "1.2.840.10008.1.2.1", "remark": None,
        "outcome": "stored", "status": "0000", "bytes": 700, "seconds": 0.25, "error": None,
    }  # fmt: skip
    assert [(line["outcome"], line["status"]) for line in rest] == [
        ("stored", "0000"), ("warned", "B000"), ("failed", "A700"), ("failed", None),
    ]  # fmt: skip
    assert rest[1]["remark"] == "odd"
    assert rest[2]["error"]["code"] == "dimse.failure-status"


def test_all_lines_have_the_same_names(tmp_path: Path) -> None:
    report = new(tmp_path / "r")
    report.write(outcome_record(stored()))
    report.write(skipped_record(Skipped(Path("broken.dcm"), FAILURE, expected=True)))
    report.write(already_stored_record(instance(2)))
    report.close()
    _, *rest = lines(tmp_path / "r")
    assert list(rest[0]) == list(rest[1]) == list(rest[2])
    assert (rest[1]["outcome"], rest[1]["size"], rest[1]["error"]["message"]) == (
        "failed",
        None,
        FAILURE.message,
    )
    assert rest[1]["path"] == str(Path.cwd() / "broken.dcm")


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Folders and files are named after patients."""
    assert stat.S_IMODE(written(tmp_path / "r", stored()).stat().st_mode) == 0o600


def test_every_line_is_there_when_it_is_written(tmp_path: Path) -> None:
    report = new(tmp_path / "r")
    for number in range(3):
        report.write(outcome_record(stored(number)))
        assert len(lines(tmp_path / "r")) == number + 2
    report.close()


def test_a_report_of_nothing_is_not_left_behind(tmp_path: Path) -> None:
    new(tmp_path / "r").close()
    assert list(tmp_path.iterdir()) == []


# --- what comes back -------------------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=()), min_size=1, max_size=30)
_file_names = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name).map(os.fsdecode)


@given(name=_file_names, size=st.integers(0, 1 << 62), modified=st.integers(-(1 << 62), 1 << 62))
def test_what_is_stored_comes_back(
    name: str, size: int, modified: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever bytes the name of the file has: it need not be UTF-8."""
    path = tmp_path_factory.mktemp("any") / "r"
    outcome = stored(path=f"/{name}", size=size, modified=modified)
    before = read_report(written(path, outcome), PEER)
    assert len(before) == 1
    assert outcome.instance in before
    for changed in ({"size": size + 1}, {"modified": modified + 1}, {"sop_instance": "1.2.4"}):
        assert outcome.instance._replace(**changed) not in before
    assert outcome.instance._replace(file=f"/x{name}") not in before


@pytest.mark.parametrize(
    ("changes", "is_stored"),
    [
        ({}, True),
        ({"outcome": "warned", "status": "B007"}, True),
        ({"outcome": "warned", "status": "0107"}, True),
        ({"outcome": "already_stored", "status": None}, True),
        ({"outcome": "failed"}, False),
        ({"status": None}, False),
        ({"status": "A700"}, False),
        ({"status": "FE00"}, False),
        ({"status": "xyz"}, False),
        ({"status": 0}, False),
        ({"outcome": "Stored"}, False),
        ({"outcome": None}, False),
        ({"outcome": ["stored"]}, False),
        ({"size": None}, False),
        ({"path": "images/1.dcm"}, False),
    ],
    ids=str,
)
def test_what_counts_as_stored(changes: dict[str, Any], is_stored: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "r", stored())
    header, line = lines(path)
    path.write_text(f"{json.dumps(header)}\n{json.dumps(line | changes)}\n")
    assert (instance() in read_report(path, PEER)) == is_stored


def test_a_relative_path_means_the_same_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "r", stored(path="images/1.dcm"))
    before = read_report(tmp_path / "r", PEER)
    assert instance(path="images/1.dcm") in before
    assert instance(path=str(tmp_path / "images/1.dcm")) in before
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert instance(path="images/1.dcm") not in read_report(tmp_path / "r", PEER)


def test_a_report_cut_off_anywhere_tells_what_its_whole_lines_do(tmp_path: Path) -> None:
    data = written(tmp_path / "r", stored(1), failed(2), stored(3)).read_bytes()
    ends = [at for at, byte in enumerate(data) if byte == ord("\n")]
    for length in sorted({*range(0, len(data), 17), *(end + more for end in ends for more in (-1, 0, 1))}):
        path = tmp_path / "cut"
        path.write_bytes(data[:length])
        if length < ends[0]:
            with pytest.raises(InputError):
                read_report(path, PEER)
            continue
        # A line that lacks nothing but its line break is whole.
        whole = sum(end <= length for end in ends)
        assert len(read_report(path, PEER)) == {1: 0, 2: 1, 3: 1, 4: 2}[whole], length


@given(
    data=st.binary(max_size=300) | st.lists(_texts.map(json.dumps), max_size=5).map("\n".join).map(str.encode)
)
def test_any_bytes_are_a_report_or_an_error_of_ours(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "r"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_report(path, PEER)
    assert caught.value.slug == "input.not-report"
    header = written(path.with_name("s"), stored()).read_bytes()
    path.write_bytes(header + data)
    assert len(read_report(path, PEER)) == 1


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(
    name=st.sampled_from(["path", "size", "mtime", "sop_instance", "outcome", "status", "dicomtls_report"]),
    value=_values,
)
def test_any_value_in_a_line_is_taken_or_an_error_of_ours(
    name: str, value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("any") / "r", stored(), stored(2))
    header, first, second = lines(path)
    path.write_text("\n".join(map(json.dumps, (header, first | {name: value}, second))))
    if name == "dicomtls_report" and value is not None:  # the line is a header then, without a peer
        with pytest.raises(InputError):
            read_report(path, PEER)
    else:
        assert instance(2) in read_report(path, PEER)


def test_lines_that_tell_nothing_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "r", stored(1), stored(2))
    header, first, second = path.read_text().splitlines()
    path.write_text("\n".join([header, first[:50], "[]", "{}", "", second, '{"torn": tr']))
    assert len(read_report(path, PEER)) == 1
    assert "4 lines tell nothing" in caplog.text


@pytest.mark.parametrize(
    "other", [Peer("pacs.example", 105, "ARCHIVE"), Peer("pacs", 104, "ARCHIVE"), Peer("pacs.example", 104)]
)
def test_the_report_of_another_peer(other: Peer, tmp_path: Path) -> None:
    """What one peer has stored, another has not; also in the middle, where somebody joined two reports."""
    path = written(tmp_path / "r", stored())
    assert len(read_report(path, PEER)) == 1
    with pytest.raises(InputError, match=r"`ARCHIVE@pacs\.example:104`") as caught:
        read_report(path, other)
    assert caught.value.slug == "input.report-of-another-peer"
    with path.open("ab") as file:
        file.write(written(tmp_path / "s", stored(2), peer=other).read_bytes())
    with pytest.raises(InputError):
        read_report(path, PEER)


@pytest.mark.parametrize("version", [2, 0, "1", None, [1]])
def test_a_format_that_is_not_known(version: object, tmp_path: Path) -> None:
    path = written(tmp_path / "r", stored())
    header, line = lines(path)
    path.write_text("\n".join(map(json.dumps, (header | {"dicomtls_report": version}, line))))
    with pytest.raises(InputError) as caught:
        read_report(path, PEER)
    assert caught.value.slug == "input.not-report"


def test_a_line_without_end(tmp_path: Path) -> None:
    path = written(tmp_path / "r", stored())
    with path.open("ab") as file:
        file.truncate(file.tell() + (1 << 40))  # a hole: nobody reads it whole
    with pytest.raises(InputError) as caught:
        read_report(path, PEER)
    assert caught.value.slug == "input.not-report"


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, slug in (("none", "missing"), (".", "is-directory"), ("fifo", "not-regular")):
        path = tmp_path / name
        for report in (None, path):
            with pytest.raises(InputError) as caught:
                open_reports(report, path, PEER)
            assert caught.value.slug == f"file.{slug}"
    with pytest.raises(InputError):
        open_reports(None, Path("/dev/zero"), PEER)


# --- going on --------------------------------------------------------------------------------------------


def go_on(path: Path, *outcomes: Outcome) -> int:
    """Go on with the report at `path`; return how many were stored before."""
    report, before = open_reports(path, path, PEER)
    assert report is not None
    assert before is not None
    assert report.continues
    for outcome in outcomes:
        report.write(outcome_record(outcome))
    report.close()
    return len(before)


def test_a_report_is_gone_on_with(tmp_path: Path) -> None:
    path = written(tmp_path / "r", stored(1))
    assert go_on(path, stored(2)) == 1
    assert go_on(path) == 2
    assert ["dicomtls_report" in line for line in lines(path)] == [True, False, True, False, True]


@pytest.mark.parametrize("left", [b'{"path": "/images/2.d', b"\0" * 100, b"x"])
def test_what_a_killed_run_left_of_a_line_goes(left: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "r", stored(1))
    with path.open("ab") as file:
        file.write(left)
    assert go_on(path, stored(2)) == 1
    assert len(lines(path)) == 4
    assert len(read_report(path, PEER)) == 2


def test_a_whole_line_without_its_line_break_stays(tmp_path: Path) -> None:
    path = written(tmp_path / "r", stored(1))
    path.write_bytes(path.read_bytes()[:-1])
    assert go_on(path, stored(2)) == 1
    assert len(read_report(path, PEER)) == 2


def test_the_same_file_under_another_name(tmp_path: Path) -> None:
    written(tmp_path / "r", stored(1))
    (tmp_path / "s").symlink_to("r")
    report, _ = open_reports(tmp_path / "s", tmp_path / "r", PEER)
    assert report is not None
    assert report.continues
    report.close()


def test_two_runs_do_not_write_the_same_report(tmp_path: Path) -> None:
    path = tmp_path / "r"
    report = new(path)
    report.write(outcome_record(stored()))
    with pytest.raises(OutputError) as caught:
        open_reports(path, path, PEER)
    assert caught.value.slug == "output.report-busy"
    assert len(read_report(path, PEER)) == 1  # it may be looked at
    report.close()
    assert go_on(path) == 1


# --- where it cannot be written --------------------------------------------------------------------------


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    old = written(tmp_path / "old", stored())
    (tmp_path / "empty").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    for name in ("old", "empty", "dangling"):
        for resume in (None, old):
            if resume is None or name != "old":
                with pytest.raises(OutputError) as caught:
                    open_reports(tmp_path / name, resume, PEER)
                assert caught.value.slug == "output.exists"
                with pytest.raises(OutputError):
                    check_report(tmp_path / name, resume)
    check_report(old, old)
    check_report(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_places_where_no_report_can_be(tmp_path: Path) -> None:
    for path, slug in (
        (tmp_path, "output.is-directory"),
        (tmp_path / "no" / "folder", "output.no-directory"),
        (tmp_path / ("x" * 300), "output.failed"),
    ):
        with pytest.raises(OutputError) as caught:
            new(path)
        assert caught.value.slug == slug


def test_a_pipe_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OutputError) as caught:
        new(tmp_path / "fifo")
    assert caught.value.slug == "output.report"


def test_a_pipe_somebody_reads(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    written(tmp_path / "fifo", stored())
    told = os.read(reader, 1 << 16).splitlines()
    os.close(reader)
    assert len(told) == 2
    assert (tmp_path / "fifo").exists()


def test_a_full_device(tmp_path: Path) -> None:
    report = new(Path("/dev/full"))
    failure = report.failure
    for number in range(3):
        report.write(outcome_record(stored(number)))
    report.close()
    assert failure is not None
    assert (failure.slug, failure.exit_code) == ("output.report-incomplete", 4)
    assert (report.failure, report.lost) == (failure, 3)


_SMALL = """
import resource, sys
sys.dont_write_bytecode = True  # one cut off by the limit would be everybody's
from tests.services.sending.test_report import *
for limit in map(int, sys.argv[1:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    report = new(Path(str(limit)))
    for number in range(6):
        if number == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        report.write(outcome_record(stored(number)))
    report.close()
    print(limit, report.lost)
"""


def test_what_finds_no_room_leaves_nothing_torn(tmp_path: Path) -> None:
    """The file system takes so many bytes only, and more after the fourth instance: that may find room again."""
    done = subprocess.run(
        [sys.executable, "-c", _SMALL, "0", "50", "200", "700", "1000"],
        env=cli.environment(), capture_output=True, text=True, timeout=cli.LIMIT, check=True,
    )  # fmt: skip
    all_lost = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    for limit, lost in all_lost:
        path = tmp_path / str(limit)
        header, *rest = lines(path)
        assert header["peer"] == "pacs.example:104"
        assert len(rest) == 6 - lost
        assert [instance(number) in read_report(path, PEER) for number in (4, 5)] == [True, True]
    counts = [lost for _, lost in all_lost]
    assert counts[:2] == [4, 4]
    assert counts == sorted(counts, reverse=True)
    assert 0 < counts[-1] < 4
