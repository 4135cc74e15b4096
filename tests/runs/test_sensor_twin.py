"""Runs whose pairs have, beside their depth, what a sensor would have returned of it."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError
from tiny_jobs import make

from mfsynth.config import RunConfig
from mfsynth.datasets import RGBDDataset, to_tensors
from mfsynth.datasets.augmentations import HorizontalFlip
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.sensors.presets import SENSORS
from mfsynth.geometry.sensors.sensing import sense
from mfsynth.runs.items import RunItems
from mfsynth.runs.jobs import require_usable
from mfsynth.runs.reproduce import find_candidate, make_again
from mfsynth.runs.settings import added_columns, complete
from mfsynth.shards.codecs import decode_codes
from mfsynth.shards.commits import read_commits
from mfsynth.shards.verify import verify_run

CAMERA = {"fx": 60.0, "fy": 60.0, "cx": 31.5, "cy": 23.5}
SHAPE = (48, 64)


@pytest.fixture
def job(run_folder, tmp_path):
    """Makes the configuration of a run of two pictures with depth in millimetres."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        rng = np.random.default_rng(number)
        rgb = rng.integers(100, 256, (*SHAPE, 3), np.uint8)
        Image.fromarray(rgb).save(folder / f"{number}.jpg")
        coarse = rng.uniform(0.6, 2, (3, 4)).astype(np.float32)
        codes = np.rint(1000 * cv2.resize(coarse, SHAPE[::-1])).astype(np.uint16)
        codes[:4] = 0
        cv2.imwrite(str(folder / f"{number}.depth.png"), codes)
    source = {"kind": "folder", "layout": "generic", "path": str(folder), "images": "*.jpg"}
    depth = {"depths": "*.depth.png", "codes_per_unit": 1000.0, "encoding": {"camera": CAMERA}}

    def config(mode="d2i", **changes) -> RunConfig:
        values = {name: value for name, value in run_folder.values.items() if name != "prompts"}
        own = {
            "source": source | depth,
            "sampler": {"mode": mode, "steps": 1, "guidance": 1.0},
            "target": {"all": True},
            "checks": {},
            "shard_size": 3,
        }
        return complete(RunConfig.model_validate(values | own | changes))

    return config


def pairs(store):
    """Rows of the index, each with the bytes of its members."""
    for receipt in read_commits(store).values():
        tar = store.read_bytes(receipt.objects["tar"].key)
        table = pq.read_table(io.BytesIO(store.read_bytes(receipt.objects["index"].key)))
        for row in table.to_pylist():
            names = ("rgb", "depth", "sensor", "json")
            yield (
                row,
                {
                    n: tar[row[f"{n}_offset"] :][: row[f"{n}_size"]]
                    for n in names
                    if row.get(f"{n}_offset") is not None
                },
            )


def metres(row, files):
    return decode_codes(files["sensor"]) * row["sensor_unit_per_code"]


@pytest.mark.parametrize(
    ("mode", "changes"),
    [("d2i", {}), ("i2d", {"metres_per_unit": 1.5, "camera": {"fov": 60.0}})],
)
def test_a_run_stores_what_the_sensor_of_a_preset_would_have_returned(job, mode, changes):
    store = make(job(mode, sensor={"preset": "d435"}, copies=2, **changes))
    assert verify_run(store).problems == ()
    found = list(pairs(store))
    assert len(found) == 4
    dataset = RGBDDataset(store.url, labels=True)
    for (row, files), pair in zip(found, dataset, strict=True):
        assert np.array_equal(pair.sensor, metres(row, files).astype(np.float32))
        flipped = HorizontalFlip(p=1.0)(pair, np.random.default_rng(0))
        assert np.array_equal(flipped.sensor, pair.sensor[:, ::-1])
        assert (row["sensor"], row["sensor_unit_per_code"]) == ("d435", 0.001)
        about = json.loads(files["json"])
        assert about["sensor"] == {"preset": "d435", "unit_per_code": 0.001}
        sensor = metres(row, files)
        assert sensor.shape == (row["height"], row["width"])
        assert sensor.any()
        assert not sensor[decode_codes(files["depth"]) == 0].any()


def test_pairs_of_prompts_have_it_where_their_depth_is_made_metres(run_folder):
    metric = {"metres_per_unit": 1.5, "camera": {"fov": 60.0}, "sensor": {"preset": "d435"}}
    config = run_folder.config(target={"candidates": 3}, shard_size=3, checks={}, **metric)
    store = make(config)
    assert verify_run(store).problems == ()
    [*found] = pairs(store)
    assert len(found) == 3
    for (row, files), pair in zip(found, RGBDDataset(store.url, labels=True), strict=True):
        assert (row["sensor"], row["depth_kind"]) == ("d435", "estimated_metric_z")
        assert np.array_equal(pair.sensor, metres(row, files).astype(np.float32))
        both = (pair.sensor > 0) & pair.valid
        # In the unit of the depth, 1.5 times the model's.
        assert np.median(np.abs(pair.sensor / pair.depth - 1)[both]) < 0.05


def test_readers_get_it_who_ask_for_it(job):
    store = make(job(sensor={"preset": "d435"}))
    fields = ("depth", "sensor")
    (batch,) = RGBDDataset(store.url, labels=True).loader(2, fields=fields, shuffle=False)
    assert batch["sensor"].shape == batch["depth"].shape
    assert RGBDDataset(store.url)[0].sensor is None
    with pytest.raises(MfsynthError, match="no sensor; open the data set with labels=True"):
        to_tensors(RGBDDataset(store.url)[0], fields)


def test_it_is_that_of_the_pair_s_own_depth_camera_and_seed(job):
    store = make(job(sensor={"preset": "kinect_v1"}, copies=2))
    (row, files), (copy, its_files), *_ = pairs(store)
    codes = decode_codes(files["depth"])
    depth = (codes * row["depth_unit_per_code"]).astype(np.float32)
    if row["depth_encoding"] == "log":
        depth = row["depth_near"] * np.exp((codes - 1.0) * row["depth_unit_per_code"])
        depth = np.where(codes > 0, depth, 0).astype(np.float32)
    rgb = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(files["rgb"], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    rng = np.random.Generator(np.random.Philox(key=[row["seed"], 4]))
    again = sense(depth, rgb, Intrinsics(**CAMERA), SENSORS["kinect_v1"], rng)
    # All but the last bits, which JPEG and the codes of depth have changed.
    assert np.mean(np.isclose(again, metres(row, files), atol=2e-3)) > 0.95
    assert row["source"] == copy["source"]
    assert not np.array_equal(metres(row, files), metres(copy, its_files))


def test_a_candidate_made_again_has_the_same_sensor_depth(job):
    config = job(sensor={"preset": "azure_kinect"})
    stored = {row["candidate"]: files for row, files in pairs(make(config))}
    again = make_again(config.output, *find_candidate(config.output, 1, trust=True), "cpu")
    (sensor,) = (data for name, data in again.members.items() if name.endswith("sensor.png"))
    assert sensor == stored[1]["sensor"]


def test_a_run_without_a_sensor_is_what_it_was(job):
    assert "sensor" not in job().model_dump(mode="json")
    assert not [name for name in added_columns(job()) if name.startswith("sensor")]


def test_depth_that_is_not_said_to_be_metres_is_refused_before_a_run_begins(job):
    config = job(sensor={"preset": "d435"})
    relative = {"encoding": {"camera": CAMERA, "unit": "relative"}}
    config = config.model_copy(update={"source": config.source | relative})
    with pytest.raises(MfsynthError, match="nobody says that the source's depth is in them"):
        require_usable(RunItems(config), config)


@pytest.mark.parametrize(
    ("mode", "changes", "said"),
    [
        ("d2i", {"sensor": {"preset": "l515"}}, "must be one of d435, "),
        ("i2d", {"sensor": {"preset": "d435"}}, "depth is relative; set metres_per_unit"),
        (
            "i2d",
            {"sensor": {"preset": "d435"}, "metres_per_unit": "source"},
            "keep what their source's sensor measured; leave it out",
        ),
    ],
)
def test_what_no_sensor_can_measure_is_refused_in_a_line(job, mode, changes, said):
    with pytest.raises(ValidationError, match=said):
        job(mode, **changes)
