"""Make the picture of the README: `python docs/make_pictures.py` records a real run of `dicomtls demo`."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 110


def record(words: list[str], picture: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dicomtls_cli", *words, "--color", "always"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )  # fmt: skip
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_markup(f"[bold green]$[/] dicomtls {' '.join(words)}"))
    console.print(Text.from_ansi(done.stdout))
    drawn = console.export_svg(title=f"dicomtls {' '.join(words)}", theme=MONOKAI)
    # rich would have every reader fetch its font from elsewhere; the one they have is as good.
    picture.write_text(
        re.sub(r"@font-face \{.*?\}\n?", "", drawn, flags=re.DOTALL).replace("Fira Code, ", "")
    )


if __name__ == "__main__":
    record(["demo"], HERE / "demo.svg")
