"""Runs that begin with a source: images get depth, depth gets images."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from started import plan_of, start

from mfsynth.config import RunConfig
from mfsynth.datasets import RGBDDataset
from mfsynth.runs.pool import open_shard_worker
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.runs.settings import complete
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

SIZES = ((48, 64), (64, 48), (32, 32), (40, 90), (33, 57))
CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def picture(number: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def depth_of(number: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return cv2.resize(rng.uniform(0.5, 3, (3, 4)).astype(np.float32), (width, height))


class Photographs:
    """A folder of pictures of many kinds, some with the depth of a sensor."""

    def __init__(self, folder):
        self.folder = folder
        for number, size in enumerate(SIZES):
            Image.fromarray(picture(number, *size)).save(folder / f"{number}.jpg", quality=90)

    def settings(self, **more):
        return {"kind": "folder", "layout": "generic", "path": str(self.folder)} | {
            "images": "*.{jpg,png}",
            **more,
        }

    def add_depth(self, *, keep=1.0):
        for number, size in enumerate(SIZES):
            metres = depth_of(number, *size)
            codes = np.rint(metres * 1000).astype(np.uint16)
            codes[np.random.default_rng(number).random(size) > keep] = 0
            cv2.imwrite(str(self.folder / f"{number}.depth.png"), codes)
        return self.settings(images="*.jpg", depths="*.depth.png", codes_per_unit=1000.0)


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / "photographs").mkdir()
    return Photographs(tmp_path / "photographs")


@pytest.fixture
def job(run_folder):
    """Makes the configuration of a run with a source."""

    def config(mode, source, **changes) -> RunConfig:
        values = {name: value for name, value in run_folder.values.items() if name != "prompts"}
        sampler = {"mode": mode, "steps": 1, "guidance": 1.0}
        own = {"source": source, "sampler": sampler, "target": {"all": True}, "checks": {}}
        return complete(RunConfig.model_validate(values | {"shard_size": 3} | own | changes))

    return config


def make(config, batch_size=2) -> ObjectStore:
    """All shards of a run, made and committed in this process."""
    store, plan = start(config), plan_of(config)
    worker = open_shard_worker(config, "cpu")
    for shard in range(-(-plan.end // plan.shard_size)):
        assignment = Assignment(shard, f"attempt-{shard}", batch_size)
        *_, end = worker.make_shard(assignment, plan.shard(shard))
        assert isinstance(end, Made), end
        assert commit(store, end.receipt)
    return store


def members(store, number=0) -> dict[str, bytes]:
    rows = rows_of(store)
    row = rows[number]
    tar = store.read_bytes(read_commits(store)[row["shard"]].objects["tar"].key)
    names = ("rgb", "depth", "json")
    return {n: tar[row[f"{n}_offset"] :][: row[f"{n}_size"]] for n in names}


def rows_of(store, kind="index"):
    return [
        row
        for receipt in read_commits(store).values()
        for row in pq.read_table(
            io.BytesIO(store.read_bytes(receipt.objects[kind].key))
        ).to_pylist()
    ]


def test_photographs_of_all_sizes_keep_their_grids_and_bytes(job, photographs):
    config = job("i2d", photographs.settings(licence="CC-BY-4.0"), copies=2)
    store = make(config)
    assert verify_run(store).problems == ()
    pairs = RGBDDataset(config.output)
    assert [(p.ref.source, p.ref.copy) for p in pairs] == [
        (f"{n}.jpg", copy) for n in range(len(SIZES)) for copy in (0, 1)
    ]
    assert [p.rgb.shape[:2] for p in pairs[::2]] == [*SIZES]
    assert {p.mode for p in pairs} == {"i2d"}
    assert {p.licence for p in pairs} == {"CC-BY-4.0"}
    assert {p.prompt for p in pairs} == {""}
    assert not np.array_equal(pairs[0].depth, pairs[1].depth)
    found = members(store, 2)
    assert found["rgb"] == (photographs.folder / "1.jpg").read_bytes()
    assert b"trainedAlgorithmicMedia" in found["depth"]
    about = json.loads(found["json"])
    assert (about["source"], about["copy"], about["digital_source_type"]) == ("1.jpg", 0, "")
    # The last shard is as short as what is left.
    assert [r.candidates for r in read_commits(store).values()] == [3, 3, 3, 1]
