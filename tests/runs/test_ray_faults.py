"""Nodes, heads and drivers that are killed: real Ray processes on this machine."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from ray_nodes import NODE, wait_until
from standin import Behaviour, opener
from test_driver import Lines, assert_sound, drive, sample_ids
from test_kills import Process, commits, standin_process

from mfsynth.runs.driver import generate
from mfsynth.runs.events import Outcome
from mfsynth.runs.pool import cause_of_death
from mfsynth.runs.watching.notices import Committed, FailureNotice


class KillsARaylet(Lines):
    """A display that kills a node's raylet, and lets the run go on when the driver knows."""

    def __init__(self, nodes, behaviour):
        super().__init__()
        self.nodes, self.behaviour = nodes, behaviour
        self.shards = 0

    def tell(self, notice):
        super().tell(notice)
        match notice:
            case Committed():
                self.shards += 1
                if self.shards == 2:
                    self.nodes.raylet(self.nodes.nodes[0]).kill()
            case FailureNotice(cause="node_lost"):
                self.behaviour.go()


@pytest.mark.slow
def test_a_node_whose_raylet_is_killed_is_held_against_no_shard(run_folder, nodes, monkeypatch):
    monkeypatch.setattr("mfsynth.runs.driver.NODE_POLL_S", 0.5)
    run_folder.values["target"] = {"pairs": 40}
    run_folder.values["runtime"] = {"batch_size": 4, "device": "cpu", "max_attempts": 1}
    run_folder.values["runtime"]["ray_address"] = nodes.address
    behaviour = Behaviour(wait_from=24, scratch=str(run_folder.folder))
    display = KillsARaylet(nodes, behaviour)
    result = generate(run_folder.config(), open_worker=opener(behaviour), display=display)
    assert (result.outcome, result.reason) == (Outcome.FINISHED, "")
    # With `max_attempts: 1` a failure would have the shard made candidate by candidate.
    assert result.failures == {"node_lost": 1}
    assert_sound(run_folder)


def test_a_worker_that_cannot_be_reached_is_no_failure_of_its_shard():
    from ray.exceptions import ActorUnavailableError

    assert cause_of_death(ActorUnavailableError("Socket closed", b"0" * 16)) == (
        "its node does not answer",
        True,
    )


@pytest.mark.slow
def test_two_drivers_on_one_cluster_outlive_a_node_and_one_of_them(run_folder, nodes):
    run_folder.values["target"] = {"pairs": 60}
    run_folder.values["runtime"] |= {"ray_address": nodes.address, "workers": 1}
    scratch = str(run_folder.folder)
    faults = {"crash_once": [13, 29], "wait_from": 32, "scratch": scratch}
    first, second = (standin_process(run_folder, f"log-{i}.txt", **faults) for i in range(2))
    second.wait_for(lambda: commits(run_folder) >= 2)
    first.kill_group()
    nodes.raylet(nodes.nodes[0]).kill()
    nodes.add()
    third = standin_process(run_folder, "log-2.txt", **faults)
    Behaviour(scratch=scratch).go()
    for driver in (second, third):
        assert driver.end() == 0, driver.log.read_text()
        assert driver.log.read_text().splitlines()[-1].startswith("finished")
    assert_sound(run_folder)
    nodes.cluster.remove_node(nodes.nodes[0])  # its processes are dead, its place is not free
    wait_until(lambda: not nodes.workers())


@pytest.mark.slow
def test_a_driver_whose_own_node_dies_ends_with_one_line(run_folder, nodes):
    run_folder.values["runtime"] |= {"ray_address": nodes.address}
    process = standin_process(run_folder, seconds=3600.0)
    process.wait_for(lambda: len(nodes.workers()) == 2)
    nodes.raylet(nodes.cluster.head_node).kill()
    process.end()
    assert "failed the Ray node that the driver is on is gone" in last_line(process)


def head(folder: Path, log: str) -> tuple[Process, str]:
    """A cluster of one node that shares nothing with this process, as `ray start` makes it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ray = str(Path(sys.executable).with_name("ray"))
    options = ["--num-cpus=4", "--include-dashboard=false", "--include-log-monitor=false"]
    memory = f"--object-store-memory={NODE['object_store_memory']}"
    command = [ray, "start", "--head", f"--port={port}", *options, memory, "--block"]
    process = Process(command, folder / log)
    process.wait_for(lambda: "Ray runtime started" in process.log.read_text())
    return process, f"127.0.0.1:{port}"


def kill_all(process: Process) -> None:
    for stray in process.strays():
        stray.kill()
    process.popen.wait()


def last_line(process: Process) -> str:
    return process.log.read_text().splitlines()[-1]


@pytest.mark.slow
def test_a_driver_whose_head_is_killed_ends_with_one_line_and_goes_on_elsewhere(
    run_folder, cluster, monkeypatch
):
    with monkeypatch.context() as environment:
        # `ray start` would ask for the token that a home folder may hold.
        environment.setenv("RAY_AUTH_MODE", "disabled")
        started, address = head(run_folder.folder, "head.txt")
        run_folder.values["runtime"]["ray_address"] = address
        never = {"wait_from": 16, "scratch": str(run_folder.folder)}
        process = standin_process(run_folder, patience=2.0, **never)
    process.wait_for(lambda: commits(run_folder) >= 1)
    kill_all(started)
    process.end()
    assert last_line(process).startswith("failed the head of the Ray cluster (")
    assert last_line(process).endswith("start a cluster, then run the same command again")
    assert "Traceback" not in process.log.read_text()
    before = sample_ids(run_folder.output)
    run_folder.values["runtime"]["ray_address"] = cluster
    assert drive(run_folder.config()).outcome is Outcome.FINISHED
    assert_sound(run_folder)
    assert {*before} < {*sample_ids(run_folder.output)}
