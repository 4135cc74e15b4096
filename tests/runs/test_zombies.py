"""Workers and drivers that go on after they were given up, and clocks that disagree."""

from __future__ import annotations

import math
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
import tiny_run
from ray_nodes import wait_until
from standin import Behaviour, opener
from started import start
from test_driver import Lines, assert_sound
from test_kills import commits, standin_process
from test_worker import make, standin

from mfsynth.runs.driver import generate
from mfsynth.runs.events import Outcome
from mfsynth.shards import gc, layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.drivers import note_progress
from mfsynth.shards.gc import garbage
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore


def keys_of(*receipts) -> set[str]:
    return {stored.key for receipt in receipts for stored in receipt.objects.values()}


def unreferenced(store: ObjectStore) -> set[str]:
    """All that readers of the run would not miss."""
    receipts = read_commits(store)
    documents = {layout.RUN_KEY, layout.CARD_KEY, layout.PROGRESS_KEY}
    documents |= {layout.commit_key(shard) for shard in receipts}
    documents |= {*store.list(layout.LOGS_FOLDER)}
    return {*store.list()} - keys_of(*receipts.values()) - documents


def assert_gc_leaves_what_is_committed(store: ObjectStore) -> None:
    rubbish = unreferenced(store)
    found = garbage(store, timedelta())
    assert {entry.key for entry in found} == rubbish
    tiny_run.collect_all(store)
    assert unreferenced(store) == set()
    assert not verify_run(store).problems


def test_what_a_zombie_uploads_after_its_shard_was_made_again_is_garbage(run_folder, monkeypatch):
    run_folder.values["target"] = {"candidates": 8}
    config = run_folder.config()
    store = start(config)
    put_file, uploads, may_upload = ObjectStore.put_file, threading.Event(), threading.Event()

    def put_file_late(self, local_path, key):
        if ".zombie." in key:
            uploads.set()
            assert may_upload.wait(60)
        put_file(self, local_path, key)

    monkeypatch.setattr(ObjectStore, "put_file", put_file_late)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(make, standin(config), config, attempt="zombie")
        assert uploads.wait(60)
        # Given up while it uploads: the shard is made, and committed, by another one.
        receipt = make(standin(config), config, attempt="heir")[-1].receipt
        assert commit(store, receipt)
        before = store.read_bytes(layout.commit_key(0))
        may_upload.set()
        zombie = late.result()[-1].receipt
    # Even a driver that still believes in it does not change what is committed.
    assert not commit(store, zombie)
    assert store.read_bytes(layout.commit_key(0)) == before
    assert unreferenced(store) == keys_of(zombie)
    assert_gc_leaves_what_is_committed(store)


class HangsANode(Lines):
    """A display that stops the raylet of the node whose worker is held up in its upload."""

    def __init__(self, nodes, behaviour):
        super().__init__()
        self.nodes, self.behaviour = nodes, behaviour
        self.hung = None

    def show(self, snapshot):
        super().show(snapshot)
        holder = Path(self.behaviour.scratch) / "held"
        if self.hung is None and holder.exists() and (pid := holder.read_text()):
            self.hung = psutil.Process(int(pid)).parent()
            self.hung.suspend()


@pytest.mark.slow
def test_a_worker_whose_node_is_taken_for_dead_finishes_in_vain(run_folder, nodes, monkeypatch):
    monkeypatch.setattr("mfsynth.runs.driver.NODE_POLL_S", 0.5)
    # Otherwise the shard is made again because it is late, before the node is given up.
    monkeypatch.setattr("mfsynth.runs.roster.STRAGGLER_FACTOR", math.inf)
    run_folder.values["runtime"] = {"batch_size": 4, "device": "cpu", "ray_address": nodes.address}
    behaviour = Behaviour(hold_once=1, scratch=str(run_folder.folder))
    display = HangsANode(nodes, behaviour)
    result = generate(run_folder.config(), open_worker=opener(behaviour), display=display)
    assert (result.outcome, result.reason) == (Outcome.FINISHED, "")
    assert_sound(run_folder)
    store = ObjectStore.open(str(run_folder.output))
    before = unreferenced(store)
    behaviour.go()
    wait_until(lambda: len(unreferenced(store) - before) == 3)
    display.hung.resume()
    assert_sound(run_folder)
    assert_gc_leaves_what_is_committed(store)


@pytest.mark.slow
def test_a_driver_that_wakes_up_after_another_has_finished_the_run_adds_nothing(
    run_folder, cluster
):
    run_folder.values["target"] = {"pairs": 40}
    run_folder.values["runtime"] |= {"ray_address": cluster, "workers": 1}
    scratch = str(run_folder.folder)
    sleeper = standin_process(run_folder, "sleeper.txt", wait_from=24, scratch=scratch)
    sleeper.wait_for(lambda: commits(run_folder) >= 2)
    sleeper.popen.send_signal(signal.SIGSTOP)
    other = standin_process(run_folder, "other.txt")
    assert other.end() == 0, other.log.read_text()
    assert_sound(run_folder)
    before = {path: path.read_bytes() for path in (run_folder.output / "_commits").iterdir()}
    Behaviour(scratch=scratch).go()
    sleeper.popen.send_signal(signal.SIGCONT)
    assert sleeper.end() == 0, sleeper.log.read_text()
    assert sleeper.log.read_text().splitlines()[-1].startswith("finished")
    after = {path: path.read_bytes() for path in (run_folder.output / "_commits").iterdir()}
    assert after == before
    assert_gc_leaves_what_is_committed(ObjectStore.open(str(run_folder.output)))
    assert_sound(run_folder)


@pytest.mark.slow
def test_clocks_that_are_days_apart_change_no_sample(run_folder, cluster):
    run_folder.values["target"] = {"pairs": 40}
    run_folder.values["runtime"] |= {"ray_address": cluster}
    never = {"wait_from": 24, "scratch": str(run_folder.folder)}
    early = standin_process(run_folder, "early.txt", clock_days=3, **never)
    early.wait_for(lambda: commits(run_folder) >= 2)
    early.kill_group()
    late = standin_process(run_folder, "late.txt", clock_days=-3)
    assert late.end() == 0, late.log.read_text()
    assert_sound(run_folder)
    store = ObjectStore.open(str(run_folder.output))
    dates = [datetime.fromisoformat(r.created) for r in read_commits(store).values()]
    assert max(dates) - min(dates) > timedelta(days=5)
    assert not garbage(store)
    assert_gc_leaves_what_is_committed(store)
    assert_sound(run_folder)


def test_gc_on_a_machine_that_is_days_ahead_leaves_a_running_jobs_uploads_alone(
    run_folder, monkeypatch
):
    config = run_folder.config()
    store = start(config)
    note_progress(store, 0)
    made = make(standin(config), config)[-1].receipt

    class NextWeek(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=7)

    monkeypatch.setattr(gc, "datetime", NextWeek)
    assert not garbage(store)
    assert commit(store, made)
    assert not verify_run(store).problems
    # And one that is days behind still finds what is old.
    zombie = make(standin(config), config, attempt="zombie")[-1].receipt
    week = timedelta(days=7).total_seconds()
    for key in keys_of(zombie):
        written = (run_folder.output / key).stat().st_mtime
        os.utime(run_folder.output / key, (written - week, written - week))
    monkeypatch.setattr(NextWeek, "now", classmethod(lambda cls, tz=None: datetime(2000, 1, 1)))
    assert {entry.key for entry in garbage(store)} == keys_of(zombie)
