"""Names that stay where they belong, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import ExitCode, OutputError
from dicomtls_cli.services.receiving import disk, parts
from dicomtls_cli.services.receiving.disk import NoRoom
from dicomtls_cli.services.receiving.reception import (
    Identifiers,
    Ignored,
    Stored,
    UidMismatch,
    UnreadableHead,
)
from dicomtls_cli.services.receiving.storage import Storage
from tests.support import images
from tests.support.cli import environment
from tests.support.disk import tiny_disk
from tests.support.names import HOSTILE
from tests.support.objects import data_set, element
from tests.support.parts import unnamed
from tests.support.scripted import CT, EXPLICIT, IMPLICIT, LIMIT, MR

__all__ = ["unnamed"]  # every test here runs with each kind of parts


@pytest.mark.parametrize("study", [text for text in HOSTILE if text.isascii()])
def test_a_hostile_study_uid_is_stored_inside_the_directory(study, tmp_path) -> None:
    directory = tmp_path / "deep" / "output"
    stored = take(Storage(directory), data_set(study=study))
    assert stored.path is not None
    assert stored.path.resolve().parent.parent == directory.resolve()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["output"]
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


# --- one instance ----------------------------------------------------------------------------------------


def named(sop_instance: str = "1.2.3", sop_class: str = CT, syntax: str = EXPLICIT) -> Identifiers:
    return Identifiers(sop_class, sop_instance, syntax, "SCU", "SCP")


def take(store: Storage, data: bytes, who: Identifiers | None = None, cuts: Iterable[int] = ()) -> Stored:
    """Take an instance in, cut into pieces at `cuts`."""
    incoming = store.receive(who or named())
    try:
        borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in pairwise(borders):
            incoming.write(memoryview(data)[start:end])
        return incoming.commit()
    finally:
        incoming.discard()


def files(directory: Path) -> list[str]:
    """Return every file there is, `.incoming` included."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_an_instance_becomes_a_part_10_file(tmp_path) -> None:
    data = data_set()
    stored = take(Storage(tmp_path), data)
    assert stored == Stored(str(tmp_path / "1.2.9" / "1.2.3.dcm"), len(data), study="1.2.9")
    assert stored.path == tmp_path / "1.2.9" / "1.2.3.dcm"
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]
    found = pydicom.dcmread(stored.path)
    assert found.StudyInstanceUID == "1.2.9"
    meta = found.file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, "1.2.3")
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.SourceApplicationEntityTitle == meta.SendingApplicationEntityTitle == "SCU"
    assert meta.ReceivingApplicationEntityTitle == "SCP"
    assert meta.ImplementationClassUID.startswith("2.25.")
    assert stored.path.read_bytes().endswith(data)
    assert stored.path.stat().st_mode & 0o007 == 0


@given(
    st.lists(st.integers(0, 1200), max_size=8),
    st.sampled_from([b"", element(0x00100020, b"LO", b"x" * 40), element(0x00181000, b"UN", bytes(5000))]),
)
def test_streamed_in_any_split_equals_one_shot(tmp_path_factory, cuts, before) -> None:
    directory = tmp_path_factory.mktemp("split")
    data = data_set(before_study=before)
    whole = take(Storage(directory), data)
    assert whole.path is not None
    content = whole.path.read_bytes()
    split = take(Storage(directory), data, cuts=cuts)
    assert split == Stored(whole.file, len(data), replaced=True, identical=True, study="1.2.9")
    assert split.path is not None
    assert split.path.read_bytes() == content
    assert files(directory) == ["1.2.9/1.2.3.dcm"]


@pytest.mark.parametrize("path", images.variety(), ids=lambda path: path.name)
def test_every_kind_of_file_is_stored_as_it_came(path, tmp_path) -> None:
    """In pieces of odd sizes, the head among them, in whatever transfer syntax."""
    source = pydicom.dcmread(path)
    sop_class = str(source.get("SOPClassUID") or source.file_meta.MediaStorageSOPClassUID)
    who = named(images.sop_instance(path), sop_class, str(source.file_meta.TransferSyntaxUID))
    data = images.as_sent(path)
    sizes = random.Random(path.name)
    stored = take(Storage(tmp_path), data, who, cuts=[sizes.randrange(3000) for _ in range(9)])
    assert stored.path is not None
    assert images.data_set(stored.path) == data
    assert stored.path.parent.name == str(source.get("StudyInstanceUID") or "unknown")
    assert images.instance(stored.path) == images.instance(path)


def test_the_same_instance_again_replaces_the_file_and_says_whether_it_was_the_same(tmp_path) -> None:
    store = Storage(tmp_path)
    first = take(store, data_set())
    again = take(store, data_set())
    other = take(store, data_set(pixels=b"\1" * 1000))
    assert [(s.path, s.replaced, s.identical) for s in (first, again, other)] == [
        (first.path, False, False),
        (first.path, True, True),
        (first.path, True, False),
    ]
    assert first.path is not None
    assert first.path.read_bytes().endswith(b"\1" * 1000)


def test_without_a_study_uid(tmp_path) -> None:
    for study in (None, ""):
        assert take(Storage(tmp_path), data_set(study=study)).path == tmp_path / "unknown" / "1.2.3.dcm"


@pytest.mark.parametrize("where", ["write", "commit"])
@pytest.mark.parametrize(
    "data", [data_set("1.2.4"), data_set(sop_class=MR)], ids=["SOP Instance UID", "SOP Class UID"]
)
def test_other_uids_than_the_commands_are_refused(data, where, tmp_path) -> None:
    cuts = [] if where == "write" else range(len(data))
    with pytest.raises(UidMismatch, match=r"the data set has .*, the command"):
        take(Storage(tmp_path), data, cuts=cuts)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "syntax"),
    [
        pytest.param(b"\xff" * 5000, EXPLICIT, id="garbage"),
        pytest.param(b"\xff" * 5000, IMPLICIT, id="implicit garbage"),
        pytest.param(b"\xff" * 5000, "1.2.840.10008.1.2.1.99", id="not deflated"),
        pytest.param(data_set()[:40], EXPLICIT, id="cut off in the SOP Instance UID"),
    ],
)
def test_an_unreadable_head_is_refused(data, syntax, tmp_path) -> None:
    with pytest.raises(UnreadableHead):
        take(Storage(tmp_path), data, named(syntax=syntax))
    assert files(tmp_path) == []


def test_lengths_in_the_head_do_not_decide_how_much_is_kept_in_memory(tmp_path) -> None:
    """The value before the Study Instance UID claims 3 GB, and the peer goes on sending."""
    incoming = Storage(tmp_path).receive(named())
    start = data_set(study=None).partition(struct.pack("<HH", 0x7FE0, 0x0010))[0]
    incoming.write(memoryview(start + element(0x00181000, b"UN", b"", length=3_000_000_000)))
    piece = memoryview(bytes(65536))

    def go_on() -> None:
        for _ in range(40):
            incoming.write(piece)

    with pytest.raises(UnreadableHead, match="first MiB"):
        go_on()
    assert len(incoming._head) <= (1 << 20) + len(piece)
    incoming.discard()
    assert files(tmp_path) == []


def test_a_deflate_bomb_is_not_inflated(tmp_path) -> None:
    """pydicom, which inflates all of it, is not asked."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    data = packer.compress(element(0x00080005, b"UT", bytes(256 << 20))) + packer.flush()
    assert len(data) > 200_000
    tracemalloc.start()
    with pytest.raises(UnreadableHead):
        take(Storage(tmp_path), data, named(syntax="1.2.840.10008.1.2.1.99"), cuts=range(0, len(data), 65536))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert files(tmp_path) == []


def test_a_discarded_instance_leaves_nothing(tmp_path, unnamed) -> None:
    incoming = Storage(tmp_path).receive(named())
    incoming.write(memoryview(data_set()))
    assert len(files(tmp_path)) == (0 if unnamed else 1)
    incoming.discard()
    incoming.discard()
    assert files(tmp_path) == []


def test_discard_after_commit_is_harmless(tmp_path) -> None:
    take(Storage(tmp_path), data_set())
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


def test_an_instance_that_is_not_finished_is_not_where_others_look(tmp_path, unnamed) -> None:
    incoming = Storage(tmp_path).receive(named())
    incoming.write(memoryview(data_set()))
    assert files(tmp_path) == ([] if unnamed else [f".incoming/{os.getpid()}-1.part"])
    incoming.commit()
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


def test_ignored_instances_are_counted() -> None:
    ignored = Ignored()
    ignored.write(memoryview(b"abc"))
    ignored.write(memoryview(b"de"))
    ignored.discard()
    assert ignored.commit() == Stored(None, 5)


# --- a disk that does not want ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE]
)
def test_a_write_that_fails_leaves_nothing(number, tmp_path, monkeypatch) -> None:
    incoming = Storage(tmp_path).receive(named())
    incoming.write(memoryview(data_set()))

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(NoRoom, match=os.strerror(number)):
        incoming.write(memoryview(b"more"))
    assert files(tmp_path) == []
    monkeypatch.undo()
    incoming.discard()


def test_a_disk_that_is_full_from_the_start(tmp_path, monkeypatch) -> None:
    store = Storage(tmp_path)

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(NoRoom):
        take(store, data_set())
    assert files(tmp_path) == []


def test_a_write_that_takes_little_at_a_time_is_gone_on_with(tmp_path, monkeypatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:100])))
    stored = take(Storage(tmp_path), data_set())
    assert stored.path is not None
    assert stored.path.read_bytes().endswith(data_set())


def test_a_place_that_is_taken_by_a_folder(tmp_path) -> None:
    (tmp_path / "1.2.9" / "1.2.3.dcm" / "x").mkdir(parents=True)
    with pytest.raises(NoRoom):
        take(Storage(tmp_path), data_set())
    (tmp_path / "1.2.8").write_text("a file where the folder of the study has to be")
    with pytest.raises(NoRoom):
        take(Storage(tmp_path), data_set(study="1.2.8"))
    assert files(tmp_path) == ["1.2.8"]


def test_an_output_directory_that_is_removed_while_it_runs_is_made_again(tmp_path) -> None:
    store = Storage(tmp_path / "output")
    (tmp_path / "output" / ".incoming").rmdir()
    (tmp_path / "output").rmdir()
    assert take(store, data_set()).path == tmp_path / "output" / "1.2.9" / "1.2.3.dcm"


def test_an_output_directory_that_is_removed_under_an_instance(tmp_path, unnamed) -> None:
    store = Storage(tmp_path / "output")
    incoming = store.receive(named())
    incoming.write(memoryview(data_set()))
    for path in (tmp_path / "output" / ".incoming").iterdir():
        path.unlink()
    (tmp_path / "output" / ".incoming").rmdir()
    (tmp_path / "output").rmdir()
    if unnamed:  # it is still there, and so it is stored
        incoming.commit()
        assert files(tmp_path) == ["output/1.2.9/1.2.3.dcm"]
    else:
        with pytest.raises(NoRoom):
            incoming.commit()
    incoming.discard()
    assert take(store, data_set()).path is not None


def test_an_output_directory_that_cannot_be(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError) as caught:
            Storage(directory)
        assert caught.value.slug == "output.directory"
        assert caught.value.exit_code == ExitCode.CANNOT_WRITE
        assert str(directory) in caught.value.message


_UNPRIVILEGED = """
import os, pathlib, sys
from dicomtls_cli.errors import OutputError
from dicomtls_cli.services.receiving.storage import Storage
if os.getuid() == 0:
    os.setuid(65534)
try:
    Storage(pathlib.Path(sys.argv[1]))
except OutputError as error:
    print(error.slug)
"""


def test_a_read_only_output_directory(tmp_path) -> None:
    tmp_path.chmod(0o755)  # the way there is open, by a relative path
    (tmp_path / "output").mkdir(mode=0o555)
    done = run_python(_UNPRIVILEGED, "output", cwd=tmp_path)
    assert done.stdout == "output.directory\n", done.stderr
    assert files(tmp_path) == []


# --- processes -------------------------------------------------------------------------------------------


def run_python(code: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=cwd, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


_RECEIVING = """
import pathlib, sys
from dicomtls_cli.services.receiving import parts
from dicomtls_cli.services.receiving.reception import Identifiers
from dicomtls_cli.services.receiving.storage import Storage
if sys.argv[2] == "named":
    parts.is_local = lambda folder: False
storage = Storage(pathlib.Path(sys.argv[1]))
incoming = storage.receive(Identifiers("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1", "A", "B"))
incoming.write(memoryview(bytes.fromhex(sys.argv[3])))
print("receiving", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, unnamed) -> None:
    """Where parts have no name, nothing is left."""
    kind = "unnamed" if unnamed else "named"
    with subprocess.Popen(
        [sys.executable, "-c", _RECEIVING, str(tmp_path), kind, data_set().hex()],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "receiving\n"
        there = [] if unnamed else [f".incoming/{process.pid}-1.part"]
        assert files(tmp_path) == there
        Storage(tmp_path)
        assert files(tmp_path) == there
        process.kill()
    assert files(tmp_path) == there
    Storage(tmp_path)
    assert files(tmp_path) == []


def test_our_own_parts_survive_a_second_storage_in_the_same_process(tmp_path) -> None:
    incoming = Storage(tmp_path).receive(named())
    incoming.write(memoryview(data_set()))
    Storage(tmp_path)
    assert incoming.commit().path is not None


def test_a_process_of_the_same_id_in_another_container(tmp_path) -> None:
    """Both are process 1 of their container and share a volume."""
    store = Storage(tmp_path)
    theirs = tmp_path / ".incoming" / f"{os.getpid()}-1.part"
    theirs.write_text("not ours")
    assert take(store, data_set()).path is not None
    assert files(tmp_path) == [f".incoming/{theirs.name}", "1.2.9/1.2.3.dcm"]
    assert theirs.read_text() == "not ours"


@pytest.mark.skipif(disk.fcntl is None, reason="no flock here")
@pytest.mark.parametrize("unnamed", [False], indirect=True)  # what has no name is nobody's orphan
def test_a_part_that_is_taken_for_an_orphan_before_it_is_locked(tmp_path, monkeypatch) -> None:
    store = Storage(tmp_path)
    flock = disk.fcntl.flock
    taken = []

    def other_process_first(file: int, operation: int) -> None:
        if not taken:
            (part,) = (tmp_path / ".incoming").iterdir()
            part.unlink()
            taken.append(part)
        flock(file, operation)

    monkeypatch.setattr(disk.fcntl, "flock", other_process_first)
    assert take(store, data_set()).path is not None
    assert taken


@pytest.mark.skipif(disk.fcntl is None, reason="no flock here")
def test_a_file_system_without_locks(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(disk.fcntl, "flock", refuse)
    store = Storage(tmp_path)
    incoming = store.receive(named())
    incoming.write(memoryview(data_set()))
    Storage(tmp_path)  # removes nothing it could not lock
    assert incoming.commit().path is not None


def test_without_flock_the_file_is_closed_before_it_is_renamed(tmp_path, monkeypatch) -> None:
    """Windows renames no open file."""
    monkeypatch.setattr(disk, "fcntl", None)
    monkeypatch.setattr(parts, "is_local", lambda folder: False)
    monkeypatch.setattr(os, "link", fails(errno.EPERM))
    replace, replaced = os.replace, []

    def as_windows_does(source: str, target: str) -> None:
        open_files = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]  # noqa: PTH208
        assert os.path.realpath(source) not in open_files
        replace(source, target)
        replaced.append(target)

    monkeypatch.setattr(os, "replace", as_windows_does)
    stored = take(Storage(tmp_path), data_set())
    assert replaced == [stored.file]
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


# --- parts without a name ---------------------------------------------------------------------------------


def fails(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("how", ["commit", "again", "discard"])
def test_no_descriptor_stays_open(how, tmp_path) -> None:
    before = open_files()
    store = Storage(tmp_path)
    if how == "again":
        take(store, data_set())
    incoming = store.receive(named())
    incoming.write(memoryview(data_set()))
    if how != "discard":
        incoming.commit()
    incoming.discard()
    assert open_files() == before


def test_what_is_prepared_for_the_next_instance_is_used_leaves_no_trace_and_ends_with_its_thread(
    tmp_path, unnamed
) -> None:
    store = Storage(tmp_path)
    before = open_files()
    counts = []

    def receive_two() -> None:
        for number in (3, 4):
            incoming = store.receive(named(f"1.2.{number}"))
            incoming.write(memoryview(data_set(f"1.2.{number}")))
            counts.append(open_files())
            incoming.commit()
            incoming.finish()
            counts.append(open_files())
            assert files(tmp_path) == [f"1.2.9/1.2.{n}.dcm" for n in range(3, number + 1)]

    thread = threading.Thread(target=receive_two)
    thread.start()
    thread.join()
    prepared = int(unnamed)
    assert counts == [before + 1, before + prepared] * 2
    assert open_files() == before


def test_a_disk_that_lets_nothing_be_prepared_tells_with_the_next_instance(tmp_path, monkeypatch) -> None:
    store = Storage(tmp_path)
    incoming = store.receive(named())
    incoming.write(memoryview(data_set()))
    incoming.commit()
    monkeypatch.setattr(os, "open", fails(errno.EMFILE))
    incoming.finish()
    with pytest.raises(NoRoom, match="Too many open files"):
        take(store, data_set())
    monkeypatch.undo()
    assert take(store, data_set()).replaced


def test_a_file_is_replaced_also_where_somebody_removed_the_empty_folder_of_parts(tmp_path) -> None:
    store = Storage(tmp_path)
    for is_there in (False, True):
        incoming = store.receive(named())
        incoming.write(memoryview(data_set()))
        with contextlib.suppress(OSError):  # a part with a name keeps it
            (tmp_path / ".incoming").rmdir()  # as `find -type d -empty -delete` does
        assert incoming.commit().replaced == is_there
        incoming.finish()
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


def test_a_file_whose_folder_goes_while_it_is_replaced_is_stored_in_a_new_one(tmp_path, monkeypatch) -> None:
    store = Storage(tmp_path)
    take(store, data_set())
    replace = os.replace

    def too_late(source: str, target: str) -> None:
        monkeypatch.setattr(os, "replace", replace)
        shutil.rmtree(Path(target).parent)
        replace(source, target)

    monkeypatch.setattr(os, "replace", too_late)
    stored = take(store, data_set())
    assert stored.path is not None
    assert stored.path.read_bytes().endswith(data_set())
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


def test_a_file_system_that_is_mounted_over_the_output_takes_what_comes_then(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parts, "_FRESH", 0.0)
    output = tmp_path / "output"
    store = Storage(output)
    incoming = store.receive(named())
    incoming.write(memoryview(data_set()))
    incoming.commit()
    incoming.finish()  # prepares a part, on the file system before
    before = open_files()
    with tiny_disk(output, 1 << 20):
        take(store, data_set("1.2.4"), named("1.2.4"))
        assert files(output) == ["1.2.9/1.2.4.dcm"]
    assert files(output) == ["1.2.9/1.2.3.dcm"]
    assert open_files() <= before


def test_an_output_that_comes_to_be_on_a_file_system_without_nameless_files_goes_on(
    tmp_path, monkeypatch
) -> None:
    store = Storage(tmp_path)
    open_file, nameless = os.open, getattr(os, "O_TMPFILE", 0)

    def opened(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if nameless and flags & nameless == nameless:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return open_file(path, flags, mode, **more)

    incoming = store.receive(named())
    incoming.write(memoryview(data_set()))
    incoming.commit()
    before = open_files()
    monkeypatch.setattr(os, "open", opened)
    incoming.finish()  # what was to be prepared has a name, and would stay
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]
    assert open_files() == before - 1
    assert take(store, data_set()).replaced
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


def test_what_replaces_a_file_has_a_name_for_a_moment_and_is_no_orphan(tmp_path, monkeypatch) -> None:
    store = Storage(tmp_path)
    take(store, data_set())
    replace, seen = os.replace, []

    def look(source: str, target: str) -> None:
        Storage(tmp_path)  # of a process that just starts, and removes orphans
        seen.append(Path(source).parent.name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    assert take(store, data_set()).replaced
    assert seen == [".incoming"]
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]


def test_a_replacement_that_fails_leaves_the_file_and_nothing_else(tmp_path, monkeypatch) -> None:
    store = Storage(tmp_path)
    first = take(store, data_set())
    assert first.path is not None
    content = first.path.read_bytes()
    monkeypatch.setattr(os, "replace", fails(errno.EIO))
    with pytest.raises(NoRoom, match=os.strerror(errno.EIO)):
        take(store, data_set(pixels=b"other"))
    assert files(tmp_path) == ["1.2.9/1.2.3.dcm"]
    assert first.path.read_bytes() == content


@pytest.mark.parametrize("call", ["open", "link"])
def test_where_a_file_cannot_be_without_a_name_it_has_one(call, tmp_path, monkeypatch) -> None:
    """An old kernel, or a system without /proc."""
    real = getattr(os, call)

    def refuse(*words: Any, **how: Any) -> Any:
        unnamed_open = call == "open" and words[1] & os.O_TMPFILE == os.O_TMPFILE
        if unnamed_open or "src_dir_fd" in how:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return real(*words, **how)

    monkeypatch.setattr(os, call, refuse)
    store = Storage(tmp_path)
    incoming = store.receive(named())
    incoming.write(memoryview(data_set()))
    assert files(tmp_path) == [f".incoming/{os.getpid()}-1.part"]
    assert incoming.commit().path == tmp_path / "1.2.9" / "1.2.3.dcm"


# --- which file systems tell of a full disk at once -------------------------------------------------------


def test_a_file_system_is_known_by_the_mount_that_is_nearest(tmp_path) -> None:
    with tiny_disk(tmp_path / "a disk\\ of its own", 100_000) as disk_folder:
        (disk_folder / "below").mkdir()
        (tmp_path / "link").symlink_to(disk_folder)
        for folder in (disk_folder, disk_folder / "below", tmp_path / "link" / "below"):
            assert disk.is_local(folder)
    assert not disk.is_local(Path("/proc/self"))


@pytest.mark.parametrize(
    "said", ["", "garbage\n", "36 35 98:0 / / rw\n", "1 2 0:1 / / rw - nfs4 host:/ rw\n"]
)
def test_a_file_system_that_is_not_known_may_tell_later(said, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: said)
    assert not disk.is_local(tmp_path)
