from __future__ import annotations

import socket
import time

import pytest
import tiny_run

from mfsynth.errors import MfsynthError
from mfsynth.runs import heartbeat
from mfsynth.runs.heartbeat import Heartbeat
from mfsynth.shards import layout
from mfsynth.shards.drivers import Counted, beat, counted_shards
from mfsynth.shards.gc import collect
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    """A run of one committed shard."""
    return tiny_run.make_run(str(tmp_path / "run"), 1)


def beats(store) -> list[str]:
    return [key for key in store.list(layout.DRIVERS_FOLDER) if layout.is_heartbeat(key)]


def test_a_driver_is_seen_while_it_works_and_not_afterwards(store):
    with Heartbeat(store, lambda: 1):
        assert len(beats(store)) == 1
        with pytest.raises(MfsynthError, match="a driver is at work"):
            collect(store)
    assert beats(store) == []
    assert counted_shards(store) == Counted(1, layout.PROGRESS_KEY)
    collect(store)


def test_the_first_commit_is_counted_soon_and_the_last_at_the_end(store, monkeypatch):
    monkeypatch.setattr(heartbeat, "_FIRST_COMMIT_S", 0.01)
    committed: list[int] = []
    with Heartbeat(store, lambda: len(committed)):
        assert counted_shards(store) == Counted(0, layout.PROGRESS_KEY)
        committed.append(0)
        deadline = time.monotonic() + 60
        while counted_shards(store) != Counted(1, layout.PROGRESS_KEY):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        committed.append(1)
    assert counted_shards(store) == Counted(2, layout.PROGRESS_KEY)


def test_another_driver_is_told_of_once_and_one_that_was_killed_is_not(store, monkeypatch):
    monkeypatch.setattr(heartbeat, "_FIRST_COMMIT_S", 0.01)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.02)
    beat(store, layout.new_heartbeat())  # of a driver that was killed
    told = []
    with Heartbeat(store, lambda: 1) as first:
        time.sleep(0.1)
        assert first.other_drivers() == []
        with Heartbeat(store, lambda: 1):
            deadline = time.monotonic() + 60
            while not (told := first.other_drivers()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.1)
            assert first.other_drivers() == []
    assert told == [socket.gethostname()]


def test_a_store_that_fails_meanwhile_is_no_matter_and_one_that_fails_at_the_start_is(
    store, monkeypatch
):
    def fail(self, key, data):
        raise StoreError("no space left")

    with Heartbeat(store, lambda: 1), monkeypatch.context() as broken:
        broken.setattr(ObjectStore, "put_bytes", fail)
    assert beats(store) == []
    monkeypatch.setattr(ObjectStore, "put_bytes", fail)
    with pytest.raises(StoreError, match="no space left"), Heartbeat(store, lambda: 1):
        pass
