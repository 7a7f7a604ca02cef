"""Waiting for a network: what counts as movement, what a person sees meanwhile."""

from __future__ import annotations

import io
import subprocess
import sys
import time

import pytest
from rich.console import Console

from trine.errors import NotReady
from trine_devnet import reporting, waiting
from trine_devnet.processes import Child, start
from trine_devnet.reporting import Report, TerminalReport, report_to
from trine_devnet.waiting import HIDDEN_SECONDS, STALL_SECONDS, Movement, stop_all, wait_until

BUSY = "while True: pass"
IDLE = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep({seconds})"
)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def child(tmp_path):
    """Starts `python -c` code."""
    started = []

    def begin(code):
        started.append(start("child", [sys.executable, "-c", code], tmp_path / "child.log", cwd=tmp_path))
        return started[-1]

    yield begin
    for each in started:
        each.kill()


def test_nothing_moves_when_nothing_changes_and_nobody_computes(child):
    clock = Clock()
    movement = Movement([child(IDLE)], clock)
    movement.note("calibrating")
    clock.now = STALL_SECONDS - 1
    movement.note("calibrating")
    assert movement.stalled_seconds is None
    clock.now = STALL_SECONDS + 1
    movement.note("calibrating")
    assert movement.stalled_seconds == pytest.approx(STALL_SECONDS + 1)


def test_every_change_is_movement_however_long_it_takes_in_all(child):
    clock = Clock()
    movement = Movement([child(IDLE)], clock)
    for step in range(50):
        clock.now += STALL_SECONDS - 1
        movement.note(f"{step} of 50")
        assert movement.stalled_seconds is None


def test_a_process_that_computes_is_slow_not_broken_until_it_runs_in_a_circle(child):
    clock = Clock()
    busy = child(BUSY)
    movement = Movement([busy], clock)
    movement.note("loading")
    _let_compute(busy, waiting.IDLE_SHARE * STALL_SECONDS + 0.2)
    clock.now = STALL_SECONDS + 1
    movement.note("loading")
    assert movement.stalled_seconds is None
    _let_compute(busy, 2 * (waiting.IDLE_SHARE * STALL_SECONDS + 0.2))
    clock.now = HIDDEN_SECONDS + 1
    movement.note("loading")
    assert movement.stalled_seconds == pytest.approx(HIDDEN_SECONDS + 1)


def test_a_wait_ends_with_what_it_waited_for_and_the_log(child, monkeypatch):
    monkeypatch.setattr(waiting, "STALL_SECONDS", 0.3)
    sleeper = child(IDLE)
    with pytest.raises(NotReady, match=r"nothing has moved for .* waiting for spring \(a: frozen\); see .*child\.log"):
        wait_until(lambda: False, "spring", [sleeper], Report(lambda line: None), lambda: {"a": "frozen"})


def test_a_wait_ends_when_a_process_does_with_its_last_words(child):
    dying = child("print('no disk left')")
    with pytest.raises(NotReady, match=r"child ended while waiting for spring; .*\nno disk left"):
        wait_until(lambda: False, "spring", [dying], Report(lambda line: None))


def test_the_end_of_a_log_is_read_and_a_log_that_is_not_there_yet_is_empty(child, tmp_path):
    quiet = child(IDLE)
    quiet.log.unlink()
    assert quiet.tail() == ""
    quiet.log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert quiet.tail(2) == "line 99998\nline 99999"


def test_a_log_gets_a_line_for_many_changes_and_one_when_it_was_silent(monkeypatch):
    lines = []
    report = Report(lines.append)
    report.progress("operators", {"a": "starting", "b": "starting"})
    assert lines == []  # not yet: something is said every few seconds
    monkeypatch.setattr(reporting, "CHANGES_SECONDS", -1.0)
    report.progress("operators", {"a": "starting", "b": "starting"})
    report.progress("operators", {"a": "starting", "b": "starting"})
    report.progress("operators", {"a": "ready", "b": "starting"})
    assert [line.partition("s  ")[2] for line in lines] == [
        "waiting for operators: a, b: starting",
        "waiting for operators: a: ready; b: starting",
    ]
    monkeypatch.setattr(reporting, "SILENCE_SECONDS", -1.0)
    report.progress("operators", {"a": "ready", "b": "starting"})
    assert len(lines) == 3


@pytest.mark.parametrize("width", [40, 160])
def test_on_a_terminal_the_table_fits_and_disappears(width):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    with report_to(console) as report:
        assert isinstance(report, TerminalReport)
        report.progress("operators", {"verifier-1": "calibrating: " + "0 of 3 votes committed, " * 9, "b": "[red]"})
        drawn = screen.getvalue()
        report.say("ready: verifier-1")
    assert "verifier-1" in drawn
    assert "[red]" in drawn  # what an operator says is no markup
    assert all(len(line) <= width for line in _visible(drawn).splitlines())
    assert screen.getvalue().count("ready: verifier-1") == 1
    assert screen.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in screen.getvalue()  # the cursor is back


def test_into_a_pipe_go_plain_lines():
    code = (
        "from rich.console import Console; from trine_devnet.reporting import report_to\n"
        "with report_to(Console()) as report: report.say('the chain is up')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.endswith("s  the chain is up\n")
    assert "\x1b" not in shown


def _let_compute(process: Child, seconds: float) -> None:
    import psutil

    def used():
        return sum(psutil.Process(process.pid).cpu_times()[:2])

    deadline, wanted = time.monotonic() + 300, used() + seconds
    while used() < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _visible(drawn: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)


class Impatient(Report):
    """Somebody who sees who still stops, and presses Ctrl-C again."""

    def __init__(self, *, patience):
        self.lines, self.seen, self._patience = [], [], patience
        super().__init__(self.lines.append)

    def progress(self, what, rows):
        super().progress(what, rows)
        self.seen.append((what, sorted(rows)))
        self._patience -= 1
        if self._patience == 0:
            raise KeyboardInterrupt


def test_who_still_stops_is_said(tmp_path, child):
    quick, slow = child(IDLE), child(STUBBORN.format(seconds=3))
    slow.name = "slow"
    wait_until(lambda: "up" in slow.tail(), "it to be up", [slow], Report(print))
    report = Impatient(patience=10**9)
    stop_all([quick, slow], report)
    assert not quick.running
    assert not slow.running
    assert ("operators to stop", ["slow"]) in report.seen


def test_a_second_ctrl_c_ends_what_does_not_want_to(child):
    stubborn = child(STUBBORN.format(seconds=600))
    wait_until(lambda: "up" in stubborn.tail(), "it to be up", [stubborn], Report(print))
    report = Impatient(patience=1)
    stop_all([stubborn], report)
    assert not stubborn.running
    assert "killed" in report.lines[-1]
