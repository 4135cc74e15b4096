"""What a run costs its driver, and how busy 1,000 workers are kept, as Markdown tables.

    python benchmarks/scale.py [--workers 1000] [--shards 100000]

1. A discrete-event simulation drives the supervisor of every real run with a virtual clock. Only
   the cluster is made up: nodes of 8 GPUs; a shard of 64 candidates takes 120 s (log-normal,
   sigma 0.1) and then 6 s of writing; a model loads in 60 s; a commit takes 0.1 s; 80 % of the
   candidates are accepted. Stragglers: one node in 20 is 1.5 times as slow, one attempt in 100
   3 times, one in 10,000 hangs for good. Spot: a node is taken away every 12 hours and another
   comes after 5 minutes; a worker dies by itself every 100 hours. The driver hears of nodes up to
   5 s late.
   Utilisation is the time in which GPUs made shards that were then committed, divided by the time
   in which there were GPUs, from the first second to the last commit.
2. A real driver with real Ray workers and a model that costs nothing; and one look at 1,000
   streams of Ray.

CPU is that of the process (of the driver, in 2), so other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from multiprocessing import get_context
from typing import Any

import numpy as np
import psutil

from mfsynth.config import RunConfig
from mfsynth.runs import roster
from mfsynth.runs.driver import POLL_S, generate
from mfsynth.runs.events import (
    Action,
    Assign,
    Commit,
    Event,
    Finish,
    KillWorker,
    Outcome,
    PlacesChanged,
    ShardCommitted,
    StartAnswered,
    StartWorker,
    Tick,
    WorkerDied,
    WorkerSaid,
)
from mfsynth.runs.policy import Policy
from mfsynth.runs.protocol import Assignment, Made, Message, Progress, Started
from mfsynth.runs.supervisor import Supervisor
from mfsynth.runs.worker import ShardWorker
from mfsynth.shards import layout
from mfsynth.shards.records import Receipt, StoredObject

SHARD_SIZE = 64
BATCH = 4  # as in configs/released.yaml
ACCEPTED = 0.8
GPUS_A_NODE = 8
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class World:
    """What befalls the cluster; times in seconds, endless = never."""

    name: str
    slow_nodes: float = 0.0
    slow_attempts: float = 0.0
    hangs: float = 0.0
    node_life: float = math.inf
    worker_life: float = math.inf
    second_attempts: bool = True


STRAGGLERS: dict[str, Any] = {"slow_nodes": 0.05, "slow_attempts": 0.01, "hangs": 1e-4}
SPOT: dict[str, Any] = {"node_life": 12 * HOUR, "worker_life": 100 * HOUR}
WORLDS = (
    World("nothing goes wrong"),
    World("stragglers", **STRAGGLERS),
    World("stragglers, no second attempts", **STRAGGLERS, second_attempts=False),
    World("stragglers, spot nodes, crashes", **STRAGGLERS, **SPOT),
)
SHARD_S, SHARD_SIGMA = 120.0, 0.1
WRITE_S, LOAD_S, COMMIT_S = 6.0, 60.0, 0.1
SLOW_NODE, SLOW_ATTEMPT = 1.5, 3.0
NEW_NODE_S, NODE_POLL_S = 300.0, 5.0


def receipt_of(shard: int, attempt: str, rng: random.Random) -> Receipt:
    accepted = min(SHARD_SIZE, round(rng.gauss(ACCEPTED * SHARD_SIZE, 3.2)))
    return Receipt(
        run="scale",
        shard=shard,
        attempt=attempt,
        first_candidate=shard * SHARD_SIZE,
        candidates=SHARD_SIZE,
        accepted=accepted,
        rejected=SHARD_SIZE - accepted,
        quarantined=0,
        objects={
            kind: StoredObject(
                layout.object_key(kind, "scale", shard, attempt), 10**7, f"{shard:064x}"
            )
            for kind in layout.OBJECT_KINDS
        },
        seconds={"generate": SHARD_S, "encode": 3.0, "upload": WRITE_S, "total": SHARD_S + WRITE_S},
        worker="node",
        created="2026-01-01T00:00:00+00:00",
        reasons={"registration": SHARD_SIZE - accepted},
    )


# --- 1: the simulation ----------------------------------------------------------------------


@dataclass(slots=True)
class Node:
    slowness: float
    workers: set[int] = field(default_factory=set)


class Simulation:
    """A cluster that does what a supervisor says, at a time of its own."""

    def __init__(self, world: World, workers: int, shards: int) -> None:
        self.world = world
        self.rng = random.Random(world.name)
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], list[Event]]]] = []
        self.order = count()
        self.nodes: list[Node] = []
        self.home: dict[int, Node] = {}
        self.unplaced: list[int] = []
        self.ready_at: dict[int, float] = {}
        self.making: dict[str, float] = {}
        self.store: dict[int, str] = {}
        self.attempts = 0
        self.useful = self.available = self.loading = 0.0
        self.cpu = 0.0
        self.events = 0
        self.shown = 0.0
        policy = Policy(
            target=int(ACCEPTED * SHARD_SIZE * shards),
            counts_pairs=True,
            shard_size=SHARD_SIZE,
            workers=workers,
            batch_size=BATCH,
            deadline_s=1800.0,
            patience_s=14400.0,
            max_attempts=3,
        )
        names = count()
        self.supervisor = Supervisor(policy, [], lambda: f"{next(names):x}", self.rng)
        for _ in range(workers // GPUS_A_NODE):
            self.add_node()

    def run(self) -> None:
        actions = self.timed(lambda: self.supervisor.begin(0.0))
        while not self.carry_out(actions):
            wake = self.supervisor.wake_at()
            if wake is not None and (not self.queue or wake < self.queue[0][0]):
                self.pass_time(wake)
                events: list[Event] = [Tick()]
            else:
                at, _, happen = heapq.heappop(self.queue)
                self.pass_time(at)
                events = happen()
            actions = [a for event in events for a in self.timed_handle(event)]

    def timed(self, call: Callable[[], list[Action]]) -> list[Action]:
        began = time.process_time()
        actions = call()
        self.cpu += time.process_time() - began
        return actions

    def timed_handle(self, event: Event) -> list[Action]:
        self.events += 1

        def handle() -> list[Action]:
            actions = self.supervisor.handle(event, self.now)
            self.supervisor.wake_at()
            if self.now - self.shown >= POLL_S:  # then the driver shows how things stand
                self.supervisor.view()
                self.shown = self.now
            return actions

        return self.timed(handle)

    def pass_time(self, to: float) -> None:
        self.available += len(self.nodes) * GPUS_A_NODE * (to - self.now)
        self.now = to

    def at(self, delay: float, happen: Callable[[], list[Event]]) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.order), happen))

    def tell(self, delay: float, worker: int, event: Event) -> None:
        """The driver hears of it if the worker still lives then."""
        self.at(delay, lambda: [event] if worker in self.home else [])

    # --- nodes

    def add_node(self) -> list[Event]:
        node = Node(SLOW_NODE if self.rng.random() < self.world.slow_nodes else 1.0)
        self.nodes.append(node)
        if self.world.node_life < math.inf:
            self.at(self.rng.expovariate(1 / self.world.node_life), lambda: self.lose(node))
        while self.unplaced and len(node.workers) < GPUS_A_NODE:
            self.settle(self.unplaced.pop(0), node)
        self.at(NODE_POLL_S, self.look)
        return []

    def look(self) -> list[Event]:
        return [PlacesChanged(len(self.nodes) * GPUS_A_NODE)]

    def lose(self, node: Node) -> list[Event]:
        self.nodes.remove(node)
        self.at(NODE_POLL_S, self.look)
        self.at(self.rng.lognormvariate(math.log(NEW_NODE_S), 0.5), self.add_node)
        lost = sorted(node.workers)
        for worker in lost:
            self.leave(worker)
        return [WorkerDied(worker, "its node is gone", node_lost=True) for worker in lost]

    def leave(self, worker: int) -> None:
        self.home.pop(worker).workers.discard(worker)
        if (ready_at := self.ready_at.pop(worker)) > self.now:
            self.loading -= ready_at - self.now

    def settle(self, worker: int, node: Node) -> None:
        self.home[worker] = node
        node.workers.add(worker)
        seconds = self.rng.lognormvariate(math.log(LOAD_S), 0.2)
        self.ready_at[worker] = self.now + seconds
        self.loading += seconds
        self.tell(seconds, worker, StartAnswered(worker, Started()))
        if self.world.worker_life < math.inf:
            self.at(self.rng.expovariate(1 / self.world.worker_life), lambda: self.crash(worker))

    def crash(self, worker: int) -> list[Event]:
        if worker not in self.home:
            return []
        self.leave(worker)
        return [WorkerDied(worker, "killed")]

    # --- what the supervisor asks for

    def carry_out(self, actions: list[Action]) -> bool:
        for action in actions:
            match action:
                case StartWorker(worker):
                    free = (node for node in self.nodes if len(node.workers) < GPUS_A_NODE)
                    if (node := next(free, None)) is not None:
                        self.settle(worker, node)
                    else:
                        self.unplaced.append(worker)  # it waits, as Ray lets it
                case KillWorker(worker):
                    if worker in self.home:
                        self.leave(worker)
                case Assign(worker, assignment):
                    self.make(worker, assignment)
                case Commit(receipt):
                    self.at(COMMIT_S, partial(self.commit, receipt))
                case Finish(outcome, reason):
                    assert outcome is Outcome.FINISHED, reason
                    return True
        return False

    def make(self, worker: int, assignment: Assignment) -> None:
        self.attempts += 1
        shard, first = assignment.shard, assignment.shard * SHARD_SIZE

        def say(delay: float, message: Message) -> None:
            self.tell(delay, worker, WorkerSaid(worker, shard, message))

        say(0.0, Progress(first, 0))
        if self.rng.random() < self.world.hangs:
            return
        seconds = self.rng.lognormvariate(math.log(SHARD_S), SHARD_SIGMA)
        seconds *= self.home[worker].slowness
        if self.rng.random() < self.world.slow_attempts:
            seconds *= SLOW_ATTEMPT
        self.making[assignment.attempt] = seconds
        for done in range(BATCH, SHARD_SIZE, BATCH):
            say(seconds * done / SHARD_SIZE, Progress(first + done, done))
        say(seconds, Progress(None, SHARD_SIZE))
        say(seconds + WRITE_S, Made(receipt_of(shard, assignment.attempt, random.Random(shard))))

    def commit(self, receipt: Receipt) -> list[Event]:
        assert receipt.shard not in self.store, "committed twice"
        self.store[receipt.shard] = receipt.attempt
        self.useful += self.making[receipt.attempt]
        return [ShardCommitted(receipt)]


def row(world: World, workers: int, shards: int) -> str:
    if not world.second_attempts:
        roster.STRAGGLER_FACTOR = math.inf
    before = psutil.Process().memory_info().rss
    simulation = Simulation(world, workers, shards)
    simulation.run()
    memory = psutil.Process().memory_info().rss - before
    made = len(simulation.store)
    assert sorted(simulation.store) == [*range(made)], "a gap"
    utilisation = simulation.useful / simulation.available
    loading = simulation.loading / simulation.available
    return (
        f"| {world.name} | {utilisation:.2%} | {loading:.2%} | {1 - utilisation - loading:.2%} "
        f"| {simulation.now / HOUR:.2f} | {simulation.attempts / made:.4f} "
        f"| {simulation.cpu / made * 1e3:.2f} | {simulation.cpu / simulation.now:.2%} "
        f"| {memory / 2**20:.0f} |"
    )


def simulate(workers: int, shards: int) -> None:
    print(f"{workers} workers, {shards} shards\n")
    print(
        "| world | utilisation | loading models | other loss | hours | attempts a shard "
        "| supervisor's CPU ms a shard | its share of a core | memory MB, simulation included |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    # A process a world, so that none counts another's memory.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for line in pool.map(partial(row, workers=workers, shards=shards), WORLDS):
            print(line, flush=True)


# --- 2: a real driver -----------------------------------------------------------------------


@dataclass
class Pairs:
    rgb: Any
    depth: Any


class InstantModel:
    def encode_prompts(self, prompts: Any, batch_size: int) -> Any:
        return prompts

    def __call__(self, *, seeds: Any, **settings: Any) -> Pairs:
        return Pairs(
            np.zeros((len(seeds), 16, 16, 3), np.uint8), np.ones((len(seeds), 16, 16), np.float32)
        )


def open_instant(config: RunConfig, device: str) -> ShardWorker:
    return ShardWorker(config, InstantModel())


class Silent:
    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, notice: Any) -> None:
        pass

    def show(self, snapshot: Any) -> None:
        snapshot.line()


def measure_driver(shards: int, streams: int) -> None:
    def spent(shards: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            values = {
                "name": "scale",
                "target": {"candidates": shards * SHARD_SIZE},
                "shard_size": SHARD_SIZE,
                "prompts": {"library": "tabletop"},
                "checks": {},
                "output": folder,
                "runtime": {"workers": 2, "batch_size": BATCH, "device": "cpu"},
            }
            config = RunConfig.model_validate(values)
            before = time.process_time()
            result = generate(config, open_worker=open_instant, display=Silent())
            assert result.outcome is Outcome.FINISHED, result.reason
            return time.process_time() - before

    spent(2)
    start = spent(2)
    a_shard = (spent(shards) - start) / (shards - 2)
    look = look_at_streams(streams)
    print(f"\n| real driver, {shards} shards | CPU ms |")
    print("|---|---|")
    print(f"| a shard: plan, Ray, supervisor, commit | {a_shard * 1e3:.1f} |")
    print(f"| one `ray.wait` over {streams} streams | {look * 1e3:.1f} |")


def look_at_streams(streams: int) -> float:
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")

    class Worker:
        def make_shard(self) -> Any:
            time.sleep(HOUR)
            yield

    worker = ray.remote(Worker).remote()
    waiting = [worker.make_shard.options(num_returns="streaming").remote() for _ in range(streams)]
    rounds = 50
    began = time.process_time()
    for _ in range(rounds):
        ray.wait(waiting, timeout=0, fetch_local=False)
    look = (time.process_time() - began) / rounds
    ray.shutdown()
    return look


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=100_000)
    args = parser.parse_args()
    simulate(args.workers, args.shards)
    measure_driver(shards=200, streams=args.workers)


if __name__ == "__main__":
    main()
