"""What it costs to resume a run of many shards, and to open it as a data set, as a Markdown table.

    python benchmarks/resuming.py [--commits 15625] [--folder FOLDER]

A run of so many shards is made in a local folder, with 51 index rows each and all segments, without
pictures. New processes do what a driver does before it starts workers, and what `RGBDDataset` does,
once with the segments and once without. CPU is that of the process, the interpreter's start and
imports are not in it. `object_store.py` does the first on S3.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.runs.policy import Policy
from mfsynth.runs.supervisor import Supervisor
from mfsynth.shards import layout, tables
from mfsynth.shards.commits import RunManifest, open_run, read_commits
from mfsynth.shards.compaction import compact
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt, StoredObject
from mfsynth.shards.totals import totals
from mfsynth.storage.store import ObjectStore

SHARD_SIZE = 64
ACCEPTED = 51
SCORES = ("flying_pixels", "registration")

MANIFEST = RunManifest(
    format_version=layout.FORMAT_VERSION,
    run="bench",
    fingerprint="f" * 64,
    settings={"seed": 0, "shard_size": SHARD_SIZE},
    config={},
    versions={},
    created="2026-01-01T00:00:00+00:00",
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
    for name in (layout.COMMITS_FOLDER, layout.FOLDERS["index"]):
        (folder / name).mkdir()
    for shard in range(shards):
        index = _index(shard)
        receipt = receipt_of(shard, index)
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


def resume(store: ObjectStore, shards: int, from_segments: bool) -> None:
    """What a driver does before it starts workers."""
    receipts = [*read_commits(store, from_segments=from_segments).values()]
    assert totals(receipts).shards == shards
    policy = Policy(10**9, True, SHARD_SIZE, 1, 4, 1800.0, 3, 14400.0)
    Supervisor(policy, receipts, layout.new_attempt, random.Random()).begin(0.0)


def open_data_set(store: ObjectStore, shards: int, from_segments: bool) -> None:
    """What a data set does when it is opened."""
    receipts = read_commits(store, from_segments=from_segments)
    index = read_index(store, receipts.values(), from_segments=from_segments)
    assert len(index) == shards * ACCEPTED


DEEDS = {"resume": resume, "open": open_data_set}


def measure(deed: str, folder: str, shards: int, from_segments: bool) -> None:
    idle = psutil.Process().memory_info().rss
    cpu, wall = time.process_time(), time.perf_counter()
    DEEDS[deed](ObjectStore.open(folder), shards, from_segments)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    # Not getrusage's, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 - idle
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, default=15_625)
    parser.add_argument("--folder", type=Path, help="of a run to keep, and to use if it is there")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        deed, folder, source = args.measure
        measure(deed, folder, args.commits, source == "segments")
        return
    print("| commits | to | read from | CPU s | wall s (local disk, warm) | peak memory MB |")
    print("|---|---|---|---|---|---|")
    with kept_run(args.folder, args.commits) as folder:
        for deed in DEEDS:
            for source in ("segments", "receipts"):
                command = [sys.executable, __file__, "--commits", str(args.commits)]
                command += ["--measure", deed, str(folder), source]
                found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
                print(
                    f"| {args.commits} | {deed} | {source} | {found['cpu']:.1f} "
                    f"| {found['wall']:.1f} | {found['peak'] / 2**20:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
