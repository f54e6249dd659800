"""Receivers beside each other, with the same senders: `python -m tests.benchmarks.receivers`.

python -m tests.benchmarks.receivers                          the whole table
python -m tests.benchmarks.receivers --runs 1 --only small    a part of it
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from dicomtls_cli.services.files.images import write_test_images
from tests.benchmarks import tools
from tests.benchmarks.tools import Keys, Receiver

KB, MB = 1 << 10, 1 << 20
AT_ONCE = 8
ASSOCIATIONS = 300


@dataclass(frozen=True)
class Row:
    """A load of `count` objects of `size` bytes in all, from one sender or from several at once.

    What would take minutes gets one in so many of the objects, and the seconds are extrapolated: pynetdicom one in
    `slow_part`, DCMTK with somebody untuned one in `untuned_part`.
    """

    title: str
    count: int
    size: int
    slow_part: int = 1
    untuned_part: int = 1


ROWS = {
    "small": Row("4 KB", 2000, 4 * KB, slow_part=5, untuned_part=50),
    "ct": Row("0.5 MB", 400, MB // 2, slow_part=5, untuned_part=10),
    "big": Row("500 MB", 1, 500 * MB),
}
PART_OF_ASSOCIATIONS, UNTUNED_ASSOCIATIONS = 64, 16

Action = Callable[[Receiver], float]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.receivers")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=[*ROWS, "associations"], action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = options.only or [*ROWS, "associations"]
    root = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    report: dict[str, Any] = {"runs": options.runs, "rows": {}}
    with tempfile.TemporaryDirectory(prefix="dicomtls-bench-", dir=root) as folder:
        here = Path(folder)
        keys = tools.make_keys(here / "keys")
        images = Images(here)
        for is_stored in (False, True):
            with receivers(keys, here / "stored" if is_stored else None) as running:
                for title, action in actions(keys, images, wanted, is_stored=is_stored).items():
                    taking = [receiver for receiver in running if takes_part(receiver, title)]
                    report["rows"][title] = measure(title, action, taking, options.runs, here / "stored")
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


@contextlib.contextmanager
def receivers(keys: Keys, output: Path | None) -> Iterator[list[Receiver]]:
    """Run all receivers at once; those that nobody sends to cost nothing."""
    with contextlib.ExitStack() as stack:
        if output is not None:
            output.mkdir(exist_ok=True)
        found = [stack.enter_context(tools.our_receiver(keys, output=output))]
        if output is not None:
            found.append(stack.enter_context(tools.our_receiver(keys, "--fsync", output=output)))
        for forks in (False, True):
            for tuned in (True, False):
                receiver = tools.dcmtk_receiver(keys, tuned=tuned, forks=forks, output=output)
                found.append(stack.enter_context(receiver))
        found.append(stack.enter_context(tools.pynetdicom_receiver(keys, output=output)))
        yield found


def takes_part(receiver: Receiver, title: str) -> bool:
    """Tell whether it is worth the time: 4 GB take as long tuned or not, pynetdicom as long whoever sends."""
    if title.startswith(f"{AT_ONCE} x 500 MB"):
        return "untuned" not in receiver.name
    return receiver.name != "pynetdicom" or not title.endswith("untuned")


# ---------------------------------------------------------------------- what is sent


class Images:
    """Folders of CT images, all of them different instances; their pixels are holes, which cost no memory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._template = pydicom.dcmread(write_test_images(root, 1)[0])
        self._made: dict[tuple[int, int, int], list[Path]] = {}

    def folders(self, senders: int, count: int, size: int) -> list[Path]:
        """Return one folder for each of `senders`, with `count` objects of `size` bytes in all of them."""
        wanted = senders, count, size
        if wanted not in self._made:
            self._made[wanted] = [self._root / f"{senders}-{count}-{size}-{n}" for n in range(senders)]
            for folder in self._made[wanted]:
                folder.mkdir()
                for number in range(max(count // senders, 1)):
                    self._write(folder / f"{number:05d}.dcm", size)
        return self._made[wanted]

    def _write(self, path: Path, size: int) -> None:
        image = self._template
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
        image.PixelData = b""
        image.save_as(path)
        head = path.read_bytes()[:-4]  # all but the length of the pixels, which come last
        pixels = (size - len(head) - 4) & ~1
        with path.open("wb") as file:
            file.write(head + struct.pack("<I", pixels))
            file.truncate(len(head) + 4 + pixels)


# ---------------------------------------------------------------------- who sends, and how


def actions(keys: Keys, images: Images, wanted: list[str], *, is_stored: bool) -> dict[str, Action]:
    """Return what is measured, by its title: each gets a receiver and returns seconds."""
    how = "written" if is_stored else "discarded"
    found: dict[str, Action] = {}
    for name, row in ROWS.items():
        if name not in wanted:
            continue
        for senders in (1, AT_ONCE):
            count = max(row.count, senders)
            title = f"{count:,} x {row.title}, {_senders(senders)}, {how}"
            found[title] = partial(_send_load, keys, images, row, senders, tuned=True)
            if row.untuned_part > 1 and not is_stored:
                found[f"{title}, untuned"] = partial(_send_load, keys, images, row, senders, tuned=False)
    if "associations" in wanted:
        for senders in (1, AT_ONCE):
            title = f"{ASSOCIATIONS} associations of one 0.5 MB, {_senders(senders)}, {how}"
            found[title] = partial(_associate, keys, images, senders, tuned=True)
            if not is_stored:
                found[f"{title}, untuned"] = partial(_associate, keys, images, senders, tuned=False)
    return found


def _senders(count: int) -> str:
    return "1 sender" if count == 1 else f"{count} senders"


def _send_load(
    keys: Keys, images: Images, row: Row, senders: int, receiver: Receiver, *, tuned: bool
) -> float:
    def seconds(count: int, size: int = row.size) -> float:
        folders = images.folders(senders, count, size)
        return tools.timed(lambda: _at_once(keys, receiver, folders, tuned=tuned))

    if row.count < senders:
        if receiver.name != "pynetdicom":
            return seconds(senders)
        # So many objects of that size would take it minutes, and gigabytes: one of that size is cut instead.
        return senders * seconds(senders, row.size // senders)
    if receiver.name == "pynetdicom":
        return row.slow_part * seconds(row.count // row.slow_part)
    is_delayed = not receiver.name.startswith("ours") and (not tuned or "untuned" in receiver.name)
    if not is_delayed or row.untuned_part == 1:
        return seconds(row.count)
    # A fixed delay for each object, beside which the start of the senders is there once.
    count, few = row.count // row.untuned_part, senders
    first = seconds(few)
    return first + (seconds(count) - first) * (row.count - few) / (count - few)


def _associate(keys: Keys, images: Images, senders: int, receiver: Receiver, *, tuned: bool) -> float:
    is_slow = not tuned or "untuned" in receiver.name
    count = UNTUNED_ASSOCIATIONS if is_slow else PART_OF_ASSOCIATIONS
    folders = images.folders(count, count, MB // 2)

    def send(folder: Path) -> None:
        tools.dcmtk_send(keys, receiver.port, [str(folder)], tuned=tuned)

    def all_of_them() -> None:
        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(send, folders))

    return ASSOCIATIONS / count * tools.timed(all_of_them)


def _at_once(keys: Keys, receiver: Receiver, folders: list[Path], *, tuned: bool) -> None:
    with ThreadPoolExecutor(len(folders)) as pool:
        list(
            pool.map(
                lambda folder: tools.dcmtk_send(keys, receiver.port, [str(folder)], tuned=tuned), folders
            )
        )


# ---------------------------------------------------------------------- figures


def measure(title: str, action: Action, running: list[Receiver], runs: int, output: Path) -> dict[str, Any]:
    """Run `action` against all receivers, `runs` times, interleaved."""
    seconds: dict[str, list[float]] = {receiver.name: [] for receiver in running}
    for run in range(runs):
        for receiver in running:
            try:
                seconds[receiver.name].append(action(receiver))
            except subprocess.CalledProcessError as error:
                print(f"{title}: {receiver.name}: a sender ended with {error.returncode}", file=sys.stderr)
            _empty(output)
        print(f"{title}: run {run + 1} of {runs}", file=sys.stderr, flush=True)
    return {
        "seconds": {name: round(statistics.median(v), 4) for name, v in seconds.items() if len(v) == runs},
        "all": {name: [round(value, 4) for value in values] for name, values in seconds.items()},
    }


def _empty(output: Path) -> None:
    """Remove what was stored: nothing is sent twice to the same receiver."""
    if output.is_dir():
        for path in output.iterdir():
            if path.is_dir() and not path.name.startswith("."):
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()


def ratio(row: dict[str, Any]) -> float | None:
    """Return how fast ours is beside the best of the others, more is better; None where there is none."""
    others = [value for name, value in row["seconds"].items() if not name.startswith("ours")]
    ours = row["seconds"].get("ours")
    return min(others) / ours if ours and others else None


def table(report: dict[str, Any]) -> str:
    """Return the report as Markdown: seconds by receiver, and ours beside the best of the others."""
    rows = report["rows"]
    names = list(dict.fromkeys(name for row in rows.values() for name in row["seconds"]))
    lines = [f"| load | {' | '.join(names)} | ours beside the best |", "|---" * (len(names) + 2) + "|"]
    for title, row in rows.items():
        cells = [f"{row['seconds'][name]:.3f}" if name in row["seconds"] else "-" for name in names]
        beside = ratio(row)
        lines.append(f"| {title} | {' | '.join(cells)} | {'-' if beside is None else f'{beside:.2f}'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
