"""Commands that run on reception: what reaches them, how many at once, and how they end."""

from __future__ import annotations

import itertools
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.receiving import hooks as module
from dicomtls_cli.services.receiving.events import Client, Opened, Received
from dicomtls_cli.services.receiving.hook_words import OF_INSTANCE, OF_STUDY, Command, Unfit
from dicomtls_cli.services.receiving.hooks import HookOptions, Hooks
from dicomtls_cli.services.receiving.receive import InstanceReceived
from dicomtls_cli.services.receiving.reception import Stored
from tests.support.names import HOSTILE
from tests.support.scripted import CT, EXPLICIT, LIMIT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the commands are shell scripts")


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="dicomtls")


def received(
    number: int = 1, *, study: str = "1.2.9", calling_aet: str = "SCU", **stored: object
) -> Received:
    uid = f"1.2.{number}"
    there = Stored(str(Path("out") / "1.2.9" / f"{uid}.dcm"), 1000, study=study)._replace(**stored)  # type: ignore[arg-type]
    client = Client("[fe80::1]:104", calling_aet, "SCP")
    return Received(client, InstanceReceived(CT, uid, EXPLICIT, 0, "", there, 0.1))


def script(text: str, name: str = "hook") -> Path:
    """Write an executable shell script into the current folder."""
    path = Path(name).absolute()
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def command(words: str, known: frozenset[str] = OF_INSTANCE) -> Command:
    return Command(words, known)


def until(condition: Callable[[], object]) -> None:
    never = threading.Event()
    for _ in range(int(LIMIT / 0.01)):
        if condition():
            return
        never.wait(0.01)
    raise AssertionError("it did not come about")


def lines(name: str) -> list[str]:
    path = Path(name)
    return path.read_text().splitlines() if path.exists() else []


TELL = (
    'printf "%s\\n" "$@" > words.$$; env > environment.$$; mv words.$$ words; mv environment.$$ environment'
)


def told() -> tuple[list[str], dict[str, str]]:
    """Return the words and the environment a script of TELL got."""
    return lines("words"), dict(line.partition("=")[::2] for line in lines("environment") if "=" in line)


# --- the line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *((f"echo x {sign} y", "is for a shell") for sign in "|&;<>$`"),
        ("echo 'quoted | too'", "is for a shell"),
        ("echo 'open", "cannot be split"),
        ("", "names no program"),
        ("   ", "names no program"),
        ("''", "names no program"),
        ("echo {no_such}", "no placeholder"),
        ("echo {PATH}", "no placeholder"),
        ("echo {path", "no placeholder"),
        ("echo {}", "no placeholder"),
        ("{path} x", "may not depend on a peer"),
        ("#a x", "may not depend on a peer"),
    ],
)
def test_a_line_that_cannot_be(text, why) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        command(text)
    assert caught.value.slug == "usage.hook"
    assert caught.value.hint


@pytest.mark.parametrize("words", ["no-such-program-here {path}", "./plain.txt", "./folder"])
def test_a_program_that_is_not_there_or_may_not_be_run(words) -> None:
    Path("plain.txt").write_text("")
    Path("folder").mkdir()
    with pytest.raises(UsageError) as caught:
        command(words)
    assert caught.value.slug == "usage.hook-program"


def test_a_batch_file_is_for_a_shell() -> None:
    script("", "hook.BAT")
    with pytest.raises(UsageError, match="which a shell runs"):
        command("./hook.BAT")


@pytest.mark.parametrize("word", ["{path}", "{file}", "#f", "{sop_uid}"])
def test_a_study_has_no_file(word) -> None:
    with pytest.raises(UsageError, match="at the end of a study"):
        command(f"echo x{word}", OF_STUDY)


VALUES = {
    "path": "/out/a b/c.dcm",
    "dir": "/out/a b",
    "file": "c.dcm",
    "sop_uid": "1.2.3",
    "study_uid": "1.2.9",
    "peer_ip": "::1",
    "calling_aet": "CT 1",
    "called_aet": "SCP",
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("{path}", ["/out/a b/c.dcm"]),
        ("--file={path} x", ["--file=/out/a b/c.dcm", "x"]),
        ("'{dir} and {file}'", ["/out/a b and c.dcm"]),
        ("{sop_uid}{study_uid}", ["1.2.31.2.9"]),
        ("#p/#f from '#a' to #c at #r", ["/out/a b/c.dcm", "from", "CT 1", "to", "SCP", "at", "::1"]),
        ("#path #x # 100%", ["/out/a bath", "#x", "#", "100%"]),
        ("a\\ b 'c d' \"\"", ["a b", "c d", ""]),
        ("{peer_ip}", ["::1"]),
    ],
)
def test_placeholders_are_replaced_inside_words(words, expected) -> None:
    program, *found = command(f"echo {words}").fill(VALUES)
    assert Path(program).is_absolute()
    assert found == expected


def test_what_is_put_in_is_not_looked_through_again() -> None:
    values = {**VALUES, "path": "/out/{file}#a", "dir": "{path}"}
    assert command("echo {path} #p").fill(values)[1:] == ["/out/{file}#a", "{path}"]


FROM_PEER = ["study_uid", "sop_uid", "calling_aet", "called_aet"]
SPELLED = {"study_uid": "{study_uid}", "sop_uid": "{sop_uid}", "calling_aet": "#a", "called_aet": "#c"}


@example("study_uid", "..")
@example("calling_aet", " ")
@given(
    st.sampled_from(FROM_PEER),
    st.text(max_size=30) | st.sampled_from(HOSTILE) | st.text("a.-_ $;", max_size=5),
)
def test_what_a_peer_decides_is_letters_digits_dots_underscores_and_blanks_or_nothing(name, value) -> None:
    asked = command(f"echo x={SPELLED[name]}")
    if re.fullmatch(r"[A-Za-z0-9._ ]+", value) and value.strip(". "):
        assert asked.fill({**VALUES, name: value})[1:] == [f"x={value}"]
    else:
        with pytest.raises(Unfit, match=name):
            asked.fill({**VALUES, name: value})


# --- what a command gets ---------------------------------------------------------------------------------


def test_everything_is_in_the_environment_and_nothing_of_ours(monkeypatch) -> None:
    monkeypatch.setenv("DICOMTLS_KEY_PASSPHRASE", "secret")
    monkeypatch.setenv("DICOM_EVENT_OLD", "of somebody else")
    monkeypatch.setenv("OTHER", "kept")
    hooks = Hooks(HookOptions(command(f"{script(TELL)} {{path}} #r")))
    hooks(received(3, replaced=True, sha256="ab"))
    hooks.close()
    words, environment = told()
    path = Path("out/1.2.9/1.2.3.dcm").absolute()
    assert words == [str(path), "fe80::1"]
    assert environment["OTHER"] == "kept"
    assert not [name for name in environment if name.startswith("DICOMTLS_")]
    assert {name[12:]: value for name, value in environment.items() if name.startswith("DICOM_EVENT_")} == {
        "TYPE": "instance",
        "PATH": str(path),
        "DIR": str(path.parent),
        "FILE": "1.2.3.dcm",
        "SOP_UID": "1.2.3",
        "SOP_CLASS_UID": CT,
        "STUDY_UID": "1.2.9",
        "TRANSFER_SYNTAX_UID": EXPLICIT,
        "PEER_IP": "fe80::1",
        "CALLING_AET": "SCU",
        "CALLED_AET": "SCP",
        "CERTIFICATE_SUBJECT": "",
        "CERTIFICATE_SHA256": "",
        "BYTES": "1000",
        "REPLACED": "1",
        "IDENTICAL": "0",
        "SHA256": "ab",
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_value_is_data_in_the_environment(text) -> None:
    hooks = Hooks(HookOptions(command(f"{script(TELL)} {{file}}")))
    hooks(received(study=text))
    hooks.close()
    words, environment = told()
    assert words == ["1.2.1.dcm"]
    value = environment["DICOM_EVENT_STUDY_UID"]
    assert value.isprintable()
    if text.isprintable():
        assert value == text


def test_a_value_that_does_not_fit_skips_the_command_and_says_so(caplog) -> None:
    hooks = Hooks(HookOptions(command(f"{script('echo $1 >> ran')} #a")))
    for title in ("CT$(reboot)", "-rf", "CT\n1", "CT-1", "CT 1"):
        hooks(received(calling_aet=title))
    hooks.close()
    assert lines("ran") == ["CT 1"]
    skipped = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert len(skipped) == 4
    assert all(line.isprintable() for line in skipped)


def test_no_command_for_what_was_not_stored_or_stayed_as_it_was() -> None:
    hooks = Hooks(HookOptions(command(f"{script('echo x >> ran')}")))
    hooks(received(kept=True))
    hooks(Opened(Client("h:1")))
    event = received()
    hooks(event._replace(instance=event.instance._replace(stored=None, status=0xA700)))
    hooks.close()
    assert lines("ran") == []


def test_standard_input_is_empty() -> None:
    hooks = Hooks(HookOptions(command(f"{script('cat > read; echo done > done')}")))
    hooks(received())
    hooks.close()
    assert (lines("read"), lines("done")) == ([], ["done"])


# --- how many at once ------------------------------------------------------------------------------------

WAIT = "echo begin >> log; while [ ! -e go ]; do sleep 0.01; done; echo end >> log"


def go() -> None:
    Path("go").write_text("")


def overlap(log: list[str]) -> int:
    """Return how many ran at once at the most."""
    return max(itertools.accumulate(1 if line == "begin" else -1 for line in log))


def test_four_run_at_once_and_all_run() -> None:
    hooks = Hooks(HookOptions(command(f"{script(WAIT)}")))
    for number in range(10):
        hooks(received(number))
    until(lambda: len(lines("log")) >= 4)
    go()
    hooks.close()
    log = lines("log")
    assert overlap(log) == 4
    assert sorted(log) == ["begin"] * 10 + ["end"] * 10


def test_when_too_many_wait_the_next_waits_outside(monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "_QUEUE", 3)
    hooks = Hooks(HookOptions(command(f"{script(WAIT)}")))
    entered = []

    def enter() -> None:
        for number in range(12):
            hooks(received(number))
            entered.append(number)

    thread = threading.Thread(target=enter)
    thread.start()
    until(lambda: any("so does receiving" in record.getMessage() for record in caplog.records))
    assert len(entered) <= 7  # four that run, three in the queue
    assert thread.is_alive()
    go()
    thread.join(LIMIT)
    hooks.close()
    assert len(entered) == 12
    assert lines("log").count("end") == 12


def test_in_step_with_reception_one_at_a_time() -> None:
    hooks = Hooks(
        HookOptions(command(f"{script('echo begin >> log; sleep 0.02; echo end >> log')}"), sync=True)
    )
    hooks(received())
    assert lines("log") == ["begin", "end"]
    threads = [threading.Thread(target=hooks, args=(received(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert lines("log") == ["begin", "end"] * 5
    hooks.close()


# --- how they end ----------------------------------------------------------------------------------------


def of(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_a_failure_is_logged_with_what_was_said(caplog) -> None:
    hooks = Hooks(HookOptions(command(f"{script('echo out; printf x1b >&2; printf [2J >&2; exit 3')}")))
    hooks(received())
    hooks.close()
    (line,) = of(caplog, logging.ERROR)
    assert line == "`--exec` ended with exit code 3: out\\nx1b[2J"


def test_what_is_said_is_capped_and_harmless(caplog) -> None:
    text = "printf '\\033[2J'; i=0; while [ $i -lt 9000 ]; do echo 0123456789; i=$((i+1)); done; kill -9 $$"
    hooks = Hooks(HookOptions(command(f"{script(text)}")))
    hooks(received())
    hooks.close()
    (line,) = of(caplog, logging.ERROR)
    assert line.startswith("`--exec` ended by signal 9: \\x1b[2J0123")
    assert line.isprintable()
    assert len(line) < 5000


def test_a_command_that_takes_too_long_is_killed_with_what_it_started(caplog) -> None:
    text = "sleep 100 & echo $! > child; wait"
    hooks = Hooks(HookOptions(command(f"{script(text)}"), timeout=0.3))
    hooks(received())
    hooks.close()
    assert "killed after 0.3 s" in of(caplog, logging.ERROR)[0]
    until(lambda: not is_running(int(lines("child")[0])))


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_what_a_command_leaves_running_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(module, "_PARTING", 0.1)
    hooks = Hooks(HookOptions(command(f"{script('sleep 100 & echo $! > child; echo said')}"), timeout=LIMIT))
    hooks(received())
    hooks.close(LIMIT)
    pid = int(lines("child")[0])
    assert is_running(pid)
    os.kill(pid, 9)


def test_what_a_command_leaves_running_holds_nothing_of_ours(monkeypatch) -> None:
    """No descriptor and no thread for each, while all of them still run and hold their end of the output."""
    monkeypatch.setattr(module, "_PARTING", 0.05)
    open_files = Path("/proc/self/fd")
    before, threads = len(list(open_files.iterdir())), threading.active_count()
    hooks = Hooks(HookOptions(command(f"{script('sleep 100 & echo $! >> children')}"), timeout=LIMIT))
    for _ in range(8):
        hooks(received())
    hooks.close(LIMIT)
    pids = [int(line) for line in lines("children")]
    assert len(pids) == 8
    until(lambda: threading.active_count() <= threads and len(list(open_files.iterdir())) <= before)
    assert all(is_running(pid) for pid in pids)
    for pid in pids:
        os.kill(pid, 9)


def test_a_program_that_went_away_is_logged_and_others_run(caplog) -> None:
    path = script("echo x >> ran")
    hooks = Hooks(HookOptions(command(f"{path}")))
    path.rename("elsewhere")
    hooks(received())
    until(lambda: of(caplog, logging.ERROR))
    Path("elsewhere").rename(path)
    hooks(received())
    hooks.close()
    assert "cannot be run" in of(caplog, logging.ERROR)[0]
    assert lines("ran") == ["x"]


@pytest.mark.parametrize("told_to_end", [False, True])
def test_the_end_waits_for_a_while_and_tells_what_did_not_run(told_to_end, caplog) -> None:
    hooks = Hooks(HookOptions(command(f"{script(WAIT)}")))
    for number in range(9):
        hooks(received(number))
    until(lambda: len(lines("log")) == 4)
    hooks.close(LIMIT if told_to_end else 0.1, is_over=lambda: told_to_end)
    assert "5 hooks were not run, 4 were killed: the end came first" in of(caplog, logging.ERROR)
    assert len([line for line in of(caplog, logging.INFO) if "not run" in line]) == 5
    assert lines("log") == ["begin"] * 4


# --- studies ---------------------------------------------------------------------------------------------


@pytest.fixture
def ended() -> Callable[[], list[str]]:
    """Return what returns the studies that ended so far, a line each."""
    script(
        "echo $1 $DICOM_EVENT_TYPE $DICOM_EVENT_INSTANCES $DICOM_EVENT_BYTES $DICOM_EVENT_PATH >> studies",
        "study",
    )
    return lambda: lines("studies")


def of_study(timeout: float) -> Hooks:
    return Hooks(HookOptions(on_study=command("./study {study_uid}", OF_STUDY), study_timeout=timeout))


def test_a_study_ends_when_nothing_of_it_came_for_a_while(ended) -> None:
    hooks = of_study(0.2)
    for number in range(3):
        hooks(received(number))
        hooks(received(number, study="1.2.8"))
    until(lambda: len(ended()) == 2)
    assert sorted(ended()) == ["1.2.8 study 3 3000", "1.2.9 study 3 3000"]
    hooks(received(4))  # the same study again is a new one
    until(lambda: len(ended()) == 3)
    assert ended()[2] == "1.2.9 study 1 1000"
    hooks.close()


def test_an_instance_keeps_its_study_open_and_no_other(ended, monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    hooks = of_study(10)
    monkeypatch.setattr(hooks, "_changed", threading.Condition())
    hooks(received(1, study="1.1"))
    now += 6
    hooks(received(1, study="1.2"))
    now += 6
    with hooks._changed:
        due = hooks._take_quiet_studies()
    assert [study.values["study_uid"] for study in due] == ["1.1"]
    hooks(received(2, study="1.2"))
    now += 9
    monkeypatch.setattr(hooks, "_deadline", 0.0)  # it is not to wait
    with hooks._changed:
        assert hooks._take_quiet_studies() == []


def test_a_study_without_a_uid_ends_too(caplog, ended) -> None:
    hooks = of_study(LIMIT)
    hooks(received(study=""))
    hooks.close()
    assert "no study_uid" in of(caplog, logging.ERROR)[0]
    hooks = Hooks(HookOptions(on_study=command("./study #p", OF_STUDY)))
    hooks(received(study=""))
    hooks.close()
    assert ended() == [f"{Path('out/1.2.9').absolute()} study 1 1000"]


def test_the_end_of_the_server_ends_all_studies(ended) -> None:
    hooks = of_study(3600)
    for number in range(6):
        hooks(received(study=f"1.{number}"))
    hooks.close()
    assert sorted(ended()) == [f"1.{number} study 1 1000" for number in range(6)]


def test_many_studies_are_not_kept_for_ever(ended, monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_STUDIES", 2)
    hooks = of_study(3600)
    for number in range(5):
        hooks(received(study=f"1.{number}"))
    until(lambda: len(ended()) == 3)
    assert sorted(ended()) == [f"1.{number} study 1 1000" for number in range(3)]
    hooks.close()
    assert len(ended()) == 5
