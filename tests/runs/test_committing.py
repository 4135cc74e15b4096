"""What the driver commits it has seen itself, and it always gets an answer."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import tiny_run

from mfsynth.runs import committing
from mfsynth.runs.committing import Committer
from mfsynth.runs.events import CommitFailed, ShardCommitted, ShardLost
from mfsynth.runs.watching.notices import failure_in
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.gc import collect
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    """A run of one committed shard."""
    return tiny_run.make_run(str(tmp_path / "run"), 1)


def answers(store, receipt, known=()):
    with Committer(store, {*known}) as committer:
        committer.begin(receipt)
        return committer.take_all()


def test_what_is_there_is_committed(store):
    receipt = tiny_run.upload_shard(store, 1)
    assert answers(store, receipt) == [ShardCommitted(receipt)]
    assert read_commits(store)[1] == receipt
    # Again, after the acknowledgement was lost.
    assert answers(store, receipt) == [ShardCommitted(receipt)]


@pytest.mark.parametrize("kind", layout.OBJECT_KINDS)
@pytest.mark.parametrize("damage", ["missing", "short", "elsewhere"])
def test_what_the_driver_does_not_see_as_it_was_made_is_not_committed(
    store, tmp_path, kind, damage
):
    there = tiny_run.make_run(str(tmp_path / "elsewhere"), 1) if damage == "elsewhere" else store
    receipt = tiny_run.upload_shard(there, 1)
    key = receipt.objects[kind].key
    if damage == "missing":
        store.delete(key)
    if damage == "short":
        store.put_bytes(key, b"half")
    [answer] = answers(store, receipt)
    assert isinstance(answer, ShardLost)
    assert answer.shard == 1
    named = receipt.objects["tar"].key if damage == "elsewhere" else key
    assert f"{store.url}/{named} " in answer.message
    assert "give an output that all nodes share" in answer.message
    assert "\n" not in answer.message
    notice = failure_in(answer)
    assert (notice.cause, notice.shard) == ("store", 1)
    assert notice.text.startswith("shard 1 is made again: ")
    assert [*read_commits(store)] == [0]


def test_what_gc_has_marked_is_not_committed(store):
    receipt = tiny_run.upload_shard(store, 1)
    collect(store, timedelta())
    [answer] = answers(store, receipt)
    assert isinstance(answer, ShardLost)
    assert "is marked by gc" in answer.message
    heir = tiny_run.upload_shard(store, 1)
    assert answers(store, heir) == [ShardCommitted(heir)]
    tiny_run.collect_all(store)
    assert read_commits(store)[1] == heir


def test_what_gc_removes_between_the_looks_is_not_committed(store, monkeypatch):
    """By a gc that began before this driver, which was suspended, beat again."""
    receipt = tiny_run.upload_shard(store, 1)
    begun = datetime.now(UTC)
    collect(store, timedelta(), now=begun)
    looked = {committing.condemned_keys, committing.lacking_objects}

    def after(look):
        def run(*args):
            found = look(*args)
            looked.discard(look)
            if looked:
                collect(store, timedelta(), now=begun + timedelta(days=2))
            return found

        return run

    for look in [*looked]:
        monkeypatch.setattr(committing, look.__name__, after(look))
    [answer] = answers(store, receipt)
    assert isinstance(answer, ShardLost)
    assert [*read_commits(store)] == [0]


def test_a_shard_that_another_driver_has_committed_is_known_with_all_that_it_did(store):
    others = [tiny_run.upload_shard(store, shard) for shard in (1, 2)]
    for other in others:
        assert commit(store, other)
    mine = tiny_run.upload_shard(store, 1)
    assert answers(store, mine, known=[0]) == [ShardCommitted(other) for other in others]
    # Also where what was made here is gone.
    store.delete(mine.objects["tar"].key)
    assert answers(store, mine, known=[0]) == [ShardCommitted(other) for other in others]


@pytest.mark.parametrize("listing", ["stale", "failing"])
def test_a_lost_create_is_answered_from_the_key_whatever_the_listing_shows(
    store, monkeypatch, listing
):
    other = tiny_run.upload_shard(store, 1)
    assert commit(store, other)

    def entries(self, prefix=""):
        if listing == "failing":
            raise StoreError("can't list")
        return []

    monkeypatch.setattr(ObjectStore, "entries", entries)
    monkeypatch.setattr("mfsynth.runs.committing.condemned_keys", lambda store: set())
    mine = tiny_run.upload_shard(store, 1)
    assert answers(store, mine) == [ShardCommitted(other)]


def test_a_receipt_that_is_a_link_is_the_one_that_it_points_to(store, tmp_path):
    other = tiny_run.upload_shard(store, 1)
    (tmp_path / "blob").write_text(other.to_json())
    link = store.local_root / layout.commit_key(1)
    link.symlink_to(tmp_path / "blob")
    mine = tiny_run.upload_shard(store, 1)
    assert answers(store, mine, known=[0]) == [ShardCommitted(other)]
    (tmp_path / "blob").unlink()
    [answer] = answers(store, mine)
    assert isinstance(answer, CommitFailed)
    assert f"{link} is a link to what isn't there" in answer.message


def test_a_receipt_that_goes_or_is_damaged_meanwhile_is_an_answer_too(store, monkeypatch):
    mine = tiny_run.upload_shard(store, 1)
    store.put_bytes(layout.commit_key(1), b"{")
    [answer] = answers(store, mine)
    assert isinstance(answer, CommitFailed)
    assert "000001.json: not a receipt" in answer.message
    store.delete(layout.commit_key(1))

    def exists(source, target):
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", exists)
    [answer] = answers(store, mine)
    assert isinstance(answer, CommitFailed)
    assert answer.message.endswith("000001.json is gone, or not seen yet")


def test_a_damaged_receipt_of_another_shard_stops_only_its_own(store):
    store.put_bytes(layout.commit_key(5), b"{")
    other = tiny_run.upload_shard(store, 1)
    assert commit(store, other)
    mine = replace(tiny_run.upload_shard(store, 1), worker="me")
    assert answers(store, mine, known=[0]) == [ShardCommitted(other)]
