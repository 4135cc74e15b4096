"""Sources of a few small images, and runs over them, made in one process."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from started import plan_of, start

from mfsynth.config import RunConfig
from mfsynth.runs.policy import Goal
from mfsynth.runs.pool import open_shard_worker
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.storage.store import ObjectStore

SIZES = ((48, 64), (64, 48), (32, 32), (40, 90), (33, 57))


def picture(number: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def depth_of(number: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return cv2.resize(rng.uniform(0.5, 3, (3, 4)).astype(np.float32), (width, height))


class Photographs:
    """A folder of pictures of many kinds, some with the depth of a sensor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for number, size in enumerate(SIZES):
            Image.fromarray(picture(number, *size)).save(folder / f"{number}.jpg", quality=90)

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"kind": "folder", "layout": "generic", "path": str(self.folder)} | {
            "images": "*.{jpg,png}",
            **more,
        }

    def add_depth(self, *, keep: float = 1.0) -> dict[str, Any]:
        for number, size in enumerate(SIZES):
            metres = depth_of(number, *size)
            codes = np.rint(metres * 1000).astype(np.uint16)
            codes[np.random.default_rng(number).random(size) > keep] = 0
            cv2.imwrite(str(self.folder / f"{number}.depth.png"), codes)
        return self.settings(images="*.jpg", depths="*.depth.png", codes_per_unit=1000.0)


def make(config: RunConfig, batch_size: int = 2) -> ObjectStore:
    """All shards of a run that aren't there, made and committed in this process."""
    store, plan = start(config), plan_of(config)
    goal, there = Goal.of(config, plan.end), read_commits(store)
    lacking = [s for s in range(-(-goal.target // goal.shard_size)) if s not in there]
    if not lacking:
        return store
    worker = open_shard_worker(config, "cpu")
    for shard in lacking:
        assignment = Assignment(shard, f"attempt-{shard}", batch_size)
        *_, end = worker.make_shard(assignment, plan.shard(shard))
        assert isinstance(end, Made), end
        assert commit(store, end.receipt)
    return store


def members(store: ObjectStore, number: int = 0) -> dict[str, bytes]:
    rows = rows_of(store)
    row = rows[number]
    tar = store.read_bytes(read_commits(store)[row["shard"]].objects["tar"].key)
    return {
        name: tar[row[f"{name}_offset"] :][: row[f"{name}_size"]]
        for name in layout.members_of(row)
        if row[f"{name}_offset"] is not None
    }


def rows_of(store: ObjectStore, kind: str = "index") -> list[dict[str, Any]]:
    return [
        row
        for receipt in read_commits(store).values()
        for row in pq.read_table(
            io.BytesIO(store.read_bytes(receipt.objects[kind].key))
        ).to_pylist()
    ]
