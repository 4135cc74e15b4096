from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import tiny_run

from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.drivers import beat
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.status import Pace, listed, pace_of, run_status


def test_status_is_a_sum_over_the_commits(run_store):
    tiny_run.upload_shard(run_store, 5)
    status = run_status(run_store)
    assert (status.shards, status.pairs, status.candidates) == (3, 8, 18)
    assert (status.rejected, status.quarantined) == (8, 2)
    assert status.reasons == {"registration": 8}
    assert status.acceptance == 8 / 18
    assert status.seconds_per_pair == 6 / 8
    assert status.missing_shards == ()
    text = "\n".join(status.lines())
    assert "pairs        8; 18 candidates, 44.4% accepted" in text
    assert "44.4%" in text


def test_status_names_gaps(run_store):
    run_store.delete(layout.commit_key(0))
    status = run_status(run_store)
    assert status.missing_shards == (0,)
    assert "shard 0: start the run again" in status.lines()[-1]


def test_a_run_that_just_began_has_a_status(store):
    open_run(store, tiny_run.make_manifest())
    status = run_status(store)
    assert (status.pairs, status.acceptance, status.seconds_per_pair) == (0, None, None)
    assert status.lines()


def test_many_shards_are_listed_in_short():
    assert listed([3]) == "shard 3"
    assert listed([*range(20)]) == "shards 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"


def test_status_says_what_took_the_time_and_where_it_was_made(run_store):
    status = run_status(run_store)
    assert (status.worker_seconds, status.seconds_by_phase) == (6.0, {"denoise": 3.0})
    assert status.hosts == {"here": 3}
    text = "\n".join(status.lines())
    assert "by phase     denoise 50%" in text
    assert "by machine   here" in text
    named = replace(status, seconds_by_phase={"encode_prompts": 3.0})
    assert "by phase     encode prompts 50%" in "\n".join(named.lines())


def receipts_at(run_store, *minutes):
    """A receipt of 4 pairs for each minute."""
    (receipt, *_) = read_commits(run_store).values()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        replace(receipt, created=(start + timedelta(minutes=m)).isoformat(timespec="seconds"))
        for m in minutes
    ]


def test_the_pace_is_that_of_the_newest_hour(run_store):
    # Two shards long ago, then 4 pairs every ten minutes; the oldest only says when they began.
    pace = pace_of(receipts_at(run_store, -5000, -4000, 40, 30, 20, 10, 0))
    assert pace == Pace(pairs_per_hour=pytest.approx(24.0), hours=pytest.approx(40 / 60))


@pytest.mark.parametrize("minutes", [(), (3,), (0, 0.5)])
def test_too_few_shards_tell_no_pace(run_store, minutes):
    assert pace_of(receipts_at(run_store, *minutes)) is None


def test_live_lines_of_a_run_from_elsewhere(run_store):
    status = replace(
        run_status(run_store),
        last_shard="2026-01-01T00:00:00+00:00",
        pace=Pace(24.0, 0.5),
        target_pairs=20,
    )
    lines = status.live_lines(datetime(2026, 1, 1, 0, 5, tzinfo=UTC))
    assert lines == [
        "state        no driver is at work, and 12 pairs are missing: the same command goes on",
        "last shard   5 min ago, 2026-01-01T00:00:00+00:00",
        "pace         24 pairs/h, seen over 30 min; 30 min to the 20 pairs of the first start",
    ]
    # A target that is reached, or that a later start raised, is no news.
    reached = replace(status, target_pairs=8)
    state, _, pace = reached.live_lines(datetime.now(UTC))
    assert state == "state        no driver is at work"
    assert "first start" not in pace
    assert "wanted" not in reached.lines()[1]
    assert status.lines()[1].startswith("pairs        8 of 20 wanted; 18 candidates")


def test_a_run_whose_source_has_ended_misses_nothing(run_store):
    status = replace(
        run_status(run_store), pace=Pace(24.0, 0.5), target_pairs=20, candidates_in_all=18
    )
    state, _, pace = status.live_lines(datetime.now(UTC))
    assert state == "state        no driver is at work"
    assert pace == "pace         24 pairs/h, seen over 30 min"
    assert status.lines()[1].startswith(
        "pairs        8 of 20 wanted, and its source has no more items; 18 candidates"
    )
    # Of 9 more candidates four are accepted, as before: ten minutes.
    longer = replace(status, candidates_in_all=27)
    state, _, pace = longer.live_lines(datetime.now(UTC))
    assert state.endswith(", and 12 pairs are missing: the same command goes on")
    assert pace.endswith("; 10 min to the end of its source")


def test_a_run_knows_how_many_candidates_its_source_has(store):
    manifest = tiny_run.make_manifest(source={"items": 9}, copies=2)
    open_run(store, manifest)
    assert run_status(store).candidates_in_all == 18


def test_a_driver_at_work_is_named_with_its_machine(run_store):
    beat(run_store, layout.new_heartbeat())
    [state, *_] = run_status(run_store).live_lines(datetime.now(UTC))
    assert state == f"state        a driver is at work, on {socket.gethostname()}"


def test_several_machines_have_their_numbers_of_shards(run_store):
    status = replace(run_status(run_store), hosts={"a": 12, "b": 1})
    assert "by machine   a (12 shards), b (1 shard)" in status.lines()
