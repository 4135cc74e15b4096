"""How many workers there are and what each one has."""

from __future__ import annotations

import pytest

from mfsynth.config import RuntimeConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs.sizing import CPU_BATCH_SIZE, CUDA_BATCH_SIZE, WorkerResources

GPU_NODE = {"CPU": 8.0, "GPU": 4.0}
CPU_NODE = {"CPU": 5.0, "memory": 1e9}
HEAD = {"memory": 1e9}


def resources(*nodes, address="auto", **runtime):
    return WorkerResources.of(RuntimeConfig(ray_address=address, **runtime), nodes)


def test_every_gpu_of_a_cluster_gets_a_worker():
    found = resources(HEAD, GPU_NODE)
    assert found == WorkerResources(None, "cuda", 1, CUDA_BATCH_SIZE)
    assert found.bundle == {"CPU": 1, "GPU": 1}
    assert found.places([HEAD, GPU_NODE]) == 4
    assert found.places([HEAD, GPU_NODE, GPU_NODE, CPU_NODE]) == 8
    assert found.places([HEAD]) == 0


def test_a_worker_is_not_spread_over_nodes():
    found = resources(CPU_NODE)
    assert found == WorkerResources(None, "cpu", 2, CPU_BATCH_SIZE)
    assert found.places([CPU_NODE, CPU_NODE]) == 4  # ten cores, but two are left over


def test_a_cluster_that_is_only_a_head_has_no_place_yet():
    found = resources(HEAD)
    assert found.places([HEAD]) == 0
    assert found.places([HEAD, CPU_NODE]) == 2


def test_a_worker_fits_on_the_smallest_nodes():
    assert resources({"CPU": 1.0}).places([{"CPU": 1.0}] * 3) == 3


def test_a_gpu_with_too_few_cores_beside_it_is_no_place():
    assert resources(GPU_NODE).places([{"CPU": 2.0, "GPU": 4.0}]) == 2


def test_a_number_of_workers_is_kept_whatever_the_nodes():
    assert resources(CPU_NODE, workers=7).places([]) == 7


@pytest.mark.parametrize(
    ("cpus", "workers", "expected"),
    [(8.0, "auto", (4, 2)), (1.0, "auto", (1, 1)), (8.0, 3, (3, 2)), (2.0, 4, (4, 1))],
)
def test_the_cores_of_one_machine_are_shared_out(cpus, workers, expected):
    node = {"CPU": cpus}
    found = resources(node, address=None, workers=workers)
    assert (found.places([node]), found.threads) == expected


def test_a_gpu_that_is_not_there_is_one_clear_line():
    with pytest.raises(MfsynthError, match=r"runtime\.device: cuda, but Ray sees no GPU"):
        resources(CPU_NODE, device="cuda")
