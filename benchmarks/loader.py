"""How near readers of RGB-D pairs come to decoding alone, as a Markdown table.

    python benchmarks/loader.py [--pairs 768] [--side 256] [--rounds 7] [--peer NAME=PYTHON]...

The same pairs, measured frames of tests/data/real_rgbd, lie on the local disk as a run of mfsynth,
which webdataset reads as it is, and in Parquet files for the Hugging Face's `datasets`. Each reader
goes through all of them on one thread with the same decoders: JPEG to uint8 RGB, PNG to float32
depth. The ceiling is these decoders on bytes in memory. Readers take turns; figures are of CPU
time, the median over rounds of a reader's pairs a second and of its share of the ceiling in the
same round. "Of a million" are the same pairs again and again, as one data set of 1,000,000, once
its order is made; how long that takes is in the times to a first batch. Peers (`litdata`,
`streaming`, `energon`) are measured by `loader_peers.py` in the environments that are given, each
against the ceiling there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from real_frames import real_frames

from mfsynth.datasets import RGBDDataset
from mfsynth.geometry import DepthKind
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.finalize import finalize
from mfsynth.shards.layout import FORMAT_VERSION, new_attempt, sample_id
from mfsynth.shards.records import CandidateRef, Sample
from mfsynth.shards.run_manifest import RunManifest, open_run, run_sha256
from mfsynth.shards.tables import Declared, contents_of_run
from mfsynth.shards.writer import ShardSpool
from mfsynth.storage.store import ObjectStore

SHARD_SIZE = 64
BATCH = 16
MILLION = 1_000_000
SCORES = ("registration",)

Read = Callable[[], None]


def write_run(folder: str | Path, pairs: int, side: int) -> ObjectStore:
    frames = real_frames(side, crops=3)
    contents = contents_of_run(dict.fromkeys(SCORES, ""))
    manifest = RunManifest(
        format_version=FORMAT_VERSION,
        run="bench",
        fingerprint="f" * 64,
        settings={"seed": 0, "shard_size": SHARD_SIZE},
        config={},
        versions={},
        created="2026-01-01T00:00:00+00:00",
        model={"id": "none", "revision": "", "licence": "none"},
        members=contents["members"],
        columns=contents["columns"],
        reject_columns=contents["reject_columns"],
    )
    store = ObjectStore.open(folder)
    open_run(store, manifest)
    for shard, first in enumerate(range(0, pairs, SHARD_SIZE)):
        numbers = range(first, min(first + SHARD_SIZE, pairs))
        with ShardSpool(
            run=manifest.run_id,
            run_sha256=run_sha256(store),
            shard=shard,
            attempt=new_attempt(),
            first_candidate=first,
            candidates=len(numbers),
            declared=Declared(SCORES),
        ) as spool:
            for number in numbers:
                rgb, depth = frames[number % len(frames)]
                ref = CandidateRef(
                    sample_id=sample_id(manifest.run_id, number),
                    candidate=number,
                    seed=number,
                    prompt=f"measured frame {number % len(frames)}",
                    prompt_id=f"{number % len(frames):016x}",
                )
                spool.add(
                    Sample(
                        ref,
                        rgb=rgb,
                        depth=depth,
                        scores={"registration": 2.0},
                        mode="joint",
                        model_id="none",
                        depth_kind=DepthKind.METRIC_Z,
                        licence="none",
                    )
                )
            spool.close()
            commit(store, spool.upload(store, seconds={}, worker="here"))
    return store


def decoded(jpeg: bytes, png: bytes, depth: dict[str, Any]) -> tuple[Any, Any]:
    codes: Any = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    unit = np.float32(depth["unit_per_code"])
    if depth["encoding"] == "linear":
        z = codes * unit
    else:
        z = np.float32(depth["near"]) * np.exp((codes - np.float32(1)) * unit) * (codes != 0)
    return simplejpeg.decode_jpeg(jpeg, colorspace="RGB"), z


# --- the readers ----------------------------------------------------------------------------


def ceiling_of(tars: list[str]) -> Read:
    held = [(s["rgb.jpg"], s["depth.png"], _encoding(s["json"])) for s in _tar_samples(tars)]

    def read() -> None:
        for jpeg, png, depth in held:
            decoded(jpeg, png, depth)

    return read


def mfsynth_loader(url: str, workers: int = 0, **order: Any) -> Read:
    dataset = RGBDDataset(url)

    def read() -> None:
        for batch in dataset.loader(BATCH, workers=workers, **order):
            assert len(batch["rgb"]) == BATCH

    return read


def mfsynth_of_a_million(url: str, count: int, **order: Any) -> Read:
    few = RGBDDataset(url)
    loader = few.select(np.arange(MILLION) % len(few)).loader(BATCH, workers=0, **order)
    # The order of an epoch is made once, and taken from then on.
    next(iter(loader))

    def read() -> None:
        for _ in itertools.islice(loader, count // BATCH):
            pass

    return read


def first_batch(url: str, count: int, block: int) -> float:
    """CPU seconds from an open data set of so many pairs to its first batch."""
    few = RGBDDataset(url)
    dataset = few.select(np.arange(count) % len(few))
    begun = time.process_time()
    next(iter(dataset.loader(BATCH, workers=0, block=block, seed=count)))
    return time.process_time() - begun


def mfsynth_sequence(url: str) -> Read:
    dataset = RGBDDataset(url)

    def read() -> None:
        for sample in dataset:
            assert sample.valid.any()

    return read


def webdataset_loader(tars: list[str], batched: bool) -> Read:
    def read() -> None:
        import webdataset

        def pair(sample: dict[str, bytes]) -> tuple[Any, Any]:
            return decoded(sample["rgb.jpg"], sample["depth.png"], _encoding(sample["json"]))

        found = webdataset.WebDataset(tars, shardshuffle=False).map(pair)
        for _ in found.batched(BATCH) if batched else found:
            pass

    return read


def huggingface(folder: Path, tars: list[str]) -> Read:
    """Through `datasets`, from Parquet with the bytes of images in it, in Arrow's memory map."""
    import datasets  # type: ignore[import-untyped]

    folder.mkdir()
    rows = [
        {"rgb": s["rgb.jpg"], "depth": s["depth.png"]} | _encoding(s["json"])
        for s in _tar_samples(tars)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    datasets.disable_progress_bars()
    found = datasets.load_dataset("parquet", data_dir=str(folder), cache_dir=str(folder / "cache"))

    def read() -> None:
        for row in found["train"]:
            decoded(row["rgb"], row["depth"], row)

    return read


def _tar_samples(tars: list[str]) -> Any:
    import webdataset

    return webdataset.WebDataset(tars, shardshuffle=False)


def _encoding(document: bytes) -> dict[str, Any]:
    depth = json.loads(document)["depth"]
    return {name: depth[name] for name in ("encoding", "unit_per_code", "near")}


def peer_of(
    peer: str, python: str, run: str, rounds: int, tars: list[str]
) -> dict[str, list[float]]:
    """Seconds of the peer and of the ceiling, round by round, in another environment."""
    script = Path(__file__).with_name("loader_peers.py")
    command = [python, str(script), peer, run, str(rounds), *tars]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    times: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return times


def print_row(reader: str, pairs: int, took: list[float], ceiling: list[float]) -> None:
    shares = [best / own for best, own in zip(ceiling, took, strict=True)]
    rate = pairs / statistics.median(took)
    print(f"| {reader} | {rate:.0f} | {statistics.median(shares):.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=768)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = write_run(folder / "run", args.pairs, args.side)
        tars = [str(folder / "run" / r.objects["tar"].key) for r in read_commits(store).values()]
        readers = {
            "ceiling": ceiling_of(tars),
            "mfsynth, loader, in order": mfsynth_loader(store.url, shuffle=False),
            "mfsynth, loader, shuffled by blocks": mfsynth_loader(store.url),
            "mfsynth, loader, at random": mfsynth_loader(store.url, block=1),
            "mfsynth, loader, blocks, of a million": mfsynth_of_a_million(store.url, args.pairs),
            "mfsynth, loader, at random, of a million": mfsynth_of_a_million(
                store.url, args.pairs, block=1
            ),
            "mfsynth, one by one": mfsynth_sequence(store.url),
            "webdataset, one by one": webdataset_loader(tars, batched=False),
            "webdataset, batches": webdataset_loader(tars, batched=True),
            "datasets, one by one": huggingface(folder / "hf", tars),
        }
        seconds: dict[str, list[float]] = {reader: [] for reader in readers}
        for _ in range(args.rounds):
            for reader, read in readers.items():
                begun = time.process_time()
                read()
                seconds[reader].append(time.process_time() - begun)
        first = {
            (count, block): first_batch(store.url, count, block)
            for count in (MILLION, 10 * MILLION)
            for block in (16, 1)
        }
        if args.peer:
            finalize(store, energon=True)
        peers = dict(each.split("=", 1) for each in args.peer)
        found = {
            peer: peer_of(peer, python, store.url, args.rounds, tars)
            for peer, python in peers.items()
        }
    print(f"{args.pairs} pairs of {args.side}x{args.side}, batches of {BATCH}\n")
    print("| reader | pairs a CPU second | of the ceiling |")
    print("|---|---|---|")
    for reader, took in seconds.items():
        print_row(reader, args.pairs, took, seconds["ceiling"])
    for peer, times in found.items():
        print_row(f"{peer}, in its environment", args.pairs, times[peer], times["ceiling"])
    for (count, block), cpu in first.items():
        print(f"\nfirst batch of {count:,}, block={block}: {cpu:.2f} CPU s")


if __name__ == "__main__":
    main()
