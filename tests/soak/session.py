"""The run of the soak, what it runs on, and what becomes of both."""

from __future__ import annotations

import heapq
import json
import random
import re
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import yaml
from driving import DOWN
from machines import NODES, TOKEN, Cluster, Process, last_line

from mfsynth.runs.signals import STOPPING
from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.storage.store import ObjectStore

NAME = "soak"
SHARD_SIZE = 16
BATCH = 4
# On two cores with nothing else to do; multiplied by the pace.
DEADLINE_S = 60.0
SECONDS_BETWEEN_FAULTS = 15.0
# A driver whose cluster is gone must have ended by itself.
ENDS_WITHIN_S = 180.0
# In which something must be committed, whatever goes wrong.
STANDSTILL_S = 300.0
# Longer than the store is away.
PATIENCE_S = 900.0
NEVER = 10**9
HERE = Path(__file__).parent
# How a driver may end by itself while its cluster and its store are taken away from it.
REASONS = {
    "the cluster's head is gone": r"the head of the Ray cluster .* has not answered",
    "the driver's node is gone": r"the Ray node that the driver is on is gone",
    "no cluster to join": r"Ray does not start",
    "no node": r"no node to work on",
    "no place for a worker": r"no worker could start: silent for",
    "no node that sees the store": r"no worker could start: .* as it is seen from",
    "a node kept what it made for itself": r"is missing, though it was uploaded by",
    "the store is down": r"the store is down",
}
# How gc may end without having done anything.
REFUSALS = {
    "a driver was at work": r"a driver is at work",
    "a shard was missing": r"missing; start the run again to fill the gaps",
    "there was no run yet": r"is not a run",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, how often in a round of faults, and what brings it about."""

    name: str
    times: int
    happen: Callable[[Soak], str]


@dataclass(slots=True)
class Collected:
    """What gc did beside the run.

    Attributes:
        refused: How often it did nothing, by reason.
        marked: Objects that it named in tombstones.
        removed: Objects that it deleted.
        calls: How often it did its work.
    """

    refused: Counter[str]
    marked: int = 0
    removed: int = 0
    calls: int = 0


class Soak:
    """The run, what it runs on, and what befalls it."""

    def __init__(self, folder: Path, seed: int, pace: float) -> None:
        self.folder, self.pace = folder, pace
        self.ends_within_s = pace * ENDS_WITHIN_S
        self.rng = random.Random(seed)
        self.token = uuid.uuid4().hex
        self.logs = folder / "logs"
        for path in (self.logs, folder / "tmp", folder / "elsewhere" / "blobs"):
            path.mkdir(parents=True)
        self.output = folder / "out"
        self.output.mkdir()
        for name in (layout.COMMITS_FOLDER, layout.FOLDERS["tar"]):
            (folder / "elsewhere" / name).mkdir()
            (self.output / name).symlink_to(folder / "elsewhere" / name)
        self.log = (folder / "faults.log").open("w", buffering=1)
        self.began = time.monotonic()
        self.happened: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.problems: list[str] = []
        self.later: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.drivers: dict[Process, float | None] = {}  # and when it must have ended, if at all
        self.killed: set[Process] = set()
        self.asked: set[Process] = set()
        self.sessions = 0
        self.rest_until: float | None = None
        self.target = NEVER
        self.cluster = Cluster(self.logs, self.token)
        self.commits, self.progress_at = 0, time.monotonic()
        self.collections = 0
        self.collector = self.start_collector()

    @property
    def store(self) -> ObjectStore:
        return ObjectStore.open(str(self.output))

    def say(self, what: str, detail: str = "") -> None:
        self.log.write(f"{time.monotonic() - self.began:8.1f} s  {what}  {detail}".rstrip() + "\n")

    def wrong(self, what: str) -> None:
        self.problems.append(what)
        self.say("PROBLEM", what)

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self.later, (time.monotonic() + seconds, next(self.order), happen))

    # --- drivers

    def config(self, workers: int | str) -> dict[str, Any]:
        return {
            "name": NAME,
            "target": {"pairs": self.target},
            "shard_size": SHARD_SIZE,
            "prompts": {"library": "tabletop"},
            "sampler": {"steps": 1},
            "checks": {"validity": {}},
            "output": str(self.output),
            "runtime": {
                "workers": workers,
                "batch_size": BATCH,
                "device": "cpu",
                "deadline_s": DEADLINE_S * self.pace,
                "patience": PATIENCE_S * self.pace,
                "ray_address": self.cluster.address,
            },
        }

    def start_driver(self, workers: int | str = "auto", *, unheard: bool = False) -> Process:
        self.sessions += 1
        path = self.folder / f"run-{self.sessions}.yaml"
        path.write_text(yaml.safe_dump(self.config(workers)))
        command: list[str | Path] = [sys.executable, HERE / "driving.py", path]
        log = self.logs / f"driver-{self.sessions}.txt"
        driver = Process(command, log, self.token, unheard=unheard)
        self.drivers[driver] = None
        self.say(f"driver {self.sessions} starts", f"{workers} workers")
        return driver

    def a_driver(self) -> Process | None:
        return self.rng.choice([*self.drivers]) if self.drivers else None

    def look_at_drivers(self) -> None:
        for driver, deadline in [*self.drivers.items()]:
            if driver.runs:
                if deadline is not None and time.monotonic() > deadline:
                    if driver not in self.asked and self.may_wait_for_ray(driver):
                        # As a person would do: the head that it waits for never comes back.
                        self.asked.add(driver)
                        driver.send(signal.SIGTERM)
                        self.drivers[driver] = time.monotonic() + self.ends_within_s
                        continue
                    self.wrong(f"{driver.log.name}: did not end by itself: {last_line(driver.log)}")
                    self.killed.add(driver)
                    driver.send(signal.SIGKILL)
                continue
            del self.drivers[driver]
            end = self.how_it_ended(driver)
            self.ends[end] += 1
            self.say(f"{driver.log.stem} ended", end)

    def may_wait_for_ray(self, driver: Process) -> bool:
        return driver.unheard or "for Ray to start" in last_line(driver.log)

    def how_it_ended(self, driver: Process) -> str:
        line, status = last_line(driver.log), driver.popen.returncode
        if driver in self.killed:
            return "killed"
        if line.startswith("drained ") and status - 128 in STOPPING:
            return "drained"
        if line.startswith("finished") and status == 0 and self.target != NEVER:
            return "finished"
        for name, pattern in REASONS.items():
            if line.startswith("failed ") and re.search(pattern, line):
                return f"failed: {name}"
        self.wrong(f"{driver.log.name}: ended with status {status}: {line}")
        return "unexpected"

    # --- gc

    def start_collector(self) -> Process:
        self.collections += 1
        log = self.logs / f"gc-{self.collections}.txt"
        return Process([sys.executable, HERE / "collecting.py", self.output], log, self.token)

    def collected(self) -> Collected:
        """What its collectors say that they did; what is none of `REFUSALS` is a problem."""
        done = Collected(Counter())
        committed = {o.key for r in read_commits(self.store).values() for o in r.objects.values()}
        for number in range(1, self.collections + 1):
            for line in (self.logs / f"gc-{number}.txt").read_text().splitlines():
                try:
                    said = json.loads(line)
                except ValueError:
                    self.wrong(f"gc {number}: {line}")
                    continue
                if (refusal := said.get("refused")) is not None:
                    names = [name for name, what in REFUSALS.items() if re.search(what, refusal)]
                    done.refused.update(names)
                    if not names:
                        self.wrong(f"gc {number}: {refusal}")
                    continue
                done.calls += 1
                done.marked += len(said["marked"])
                done.removed += len(said["removed"])
                if lost := committed & {*said["removed"]}:
                    self.wrong(f"gc {number} removed what was committed: {sorted(lost)}")
        return done

    # --- time

    def keep_going(self) -> None:
        """What people and schedulers do: start again what is gone."""
        while self.later and self.later[0][0] <= time.monotonic():
            heapq.heappop(self.later)[2]()
        self.look_at_drivers()
        if self.cluster.lost():
            self.say("a node ended")
        while len(self.cluster.nodes) < NODES:
            self.cluster.add()
            self.say("a node is added")
        if not self.collector.runs:
            self.collector = self.start_collector()
        if not self.drivers:
            self.go_on_or_rest()
        folder = self.output / layout.COMMITS_FOLDER
        commits = sum(1 for _ in folder.glob("*.json"))
        if commits != self.commits or (self.folder / DOWN).exists():
            self.commits, self.progress_at = commits, time.monotonic()
        if time.monotonic() > self.progress_at + STANDSTILL_S * self.pace:
            self.wrong(f"nothing was committed for {STANDSTILL_S * self.pace:g} s")
            self.progress_at = time.monotonic()

    def go_on_or_rest(self) -> None:
        """Start a driver, after a rest in which gc may find nobody at work."""
        if self.rest_until is None:
            rest = self.rng.choice([0.0, self.rng.uniform(15, 40)])
            self.rest_until = time.monotonic() + rest
        if time.monotonic() >= self.rest_until:
            self.rest_until = None
            # A number of workers must not matter either.
            numbers: list[int | str] = ["auto", "auto", 2]
            self.start_driver(self.rng.choice(numbers))

    def suffer(self, seconds: float, faults: Sequence[Fault]) -> None:
        """Rounds of all faults in random order; some last, and meet others."""
        every = SECONDS_BETWEEN_FAULTS * self.pace
        end = time.monotonic() + seconds
        self.start_driver()
        next_fault = time.monotonic() + 15
        round_of_faults: list[Fault] = []
        while time.monotonic() < end:
            self.keep_going()
            if time.monotonic() >= next_fault:
                if not round_of_faults:
                    round_of_faults = [fault for fault in faults for _ in range(fault.times)]
                    self.rng.shuffle(round_of_faults)
                fault = round_of_faults.pop()
                if detail := fault.happen(self):
                    self.happened[fault.name] += 1
                    self.say(fault.name, detail)
                next_fault = time.monotonic() + self.rng.expovariate(1 / every)
            time.sleep(0.5)

    def come_to_an_end(self) -> None:
        """No more faults: drain, then go on to a target that no session has reached."""
        self.say("no more faults")
        for _, _, happen in sorted(self.later):
            happen()
        self.later.clear()
        self.collector.kill_all()
        for driver in self.drivers:
            driver.send(signal.SIGTERM)
            self.drivers[driver] = time.monotonic() + 2 * self.ends_within_s
        while self.drivers:
            self.look_at_drivers()
            time.sleep(0.5)
        self.cluster.kill()
        self.cluster.begin()
        self.target = 1 + sum(receipt.accepted for receipt in read_commits(self.store).values())
        self.say("the target is set", f"{self.target} pairs")
        # On a busy machine nodes may come later than a driver's patience ends.
        for _ in range(3):
            last = self.start_driver()
            self.drivers[last] = time.monotonic() + 10 * self.ends_within_s
            while self.drivers:
                self.look_at_drivers()
                time.sleep(0.5)
            if last_line(last.log).startswith("finished"):
                break
        if not last_line(last.log).startswith("finished"):
            self.wrong(f"the run did not finish: {last_line(last.log)}")
        self.cluster.kill()

    def strays(self) -> list[psutil.Process]:
        """What it started, directly or not, and what still runs."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(TOKEN) == self.token:
                    found.append(process)
        return found
