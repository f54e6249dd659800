"""What is shown while a sending lasts: on a terminal, in a file, and never in the way of anything."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomtls_cli.cli.progress import Pace, Progress, State, is_drawable
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.errors import InputError
from tests.support.scripted import LIMIT, Scripted, listening
from tests.support.sending import answer, made
from tests.support.tty import on_terminal, screen

MB = 1_000_000


class FakeTerminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return super().write(text.replace("\n", "\r\n"))  # as a terminal's line discipline does


@contextlib.contextmanager
def fake_terminal(term: str | None = "xterm") -> Iterator[FakeTerminal]:
    """Let stderr look like a terminal of 80 columns to this process."""
    made = FakeTerminal()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(made):
        patch.delenv("TERM") if term is None else patch.setenv("TERM", term)
        yield made


def seen(*states: State, terminal: Terminal | None = None) -> None:
    """Show `states` one after the other, until the last was shown."""
    through = threading.Event()
    rest = iter(states)

    def state() -> State:
        found = next(rest, None)
        if found is None:
            through.set()
        return found or states[-1]

    progress = Progress(terminal or Terminal(), state, after=0, every=0.001)
    progress.start()
    assert through.wait(LIMIT)
    progress.close()
    progress.close()


def state(done: int = 0, total: int = 10, *, final: bool = True, failed: int = 0) -> State:
    return State(done, total, final, done * MB, done * MB, total * MB, failed)


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    seen(state(), state(2, 258, final=False, failed=1), state(1500, 3000))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("2 of at least 258 files, 2.0 MB, ")
    assert lines[0].endswith("B/s, 1 failed")
    assert lines[1].startswith("1,500 of 3,000 files, 1.5 GB, ")
    assert lines[1].endswith(" left, 0 failed")
    assert lines[-1].startswith("1,500 files, 1.5 GB in 0:00:0")


def test_a_bar_on_a_terminal() -> None:
    with fake_terminal() as terminal:
        seen(state(), state(3, 259, final=False, failed=2), state(5))
    drawn = [screen(piece, 80)[-1] for piece in terminal.getvalue().split("\r") if "━" in piece]
    assert " 3/259+ files 3.0 MB " in drawn[0]
    assert drawn[0].endswith(" scanning 2 failed")
    assert " 5/10 files 5.0 MB " in drawn[1]
    assert drawn[1].endswith(" left 0 failed")
    assert {len(line) for line in drawn} == {77}
    shown = screen(terminal.getvalue(), 80)
    assert shown[0].startswith("5 files, 5.0 MB in 0:00:0")
    assert shown[1:] == [""]


def test_the_bar_shows_how_much_is_done() -> None:
    with fake_terminal() as terminal:
        seen(state(), state(8), terminal=Terminal(color=False))
    drawn = screen(terminal.getvalue().split("\r")[1], 80)[-1]
    assert "\x1b" not in terminal.getvalue().replace("\x1b[K", "")
    assert 0.7 < drawn.count("━") / drawn.index(" 8/10") <= 0.82


def test_nobody_who_saw_none_is_told_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(Terminal(), state)
    progress.start()
    progress.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "told", [Terminal(-1), Terminal(1), Terminal(0, as_json=True)], ids=["-q", "-v", "--json"]
)
def test_nothing_where_other_lines_tell_or_none_are_wanted(told: Terminal) -> None:
    before = threading.active_count()
    with fake_terminal() as terminal:
        progress = Progress(told, state, after=0, every=0)
        progress.start()
        assert threading.active_count() == before
        progress.close()
    assert terminal.getvalue() == ""


def test_what_is_printed_meanwhile_stands_above_the_bar() -> None:
    looked = threading.Semaphore(0)

    def counting() -> State:
        looked.release()
        return state(1)

    told = Terminal(color=False)
    with fake_terminal() as terminal:
        progress = Progress(told, counting, after=0, every=0.001)
        progress.start()
        for number in range(20):
            for _ in range(3):  # the third look comes after the second was drawn
                assert looked.acquire(timeout=LIMIT)
            told.warning(f"number {number} " + "x" * 100)
            told.error(InputError("no file", "name one", slug="input.unreadable"))
        progress.close()
    expected = []
    for number in range(20):
        expected += screen(f"warning: number {number} " + "x" * 100, 80)
        expected += ["error: no file", "hint: name one"]
    assert screen(terminal.getvalue(), 80)[:-2] == expected


def test_a_progress_that_fails_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    asked = threading.Event()

    def broken() -> State:
        if threading.current_thread() is threading.main_thread():
            return state()
        asked.set()
        raise ZeroDivisionError("no file")

    told = Terminal()
    told.start([])
    progress = Progress(told, broken, after=0, every=0)
    progress.start()
    assert asked.wait(LIMIT)
    progress.close()
    assert capsys.readouterr().err == "warning: progress is shown no more: ZeroDivisionError: no file\n"


@pytest.mark.parametrize(("term", "drawable"), [("xterm", True), ("dumb", False), (None, False)])
def test_which_terminal_can_erase(term: str | None, drawable: bool) -> None:
    with fake_terminal(term):
        assert is_drawable() == drawable
        with contextlib.redirect_stderr(io.StringIO()):
            assert not is_drawable()
        with contextlib.redirect_stderr(None):
            assert not is_drawable()


def test_speed_and_time_to_go() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    pace.add(state(0, 400))
    assert (pace.speed, pace.left) == (0, None)
    for second in range(1, 31):
        now = float(second)
        done = second * 2 if second <= 10 else second * 4 - 20  # twice as fast after 10 s
        pace.add(state(done, 400))
    assert pace.speed == 4 * MB
    assert pace.left == (400 - 100) / 4
    assert pace.seconds == 30
    pace.add(state(100, 400, final=False))
    assert pace.left is None


# --- the real thing --------------------------------------------------------------------------------------


def test_a_sending_on_a_terminal(tmp_path: Path) -> None:
    made(tmp_path / "in", 3)
    gates = [threading.Event() for _ in range(3)]

    def script(peer: Scripted) -> None:
        peer.accept()
        for status, gate in zip((0xB000, 0xA700, 0), gates, strict=True):
            answer(peer, status, gate=gate)
        peer.release()

    with (
        listening(script) as port,
        on_terminal("storescu", "--no-tls", f"127.0.0.1:{port}", "in", "--color", "never") as tty,
    ):
        at = tty.wait_for(" 0/3 files")
        gates[0].set()
        at = tty.wait_for(" 1/3 files", tty.wait_for("coercion", at))
        gates[1].set()
        tty.wait_for(" 2/3 files", tty.wait_for("hint:", at))
        gates[2].set()
        assert tty.end() == 31
        assert tty.is_as_before
    shown = "\n".join(tty.screen())
    assert "━" not in shown
    told = shown.replace("\n", "")
    assert told.startswith("warning: `in/1.dcm`: stored, with 0xB000 ")
    assert "error: the peer did not store `in/2.dcm`: 0xA700 " in told
    assert shown.splitlines()[-2].startswith("3 files, ")
    assert shown.splitlines()[-1] == f"127.0.0.1:{port}: 1 stored, 1 with a warning, 1 failed"


def test_ctrl_c_leaves_a_clean_terminal(tmp_path: Path) -> None:
    made(tmp_path / "in", 300)
    first, second = threading.Event(), threading.Event()

    def script(peer: Scripted) -> None:
        peer.accept()
        with contextlib.suppress(
            OSError, AssertionError
        ):  # how much the sender still does is not of interest here
            answer(peer, 0, gate=first)
            answer(peer, 0, gate=second)
            peer.release()

    with listening(script) as port, on_terminal("storescu", "--no-tls", f"127.0.0.1:{port}", "in") as tty:
        tty.wait_for(" 0/257+ files")
        first.set()
        tty.wait_for(" 1/25")
        tty.type("\x03")
        second.set()
        assert tty.end() == 130
        assert tty.is_as_before
    assert "^C" in tty.text
    shown = "\n".join(tty.screen())
    assert "━" not in shown
    assert "^C" not in shown


def test_a_kill_leaves_a_cursor(tmp_path: Path) -> None:
    made(tmp_path / "in", 1)

    def script(peer: Scripted) -> None:
        peer.accept()
        peer.expect_message()
        tty.wait_for(" 0/1 files")
        tty.kill()

    with listening(script) as port, on_terminal("storescu", "--no-tls", f"127.0.0.1:{port}", "in") as tty:
        tty.end()
    assert "\x1b[?25" not in tty.text
