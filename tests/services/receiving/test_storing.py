"""How instances are stored: duplicates, durability, modes, digests, space."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicomtls_cli.services.receiving import incoming as incoming_module
from dicomtls_cli.services.receiving import settlement
from dicomtls_cli.services.receiving.dcmtk_names import DcmtkNaming
from dicomtls_cli.services.receiving.disk import NoRoom
from dicomtls_cli.services.receiving.naming import parse_layout
from dicomtls_cli.services.receiving.reception import (
    Duplicate,
    Identifiers,
    OnDuplicate,
    StorageOptions,
    Stored,
    UnreadableHead,
)
from dicomtls_cli.services.receiving.storage import Storage
from tests.support.disk import tiny_disk
from tests.support.objects import data_set, element
from tests.support.parts import unnamed
from tests.support.scripted import CT, EXPLICIT

__all__ = ["unnamed"]  # every test here runs with each kind of parts

OTHER = data_set(pixels=b"\1" * 1000)
BY_PATIENT = parse_layout("{PatientID}/{calling_aet}.dcm")


def take(
    storage: Storage, data: bytes | None = None, sop_instance: str = "1.2.3", calling_aet: str = "SCU"
) -> Stored:
    incoming = storage.receive(Identifiers(CT, sop_instance, EXPLICIT, calling_aet, "SCP"))
    try:
        incoming.write(memoryview(data_set(sop_instance) if data is None else data))
        return incoming.commit()
    finally:
        incoming.discard()


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def folders(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_dir())


def storing(directory: Path, **options: object) -> Storage:
    return Storage(directory, StorageOptions(**options))  # type: ignore[arg-type]


# --- duplicates ------------------------------------------------------------------------------------------


def test_overwrite_says_whether_the_data_set_was_the_same_whoever_sent_it(tmp_path) -> None:
    storage = storing(tmp_path)
    stored = [
        take(storage),
        take(storage, calling_aet="ANOTHER"),
        take(storage, OTHER),
        take(storage, OTHER[:-2]),
    ]
    assert [(s.replaced, s.identical, s.kept) for s in stored] == [
        (False, False, False),
        (True, True, False),
        (True, False, False),
        (True, False, False),
    ]
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]
    assert pydicom.dcmread(tmp_path / "1.2.9/1.2.3.dcm").file_meta.SourceApplicationEntityTitle == "SCU"


def test_skip_keeps_the_first_and_says_whether_the_other_was_the_same(tmp_path, caplog) -> None:
    storage = storing(tmp_path, on_duplicate=OnDuplicate.SKIP)
    first = take(storage)
    assert first.path is not None
    content = first.path.read_bytes()
    same, other = take(storage), take(storage, OTHER)
    assert (same.kept, same.identical, other.kept, other.identical) == (True, True, True, False)
    assert first.path.read_bytes() == content
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # of the one that was dropped


def test_suffix_keeps_all_of_them(tmp_path) -> None:
    storage = storing(tmp_path, on_duplicate=OnDuplicate.SUFFIX)
    for data in (data_set(), OTHER, data_set()):
        assert not take(storage, data).replaced
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm", "1.2.9/1.2.3_2.dcm", "1.2.9/1.2.3_3.dcm"]
    assert (tmp_path / "1.2.9/1.2.3_2.dcm").read_bytes().endswith(OTHER)


def test_refuse_takes_each_instance_once(tmp_path) -> None:
    storage = storing(tmp_path, on_duplicate=OnDuplicate.REFUSE)
    take(storage)
    with pytest.raises(Duplicate):
        take(storage, OTHER)
    take(storage, sop_instance="1.2.4")
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm", "1.2.9/1.2.4.dcm"]
    assert (tmp_path / "1.2.9/1.2.3.dcm").read_bytes().endswith(data_set())


@pytest.mark.parametrize("mode", list(OnDuplicate))
def test_another_instance_of_the_same_name_is_never_replaced_dropped_or_refused(mode, tmp_path) -> None:
    """The layout gives a patient one name for all of the instances."""
    storage = storing(tmp_path, on_duplicate=mode, naming=BY_PATIENT)
    uids = [f"1.2.{number}" for number in range(3)]
    for uid in uids:
        assert not take(storage, sop_instance=uid).replaced
    found = {str(pydicom.dcmread(path).SOPInstanceUID) for path in tmp_path.rglob("*.dcm")}
    assert found == set(uids)
    if mode is OnDuplicate.OVERWRITE:
        again = take(storage, sop_instance="1.2.1")
        assert (again.replaced, again.path) == (True, tmp_path / "unknown" / "SCU_1.2.1.dcm")


@pytest.mark.parametrize(
    ("mode", "look"),
    [
        *((mode, "_meta_of") for mode in OnDuplicate if mode is not OnDuplicate.SUFFIX),
        (OnDuplicate.OVERWRITE, "_is_identical"),
        (OnDuplicate.SKIP, "_is_identical"),
    ],
)
def test_what_is_taken_away_while_it_is_looked_at_was_not_there(mode, look, tmp_path, monkeypatch) -> None:
    """A command that runs for each instance may move it away when the same one comes again."""
    storage = storing(tmp_path, on_duplicate=mode)
    first = take(storage)
    looked = getattr(settlement, look)

    def too_late(*arguments: object) -> object:
        assert first.path is not None
        first.path.unlink()
        monkeypatch.setattr(settlement, look, looked)
        return looked(*arguments)

    monkeypatch.setattr(settlement, look, too_late)
    assert take(storage) == first
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


@pytest.mark.parametrize(
    "content", [b"", b"not DICOM", bytes(128) + b"DICM", bytes(128) + b"DICM\2\0\2\0UI\4\0"]
)
def test_a_file_of_somebody_elses_stays(content, tmp_path) -> None:
    theirs = tmp_path / "1.2.9" / "1.2.3.dcm"
    theirs.parent.mkdir()
    theirs.write_bytes(content)
    assert take(storing(tmp_path)).path == tmp_path / "1.2.9" / "1.2.3_1.2.3.dcm"
    assert theirs.read_bytes() == content


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("mode", [OnDuplicate.OVERWRITE, OnDuplicate.SUFFIX])
def test_many_at_once_of_one_name_are_all_there(mode, links, tmp_path, monkeypatch) -> None:
    if not links:
        no_links(monkeypatch)
    storage = storing(tmp_path, on_duplicate=mode, naming=BY_PATIENT)
    ready = threading.Barrier(8)

    def store(worker: int) -> None:
        ready.wait()
        for number in range(10):
            take(storage, sop_instance=f"1.{worker}.{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, range(8)))
    found = [str(pydicom.dcmread(path).SOPInstanceUID) for path in tmp_path.rglob("*.dcm")]
    assert sorted(found) == sorted(f"1.{worker}.{number}" for worker in range(8) for number in range(10))


def test_names_run_out_before_time_does(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(settlement, "_MOST_TRIES", 3)
    storage = storing(tmp_path, on_duplicate=OnDuplicate.SUFFIX)
    for _ in range(3):
        take(storage)
    with pytest.raises(NoRoom, match="no name left"):
        take(storage)
    assert len(files(tmp_path)) == 3


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", fails(errno.EPERM))


@pytest.mark.parametrize("mode", list(OnDuplicate))
def test_a_file_system_without_hard_links(mode, tmp_path, monkeypatch) -> None:
    no_links(monkeypatch)
    storage = storing(tmp_path, on_duplicate=mode)
    take(storage)
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]
    if mode is OnDuplicate.REFUSE:
        with pytest.raises(Duplicate):
            take(storage)
    else:
        again = take(storage)
        assert (again.replaced, again.kept) == (mode is OnDuplicate.OVERWRITE, mode is OnDuplicate.SKIP)
    assert len(files(tmp_path)) == (2 if mode is OnDuplicate.SUFFIX else 1)


# --- layouts ---------------------------------------------------------------------------------------------


def test_a_layout_decides_where_instances_go(tmp_path) -> None:
    naming = parse_layout("{PatientID}/{StudyDate:%Y}/{Modality}/{SOPInstanceUID}.dcm")
    data = b"".join(
        (
            element(0x00080018, b"UI", b"1.2.3"),
            element(0x00080020, b"DA", b"20231224"),
            element(0x00080060, b"CS", b"CT"),
            element(0x00100020, b"LO", b"../../etc"),
        )
    )
    stored = take(storing(tmp_path / "output", naming=naming), data)
    assert stored.path is not None
    (where,) = files(tmp_path)
    assert where.startswith("output/etc_")
    assert where.endswith("/2023/CT/1.2.3.dcm")


def test_dcmtks_time_names_are_all_kept(tmp_path) -> None:
    storage = storing(tmp_path, naming=DcmtkNaming(files="time"))
    assert len({take(storage).path for _ in range(30)}) == 30


def test_an_unreadable_head_is_no_obstacle_where_the_command_says_it_all(tmp_path) -> None:
    garbage = b"\xff" * 100_000
    with pytest.raises(UnreadableHead):
        take(storing(tmp_path), garbage)
    stored = take(storing(tmp_path, naming=parse_layout("{calling_aet}/{SOPInstanceUID}.dcm")), garbage)
    assert stored.path == tmp_path / "SCU" / "1.2.3.dcm"
    assert stored.path.read_bytes().endswith(garbage)
    assert stored.study == ""


def test_a_study_uid_is_told_but_not_all_of_a_long_one(tmp_path) -> None:
    assert take(storing(tmp_path), data_set(study="../" * 1000)).study == ("../" * 1000)[:64]


# --- rights, digests, durability -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "of_file", "of_folder"), [(None, 0o640, 0o750), (0o600, 0o600, 0o700), (0o664, 0o664, 0o775)]
)
def test_rights(mode, of_file, of_folder, tmp_path) -> None:
    """A mode that is asked for holds whatever the umask; names of folders are nobody else's business either."""
    before = os.umask(0o022)
    try:
        naming = parse_layout("{PatientID}/{StudyInstanceUID}/{SOPInstanceUID}.dcm")
        stored = take(storing(tmp_path / "deep" / "output", file_mode=mode, naming=naming))
    finally:
        os.umask(before)
    assert stored.path is not None
    assert stat.S_IMODE(stored.path.stat().st_mode) == of_file
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {of_folder}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_system_without_rights_leaves_nothing(tmp_path, monkeypatch) -> None:
    storage = storing(tmp_path, file_mode=0o600)
    monkeypatch.setattr(os, "fchmod", fails(errno.EPERM))
    before = open_files()
    with pytest.raises(NoRoom, match=os.strerror(errno.EPERM)):
        take(storage)
    assert files(tmp_path) == []
    assert open_files() == before


def test_a_digest_is_that_of_the_file(tmp_path) -> None:
    stored = take(storing(tmp_path, digest=True))
    assert stored.path is not None
    assert stored.sha256 == hashlib.sha256(stored.path.read_bytes()).hexdigest()
    assert take(storing(tmp_path)).sha256 == ""


def test_fsync_makes_the_file_durable_before_it_has_its_name_and_the_names_after_that(
    tmp_path, monkeypatch, unnamed
) -> None:
    storage = storing(tmp_path / "output", fsync=True)
    done = []
    fsync, link = os.fsync, os.link

    def watched_fsync(file: int) -> None:
        synced = Path(f"/proc/self/fd/{file}").readlink()
        done.append("part" if synced.parent.name == ".incoming" else synced.name)
        fsync(file)

    def watched_link(source: str, target: str, **how: Any) -> None:
        link(source, target, **how)
        done.append("named")

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    take(storage)
    assert done == ["part", "output", "named", "1.2.9"]
    done.clear()
    take(storage)
    assert done == ["part", *(["named"] if unnamed else []), "1.2.9"]


def fails(number: int):  # type: ignore[no-untyped-def]
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("unnamed", "call", "number"),
    [
        (False, "fsync", errno.EIO),
        (False, "dup", errno.EDQUOT),  # a file system with unnamed files has told before
        (False, "link", errno.ENOSPC),
        (True, "fsync", errno.EIO),
        (True, "link", errno.ENOSPC),
    ],
    indirect=["unnamed"],
)
def test_what_fails_at_the_end_leaves_neither_file_nor_folder(call, number, tmp_path, monkeypatch) -> None:
    naming = parse_layout("{PatientID}/{StudyInstanceUID}/{SOPInstanceUID}.dcm")
    storage = storing(tmp_path, fsync=True, naming=naming)
    monkeypatch.setattr(os, call, fails(number))
    with pytest.raises(NoRoom, match=os.strerror(number)):
        take(storage)
    assert folders(tmp_path) == [".incoming"]
    assert files(tmp_path) == []


def test_a_folder_that_another_instance_came_into_stays(tmp_path, monkeypatch) -> None:
    storage = storing(tmp_path)
    link = os.link

    def fail_once(source: str, target: str, **_: object) -> None:
        if not Path(target).parent.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        monkeypatch.setattr(os, "link", link)
        take(storage, sop_instance="1.2.4")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", fail_once)
    with pytest.raises(NoRoom):
        take(storage)
    assert files(tmp_path) == ["1.2.9/1.2.4.dcm"]


# --- space -----------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up(tmp_path) -> None:
    """What was stored is whole, what was not leaves nothing, and freed space is used again."""
    with tiny_disk(tmp_path / "disk", 200_000) as disk:
        storage = storing(disk / "output")
        stored: list[Path | None] = []

        def fill() -> None:
            for number in range(100):
                data = data_set(f"1.2.{number}", pixels=bytes(30_000))
                stored.append(take(storage, data, f"1.2.{number}").path)

        with pytest.raises(NoRoom, match="No space left on device"):
            fill()
        assert 1 < len(stored) < 10
        assert files(disk / "output") == sorted(f"1.2.9/1.2.{number}.dcm" for number in range(len(stored)))
        for path in stored:
            assert path is not None
            assert len(pydicom.dcmread(path).PixelData) == 30_000
        assert stored[0] is not None
        stored[0].unlink()
        assert take(storage, sop_instance="1.3").path is not None


def test_a_disk_without_inodes_left(tmp_path) -> None:
    with tiny_disk(tmp_path / "disk", 1 << 20, inodes=5) as disk:
        storage = storing(disk)  # the disk itself, .incoming, and three more
        assert take(storage).path is not None
        with pytest.raises(NoRoom):
            take(storage, data_set(study="1.2.8"))  # there is a part, but no folder
        assert files(disk) == ["1.2.9/1.2.3.dcm"]
        assert folders(disk) == [".incoming", "1.2.9"]


def test_a_disk_with_inodes_for_some_of_the_folders(tmp_path) -> None:
    naming = parse_layout("{PatientID}/{StudyInstanceUID}/{SOPInstanceUID}.dcm")
    with tiny_disk(tmp_path / "disk", 1 << 20, inodes=4) as disk:
        storage = storing(disk, naming=naming)  # the disk itself, .incoming, the part, and one folder of two
        with pytest.raises(NoRoom):
            take(storage)
        assert files(disk) == []
        assert folders(disk) == [".incoming"]


def test_space_that_is_to_stay_free(tmp_path) -> None:
    with tiny_disk(tmp_path / "disk", 1 << 20) as disk:
        storage = storing(disk, min_free=900_000)
        assert take(storage).path is not None
        (disk / "filler").write_bytes(bytes(300_000))
        with pytest.raises(NoRoom, match=r"free in .*, less than the 900\.0 KB that are to stay free"):
            take(storage)
        (disk / "filler").unlink()
        assert take(storage).replaced
        assert files(disk) == ["1.2.9/1.2.3.dcm"]


def test_space_is_watched_while_a_large_instance_comes_in(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(incoming_module, "_SPACE_STEP", 100_000)
    with tiny_disk(tmp_path / "disk", 1 << 20) as disk:
        storage = storing(disk, min_free=600_000)
        incoming = storage.receive(Identifiers(CT, "1.2.3", EXPLICIT, "SCU", "SCP"))
        incoming.write(memoryview(data_set(pixels=b"")))

        def go_on() -> None:
            for _ in range(10):
                incoming.write(memoryview(bytes(60_000)))

        with pytest.raises(NoRoom, match="stay free"):
            go_on()
        assert files(disk) == []


def test_little_space_is_warned_of_once_until_there_is_more(tmp_path, caplog) -> None:
    with tiny_disk(tmp_path / "disk", 1_000_000) as disk:
        storage = storing(disk, min_free=1)
        for _ in range(2):
            caplog.clear()
            (disk / "filler").write_bytes(bytes(970_000))
            for _ in range(3):
                take(storage)
            (told,) = [record.getMessage() for record in caplog.records]
            assert "KB free in" in told
            (disk / "filler").unlink()
            take(storage)


def test_a_limit_of_a_files_size(tmp_path) -> None:
    """EFBIG from the kernel; see also tests/cli, where a whole process has the limit."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    storage = storing(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(NoRoom, match="File too large"):
            take(storage, data_set(pixels=bytes(50_000)))
        assert take(storage).path is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


def test_an_output_directory_that_becomes_read_only_and_back(tmp_path) -> None:
    with tiny_disk(tmp_path / "disk", 1 << 20) as disk:
        storage = storing(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(NoRoom, match="Read-only"):
            take(storage)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert take(storage).path is not None
