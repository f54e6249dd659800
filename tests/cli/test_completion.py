"""Completion, in the real shells as far as they are installed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.cli import completion as command
from dicomtls_cli.cli import group
from dicomtls_cli.cli.candidates import find_candidates
from tests.support import cli, peers
from tests.support.tty import on_terminal

FILES = ":files"


def candidates(line: str, begun: str = "") -> list[str]:
    """Return what `dicomtls completion` says may stand after `line`, without the descriptions."""
    result = cli.run("completion", "bash", f"--word={begun}", "--", *shlex.split(line))
    assert (result.exit_code, result.stderr) == (0, "")
    return [row.split("\t")[0] for row in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "begun", "expected"),
    [
        ("", "st", ["storescu", "storescp"]),
        ("", "--v", ["--version"]),
        ("help", "exit", ["exit-codes"]),
        ("help", "echo", ["echoscu"]),
        ("completion", "f", ["fish"]),
        ("nothing", "", []),
        ("echoscu", "", []),
        ("echoscu", "+t", ["+tls", "+tla"]),
        ("echoscu", "--tls-p", ["--tls-profile"]),
        ("echoscu", "-rc", ["-rc"]),
        ("echoscu --json", "--js", []),
        ("echoscu -v", "--verb", ["--verbose"]),
        ("echoscu --trust a", "--trust-c", ["--trust-ca"]),
        ("echoscu --peer-cert", "", ["require", "ignore"]),
        ("echoscu --peer-cert", "i", ["ignore"]),
        ("echoscu", "--peer-cert=i", ["--peer-cert=ignore"]),
        ("echoscu --aet", "", []),
        ("echoscu --aet -v --peer-cert", "i", ["ignore"]),
        ("echoscu +cs", "TLS_AES_256", ["TLS_AES_256_GCM_SHA384"]),
        ("echoscu +tls", "", [FILES]),
        ("echoscu +tls a", "", [FILES]),
        ("echoscu +tls a b", "", []),
        ("echoscu --trust", "-", [FILES]),
        ("echoscu", "--trust=x", [FILES]),
        ("echoscu --", "--tr", []),
        ("storescu h:104", "", [FILES]),
        ("storescu h:104 --", "-x", [FILES]),
        ("bundle", "", [FILES]),
        ("inspect", "", [FILES]),
        ("bundle a.crt --format", "p", ["pem", "p12"]),
        ("storescp --on-duplicate", "s", ["skip", "suffix"]),
    ],
)
def test_what_may_stand_there(line: str, begun: str, expected: list[str]) -> None:
    assert candidates(line, begun) == expected


def test_hidden_spellings_wait_until_they_are_asked_for() -> None:
    offered = candidates("echoscu", "-")
    assert {"--trust", "-v", "-aet"} <= set(offered)
    assert "-rc" not in offered
    assert "+pg" in candidates("echoscu", "+")


def test_what_stands_before_a_file_is_told() -> None:
    assert cli.run("completion", "zsh", "--word=--trust=a", "--", "echoscu").stdout == ":files\t--trust=\n"


def test_descriptions_are_one_line() -> None:
    rows = cli.run("completion", "fish", "--word=--", "--", "storescp").stdout.splitlines()
    assert len(rows) > 30
    for row in rows:
        assert re.fullmatch(r"--[a-z0-9-]+\t[^\t]{3,120}", row), row


@given(
    st.lists(st.text(max_size=6) | st.sampled_from(["echoscu", "+tls", "--", "--trust", "help"])), st.text()
)
def test_no_line_is_too_odd(words: list[str], begun: str) -> None:
    for candidate in find_candidates(group, words, begun).words:
        assert candidate.value.startswith(begun)
        assert "\n" not in candidate.value + candidate.about


def test_peers_by_name() -> None:
    """Also those of another file, where the line names one; a file that is wrong offers nothing, and says nothing."""
    Path("dicomtls.toml").write_text('[peer.pacs]\naddress = "A@h:104"\n[peer.ct]\naddress = "c:104"\n')
    Path("site.toml").write_text('[peer.site]\naddress = "s:104"\n')
    Path("wrong.toml").write_text("[peer")
    assert candidates("echoscu", "@") == ["@pacs", "@ct"]
    assert candidates("echoscu @ct", "@p") == ["@pacs"]
    assert candidates("storescu", "@c") == ["@ct", FILES]
    assert candidates("echoscu --config site.toml", "@") == ["@site"]
    assert candidates("echoscu --config=site.toml", "@") == ["@site"]
    assert candidates("echoscu --config wrong.toml", "@") == []
    assert candidates("echoscu --config wrong.toml --config site.toml", "@") == ["@site"]
    assert candidates("echoscu", "p") == []
    assert cli.run("completion", "zsh", "--word=@p", "--", "echoscu").stdout == "@pacs\tA@h:104\n"


def test_the_peers_file_is_named_as_a_shell_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder stands for itself until the line is run, and bash leaves quotes where they are."""
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("of us.toml").write_text('[peer.site]\naddress = "s:104"\n')
    for shell, named in [
        ("zsh", "~/of us.toml"), ("fish", "$HOME/of us.toml"), ("bash", "'of us.toml'"), ("bash", "of\\ us.toml"),
    ]:  # fmt: skip
        for words in (["--config", named], [f"--config={named}"]):
            shown = cli.run("completion", shell, "--word=@", "--", "echoscu", *words).stdout
            assert shown == "@site\ts:104\n", (shell, words)


def test_every_option_of_every_command_is_offered() -> None:
    parent = click.Context(group)
    for name in group.list_commands(parent):
        found = group.get_command(parent, name)
        assert found is not None
        for option in (each for each in found.params if isinstance(each, click.Option)):
            for spelling in option.opts:
                assert spelling in candidates(name, spelling), f"{name} {spelling}"


def test_a_shell_is_to_be_named() -> None:
    result = cli.run("completion")
    assert result.exit_code == 2
    assert "\n" not in result.stderr.partition("hint:")[0].rstrip("\n")
    assert cli.run("completion", "csh").exit_code == 2
    assert cli.run("completion", "bash", "zsh").exit_code == 2


# ---------------------------------------------------------------------- in the shells


@pytest.fixture
def search(tmp_path: Path) -> str:
    """Return a search path with a `dicomtls` that shows its words; files to complete lie in the current folder."""
    programs = tmp_path / ".bin"
    programs.mkdir()
    program = programs / "dicomtls"
    ours = f'exec {shlex.quote(sys.executable)} -m dicomtls_cli "$@"'
    program.write_text(f'#!/bin/sh\n[ "$1" = completion ] && {ours}\nprintf "<%s>" "$@" END\n')
    program.chmod(0o755)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.dcm").touch()
    (tmp_path / "pacs of us.crt").touch()
    (tmp_path / "of us.toml").write_text('[peer.site]\naddress = "s:104"\n')
    (tmp_path / "dicomtls.toml").write_text('[peer.pacs]\naddress = "h:104"\n[peer.ct]\naddress = "c:104"\n')
    return f"{programs}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one(shell: str) -> None:
    program = peers.installed(shell)
    script = cli.run("completion", shell).stdout
    Path("script").write_text(script)
    done = subprocess.run(
        [program, "--no-execute" if shell == "fish" else "-n", "script"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


_ZSH = "autoload -U compinit; compinit -u -D; fpath=($PWD $fpath); source ./script"
_TYPED = [
    ("ech\t", "<echoscu>"),
    ("echoscu +tl\ts", "<echoscu><+tls>"),
    ("echoscu --peer-ce\ti\t", "<echoscu><--peer-cert><ignore>"),
    ("echoscu --peer-cert=i\t", "<echoscu><--peer-cert=ignore>"),
    ("echoscu A@h:104 --identity na\t", "<echoscu><A@h:104><--identity><name>"),
    ("echoscu --trust=pa\t", "<echoscu><--trust=pacs of us.crt>"),
    ("storescu A@h:104 im\ta\t", "<storescu><A@h:104><images/a.dcm>"),
    ("echoscu @pa\t", "<echoscu><@pacs>"),
    ("echoscu @ct @p\t", "<echoscu><@ct><@pacs>"),
    ("echoscu --config 'of us.toml' @si\t", "<echoscu><--config><of us.toml><@site>"),
]


@pytest.mark.parametrize(
    ("shell", "words", "start"),
    [("bash", ["--norc", "--noprofile", "-i"], "source ./script"), ("zsh", ["-f", "-i"], _ZSH)],
    ids=["bash", "zsh"],
)
def test_at_the_prompt(shell: str, words: list[str], start: str, search: str) -> None:
    program = peers.installed(shell)
    Path("script").write_text(cli.run("completion", shell).stdout)
    home = {"PATH": search, "HOME": str(Path.cwd()), "PS1": "$ ", "HISTFILE": "", "INPUTRC": "/dev/null"}
    with on_terminal(*words, program=(program,), term="dumb", **home) as prompt:
        prompt.wait_for("$ ")
        prompt.type(f"{start}; dicomtls\n")
        seen = prompt.wait_for("<END>")
        for keys, completed in _TYPED:
            prompt.type(f"dicomtls {keys}\n")
            seen = prompt.wait_for(f"{completed}<END>", seen)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dicomtls ech", "echoscu\tVerify peers: C-ECHO over TLS."),
        ("dicomtls echoscu +tl", "+tls\tThe same in DCMTK's order: key first"),
        ("dicomtls echoscu --peer-cert=i", "--peer-cert=ignore"),
        ("dicomtls echoscu --trust=pa", "--trust=pacs of us.crt"),
        ("dicomtls storescu A@h:104 im", "images/"),
        ("dicomtls echoscu @p", "@pacs\th:104"),
        ("dicomtls echoscu --config 'of us.toml' @s", "@site\ts:104"),
    ],
)
def test_in_fish(line: str, expected: str, search: str) -> None:
    program = peers.installed("fish")
    Path("script").write_text(cli.run("completion", "fish").stdout)
    done = subprocess.run(
        [program, "--no-config", "-c", f"source script; complete --do-complete={shlex.quote(line)}"],
        env={**cli.environment(), "PATH": search, "HOME": str(Path.cwd())},
        capture_output=True, text=True, timeout=cli.LIMIT, check=False,
    )  # fmt: skip
    assert expected in done.stdout.splitlines(), done.stdout + done.stderr


def test_powershell_by_its_structure() -> None:
    """No PowerShell is at hand: brackets, quotes and what the script relies on."""
    script = cli.run("completion", "powershell").stdout
    code = re.sub(r"'[^'\n]*'", "''", re.sub(r"#.*", "", script))
    for opening, closing in ("()", "[]", "{}"):
        assert code.count(opening) == code.count(closing)
    assert code.count('"') % 2 == 0
    assert code.startswith("\n\nRegister-ArgumentCompleter -Native -CommandName dicomtls")
    assert '"--word=$wordToComplete"' in script
    assert f"'{command._FILES}'" in script
