"""What a run on a real Ray tells its people, and leaves beside its data."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

import pytest
from started import start
from test_driver import Lines, drive

from mfsynth.cli import main
from mfsynth.formatting import counts
from mfsynth.runs import heartbeat
from mfsynth.runs.events import Outcome
from mfsynth.runs.protocol import FailureCause
from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.drivers import beat
from mfsynth.shards.layout import LOGS_FOLDER
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def joined(run_folder, cluster):
    """A run whose driver joins the cluster of the tests."""
    run_folder.values["runtime"]["ray_address"] = cluster
    return run_folder


def log_of(run_folder) -> str:
    [path] = (run_folder.output / LOGS_FOLDER).iterdir()
    return path.read_text()


def test_what_failed_is_in_receipts_status_and_log_with_the_worker_s_own_log(joined, capsys):
    lines = Lines()
    runtime = {**joined.values["runtime"], "workers": 1}
    config = joined.config(runtime=runtime, target={"candidates": 16})
    behaviour = {"crash_once": [2], "memory": 2, "scratch": str(joined.folder)}
    result = drive(config, lines, **behaviour)
    assert result.outcome is Outcome.FINISHED
    first, second = read_commits(ObjectStore.open(config.output)).values()
    assert first.retries is not None
    assert first.retries["worker_died"] == 1
    assert second.retries is not None
    assert sum(second.retries.values()) == result.totals.retries.total() - sum(
        first.retries.values()
    )
    [death] = [note for note in lines.notes if "its worker died" in note]
    assert len(logs_named(death)) == 1
    with pytest.raises(SystemExit):
        main(["status", str(joined.output)])
    assert "worker died 1" in re.search(r"done again +(.*)", capsys.readouterr().out)[1]
    text = log_of(joined)
    assert result.log.endswith(next((joined.output / LOGS_FOLDER).iterdir()).name)
    assert f" worker died: {death}\n" in text
    assert f"after failures ({counts(first.retries)})" in text
    assert text.splitlines()[-1].endswith(result.lines()[-1])


def logs_named(note):
    """The logs that a note names; Ray moves those of dead processes once it has many."""
    pattern = Path(re.search(r"\(its log: \S+:(/\S+)\)", note)[1])
    return [*pattern.parent.rglob(pattern.name)]


def test_an_exception_in_a_worker_names_its_log_which_has_the_traceback(joined):
    lines = Lines()
    runtime = {**joined.values["runtime"], "workers": 1, "max_attempts": 1}
    config = joined.config(runtime=runtime, target={"candidates": 8})
    drive(config, lines, raises=[2])
    [note, *_] = [note for note in lines.notes if "candidate 2 is impossible" in note]
    [log] = logs_named(note)
    assert "ValueError: candidate 2 is impossible" in log.read_text()
    assert "Traceback" in log.read_text()
    [receipt] = read_commits(ObjectStore.open(config.output)).values()
    assert {*receipt.retries} == {FailureCause.ERROR}


def test_a_worker_that_dies_before_it_has_said_anything_has_a_log_all_the_same(joined):
    lines = Lines()
    drive(joined.config(), lines, start="crash")
    death = next(note for note in lines.notes if "its worker died" in note)
    assert logs_named(death)


def test_prompts_that_are_allowed_though_the_model_does_not_know_them_are_told(joined):
    """The tiny model knows the words of one sentence; this one can't even be started."""
    words = " ".join(["griddle"] * 20)
    (joined.folder / "prompts.txt").write_text(f"a red cube\na {words}\na saucepan\n")
    lines = Lines()
    allowed = {**joined.values["prompts"], "allow_unknown": True}
    result = drive(joined.config(prompts=allowed), lines, start="error")
    assert result.outcome is Outcome.FAILED
    assert lines.notes[1] == (
        "warning: 2 of 3 prompts have words that the model doesn't know (griddle 20, "
        "saucepan 1); 1 is longer than the 12 tokens that it reads: what is not read won't "
        "be seen; take prompts for this model (`mfsynth prompts preview` tells of a library), or "
        "another model"
    )
    assert "no such weights; give a model folder" in lines.notes[2]
    log = log_of(joined)
    assert lines.notes[1] in log
    assert "no worker could start" in log


def test_a_second_driver_on_a_run_is_told_of(joined, monkeypatch):
    monkeypatch.setattr(heartbeat, "_FIRST_COMMIT_S", 0.02)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.05)
    config = joined.config(target={"candidates": 8})
    store, lines, over = start(config), Lines(), threading.Event()
    other = layout.new_heartbeat()

    def beat_on():
        while not over.wait(0.1):
            beat(store, other)

    thread = threading.Thread(target=beat_on)
    thread.start()
    try:
        drive(config, lines, seconds=1.0)
    finally:
        over.set()
        thread.join()
    assert [note for note in lines.notes if note.startswith("another driver")] == [
        f"another driver is at work on this run, on {socket.gethostname()}: of a shard that both "
        "make, the first commit counts"
    ]


def test_fewer_pairs_than_there_are_is_no_work_and_said(joined, capsys):
    drive(joined.config())
    there = len(joined.expected_ids())
    with pytest.raises(SystemExit) as stop:
        main(["generate", str(joined.file()), "--pairs", "3"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert (
        f"target       3 pairs, and {there} were there before: nothing is made, and nothing removed"
        in shown.splitlines()
    )
