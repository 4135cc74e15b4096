"""Segments are written beside a run, and whatever goes wrong with them is no matter to it."""

from __future__ import annotations

import logging
import threading
import time

import pytest
import tiny_run

from mfsynth.runs import compacting
from mfsynth.runs.compacting import Compactor
from mfsynth.runs.watching.notices import Committed
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.segments import listed_segments
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore

SIZES = tiny_run.SEGMENTS


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    """A run of five shards."""
    return tiny_run.make_run(str(tmp_path / "run"), 5)


def ranges(store):
    names = listed_segments(store)
    return sorted((n.first, n.count) for n in names if n.kind == "receipts")


def wait_until(holds):
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    assert holds()


def wait_for(store, expected):
    wait_until(lambda: ranges(store) == expected)


def commit_next(store, compactor, committed, shard):
    receipt = tiny_run.upload_shard(store, shard)
    assert commit(store, receipt)
    committed.add(shard)
    compactor.tell(Committed(receipt))


def test_what_a_killed_driver_has_not_written_is_written_at_the_start(store):
    committed = {*range(5)}
    with Compactor(store, committed, SIZES) as compactor:
        wait_for(store, [(0, 2), (0, 4), (2, 2)])
        commit_next(store, compactor, committed, 6)
        commit_next(store, compactor, committed, 5)
        wait_for(store, [(0, 2), (0, 4), (2, 2), (4, 2)])
        commit_next(store, compactor, committed, 7)
        wait_for(store, [(0, 2), (0, 4), (2, 2), (4, 2), (4, 4), (6, 2)])
    assert read_commits(store) == read_commits(store, from_segments=False)


def test_a_failure_is_logged_once_and_ends_nothing(store, monkeypatch, caplog):
    def refuse(self, key, data):
        raise StoreError(f"can't write {key}\x1b[2J\n")

    committed = {*range(5)}
    with caplog.at_level(logging.WARNING), monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "put_bytes", refuse)
        with Compactor(store, committed, SIZES) as compactor:
            wait_until(lambda: caplog.records)
            commit_next(store, compactor, committed, 5)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{store.url}: not compacted: shards 0 to 1: can't write _segments/")
    assert line.isprintable()
    with Compactor(store, committed, SIZES):
        wait_for(store, [(0, 2), (0, 4), (2, 2), (4, 2)])


def test_a_store_that_hangs_holds_up_no_driver(store, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(compacting, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(ObjectStore, "put_bytes", lambda *_: released.wait(60))
    with Compactor(store, {*range(5)}, SIZES):
        pass
    released.set()
    assert ranges(store) == []
