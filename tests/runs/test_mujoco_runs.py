"""Runs over views of a MuJoCo model."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from started import plan_of, start
from tiny_jobs import make, rows_of

from mfsynth.config import RunConfig
from mfsynth.datasets import RGBDDataset
from mfsynth.runs.loading import Loader
from mfsynth.runs.pool import open_shard_worker
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.runs.settings import complete
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.records import COMPOSITE_SOURCE_TYPE
from mfsynth.shards.verify import verify_run
from mfsynth.simulation.gl import gl_context
from mfsynth.storage.errors import StoreError


@pytest.fixture
def opengl_of_any_thread(opengl):
    """A context serves one thread, and a worker has one for loading."""
    gl_context.cache_clear()
    yield
    gl_context.cache_clear()


@pytest.mark.usefixtures("opengl_of_any_thread")
def test_views_of_a_model_get_images_and_what_a_sensor_would_have_returned(run_folder):
    values = {name: value for name, value in run_folder.values.items() if name != "prompts"}
    source = {
        "kind": "mujoco",
        "model": "arm_on_table",
        "scenes": 2,
        "height": 32,
        "width": 32,
        "keyframe": "home",
        "cameras": [{"around": [0.4, 0.0, 0.1], "distance": [1.0, 1.2], "preset": "d455"}],
    }
    own = {
        "source": source,
        "sampler": {"mode": "d2i", "steps": 1, "guidance": 1.0},
        "target": {"all": True},
        "checks": {},
        "sensor": {"preset": "d455"},
        "shard_size": 2,
    }
    config = complete(RunConfig.model_validate(values | own))
    store, plan = start(config), plan_of(config)
    worker = open_shard_worker(config, "cpu")
    *_, end = worker.make_shard(Assignment(0, "attempt-0", 2), plan.shard(0))
    assert isinstance(end, Made), end
    assert commit(store, end.receipt)
    assert verify_run(store).problems == ()
    (receipt,) = read_commits(store).values()
    index = store.read_bytes(receipt.objects["index"].key)
    rows = pq.read_table(io.BytesIO(index)).to_pylist()
    assert [row["source"] for row in rows] == ["scene 0 camera 0", "scene 1 camera 0"]
    for row in rows:
        assert row["depth_kind"] == "metric_z"
        assert row["intrinsics_source"] == "rendered"
        assert row["digital_source_type"] == COMPOSITE_SOURCE_TYPE
        assert 0.1 < row["depth_near"] < row["depth_far"] < 6
        assert row["sensor"] == "d455"
        assert {"arm", "table", "red_box"} <= {*row["objects"]}
    for pair, row in zip(RGBDDataset(config.output, labels=True), rows, strict=True):
        assert pair.camera_to_world.shape == (4, 4)
        assert [one.name for one in pair.objects] == row["objects"]
        table = next(one for one in pair.objects if one.name == "table")
        assert (pair.mask == table.id).mean() > 0.1
        assert not (pair.sensor[~pair.valid] > 0).any()
        both = (pair.sensor > 0) & pair.valid
        assert np.median(np.abs(pair.sensor - pair.depth)[both]) < 0.02


@pytest.mark.usefixtures("opengl_of_any_thread")
def test_views_are_looked_for_again_by_the_thread_that_draws_them(run_folder):
    values = {name: value for name, value in run_folder.values.items() if name != "prompts"}
    camera = {"around": [0.4, 0.0, 0.15], "distance": [0.9, 1.3]}
    source = {"kind": "mujoco", "model": "arm_on_table", "scenes": 6, "cameras": [camera]}
    own = {
        "source": source | {"height": 32, "width": 32},
        "sampler": {"mode": "d2i", "steps": 1, "guidance": 1.0},
        "target": {"all": True},
    }
    config = complete(RunConfig.model_validate(values | own))
    loader, shard = Loader(config), plan_of(config).shard(0)
    assert [batch.lost for batch in loader.batches(shard, 6)] == [{}]
    with pytest.raises(StoreError, match="now it can, so the shard is made again"):
        loader.require_there(shard, dict.fromkeys(range(4), "lost"))


@pytest.mark.usefixtures("opengl_of_any_thread")
def test_frames_of_a_trajectory_keep_one_prompt_and_one_seed_in_order(job, run_folder):
    source = {
        **{"kind": "mujoco", "model": "arm_on_table", "scenes": 2, "height": 32, "width": 32},
        "cameras": [{"around": [0.4, 0.0, 0.1], "distance": [1.0, 1.2]}],
        "trajectory": {"frames": 2, "fps": 10},
    }
    store = make(job("d2i", source, prompts=run_folder.values["prompts"]))
    assert verify_run(store).problems == ()
    rows = rows_of(store)
    # The second episode begins in the first shard, of three, and ends in the next.
    assert [(row["shard"], row["episode"], row["frame"]) for row in rows] == [
        (number // 3, f"scene {number // 2} camera 0", number % 2) for number in range(4)
    ]
    assert [row["prompt"] for row in rows] == ["a red cube"] * 2 + ["a blue ball"] * 2
    seeds = [row["seed"] for row in rows]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]
