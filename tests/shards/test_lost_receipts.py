"""A run that has lost receipts is neither an empty one nor a smaller one."""

from __future__ import annotations

import hashlib

import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.copy import copy_run
from mfsynth.shards.drivers import (
    Counted,
    counted_shards,
    note_progress,
    read_all_commits,
    read_known_commits,
)
from mfsynth.shards.finalize import finalize
from mfsynth.shards.run_manifest import open_run, run_sha256
from mfsynth.shards.status import run_status
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore


def lose_all(store):
    for shard in read_commits(store):
        store.delete(layout.commit_key(shard))


def refuses(do, store, match):
    before = {key: store.read_bytes(key) for key in store.list()}
    with pytest.raises(MfsynthError, match=match) as info:
        do(store)
    assert "\n" not in str(info.value)
    assert {key: store.read_bytes(key) for key in store.list()} == before


def read(store):
    return RGBDDataset(store.url)


@pytest.mark.parametrize("counted", [None, layout.PROGRESS_KEY, layout.MANIFEST_KEY])
def test_objects_without_receipts_are_no_empty_run(run_store, counted):
    if counted == layout.PROGRESS_KEY:
        note_progress(run_store, 3)
    if counted == layout.MANIFEST_KEY:
        finalize(run_store)
    lose_all(run_store)
    told = f"3 shards were committed \\({counted}\\)" if counted else "objects .such as shards/tiny"
    for do in (run_status, finalize, read_known_commits, read_all_commits, read):
        refuses(do, run_store, f"(no receipt in _commits/, but {told})|({told})")
    refuses(lambda store: tiny_run.make_missing_shards(store.url, 3), run_store, "_commits/")
    [problem] = verify_run(run_store).problems
    assert "no receipt in _commits/" in problem
    assert "bring _commits/ back" in problem


def test_a_counted_run_without_anything_left_is_no_empty_one(run_store):
    note_progress(run_store, 3)
    for key in run_store.list():
        if key not in (layout.RUN_KEY, layout.PROGRESS_KEY):
            run_store.delete(key)
    refuses(run_status, run_store, "3 shards were committed")


@pytest.mark.parametrize("finalized", [True, False])
def test_the_last_receipt_of_a_run_is_missed(run_store, finalized):
    if finalized:
        finalize(run_store)
    else:
        note_progress(run_store, 3)
    source = layout.MANIFEST_KEY if finalized else layout.PROGRESS_KEY
    run_store.delete(layout.commit_key(2))
    for deep in (True, False):
        assert verify_run(run_store, deep).problems == (
            f"2 receipts in _commits/, but 3 shards were committed ({source}); bring them back "
            "(if this is a copy: copy again), or run the run's own command again to make them anew",
        )
    # Finalized again, the manifest would forget it.
    refuses(finalize, run_store, "2 receipts in _commits/, but 3")
    refuses(read_all_commits, run_store, "2 receipts in _commits/, but 3")
    # That is what deleting a receipt is for: the shard is made again.
    assert [*read_known_commits(run_store)] == [0, 1]
    assert commit(run_store, tiny_run.upload_shard(run_store, 2))
    if finalized:
        finalize(run_store)
    assert verify_run(run_store).problems == ()


@pytest.mark.parametrize("lost", [[2], [1], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("counted", [None, 0, 2])
def test_a_receipt_that_a_segment_has_is_missed(run_store, tmp_path, counted, lost):
    tiny_run.compact_all(run_store, sizes=(3,))
    if counted is not None:
        note_progress(run_store, counted)
    for shard in lost:
        run_store.delete(layout.commit_key(shard))
    copy = ObjectStore.open(tmp_path / "copy")
    for do in (finalize, read, tiny_run.collect_all, lambda source: copy_run(source, copy)):
        refuses(do, run_store, "receipt")
    if len(lost) == 3:
        refuses(run_status, run_store, "no receipt")
        return
    assert run_status(run_store).lost_shards == 1
    tiny_run.make_missing_shards(run_store.url, 3)
    tiny_run.collect_all(run_store)
    assert verify_run(run_store).problems == ()


@pytest.mark.parametrize("harm", ["damaged", "of another run"])
def test_a_segment_that_is_not_this_runs_tells_of_no_receipt(run_store, harm):
    tiny_run.compact_all(run_store, sizes=(3,))
    [key] = [key for key in run_store.list("_segments") if key.endswith(".json")]
    data = run_store.read_bytes(key)
    if harm == "damaged":
        run_store.put_bytes(key, data[:-9])
    else:
        data = data.replace(run_sha256(run_store).encode(), b"0" * 64)
        digest = hashlib.sha256(data).hexdigest()
        run_store.put_bytes(layout.SegmentName("receipts", 0, 3, digest).key, data)
        run_store.delete(key)
    run_store.delete(layout.commit_key(2))
    assert [*read_all_commits(run_store)] == [0, 1]


def test_a_receipt_that_can_not_be_read_is_not_missed_as_well(run_store):
    note_progress(run_store, 3)
    run_store.put_bytes(layout.commit_key(2), b"{")
    [problem] = verify_run(run_store).problems
    assert "000002.json: not a receipt" in problem


def test_a_run_with_no_shard_is_never_verified(store):
    open_run(store, tiny_run.make_manifest())
    assert verify_run(store).problems == ("no shard is committed yet",)
    note_progress(store, 0)
    tiny_run.upload_shard(store, 0)  # a driver was killed before its first commit
    assert verify_run(store).problems == ("no shard is committed yet",)
    assert run_status(store).shards == 0
    assert read_known_commits(store) == {}
    tiny_run.make_missing_shards(store.url, 2)
    assert verify_run(store).problems == ()


def test_receipts_that_are_links_are_receipts(run_store, tmp_path):
    expected = tiny_run.contents(run_store)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for key in run_store.list():
        path = run_store.local_root / key
        blob = blobs / key.replace("/", "-")
        path.rename(blob)
        path.symlink_to(blob)
    assert tiny_run.contents(run_store) == expected
    assert verify_run(run_store).problems == ()
    assert run_status(run_store).shards == 3
    finalize(run_store)
    (blobs / "_commits-000002.json").unlink()
    for do in (run_status, finalize, verify_run, read_commits, read_known_commits):
        refuses_link(do, run_store, "000002.json")


def refuses_link(do, store, name):
    with pytest.raises(MfsynthError, match=f"{name} is a link to what isn't there"):
        do(store)


def test_progress_never_goes_back(store):
    assert counted_shards(store) is None
    for shards, counted in ((0, 0), (3, 3), (2, 3), (4, 4)):
        note_progress(store, shards)
        assert counted_shards(store) == Counted(counted, layout.PROGRESS_KEY)


@pytest.mark.parametrize("key", [layout.PROGRESS_KEY, layout.MANIFEST_KEY])
@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"3", b'{"shards": -1}', b'{"counts": {"shards": "3"}}', b"[" * 99_999],
)
def test_a_count_that_can_not_be_read_is_one_clear_line(run_store, key, text):
    run_store.put_bytes(key, text)
    refuses(run_status, run_store, f"{key} can't be read")
    [problem] = verify_run(run_store).problems
    assert f"{key} can't be read" in problem
    assert "\n" not in problem
