from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dicomtls_cli.errors import DicomTlsError, InputError, OutputError
from dicomtls_cli.pki.files import (
    NewFile,
    check_targets,
    read_capped,
    refuse_output_among_inputs,
    word,
    write_files,
)
from tests.support.rights import ordinary_rights


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()
    }


def refused(error: type[DicomTlsError], slug: str, call, *args, **kwargs) -> DicomTlsError:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert caught.value.slug == slug
    assert caught.value.hint
    return caught.value


class TestReading:
    def test_returns_the_content(self, put):
        assert read_capped(put("a", b"x\0y"), "certificate") == b"x\0y"

    def test_the_cap_is_inclusive(self, put):
        path = put("a", b"12345")
        assert read_capped(path, "certificate", limit=5) == b"12345"
        refused(InputError, "file.too-large", read_capped, path, "certificate", limit=4)

    def test_missing_names_the_file_and_the_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        error = refused(InputError, "file.missing", read_capped, Path("no.crt"), "certificate")
        assert error.message == "the certificate file `no.crt` does not exist"
        assert str(tmp_path) in error.hint
        assert error.exit_code == 3

    def test_below_a_file_is_missing(self, put):
        refused(InputError, "file.missing", read_capped, put("a", b"") / "b", "certificate")

    def test_directory(self, tmp_path):
        refused(InputError, "file.is-directory", read_capped, tmp_path, "certificate")

    def test_devices_and_pipes_do_not_hang(self, tmp_path):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        for path in (fifo, Path(os.devnull), Path("/dev/zero")):
            refused(InputError, "file.not-regular", read_capped, path, "certificate")

    def test_socket(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s")
            refused(InputError, "file.not-regular", read_capped, Path("s"), "certificate")

    def test_a_loop_of_links_and_an_impossible_name(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        refused(InputError, "file.unreadable", read_capped, tmp_path / "loop", "certificate")
        refused(InputError, "file.unreadable", read_capped, tmp_path / "a\0b", "certificate")

    def test_permission(self, put):
        path = put("a", b"x")
        path.chmod(0)
        with ordinary_rights():
            refused(InputError, "file.unreadable", read_capped, path, "certificate")


class TestWriting:
    def test_content_and_modes_under_an_open_umask(self, tmp_path):
        old = os.umask(0)
        try:
            write_files([NewFile(tmp_path / "k", b"key", private=True), NewFile(tmp_path / "c", b"cert")])
        finally:
            os.umask(old)
        assert tree(tmp_path) == {"k": b"key", "c": b"cert"}
        assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o644

    @pytest.mark.parametrize("unnamed", [True, False])
    def test_a_key_is_never_readable_by_others_while_it_is_written(self, tmp_path, monkeypatch, unnamed):
        if not unnamed:
            monkeypatch.delattr(os, "O_TMPFILE", raising=False)
        seen = []
        real = os.fsync

        def look(descriptor):
            seen.extend(stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir())
            real(descriptor)

        monkeypatch.setattr(os, "fsync", look)
        old = os.umask(0)
        try:
            write_files([NewFile(tmp_path / "k", b"key", private=True)])
        finally:
            os.umask(old)
        assert seen[0] == 0o600
        assert set(seen) == {0o600}

    def test_the_umask_takes_away_from_public_files(self, tmp_path):
        old = os.umask(0o077)
        try:
            write_files([NewFile(tmp_path / "c", b"cert")])
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o600

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
    @pytest.mark.parametrize("private", [True, False])
    def test_a_folder_that_takes_no_files_is_not_called_missing(self, private):
        files = [NewFile(Path("/proc/dicomtls"), b"x", private=private)]
        error = refused(OutputError, "output.not-writable", write_files, files)
        assert "does not exist" not in error.message

    def test_the_longest_name_works(self, tmp_path):
        write_files([NewFile(tmp_path / ("n" * 255), b"x")])
        assert tree(tmp_path) == {"n" * 255: b"x"}

    def test_too_long_a_name_leaves_nothing(self, tmp_path):
        files = [NewFile(tmp_path / "a", b"x"), NewFile(tmp_path / ("n" * 256), b"x")]
        refused(OutputError, "output.failed", write_files, files)
        assert tree(tmp_path) == {}

    def test_an_existing_file_is_never_overwritten_and_nothing_else_written(self, put, tmp_path):
        put("b", b"old")
        files = [NewFile(tmp_path / "a", b"new"), NewFile(tmp_path / "b", b"new")]
        error = refused(OutputError, "output.exists", write_files, files)
        assert error.exit_code == 4
        assert "`--force`" in error.hint
        assert tree(tmp_path) == {"b": b"old"}

    def test_a_file_that_appears_in_between_wins(self, tmp_path, monkeypatch):
        """The check at the start does not decide: the placing itself refuses."""
        real = os.link

        def link(source, target, **kwargs):
            if Path(target).name == "b":
                Path(target).write_bytes(b"theirs")
            real(source, target, **kwargs)

        monkeypatch.setattr(os, "link", link)
        files = [NewFile(tmp_path / "a", b"new"), NewFile(tmp_path / "b", b"new")]
        refused(OutputError, "output.exists", write_files, files)
        assert tree(tmp_path) == {"b": b"theirs"}

    def test_the_same_path_twice_leaves_nothing(self, tmp_path):
        refused(OutputError, "output.exists", write_files, [NewFile(tmp_path / "a", b"1")] * 2)
        assert tree(tmp_path) == {}

    def test_force_replaces_and_sets_the_mode(self, put, tmp_path):
        path = put("k", b"old")
        path.chmod(0o666)
        write_files([NewFile(path, b"new", private=True)], force=True)
        assert tree(tmp_path) == {"k": b"new"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_force_without_anything_there_just_writes(self, tmp_path):
        write_files([NewFile(tmp_path / "k", b"new")], force=True)
        assert tree(tmp_path) == {"k": b"new"}

    @pytest.mark.parametrize("links", [True, False])
    def test_force_puts_the_old_files_back_when_the_second_fails(self, put, tmp_path, monkeypatch, links):
        put("a", b"old a")
        put("b", b"old b")
        if not links:
            monkeypatch.setattr(os, "link", no_links)
        real = Path.replace

        def replace(self, target):
            if Path(target).name == "b" and self.read_bytes() == b"new":
                raise PermissionError(errno.EPERM, "not yours")  # as in a sticky directory
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        files = [NewFile(tmp_path / "a", b"new"), NewFile(tmp_path / "b", b"new")]
        refused(OutputError, "output.not-writable", write_files, files, force=True)
        assert tree(tmp_path) == {"a": b"old a", "b": b"old b"}

    def test_force_replaces_a_link_and_leaves_what_it_pointed_to(self, put, tmp_path):
        target = put("elsewhere/secret", b"old")
        (tmp_path / "k").symlink_to(target)
        refused(OutputError, "output.exists", write_files, [NewFile(tmp_path / "k", b"new")])
        write_files([NewFile(tmp_path / "k", b"new")], force=True)
        assert not (tmp_path / "k").is_symlink()
        assert tree(tmp_path) == {"k": b"new", "elsewhere/secret": b"old"}

    def test_a_dangling_link_is_not_followed(self, tmp_path):
        (tmp_path / "k").symlink_to(tmp_path / "nowhere")
        refused(OutputError, "output.exists", write_files, [NewFile(tmp_path / "k", b"new")])
        write_files([NewFile(tmp_path / "k", b"new")], force=True)
        assert tree(tmp_path) == {"k": b"new"}

    @pytest.mark.parametrize("force", [True, False])
    def test_odd_things_are_never_replaced(self, tmp_path, force):
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "dir").mkdir()
        (tmp_path / "to-dir").symlink_to("dir")
        (tmp_path / "to-null").symlink_to(os.devnull)
        (tmp_path / "to-stdout").symlink_to("/proc/self/fd/1")
        for name, slug in (
            ("fifo", "output.not-regular"),
            ("to-null", "output.not-regular"),
            ("to-stdout", "output.not-regular"),
            ("dir", "output.is-directory"),
            ("to-dir", "output.is-directory"),
        ):
            before = (tmp_path / name).lstat()
            refused(OutputError, slug, write_files, [NewFile(tmp_path / name, b"x")], force=force)
            assert (tmp_path / name).lstat().st_ino == before.st_ino

    def test_missing_directory(self, put, tmp_path):
        error = refused(
            OutputError, "output.no-directory", write_files, [NewFile(tmp_path / "no" / "k", b"")]
        )
        assert f"mkdir -p {tmp_path}/no" in error.hint
        path = put("file", b"") / "k"
        refused(OutputError, "output.no-directory", write_files, [NewFile(path, b"")])

    def test_not_writable(self):
        """/proc takes no files, not even root's."""
        if not Path("/proc/self").exists():
            pytest.skip("no /proc here")
        with pytest.raises(OutputError) as caught:
            write_files([NewFile(Path("/proc/self/k"), b"")])
        assert caught.value.exit_code == 4

    def test_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        with ordinary_rights():
            refused(OutputError, "output.not-writable", write_files, [NewFile(tmp_path / "k", b"")])

    def test_full_disk_leaves_nothing(self, tmp_path):
        """A real limit of the kernel, on a process of its own."""
        program = textwrap.dedent(
            """
            import resource, sys
            from pathlib import Path
            from dicomtls_cli.errors import OutputError
            from dicomtls_cli.pki.files import NewFile, write_files
            sys.dont_write_bytecode = True
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            here = Path(sys.argv[1])
            try:
                write_files([NewFile(here / "a", b"x"), NewFile(here / "b", b"x" * 5000)])
            except OutputError as error:
                print(error.slug)
            """
        )
        run = subprocess.run(
            [sys.executable, "-B", "-c", program, tmp_path], capture_output=True, text=True, check=True
        )
        assert run.stdout == "output.no-space\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("force", [False, True])
    def test_killed_at_any_moment_no_key_is_left_beside_its_place(self, tmp_path, force):
        """Killed before each call that touches the disk, one process a call, until none is left to be killed."""
        if not hasattr(os, "O_TMPFILE"):
            pytest.skip("this system has no files without a name")
        outcomes = set()
        for number in range(100):
            folder = tmp_path / str(number)
            folder.mkdir()
            if force:
                (folder / "k").write_bytes(b"old key")
            words = [sys.executable, "-B", "-c", KILLED, folder, str(number), str(force)]
            run = subprocess.run(words, capture_output=True, text=True, check=False)
            found = tree(folder)
            outcomes.add((found.pop("k", None), found.pop("c", None)))
            hidden = [data for name, data in found.items() if data in (b"old key", b"new key")]
            # With `force` the new key has a name for the one call that puts it in place.
            assert hidden == ([b"new key"] if run.stdout == "replace" else []), run.stdout
            if run.returncode == 0:
                break
        old = b"old key" if force else None
        assert {(old, None), (b"new key", None), (b"new key", b"cert")} >= outcomes
        assert len(outcomes) == 3
        assert number > 5, "the test tests nothing"

    def test_interruption_leaves_nothing(self, tmp_path, monkeypatch):
        real = os.link

        def link(source, target, **kwargs):
            real(source, target, **kwargs)
            if Path(target).name == "b":
                raise KeyboardInterrupt

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(KeyboardInterrupt):
            write_files([NewFile(tmp_path / "a", b"x"), NewFile(tmp_path / "b", b"x")])
        assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from dicomtls_cli.pki.files import NewFile, write_files

here, fatal, force = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
calls = 0

def deadly(module, name):
    real = getattr(module, name)
    def call(*words, **named):
        global calls
        calls += 1
        if calls > fatal:
            print(name, end="", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **named)
    setattr(module, name, call)

for name in ("open", "link", "fsync", "close"):
    deadly(os, name)
for name in ("replace", "rename", "unlink"):
    deadly(Path, name)
write_files([NewFile(here / "k", b"new key", private=True), NewFile(here / "c", b"cert")], force=force)
"""


def no_links(*args, **kwargs):
    raise OSError(errno.EPERM, "Operation not permitted")  # what FAT answers


class TestWithoutHardLinks:
    def test_writes_with_the_right_modes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "link", no_links)
        write_files([NewFile(tmp_path / "k", b"key", private=True), NewFile(tmp_path / "c", b"cert")])
        assert tree(tmp_path) == {"k": b"key", "c": b"cert"}
        assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600

    def test_still_overwrites_nothing(self, tmp_path, monkeypatch):
        def link(source, target, **kwargs):
            if Path(target).name == "b":
                Path(target).write_bytes(b"theirs")
            no_links()

        monkeypatch.setattr(os, "link", link)
        files = [NewFile(tmp_path / "a", b"new"), NewFile(tmp_path / "b", b"new")]
        refused(OutputError, "output.exists", write_files, files)
        assert tree(tmp_path) == {"b": b"theirs"}

    def test_a_failed_placing_leaves_no_empty_file(self, tmp_path, monkeypatch):
        def replace(self, target):
            raise OSError(errno.EIO, "broken disk")

        monkeypatch.setattr(os, "link", no_links)
        monkeypatch.setattr(Path, "replace", replace)
        refused(OutputError, "output.failed", write_files, [NewFile(tmp_path / "a", b"new")])
        assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a b/c.crt", "'a b/c.crt'"), ("-c.crt", "./-c.crt"), ("~c", "'./~c'"), ("/x/y.crt", "/x/y.crt")],
)
def test_a_path_as_a_word_of_a_command(path, expected):
    assert word(Path(path)) == expected


def test_check_targets_writes_nothing(put, tmp_path):
    check_targets([tmp_path / "new"], force=False)
    path = put("old", b"x")
    check_targets([path], force=True)
    refused(OutputError, "output.exists", check_targets, [tmp_path / "new", path], force=False)
    assert tree(tmp_path) == {"old": b"x"}


def test_output_among_inputs(put, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = put("in.crt", b"x")
    os.link(path, tmp_path / "hard")
    (tmp_path / "soft").symlink_to("in.crt")
    for output in (path, Path("in.crt"), Path("./in.crt"), tmp_path / "hard", tmp_path / "soft"):
        refused(OutputError, "output.is-input", refuse_output_among_inputs, output, [tmp_path / "no", path])
    refuse_output_among_inputs(tmp_path / "out", [path])
