"""The driver of the soak, with real workers and a model that costs nothing.

    python driving.py CONFIG

does what `mfsynth generate` does. Files in the configuration's folder say what misbehaves.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.config import RunConfig, load_config
from mfsynth.errors import MfsynthError
from mfsynth.prompts import derive_seed
from mfsynth.runs import heartbeat
from mfsynth.runs.plan import Candidate
from mfsynth.runs.protocol import Assignment, Made, Message
from mfsynth.runs.worker import ShardWorker
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore

SIZE = 16  # pixels
SECONDS_A_CANDIDATE = 0.1
CRASHING = 1500  # one candidate in so many always kills its worker
HEARTBEAT_S = 1.0
DOWN, SCARCE, ATTEMPTS = "store-is-down", "memory-is-scarce", "attempts.txt"
IN_VAIN = "uploads-are-in-vain"


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
    """A real worker that notes every attempt that it begins, and may die of what it uploaded."""

    def __init__(self, worker: ShardWorker, folder: Path) -> None:
        self.worker, self.folder = worker, folder

    def make_shard(
        self, assignment: Assignment, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        with (self.folder / ATTEMPTS).open("a") as file:
            file.write(f"{assignment.shard} {assignment.attempt}\n")
        for message in self.worker.make_shard(assignment, candidates):
            if isinstance(message, Made) and (self.folder / IN_VAIN).exists():
                os.kill(os.getpid(), signal.SIGKILL)
            yield message


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
    return CountingWorker(worker, folder)


def drive(config: Path) -> int:
    """What `mfsynth generate` does, with this model; its last line is how it ended."""
    from mfsynth.runs.driver import generate

    folder = config.parent
    let_the_store_fail(folder)
    heartbeat.HEARTBEAT_S = HEARTBEAT_S  # type: ignore[attr-defined]
    try:
        result = generate(load_config(str(config)), open_worker=partial(open_worker, folder=folder))
    except MfsynthError as error:
        print("failed", error, flush=True)
        return 1
    print(result.outcome, result.reason, flush=True)
    return 128 + result.signal if result.signal else 0


if __name__ == "__main__":
    sys.exit(drive(Path(sys.argv[1])))
