"""What is found at the paths somebody names, and what is not sent, and why."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services import scan as module
from dicomtls_cli.services.scan import Instance, Skipped, scan
from tests.support import images
from tests.support.cli import environment
from tests.support.objects import data_set, element, file_meta, write
from tests.support.scripted import CT, EXPLICIT, LIMIT, MR

DEFLATED = "1.2.840.10008.1.2.1.99"


def found(*paths: Path, recurse: bool = True) -> tuple[list[Instance], list[Skipped]]:
    instances, skipped = [], []
    for one in scan(paths, recurse=recurse):
        (instances if isinstance(one, Instance) else skipped).append(one)
    return instances, skipped  # type: ignore[return-value]


def names(instances: Iterable[Instance | Skipped]) -> list[str]:
    return [one.path.name for one in instances]


def refused(path: Path) -> Skipped:
    """Return why a file that was named is not sent."""
    instances, (skipped,) = found(path)
    assert instances == []
    assert skipped.path == path
    assert skipped.error.exit_code == ExitCode.INPUT
    assert str(path) in skipped.error.message or not str(path).isprintable()
    assert skipped.error.hint
    return skipped


# --- one file --------------------------------------------------------------------------------------------


def test_what_is_known_of_a_file(tmp_path) -> None:
    path = write(tmp_path / "a.dcm")
    (instance,), _ = found(path)
    offset = len(file_meta())
    modified = path.stat().st_mtime_ns
    assert instance == Instance(
        path, offset + len(data_set()), offset, CT, "1.2.3", EXPLICIT, modified=modified
    )


@pytest.mark.parametrize("path", images.variety(), ids=lambda path: path.name)
def test_real_files_are_read_as_pydicom_reads_them(path) -> None:
    (instance,), _ = found(path)
    seen = pydicom.dcmread(path)
    assert instance.sop_class == (seen.get("SOPClassUID") or seen.file_meta.MediaStorageSOPClassUID)
    assert instance.sop_instance == images.sop_instance(path)
    assert instance.transfer_syntax == seen.file_meta.TransferSyntaxUID
    assert path.read_bytes()[instance.offset :] == images.data_set(path)
    assert instance.size == path.stat().st_size


@pytest.mark.parametrize(
    ("data", "meta", "remark"),
    [
        (data_set("1.2.3"), {}, ""),
        (data_set("1.2.4"), {}, "the file meta has another SOP Instance UID (1.2.3)"),
        (data_set("1.2.3", sop_class=MR), {}, f"the file meta has another SOP Class UID ({CT})"),
    ],
)
def test_the_data_sets_uids_count(data, meta, remark, tmp_path) -> None:
    path = write(tmp_path / "a.dcm", data, **meta)
    (instance,), _ = found(path)
    seen = pydicom.dcmread(path)
    assert (instance.sop_class, instance.sop_instance) == (seen.SOPClassUID, seen.SOPInstanceUID)
    assert instance.remark == remark


def test_the_file_metas_uids_stand_in_where_the_data_set_has_none(tmp_path) -> None:
    path = write(tmp_path / "a.dcm", element(0x00100010, b"PN", b"Nobody"), "1.2.77", sop_class=MR)
    (instance,), _ = found(path)
    assert (instance.sop_class, instance.sop_instance, instance.remark) == (MR, "1.2.77", "")


def test_uids_behind_a_long_value_are_found(tmp_path) -> None:
    """The first read does not reach them."""
    long = element(0x00080005, b"UT", b"x" * 300_000)
    (instance,), _ = found(write(tmp_path / "a.dcm", long + data_set("1.2.55")))
    assert instance.sop_instance == "1.2.55"


def test_a_deflated_data_set(tmp_path) -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = packer.compress(data_set("1.2.66")) + packer.flush()
    (instance,), _ = found(write(tmp_path / "a.dcm", data, "1.2.66", transfer_syntax=DEFLATED))
    assert (instance.sop_instance, instance.transfer_syntax) == ("1.2.66", DEFLATED)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"hello", "no `DICM`"),
        (bytes(1000), "no `DICM`"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB\n", "it is a PEM file"),
        (b"Bag Attributes\n    friendlyName: x\n-----BEGIN PRIVATE KEY-----\n", "it is a PEM file"),
        (data_set(), "no `DICM`"),
    ],
)
def test_a_file_that_is_no_dicom(content, words, tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    skipped = refused(path)
    assert words in skipped.error.message
    assert skipped.error.slug == "input.not-dicom"
    assert skipped.expected
    _, (among_others,) = found(tmp_path)
    assert not among_others.expected  # nobody named it: it is just no image


WHOLE = file_meta() + data_set()


def test_a_file_cut_off_in_its_uids_is_named_as_such(tmp_path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(WHOLE[: len(file_meta()) + 20])
    assert refused(path).error.slug == "input.truncated"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(WHOLE[:132], id="after the prefix"),
        pytest.param(WHOLE[:150], id="in the meta"),
        pytest.param(file_meta("") + data_set(""), id="no SOP Instance UID"),
        pytest.param(file_meta("not a UID") + data_set("not a UID"), id="no valid SOP Instance UID"),
        pytest.param(file_meta(transfer_syntax="") + data_set(), id="no transfer syntax"),
        pytest.param(file_meta("", sop_class="") + b"\xff" * 500, id="garbage"),
        pytest.param(file_meta("", transfer_syntax=DEFLATED) + b"\xff" * 500, id="not deflated"),
    ],
)
def test_a_broken_file_is_a_failure_also_where_nobody_named_it(content, tmp_path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    assert refused(path).error.slug == "input.broken-dicom"
    _, (among_others,) = found(tmp_path)
    assert among_others.expected


def test_a_length_in_the_head_does_not_decide_how_much_is_read(tmp_path, monkeypatch) -> None:
    path = tmp_path / "huge.dcm"
    path.write_bytes(file_meta() + element(0x00080005, b"UT", b"", length=4_000_000_000))
    with path.open("r+b") as file:
        file.truncate(4_000_100_000)  # sparse: takes no room
    asked = []

    def ask(file: BytesIO, *_: object) -> dict[int, str]:
        asked.append(len(file.getbuffer()))
        return {}

    monkeypatch.setattr(module, "ask_pydicom", ask)
    assert refused(path).error.slug == "input.broken-dicom"
    assert asked == [1 << 20]


def test_a_deflate_bomb_is_not_inflated(tmp_path) -> None:
    """A MiB of it would be a GiB of memory: pydicom, which inflates all of it, is not asked."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    data = packer.compress(element(0x00080005, b"UT", bytes(64 << 20))) + packer.flush()
    path = write(tmp_path / "a.dcm", data, transfer_syntax=DEFLATED)
    tracemalloc.start()
    assert refused(path).error.slug == "input.broken-dicom"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


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
    instances, skipped = found(tmp_path)
    assert (names(instances), skipped) == (["a.dcm"], [])


def test_a_device_is_not_read() -> None:
    assert refused(Path("/dev/zero")).error.slug == "input.not-dicom"


def test_a_dangling_link(tmp_path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert refused(tmp_path / "link").error.slug == "input.unreadable"
    assert found(tmp_path) == ([], [])


def test_links_that_lead_in_circles(tmp_path) -> None:
    write(tmp_path / "folder" / "a.dcm")
    (tmp_path / "folder" / "self").symlink_to("self")
    (tmp_path / "folder" / "up").symlink_to("..")
    (tmp_path / "folder" / "ping").symlink_to("pong")
    (tmp_path / "folder" / "pong").symlink_to("ping")
    instances, skipped = found(tmp_path)
    assert names(instances) == ["a.dcm"]
    assert all(one.error.slug == "input.unreadable" for one in skipped)
    assert refused(tmp_path / "folder" / "self").error.slug == "input.unreadable"


def test_a_linked_file_is_sent_and_a_linked_folder_only_where_it_is_named(tmp_path) -> None:
    write(tmp_path / "real" / "a.dcm")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").symlink_to(tmp_path / "real" / "a.dcm")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "real")
    instances, _ = found(tmp_path / "folder")
    assert names(instances) == ["file"]
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
    assert skipped == []


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


def test_a_dicomdir_is_passed_over_and_what_it_lists_is_sent() -> None:
    disc = images.FOLDER / "dicomdirtests"
    instances, skipped = found(disc / "DICOMDIR", disc / "77654033")
    assert {one.sop_instance for one in instances} == {
        str(pydicom.dcmread(path).SOPInstanceUID) for path in (disc / "77654033").rglob("*") if path.is_file()
    }
    (directory,) = skipped
    assert directory.path.name == "DICOMDIR"
    assert not directory.expected
    assert "DICOMDIR" in directory.error.message


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
from dicomtls_cli.services.scan import Instance, scan
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
