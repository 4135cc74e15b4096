from __future__ import annotations

import multiprocessing
import uuid

import pytest
import tiny_run
from tiny_run import upload_shard

from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, gaps, read_commits
from mfsynth.shards.totals import totals
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore


@pytest.mark.parametrize("remote", [False, True])
def test_the_first_commit_of_a_shard_wins(store, remote):
    store = ObjectStore.open(f"memory://{uuid.uuid4().hex}/run") if remote else store
    first, second = upload_shard(store, 0), upload_shard(store, 0)
    assert commit(store, first)
    assert not commit(store, second)
    assert read_commits(store) == {0: first}


def test_the_winner_who_lost_the_acknowledgement_wins_again(store):
    receipt = upload_shard(store, 0)
    assert commit(store, receipt)
    assert commit(store, receipt)


def test_of_processes_that_race_exactly_one_commits(store):
    context = multiprocessing.get_context("spawn")
    count = 3
    barrier, results = context.Barrier(count), context.Queue()
    racers = [
        context.Process(target=tiny_run.race_to_commit, args=(store.url, barrier, results))
        for _ in range(count)
    ]
    for racer in racers:
        racer.start()
    answers = [results.get(timeout=120) for _ in racers]
    for racer in racers:
        racer.join(60)
    winners = [attempt for attempt, won in answers if won]
    assert winners == [read_commits(store)[0].attempt]


def test_commits_are_read_in_order_and_temporaries_are_no_commits(store):
    for shard in (2, 0):
        commit(store, upload_shard(store, shard))
    store.put_bytes("_commits/.000001.json.ab.part", b"{")
    commits = read_commits(store)
    assert list(commits) == [0, 2]
    assert gaps(commits) == [1]


def test_a_damaged_commit_is_one_clear_line_that_names_it(store):
    store.put_bytes("_commits/000003.json", b'{"run": ')
    with pytest.raises(MfsynthError, match=r"_commits/000003.json: not a receipt .*; .* delete it"):
        read_commits(store)


def test_a_receipt_under_the_name_of_another_shard_is_refused(store):
    store.put_bytes("_commits/000003.json", upload_shard(store, 0).to_json().encode())
    with pytest.raises(MfsynthError, match="is the receipt of shard 0"):
        read_commits(store)


def test_totals_are_sums_over_commits(run_store):
    sums = totals(read_commits(run_store).values())
    assert (sums.shards, sums.candidates, sums.accepted) == (3, 18, 8)
    assert (sums.rejected, sums.quarantined, sums.reasons) == (8, 2, {"registration": 8})
    assert sums.seconds == 6.0
    assert totals([]).accepted == 0


def test_a_commit_that_fails_commits_nothing(store, monkeypatch):
    receipt = upload_shard(store, 0)

    def fail(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.link", fail)
    with pytest.raises(StoreError, match="Permission denied"):
        commit(store, receipt)
    monkeypatch.undo()
    assert read_commits(store) == {}
    assert not store.list(layout.COMMITS_FOLDER)
