"""What `mfsynth doctor` makes of disks, prompts, GPUs and nodes."""

from __future__ import annotations

import os
import resource
import tempfile

import pytest
import tiny_run

from mfsynth.config import ModelConfig, PromptsConfig
from mfsynth.errors import MfsynthError
from mfsynth.prompts import load_library
from mfsynth.runs.doctor import machine, nodes
from mfsynth.runs.doctor.findings import Severity, in_time, ok, warning
from mfsynth.runs.doctor.model_probes import knows_the_prompts
from mfsynth.runs.doctor.nodes import Node, Nodes
from mfsynth.runs.doctor.space import Demand, demand, has_room
from mfsynth.shards.commits import read_commits
from mfsynth.storage.store import ObjectStore

OK, NOTE, WARNING, ERROR = Severity


def test_bytes_to_come_are_measured_where_there_are_shards_and_bounded_where_not(
    run_folder, tmp_path
):
    config = run_folder.config(target={"candidates": 30}, shard_size=6)
    bound = demand(config, (16, 16), [])
    assert (bound.files, bound.source) == (20, "at most")
    assert bound.size == 5 * bound.shard > 30 * 16 * 16 * 5
    receipts = [*read_commits(tiny_run.make_run(str(tmp_path / "run"))).values()]
    measured = demand(config, (16, 16), receipts)
    a_shard = sum(r.objects[k].size for r in receipts for k in r.objects) / 3
    # Two of five shards are missing; the error is that of three unequal ones.
    assert measured.size > 2 * a_shard
    assert (measured.files, measured.source) == (8, "as 3 shards say")


def test_too_little_space_or_too_few_files_are_told(tmp_path, monkeypatch):
    store = ObjectStore.open(tmp_path / "not" / "there")
    wanted = Demand(2e9, 40, 1e8, "at most")

    def disk(free, files):
        sizes = os.statvfs_result((4096, 1000, 0, 0, free // 1000, 100, 0, files, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda path: sizes)
        return has_room(store, wanted)

    assert disk(3 * 10**9, 50).severity is OK
    found = disk(10**9, 50)
    assert found.severity is WARNING
    assert found.seen == ("1.0 GB free, 2.0 GB to come, at most")
    assert disk(3 * 10**9, 39).seen == "39 files (inodes) free, 40 to come"
    assert disk(10**8, 50).severity is WARNING
    assert has_room(store, None).severity is NOTE


def test_prompts_that_the_model_cannot_know_are_told_with_their_words():
    def known(name, **settings):
        library = load_library(name)
        texts = [library.prompt(i).text for i in range(50)]
        return knows_the_prompts(ModelConfig(), PromptsConfig(library=name, **settings), texts)

    found = known("tabletop_shapes")
    assert found == ok("all words of 50 are known, and none is cut")
    with pytest.raises(MfsynthError, match=r"^prompts: 50 of 50 prompts have words that"):
        known("kitchen")
    found = known("kitchen", allow_unknown=True)
    assert found.severity is WARNING
    assert "words that the model doesn't know (" in found.seen
    missing = ModelConfig(id="/no/such/model")
    settings = PromptsConfig(library="kitchen")
    assert knows_the_prompts(missing, settings, ["a red cube"]).seen.startswith("not compared: ")


def test_a_spool_folder_without_locks_or_room_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert machine.spools(None).severity is OK
    wanted = Demand(1e21, 4, 1e20, "at most")
    assert "a worker may need 200000000.0 TB" in machine.spools(wanted).seen
    locked = machine.fcntl.flock
    monkeypatch.setattr(machine.fcntl, "flock", lambda file, how: None)
    assert machine.spools(None).severity is WARNING
    monkeypatch.setattr(machine.fcntl, "flock", locked)
    assert [*tmp_path.iterdir()] == []


def test_a_limit_of_open_files_below_what_the_workers_take_is_told():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        assert machine.open_files(1).severity is OK
        found = machine.open_files(1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.line == (
        "a limit of 1024, a driver may open 3300; ulimit -n 4096 before it starts"
    )


H100 = "NVIDIA H100, 81559 MiB, 580.65"


@pytest.mark.parametrize(
    ("listed", "device", "severity", "seen"),
    [
        ("", "auto", OK, "no GPU: the model runs on the CPU"),
        ("", "cuda", ERROR, "runtime.device: cuda, but torch"),
        (
            "NVIDIA H100, 81559 MiB, 580.65",
            "auto",
            WARNING,
            "NVIDIA H100, driver 580.65, but torch",
        ),
        (H100, "cuda", ERROR, "NVIDIA H100, driver 580.65, but torch"),
    ],
)
def test_a_gpu_that_torch_does_not_see_is_told(
    run_folder, tmp_path, monkeypatch, listed, device, severity, seen
):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{listed}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    config = run_folder.config(runtime={"device": device})
    found = in_time(lambda: machine.gpus_here(config), 60)
    assert (found.severity, found.seen[: len(seen)]) == (severity, seen)


HERE = {"python": "3.11.7", "mfsynth": "1.0", "torch": "2.9", "ray": "2.60"}


def test_nodes_that_differ_from_the_driver_are_named(monkeypatch):
    monkeypatch.setattr(nodes, "versions_here", lambda: HERE)
    same, old = Node("a", HERE), Node("b", {**HERE, "torch": "2.8"})
    lacking = Node("c", {**HERE, "mfsynth": "none"}, problem="ModuleNotFoundError: mfsynth")
    assert nodes.same_versions(Nodes([same], 1, "cpu")).severity is OK
    assert nodes.same_versions(Nodes([same, old], 1, "cpu")) == warning(
        "torch 2.8, not 2.9: b", "install on every node what the driver has"
    )
    assert nodes.same_versions(Nodes([old, lacking], 1, "cpu")).severity is ERROR
    found = nodes.same_store(Nodes([same, lacking], 1, "cpu"), "/run")
    assert found.line == (
        "/run is another place, or none, on c: ModuleNotFoundError: mfsynth; give an output that "
        "all nodes share"
    )
    silent = Node("d", {}, silent="node died")
    assert nodes.all_answer(Nodes([same, silent], 2, "cpu")).severity is ERROR
    assert nodes.all_answer(Nodes([], 0, "cuda")).severity is WARNING
