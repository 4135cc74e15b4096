"""Runs of mfsynth and rendered scenes as ground truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.config import EvaluateConfig, EvaluatedRun, EvaluatedScenes
from mfsynth.evaluation.frames import SourceFrames
from mfsynth.evaluation.protocols import PLAIN
from mfsynth.evaluation.readers import open_set
from mfsynth.geometry import DepthKind
from mfsynth.shards.commits import commit
from mfsynth.shards.run_manifest import open_run
from mfsynth.sources.base import Item
from mfsynth.storage.store import ObjectStore


def run_set(url, limit=None):
    return open_set(EvaluatedRun(kind="mfsynth", url=url, limit=limit), print)


def scene_set(folder):
    return open_set(EvaluatedScenes(kind="cached_scenes", path=folder), print)


def test_a_run_gives_its_pairs(tmp_path):
    url = str(tmp_path / "run")
    tiny_run.make_run(url)
    found = run_set(url)
    pairs = RGBDDataset(url)
    assert (found.name, found.protocol) == (url, PLAIN)
    assert len(found.frames) == len(pairs) == 8
    for index in (0, 7):
        np.testing.assert_array_equal(found.frames[index].rgb, pairs[index].rgb)
        np.testing.assert_array_equal(found.frames[index].depth, pairs[index].depth)
        assert pairs[index].sample_id in found.frames[index].name
    assert len(run_set(url, limit=3).frames) == 3
    assert len(run_set(url, limit=30).frames) == 8


def test_a_run_without_ground_truth_is_refused(tmp_path):
    with pytest.raises(MfsynthError, match="nothing"):
        run_set(str(tmp_path / "nothing"))

    empty = str(tmp_path / "empty")
    tiny_run.make_run(empty, shards=0)
    with pytest.raises(MfsynthError, match="empty: the run has no committed pairs"):
        run_set(empty)

    store = ObjectStore.open(str(tmp_path / "shifted"))
    open_run(store, tiny_run.make_manifest())
    shifted = dataclasses.replace(tiny_run.make_sample(0), depth_kind=DepthKind.AFFINE_INVARIANT_Z)
    commit(store, tiny_run.upload_shard(store, 0, [shifted, *tiny_run.make_records(0)[1:]]))
    with pytest.raises(MfsynthError, match="has an unknown shift, which no scale"):
        run_set(str(tmp_path / "shifted"))


@pytest.mark.parametrize(
    ("settings", "made_by"),
    [
        ({"sampler": {"mode": "joint"}}, "painter"),
        ({"sampler": {"mode": "i2d"}}, "painter"),
        ({"sampler": {"mode": "d2i"}}, None),
        ({"sampler": {"mode": "joint"}, "model": {"kind": "two_models"}}, "measurer"),
    ],
)
def test_the_truth_of_a_run_is_by_whom_made_its_depth(settings, made_by, tmp_path):
    store = ObjectStore.open(str(tmp_path / "run"))
    models = {"model": {"id": "painter"}, "estimator": {"id": "measurer"}}
    manifest = tiny_run.make_manifest()
    told = {**manifest.settings, **settings}
    open_run(store, dataclasses.replace(manifest, settings=told, **models))
    commit(store, tiny_run.upload_shard(store, 0))
    assert (run_set(store.url).truth_model or {}).get("id") == made_by


def test_a_run_is_named_without_its_credentials(monkeypatch):
    monkeypatch.setattr("mfsynth.datasets.RGBDDataset", lambda url, **_: [])
    with pytest.raises(MfsynthError) as caught:
        run_set("s3://key:secret@bucket/run")
    assert "secret" not in str(caught.value)


def test_scenes_are_rendered_once_and_read_in_metres(tmp_path):
    pytest.importorskip("mujoco")
    folder = str(tmp_path / "scenes")
    render = {"scenes": 2, "views": 2, "size": 16, "seed": 5}
    config = EvaluateConfig.model_validate(
        {
            "steps": 1,
            "batch_size": 1,
            "alignments": ["scale"],
            "output": "out",
            "data": [{"kind": "cached_scenes", "path": folder, "render": render}],
        }
    )
    told = []
    found = open_set(config.data[0], lambda *counts: told.append(counts))
    assert told[-1] == (2, 2)
    assert (found.name, found.protocol) == ("tabletop scenes, seed 5", PLAIN)
    assert len(found.frames) == 4
    frame = found.frames[3]
    assert frame.rgb.shape == (16, 16, 3)
    assert 0.1 < frame.depth.min() < frame.depth.max() < 20

    again = scene_set(folder).frames[3]
    np.testing.assert_array_equal(again.depth, frame.depth)
    with pytest.raises(MfsynthError, match="holds no rendered scenes"):
        scene_set(str(tmp_path / "nowhere"))


def test_an_item_without_depth_is_no_ground_truth():
    frames = SourceFrames([Item(np.zeros((4, 4, 3), np.uint8), name="photo 7")])
    with pytest.raises(MfsynthError, match="photo 7: no image with depth"):
        frames[0]
