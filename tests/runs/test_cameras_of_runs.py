"""A run with a camera has it in every sample, and in what identifies it."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from standin import SIZE, Behaviour, StandInPipeline
from started import plan_of, start

from mfsynth.checks import Check, Score, registry
from mfsynth.datasets import RGBDDataset
from mfsynth.geometry import Intrinsics, IntrinsicsSource
from mfsynth.geometry.camera_presets import CAMERA_PRESETS
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.runs.settings import run_fingerprint
from mfsynth.runs.worker import ShardWorker
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.finalize import finalize
from mfsynth.shards.integrity import shard_problems
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore


def made(config) -> ObjectStore:
    """The run with its first shard committed."""
    store = start(config)
    worker = ShardWorker(config, StandInPipeline(config, Behaviour()))
    *_, end = worker.make_shard(Assignment(0, "a", 4), plan_of(config).shard(0))
    assert isinstance(end, Made)
    assert commit(store, end.receipt)
    return store


CAMERAS = [
    ({"preset": "d435"}, "d435", CAMERA_PRESETS["d435"].intrinsics(SIZE, SIZE)),
    ({"fov": 69}, None, Intrinsics.from_horizontal_fov(SIZE, SIZE, 69)),
]


@pytest.mark.parametrize(("setting", "preset", "camera"), CAMERAS)
def test_every_sample_has_the_camera_in_index_json_and_loader(run_folder, setting, preset, camera):
    store = made(run_folder.config(camera=setting))
    receipt = read_commits(store)[0]
    rows = pq.read_table(store.local_root / receipt.objects["index"].key, partitioning=None)
    values = {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy}
    with tarfile.open(store.local_root / receipt.objects["tar"].key) as tar:
        described = [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
    assert len(described) == len(rows) > 2
    for row, about in zip(rows.to_pylist(), described, strict=True):
        assert {name: row[name] for name in values} == about["intrinsics"] == values
        assert row["intrinsics_source"] == about["intrinsics_source"] == "assumed"
        assert row["camera"] == about["camera"] == preset
        assert about["format_version"] == read_run(store).format_version == "2-draft.3"
    for sample in RGBDDataset(store.url):
        np.testing.assert_array_equal(sample.intrinsics, camera.matrix())
        assert (sample.intrinsics_source, sample.camera) == (IntrinsicsSource.ASSUMED, preset)
    finalize(store)
    assert verify_run(store).problems == ()
    assert '"pairs/camera"' in store.read_bytes("croissant.json").decode()


def test_a_camera_that_is_not_the_runs_is_found(run_folder):
    store = made(run_folder.config(camera={"preset": "d435"}))
    run, receipt = read_run(store), read_commits(store)[0]
    paths = {kind: store.local_root / stored.key for kind, stored in receipt.objects.items()}
    assert shard_problems(receipt, paths, decode=False, run=run) == []
    other = replace(run, settings=run.settings | {"camera": {"preset": "d455"}})
    found = shard_problems(receipt, paths, decode=False, run=other)
    assert len(found) == receipt.accepted
    assert "camera is 'd435', of the run 'd455'" in found[0]


def test_a_run_without_a_camera_is_what_it_was(run_folder):
    store = made(run_folder.config())
    run = read_run(store)
    assert run.settings["format_version"] == "2-draft.2"  # which the fingerprint is of
    assert "camera" not in {column["name"] for column in run.columns} | {*run.config}
    (sample, *_) = RGBDDataset(store.url)
    assert (sample.intrinsics, sample.intrinsics_source, sample.camera) == (None, None, None)


def test_another_camera_is_another_run_and_the_same_one_goes_on(run_folder):
    cameras = [None, {"preset": "d435"}, {"preset": "d455"}, {"fov": 69}, {"fov": 70}]
    digests = [
        run_fingerprint(run_folder.config(**({"camera": each} if each else {})), "p", "r").digest
        for each in cameras
    ]
    assert len({*digests}) == len(cameras)
    config = run_folder.config(camera={"preset": "d435"})
    assert read_run(start(config)).nonce == read_run(start(config)).nonce


def test_checks_are_given_the_camera(run_folder, monkeypatch):
    class Wide(Check):
        inputs = ("intrinsics",)
        scores = (Score("wide", "wide", "higher", "its field of view"),)

        def measure(self, pair):
            return {"wide": pair.intrinsics.horizontal_fov(pair.rgb.shape[1])}

    monkeypatch.setattr(registry, "BUILT_IN", {"wide": Wide})
    store = made(run_folder.config(camera={"fov": 50}, checks={"wide": {}}))
    scores = [sample.scores["wide"] for sample in RGBDDataset(store.url)]
    assert scores == pytest.approx([50.0] * 8)
