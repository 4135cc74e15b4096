"""CPU time of a pair on its way from arrays to a committed shard, as Markdown tables.

    python benchmarks/data_plane.py [--pairs 192] [--rounds 3]

The first table sets mfsynth's writer against webdataset's `ShardWriter` and Ray Data's
`write_webdataset`, both with what they do by default: Pillow. All three are given the same
arrays, 512×512 squares of the measured frames of tests/data/real_rgbd, and the same quantisation
of depth, which Pillow needs too. They differ in what else they do: mfsynth alone hashes, writes an
index, reads the shard back, forces it to the disk and commits it. JPEG quality is each one's own
default (95, 100, 75).

The second says what of that the marks in both files take.

The third drives the worker of a run with a generator that needs no CPU and makes a batch in the
time of `--rate` pairs a second, with every check switched on: how busy the threads behind it are,
and for what share of the (wall) time it had to wait for them.

CPU seconds are those of all threads and child processes. They don't depend on what else the
machine does, as wall seconds do; only ratios inside of one run mean something.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from real_frames import Frame, real_frames

from mfsynth.config import Fingerprint, RunConfig
from mfsynth.geometry import DepthKind
from mfsynth.models import model_info
from mfsynth.runs.manifest import run_manifest
from mfsynth.runs.plan import Candidate
from mfsynth.runs.pool import SHARDS_PER_WORKER
from mfsynth.runs.protocol import Assignment, Failed, Made, Progress
from mfsynth.runs.worker import ShardWorker
from mfsynth.shards.commits import commit
from mfsynth.shards.layout import new_attempt, run_id, sample_id
from mfsynth.shards.marks import mark_jpeg, mark_png
from mfsynth.shards.quantisation import quantise_depth
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE, CandidateRef, Sample
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.tables import Declared
from mfsynth.shards.writer import ShardSpool, encode_sample
from mfsynth.sources.base import Item
from mfsynth.storage.store import ObjectStore

SIDE = 512
SHARD_SIZE = 64
BATCH = 16
RUN = "bench"
FINGERPRINT = "f" * 64
PROMPT = "a red cube on a wooden table in bright light, seen from above"
RAY_OBJECT_STORE = 2**30

OURS = "mfsynth: hashes, index, read back, fsync, commit"

Write = Callable[[Sequence[Frame], Path], None]


# --- the writers ----------------------------------------------------------------------------


def write_mfsynth(pairs: Sequence[Frame], folder: Path) -> None:
    store = ObjectStore.open(folder)
    run = run_id(RUN, FINGERPRINT)
    for shard, first in enumerate(range(0, len(pairs), SHARD_SIZE)):
        part = pairs[first : first + SHARD_SIZE]
        with ShardSpool(
            run=run,
            run_sha256="0" * 64,
            shard=shard,
            attempt=new_attempt(),
            first_candidate=first,
            candidates=len(part),
            declared=Declared(("registration",)),
        ) as spool:
            for number, (rgb, depth) in enumerate(part, first):
                spool.add(pair_of(number, rgb, depth))
            spool.close()
            commit(store, spool.upload(store, seconds={}, worker="here"))


def pair_of(number: int, rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> Sample:
    return Sample(
        CandidateRef(
            sample_id=sample_id(run_id(RUN, FINGERPRINT), number),
            candidate=number,
            seed=number,
            prompt=PROMPT,
            prompt_id=f"{number:016x}",
        ),
        rgb=rgb,
        depth=depth,
        scores={"registration": 2.0},
        mode="joint",
        model_id="none",
        depth_kind=DepthKind.SCALE_INVARIANT_Z,
        licence="none",
    )


def write_shardwriter(pairs: Sequence[Frame], folder: Path) -> None:
    from webdataset import ShardWriter

    with ShardWriter(f"{folder}/%06d.tar", maxcount=SHARD_SIZE, verbose=0) as writer:
        for number, pair in enumerate(pairs):
            writer.write(plain_row(number, *pair))


def plain_row(number: int, rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> dict[str, Any]:
    """A pair as both libraries take it; as much in its JSON as a reader of depth needs."""
    codes, encoding = quantise_depth(depth)
    about = {
        "prompt": PROMPT,
        "seed": number,
        "unit_per_code": encoding.unit_per_code,
        "near": encoding.near,
        "encoding": str(encoding.scale),
    }
    key = sample_id(run_id(RUN, FINGERPRINT), number)
    return {"__key__": key, "rgb.jpg": rgb, "depth.png": codes, "json": about}


class RayDataWriter:
    """Ray Data with as many CPUs as the machine has; the pairs lie in its store beforehand."""

    def __init__(self, pairs: Sequence[Frame]) -> None:
        import ray

        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=RAY_OBJECT_STORE,
            log_to_driver=False,
            logging_level="ERROR",
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"number": n, "rgb": rgb, "depth": d} for n, (rgb, d) in enumerate(pairs)]
        blocks = max(1, len(pairs) // SHARD_SIZE)
        self._pairs = ray.data.from_items(rows, override_num_blocks=blocks).materialize()

    def __call__(self, pairs: Sequence[Frame], folder: Path) -> None:
        rows = self._pairs.map(lambda row: plain_row(row["number"], row["rgb"], row["depth"]))
        rows.write_webdataset(str(folder))


def of_all_processes() -> float:
    """CPU seconds of this process and all its living and ended descendants so far."""
    me = psutil.Process()
    times = [process.cpu_times() for process in [me, *me.children(recursive=True)]]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def compare(pairs: Sequence[Frame], rounds: int) -> None:
    spent: dict[str, list[float]] = {}
    size: dict[str, int] = {}

    def measure(name: str, write: Write, cpu_seconds: Callable[[], float]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            before = cpu_seconds()
            write(pairs, Path(folder))
            spent.setdefault(name, []).append((cpu_seconds() - before) / len(pairs))
            size[name] = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())

    # The first round loads modules and starts processes. Ray comes last: its threads in this
    # process would count to the others.
    for _ in range(rounds + 1):
        measure(OURS, write_mfsynth, time.process_time)
        measure("webdataset `ShardWriter`", write_shardwriter, time.process_time)
    with_ray = RayDataWriter(pairs)
    for _ in range(rounds + 1):
        measure("Ray Data `write_webdataset`", with_ray, of_all_processes)
    print(f"{len(pairs)} pairs of {SIDE}×{SIDE}, median of {rounds} rounds\n")
    print("| writer | CPU ms a pair | of mfsynth's | kB a pair |")
    print("|---|---|---|---|")
    middles = {name: statistics.median(seconds[1:]) for name, seconds in spent.items()}
    for name, middle in middles.items():
        kilobytes = size[name] / len(pairs) / 1e3
        print(f"| {name} | {middle * 1e3:.1f} | {middle / middles[OURS]:.2f}× | {kilobytes:.0f} |")


# --- the marks --------------------------------------------------------------------------------


def marks(pairs: Sequence[Frame], rounds: int) -> None:
    """What `encode_sample` spends on marks, of all that it spends."""
    samples = [pair_of(number, *pair) for number, pair in enumerate(pairs)]
    whole, marked = [], []
    for _ in range(rounds + 1):
        before = time.process_time()
        encoded = [encode_sample(sample) for sample in samples]
        whole.append((time.process_time() - before) / len(pairs))
        before = time.process_time()
        for each in encoded:
            # They are put in whatever the files have already.
            mark_jpeg(each.rgb, DIGITAL_SOURCE_TYPE)
            mark_png(each.depth, DIGITAL_SOURCE_TYPE)
        marked.append((time.process_time() - before) / len(pairs))
    one = encoded[0]
    size = len(mark_jpeg(one.rgb, DIGITAL_SOURCE_TYPE)) - len(one.rgb)
    size += len(mark_png(one.depth, DIGITAL_SOURCE_TYPE)) - len(one.depth)
    share = size / statistics.mean(len(each.rgb) + len(each.depth) for each in encoded)
    cost, of = statistics.median(marked[1:]), statistics.median(whole[1:])
    print("\n| marks in image and depth | of encoding a pair | bytes a pair | of its bytes |")
    print("|---|---|---|---|")
    print(f"| {cost * 1e6:.0f} µs CPU | {cost / of:.2%} | {size} | {share:.2%} |")


# --- the worker behind a generator ----------------------------------------------------------


@dataclass
class Pairs:
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]


class TimedGenerator:
    """Stands for a model on a GPU: a batch takes its time, and none of the CPU's."""

    def __init__(self, frames: Sequence[Frame], rate: float) -> None:
        self._frames = frames
        self._rate = rate
        self.busy = 0.0

    def encode_prompts(self, prompts: Sequence[str], batch_size: int) -> Sequence[str]:
        return prompts

    def __call__(self, *, seeds: Sequence[int], mode: str, **settings: Any) -> Pairs:
        began = time.perf_counter()
        if mode == "joint":  # the second opinion is part of the same pair
            time.sleep(len(seeds) / self._rate)
        chosen = [self._frames[seed % len(self._frames)] for seed in seeds]
        pairs = Pairs(np.stack([rgb for rgb, _ in chosen]), np.stack([d for _, d in chosen]))
        self.busy += time.perf_counter() - began
        return pairs


def make_and_commit(
    worker: ShardWorker, shard: int, folder: str, made_all: threading.Event
) -> None:
    run = run_id(RUN, FINGERPRINT)
    numbers = range(shard * SHARD_SIZE, (shard + 1) * SHARD_SIZE)
    candidates = [Candidate(n, sample_id(run, n), Item(text=PROMPT), n) for n in numbers]
    try:
        for message in worker.make_shard(Assignment(shard, new_attempt(), BATCH), candidates):
            match message:
                case Progress(None, _):
                    made_all.set()
                case Made(receipt):
                    commit(ObjectStore.open(folder), receipt)
                case Failed(_, text):
                    raise RuntimeError(text)
    finally:
        made_all.set()


def overlap(frames: Sequence[Frame], shards: int, rate: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.model_validate(
            {
                "name": RUN,
                "target": {"candidates": shards * SHARD_SIZE},
                "prompts": {"library": "tabletop"},
                "checks": {
                    "validity": {},
                    "registration": {},
                    "flying_pixels": {},
                    "self_agreement": {},
                },
                "output": folder,
            }
        )
        identity, model = Fingerprint(FINGERPRINT, {}), model_info(config.model)
        open_run(ObjectStore.open(folder), run_manifest(config, identity, model, None))
        generator = TimedGenerator(frames, rate)
        worker = ShardWorker(config, generator)
        cpu, wall = time.process_time(), time.perf_counter()
        # As the supervisor does it: the next shard begins when all of this one's pairs are made.
        with ThreadPoolExecutor(SHARDS_PER_WORKER) as actor:
            written = []
            for shard in range(shards):
                made_all = threading.Event()
                written.append(actor.submit(make_and_commit, worker, shard, folder, made_all))
                made_all.wait()
            generated = time.perf_counter() - wall
            for future in written:
                future.result()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    pairs = shards * SHARD_SIZE
    print(f"\n{shards} shards of {SHARD_SIZE} at {rate:g} pairs a second, all checks on\n")
    print(
        "| CPU ms a pair, checks included | busy cores | pairs generated a second "
        "| generator held up | last pair made to last shard committed |"
    )
    print("|---|---|---|---|---|")
    print(
        f"| {cpu / pairs * 1e3:.1f} | {cpu / pairs * rate:.2f} | {pairs / generated:.1f} "
        f"| {1 - generator.busy / generated:.1%} | {wall - generated:.1f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=20.0, help="pairs a second")
    parser.add_argument("--shards", type=int, default=6, help="of the third table")
    args = parser.parse_args()
    frames = real_frames(SIDE)
    pairs = [frames[number % len(frames)] for number in range(args.pairs)]
    compare(pairs, args.rounds)
    marks(pairs, args.rounds)
    overlap(frames, args.shards, args.rate)


if __name__ == "__main__":
    main()
