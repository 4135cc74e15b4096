"""What a person sees, on a terminal and in a log file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from run_snapshots import receipt, snapshot

from mfsynth.runs.events import WorkerState, WorkerView
from mfsynth.runs.protocol import FailureCause
from mfsynth.runs.watching.notices import Announcement, Committed, FailureNotice
from mfsynth.runs.watching.terminal import FAILURE_LINES, PlainDisplay, RichDisplay, rendering


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def drawn(snapshot) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    console.print(rendering(snapshot))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def lines_at(clock, capsys, commits) -> list[float]:
    """When a plain display writes that is asked twice a second, with commits at those times."""
    shown = []
    with PlainDisplay(clock) as display:
        for half in range(2 * 60):
            clock.now = half / 2
            for _ in range(commits.count(clock.now)):
                display.tell(Committed(receipt(0)))
            display.show(snapshot(target=9))
            shown += [clock.now] * len(capsys.readouterr().err.splitlines())
    return shown


def test_plain_lines_come_soon_after_commits_and_when_it_was_quiet_for_long(capsys, clock):
    assert lines_at(clock, capsys, [20.0]) == [0.0, 15.0, 20.0, 35.0, 50.0]


def test_a_thousand_workers_do_not_flood_a_log_file(capsys, clock):
    commits = [half / 2 for half in range(120)] * 5
    assert lines_at(clock, capsys, commits) == [3.0 * n for n in range(20)]


def test_announcements_and_failures_are_lines_of_their_own(capsys, clock):
    display = PlainDisplay(clock)
    display.tell(Announcement("draining", "finishing the shards in work"))
    display.tell(FailureNotice(FailureCause.WORKER_DIED, "worker 3: its worker died", 3))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["finishing the shards in work", "worker 3: its worker died"]


def test_a_thousand_failures_of_one_cause_are_a_few_lines_a_minute(capsys, clock):
    display = PlainDisplay(clock)
    for minute in range(3):
        clock.now = 60.0 * minute
        for worker in range(1000):
            display.tell(FailureNotice(FailureCause.STORE, f"worker {worker}: no answer", worker))
    display.tell(FailureNotice(FailureCause.DEADLINE, "worker 7: silent", 7))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 * FAILURE_LINES + 1
    assert lines[-1] == "worker 7: silent"


def test_a_few_workers_are_shown_one_by_one():
    workers = [
        WorkerView(0, WorkerState.MAKING, 34.0, 12, 3),
        WorkerView(2, WorkerState.WRITING, 100.0, 11, 8),
        WorkerView(5, WorkerState.STARTING, 7.0),
    ]
    failures = {FailureCause.NODE_LOST: 1}
    shards = [receipt(0, registration=2)]
    lines = drawn(snapshot(shards, target=12, workers=workers, failures=failures))
    assert lines[0].endswith(" 50%")
    assert lines[1] == "6/12 pairs, 1 shard, 75% accepted"
    assert lines[2:4] == ["2 rejected (registration 2)", "1 failure (node lost 1)"]
    assert [line.split() for line in lines[5:]] == [
        ["0", "making", "12", "3", "of", "8", "34", "s"],
        ["2", "writing", "11", "8", "of", "8", "2", "min"],
        ["5", "starting", "7", "s"],
    ]


def test_a_thousand_workers_fit_on_a_terminal_and_those_that_take_longest_are_seen():
    workers = [WorkerView(n, WorkerState.MAKING, float(n), n, 1) for n in range(990)]
    workers += [WorkerView(n, WorkerState.STARTING, 5000.0) for n in range(990, 1000)]
    lines = drawn(snapshot(target=9, workers=workers))
    assert len(lines) < 10
    assert "1000 workers: 10 starting, 990 making" in lines
    assert [line.split()[0] for line in lines[-3:]] == ["989", "988", "987"]


def test_the_bar_has_a_line_of_its_own_and_nothing_is_cut_at_eighty_columns():
    console = Console(file=io.StringIO(), width=80)
    console.print(rendering(snapshot([receipt(0)], target=9, made=80, seconds=100.0)))
    assert "6/9 pairs, 1 shard, 75% accepted, 0.80 candidates/s, about 10 s left" in (
        line.rstrip() for line in console.file.getvalue().splitlines()
    )


def test_the_terminal_display_takes_text_as_text():
    console = Console(file=io.StringIO(), width=80)
    with RichDisplay(console) as display:
        display.tell(Announcement("resuming", "[red]not markup[/red]"))
        display.show(snapshot([receipt(0)], target=9))
    assert "[red]not markup[/red]" in console.file.getvalue()
