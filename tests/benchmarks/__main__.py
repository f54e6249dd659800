"""Run the benchmark, print the table, and write JSON and the plot where asked.

python -m tests.benchmarks                          the whole table, about ten minutes
python -m tests.benchmarks --runs 3 --only small    a part of it
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import senders, tools
from tests.benchmarks.loads import MB, Load, make_load
from tests.benchmarks.senders import Measurement
from tests.benchmarks.tools import Keys, Receiver, environment, timed

ROWS = {
    "big": ("one object of 500 MB", 1, 500 * MB, 1),
    "ct": ("400 objects of 0.5 MB", 400, MB // 2, 40),
    "small": ("2,000 objects of 4 KB", 2000, 4096, 100),
}
ASSOCIATIONS = 300
PART_OF_ASSOCIATIONS = 30
SECTIONS = (*ROWS, "associations", "jobs", "orthanc", "scan", "start", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=SECTIONS, action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    wanted = options.only or SECTIONS
    root = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    report: dict[str, Any] = {"machine": machine(), "runs": options.runs, "rows": {}}
    with (
        tempfile.TemporaryDirectory(prefix="dicomtls-bench-", dir=root) as folder,
        contextlib.ExitStack() as stack,
    ):
        here = Path(folder)
        keys = tools.make_keys(here / "keys")
        receivers = [
            stack.enter_context(tools.our_receiver(keys)),
            stack.enter_context(tools.dcmtk_receiver(keys, tuned=True)),
            stack.enter_context(tools.dcmtk_receiver(keys, tuned=False)),
        ]
        loads = {
            name: make_load(here, name, count, size, part)
            for name, (_, count, size, part) in ROWS.items()
            if name in wanted or (name != "big" and not {"jobs", "orthanc"}.isdisjoint(wanted))
        }
        for name in [name for name in ROWS if name in wanted]:
            rows = load_measurements(keys, loads[name], receivers)
            report["rows"][name] = measure(ROWS[name][0], rows, options.runs)
        if "associations" in wanted:
            load = make_load(here, "one", 1, MB // 2, 1)
            rows = association_measurements(keys, load, receivers)
            report["rows"]["associations"] = measure(
                f"{ASSOCIATIONS} associations of one 0.5 MB image", rows, options.runs
            )
        if "jobs" in wanted:
            forking = stack.enter_context(tools.dcmtk_receiver(keys, tuned=True, forks=True))
            for name in ("ct", "small"):
                rows = senders.jobs_measurements(keys, loads[name], [forking, receivers[0]])
                report["rows"][f"jobs-{name}"] = measure(
                    f"{ROWS[name][0]}, {senders.JOBS} associations at once", rows, options.runs
                )
        if "orthanc" in wanted:
            peers = stack.enter_context(senders.orthancs(keys, here))
            for name in ("ct", "small"):
                rows = senders.orthanc_measurements(keys, loads[name], peers)
                report["rows"][f"orthanc-{name}"] = measure(
                    f"{loads[name].part_count} of these to Orthanc: {ROWS[name][0]}", rows, options.runs
                )
        if "scan" in wanted:
            many = make_load(here, "many", senders.SCANNED, 4096, 1)
            report["rows"]["scan"] = measure(
                "looking at files", senders.scan_measurements(many.folder), options.runs
            )
        if "start" in wanted:
            report["rows"]["start"] = measure(
                "whole process", start_measurements(keys, receivers), options.runs
            )
        if "memory" in wanted:
            report["memory"] = memory(here, keys)
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        from tests.benchmarks.plot import plot

        plot(report, options.plot)


def machine() -> dict[str, str]:
    model = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "cpu": f"{len(model)} x {model[0] if model else platform.machine()}",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "dcmtk": subprocess.run(["/usr/bin/storescu", "--version"], capture_output=True, text=True, check=True)
        .stdout.splitlines()[0].strip("$ "),
    }  # fmt: skip


def load_measurements(keys: Keys, load: Load, receivers: list[Receiver]) -> list[Measurement]:
    ours, tuned, untuned = receivers
    whole, part = [str(load.folder)], [str(load.part)]
    instances = tools.instances_of(load.folder)
    found: list[Measurement] = [
        ("ours", "ours", lambda: timed(lambda: tools.our_command(keys, ours.port, whole))),
        ("ours", "DCMTK tuned", lambda: timed(lambda: tools.our_command(keys, tuned.port, whole))),
        ("ours", "DCMTK untuned", lambda: timed(lambda: tools.our_command(keys, untuned.port, whole))),
        ("DCMTK tuned", "ours", lambda: timed(lambda: tools.dcmtk_send(keys, ours.port, whole, tuned=True))),
        ("DCMTK tuned", "DCMTK tuned",
         lambda: timed(lambda: tools.dcmtk_send(keys, tuned.port, whole, tuned=True))),
        ("DCMTK untuned", "ours",
         lambda: timed(lambda: tools.dcmtk_send(keys, ours.port, whole, tuned=False))),
        ("DCMTK untuned", "DCMTK untuned", lambda: load.scale
         * timed(lambda: tools.dcmtk_send(keys, untuned.port, part, tuned=False))),
        ("ours, library", "ours", lambda: timed(lambda: tools.our_library(keys, ours.port, instances))),
        ("pynetdicom", "ours", lambda: load.scale * timed(lambda: tools.pynetdicom_send(keys, ours.port, load.part))),
    ]  # fmt: skip
    if load.count == 1:
        found.append(("bare ssl", "bare ssl", lambda: tools.bare_ssl(keys, load)))
    return found


def association_measurements(keys: Keys, load: Load, receivers: list[Receiver]) -> list[Measurement]:
    """One association after the other: a process each for DCMTK, which has no other way, a loop for ours."""
    ours, tuned, untuned = receivers
    paths = [str(load.folder)]
    instances = tools.instances_of(load.folder)

    def repeated(one: Callable[[], None], count: int = ASSOCIATIONS) -> float:
        return ASSOCIATIONS / count * timed(lambda: tools.many_associations(count, one))

    few = PART_OF_ASSOCIATIONS
    return [
        ("ours, library", "ours", lambda: repeated(lambda: tools.our_library(keys, ours.port, instances))),
        ("ours, library", "DCMTK tuned",
         lambda: repeated(lambda: tools.our_library(keys, tuned.port, instances))),
        ("DCMTK tuned", "ours",
         lambda: repeated(lambda: tools.dcmtk_send(keys, ours.port, paths, tuned=True))),
        ("DCMTK tuned", "DCMTK tuned",
         lambda: repeated(lambda: tools.dcmtk_send(keys, tuned.port, paths, tuned=True))),
        ("DCMTK untuned", "ours",
         lambda: repeated(lambda: tools.dcmtk_send(keys, ours.port, paths, tuned=False), few)),
        ("DCMTK untuned", "DCMTK untuned",
         lambda: repeated(lambda: tools.dcmtk_send(keys, untuned.port, paths, tuned=False), few)),
        ("pynetdicom", "ours",
         lambda: repeated(lambda: tools.pynetdicom_send(keys, ours.port, load.folder), few)),
    ]  # fmt: skip


def start_measurements(keys: Keys, receivers: list[Receiver]) -> list[Measurement]:
    ours, _, untuned = receivers
    quiet = tools.QUIET

    def process(words: list[str], count: int = 5) -> float:
        env = environment()
        return (
            timed(lambda: [subprocess.run(words, env=env, check=True, **quiet) for _ in range(count)]) / count
        )

    echo = ["echoscu", *keys.options("scu"), "localhost"]
    return [
        ("dicomtls echoscu", "DCMTK untuned", lambda: process([*tools.OURS, *echo, str(untuned.port)])),
        ("/usr/bin/echoscu untuned", "DCMTK untuned",
         lambda: process(["/usr/bin/echoscu", *echo[1:], str(untuned.port)])),
        ("dicomtls echoscu", "ours", lambda: process([*tools.OURS, *echo, str(ours.port)])),
        ("dicomtls --help", "-", lambda: process([*tools.OURS, "--help"])),
        ("python -c pass", "-", lambda: process([sys.executable, "-c", "pass"])),
    ]  # fmt: skip


def measure(title: str, measurements: list[Measurement], runs: int) -> dict[str, Any]:
    """Run all of them `runs` times, interleaved, so that a slow moment of the machine hits each alike."""
    seconds: dict[str, list[float]] = {f"{sender} -> {receiver}": [] for sender, receiver, _ in measurements}
    for run in range(runs):
        for sender, receiver, action in measurements:
            seconds[f"{sender} -> {receiver}"].append(action())
        print(f"{title}: run {run + 1} of {runs}", file=sys.stderr, flush=True)
    return {
        "title": title,
        "seconds": {name: round(statistics.median(values), 4) for name, values in seconds.items()},
        "all": {name: [round(value, 4) for value in values] for name, values in seconds.items()},
    }


def memory(here: Path, keys: Keys) -> dict[str, dict[str, float]]:
    """Return the peak resident memory in MB of our sender and receiver, by the size of the object."""
    found: dict[str, dict[str, float]] = {}
    for name, size in (("10 MB", 10 * MB), ("2 GB", 2000 * MB)):
        load = make_load(here, f"memory-{size}", 1, size, 1)
        with tools.our_receiver(keys, output=here / f"stored-{size}") as receiver:
            sender = _peak_of(["storescu", "-q", *keys.options("scu"), "localhost", str(receiver.port),
                               str(load.folder)])  # fmt: skip
            found[name] = {"storescu": round(sender, 1), "storescp": round(receiver.peak_memory(), 1)}
        for path in (*load.folder.iterdir(), *load.part.iterdir(), *(here / f"stored-{size}").rglob("*.dcm")):
            path.unlink()
    return found


def _peak_of(words: list[str]) -> float:
    """Return the peak of a command's resident memory in MB, as the command itself sees it at its end.

    The kernel's account of a child begins with the memory of its parent, which is large here.
    """
    program = (
        "import sys; from dicomtls_cli.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment(), capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1024


_BASES = (
    "DCMTK tuned -> DCMTK tuned",
    f"DCMTK tuned, {senders.JOBS} processes -> DCMTK tuned --fork",
    "DCMTK tuned -> Orthanc tuned",
    "/usr/bin/echoscu untuned -> DCMTK untuned",
)
"""What the speeds of a row are relative to."""


def table(report: dict[str, Any]) -> str:
    """Return the report as Markdown: seconds, and the ratio to DCMTK -> DCMTK, tuned."""
    lines = []
    for row in report["rows"].values():
        seconds = row["seconds"]
        base = next((seconds[name] for name in _BASES if name in seconds), None)
        lines += [f"**{row['title']}**", "", "| sender -> receiver | seconds | speed |", "|---|---|---|"]
        lines += [
            f"| {name} | {value:.3f} | {base / value:.2f} |" if base else f"| {name} | {value:.3f} | |"
            for name, value in seconds.items()
        ]
        lines.append("")
    if "memory" in report:
        lines += ["**peak resident memory, MB**", "", "| object | storescu | storescp |", "|---|---|---|"]
        lines += [
            f"| {name} | {peak['storescu']} | {peak['storescp']} |" for name, peak in report["memory"].items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
