"""When a run is complete, and what its configuration wants."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_snapshots import receipt

from mfsynth.config import RunConfig
from mfsynth.runs.ledger import ShardLedger
from mfsynth.runs.policy import Goal


@pytest.mark.parametrize(
    ("shards", "complete"), [([0, 1, 2], True), ([0, 1], False), ([0, 1, 3], False)]
)
def test_a_run_is_complete_when_its_target_is_reached_without_a_gap(shards, complete):
    goal = Goal(target=18, counts_pairs=True, shard_size=8)
    assert ShardLedger(goal, [receipt(shard, 6) for shard in shards]).is_complete is complete


def test_a_gap_below_a_commit_keeps_a_run_open_whatever_its_target():
    goal = Goal(target=1, counts_pairs=True, shard_size=8)
    assert not ShardLedger(goal, [receipt(0), receipt(2)]).is_complete


@pytest.mark.parametrize(
    ("target", "goal"),
    [({"pairs": 5}, Goal(5, True, 8)), ({"candidates": 16}, Goal(16, False, 8))],
)
def test_a_configuration_wants_pairs_or_candidates(target, goal, tmp_path: Path):
    config = RunConfig.model_validate(
        {
            "name": "small",
            "target": target,
            "shard_size": 8,
            "prompts": {"library": "tabletop"},
            "checks": {"validity": {}},
            "output": str(tmp_path),
        }
    )
    assert Goal.of(config) == goal
    assert goal.unit in target
