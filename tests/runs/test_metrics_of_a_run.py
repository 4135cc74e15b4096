"""What Prometheus reads of a run, from the endpoint of a real Ray node.

Run as a script it is that run, in a process of its own as real drivers are: counters and Ray's
settings are the process'.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict

import pytest
from standin import Behaviour, open_standin

from mfsynth.runs.watching.metrics import METRICS, GpuMemory
from mfsynth.shards.commits import read_commits
from mfsynth.shards.totals import totals
from mfsynth.storage.store import ObjectStore

PEAK = 123_456_789
PATIENCE_S = 60.0


def open_with_gpu(config, device):
    """A worker whose torch says that it has been on a GPU; run in the worker's process."""
    import torch

    torch.cuda.is_initialized = lambda: True
    torch.cuda.max_memory_allocated = lambda: PEAK
    return open_standin(config, device, behaviour=Behaviour(memory=2))


def exported(endpoint: str) -> dict[str, dict[str, float]]:
    """Values of mfsynth's metrics: by name, then by the label that is not Ray's."""
    text = urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=10).read().decode()
    ray_labels = ("Component", "NodeAddress", "SessionName", "Version", "WorkerId", "otel_", "run")
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, labels, value in re.findall(r"^(ray_mfsynth_\w+)\{(.*)\} (\S+)$", text, re.M):
        assert 'run="small"' in labels
        pairs = re.findall(r'(\w+)="([^"]*)"', labels)
        own = [v for k, v in pairs if not k.startswith(ray_labels)]
        found[name]["".join(own)] += float(value)
    return found


def main(path: str) -> None:
    """Make a run on a cluster that exports soon what changes; print what its endpoint says then."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    from mfsynth.config import load_config
    from mfsynth.runs.driver import generate

    node = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    often = {"_system_config": {"metrics_report_interval_ms": 200}}
    cluster = Cluster(initialize_head=True, head_node_args=node | often)
    ray.init(cluster.address, log_to_driver=False)
    (node,) = ray.nodes()
    ray.shutdown()
    endpoint = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"

    cloudpickle.register_pickle_by_value(sys.modules["standin"])
    config = load_config(path, [f"runtime.ray_address={cluster.address}"])
    result = generate(config, open_worker=open_with_gpu)
    # What a driver that ended told last is taken in by the node a moment later.
    end = time.monotonic() + PATIENCE_S
    while (found := exported(endpoint))["ray_mfsynth_pairs_total"][""] < result.totals.accepted:
        if time.monotonic() > end:
            break
        time.sleep(0.5)
    cluster.shutdown()
    print(json.dumps({"found": found, "failures": result.failures}))


@pytest.mark.slow
def test_prometheus_reads_what_the_receipts_say(run_folder):
    made = subprocess.run(
        [sys.executable, __file__, str(run_folder.file())], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout.splitlines()[-1])
    found, failures = said["found"], said["failures"]
    sums = totals(read_commits(ObjectStore.open(str(run_folder.output))).values())

    assert {*found} == {metric.exported for metric in METRICS} - {"ray_mfsynth_quarantined_total"}
    assert sums.accepted == len(run_folder.expected_ids())
    assert found["ray_mfsynth_pairs_total"] == {"": sums.accepted}
    assert found["ray_mfsynth_candidates_total"] == {"": sums.candidates}
    assert found["ray_mfsynth_shards_total"] == {"": sums.shards}
    assert found["ray_mfsynth_rejects_total"] == {"dynamic_range": sums.rejected}
    assert found["ray_mfsynth_failures_total"] == failures
    assert failures["out_of_memory"] >= 1
    phases = {phase: seconds for phase, seconds in sums.phases.items() if seconds}
    assert found["ray_mfsynth_phase_seconds_total"] == pytest.approx(phases)
    assert found["ray_mfsynth_gained"] == {"pairs": sums.accepted}
    assert found["ray_mfsynth_target"] == {"pairs": 20}
    # A run that ended has no workers.
    states = ("starting", "idle", "making", "writing")
    assert found["ray_mfsynth_workers"] == dict.fromkeys(states, 0.0)
    causes = ("store", "nodes", "workers", "ray")
    assert found["ray_mfsynth_waiting_seconds"] == dict.fromkeys(causes, 0.0)
    # The sum over the workers that made something.
    assert found["ray_mfsynth_gpu_memory_peak_bytes"][""] in (PEAK, 2 * PEAK)


def test_a_worker_without_a_gpu_reports_none_and_does_not_start_cuda():
    import torch

    GpuMemory("small").report()  # would fail: no Ray is running
    assert not torch.cuda.is_initialized()


if __name__ == "__main__":
    main(sys.argv[1])
