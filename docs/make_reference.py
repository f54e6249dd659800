"""Make what is generated from the commands: `python docs/make_reference.py` writes it, `--check` compares.

docs/cli.md, docs/man/, the tables of docs/from-*.md and the texts of `dicomtls help` come from the commands, from
the dialects, and from the passages of the documents that are marked as topics. Nothing in them depends on the
machine, the day or the version of click.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from reference import COMMANDS, Command, arguments_of, markdown_cell, option_rows, other_spellings
from reference_dialects import fill_tables
from reference_man import command_page, program_page

HERE = Path(__file__).parent
TEXTS = HERE.parent / "dicomtls_cli" / "cli" / "texts"
_TOPIC = re.compile(r"<!-- topic: (\S+) -->\n(.*?)<!-- end -->", re.S)
_SHOWN_COLUMNS = {"exit-codes": (0, 2)}  # of the tables in a topic: a terminal has room for two


def everything() -> dict[Path, str]:
    """Return every generated file with its text."""
    topics = dict(topics_of(HERE / "tls-and-trust.md", HERE / "exit-codes.md"))
    files = {TEXTS / f"{name}.md": text for name, text in topics.items()}
    files[HERE / "cli.md"] = reference()
    files[HERE / "man" / "dicomtls.1"] = program_page(topics)
    for command in COMMANDS:
        files[HERE / "man" / f"dicomtls-{command.name}.1"] = command_page(command)
    for kit in ("dcmtk", "dcm4che"):
        path = HERE / f"from-{kit}.md"
        files[path] = fill_tables(path.read_text(encoding="utf-8"))
    return files


# ---------------------------------------------------------------------- topics


def topics_of(*documents: Path) -> Iterator[tuple[str, str]]:
    for document in documents:
        for name, text in _TOPIC.findall(document.read_text(encoding="utf-8")):
            lines = [narrowed(line, _SHOWN_COLUMNS.get(name)) for line in without_links(text).splitlines()]
            yield name, "\n".join(lines) + "\n"


def without_links(text: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)\s]*\)", r"\1", text)


def narrowed(line: str, columns: tuple[int, ...] | None) -> str:
    if columns is None or not line.startswith("|"):
        return line
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return "| " + " | ".join(cells[column] for column in columns) + " |"


# ---------------------------------------------------------------------- docs/cli.md

_HEAD = """\
# Command line reference

Made from the commands' own help by `python docs/make_reference.py`; `--help` of a command says the same. Every
option is written as it stands here: no abbreviations, no clusters but `-vv`. What DCMTK's and dcm4che's options mean
here is in [from DCMTK](from-dcmtk.md) and [from dcm4che](from-dcm4che.md); what a command ends with in
[exit codes](exit-codes.md).

| command | |
|---|---|
"""


def reference() -> str:
    rows = [f"| [`{command.name}`](#{command.name}) | {command.about} |" for command in COMMANDS]
    return _HEAD + "\n".join([*rows, "", *("\n".join(section(command)) for command in COMMANDS)])


def section(command: Command) -> Iterator[str]:
    yield f"## {command.name}\n"
    yield f"```text\ndicomtls {command.name} [OPTIONS]{arguments_of(command)}\n```\n"
    for paragraph in command.paragraphs:
        language = "toml" if paragraph.text.startswith("[") else "sh"
        yield f"```{language}\n{paragraph.text}\n```\n" if paragraph.is_verbatim else f"{paragraph.text}\n"
    yield "| option | |\n|---|---|"
    for spelled, about in option_rows(command):
        yield f"| {markdown_cell(spelled)} | {markdown_cell(about)} |"
    others = other_spellings(command)
    if others:
        yield f"\nAlso taken: {', '.join(f'`{spelling}`' for spelling in others)}."
    yield ""


# ---------------------------------------------------------------------- writing


def main(words: list[str]) -> int:
    wanted = everything()
    there = {path: path.read_text(encoding="utf-8") for path in wanted if path.exists()}
    gone = {*(HERE / "man").glob("*.1"), *TEXTS.glob("*.md")} - wanted.keys()
    stale = sorted([path for path, text in wanted.items() if there.get(path) != text] + list(gone))
    if "--check" in words:
        for path in stale:
            print(f"{path.relative_to(HERE.parent)} is not up to date: python docs/make_reference.py")
        return 1 if stale else 0
    for path in stale:
        if path in gone:
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
    print(f"{len(stale)} of {len(wanted)} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
