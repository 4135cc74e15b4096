"""A stand-in for the model: pairs out of seeds in no time, and misbehaviour on command.

The worker around it, Ray, the supervisor and the store are the real ones. Run as a script it is
`mfsynth generate` with this model: `python standin.py CONFIG [BEHAVIOUR as JSON]`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from mfsynth.config import RunConfig, load_config
from mfsynth.errors import MfsynthError
from mfsynth.prompts import derive_seed
from mfsynth.runs import cluster, driver
from mfsynth.runs.worker import ShardWorker
from mfsynth.shards import gc, layout, writer
from mfsynth.storage.errors import StoreFullError
from mfsynth.storage.store import ObjectStore

SIZE = 16


@dataclass(frozen=True)
class Behaviour:
    """What goes wrong, by candidate.

    Attributes:
        seconds: How long a batch takes.
        crash: Kill the process, always.
        crash_once: Kill the process the first time; `scratch` remembers.
        hang_once: Never return, the first time.
        raises: Raise, always.
        memory: Largest batch that fits.
        start: `error`, `raise` or `crash` when the model is loaded.
        full_disk: Every upload finds the disk full.
        full_until_go: Every upload does until `go`.
        wait_from: Candidates from this one on wait for `go`.
        hold_once: The first upload of this shard waits for `go`; the file `held` says where.
        clock_days: How far the calendar of the process, driver or worker, is ahead.
        patience: How many seconds a driver waits for a cluster's head.
        scratch: A folder for what must be remembered over processes, and for the file `go`.
    """

    seconds: float = 0.0
    crash: list[int] = field(default_factory=list)
    crash_once: list[int] = field(default_factory=list)
    hang_once: list[int] = field(default_factory=list)
    raises: list[int] = field(default_factory=list)
    memory: int = 1000
    start: str = ""
    full_disk: bool = False
    full_until_go: bool = False
    wait_from: int = 10**9
    hold_once: int = -1
    clock_days: float = 0.0
    patience: float = 30.0
    scratch: str = ""

    def first_time(self, what: str) -> bool:
        try:
            (Path(self.scratch) / what).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def go(self) -> None:
        (Path(self.scratch) / "go").touch()

    def wait(self) -> None:
        while not (Path(self.scratch) / "go").exists():
            time.sleep(0.05)


@dataclass
class Pairs:
    rgb: np.ndarray
    depth: np.ndarray


class StandInPipeline:
    """Images of noise around a step in depth; about three in four pass the checks."""

    def __init__(self, config: RunConfig, behaviour: Behaviour) -> None:
        self.numbers = {derive_seed(config.seed, "noise", i): i for i in range(2000)}
        self.behaviour = behaviour

    def encode_prompts(self, prompts, batch_size) -> list[str]:
        return list(prompts)

    def __call__(self, *, prompt_embeds, seeds, mode, image=None, **settings) -> Pairs:
        assert len(prompt_embeds) == len(seeds)
        for seed in seeds if mode == "joint" else ():
            self.misbehave(self.numbers[seed], len(seeds))
        time.sleep(self.behaviour.seconds)
        rgb, depth = zip(*map(pair, seeds), strict=True)
        return Pairs(np.stack(rgb), np.stack(depth))

    def misbehave(self, candidate: int, batch: int) -> None:
        behaviour = self.behaviour
        if candidate in behaviour.crash or (
            candidate in behaviour.crash_once and behaviour.first_time(f"crash-{candidate}")
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        if candidate in behaviour.hang_once and behaviour.first_time(f"hang-{candidate}"):
            time.sleep(3600)
        if candidate >= behaviour.wait_from:
            behaviour.wait()
        if candidate in behaviour.raises:
            raise ValueError(f"candidate {candidate} is impossible")
        if batch > behaviour.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    depth = np.full((SIZE, SIZE), 1.0, np.float32)
    depth[:, SIZE // 2 :] = 2.0 if accepted(seed) else 1.05
    return rgb, depth


def accepted(seed: int) -> bool:
    """Whether the dynamic range of the pair passes the validity check."""
    return derive_seed(seed, "good") % 4 != 0


def open_standin(config: RunConfig, device: str, *, behaviour: Behaviour) -> ShardWorker:
    if behaviour.start == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour.start == "raise":
        raise ValueError("weights are of the wrong shape")
    if behaviour.start == "error":
        raise MfsynthError("model.id: no such weights; give a model folder")
    if behaviour.full_disk or behaviour.full_until_go:
        fill_the_disk(behaviour)
    if behaviour.hold_once >= 0:
        hold_an_upload(behaviour)
    set_the_calendar(behaviour)
    return ShardWorker(config, StandInPipeline(config, behaviour))


def fill_the_disk(behaviour: Behaviour) -> None:
    put_file = ObjectStore.put_file

    def fail(self, local_path, key):
        if behaviour.full_until_go and (Path(behaviour.scratch) / "go").exists():
            return put_file(self, local_path, key)
        raise StoreFullError(f"no space left in {self.url}")

    ObjectStore.put_file = fail


def hold_an_upload(behaviour: Behaviour) -> None:
    put_file = ObjectStore.put_file

    def hold(self, local_path, key):
        name = layout.parse_object_key(key)
        assert name is not None
        if name.shard == behaviour.hold_once and behaviour.first_time("held"):
            (Path(behaviour.scratch) / "held").write_text(str(os.getpid()))
            behaviour.wait()
        put_file(self, local_path, key)

    ObjectStore.put_file = hold


def set_the_calendar(behaviour: Behaviour) -> None:
    """For everything that asks Python for the date; clocks that only go forward stay right."""
    ahead = timedelta(days=behaviour.clock_days)

    class Calendar(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + ahead

    for module in (driver, gc, writer):
        module.datetime = Calendar  # type: ignore[attr-defined]


def opener(behaviour: Behaviour):
    """For `generate(open_worker=…)`; goes to the workers by value."""
    from ray import cloudpickle

    if __name__ != "__main__":
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return partial(open_standin, behaviour=behaviour)


def as_command() -> None:
    """Let `mfsynth generate` of this process use this model."""
    generate, open_worker = driver.generate, opener(Behaviour())
    driver.generate = partial(generate, open_worker=open_worker)


def main(config: str, behaviour: str = "{}") -> int:
    given = Behaviour(**json.loads(behaviour))
    set_the_calendar(given)
    cluster.HEAD_PATIENCE_S = given.patience
    result = driver.generate(load_config(config), open_worker=opener(given))
    print(result.outcome, result.reason, flush=True)
    return 128 + result.signal if result.signal else 0


def as_arguments(config: Path, behaviour: Behaviour) -> list[str]:
    """The command that runs this file."""
    return [sys.executable, __file__, str(config), json.dumps(asdict(behaviour))]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
