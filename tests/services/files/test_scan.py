"""What is found at the paths somebody names, and what is not sent, and why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services.files.scan import Instance, Skipped, scan
from tests.support.cli import environment
from tests.support.discs import dicomdir
from tests.support.objects import write
from tests.support.scripted import LIMIT


def found(*paths: Path, **how: Any) -> tuple[list[Instance], list[Skipped]]:
    instances: list[Instance] = []
    skipped: list[Skipped] = []
    for one in scan(paths, **how):
        instances.append(one) if isinstance(one, Instance) else skipped.append(one)
    return instances, skipped


def names(instances: Iterable[Instance | Skipped]) -> list[str]:
    return [one.path.name for one in instances]


def refused(path: Path) -> Skipped:
    """Return why a path that was named is not sent."""
    instances, (skipped,) = found(path)
    assert instances == []
    assert skipped.path == path
    assert skipped.expected
    assert skipped.error.exit_code == ExitCode.INPUT
    return skipped


# --- paths that are no files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing.dcm", "missing/below.dcm", "x" * 300, "x/" * 3000])
def test_a_path_that_leads_nowhere(name, tmp_path) -> None:
    instances, (skipped,) = found(tmp_path / name)
    assert (instances, skipped.expected) == ([], True)
    assert skipped.error.slug == "input.unreadable"
    assert skipped.error.exit_code == ExitCode.INPUT


def test_a_file_where_a_folder_is_meant(tmp_path) -> None:
    write(tmp_path / "a.dcm")
    assert refused(tmp_path / "a.dcm" / "b.dcm").error.slug == "input.unreadable"


def test_a_fifo_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path / "a.dcm")
    assert "no regular file" in refused(tmp_path / "fifo").error.message
    instances, (skipped,) = found(tmp_path)
    assert names(instances) == ["a.dcm"]
    assert ("no regular file" in skipped.error.message, skipped.expected) == (True, False)


def test_a_device_is_not_read() -> None:
    assert refused(Path("/dev/zero")).error.slug == "input.not-dicom"


def test_a_dangling_link(tmp_path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert refused(tmp_path / "link").error.slug == "input.unreadable"
    _, (skipped,) = found(tmp_path)
    assert "it is a link that leads nowhere" in skipped.error.message
    assert not skipped.expected


def test_links_that_lead_in_circles(tmp_path) -> None:
    write(tmp_path / "folder" / "a.dcm")
    (tmp_path / "folder" / "self").symlink_to("self")
    (tmp_path / "folder" / "up").symlink_to("..")
    (tmp_path / "folder" / "ping").symlink_to("pong")
    (tmp_path / "folder" / "pong").symlink_to("ping")
    instances, skipped = found(tmp_path)
    assert names(instances) == ["a.dcm"]
    assert {one.path.name: (one.error.slug, one.expected) for one in skipped} == {
        "self": ("input.unreadable", True),
        "ping": ("input.unreadable", True),
        "pong": ("input.unreadable", True),
        "up": ("input.not-dicom", False),
    }
    assert refused(tmp_path / "folder" / "self").error.slug == "input.unreadable"


def test_a_linked_file_is_sent_and_a_linked_folder_only_where_it_is_named(tmp_path) -> None:
    write(tmp_path / "real" / "a.dcm")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").symlink_to(tmp_path / "real" / "a.dcm")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "real")
    instances, (skipped,) = found(tmp_path / "folder")
    assert names(instances) == ["file"]
    assert "it is a link to a folder" in skipped.error.message
    assert names(found(tmp_path / "folder" / "link")[0]) == ["a.dcm"]


# --- folders ---------------------------------------------------------------------------------------------


def test_a_folder_in_the_order_of_its_names_without_what_is_hidden(tmp_path) -> None:
    for name in ("b/2.dcm", "b/1.dcm", "a/z.dcm", "c.dcm", "a/.hidden.dcm", ".git/x.dcm", "b/deep/er/x"):
        write(tmp_path / name)
    instances, skipped = found(tmp_path)
    assert [str(one.path.relative_to(tmp_path)) for one in instances] == [
        "a/z.dcm",
        "b/1.dcm",
        "b/2.dcm",
        "b/deep/er/x",
        "c.dcm",
    ]
    hidden = {str(one.path.relative_to(tmp_path)): (one.error.slug, one.expected) for one in skipped}
    assert hidden == {".git": ("input.hidden", False), "a/.hidden.dcm": ("input.hidden", False)}


def test_what_is_hidden_is_sent_where_it_is_named(tmp_path) -> None:
    hidden = write(tmp_path / ".a.dcm")
    in_folder = write(tmp_path / ".cache" / "b.dcm")
    instances, _ = found(hidden, tmp_path / ".cache")
    assert [one.path for one in instances] == [hidden, in_folder]


def test_without_descending(tmp_path) -> None:
    write(tmp_path / "a.dcm")
    write(tmp_path / "sub" / "b.dcm")
    assert names(found(tmp_path, recurse=False)[0]) == ["a.dcm"]


def test_paths_in_the_order_they_are_named_and_as_often(tmp_path) -> None:
    one, two = write(tmp_path / "1.dcm"), write(tmp_path / "2.dcm")
    assert [i.path for i in found(two, one, two)[0]] == [two, one, two]


def test_an_empty_folder(tmp_path) -> None:
    assert found(tmp_path) == ([], [])


def test_strict_names_what_would_be_passed_over(tmp_path) -> None:
    write(tmp_path / "a.dcm")
    write(tmp_path / ".git" / "b.dcm")
    (tmp_path / ".hidden").touch()
    (tmp_path / "readme.txt").write_text("no image")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to(".")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "DICOMDIR").write_bytes(dicomdir())
    instances, skipped = found(tmp_path, strict=True)
    assert names(instances) == ["a.dcm"]
    assert {one.path.name: one.error.slug for one in skipped if one.expected} == {
        ".git": "input.hidden",
        ".hidden": "input.hidden",
        "readme.txt": "input.not-dicom",
        "empty": "input.not-dicom",
        "link": "input.not-dicom",
        "fifo": "input.not-dicom",
    }
    assert [one.path.name for one in skipped if not one.expected] == ["DICOMDIR"]
    instances, lenient = found(tmp_path)
    assert [one._replace(error=None) for one in lenient] == [
        one._replace(expected=False, error=None) for one in skipped
    ]


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        ([], ["A.DCM", "a.dcm", "b.ima", "below.dcm/c.dcm", "d[1].dcm"]),
        (["*.dcm"], ["a.dcm", "below.dcm/c.dcm", "d[1].dcm"]),
        (["*.ima", "?.dcm"], ["a.dcm", "b.ima", "below.dcm/c.dcm"]),
        (["*.[Dd][Cc][Mm]"], ["A.DCM", "a.dcm", "below.dcm/c.dcm", "d[1].dcm"]),
        (["*[1].dcm"], []),
        ([r"*\[1].dcm"], ["d[1].dcm"]),
        (["[!ar]*"], ["A.DCM", "b.ima", "below.dcm/c.dcm", "d[1].dcm"]),
        ([".*"], [".hidden.dcm"]),
        (["below.dcm/*"], []),
        ([""], []),
    ],
)
def test_patterns_choose_files_in_folders_by_name(patterns, wanted, tmp_path) -> None:
    """What does not match is not looked at, whatever it is; folders are descended into by any name."""
    for name in ("a.dcm", "A.DCM", "b.ima", "below.dcm/c.dcm", "d[1].dcm", ".hidden.dcm"):
        write(tmp_path / name)
    (tmp_path / "readme.txt").write_text("no image")
    instances, skipped = found(tmp_path, patterns=patterns, strict=bool(patterns))
    assert [str(one.path.relative_to(tmp_path)) for one in instances] == wanted
    assert [one.path.name for one in skipped] == ([] if patterns else [".hidden.dcm", "readme.txt"])


def test_a_file_that_is_named_needs_to_match_no_pattern(tmp_path) -> None:
    named = write(tmp_path / "a.ima")
    assert names(found(named, tmp_path, patterns=["*.dcm"])[0]) == ["a.ima"]


def test_what_vanishes_while_the_folder_is_looked_through(tmp_path) -> None:
    for name in ("1.dcm", "2.dcm", "3/x.dcm", "4.dcm"):
        write(tmp_path / name)
    files = scan([tmp_path])
    assert next(files).path.name == "1.dcm"
    (tmp_path / "2.dcm").unlink()
    shutil.rmtree(tmp_path / "3")
    rest = [(one.path.name, getattr(one, "expected", None)) for one in files]
    assert rest == [("2.dcm", True), ("3", True), ("4.dcm", None)]


def test_a_folder_of_very_many_files_takes_little_memory(tmp_path) -> None:
    """A name each, and only of the folder that is being looked through."""
    for number in range(2000):
        (tmp_path / f"{number:06}").touch()
    peaks = []
    # What is imported at the first time, or done by threads that other tests left, is not the scan's.
    for _ in range(3):
        tracemalloc.start()
        count = sum(1 for _ in scan([tmp_path]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == 2000
    assert min(peaks) < 2000 * 300


def test_why_a_file_was_passed_over_is_told_to_who_asks(tmp_path, caplog) -> None:
    (tmp_path / "readme.txt").write_text("no image")
    with caplog.at_level("DEBUG", "dicomtls.scan"):
        found(tmp_path)
    assert f"passed over: `{tmp_path}/readme.txt` is not a DICOM file: it has no `DICM`" in caplog.text


def test_folders_deeper_than_pythons_own_stack(tmp_path) -> None:
    folders = [tmp_path]
    try:
        for _ in range(sys.getrecursionlimit() + 100):
            folders.append(folders[-1] / "d")
            folders[-1].mkdir()
        write(folders[-1] / "a.dcm")
        instances, skipped = found(tmp_path)
        assert (names(instances), skipped) == (["a.dcm"], [])
        (folders[-1] / "a.dcm").unlink()
    finally:
        for folder in reversed(folders[1:]):  # pytest's own cleaning does not get that deep
            folder.rmdir()


_UNPRIVILEGED = """
import os, sys
from pathlib import Path
from dicomtls_cli.services.files.scan import Instance, scan
if os.getuid() == 0:
    os.setuid(65534)
for one in scan([Path(word) for word in sys.argv[1:]]):
    print(one.path, "instance" if isinstance(one, Instance) else one.error.slug, getattr(one, "expected", ""))
"""


def test_what_may_not_be_read(tmp_path) -> None:
    """By a user without privileges: for root nothing is unreadable."""
    tmp_path.chmod(0o755)
    write(tmp_path / "folder" / "good.dcm").chmod(0o644)
    write(tmp_path / "folder" / "secret.dcm").chmod(0)
    write(tmp_path / "folder" / "shut" / "a.dcm")
    (tmp_path / "folder" / "via").symlink_to("shut/a.dcm")
    (tmp_path / "folder" / "shut").chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", _UNPRIVILEGED, "folder", "folder/secret.dcm", "folder/shut/a.dcm", "folder/shut"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    (tmp_path / "folder" / "shut").chmod(0o755)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "folder/good.dcm instance ",
        "folder/secret.dcm input.unreadable True",
        "folder/shut input.unreadable True",
        "folder/via input.unreadable True",
        "folder/secret.dcm input.unreadable True",
        "folder/shut/a.dcm input.unreadable True",
        "folder/shut input.unreadable True",
    ]
