"""The strict word check, on toy commands."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.cli import dialects
from dicomtls_cli.cli.words import (
    STATED_META_KEY,
    Dialect,
    Refused,
    Stated,
    StrictCommand,
    StrictGroup,
    check_words,
    did_you_mean,
    suggest,
)
from dicomtls_cli.errors import ExitCode, UsageError

DIALECT = Dialect(
    refused={"-x=": Refused("the files decide", "leave it out"), "--lc": Refused("not read", "write `-v`")},
    stated={
        "-R": Stated("only what is needed is proposed"),
        "-nh": Stated("the others go on"),
        "--ops": Stated("none are performed", nargs=1),
        "--type": Stated("seen from the file", nargs=1, only=("PKCS12",), otherwise="convert it"),
    },
    no_command_files_from=1,
)


@click.command(cls=StrictCommand, dialect=DIALECT, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("peer", nargs=-1)
@click.option("-aet", "--aet", "--aetitle", "aet")
@click.option("-c", "--connect", "connect")
@click.option("+tls", "--enable-tls", "pair", nargs=2)
@click.option("+cf", "--trust", "trust", multiple=True)
@click.option("-v", "--verbose", "verbose", count=True)
@click.option("-d", "--debug", "debug", is_flag=True)
@click.option("-r", "no_recurse", is_flag=True)
@click.option("--subject", "-subj", "subject")
@click.option("--tls/--no-tls", "tls", default=True)
def toy(**_: Any) -> None:
    """Take words."""


def context(*words: str) -> click.Context:
    return toy.make_context("toy", list(words))


def refusal(*words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        context(*words)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "\n" not in caught.value.message + caught.value.hint
    assert caught.value.hint
    return caught.value


def test_parses_the_recipe_of_the_orthanc_book() -> None:
    line = "-v -aet DCMTK localhost 4242 +tls dcmtk.key dcmtk.crt +cf orthanc.crt"
    params = context(*line.split()).params
    assert params["peer"] == ("localhost", "4242")
    assert params["pair"] == ("dcmtk.key", "dcmtk.crt")
    assert params["trust"] == ("orthanc.crt",)
    assert (params["aet"], params["verbose"]) == ("DCMTK", 1)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("-vc", "-v"),
        ("-cf", "+cf"),
        ("-nhR", "-nh"),
        ("-dv", "-d"),
        ("+aet", "-aet"),
        ("--aett", "--aet"),
        ("-AET", "-aet"),
        ("-vd", "-d"),
        ("+v", "-v"),
        ("-cX@h:1", ""),
        ("+", ""),
        ("-5", ""),
    ],
)
def test_unknown_words_are_refused_with_the_nearest_spelling(word: str, nearest: str) -> None:
    error = refusal(word, "host")
    assert error.slug == "usage.no-such-option"
    assert error.message == f"no such option `{word}`"
    assert f"`{nearest}`" in error.hint if nearest else f"a file is `./{word}`" in error.hint


def test_help_needs_a_declared_spelling() -> None:
    for word in ("-h", "--help"):
        with pytest.raises(click.exceptions.Exit):
            context(word)
    assert refusal("-hv").slug == "usage.no-such-option"
    assert refusal("-h", "-nhR").slug == "usage.no-such-option"


def test_only_v_clusters() -> None:
    assert context("-vvv", "-v").params["verbose"] == 4
    assert refusal("-rr").slug == "usage.no-such-option"


def test_words_after_the_double_dash_are_positional() -> None:
    assert context("-d", "--", "-aet", "+x", "@a", "--").params["peer"] == ("-aet", "+x", "@a", "--")


def test_the_single_dash_is_positional() -> None:
    assert context("host", "-").params["peer"] == ("host", "-")


@pytest.mark.parametrize("value", ["-5", "/C=BE", "-", "+0100", "--unknown", "-x", "a=b", "", "@file"])
def test_values_may_begin_with_anything(value: str) -> None:
    assert context("-subj", value, "host").params["subject"] == value
    assert context(f"--subject={value}", "host").params["subject"] == value


@pytest.mark.parametrize(
    "value", ["-aet", "-v", "-vv", "+tls", "--no-tls", "--aet=X", "--", "-R", "-x=", "--lc=f", "--ops=1"]
)
def test_a_value_may_not_be_an_option(value: str) -> None:
    shown = re.sub("=.+", "=...", value)
    error = refusal("--subject", value)
    assert error.slug == "usage.option-value"
    assert f"`--subject={shown}`" in error.hint
    assert f"`{shown}`" in error.message
    assert context(f"--subject={value}").params["subject"] == value
    assert refusal("+tls", "key", value).slug == "usage.option-value"
    assert refusal("+tls", value, "crt").slug == "usage.option-value"


@pytest.mark.parametrize("words", [["-aet"], ["--aet"], ["+tls"], ["+tls", "key"], ["--ops"], ["host", "-c"]])
def test_missing_values(words: list[str]) -> None:
    error = refusal(*words)
    assert error.slug == "usage.option-value"
    assert error.message.endswith("but the line ends after it")


def test_equals_is_for_long_options_that_take_one_value() -> None:
    assert context("--aet=A=B").params["aet"] == "A=B"
    assert context("--aet=").params["aet"] == ""
    assert refusal("--enable-tls=key", "crt").slug == "usage.option-value"
    assert refusal("--verbose=3").slug == "usage.option-value"
    assert refusal("--no-tls=x").slug == "usage.option-value"
    assert refusal("--nothing=x").slug == "usage.no-such-option"
    for word in ("-aet=X", "+cf=a.crt", "-c=A@h:1"):
        error = refusal(word)
        assert error.slug == "usage.no-such-option"
        assert f"write `{word.partition('=')[0]}` and its value" in error.hint


def test_no_message_repeats_what_follows_an_equals_sign() -> None:
    for word in ("-pwd=hunter2", "--user-pass=hunter2", "-aet=hunter2", "--verbose=hunter2", "+tls=hunter2"):
        error = refusal(word)
        assert "hunter2" not in error.message + error.hint


def test_the_last_of_a_repeated_option_counts() -> None:
    assert context("-aet", "A", "--aetitle", "B").params["aet"] == "B"
    assert context("+tls", "a", "b", "+tls", "c", "d").params["pair"] == ("c", "d")
    assert context("+cf", "a", "--trust", "b").params["trust"] == ("a", "b")


def test_refused_spellings_say_what_to_write() -> None:
    error = refusal("host", "-x=", "f")
    assert error.slug == "usage.refused-option"
    assert error.message == "option `-x=` is refused: the files decide"
    assert error.hint == "leave it out"
    assert refusal("--lc=file").message == "option `--lc` is refused: not read"


def test_stated_spellings_are_dropped_with_their_values_and_noted() -> None:
    ctx = context("host", "-R", "--ops", "7", "-d", "--ops=8", "--type", "pkcs12", "104")
    assert ctx.params["peer"] == ("host", "104")
    assert ctx.params["debug"]
    assert ctx.meta[STATED_META_KEY] == [
        "`-R`: only what is needed is proposed",
        "`--ops`: none are performed",
        "`--ops`: none are performed",
        "`--type`: seen from the file",
    ]
    assert context("host").meta[STATED_META_KEY] == []


def test_stated_with_another_value_is_refused() -> None:
    for words in (["--type", "JKS"], ["--type=JKS"]):
        error = refusal(*words)
        assert error.slug == "usage.refused-option"
        assert error.message == "option `--type` is refused with `JKS`: only PKCS12 is read"
        assert error.hint == "convert it"
    assert refusal("-R=1").slug == "usage.no-such-option"


def test_command_files_are_refused_where_no_peer_can_stand() -> None:
    assert context("@orthanc").params["peer"] == ("@orthanc",)
    error = refusal("host", "@args")
    assert error.slug == "usage.command-file"
    assert "`./@args`" in error.hint
    assert context("host", "-aet", "@A", "./@args").params["peer"] == ("host", "./@args")


def test_a_declared_option_goes_before_the_dialect() -> None:
    dialect = Dialect(refused={"-a": Refused("no", "x")}, stated={"-b": Stated("no", nargs=1)})
    words = ["-b", "c", "-a", "v"]
    assert check_words(words, {"-a": 1, "-b": 0}, dialect) == (words, [])


def test_completion_is_left_to_click() -> None:
    ctx = toy.make_context("toy", ["-nhR", "+q", "--aet"], resilient_parsing=True)
    assert STATED_META_KEY not in ctx.meta


def test_suggest() -> None:
    assert suggest("-cf", ["+cf", "-c", "-cb", "--cf-file"])[0] == "+cf"
    assert suggest("zzz", ["a", "b"]) == ()
    assert suggest("storscu", ["storescu", "storescp", "echoscu"])[0] == "storescu"
    assert did_you_mean("--ab", ["-ab", "--abc"]) == "did you mean `-ab` or `--abc`?"
    assert did_you_mean("q", ["abc"], "look it up") == "look it up"


OPTIONS = {"-aet": 1, "--aet": 1, "+tls": 2, "-v": 0, "--tls": 0, "-c": 1}


@given(
    st.lists(
        st.sampled_from(
            [*OPTIONS, "-vv", "-R", "-x=", "--ops", "--", "-", "host", "-nhR", "-cf", "--aet=-v", "@f"]
        )
        | st.text(st.sampled_from("-+=@vca \n\0é"), max_size=4)
    )
)
def test_what_passes_holds_declared_spellings_only(words: list[str]) -> None:
    try:
        passed, _ = check_words(words, OPTIONS, DIALECT)
    except UsageError:
        return
    assert check_words(passed, OPTIONS) == (passed, [])


@given(
    st.lists(st.sampled_from([*OPTIONS, "--", "-", "host", "--aet=x", "-vvv", "-x"]) | st.text(max_size=3))
)
def test_click_reads_the_checked_words_as_the_check_did(words: list[str]) -> None:
    """Every spelling click acts upon is one that the check saw as an option: none comes out of a cluster."""

    @click.command(cls=StrictCommand, add_help_option=False)
    @click.argument("rest", nargs=-1)
    @click.option("-aet", "--aet", multiple=True)
    @click.option("+tls", "pair", nargs=2, multiple=True)
    @click.option("-v", count=True)
    @click.option("--tls", count=True)
    @click.option("-c", multiple=True)
    def command(**_: Any) -> None: ...

    try:
        params = command.make_context("x", list(words)).params
    except UsageError:
        return
    read = len(params["aet"]) + len(params["c"]) + len(params["pair"]) + params["tls"] + params["v"]
    passed, _ = check_words(words, OPTIONS)
    spelled = values = 0
    for i, word in enumerate(passed):
        if values:
            values -= 1
        elif word == "--":
            assert params["rest"][len(params["rest"]) - len(passed[i + 1 :]) :] == tuple(passed[i + 1 :])
            break
        elif word in OPTIONS or word.startswith("--aet="):
            spelled += 1
            values = OPTIONS.get(word, 0)
    assert read == spelled


# Groups


def group() -> StrictGroup:
    @click.group(
        cls=StrictGroup,
        commands_table={
            "path": ("os.path:join", "Not a command."),
            "toy": (f"{__name__}:toy", "Take words."),
        },
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    @click.option("-v", "verbose", count=True)
    def dicomtls(verbose: int) -> None:
        """Do things."""

    assert isinstance(dicomtls, StrictGroup)
    return dicomtls


def run(*words: str) -> Any:
    return group().main(list(words), "dicomtls", standalone_mode=False)


def test_group_refuses_unknown_options_and_commands() -> None:
    for words, slug, hint in (
        (["-x"], "usage.no-such-option", ""),
        (["+tls", "toy"], "usage.no-such-option", ""),
        (["-vx", "toy"], "usage.no-such-option", "`-v`"),
        (["tyo"], "usage.no-such-command", "`toy`"),
        (["zzzz"], "usage.no-such-command", "path, toy"),
        (["toy", "-nhR"], "usage.no-such-option", "`-nh`"),
        (["--", "-x"], "usage.no-such-command", ""),
    ):
        with pytest.raises(UsageError) as caught:
            run(*words)
        assert caught.value.slug == slug
        assert hint in caught.value.hint


def test_group_leaves_the_words_of_the_command_to_the_command() -> None:
    assert run("-vv", "toy", "-aet", "X", "--", "-x") is None


def test_group_help_imports_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "toy   Take words." in shown
    assert "path  Not a command." in shown  # os.path.join is no click command: importing it would have failed
    assert shown.index("path") < shown.index("toy")


def test_words_and_dialects_import_no_heavy_package() -> None:
    code = (
        "import sys, dicomtls_cli.cli.words, dicomtls_cli.cli.dialects;"
        "print(*{'rich', 'pydicom', 'pynetdicom', 'cryptography', 'ssl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# The dialects as data


@pytest.mark.parametrize("name", ["ECHOSCU", "STORESCU", "STORESCP"])
def test_no_spelling_is_both_stated_and_refused(name: str) -> None:
    dialect: Dialect = getattr(dialects, name)
    assert not set(dialect.refused) & set(dialect.stated)
    for spelling in (*dialect.refused, *dialect.stated):
        assert spelling[0] in "-+"
        assert " " not in spelling
    for refused in dialect.refused.values():
        assert refused.hint
        assert not refused.hint.endswith(".")
        assert not refused.why.endswith(".")
