"""Displays that fail, hang or are slow, beside a run that goes on; and when a run stands still."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from run_snapshots import snapshot
from standin import Behaviour, as_arguments
from test_driver import assert_sound
from test_kills import Process, commits

from mfsynth.runs.events import View, Wait, WaitCause, WorkerState, WorkerView
from mfsynth.runs.watching.aside import Aside
from mfsynth.runs.watching.notices import Announcement
from mfsynth.runs.watching.stalls import STALLED_AFTER_S, StallWatch
from mfsynth.runs.watching.terminal import default_display


class Remembers:
    """An observer that notes what it is told, and fails as it is told to."""

    def __init__(self, error: Exception | None = None, hold: threading.Event | None = None) -> None:
        self.error, self.hold = error, hold
        self.told: list[str] = []
        self.shown = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.told.append("end")

    def tell(self, notice):
        if self.hold is not None:
            self.hold.wait(60)
        if self.error is not None:
            raise self.error
        self.told.append(notice.text)

    def show(self, snapshot):
        self.shown += 1


def notice(text: str) -> Announcement:
    return Announcement("something", text)


def test_all_is_told_in_order_and_to_the_end():
    inner = Remembers()
    with Aside(inner) as aside:
        for number in range(100):
            aside.tell(notice(str(number)))
            aside.show(snapshot(target=1))
    assert inner.told == [*map(str, range(100)), "end"]
    assert 1 <= inner.shown <= 100


@pytest.mark.parametrize(
    ("error", "is_for_good"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (ValueError("I/O operation on closed file."), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_an_observer_that_fails_is_switched_off_or_tried_again(error, is_for_good):
    inner, gave_up = Remembers(error), []
    with Aside(inner, lambda: gave_up.append(1)) as aside:
        aside.tell(notice("a"))
        while not gave_up and is_for_good:
            time.sleep(0.01)
        aside.tell(notice("b"))
    assert gave_up == [1] * is_for_good
    assert inner.told == ["end"]
    assert aside._works is not is_for_good


def test_an_observer_that_hangs_holds_nobody_up_for_long_and_costs_no_memory():
    hold = threading.Event()
    inner = Remembers(hold=hold)
    began = time.monotonic()
    with Aside(inner, end_s=0.1) as aside:
        for number in range(5000):
            aside.tell(notice(str(number)))
    assert time.monotonic() - began < 20
    hold.set()
    aside._thread.join(60)
    assert len(inner.told) <= 2002
    assert inner.told[-2:] == ["4999", "end"]


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, closed()])
def test_a_process_without_standard_error_has_a_display_that_shows_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    with default_display() as display:
        display.tell(notice("nobody reads it"))


# --- real pipes and terminals ----------------------------------------------------------------


@pytest.fixture
def joined(run_folder, cluster):
    run_folder.values["runtime"]["ray_address"] = cluster
    return run_folder


def read_a_line_and_leave(folder, command) -> int:
    reader, writer = os.pipe()
    process = subprocess.Popen(command, stdout=writer, stderr=writer, start_new_session=True)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return process.wait(240)


def write_to_a_full_device(folder, command) -> int:
    with Path("/dev/full").open("w") as full:
        return subprocess.run(command, stdout=full, stderr=full, timeout=240).returncode


def close_the_streams(folder, command) -> int:
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    return subprocess.run(shell, timeout=240).returncode


MAIN = "import standin, sys; from mfsynth.cli import main; standin.as_command(); main()"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("look", "log"),
    [
        (read_a_line_and_leave, "text"),
        (read_a_line_and_leave, "json"),
        (write_to_a_full_device, "text"),
        (close_the_streams, "text"),
    ],
)
def test_a_run_whose_output_nobody_can_read_is_finished_all_the_same(joined, look, log):
    command = [sys.executable, "-c", MAIN, "generate", str(joined.file()), "--log", log]
    assert look(joined.folder, command) == 0
    assert_sound(joined)


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_drains_and_leaves_no_process(run_folder):
    import pty

    run_folder.values["target"] = {"pairs": 400}
    arguments = as_arguments(run_folder.file(), Behaviour(seconds=0.1))
    log = run_folder.folder / "log.txt"
    # Of a process that has the terminal: only a session without one can take it.
    main, second = pty.openpty()
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    start = [sys.executable, "-c", f"{take}; os.execv(sys.argv[1], sys.argv[1:])", *arguments]
    process = Process(start, log, stdin=second, stderr=second)
    os.close(second)
    threading.Thread(target=drain, args=(main,), daemon=True).start()
    process.wait_for(lambda: commits(run_folder) >= 2)
    closing.set()
    process.wait_for(lambda: False)
    assert process.end() == 128 + 1
    assert "drained stopped on request" in log.read_text()
    deadline = time.monotonic() + 60
    while (strays := process.strays()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not strays


closing = threading.Event()


def drain(terminal: int) -> None:
    """What a terminal does: read, until it is closed."""
    while not closing.is_set():
        os.read(terminal, 1 << 16)
    os.close(terminal)


# --- standing still --------------------------------------------------------------------------

WAIT = Wait(WaitCause.STORE, "disk full", 200.0, 1000.0)
MAKING = WorkerView(0, WorkerState.MAKING, 1.0, 3, 1)
WRITING = WorkerView(0, WorkerState.WRITING, 1.0, 3, 8)


def test_a_run_is_stalled_when_it_waits_and_nobody_makes_anything_for_long_enough():
    watch = StallWatch()
    stuck = View(0, (WRITING,), (WAIT,))
    assert watch.look(stuck, 0.0) is None
    assert watch.look(View(1, (MAKING,), (WAIT,)), 100.0) is None
    assert watch.look(stuck, 110.0) is None
    assert watch.look(stuck, 110.0 + STALLED_AFTER_S - 1) is None
    stalled = watch.look(stuck, 110.0 + STALLED_AFTER_S)
    assert stalled.event == "stalled"
    assert stalled.text == (
        "stalled: waiting 3 min for the store (for 17 min yet: runtime.patience): disk full"
    )
    assert dict(stalled.fields) == {"cause": "store", "seconds": 200.0}
    assert watch.look(stuck, 9999.0) is None
    assert watch.look(View(0, (WRITING,)), 10_000.0).event == "going_on"
    assert watch.look(View(0, (WRITING,)), 10_001.0) is None


def test_what_is_waited_for_is_on_the_screen():
    line = snapshot(target=9, waits=[WAIT]).line()
    assert line.startswith("waiting 3 min for the store (for 17 min yet: runtime.patience): disk")
