"""The driver on a real Ray, with the stand-in model."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta

import pytest
from standin import Behaviour, opener

from mfsynth.config import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs import driver
from mfsynth.runs.driver import generate
from mfsynth.runs.events import Outcome
from mfsynth.runs.result import RunResult
from mfsynth.runs.signals import ONE_REQUEST_S
from mfsynth.runs.watching.notices import Committed
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.drivers import Counted, counted_shards
from mfsynth.shards.gc import collect
from mfsynth.shards.layout import PROGRESS_KEY
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore


class Lines:
    """A display that remembers."""

    def __init__(self):
        self.notes, self.snapshots = [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def tell(self, notice):
        if not isinstance(notice, Committed):
            self.notes.append(notice.text)

    def show(self, snapshot):
        self.snapshots.append(snapshot.line())


@pytest.fixture
def joined(run_folder, cluster):
    """A run whose driver joins the cluster of the tests."""
    run_folder.values["runtime"]["ray_address"] = cluster
    return run_folder


def drive(config: RunConfig, display=None, **behaviour) -> RunResult:
    display = display or Lines()
    return generate(config, open_worker=opener(Behaviour(**behaviour)), display=display)


def sample_ids(url) -> list[str]:
    """All ids that a reader of the index of committed shards sees, in order of shards."""
    import pyarrow.parquet as pq

    receipts = read_commits(ObjectStore.open(str(url))).values()
    tables = [pq.read_table(f"{url}/{receipt.objects['index'].key}") for receipt in receipts]
    return [value for table in tables for value in table["sample_id"].to_pylist()]


def assert_sound(run_folder, **expected):
    assert sample_ids(run_folder.output) == run_folder.expected_ids(**expected)
    assert not verify_run(ObjectStore.open(str(run_folder.output)), deep=True).problems


def test_a_run_reaches_its_target_with_the_shortest_prefix_of_shards(run_folder):
    display = Lines()
    result = drive(run_folder.config(), display)
    assert (result.outcome, result.reason) == (Outcome.FINISHED, "")
    assert result.totals.accepted == len(run_folder.expected_ids())
    assert_sound(run_folder)
    assert "index/*.parquet" in (run_folder.output / "README.md").read_text()
    assert any("pairs" in line and "rejected (dynamic_range" in line for line in display.snapshots)
    # Finished is finished: the same command again starts nothing, not even Ray.
    assert drive(run_folder.config(), start="crash").outcome is Outcome.FINISHED
    # A larger target goes on from there.
    run_folder.values["target"] = {"pairs": 30}
    display = Lines()
    assert drive(run_folder.config(), display).outcome is Outcome.FINISHED
    assert display.notes[0].startswith(f"resuming {run_folder.output}: ")
    assert_sound(run_folder)


def test_a_check_that_has_nothing_to_compare_is_told_at_the_start(joined):
    display = Lines()
    joined.values["checks"] = {"validity": {}, "self_agreement": {}}
    config = joined.config()
    assert drive(config, display).outcome is Outcome.FINISHED
    assert display.notes[1] == (
        "checks.self_agreement abstains: the sampler makes depth of the finished image, so there "
        "is no other to compare"
    )
    assert "abstains" in read_run(ObjectStore.open(config.output)).score("self_agreement").note
    assert_sound(joined)


def test_commits_do_not_wait_for_each_other(joined, monkeypatch):
    from mfsynth.runs import committing

    both = threading.Barrier(2, timeout=60)

    def commit_when_another_does(store, receipt):
        both.wait()
        return commit(store, receipt)

    monkeypatch.setattr(committing, "commit", commit_when_another_does)
    joined.values["target"] = {"candidates": 32}  # four shards: two pairs of commits
    assert drive(joined.config()).outcome is Outcome.FINISHED
    assert len(read_commits(ObjectStore.open(str(joined.output)))) == 4


def test_a_session_that_stops_at_once_counts_what_was_just_being_committed(joined, monkeypatch):
    from mfsynth.runs import committing

    began, stopped = threading.Event(), threading.Event()

    def commit_late(store, receipt):
        began.set()
        assert stopped.wait(60)
        time.sleep(2 * driver.POLL_S)  # the driver has seen the second signal by then
        return commit(store, receipt)

    def stop_twice():
        began.wait(60)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(2 * ONE_REQUEST_S)
        os.kill(os.getpid(), signal.SIGINT)
        stopped.set()

    monkeypatch.setattr(committing, "commit", commit_late)
    stopper = threading.Thread(target=stop_twice)
    stopper.start()
    # The other shards are not through before the second signal.
    result = drive(joined.config(), wait_from=8, scratch=str(joined.folder))
    stopper.join()
    store = ObjectStore.open(str(joined.output))
    assert (result.outcome, result.reason) == (Outcome.DRAINED, "stopped at once")
    assert [*read_commits(store)] == [0]
    assert (result.totals.shards, result.status.shards) == (1, 1)
    assert result.gained == len(joined.ids_of(0))
    assert counted_shards(store) == Counted(1, PROGRESS_KEY)


class CollectsGarbage(Lines):
    """A display that calls gc, as eager as it can be, whenever a shard is committed."""

    def __init__(self, store):
        super().__init__()
        self.store, self.refusals, self.counted = store, 0, []

    def tell(self, notice):
        super().tell(notice)
        if isinstance(notice, Committed):
            with pytest.raises(MfsynthError, match="a driver is at work"):
                collect(self.store, timedelta(), delay=timedelta())
            self.refusals += 1


def test_gc_beside_a_run_removes_nothing_and_after_it_the_rest(joined):
    store = ObjectStore.open(str(joined.output))
    display = CollectsGarbage(store)
    result = drive(joined.config(), display, crash_once=[2], scratch=str(joined.folder))
    assert result.outcome is Outcome.FINISHED
    assert display.refusals == result.totals.shards
    assert counted_shards(store) == Counted(result.totals.shards, PROGRESS_KEY)
    for _ in range(2):
        collect(store, timedelta(), delay=timedelta())
    assert_sound(joined)


def test_a_worker_killed_in_the_middle_of_a_shard_is_replaced(joined):
    display = Lines()
    result = drive(joined.config(), display, crash_once=[2, 13], scratch=str(joined.folder))
    assert result.outcome is Outcome.FINISHED
    assert result.totals.quarantined == 0
    assert len([note for note in display.notes if "its worker died" in note]) == 2
    assert_sound(joined)


def test_a_worker_that_hangs_is_killed_and_replaced(joined):
    runtime = {**joined.values["runtime"], "deadline_s": 20.0}
    result = drive(joined.config(runtime=runtime), hang_once=[5], scratch=str(joined.folder))
    assert result.outcome is Outcome.FINISHED
    assert_sound(joined)


def test_only_the_candidate_that_always_kills_its_worker_is_quarantined(joined):
    runtime = {**joined.values["runtime"], "max_attempts": 1}
    result = drive(joined.config(runtime=runtime), crash=[5])
    assert result.outcome is Outcome.FINISHED
    assert result.totals.quarantined == 1
    assert_sound(joined, without=(5,))


def test_too_little_memory_halves_the_batch(joined):
    display = Lines()
    result = drive(joined.config(), display, memory=1)
    assert result.outcome is Outcome.FINISHED
    assert any("out of memory" in note for note in display.notes)
    assert_sound(joined)


@pytest.mark.parametrize(
    ("start", "cause"),
    [
        ("error", "no worker could start: model.id: no such weights; give a model folder"),
        ("raise", "no worker could start: ValueError: weights are of the wrong shape"),
    ],
)
def test_when_no_worker_can_start_the_run_ends_with_the_cause(joined, start, cause):
    result = drive(joined.config(), start=start)
    assert (result.outcome, result.reason) == (Outcome.FAILED, cause)


def test_when_every_worker_dies_at_birth_the_run_ends(joined):
    runtime = {**joined.values["runtime"], "max_attempts": 2}
    result = drive(joined.config(runtime=runtime), start="crash")
    assert result.outcome is Outcome.FAILED
    assert result.reason.startswith("no worker could start: its worker died")


def test_a_full_disk_ends_the_run_with_one_line_and_no_commit(joined):
    runtime = {**joined.values["runtime"], "max_attempts": 2, "patience": 0}
    result = drive(joined.config(runtime=runtime), full_disk=True)
    assert result.outcome is Outcome.FAILED
    assert result.reason.startswith(f"no space left in {joined.output}")
    assert result.reason.endswith("runtime.patience)")
    assert sample_ids(joined.output) == []
    # Space again: the same command goes on.
    assert drive(joined.config()).outcome is Outcome.FINISHED
    assert_sound(joined)


def test_run_json_holds_no_credentials(run_folder):
    from mfsynth.config import fingerprint
    from mfsynth.models import model_info
    from mfsynth.runs.manifest import run_manifest

    config = run_folder.config(
        output="s3://key:secret@bucket/run?token=secret",
        prompts={"file": "https://user:secret@host/prompts.txt"},
    )
    manifest = run_manifest(config, fingerprint(config, "0", "1"), model_info(config.model), None)
    assert "secret" not in manifest.to_json()
    assert manifest.model["licence"] == "apache-2.0"
