"""Runs in a folder that machines see through caches, as over NFS: late listings, late files."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import tiny_run
from folder_caches import FolderCaches
from test_driver import assert_sound, drive

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.runs.events import Outcome
from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.drivers import beat, counted_shards
from mfsynth.shards.gc import collect
from mfsynth.shards.status import run_status
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

FOLDERS = [*layout.FOLDERS.values(), layout.COMMITS_FOLDER, layout.DRIVERS_FOLDER, ""]


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    return ObjectStore.open(tmp_path / "out")


def look(store: ObjectStore) -> FolderCaches:
    """Another machine that looks at everything now, and remembers it."""
    caches = FolderCaches()
    with caches.between():
        for folder in FOLDERS:
            store.entries(folder)
        for key in (layout.RUN_KEY, layout.CARD_KEY, layout.PROGRESS_KEY, layout.commit_key(0)):
            store.exists(key)
    return caches


@pytest.mark.parametrize("seen", [0, 1])
def test_a_driver_that_does_not_see_what_another_has_committed_doubles_nothing(
    store, seen, tmp_path
):
    if seen:
        tiny_run.make_missing_shards(store.url, seen)
    caches = look(store)
    tiny_run.make_missing_shards(store.url, 2)
    theirs = read_commits(store)
    with caches.between():
        tiny_run.make_missing_shards(store.url, 3)
    receipts = read_commits(store)
    assert {shard: receipts[shard] for shard in theirs} == theirs
    assert tiny_run.contents(store) == tiny_run.contents(tiny_run.make_run(str(tmp_path / "r")))
    assert verify_run(store).problems == ()
    # What it made in vain is garbage, and nothing else is.
    assert len(tiny_run.collect_all(store)) == 3 * (2 - seen)
    assert verify_run(store).problems == ()


@pytest.mark.slow
def test_real_drivers_on_two_machines_give_the_samples_of_one(run_folder, cluster):
    run_folder.values["runtime"]["ray_address"] = cluster
    output = ObjectStore.open(str(run_folder.output))
    before = look(output)
    assert drive(run_folder.config()).outcome is Outcome.FINISHED
    theirs = read_commits(output)
    # Nothing of the first driver's is listed, and no name that was missing before is found.
    run_folder.values["target"] = {"pairs": 30}
    with before.between():
        result = drive(run_folder.config())
    assert (result.outcome, result.reason) == (Outcome.FINISHED, "")
    receipts = read_commits(output)
    assert {shard: receipts[shard] for shard in theirs} == theirs
    assert_sound(run_folder)
    tiny_run.collect_all(output)
    assert_sound(run_folder)


def test_readers_say_what_they_do_not_see_yet(store):
    tiny_run.make_missing_shards(store.url, 1)
    caches = look(store)
    tiny_run.make_missing_shards(store.url, 2)
    told = r"1 receipts in _commits/, but 2 shards were committed \(_driver/progress\.json\)"
    with caches.between():
        assert run_status(store).shards == 1
        with pytest.raises(MfsynthError, match=told):
            RGBDDataset(store.url)
        [problem] = verify_run(store).problems
        assert re.match(told, problem)
        caches.expire()
        assert [sample.candidate for sample in RGBDDataset(store.url)] == [0, 1, 2, 3, 6, 7, 8, 9]
        assert verify_run(store).problems == ()


@pytest.mark.parametrize("do", [read_commits, run_status, verify_run, RGBDDataset, collect])
def test_a_receipt_that_is_listed_and_gone_is_one_clear_line(store, do):
    tiny_run.make_missing_shards(store.url, 1)
    caches = look(store)
    store.delete(layout.commit_key(0))
    told = r"000000\.json is listed, but not there; run the same command again"
    with caches.between(), pytest.raises(MfsynthError, match=told) as info:
        do(store.url if do is RGBDDataset else store)
    assert "\n" not in str(info.value)


def test_gc_marks_at_most_what_it_wrongly_sees_and_removes_nothing_that_is_committed(store):
    tiny_run.make_missing_shards(store.url, 1)
    caches = FolderCaches()
    with caches.between():
        # Receipts are listed early, objects late: as bad as it can be.
        store.entries(layout.COMMITS_FOLDER)
        store.entries(layout.DRIVERS_FOLDER)
        counted_shards(store)
    beat(store, layout.new_heartbeat())
    tiny_run.make_missing_shards(store.url, 2)
    told = "1 receipts in _commits/, but 2 shards"
    with caches.between(), pytest.raises(MfsynthError, match=told):
        collect(store, timedelta())
    store.put_bytes(layout.PROGRESS_KEY, b'{"shards": 1}')  # not yet written by the driver
    with caches.between():
        first = collect(store, timedelta())
    objects = {o.key for o in read_commits(store)[1].objects.values()}
    assert objects <= {entry.key for entry in first.marked}
    # When it is due, a day later, the caches are those of that day.
    removed = tiny_run.collect_all(store)
    assert not objects & {entry.key for entry in removed}
    assert verify_run(store).problems == ()


def test_what_another_gc_has_removed_is_not_counted_again(store):
    tiny_run.make_missing_shards(store.url, 1)
    lost = {o.key for o in tiny_run.upload_shard(store, 0).objects.values()}
    first = collect(store, timedelta())
    caches = look(store)
    with caches.between():
        store.entries(layout.TOMBSTONES_FOLDER)
    later = first.due + timedelta(minutes=1)
    assert {e.key for e in collect(store, timedelta(), now=later).removed} == lost
    with caches.between():
        again = collect(store, timedelta(), now=later)
    assert again.removed == ()
    assert verify_run(store).problems == ()
