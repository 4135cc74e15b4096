"""The log of a driver in the store."""

from __future__ import annotations

import re
import time

import pytest
import tiny_run
from run_snapshots import receipt, snapshot

from mfsynth.runs.protocol import FailureCause
from mfsynth.runs.watching import runlog
from mfsynth.runs.watching.notices import Announcement, Committed, FailureNotice
from mfsynth.runs.watching.runlog import RunLog
from mfsynth.shards.layout import LOGS_FOLDER
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    return tiny_run.make_run(str(tmp_path / "run"), 1)


def logged(store) -> str:
    """All that is stored, without the times."""
    parts = sorted(key for key in store.list(LOGS_FOLDER) if key.endswith(".txt"))
    text = "".join(store.read_bytes(key).decode() for key in parts)
    assert re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ .*\n)*", text)
    return re.sub(r"(?m)^\S+ ", "", text)


def test_it_has_what_people_were_told_and_what_was_committed(store):
    with RunLog(store) as log:
        log.tell(Announcement("places_changed", "room for 2 workers"))
        log.tell(FailureNotice(FailureCause.OUT_OF_MEMORY, "worker 3: a smaller batch", 3, 5))
        log.tell(Committed(receipt(5, registration=2)))
        log.show(snapshot(target=24))
        log.show(snapshot(target=24))
    begun, *lines = logged(store).splitlines()
    assert begun.startswith("mfsynth ")
    assert lines == [
        "room for 2 workers",
        "out of memory: worker 3: a smaller batch",
        "shard 5: 6 of 8 accepted, 2 rejected (registration 2); 0.0 s on ",
        "0/24 pairs, 0 shards; no worker",
    ]
    assert log.url == f"{store.url}/{next(iter(store.list(LOGS_FOLDER)))}"


def test_a_line_is_a_line_and_without_credentials(store, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from/the/environment")
    with RunLog(store) as log:
        log.write("two\nlines \x1b[2J of s3://key:secret@bucket/run?sig=abcd from/the/environment")
    assert logged(store).splitlines()[1] == ("two\\nlines \\u001b[2J of s3://bucket/run ***")


def test_of_many_failures_a_few_are_written(store):
    with RunLog(store) as log:
        for worker in range(1000):
            log.tell(FailureNotice(FailureCause.STORE, f"worker {worker}: no answer", worker))
    assert logged(store).count("no answer") == 5


def test_a_long_one_has_parts_and_each_is_written_while_it_grows(store, monkeypatch):
    monkeypatch.setattr(runlog, "_INTERVAL_S", 0.01)
    monkeypatch.setattr(runlog, "_PART_BYTES", 1000)
    lines = [f"line {number} {'.' * 100}" for number in range(100)]
    with RunLog(store) as log:
        for line in lines:
            log.write(line)
            while number_of(line) % 10 == 9 and line not in logged(store):
                time.sleep(0.002)
    assert logged(store).splitlines()[1:] == lines
    assert len([*store.list(LOGS_FOLDER)]) > 5


def number_of(line: str) -> int:
    return int(line.split()[1])


def test_a_store_that_fails_is_no_matter_and_nothing_is_lost_when_it_is_back(store, monkeypatch):
    put, tries = ObjectStore.put_bytes, []

    def fail(self, key, data):
        tries.append(key)
        if len(tries) < 4:
            raise StoreError("no space left")
        put(self, key, data)

    monkeypatch.setattr(runlog, "_INTERVAL_S", 0.01)
    monkeypatch.setattr(ObjectStore, "put_bytes", fail)
    with RunLog(store) as log:
        log.write("said while the store was away")
        while len(tries) < 5:
            log.write("more")
            time.sleep(0.002)
    assert "said while the store was away" in logged(store)


def test_what_ended_a_driver_is_its_last_line(store):
    with pytest.raises(StoreError), RunLog(store):
        raise StoreError("Ray does not start")
    assert logged(store).splitlines()[-1] == "ended: Ray does not start"
