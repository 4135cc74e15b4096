"""SIGKILL, SIGTERM and second drivers: whole processes, nothing simulated but the model."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
import uuid
from pathlib import Path

import psutil
import pytest
from standin import Behaviour, as_arguments
from test_driver import assert_sound, sample_ids

from mfsynth.shards.commits import read_commits
from mfsynth.storage.store import ObjectStore

PATIENCE_S = 240
TOKEN = "MFSYNTH_TEST_TOKEN"


class Process:
    """A driver in a process group of its own, found again by a token in its environment."""

    def __init__(self, arguments: list[str], log: Path, **streams) -> None:
        self.token = uuid.uuid4().hex
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                arguments,
                **({"stdout": out, "stderr": subprocess.STDOUT} | streams),
                start_new_session=True,
                env={**os.environ, TOKEN: self.token},
            )

    def wait_for(self, condition) -> None:
        """Until the condition holds, or the process has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition() and self.popen.poll() is None:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def kill_group(self) -> None:
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def end(self) -> int:
        return self.popen.wait(PATIENCE_S)

    def strays(self) -> list[psutil.Process]:
        """Everything that this driver started and that still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(TOKEN) == self.token:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def standin_process(run_folder, log="log.txt", **behaviour) -> Process:
    return Process(as_arguments(run_folder.file(), Behaviour(**behaviour)), run_folder.folder / log)


def commits(run_folder) -> int:
    return len(list((run_folder.output / "_commits").glob("*.json")))


def objects(run_folder) -> int:
    return len([path for path in run_folder.output.rglob("*") if path.is_file()])


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_a_run_ends_with_the_same_ids(run_folder):
    rng = random.Random(0)
    run_folder.values["target"] = {"pairs": 60}
    killed = []
    for moment in sorted(rng.sample(range(40), 4)):
        # Another number of workers in each session: it must not matter.
        run_folder.values["runtime"]["workers"] = rng.randint(1, 3)
        process = standin_process(run_folder, seconds=0.05)
        process.wait_for(lambda moment=moment: objects(run_folder) >= moment)
        time.sleep(rng.uniform(0, 0.2))
        process.kill_group()
        killed.append(process)
    last = standin_process(run_folder)
    assert last.end() == 0, last.log.read_text()
    assert_sound(run_folder)
    for process in [*killed, last]:
        process.wait_for(lambda: True)
        deadline = time.monotonic() + 60
        while (strays := process.strays()) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not strays


def press_ctrl_c(process: Process) -> None:
    os.killpg(process.popen.pid, signal.SIGINT)  # a terminal sends it to the whole group


def end_the_group(process: Process) -> None:
    process.popen.send_signal(signal.SIGTERM)
    os.killpg(process.popen.pid, signal.SIGTERM)  # as `timeout` does, the one after the other


def hang_up(process: Process) -> None:
    os.killpg(process.popen.pid, signal.SIGHUP)


STOPS = (
    (press_ctrl_c, 128 + signal.SIGINT),
    (end_the_group, 128 + signal.SIGTERM),
    (hang_up, 128 + signal.SIGHUP),
)


# Ray starts four times.
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_stopped_run_finishes_the_shards_in_work_and_the_same_command_goes_on(run_folder):
    drained = []
    for stop, status in STOPS:
        run_folder.values["target"] = {"pairs": len(drained) + 200}
        before = commits(run_folder)
        process = standin_process(run_folder, f"{stop.__name__}.txt", seconds=0.1)
        process.wait_for(lambda before=before: commits(run_folder) >= before + 2)
        stop(process)
        assert process.end() == status
        assert "drained stopped on request" in process.log.read_text()
        assert "worker died" not in process.log.read_text()
        assert sample_ids(run_folder.output)[: len(drained)] == drained
        drained = sample_ids(run_folder.output)
    run_folder.values["target"] = {"pairs": len(drained) + 5}
    last = standin_process(run_folder)
    assert last.end() == 0, last.log.read_text()
    assert_sound(run_folder)
    assert sample_ids(run_folder.output)[: len(drained)] == drained


@pytest.mark.slow
def test_a_service_whose_processes_are_all_told_to_end_says_what_is_lost_and_goes_on(run_folder):
    """As systemd does by default."""
    run_folder.values["target"] = {"pairs": 200}
    process = standin_process(run_folder, seconds=0.1)
    process.wait_for(lambda: commits(run_folder) >= 2)
    for each in sorted(process.strays(), key=lambda each: each.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.terminate()
    assert process.end() == 128 + signal.SIGTERM, process.log.read_text()
    log = process.log.read_text()
    assert "drained stopped on request" in log
    assert "start a cluster" not in log
    assert "Traceback" not in log
    # A shard that another one overtook is missing, so that the target covers all that are there.
    shards = range(1 + max(read_commits(ObjectStore.open(str(run_folder.output)))))
    pairs = sum(len(run_folder.ids_of(shard)) for shard in shards)
    run_folder.values["target"] = {"pairs": pairs + 5}
    last = standin_process(run_folder)
    assert last.end() == 0, last.log.read_text()
    assert_sound(run_folder)


def test_a_run_that_waits_for_ray_can_be_stopped(run_folder):
    run_folder.values["runtime"]["ray_address"] = "127.0.0.1:1"
    process = standin_process(run_folder)
    process.wait_for(lambda: "for Ray to start (for 4.0 h yet" in process.log.read_text())
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == 128 + signal.SIGTERM
    assert "drained stopped on request while waiting: Ray does not start" in process.log.read_text()


@pytest.mark.slow
def test_a_second_signal_stops_at_once(run_folder):
    process = standin_process(run_folder, seconds=3600.0)
    process.wait_for(lambda: "starting workers" in process.log.read_text() or process.strays()[6:])
    process.popen.send_signal(signal.SIGINT)
    process.wait_for(lambda: "a second signal stops at once" in process.log.read_text())
    process.popen.send_signal(signal.SIGINT)
    assert process.end() == 128 + signal.SIGINT


@pytest.mark.slow
def test_two_drivers_on_one_run_share_the_work_and_make_every_sample_once(run_folder):
    run_folder.values["target"] = {"pairs": 40}
    drivers = [standin_process(run_folder, f"log-{i}.txt", seconds=0.02) for i in range(2)]
    for driver in drivers:
        assert driver.end() == 0, driver.log.read_text()
    assert_sound(run_folder)
