"""Ray clusters of several nodes on this machine, and their processes."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

PATIENCE_S = 240
NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
# Ray's own patience with a silent node is half a minute.
IMPATIENT = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}


class Nodes:
    """A cluster of its own: a head without room for a worker, and nodes for one worker each."""

    def __init__(self, number: int) -> None:
        from ray.cluster_utils import Cluster

        head = NODE | {"num_cpus": 0, "include_dashboard": False, "_system_config": IMPATIENT}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self.cluster.address
        self.nodes = [self.add() for _ in range(number)]

    def add(self):
        return self.cluster.add_node(**NODE)

    def raylet(self, node) -> psutil.Process:
        [raylet] = node.all_processes["raylet"]
        return psutil.Process(raylet.process.pid)

    def workers(self) -> list[psutil.Process]:
        """Processes that hold a worker of any run."""
        found = []
        for node in [self.cluster.head_node, *self.cluster.worker_nodes]:
            for process in self.raylet(node).children(recursive=True):
                if "".join(process.cmdline()[:1]).startswith("ray::_Actor"):
                    found.append(process)
        return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
