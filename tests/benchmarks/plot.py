"""The picture of docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {
    "ours": "#1b7f5c",
    "DCMTK": "#8a8f98",
    "pynetdicom": "#c98a2b",
    "bare": "#4b6cb7",
    "scan": "#1b7f5c",
}


def plot(report: dict[str, Any], target: Path) -> None:
    """Draw the seconds of every row as bars on a logarithmic scale. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "dicomtls"
    from matplotlib import pyplot

    rows = [row for name, row in report["rows"].items() if name != "start"]
    figure, axes = pyplot.subplots(len(rows), 1, figsize=(9, 2.4 * len(rows)), layout="constrained")
    for axis, row in zip(axes if len(rows) > 1 else [axes], rows, strict=True):
        names = list(reversed(row["seconds"]))
        values = [row["seconds"][name] for name in names]
        colours = [next(c for start, c in COLOURS.items() if name.startswith(start)) for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, fmt="%.2f s", padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.set_title(row["title"], loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, metadata={"Date": None})
