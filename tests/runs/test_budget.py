"""What a run will take, as laws over measurements."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_snapshots import receipt

from mfsynth.errors import MfsynthError
from mfsynth.runs.budget import Amount, Measurement, budget
from mfsynth.shards.records import StoredObject

shards = st.lists(
    st.tuples(st.integers(0, 8), st.floats(0.1, 1000), st.integers(1, 10**6)), min_size=1
).filter(lambda rows: any(accepted for accepted, _, _ in rows))
targets = st.integers(1, 10**7)


def receipts_of(rows):
    return [
        replace(
            receipt(n, accepted, 8 - accepted),
            seconds={"total": seconds},
            objects={"tar": StoredObject("k", size, "0")},
        )
        for n, (accepted, seconds, size) in enumerate(rows)
    ]


def measured(rows, unit="pairs") -> Measurement:
    return Measurement.of("out/here", receipts_of(rows), unit)


@given(shards, targets)
def test_a_target_twice_as_large_takes_twice_as_much_up_to_one_shard(rows, target):
    speed = measured(rows)
    one, two = (budget(speed, target=n, shard_size=8) for n in (target, 2 * target))
    assert 2 * one.shards - 1 <= two.shards <= 2 * one.shards
    shard = one.worker_hours.value / one.shards
    assert two.worker_hours.value == pytest.approx(shard * two.shards)
    assert two.size.value == pytest.approx(one.size.value / one.shards * two.shards)


@given(shards, targets)
def test_shards_are_just_enough_at_the_acceptance_that_was_measured(rows, target):
    speed = measured(rows)
    plan = budget(speed, target=target, shard_size=8)
    assert plan.candidates == 8 * plan.shards
    pairs = plan.candidates / speed.candidates.value
    assert target - 1e-6 * target <= pairs < target + 8 / speed.candidates.value + 1e-6 * target


@given(shards, targets, st.floats(0.01, 100))
def test_a_machine_that_is_slower_takes_that_much_longer_and_costs_that_much_more(
    rows, target, factor
):
    slow = [(accepted, seconds * factor, size) for accepted, seconds, size in rows]
    one, other = (
        budget(measured(r), target=target, shard_size=8, price=2.0, workers=3) for r in (rows, slow)
    )
    assert other.shards == one.shards
    assert other.cost.value == pytest.approx(factor * one.cost.value)
    assert other.wall_hours.value == pytest.approx(factor * one.wall_hours.value)
    assert one.cost.value == pytest.approx(2.0 * one.worker_hours.value)


@given(shards, targets, st.integers(1, 1000))
def test_more_workers_are_never_slower_and_never_beat_one_shard(rows, target, workers):
    speed = measured(rows)
    plans = [
        budget(speed, target=target, shard_size=8, workers=n) for n in (1, workers, workers + 1)
    ]
    one, some, more = (plan.wall_hours.value for plan in plans)
    assert one == pytest.approx(plans[0].worker_hours.value)
    assert more <= some * (1 + 1e-9)
    assert some >= one / plans[0].shards * (1 - 1e-9)
    assert some >= one / workers * (1 - 1e-9)


@given(shards, targets, targets)
def test_what_is_there_needs_not_be_made(rows, target, there):
    speed = measured(rows)
    rest = budget(speed, target=target, shard_size=8, there=there)
    assert rest.shards == budget(speed, target=max(0, target - there), shard_size=8).shards
    assert (rest.shards == 0) == (there >= target)
    assert (rest.worker_hours.value == 0) == (there >= target)


@given(shards, targets, targets)
def test_a_source_ends_before_the_target_or_it_is_reached(rows, target, left):
    speed = measured(rows)
    free = budget(speed, target=target, shard_size=8)
    plan = budget(speed, target=target, shard_size=8, left=left)
    assert plan.candidates == min(free.candidates, left)
    assert plan.shards == -(-plan.candidates // 8)
    assert plan.short == max(0, target - round(plan.candidates / speed.candidates.value))
    assert free.short == 0
    assert any("the source ends before" in line for line in plan.lines()) == (plan.short > 0)


@given(shards.filter(lambda rows: len(rows) > 1))
def test_four_times_the_shards_halve_the_uncertainty(rows):
    few, many = measured(rows).seconds, measured(rows * 4).seconds
    assert many.value == pytest.approx(few.value)
    count = len(rows)
    expected = few.error * math.sqrt((count - 1) / count * 4 * count / (4 * count - 1)) / 2
    assert many.error == pytest.approx(expected, abs=1e-12)


def test_equal_shards_leave_no_uncertainty_and_one_shard_tells_none():
    assert measured([(6, 12.0, 600)] * 3).seconds == Amount(2.0, 0.0)
    assert measured([(6, 12.0, 600)]).seconds == Amount(2.0, None)


def test_a_target_in_candidates_needs_no_acceptance():
    plan = budget(measured([(0, 16.0, 800)] * 2, "candidates"), target=80, shard_size=8)
    assert (plan.shards, plan.candidates) == (10, 80)
    assert plan.worker_hours.value == pytest.approx(160 / 3600)
    assert plan.size.value == pytest.approx(8000)


def test_nothing_is_planned_from_a_run_without_a_pair():
    with pytest.raises(MfsynthError, match="none of 16 candidates was accepted"):
        measured([(0, 1.0, 1)] * 2)


def test_the_error_is_that_of_the_ratio_and_not_of_its_parts():
    # Seconds follow candidates exactly here: shards of other sizes are no uncertainty.
    assert Amount.ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]) == Amount(2.0, 0.0)
    assert Amount.ratio([1.0, 3.0], [1.0, 1.0]).error == pytest.approx(1.0)
