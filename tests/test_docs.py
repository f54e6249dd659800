"""The documents against the code, both ways: slugs, exit codes, links, command lines, options."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from dicomtls_cli.cli import group
from dicomtls_cli.cli.words import StrictCommand, check_words, declared_spellings
from dicomtls_cli.errors import DicomTlsError, ExitCode

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dicomtls_cli"
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
ORTHANC = ROOT / "docs" / "orthanc.md"
FINDINGS = PACKAGE / "pki" / "findings.py"
EXIT_CODES = ROOT / "docs" / "exit-codes.md"


@cache
def documents() -> tuple[Path, ...]:
    """Return every Markdown file of the project."""
    words = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "*.md"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False)
    if listed.returncode:  # an unpacked source distribution has no .git
        return tuple(sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]))
    return tuple(sorted(ROOT / name for name in listed.stdout.split("\n") if (ROOT / name).is_file()))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)


# ---------------------------------------------------------------------- slugs

_SLUG = re.compile(r"[a-z]+(?:\.[a-z0-9]+(?:-[a-z0-9]+)*)?")
_FILES = ("key", "pem", "crt", "der", "p12")


def slugs_given(tree: ast.AST) -> Iterator[str]:
    """Yield every slug in a module: what is passed as `slug=`, and all strings that look like such a one.

    The tables (`_D("tls.peer-expired", ...)`, `Kind.EMPTY: ("trust.empty", ...)`) hold theirs as plain
    strings, so the groups of the slugs, the part before the dot, decide what looks like one.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "slug" and isinstance(node.value, ast.Constant):
            yield node.value.value
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "NotDicom":
            # Its slug is made of the protocol's name.
            yield f"association.peer-speaks-{ast.literal_eval(node.args[0]).lower()}"


def slug_like(tree: ast.AST, groups: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            head, dot, tail = node.value.partition(".")
            is_module = (PACKAGE / head / f"{tail}.py").exists()  # for importlib
            if (
                dot
                and head in groups
                and _SLUG.fullmatch(node.value)
                and tail not in _FILES
                and not is_module
            ):
                yield node.value


@cache
def slugs_in_code() -> frozenset[str]:
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    given = {slug for tree in trees for slug in slugs_given(tree)}
    groups = {slug.partition(".")[0] for slug in given if "." in slug} | {"tls"}
    return frozenset(given | {slug for tree in trees for slug in slug_like(tree, groups)})


def headings() -> list[str]:
    return re.findall(r"^## (.+)$", prose(TROUBLESHOOTING), flags=re.M)


def test_the_slugs_are_found() -> None:
    """One of each kind of place: a keyword, the three tables, an f-string, without a group."""
    found = slugs_in_code()
    for slug in ("usage.peer", "tls.peer-expired", "trust.empty", "tls.pin-mismatch", "interrupted"):
        assert slug in found
    assert {"association.peer-speaks-tls", "key.is-der", "output.standard-output"} <= found
    assert all(_SLUG.fullmatch(slug) for slug in found)
    assert len(found) > 100


def test_every_slug_has_its_heading_and_every_heading_a_slug() -> None:
    written = headings()
    assert sorted(written) == sorted(set(written)), "a heading is there twice"
    assert set(slugs_in_code()) - set(written) == set(), "slugs without a heading in docs/troubleshooting.md"
    assert set(written) - slugs_in_code() == set(), "headings of slugs that no code has"


def test_every_entry_says_message_cause_and_fix() -> None:
    entries = re.split(r"^## (.+)$", TROUBLESHOOTING.read_text(), flags=re.M)[1:]
    for slug, text in zip(entries[::2], entries[1::2], strict=True):
        body = text.split("\n# ")[0]
        assert re.search(r"^> .+", body, flags=re.M), f"{slug}: no message"
        assert "**Fix.**" in body, f"{slug}: no fix"
        assert "**Cause.**" in body, f"{slug}: no cause"
        assert re.search(r"`[^`]+`", body.split("**Fix.**")[1]), f"{slug}: a fix names something to type"


def test_slugs_stand_under_their_group_in_order_of_the_contents() -> None:
    group_of: dict[str, list[str]] = {}
    current = ""
    for line in prose(TROUBLESHOOTING).splitlines():
        if line.startswith("# "):
            current = line.removeprefix("# ").split(":")[0]
        elif line.startswith("## "):
            group_of.setdefault(current, []).append(line.removeprefix("## "))
    for name, slugs in group_of.items():
        assert all("." not in slug if name == "others" else slug.startswith(f"{name}.") for slug in slugs)
        assert slugs == sorted(slugs)
    contents = re.findall(r"^\| \[(\w+)\]\(#", TROUBLESHOOTING.read_text(), flags=re.M)
    assert contents == list(group_of)


def test_every_finding_about_orthanc_is_described() -> None:
    """Those of certificates are `bundle --check`'s, twice: Orthanc's own, and the trusted ones."""
    paths = [*(PACKAGE / "services" / "orthanc").glob("*.py"), PACKAGE / "pki" / "acceptance.py"]
    calls = [
        node for path in paths for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ]
    place = {"Finding": 1, "Fault": 0}
    given = [call.args[place[name]] for call in calls if (name := getattr(call.func, "id", "")) in place]
    codes = {node.value for node in given if isinstance(node, ast.Constant)}
    assert len(codes) > 30
    described = set(
        re.findall(r"`([a-z0-9-]+)`", "".join(re.findall(r"^\| (`.*?) \|", ORTHANC.read_text(), flags=re.M)))
    )
    assert codes - described == set()
    derived = {code for code in described - codes if code.startswith(("own-", "peer-"))}
    assert described - codes - derived == {"trust-der", "trust-none"}
    assert {code.partition("-")[2] for code in derived} <= set(
        re.findall(r'"([a-z-]+)"', FINDINGS.read_text())
    )


# ---------------------------------------------------------------------- exit codes


def test_exit_codes_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", EXIT_CODES.read_text(), flags=re.M)
    assert [(int(number), name) for number, name in rows] == [(int(c), c.name) for c in ExitCode]


def test_every_exception_has_a_documented_exit_code() -> None:
    def below(kind: type[DicomTlsError]) -> Iterator[type[DicomTlsError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    assert all(kind.exit_code in set(ExitCode) for kind in below(DicomTlsError))


# ---------------------------------------------------------------------- links

_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(path: Path) -> set[str]:
    """Return the anchors GitHub gives the headings of a document."""
    found = re.findall(r"^#+ (.+)$", prose(path), flags=re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")
        for heading in found
    }


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in _LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{name_of(path)} links to {link}"
        assert target.is_relative_to(ROOT)
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(path)} links to {link}"


# ---------------------------------------------------------------------- command lines and options


# Where a command begins; elsewhere the word is a user's or a folder's name.
_COMMAND = re.compile(r"(?:^\s*|[|&;(!]\s*|/|\b(?:then|do|exec|time)\s|\$\s)(?<!/etc/)dicomtls (?P<words>.*)")


def command_lines(path: Path) -> Iterator[str]:
    """Yield the lines of `dicomtls` in fenced blocks, continued ones joined, and those in backquotes."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), flags=re.M | re.S):
        if language not in ("", "sh", "console", "bash"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            found = _COMMAND.search(line)
            if found and not line.lstrip().startswith("#"):
                yield re.split(r"\s(?:\|\||&&|\||;|>|2>|&|#)(?:\s|$|/)|;\s", found["words"])[0]
    yield from re.findall(r"`dicomtls ([^`]+)`", prose(path))


LINES = [(path, line) for path in documents() for line in command_lines(path)]


def parse(words: list[str]) -> None:
    """Let click parse a command line as it would before running it; raise where it would refuse it."""
    parent = click.Context(group, info_name="dicomtls", **group.context_settings)
    if words[0].startswith("-"):
        check_words(words, declared_spellings(group, parent))
        return
    _, command, rest = group.resolve_command(parent, words)
    assert isinstance(command, StrictCommand)
    shown_only = {"--help", "-h", "--version", "--list-profiles", "--list-ciphers"}
    if not rest or shown_only & set(rest):
        check_words(rest, declared_spellings(command, click.Context(command, parent, words[0])))
        return
    command.make_context(words[0], rest, parent=parent)


def test_command_lines_are_found() -> None:
    of_readme = [line for path, line in LINES if path.name == "README.md"]
    assert "demo" in of_readme
    assert any(line.startswith("storescp 2762 --cert") for line in of_readme)
    assert len(LINES) > 40


@pytest.mark.parametrize(("path", "line"), LINES, ids=lambda value: getattr(value, "name", value))
def test_command_lines_are_understood(path: Path, line: str) -> None:
    assert "…" not in line, "write the words"
    named = re.findall(r"(?:^|\s)@(\w+)", line)
    Path("dicomtls.toml").write_text("".join(f'[peer.{name}]\naddress = "h:104"\n' for name in set(named)))
    parse(shlex.split(line.replace("...", "x")))


def test_a_wrong_command_line_is_noticed() -> None:
    for line in ("echoscu --no-such-option h", "nothing x", "storescu h 104 -aet", "gencert x --days y"):
        with pytest.raises((DicomTlsError, click.UsageError)):
            parse(shlex.split(line))


@cache
def spellings() -> frozenset[str]:
    """Return every option that any command has, states or refuses."""
    found: set[str] = set()
    parent = click.Context(group, info_name="dicomtls", **group.context_settings)
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        found |= set(declared_spellings(command, click.Context(command, parent, name)))
        dialect = getattr(command, "dialect", None)
        if dialect is not None:
            found |= {*dialect.stated, *dialect.refused}
    return frozenset(found)


@cache
def theirs() -> frozenset[str]:
    """Return the spellings of DCMTK and dcm4che, whether or not they are answered here."""
    listed = tomllib.loads((ROOT / "docs" / "spellings.toml").read_text())
    return frozenset(
        spelling
        for programs in listed.values()
        for rows in programs.values()
        for row in rows
        for spelling in row.split()
    )


# What follows these is another program's: `openssl x509 -noout`, `keytool -list`, `pip install -q`.
_OTHERS = re.compile(
    r"^(?:openssl|keytool|ssh-keygen|pipx?|uvx?|python3?|git|ls|mkdir|chmod|setpriv|dcmdump|ss|nc|dcmconv|gdcmconv|apt-get)\b"
)


@pytest.mark.parametrize("path", [p for p in documents() if p.name != "CHANGELOG.md"], ids=name_of)
def test_options_in_prose_exist(path: Path) -> None:
    """Every `--option` or `+option` in backquotes is one of ours, unless it stands in another program's line."""
    for quoted in re.findall(r"`([^`\n]+)`", prose(path)):
        if _OTHERS.match(quoted):
            continue
        for word in re.findall(r"(?:(?<=\s)|^)(--[a-z][\w-]*|\+[a-z]{2,})", quoted):
            is_theirs = path.name.startswith("from-") and word in theirs()
            assert is_theirs or word in spellings(), f"{name_of(path)}: `{word}` in `{quoted}`"
