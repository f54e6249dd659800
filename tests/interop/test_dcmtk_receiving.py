"""The same words on DCMTK's storescp and on ours: the same names, the same commands, the same ends."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cli, images, peers

pytestmark = pytest.mark.interop

SENT = [images.FOLDER / name for name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm")]


@contextlib.contextmanager
def theirs(output: Path, *words: str) -> Iterator[int]:
    peers.need(peers.DCMTK / "storescp")
    output.mkdir(parents=True, exist_ok=True)
    command = [str(peers.DCMTK / "storescp"), "-od", str(output), "-aet", "ARCHIVE", *words]
    with peers.listening(lambda port: [*command, str(port)]) as (port, _, _log):
        yield port


@contextlib.contextmanager
def ours(output: Path, *words: str) -> Iterator[int]:
    with cli.receiver(output.parent, "--no-tls", "-aet", "ARCHIVE", *words) as running:
        yield running.port
        running.process.terminate()
        assert running.process.wait(60) == 0


BOTH = pytest.mark.parametrize("receiver", [theirs, ours])


def sent(port: int, *words: object) -> int:
    found = peers.dcmtk("storescu", "-R", "-aet", "SCU", "-aec", "ARCHIVE", *words, "127.0.0.1", port, *SENT)
    return found.returncode


def names(folder: Path) -> list[str]:
    """Return what lies below `folder`, with every time stamp and made-up UID made the same."""
    found = [
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and ".incoming" not in p.parts
    ]
    found = [re.sub(r"\.X\.[0-9.]*[0-9]", ".X.UID", name) for name in found]
    return sorted(re.sub(r"(?<![0-9.])\d{8}_?\d{9}(?![0-9])", "TIME", name) for name in found)


@pytest.mark.parametrize(
    "words",
    [
        ["-su", "st"],
        ["-su", ""],
        ["-su", "st", "-fe", ".dcm"],
        ["-ss", "st"],
        ["-sp"],
        ["-uf"],
        ["+uf", "-fe", ".dcm"],
        ["-tn"],
        ["-su", "st", "-tn", "-fe", ".dcm"],
    ],
    ids=" ".join,
)
def test_files_have_the_names_dcmtk_gives_them(words, tmp_path) -> None:
    found = []
    for name, receiver in (("theirs", theirs), ("ours", ours)):
        output = tmp_path / name / "received"
        with receiver(output, *words) as port:
            assert sent(port) == 0
        found.append(names(output))
    assert found[0] == found[1]
    assert len(found[1]) == len(SENT)


@BOTH
def test_a_command_on_reception_gets_the_same_words(receiver, tmp_path) -> None:
    hook = tmp_path / "hook"
    hook.write_text('#!/bin/sh\necho "$#" "$@" >> log\n')
    hook.chmod(0o755)
    output = tmp_path / "there" / "received"
    with receiver(output, "-su", "st", "-xcr", f"{hook} #p #f from '#a' #c" if receiver is ours else
                  f"{hook} #p #f from #a #c", "-xs") as port:  # fmt: skip
        assert sent(port) == 0
    expected = sorted(f"5 {output / name} from SCU ARCHIVE".replace("/CT.", " CT.").replace("/MR.", " MR.")
                      .replace("/RP.", " RP.") for name in names(output))  # fmt: skip
    assert sorted(Path("log").read_text().splitlines()) == expected


@BOTH
@pytest.mark.parametrize("words", [["--refuse"], ["--abort-after"], ["--abort-during"]], ids=" ".join)
def test_what_goes_wrong_on_purpose_looks_the_same_to_dcmtks_sender(words, receiver, tmp_path) -> None:
    output = tmp_path / "there" / "received"
    with receiver(output, *words) as port:
        assert sent(port) != 0
    assert names(output) == []


@pytest.mark.parametrize("words", [[], ["-xd"]], ids=["128 contexts", "deflated first"])
def test_whatever_dcmtks_sender_proposes_it_is_served(words, tmp_path) -> None:
    """Without -R it proposes 128 presentation contexts; with -xd deflated ones, which we do not prefer."""
    output = tmp_path / "there" / "received"
    with ours(output) as port:
        found = peers.dcmtk("storescu", *words, "-aec", "ARCHIVE", "127.0.0.1", port, *SENT)
        assert found.returncode == 0, found.stderr
        assert peers.dcmtk("echoscu", "127.0.0.1", port).returncode == 0
    assert len(names(output)) == len(SENT)
