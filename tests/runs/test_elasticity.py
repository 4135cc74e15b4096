"""Nodes that join and leave while a run goes on, as Ray nodes on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from standin import Behaviour, opener
from test_driver import Lines, assert_sound

from mfsynth.runs.driver import generate
from mfsynth.runs.events import Outcome
from mfsynth.runs.watching.notices import Announcement, Committed

NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20}


@pytest.fixture
def headed() -> Iterator:
    """A cluster of its own whose head has no room for a worker."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
    from ray.cluster_utils import Cluster

    head = NODE | {"num_cpus": 0, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()


class Nodes(Lines):
    """A display that adds and takes away nodes as the run comes along."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster
        self.nodes = []
        self.shards = 0

    def tell(self, notice):
        super().tell(notice)
        match notice:
            case Announcement("waiting_for_node"):
                self.add()
            case Committed():
                self.shards += 1
                if self.shards == 2:
                    self.add()
                if self.shards == 10:
                    self.cluster.remove_node(self.nodes.pop(0))

    def add(self):
        self.nodes.append(self.cluster.add_node(**NODE))


@pytest.mark.slow
def test_nodes_that_join_get_workers_and_one_that_leaves_costs_nothing(
    run_folder, headed, monkeypatch
):
    monkeypatch.setattr("mfsynth.runs.driver.NODE_POLL_S", 0.5)
    run_folder.values["target"] = {"pairs": 120}
    run_folder.values["runtime"] = {"batch_size": 4, "device": "cpu", "max_attempts": 1}
    run_folder.values["runtime"]["ray_address"] = headed.address
    display = Nodes(headed)
    result = generate(
        run_folder.config(), open_worker=opener(Behaviour(seconds=0.3)), display=display
    )
    assert (result.outcome, result.reason) == (Outcome.FINISHED, "")
    assert_sound(run_folder)
    notes = display.notes
    assert notes[1].startswith("waiting for a node with room for a worker")
    assert "room for 1 workers, 0 before" in notes
    assert "room for 2 workers, 1 before" in notes
    assert "room for 1 workers, 2 before" in notes
    # With `max_attempts: 1` a failure would isolate the shard; a lost node is none.
    assert "worker 0: its node is gone" in notes
