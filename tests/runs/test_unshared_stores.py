"""Clusters whose nodes do not see the same files: folders of a node's own, other working folders.

A node of its own view is a real Ray node in a mount namespace of its own, where a fresh file system
lies over the folder of the run's output. That takes the right to mount.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ray_nodes import NODE, Nodes, wait_until
from required import require
from started import manifest_of
from test_driver import Lines, assert_sound, drive, sample_ids

from mfsynth.runs.doctor.examination import run_examination
from mfsynth.runs.doctor.findings import Severity, examine, ok
from mfsynth.runs.events import Outcome
from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore

Join = Callable[..., None]


@pytest.fixture
def head(monkeypatch) -> Iterator[Nodes]:
    """A cluster without room for a worker."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    started = Nodes(0)
    yield started
    started.cluster.shutdown()


@pytest.fixture
def join(head, run_folder, monkeypatch) -> Iterator[Join]:
    """Adds a node to which the folder of the output is another one; `then` prepares that."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        require("only who may mount can give a node files of its own")
    run_folder.output.mkdir()
    started: list[subprocess.Popen[bytes]] = []

    def add(then: str = "true") -> None:
        ray = [str(Path(sys.executable).with_name("ray")), "start", f"--address={head.address}"]
        ray += ["--num-cpus=2", f"--object-store-memory={NODE['object_store_memory']}", "--block"]
        mount = f"mount -t tmpfs none {run_folder.output}"
        script = f"{mount} && cd {run_folder.output} && {then} && cd / && exec {shlex.join(ray)}"
        command = ["unshare", "--mount", "sh", "-c", script]
        with (run_folder.folder / "node.txt").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        wait_until(lambda: "Ray runtime started" in (run_folder.folder / "node.txt").read_text())

    yield add
    for process in started:
        for child in psutil.Process(process.pid).children(recursive=True):
            # Some end with others.
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()


def joined(run_folder, head):
    run_folder.values["runtime"] = {"batch_size": 4, "device": "cpu", "max_attempts": 2}
    run_folder.values["runtime"]["ray_address"] = head.address
    return run_folder.config()


@pytest.mark.slow
def test_a_node_that_does_not_see_the_store_makes_nothing_and_the_others_all(
    run_folder, head, join
):
    join()
    head.add()
    display = Lines()
    result = drive(joined(run_folder, head), display)
    assert (result.outcome, result.reason) == (Outcome.FINISHED, "")
    assert_sound(run_folder)
    refusals = {note for note in display.notes if "as it is seen from" in note}
    for note in refusals:
        assert (
            f"{run_folder.output} has no run.json as it is seen from {socket.gethostname()}: "
            in note
        )
        assert note.endswith("give an output that all nodes share")
    assert refusals


@pytest.mark.slow
def test_where_no_node_sees_the_drivers_run_the_run_ends_with_one_line(run_folder, head, join):
    join("echo another > run.json")
    result = drive(joined(run_folder, head))
    assert result.outcome is Outcome.FAILED
    assert result.reason == (
        f"no worker could start: {run_folder.output} holds another run.json as it is seen from "
        f"{socket.gethostname()} than as the driver sees it: give an output that all nodes share"
    )
    assert sample_ids(run_folder.output) == []


@pytest.mark.slow
def test_the_doctor_says_before_a_run_that_a_node_sees_other_files(run_folder, head, join):
    join()
    head.add()
    with run_examination(joined(run_folder, head)) as probes:
        findings = dict(examine(probes))
    assert findings["cluster"] == ok("nodes: 2, workers: 2, each on cpu")
    assert (findings["versions"].severity, findings["nodes"].severity) == (Severity.OK,) * 2
    here = socket.gethostname()
    found = findings["same store"]
    assert found.severity is Severity.ERROR
    assert found.seen.startswith(f"{run_folder.output} is another place, or none, on {here} (")
    assert found.seen.endswith("): what the driver has written there isn't")
    assert [*run_folder.output.iterdir()] == []


@pytest.mark.slow
def test_objects_that_the_driver_does_not_see_are_not_committed(run_folder, head, join):
    config = joined(run_folder, head)
    store = ObjectStore.open(config.output)
    open_run(store, manifest_of(config))
    # The node has the run's own run.json, as after a copy, and nothing else in common.
    copy = run_folder.folder / "copy.json"
    copy.write_bytes(store.read_bytes(layout.RUN_KEY))
    join(f"cp {copy} run.json")
    display = Lines()
    result = drive(config, display)
    assert result.outcome is Outcome.FAILED
    assert f"{run_folder.output}/shards/small-" in result.reason
    assert f"is missing, though it was uploaded by {socket.gethostname()}" in result.reason
    assert any(note.startswith("shard 0 is made again: ") for note in display.notes)
    assert read_commits(store) == {}


def test_a_relative_output_is_one_place_though_the_nodes_are_in_other_folders(
    run_folder, cluster, monkeypatch
):
    monkeypatch.chdir(run_folder.folder)
    run_folder.values["runtime"]["ray_address"] = cluster
    run_folder.values["output"] = "out"
    result = drive(run_folder.config())
    assert (result.outcome, result.reason) == (Outcome.FINISHED, "")
    assert result.url == str(run_folder.output)
    assert_sound(run_folder)
    # Where the run is written down, it stays as it was given.
    assert '"output": "out"' in (run_folder.output / "run.json").read_text()
    monkeypatch.chdir(os.sep)
    run_folder.values["target"] = {"pairs": 30}
    run_folder.values["output"] = os.path.relpath(run_folder.output)
    assert drive(run_folder.config()).outcome is Outcome.FINISHED
    assert_sound(run_folder)
