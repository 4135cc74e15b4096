"""What it costs to resume a run of many shards, and to open it as a data set, as a Markdown table.

    python benchmarks/resuming.py [--commits 15625] [--folder FOLDER]

A run of so many shards is made in a local folder, with 64 index rows each and all segments, without
pictures. New processes do what a driver does before it starts workers, once with the segments and
once without; they open it as a data set, for the first time and with its index in the cache; and
they take the data set over as a spawned worker of a loader does. CPU is that of the process, the
interpreter's start and imports are not in it. `object_store.py` does the first on S3.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.config import settings_digest
from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.order import Order
from mfsynth.runs.policy import Policy
from mfsynth.runs.supervisor import Supervisor
from mfsynth.shards import layout, tables
from mfsynth.shards.commits import read_commits
from mfsynth.shards.compaction import compact
from mfsynth.shards.records import Receipt, StoredObject
from mfsynth.shards.run_manifest import RunManifest, open_run, run_sha256
from mfsynth.shards.totals import totals
from mfsynth.storage.store import ObjectStore

SHARD_SIZE = 64
ACCEPTED = 64
SENT = Path(os.environ.get("MFSYNTH_CACHE", ".")) / "sent.pickle"
SCORES = ("flying_pixels", "registration")

_CONTENTS = tables.contents_of_run(dict.fromkeys(SCORES, ""))
_SETTINGS = {"seed": 0, "shard_size": SHARD_SIZE}
MANIFEST = RunManifest(
    format_version=layout.FORMAT_VERSION,
    run="bench",
    fingerprint=settings_digest(_SETTINGS),
    settings=_SETTINGS,
    config={},
    versions={},
    created="2026-01-01T00:00:00+00:00",
    model={"id": "embedded", "revision": "r1", "licence": "apache-2.0"},
    members=_CONTENTS["members"],
    columns=_CONTENTS["columns"],
    reject_columns=_CONTENTS["reject_columns"],
)


def receipt_of(shard: int, index: bytes = b"") -> Receipt:
    run, attempt = MANIFEST.run_id, f"{shard:016x}"
    objects = {
        kind: StoredObject(layout.object_key(kind, run, shard, attempt), 10**7, "0" * 64)
        for kind in layout.OBJECT_KINDS
    }
    digest = hashlib.sha256(index).hexdigest()
    objects["index"] = StoredObject(objects["index"].key, len(index), digest)
    return Receipt(
        run=run,
        shard=shard,
        attempt=attempt,
        first_candidate=shard * SHARD_SIZE,
        candidates=SHARD_SIZE,
        accepted=ACCEPTED,
        rejected=SHARD_SIZE - ACCEPTED,
        quarantined=0,
        objects=objects,
        seconds={"generate": 110.0, "check": 2.1, "upload": 1.5, "total": 120.0},
        worker="node",
        created="2026-01-01T00:00:00+00:00",
        reasons={"flying_pixels": 9, "registration": 4},
    )


def make_run(folder: Path, shards: int) -> ObjectStore:
    """In a local folder, with all segments."""
    store = ObjectStore.open(folder)
    open_run(store, MANIFEST)
    run_hash = run_sha256(store)
    for name in (layout.COMMITS_FOLDER, layout.FOLDERS["index"]):
        (folder / name).mkdir()
    for shard in range(shards):
        index = _index(shard)
        receipt = replace(receipt_of(shard, index), run_sha256=run_hash)
        (folder / receipt.objects["index"].key).write_bytes(index)
        (folder / layout.commit_key(shard)).write_text(receipt.to_json())
    for _, problem in compact(store, range(shards)):
        assert not problem, problem
    return store


@contextmanager
def kept_run(folder: Path | None, shards: int) -> Iterator[Path]:
    """Such a run in a folder, where it stays and is taken as it is, or in a temporary one."""
    if folder is not None:
        if not folder.exists():
            make_run(folder, shards)
        yield folder
        return
    with tempfile.TemporaryDirectory() as name:
        make_run(Path(name), shards)
        yield Path(name)


def _index(shard: int) -> bytes:
    schema = tables.index_schema(tables.Declared(SCORES))
    first = shard * SHARD_SIZE
    candidates = range(first, first + ACCEPTED)
    values = {
        "sample_id": [layout.sample_id(MANIFEST.run_id, candidate) for candidate in candidates],
        "shard": [shard] * ACCEPTED,
        "row": range(ACCEPTED),
        "prompt": [f"a photo of object {c % 977} on table {c % 89}" for c in candidates],
        "prompt_id": [f"{candidate % 86_953:016x}" for candidate in candidates],
        "candidate": candidates,
        "seed": [candidate * 7_000_000_001 for candidate in candidates],
    }
    columns = [
        pa.array(values.get(field.name, _like(field.type, shard)), field.type) for field in schema
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _like(kind: pa.DataType, shard: int) -> list[object]:
    if pa.types.is_string(kind):
        return ["linear"] * ACCEPTED
    if pa.types.is_floating(kind):
        return [(shard * 31 + row * 17) % 1009 / 7 for row in range(ACCEPTED)]
    return [(shard * 31 + row * 17) % 100_003 for row in range(ACCEPTED)]


def resume(store: ObjectStore, shards: int, *, from_segments: bool) -> None:
    """What a driver does before it starts workers."""
    receipts = [*read_commits(store, from_segments=from_segments).values()]
    assert totals(receipts).shards == shards
    policy = Policy(10**9, True, SHARD_SIZE, 1, 4, 1800.0, 3, 14400.0)
    Supervisor(policy, receipts, layout.new_attempt, random.Random()).begin(0.0)


def open_data_set(store: ObjectStore, shards: int) -> None:
    dataset = RGBDDataset(store.url)
    assert len(dataset) == shards * ACCEPTED
    SENT.write_bytes(pickle.dumps(dataset))


def take_over(store: ObjectStore, shards: int) -> None:
    """And look at rows all over it, as for a batch of 256."""
    dataset = pickle.loads(SENT.read_bytes())
    for number in Order(shards * ACCEPTED, block=1).rows(0, 256).tolist():
        assert dataset._rows.row(number)["shard"] == number // ACCEPTED


DEEDS: dict[str, Callable[[ObjectStore, int], None]] = {
    "resume, from segments": partial(resume, from_segments=True),
    "resume, from receipts": partial(resume, from_segments=False),
    "open as a data set, the first time": open_data_set,
    "open it again": open_data_set,
    "take it over as a worker": take_over,
}


def measure(deed: str, folder: str, shards: int) -> None:
    store = ObjectStore.open(folder)
    idle = psutil.Process().memory_info().rss
    cpu, wall = time.process_time(), time.perf_counter()
    DEEDS[deed](store, shards)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    # Not getrusage's, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 - idle
    # What is mapped from files belongs to all processes.
    own = int(status.partition("RssAnon:")[2].split()[0]) * 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, "own": own}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, default=15_625)
    parser.add_argument("--folder", type=Path, help="of a run to keep, and to use if it is there")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        deed, folder = args.measure
        measure(deed, folder, args.commits)
        return
    print(f"{args.commits:,} shards, {args.commits * ACCEPTED:,} pairs\n")
    print("| to | CPU s | wall s (local disk, warm) | more memory, peak, MB | of its own, MB |")
    print("|---|---|---|---|---|")
    with (
        kept_run(args.folder, args.commits) as folder,
        tempfile.TemporaryDirectory() as cache,
    ):
        environment = {**os.environ, "MFSYNTH_CACHE": cache}
        for deed in DEEDS:
            command = [sys.executable, __file__, "--commits", str(args.commits)]
            command += ["--measure", deed, str(folder)]
            done = subprocess.run(command, capture_output=True, check=True, env=environment)
            found = json.loads(done.stdout)
            print(
                f"| {deed} | {found['cpu']:.1f} | {found['wall']:.1f} "
                f"| {found['peak'] / 2**20:.0f} | {found['own'] / 2**20:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
