from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import tiny_run

from mfsynth.errors import MfsynthError
from mfsynth.shards import gc, layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.drivers import FRESH, beat, note_progress
from mfsynth.shards.finalize import finalize
from mfsynth.shards.gc import DEFAULT_GRACE, DELAY, collect, garbage
from mfsynth.shards.refilter import refilter
from mfsynth.shards.tombstones import condemned_keys, put_tombstone
from mfsynth.shards.verify import verify_run
from mfsynth.shards.view_documents import finalize_view
from mfsynth.shards.views import Rules
from mfsynth.storage.listing import Entry

NOW = timedelta()
MINUTE = timedelta(minutes=1)


def keys(store, **options):
    return {entry.key for entry in garbage(store, **options)}


def keys_of(receipt):
    return {stored.key for stored in receipt.objects.values()}


def now():
    return datetime.now(UTC)


def test_a_run_without_losers_has_no_garbage(run_store):
    assert keys(run_store, older_than=NOW) == set()
    done = collect(run_store, NOW)
    assert (done.removed, done.marked, done.due, done.waiting) == ((), (), None, 0)
    assert not run_store.list(layout.TOMBSTONES_FOLDER)


def test_objects_that_lost_the_commit_are_marked_and_a_day_later_removed(run_store):
    lost = keys_of(tiny_run.upload_shard(run_store, 1))
    assert keys(run_store, older_than=NOW) == lost
    first = collect(run_store, NOW)
    assert first.removed == ()
    assert {entry.key for entry in first.marked} == lost == condemned_keys(run_store)
    # At once, and shortly before it is due, nothing more happens.
    for moment in (None, first.due - MINUTE):
        again = collect(run_store, NOW, now=moment)
        assert (again.removed, again.marked, again.waiting) == ((), (), 3)
    assert lost <= {*run_store.list()}
    last = collect(run_store, NOW, now=now() + DELAY + MINUTE)
    assert {entry.key for entry in last.removed} == lost
    assert last.marked == ()
    assert sum(entry.size for entry in last.removed) == sum(e.size for e in first.marked)
    assert not lost & {*run_store.list()}
    assert not run_store.list(layout.TOMBSTONES_FOLDER)
    assert verify_run(run_store).problems == ()


def test_what_is_committed_after_it_was_marked_stays(run_store):
    receipt = tiny_run.upload_shard(run_store, 3)
    loser = tiny_run.upload_shard(run_store, 3)
    assert len(collect(run_store, NOW).marked) == 6
    assert commit(run_store, receipt)
    done = collect(run_store, NOW, now=now() + DELAY + MINUTE)
    assert {entry.key for entry in done.removed} == keys_of(loser)
    assert verify_run(run_store).problems == ()


def test_a_dry_run_changes_nothing(run_store):
    tiny_run.upload_shard(run_store, 1)
    before = [*run_store.list()]
    assert len(collect(run_store, NOW, dry_run=True).marked) == 3
    assert [*run_store.list()] == before
    collect(run_store, NOW)
    before = [*run_store.list()]
    later = now() + DELAY + MINUTE
    assert len(collect(run_store, NOW, dry_run=True, now=later).removed) == 3
    assert [*run_store.list()] == before


def test_several_at_once_count_what_each_has_removed(run_store):
    lost = keys_of(tiny_run.upload_shard(run_store, 1))
    lost |= keys_of(tiny_run.upload_shard(run_store, 1))
    collect(run_store, NOW)
    later = now() + DELAY + MINUTE
    with ThreadPoolExecutor(4) as pool:
        done = [*pool.map(lambda _: collect(run_store, NOW, now=later), range(4))]
    removed = [entry.key for each in done for entry in each.removed]
    assert sorted(removed) == sorted(lost)
    assert verify_run(run_store).problems == ()


def test_a_running_jobs_uploads_are_left_alone_for_a_day(run_store):
    tiny_run.upload_shard(run_store, 3)
    assert keys(run_store) == set()
    later = now() + DEFAULT_GRACE + MINUTE
    assert len(keys(run_store, now=later)) == 3


def test_while_a_driver_is_at_work_nothing_is_marked_or_removed(run_store):
    tiny_run.upload_shard(run_store, 1)
    collect(run_store, NOW)
    beat(run_store, layout.new_heartbeat())
    before = [*run_store.list()]
    with pytest.raises(MfsynthError, match=r"a driver is at work \(_driver/") as info:
        collect(run_store, NOW)
    assert "\n" not in str(info.value)
    assert [*run_store.list()] == before
    # One that was killed is forgotten, and what it left is garbage.
    done = collect(run_store, NOW, now=now() + FRESH + MINUTE)
    assert [layout.is_heartbeat(entry.key) for entry in done.marked] == [True]


def test_temporaries_of_killed_writers_are_garbage(run_store):
    left = {
        ".run.json.00.part",
        "_commits/.000001.json.00.part",
        "shards/.tiny-000001.ab.tar.00.part",
        "_log/.20260101T000000Z-ab.000.txt.00.part",
        "_views/loose/.pairs.parquet.00.part",
        ".nv-meta/.index.sqlite.00.part",
        ".probe-0a1b.part",
        "_commits/.claims/000001.json/0a1b.part",
        ".claims/.run.json.0a1b/0a1b.part",
    }
    for key in left:
        run_store.put_bytes(key, b"half")
    assert keys(run_store, older_than=NOW) == left


def test_documents_of_a_view_are_garbage_once_it_is_gone(run_store):
    refilter(run_store, "loose", Rules())
    written = {*finalize_view(run_store, "loose")}
    assert keys(run_store, older_than=NOW) == set()
    run_store.delete(layout.view_key("loose"))
    assert keys(run_store, older_than=NOW) == written


def test_a_strangers_files_are_not_ours_to_delete(run_store):
    run_store.put_bytes("shards/notes.txt", b"mine")
    for key in ("film.mkv.part", "shards/copy.tar.part", "_views/.film.part", ".bag.part"):
        run_store.put_bytes(key, b"a download")
    run_store.put_bytes("report/index.html", b"mine")
    run_store.put_bytes(layout.log_key(layout.new_log(datetime.now(UTC)), 0), b"a log is kept")
    assert keys(run_store, older_than=NOW) == set()


def test_nothing_is_garbage_while_a_commit_can_not_be_read(run_store):
    run_store.put_bytes("_commits/000001.json", b"{")
    for do in (garbage, collect):
        with pytest.raises(MfsynthError, match=r"000001\.json"):
            do(run_store, NOW)


def test_nothing_is_garbage_while_a_commit_is_missing(run_store):
    finalize(run_store)
    for shard, problem in ((1, "shard 1 missing"), (2, "2 receipts in _commits/, but 3 shards")):
        receipt = run_store.read_bytes(layout.commit_key(shard))
        run_store.delete(layout.commit_key(shard))
        if shard == 1:
            run_store.delete(layout.MANIFEST_KEY)
        before = [*run_store.list()]
        for do in (garbage, collect):
            with pytest.raises(MfsynthError, match=problem):
                do(run_store, NOW)
        assert [*run_store.list()] == before
        run_store.put_bytes(layout.commit_key(shard), receipt)
        finalize(run_store)
    assert keys(run_store, older_than=NOW) == set()


@pytest.mark.parametrize("counted", [None, 3])
def test_a_run_that_has_lost_its_receipts_is_no_rubbish_heap(run_store, counted):
    if counted is not None:
        note_progress(run_store, counted)
    for shard in read_commits(run_store):
        run_store.delete(layout.commit_key(shard))
    before = [*run_store.list()]
    for do in (garbage, collect):
        with pytest.raises(MfsynthError, match="no receipt in _commits/"):
            do(run_store, NOW)
    assert [*run_store.list()] == before


def test_receipts_that_are_links_keep_their_shards(run_store, tmp_path):
    """As in the cache of a model hub, or where a file system has moved files to tape."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for key in run_store.list(layout.COMMITS_FOLDER):
        path = run_store.local_root / key
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)
    loser = tiny_run.upload_shard(run_store, 1)
    assert keys(run_store, older_than=NOW) == keys_of(loser)
    assert {entry.key for entry in tiny_run.collect_all(run_store)} == keys_of(loser)
    assert verify_run(run_store).problems == ()
    (blobs / "000001.json").unlink()
    with pytest.raises(MfsynthError, match=r"000001\.json is a link to what isn't there"):
        collect(run_store, NOW)


def test_a_session_that_committed_nothing_leaves_garbage_like_any_other(store):
    tiny_run.make_run(store.url, 0)
    note_progress(store, 0)
    left = tiny_run.upload_shard(store, 0)
    assert keys(store, older_than=NOW) == keys_of(left)


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b'{"due": "soon", "objects": []}',
        b'{"due": "2026-01-01T00:00:00", "objects": []}',
        b"[" * 100_000,
    ],
)
def test_a_tombstone_that_can_not_be_read_is_one_clear_line(run_store, text):
    key = layout.new_tombstone(now())
    run_store.put_bytes(key, text)
    with pytest.raises(MfsynthError, match=f"{key}: not a tombstone") as info:
        collect(run_store, NOW)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "key", ["../other/a.part", "/etc/x.part", "shards/../../a.part", "run.json", "README.md", ""]
)
def test_a_strangers_tombstone_deletes_nothing_of_ours(run_store, key):
    document = {"due": "2000-01-01T00:00:00+00:00"}
    document["objects"] = [{"key": key, "size": 1, "upload": None}]
    run_store.put_bytes(layout.new_tombstone(now()), json.dumps(document).encode())
    before = [*run_store.list()]
    with pytest.raises(MfsynthError, match="is not gc's to delete"):
        collect(run_store, NOW)
    assert [*run_store.list()] == before


def test_a_strangers_file_that_an_earlier_version_has_marked_stays(run_store):
    run_store.put_bytes("film.mkv.part", b"a download")
    lost = tiny_run.upload_shard(run_store, 1).objects["tar"].key
    entries = [Entry(key, 1, None) for key in ("film.mkv.part", lost)]
    put_tombstone(run_store, entries, now(), now())
    assert [entry.key for entry in collect(run_store).removed] == [lost]
    assert run_store.exists("film.mkv.part")


def test_a_place_without_a_run_has_nothing_to_collect(store):
    store.put_bytes("shards/tiny-000001.ab.tar", b"x")
    for do in (garbage, collect):
        with pytest.raises(MfsynthError, match="is not a run"):
            do(store, NOW)


def test_ages_are_by_the_clock_of_the_store(run_store, monkeypatch):
    lost = keys_of(tiny_run.upload_shard(run_store, 1))

    class NextWeek(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=7)

    monkeypatch.setattr(gc, "datetime", NextWeek)
    assert collect(run_store).marked == ()
    week = timedelta(days=7).total_seconds()
    for key in lost:
        written = (run_store.local_root / key).stat().st_mtime
        os.utime(run_store.local_root / key, (written - week, written - week))
    assert {entry.key for entry in collect(run_store).marked} == lost
    assert collect(run_store).removed == ()


def test_an_upload_that_was_marked_in_another_store_is_none_here(run_store):
    now = datetime.now(UTC)
    tar = layout.object_key("tar", tiny_run.RUN_ID, 9, layout.new_attempt())
    stone = put_tombstone(run_store, [Entry(tar, 5, None, "upload-1")], now, now)
    assert collect(run_store, now=now).removed == ()
    assert not run_store.exists(stone.key)


def test_an_age_before_all_time_is_one_that_nothing_has(run_store):
    tiny_run.upload_shard(run_store, 0)
    assert garbage(run_store, timedelta(days=999_999)) == []
