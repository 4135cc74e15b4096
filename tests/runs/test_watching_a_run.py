"""What a run on a real Ray tells of itself: failures, workers, JSON lines, the summary."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta

import pytest
from standin import Behaviour, opener

from mfsynth.cli import main
from mfsynth.runs.driver import generate
from mfsynth.runs.events import Outcome, WorkerState
from mfsynth.runs.protocol import FailureCause
from mfsynth.runs.watching.jsonlog import JsonFormatter, JsonLog, json_lines, log_end


class Snapshots:
    """An observer that remembers how things stood."""

    def __init__(self):
        self.snapshots = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def tell(self, notice):
        pass

    def show(self, snapshot):
        self.snapshots.append(snapshot)


@pytest.fixture
def joined(run_folder, cluster):
    """A run whose driver joins the cluster of the tests."""
    run_folder.values["runtime"]["ray_address"] = cluster
    return run_folder


def drive(config, display, **behaviour):
    return generate(config, open_worker=opener(Behaviour(**behaviour)), display=display)


def test_failures_are_counted_by_cause(joined):
    # A second worker would make the shard of one that hangs before it is overdue.
    runtime = {**joined.values["runtime"], "deadline_s": 20.0, "workers": 1}
    result = drive(
        joined.config(runtime=runtime),
        Snapshots(),
        crash_once=[2],
        hang_once=[13],
        memory=2,
        scratch=str(joined.folder),
    )
    assert result.outcome is Outcome.FINISHED
    assert {*result.failures} == {
        FailureCause.WORKER_DIED,
        FailureCause.DEADLINE,
        FailureCause.OUT_OF_MEMORY,
    }
    assert "worker died 1" in result.lines()[-1]
    assert "deadline" in result.lines()[-1]


def test_a_store_without_room_is_a_failure_of_the_store(joined):
    runtime = {**joined.values["runtime"], "max_attempts": 2, "patience": "1s"}
    result = drive(joined.config(runtime=runtime), Snapshots(), full_disk=True)
    assert {*result.failures} == {FailureCause.STORE}
    assert result.exit_status == 1


def test_what_every_worker_does_can_be_seen(joined):
    observer = Snapshots()
    drive(joined.config(), observer, seconds=0.3)
    seen = [worker for snapshot in observer.snapshots for worker in snapshot.view.workers]
    assert {WorkerState.STARTING, WorkerState.MAKING} <= {worker.state for worker in seen}
    assert {worker.worker for worker in seen} == {0, 1}
    for worker in seen:
        assert worker.seconds >= 0
        assert (worker.shard is None) == (worker.state in ("starting", "idle"))
        assert 0 <= worker.made <= 8


def test_the_summary_at_the_end_is_the_status_of_the_storage_over_all_sessions(joined, capsys):
    first = drive(joined.config(target={"pairs": 5}), Snapshots())
    second = drive(joined.config(), Snapshots())
    assert (first.unit, second.gained) == (
        "pairs",
        len(joined.expected_ids()) - first.gained,
    )
    with pytest.raises(SystemExit):
        main(["status", str(joined.output)])
    shown = capsys.readouterr().out.splitlines()
    assert second.lines()[:-1] == shown[: len(second.lines()) - 1]
    assert f"pairs        {len(joined.expected_ids())}" in shown[1]
    assert second.lines()[-1].startswith(f"this time    {second.gained} pairs in ")


def test_a_run_that_was_made_is_a_measurement_to_plan_from(joined, capsys):
    result = drive(joined.config(), Snapshots())
    with pytest.raises(SystemExit):
        main(["plan", str(joined.file()), "--pairs", "1000", "--json"])
    found = json.loads(capsys.readouterr().out)
    there = len(joined.expected_ids())
    assert found["there"] == found["measured"]["gained"] == there
    assert found["measured"]["acceptance"]["value"] == pytest.approx(result.totals.acceptance)
    assert found["measured"]["seconds"]["value"] == pytest.approx(result.totals.seconds / there)
    assert (
        8 * (found["shards"] - 1) < (1000 - there) / result.totals.acceptance < found["candidates"]
    )


def test_a_run_in_json_lines(joined, capfd):
    with json_lines():
        result = drive(
            joined.config(), JsonLog(), crash_once=[2], scratch=str(joined.folder), memory=2
        )
        log_end(result)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    events = [line["event"] for line in lines]
    assert events[0] == "starting"
    assert events[-1] == "ended"
    assert {"progress", "failure", "shard_committed"} <= {*events}
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta()
        assert line["level"] in ("info", "warning", "error")
        assert isinstance(line["message"], str)
    committed = [line for line in lines if line["event"] == "shard_committed"]
    assert sum(line["pairs"] for line in committed) == len(joined.expected_ids())
    assert len({line["shard"] for line in committed}) == len(committed)
    assert {line["cause"] for line in lines if line["event"] == "failure"} == {
        "worker_died",
        "out_of_memory",
    }
    end = lines[-1]
    assert (end["outcome"], end["status"]["pairs"]) == ("finished", len(joined.expected_ids()))


def test_logs_and_warnings_of_libraries_are_json_lines_too(capsys):
    import warnings

    with json_lines():
        logging.getLogger("some.library").warning("something odd")
        warnings.warn("something old", stacklevel=1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["some.library", "py.warnings"]


def test_a_json_line_shows_no_credentials():
    url = "s3://key:secret@bucket/run?token=secret"
    record = logging.LogRecord("mfsynth.run", logging.INFO, "", 0, f"writing {url}", None, None)
    record.fields = {"url": url}
    assert "secret" not in JsonFormatter().format(record)


def test_an_error_before_the_start_is_a_json_line_without_credentials(run_folder, capfd):
    prompts = "prompts.file=https://user:secret@127.0.0.1:9/prompts.txt"
    with pytest.raises(SystemExit) as stop:
        main(["generate", str(run_folder.file()), "--log", "json", "--set", prompts])
    assert stop.value.code == 1
    shown = capfd.readouterr()
    (line,) = map(json.loads, shown.err.splitlines())
    assert (line["event"], line["level"], shown.out) == ("error", "error", "")
    assert "secret" not in shown.err
