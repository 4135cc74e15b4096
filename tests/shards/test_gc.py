from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import tiny_run

from mfsynth.errors import MfsynthError
from mfsynth.shards.gc import DEFAULT_GRACE, collect, garbage
from mfsynth.shards.verify import verify_run

NOW = timedelta()


def keys(store, **options):
    return {entry.key for entry in garbage(store, **options)}


def test_a_run_without_losers_has_no_garbage(run_store):
    assert keys(run_store, older_than=NOW) == set()


def test_objects_that_lost_the_commit_are_garbage(run_store):
    loser = tiny_run.upload_shard(run_store, 1)
    lost = {stored.key for stored in loser.objects.values()}
    assert keys(run_store, older_than=NOW) == lost
    assert collect(run_store, garbage(run_store, NOW)) == sum(
        stored.size for stored in loser.objects.values()
    )
    assert keys(run_store, older_than=NOW) == set()
    assert verify_run(run_store).problems == ()


def test_a_running_jobs_uploads_are_left_alone_for_a_day(run_store):
    tiny_run.upload_shard(run_store, 3)
    assert keys(run_store) == set()
    later = datetime.now(UTC) + DEFAULT_GRACE + timedelta(minutes=1)
    assert len(keys(run_store, now=later)) == 3


def test_temporaries_of_killed_writers_are_garbage(run_store):
    left = {
        ".run.json.00.part",
        "_commits/.000001.json.00.part",
        "shards/.tiny-000001.ab.tar.00.part",
    }
    for key in left:
        run_store.put_bytes(key, b"half")
    assert keys(run_store, older_than=NOW) == left


def test_a_strangers_files_are_not_ours_to_delete(run_store):
    run_store.put_bytes("shards/notes.txt", b"mine")
    run_store.put_bytes("report/index.html", b"mine")
    assert keys(run_store, older_than=NOW) == set()


def test_nothing_is_garbage_while_a_commit_can_not_be_read(run_store):
    run_store.put_bytes("_commits/000001.json", b"{")
    with pytest.raises(MfsynthError, match=r"000001\.json"):
        garbage(run_store, NOW)


def test_a_place_without_a_run_has_nothing_to_collect(store):
    store.put_bytes("shards/tiny-000001.ab.tar", b"x")
    with pytest.raises(MfsynthError, match="is not a run"):
        garbage(store, NOW)


def test_collecting_twice_is_no_error(run_store):
    tiny_run.upload_shard(run_store, 1)
    entries = garbage(run_store, NOW)
    collect(run_store, entries)
    collect(run_store, entries)
