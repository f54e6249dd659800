"""DICOMDIRs: what they list is sent, once, and nothing outside of their folder; pydicom is the oracle."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services.files import dicomdir as module
from dicomtls_cli.services.files.scan import Instance, Skipped, scan
from tests.support import images
from tests.support.discs import (
    DIRECTORY,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    dicomdir,
    directory,
    record,
    sequence,
)
from tests.support.objects import element, file_meta, write

DISC = images.FOLDER / "dicomdirtests"
WHOLE = ["DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit", "DICOMDIR-nopatient", "DICOMDIR-reordered"]


def disc(folder: Path, *names: str, listed: tuple[str, ...] | None = None, defined: bool = True) -> Path:
    """Write files and a DICOMDIR that lists them, or what it is told to; return its path."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        write(folder / name, sop_instance=f"1.2.{number + 1}")
    ids = [name.replace("/", "\\") for name in (names if listed is None else listed)]
    (folder / "DICOMDIR").write_bytes(dicomdir(*ids, defined=defined))
    return folder / "DICOMDIR"


def found(*paths: Path, **how: object) -> tuple[list[str], list[Skipped]]:
    """Return which files are sent, and what went wrong."""
    everything = list(scan(paths, **how))  # type: ignore[arg-type]
    return (
        [one.path.name for one in everything if isinstance(one, Instance)],
        [one for one in everything if isinstance(one, Skipped) and one.expected],
    )


# --- what is listed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*(DISC / name for name in WHOLE), DISC / "TINY_ALPHA" / "DICOMDIR"])
def test_all_that_pydicom_finds_in_it_is_sent(path: Path) -> None:
    records = pydicom.dcmread(path).DirectoryRecordSequence
    wanted = [path.parent.joinpath(*one.ReferencedFileID) for one in records if "ReferencedFileID" in one]
    everything = list(scan([path]))
    assert [one.path for one in everything if isinstance(one, Instance)] == wanted
    (itself,) = (one for one in everything if isinstance(one, Skipped))
    assert (itself.path, itself.expected) == (path, False)
    assert "it is a DICOMDIR" in itself.error.message


def test_an_empty_one_lists_nothing() -> None:
    assert found(DISC / "DICOMDIR-empty.dcm") == ([], [])


def test_one_whose_last_record_is_longer_than_the_file_is_followed_and_named() -> None:
    names, (broken,) = found(DISC / "DICOMDIR-nooffset")
    assert len(names) == 31
    assert broken.error.slug == "input.dicomdir"


@pytest.mark.parametrize("defined", [True, False])
def test_lengths_defined_or_not(defined: bool, tmp_path: Path) -> None:
    path = disc(tmp_path, "A/B", "A/C", "D", defined=defined)
    assert found(path) == (["B", "C", "D"], [])


def test_a_record_that_is_not_in_use_leads_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "A")
    path = tmp_path / "DICOMDIR"
    path.write_bytes(directory(sequence(record("A"), record("GONE", in_use=False))))
    assert found(path) == (["A"], [])


def test_what_is_missing_is_named_and_the_rest_is_sent(tmp_path: Path) -> None:
    path = disc(tmp_path, "A", "C", listed=("A", "SUB/B", "C"))
    names, (missing,) = found(path)
    assert names == ["A", "C"]
    assert (missing.path, missing.error.slug) == (tmp_path / "SUB" / "B", "input.unreadable")
    assert missing.error.exit_code == ExitCode.INPUT
    wanted = f"cannot read `{tmp_path}/SUB/B`: No such file or directory; `{path}` lists it"
    assert missing.error.message == wanted


def test_what_is_listed_and_no_image_is_a_failure(tmp_path: Path) -> None:
    path = disc(tmp_path, listed=("TEXT", "SUB", "DICOMDIR"))
    (tmp_path / "TEXT").write_text("no image")
    (tmp_path / "SUB").mkdir()
    names, failures = found(path)
    assert names == []
    assert [(one.path.name, one.error.slug) for one in failures] == [
        ("TEXT", "input.not-dicom"),
        ("SUB", "input.not-dicom"),
        ("DICOMDIR", "input.not-dicom"),
    ]


def test_names_in_small_letters_as_linux_shows_those_of_a_cd(tmp_path: Path) -> None:
    assert found(disc(tmp_path, "dicom/im1", listed=("DICOM/IM1",))) == (["im1"], [])


def test_names_beyond_ascii(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert found(disc(tmp_path, name, listed=("caf\xe9",))) == ([name], [])


def test_one_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disc(tmp_path, "1", "A/2", "3")
    monkeypatch.chdir(tmp_path)
    assert found(Path("DICOMDIR")) == (["1", "2", "3"], [])
    assert found(Path("DICOMDIR"), Path()) == (["1", "2", "3"], [])


# --- once ------------------------------------------------------------------------------------------------


def test_a_scanned_folder_with_one_is_sent_once(tmp_path: Path) -> None:
    disc(tmp_path, "A/1", "A/2", "Z/3", "4")
    assert found(tmp_path) == (["4", "1", "2", "3"], [])


def test_what_is_missing_is_named_in_a_scanned_folder_too(tmp_path: Path) -> None:
    disc(tmp_path, "A/1", listed=("A/1", "A/2"))
    names, (missing,) = found(tmp_path)
    assert names == ["1"]
    assert missing.path == tmp_path / "A" / "2"


def test_what_the_scan_does_not_find_comes_from_the_dicomdir(tmp_path: Path) -> None:
    disc(tmp_path, "A/1", ".B/2", "3")
    assert found(tmp_path) == (["3", "1", "2"], [])
    assert found(tmp_path, recurse=False) == (["3", "1", "2"], [])
    assert found(tmp_path, patterns=["DICOMDIR"]) == (["1", "2", "3"], [])
    assert found(tmp_path, patterns=["1", "DICOMDIR"]) == (["1", "2", "3"], [])
    assert found(tmp_path, patterns=["1"]) == (["1"], [])


def test_folders_beside_one_as_the_shell_names_them(tmp_path: Path) -> None:
    """`storescu PEER /media/cd/*`: folders before it and behind it."""
    path = disc(tmp_path, "A/1", "A/2", "Z/3", "4")
    paths = [tmp_path / "A", path, tmp_path / "Z"]
    assert sorted(found(*paths)[0]) == ["1", "2", "3", "4"]
    (tmp_path / "link").symlink_to(tmp_path)
    assert sorted(found(tmp_path / "link" / "Z", path, tmp_path / "link" / "A", path)[0]) == [
        "1",
        "2",
        "3",
        "4",
    ]


def test_files_that_are_named_are_sent_as_often_as_they_are_named(tmp_path: Path) -> None:
    path = disc(tmp_path, "1")
    assert found(tmp_path / "1", path)[0] == ["1", "1"]


def test_two_that_list_the_same(tmp_path: Path) -> None:
    path = disc(tmp_path, "1", "2")
    other = tmp_path / "DICOMDIR2"
    other.write_bytes(path.read_bytes())
    assert found(path, other) == (["1", "2"], [])


# --- never outside ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file_id",
    [
        r"..\SECRET",
        r"A\..\..\SECRET",
        "../SECRET",
        r"\SECRET",
        "/SECRET",
        "A\\",
        r".\A",
        r"A\\B",
        "A\0B",
        "..",
    ],
)
def test_no_file_outside_of_its_folder(file_id: str, tmp_path: Path) -> None:
    write(tmp_path / "SECRET")
    path = disc(tmp_path / "disc", "A", listed=(file_id, "A"))
    names, (refused,) = found(path)
    assert names == ["A"]
    assert (refused.path, refused.error.slug) == (path, "input.dicomdir")
    assert "which is not inside its folder" in refused.error.message


def test_an_absolute_path_is_refused(tmp_path: Path) -> None:
    secret = write(tmp_path / "SECRET")
    _, (refused,) = found(disc(tmp_path / "disc", listed=(str(secret),)))
    assert refused.error.slug == "input.dicomdir"


@pytest.mark.parametrize("name", ["link", "folder/SECRET"])
def test_no_link_that_leads_out(name: str, tmp_path: Path) -> None:
    write(tmp_path / "outside" / "SECRET")
    path = disc(tmp_path / "disc", listed=(name,))
    (tmp_path / "disc" / "link").symlink_to("../outside/SECRET")
    (tmp_path / "disc" / "folder").symlink_to("../outside")
    names, (refused,) = found(path)
    assert (names, refused.error.slug) == ([], "input.dicomdir")


def test_a_link_inside_of_it_and_a_link_to_it_are_fine(tmp_path: Path) -> None:
    path = disc(tmp_path / "disc", "A", listed=("B",))
    (tmp_path / "disc" / "B").symlink_to("A")
    (tmp_path / "link").symlink_to("disc")
    assert found(tmp_path / "link" / path.name) == (["B"], [])
    assert found(tmp_path / "disc")[0] == ["A", "B"]  # the scan finds both


def test_one_that_leads_outside_again_and_again_is_given_up(tmp_path: Path) -> None:
    names, failures = found(disc(tmp_path, "A", listed=(*[r"..\X"] * 1000, "A")))
    assert names == []
    assert len(failures) == 17
    assert "it lists 16 files outside of its folder" in failures[-1].error.message


# --- hostile ones ----------------------------------------------------------------------------------------


def one_error(path: Path) -> str:
    names, (broken,) = found(path)
    assert names == []
    assert (broken.path, broken.error.slug) == (path, "input.dicomdir")
    return broken.error.message


def test_records_that_lead_in_circles_are_each_read_once(tmp_path: Path) -> None:
    write(tmp_path / "A")
    write(tmp_path / "B")
    path = tmp_path / "DICOMDIR"
    offset = len(directory(sequence())) + 8
    path.write_bytes(
        directory(sequence(record("A", next_at=offset, lower=offset), record("B", next_at=offset)))
    )
    assert found(path) == (["A", "B"], [])


BARE = file_meta("1.2.30", sop_class=DIRECTORY)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BARE + element(0x00041130, b"CS", b"TEST"), "it ends at byte"),
        (BARE + element(0x00080005, b"CS", b"ISO_IR 100"), "it has no directory records"),
        (directory(sequence(record("A")))[:-60], "it ends at byte"),
        (directory(sequence(record("A"), defined=False))[:-12], "it ends at byte"),
        (directory(element(0x00041220, b"SQ", b"\0" * 40)), "where a record should begin"),
        (directory(element(0x00041220, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFF0) + record())),
         "it ends at byte"),
        (directory(sequence(element(0x00041500, b"UT", b"A" * 5000))), "a file ID at byte"),
        (directory(sequence(element(0x00041500, b"UT", b"", length=0xFFFFFFF0))), "a file ID at byte"),
        (directory(sequence(element(0x00041500, b"XX", b"A"))), "unknown value representation"),
        (directory(sequence(element(0x00041400, b"UL", b"", length=100), record())), "goes on past its end"),
        (directory(sequence(record() + element(0x00041140, b"SQ", b"x" * 9, length=UNDEFINED), defined=False)),
         "where an item should begin"),
        (file_meta("1.2.30", sop_class=DIRECTORY, transfer_syntax="1.2.840.10008.1.2.1.99") + b"x" * 20,
         "it is deflated"),
    ],
)  # fmt: skip
def test_a_broken_one_ends_in_one_error(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "DICOMDIR"
    path.write_bytes(content)
    assert words in one_error(path)


def test_deep_nesting_in_a_record(tmp_path: Path) -> None:
    nested = b"\x09\x00\x10\x00SQ\0\0\xff\xff\xff\xff" + struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
    path = tmp_path / "DICOMDIR"
    path.write_bytes(directory(sequence(nested * 100_000, defined=False)))
    assert "nested more than 64 deep" in one_error(path)


def test_too_many_records_and_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = disc(tmp_path, "A")
    monkeypatch.setattr(module, "MOST_RECORDS", 2)
    assert found(path)[0] == ["A"]
    path.write_bytes(dicomdir("A", "A", "A"))
    names, (broken,) = found(path)
    assert (names, "it has more than 2 records" in broken.error.message) == (["A"], True)
    with path.open("r+b") as file:
        file.truncate(3 << 30)  # sparse: takes no room
    assert f"it has {3 << 30} bytes" in one_error(path)


def test_one_that_vanishes(tmp_path: Path) -> None:
    path = disc(tmp_path, "A")
    files = scan([path])
    next(files)
    path.unlink()
    (gone,) = files
    assert isinstance(gone, Skipped)
    assert (gone.error.slug, gone.expected) == ("input.unreadable", True)


PIECES = st.sampled_from(
    [record("A"), record(), record(r"..\A"), ITEM_END, SEQUENCE_END, struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED),
     struct.pack("<HHL", 0xFFFE, 0xE000, 30), element(0x00041220, b"SQ", b"", length=UNDEFINED), b"\0\0", b"\xff"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES | st.binary(max_size=12), max_size=12))
def test_whatever_it_holds_only_files_in_its_folder_are_found(tmp_path: Path, pieces: list[bytes]) -> None:
    path = tmp_path / "disc" / "DICOMDIR"
    if not path.exists():
        disc(tmp_path / "disc", "A")
        write(tmp_path / "A")
    path.write_bytes(BARE + element(0x00041220, b"SQ", b"", length=UNDEFINED) + b"".join(pieces))
    for one in scan([path]):
        assert one.path == path or one.path.parent == path.parent
