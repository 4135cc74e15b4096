"""A long run under random faults, compared with one that had none.

    python tests/soak/soak.py [--minutes 30] [--seed 0] [--folder FOLDER]

Starts a Ray cluster of several nodes on this machine, and a driver on it with real workers, a real
store and a model that costs nothing. Every few seconds something goes wrong: `FAULTS` says what.
Whatever ended is started again, as a person or a scheduler would. After the given minutes the
faults stop, the run is given a target that it has not reached yet, and ends. Then every sample is
compared with that of a run in this process in which nothing went wrong.

Prints a Markdown summary and exits with a status other than 0 if anything is not as it should be.
`FOLDER/faults.log` has a line for every fault and every end of a driver; the drivers' own logs are
beside it.
"""

from __future__ import annotations

import heapq
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from mfsynth.config import RunConfig, load_config
from mfsynth.errors import MfsynthError
from mfsynth.models import model_info
from mfsynth.prompts import derive_seed, open_prompts
from mfsynth.runs.driver import run_manifest
from mfsynth.runs.plan import Candidate, RunPlan
from mfsynth.runs.protocol import Assignment, Made, Message
from mfsynth.runs.settings import complete, run_fingerprint
from mfsynth.runs.worker import ShardWorker
from mfsynth.shards import layout
from mfsynth.shards.commits import open_run, read_commits
from mfsynth.shards.gc import collect, garbage
from mfsynth.shards.records import Receipt
from mfsynth.shards.verify import verify_run
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore

NAME = "soak"
SHARD_SIZE = 16
BATCH = 4
SIZE = 16  # pixels
SECONDS_A_CANDIDATE = 0.1
CRASHING = 1500  # one candidate in so many always kills its worker
DEADLINE_S = 60.0
NODES, CORES_A_NODE = 2, 2
SECONDS_BETWEEN_FAULTS = 15.0
# A driver whose cluster is gone must have ended by itself.
ENDS_WITHIN_S = 180.0
# In which something must be committed, whatever goes wrong.
STANDSTILL_S = 300.0
NEVER = 10**9
TOKEN = "MFSYNTH_SOAK"
DOWN, SCARCE, ATTEMPTS = "store-is-down", "memory-is-scarce", "attempts.txt"
# How a driver may end by itself while its cluster and its store are taken away from it.
REASONS = {
    "the cluster's head is gone": r"the head of the Ray cluster .* has not answered",
    "the driver's node is gone": r"the Ray node that the driver is on is gone",
    "no cluster to join": r"Ray does not start",
    "no node": r"no node to work on",
    "no place for a worker": r"no worker could start: silent for",
    "the store is down": r"the store is down",
}


# --- the model, the worker and the driver ---------------------------------------------------


@dataclass
class Pairs:
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]


def crashes(seed: int) -> bool:
    return derive_seed(seed, "crash") % CRASHING == 0


def accepted(seed: int) -> bool:
    """Whether the pair's dynamic range passes the validity check."""
    return derive_seed(seed, "good") % 4 != 0


class StandIn:
    """Noise in front of a step in depth. What misbehaves is told by files in `folder`."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds

    def encode_prompts(self, prompts: Sequence[str], batch_size: int) -> list[str]:
        return list(prompts)

    def __call__(self, *, seeds: Sequence[int], **settings: Any) -> Pairs:
        if len(seeds) > 1 and (self.folder / SCARCE).exists():
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        for seed in seeds:
            if crashes(seed):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.seconds)
        rgb = [np.random.default_rng(s).integers(0, 256, (SIZE, SIZE, 3), np.uint8) for s in seeds]
        depth = np.ones((len(seeds), SIZE, SIZE), np.float32)
        for row, seed in enumerate(seeds):
            depth[row, :, SIZE // 2 :] = 2.0 if accepted(seed) else 1.05
        return Pairs(np.stack(rgb), depth)


class CountingWorker:
    """A real worker that notes every attempt that it begins."""

    def __init__(self, worker: ShardWorker, attempts: Path) -> None:
        self.worker, self.attempts = worker, attempts

    def make_shard(
        self, assignment: Assignment, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        with self.attempts.open("a") as file:
            file.write(f"{assignment.shard} {assignment.attempt}\n")
        yield from self.worker.make_shard(assignment, candidates)


def let_the_store_fail(folder: Path) -> None:
    """Make this process's writes fail while there is a file that says so."""
    for name in ("put_file", "create_if_absent"):
        write = getattr(ObjectStore, name)

        def fail_or_write(self: ObjectStore, *args: Any, write: Any = write) -> Any:
            if (folder / DOWN).exists():
                raise StoreError(f"can't write {self.url}: the store is down")
            return write(self, *args)

        setattr(ObjectStore, name, fail_or_write)


def open_worker(config: RunConfig, device: str, *, folder: Path) -> CountingWorker:
    let_the_store_fail(folder)
    worker = ShardWorker(config, StandIn(folder, SECONDS_A_CANDIDATE))
    return CountingWorker(worker, folder / ATTEMPTS)


def drive(config: Path) -> int:
    """What `mfsynth generate` does, with this model; its last line is how it ended."""
    from mfsynth.runs.driver import generate

    folder = config.parent
    let_the_store_fail(folder)
    try:
        result = generate(load_config(str(config)), open_worker=partial(open_worker, folder=folder))
    except MfsynthError as error:
        print("failed", error, flush=True)
        return 1
    print(result.outcome, result.reason, flush=True)
    return 128 + result.signal if result.signal else 0


# --- what it runs on ------------------------------------------------------------------------


class Process:
    """A process in a group of its own, with all that it starts."""

    def __init__(self, command: Sequence[str | Path], log: Path, token: str) -> None:
        environment = os.environ | {
            TOKEN: token,
            "TMPDIR": str(log.parent.parent / "tmp"),  # of Ray's sessions, too
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "120",
            "RAY_AUTH_MODE": "disabled",  # whatever tokens there are in the home folder
        }
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [*map(str, command)],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    @property
    def runs(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: int) -> None:
        if self.runs:
            self.popen.send_signal(number)

    def below(self, name: str) -> list[psutil.Process]:
        """Its descendants whose command begins with `name`."""
        found = []
        with suppress(psutil.Error):
            for process in psutil.Process(self.popen.pid).children(recursive=True):
                with suppress(psutil.Error, IndexError):
                    if Path(process.cmdline()[0]).name.startswith(name):
                        found.append(process)
        return found

    def kill_all(self) -> None:
        with suppress(psutil.Error):
            for process in psutil.Process(self.popen.pid).children(recursive=True):
                with suppress(psutil.Error):
                    process.kill()
        if self.runs:
            self.popen.kill()
        self.popen.wait()


RAY = Path(sys.executable).with_name("ray")
LEAN = (f"--object-store-memory={80 * 2**20}", "--include-log-monitor=false")


class Cluster:
    """A head without cores, and nodes, each as `ray start` starts it on a machine of its own."""

    def __init__(self, logs: Path, token: str) -> None:
        self.logs, self.token, self.names = logs, token, count()
        self.nodes: list[Process] = []
        self.begin()

    def begin(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        options = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
        self.head = self._start(options)
        self.nodes = []
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            if not self.head.runs:
                sys.exit(f"ray start --head: {last_line(self.head.log)}")
            time.sleep(0.2)
        for _ in range(NODES):
            self.add()

    def add(self) -> None:
        self.nodes.append(self._start([f"--address={self.address}", f"--num-cpus={CORES_A_NODE}"]))

    def lost(self) -> int:
        """Forget nodes that are gone; how many they were."""
        gone = [node for node in self.nodes if not node.runs]
        for node in gone:
            self.nodes.remove(node)
        return len(gone)

    def workers(self) -> list[psutil.Process]:
        return [worker for node in self.nodes for worker in node.below("ray::_Actor")]

    def kill(self) -> None:
        for process in [self.head, *self.nodes]:
            process.kill_all()

    def _start(self, options: Sequence[str]) -> Process:
        log = self.logs / f"node-{next(self.names)}.txt"
        return Process([RAY, "start", *options, *LEAN, "--block"], log, self.token)


# --- faults ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, how often in a round of faults, and what brings it about."""

    name: str
    times: int
    happen: Callable[[Soak], str]


class Soak:
    """The run, what it runs on, and what befalls it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.token = uuid.uuid4().hex
        self.logs = folder / "logs"
        for path in (self.logs, folder / "tmp"):
            path.mkdir(parents=True)
        self.log = (folder / "faults.log").open("w", buffering=1)
        self.began = time.monotonic()
        self.happened: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.problems: list[str] = []
        self.later: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.drivers: dict[Process, float | None] = {}  # and when it must have ended, if at all
        self.killed: set[Process] = set()
        self.sessions = 0
        self.target = NEVER
        self.cluster = Cluster(self.logs, self.token)
        self.commits, self.progress_at = 0, time.monotonic()

    @property
    def store(self) -> ObjectStore:
        return ObjectStore.open(str(self.folder / "out"))

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
            "output": str(self.folder / "out"),
            "runtime": {
                "workers": workers,
                "batch_size": BATCH,
                "device": "cpu",
                "deadline_s": DEADLINE_S,
                "ray_address": self.cluster.address,
            },
        }

    def start_driver(self, workers: int | str = "auto") -> Process:
        self.sessions += 1
        path = self.folder / f"run-{self.sessions}.yaml"
        path.write_text(yaml.safe_dump(self.config(workers)))
        command: list[str | Path] = [sys.executable, __file__, "--drive", path]
        driver = Process(command, self.logs / f"driver-{self.sessions}.txt", self.token)
        self.drivers[driver] = None
        self.say(f"driver {self.sessions} starts", f"{workers} workers")
        return driver

    def a_driver(self) -> Process:
        return self.rng.choice([*self.drivers])

    def look_at_drivers(self) -> None:
        for driver, deadline in [*self.drivers.items()]:
            if driver.runs:
                if deadline is not None and time.monotonic() > deadline:
                    self.wrong(f"{driver.log.name}: did not end by itself: {last_line(driver.log)}")
                    self.killed.add(driver)
                    driver.send(signal.SIGKILL)
                continue
            del self.drivers[driver]
            end = self.how_it_ended(driver)
            self.ends[end] += 1
            self.say(f"{driver.log.stem} ended", end)

    def how_it_ended(self, driver: Process) -> str:
        line, status = last_line(driver.log), driver.popen.returncode
        if driver in self.killed:
            return "killed"
        if line.startswith("drained ") and status in (128 + signal.SIGTERM, 128 + signal.SIGINT):
            return "drained"
        if line.startswith("finished") and status == 0 and self.target != NEVER:
            return "finished"
        for name, pattern in REASONS.items():
            if line.startswith("failed ") and re.search(pattern, line):
                return f"failed: {name}"
        self.wrong(f"{driver.log.name}: ended with status {status}: {line}")
        return "unexpected"

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
        if not self.drivers:
            # A number of workers must not matter either.
            numbers: list[int | str] = ["auto", "auto", 2]
            self.start_driver(self.rng.choice(numbers))
        folder = self.folder / "out" / layout.COMMITS_FOLDER
        commits = sum(1 for _ in folder.glob("*.json"))
        if commits != self.commits:
            self.commits, self.progress_at = commits, time.monotonic()
        if time.monotonic() > self.progress_at + STANDSTILL_S:
            self.wrong(f"nothing was committed for {STANDSTILL_S:g} s")
            self.progress_at = time.monotonic()

    def suffer(self, seconds: float) -> None:
        """Rounds of all faults in random order; some last, and meet others."""
        end = time.monotonic() + seconds
        self.start_driver()
        next_fault = time.monotonic() + 15
        round_of_faults: list[Fault] = []
        while time.monotonic() < end:
            self.keep_going()
            if time.monotonic() >= next_fault:
                if not round_of_faults:
                    round_of_faults = [fault for fault in FAULTS for _ in range(fault.times)]
                    self.rng.shuffle(round_of_faults)
                fault = round_of_faults.pop()
                if detail := fault.happen(self):
                    self.happened[fault.name] += 1
                    self.say(fault.name, detail)
                next_fault = time.monotonic() + self.rng.expovariate(1 / SECONDS_BETWEEN_FAULTS)
            time.sleep(0.5)

    def come_to_an_end(self) -> None:
        """No more faults: drain, then go on to a target that no session has reached."""
        self.say("no more faults")
        for _, _, happen in sorted(self.later):
            happen()
        self.later.clear()
        for driver in self.drivers:
            driver.send(signal.SIGTERM)
            self.drivers[driver] = time.monotonic() + 2 * ENDS_WITHIN_S
        while self.drivers:
            self.look_at_drivers()
            time.sleep(0.5)
        self.cluster.kill()
        self.cluster.begin()
        self.target = 1 + sum(receipt.accepted for receipt in read_commits(self.store).values())
        self.say("the target is set", f"{self.target} pairs")
        last = self.start_driver()
        self.drivers[last] = time.monotonic() + 10 * ENDS_WITHIN_S
        while self.drivers:
            self.look_at_drivers()
            time.sleep(0.5)
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


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else ""


# A fault that does not apply to how things stand says nothing, and does not count.


def kill_a_worker(soak: Soak) -> str:
    if not (workers := soak.cluster.workers()):
        return ""
    victim = soak.rng.choice(workers)
    with suppress(psutil.Error):
        victim.kill()
    return f"process {victim.pid}"


def hang_a_worker(soak: Soak) -> str:
    if not (workers := soak.cluster.workers()):
        return ""
    victim = soak.rng.choice(workers)
    with suppress(psutil.Error):
        victim.suspend()
    return f"process {victim.pid}, for good"


def kill_a_raylet(soak: Soak) -> str:
    node = soak.rng.choice(soak.cluster.nodes)
    for raylet in (raylets := node.below("raylet")):
        raylet.kill()
    return node.log.stem if raylets else ""


def hang_a_raylet(soak: Soak) -> str:
    """Ray takes the node for dead, while its workers go on: zombies."""
    node, seconds = soak.rng.choice(soak.cluster.nodes), soak.rng.uniform(20, 50)

    def wake(raylets: Sequence[psutil.Process]) -> None:
        for raylet in raylets:
            with suppress(psutil.Error):
                raylet.resume()

    raylets = node.below("raylet")
    for raylet in raylets:
        if raylet.status() == psutil.STATUS_STOPPED:
            return ""
        raylet.suspend()
    soak.after(seconds, partial(wake, raylets))
    return f"{node.log.stem} for {seconds:.0f} s" if raylets else ""


def add_a_node(soak: Soak) -> str:
    if len(soak.cluster.nodes) > NODES:
        return ""
    soak.cluster.add()
    return soak.cluster.nodes[-1].log.stem


def stop_a_node(soak: Soak) -> str:
    """As a machine that is taken away with notice."""
    node = soak.rng.choice(soak.cluster.nodes)
    node.send(signal.SIGTERM)
    return node.log.stem


def kill_a_driver(soak: Soak) -> str:
    driver = soak.a_driver()
    soak.killed.add(driver)
    driver.send(signal.SIGKILL)
    return driver.log.stem


def stop_a_driver(number: signal.Signals, soak: Soak) -> str:
    driver = soak.a_driver()
    if soak.drivers[driver] is not None or " pairs" not in driver.log.read_text():
        return ""
    driver.send(number)
    soak.drivers[driver] = time.monotonic() + 2 * ENDS_WITHIN_S
    return driver.log.stem


def suspend_a_driver(soak: Soak) -> str:
    driver, seconds = soak.a_driver(), soak.rng.uniform(5, 45)
    driver.send(signal.SIGSTOP)
    soak.after(seconds, partial(driver.send, signal.SIGCONT))
    return f"{driver.log.stem} for {seconds:.0f} s"


def start_a_second_driver(soak: Soak) -> str:
    if len(soak.drivers) > 1:
        return ""
    numbers: list[int | str] = [1, "auto"]
    driver, seconds = soak.start_driver(soak.rng.choice(numbers)), soak.rng.uniform(20, 60)

    def stop() -> None:
        driver.send(signal.SIGTERM)
        if driver in soak.drivers:
            soak.drivers[driver] = time.monotonic() + 2 * ENDS_WITHIN_S

    soak.after(seconds, stop)
    return f"for {seconds:.0f} s"


def take_memory(soak: Soak) -> str:
    return _for_a_while(soak, SCARCE, soak.rng.uniform(1, 4))


def take_the_store(soak: Soak) -> str:
    return _for_a_while(soak, DOWN, soak.rng.uniform(3, 25))


def _for_a_while(soak: Soak, name: str, seconds: float) -> str:
    flag = soak.folder / name
    if flag.exists():
        return ""
    flag.touch()
    soak.after(seconds, flag.unlink)
    return f"for {seconds:.0f} s"


def kill_the_head(soak: Soak) -> str:
    """The nodes are left to find out; drivers must end by themselves and say why."""
    soak.cluster.head.kill_all()
    _expect_the_end(soak)
    orphans = soak.cluster.nodes
    soak.cluster.begin()

    def end() -> None:
        for node in orphans:
            node.kill_all()

    soak.after(ENDS_WITHIN_S, end)
    return f"a new one is at {soak.cluster.address}"


def kill_the_cluster(soak: Soak) -> str:
    soak.cluster.kill()
    _expect_the_end(soak)
    soak.cluster.begin()
    return f"a new one is at {soak.cluster.address}"


def _expect_the_end(soak: Soak) -> None:
    for driver in soak.drivers:
        soak.drivers[driver] = time.monotonic() + ENDS_WITHIN_S


FAULTS = (
    Fault("SIGKILL of a worker", 6, kill_a_worker),
    Fault("SIGSTOP of a worker", 2, hang_a_worker),
    Fault("SIGKILL of a node's raylet", 2, kill_a_raylet),
    Fault("a node's raylet hangs, its workers go on", 2, hang_a_raylet),
    Fault("a node is added", 1, add_a_node),
    Fault("a node is stopped", 1, stop_a_node),
    Fault("SIGKILL of a driver", 3, kill_a_driver),
    Fault("SIGTERM of a driver", 1, partial(stop_a_driver, signal.SIGTERM)),
    Fault("SIGINT of a driver", 1, partial(stop_a_driver, signal.SIGINT)),
    Fault("a driver is suspended, then goes on", 2, suspend_a_driver),
    Fault("a second driver", 2, start_a_second_driver),
    Fault("out of memory", 2, take_memory),
    Fault("the store refuses writes", 2, take_the_store),
    Fault("SIGKILL of the head", 1, kill_the_head),
    Fault("SIGKILL of the whole cluster", 1, kill_the_cluster),
)


# --- is it what it should be? ---------------------------------------------------------------


class Reference:
    """The same run without faults, made in this process."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        config = complete(config.model_copy(update={"output": str(folder)}))
        prompts, model = open_prompts(config.prompts, config.seed), model_info(config.model)
        identity = run_fingerprint(config, prompts.digest, model.revision)
        open_run(
            ObjectStore.open(config.output),
            run_manifest(config, identity, model, prompts.slot_names),
        )
        self.plan = RunPlan.of(config, prompts, identity.digest)
        self.worker = ShardWorker(config, StandIn(folder, 0.0))

    def shard(self, number: int) -> tuple[Receipt, list[int]]:
        """Its receipt, and the candidates that can't be made."""
        candidates = self.plan.shard(number)
        impossible = {c.index: "it kills its worker" for c in candidates if crashes(c.seed)}
        assignment = Assignment(number, layout.new_attempt(), BATCH, quarantined=impossible)
        *_, made = self.worker.make_shard(assignment, candidates)
        assert isinstance(made, Made), made
        return made.receipt, [*impossible]

    def expected_ids(self, pairs: int) -> list[str]:
        """Of the shortest prefix of whole shards with so many pairs, from the seeds alone."""
        ids: list[str] = []
        for shard in count():
            if len(ids) >= pairs:
                return ids
            for candidate in self.plan.shard(shard):
                if accepted(candidate.seed) and not crashes(candidate.seed):
                    ids.append(candidate.sample_id)
        raise AssertionError


def check(soak: Soak) -> list[str]:
    """Everything that must hold; what does not becomes a problem of the soak."""
    store = soak.store
    config = RunConfig.model_validate(soak.config("auto"))
    reference = Reference(config, soak.folder / "reference")
    receipts = read_commits(store)
    root = soak.folder / "out"

    def rows(receipt: Receipt, kind: str) -> list[dict[str, Any]]:
        path = root / receipt.objects[kind].key
        found: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
        return found

    ids = [row["sample_id"] for receipt in receipts.values() for row in rows(receipt, "index")]
    if ids != reference.expected_ids(soak.target):
        soak.wrong("ids or their order are not those of a run without faults")
    culprits = 0
    for number, receipt in receipts.items():
        expected, impossible = reference.shard(number)
        for kind in ("tar", "index"):
            if receipt.objects[kind].sha256 != expected.objects[kind].sha256:
                soak.wrong(f"shard {number}: its {kind} is not that of a run without faults")
        quarantined = [row for row in rows(receipt, "rejects") if row["outcome"] == "quarantined"]
        if [row["candidate"] for row in quarantined] != impossible:
            soak.wrong(f"shard {number}: {quarantined} in quarantine, not {impossible}")
        culprits += len(quarantined)
    report = verify_run(store, deep=True)
    for problem in report.problems:
        soak.wrong(f"verify: {problem}")
    committed = {o.key for receipt in receipts.values() for o in receipt.objects.values()}
    kept = committed | {layout.RUN_KEY, layout.CARD_KEY, layout.PROGRESS_KEY}
    kept |= {layout.commit_key(shard) for shard in receipts}
    rubbish = {*store.list()} - kept
    found = garbage(store, timedelta())
    if {entry.key for entry in found} != rubbish:
        soak.wrong("gc finds other garbage than what no commit refers to")
    # When killed drivers are forgotten: the first marks, the second removes.
    later = datetime.now(UTC) + timedelta(days=1)
    for _ in range(2):
        removed = collect(store, timedelta(), delay=timedelta(), now=later).removed
    if {entry.key for entry in removed} != rubbish:
        soak.wrong("gc has not removed what it found")
    if {*store.list()} != kept:
        soak.wrong("after gc the store does not hold exactly what is committed")
    if problems := verify_run(store, deep=False).problems:
        soak.wrong(f"verify after gc: {problems[0]}")
    # A spool that a killed worker left is removed by the next one on the machine: the reference.
    os.environ["TMPDIR"], tempfile.tempdir = str(soak.folder / "tmp"), None
    Reference(config, soak.folder / "last").shard(0)
    if spools := [*(soak.folder / "tmp").glob("mfsynth-spool-*")]:
        soak.wrong(f"{len(spools)} spool folders are left")
    if strays := soak.strays():
        soak.wrong(f"processes are left: {strays}")
    return [
        f"{len(ids)} ids and their order, from the seeds alone",
        f"{len(receipts)} shards: SHA-256 of tar and index equal those of a run without faults",
        f"`verify`, deep: {report.shards} shards, {report.pairs} pairs, no gap",
        f"quarantine: exactly the {culprits} candidates that always kill their worker",
        f"`gc` removed exactly the {len(rubbish)} files that no commit refers to",
        "no process and no spool folder is left",
    ]


def summary(soak: Soak, minutes: float, checked: Sequence[str]) -> str:
    receipts = read_commits(soak.store)
    attempts = len((soak.folder / ATTEMPTS).read_text().splitlines())
    pairs = sum(receipt.accepted for receipt in receipts.values())
    lines = [
        f"{minutes:g} minutes of faults, {sum(soak.happened.values())} in all; "
        f"{soak.sessions} sessions of drivers; {attempts} attempts at shards, "
        f"{len(receipts)} committed; {pairs} pairs",
        "",
        "| fault | times |",
        "|---|---|",
        *(f"| {fault.name} | {soak.happened[fault.name]} |" for fault in FAULTS),
        "",
        "| end of a driver | times |",
        "|---|---|",
        *(f"| {end} | {times} |" for end, times in sorted(soak.ends.items())),
        "",
        "Checked:",
        "",
        *(f"- {line}" for line in checked),
        "",
        f"Problems: {len(soak.problems) or 'none'}",
        *(f"- {problem}" for problem in soak.problems),
    ]
    return "\n".join(lines)


@click.command()
@click.option("--minutes", default=30.0, help="How long faults go on.")
@click.option("--seed", default=0, help="Of the faults.")
@click.option("--folder", type=click.Path(path_type=Path), help="New; by default a temporary one.")
@click.option("--drive", "config", type=click.Path(path_type=Path), hidden=True)
def main(minutes: float, seed: int, folder: Path | None, config: Path | None) -> None:
    """Run under random faults, and compare with a run that had none."""
    if config is not None:
        sys.exit(drive(config))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    folder = folder or Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(folder, seed)
    try:
        soak.suffer(60 * minutes)
        soak.come_to_an_end()
        text = summary(soak, minutes, check(soak))
    finally:
        for process in soak.strays():
            with suppress(psutil.Error):
                process.kill()
    click.echo(text)
    click.echo(f"\nlog: {folder / 'faults.log'}", err=True)
    sys.exit(1 if soak.problems else 0)


if __name__ == "__main__":
    main()
