"""Sparse metric depth beside images gives dense metric depth, by the embedded model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from tiny_jobs import make, rows_of

from mfsynth.datasets import RGBDDataset
from mfsynth.geometry import DepthKind
from mfsynth.geometry.completion import completed
from mfsynth.runs.metres import measured as measured_of
from mfsynth.shards.verify import verify_run
from mfsynth.sources.base import DepthFacts, Item
from mfsynth.sources.simulated import LiveScenesSource

FRAMES, MISSED = 4, 2
SHARE = 0.02


@pytest.fixture
def measured(tmp_path, opengl_of_any_thread):
    """Frames of the simulator with a few pixels of their depth, but of one, and the whole of it."""
    rendered = LiveScenesSource("tabletop", FRAMES, 128, 5)
    rng, truth = np.random.default_rng(0), []
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(FRAMES):
        item = rendered[number]
        truth.append(item.depth)
        cv2.imwrite(str(folder / f"{number}.png"), item.rgb[..., ::-1])
        (folder / f"{number}.txt").write_text(item.text)
        seen = item.depth * (rng.random(item.depth.shape) < SHARE)
        if number != MISSED:
            codes = np.rint(seen * 10000).astype(np.uint16)
            cv2.imwrite(str(folder / f"{number}.depth.png"), codes)
    source = {
        **{"kind": "folder", "layout": "generic", "path": str(folder), "images": "[0-9].png"},
        **{"depths": "[0-9].depth.png", "codes_per_unit": 10000.0, "depth": "optional"},
        "captions": {"beside": "txt"},
    }
    return source, truth


def test_measurements_are_kept_and_lead_the_rest_closer_than_their_scale_does(
    job, measured, tmp_path
):
    source, truth = measured
    sampler = {"mode": "i2d", "steps": 4, "guidance": 1.0}
    changes = {"model": {"id": "embedded"}, "sampler": sampler, "metres_per_unit": "source"}
    errors = {}
    for completion in (None, "guided"):
        output = str(tmp_path / f"{completion}")
        store = make(job("i2d", source, output=output, completion=completion, **changes))
        assert verify_run(store).problems == ()
        [reject] = rows_of(store, "rejects")
        assert (reject["source"], reject["reasons"]) == (f"{MISSED}.png", ["metres_per_unit"])
        found = []
        for pair in RGBDDataset(output):
            assert pair.depth_kind == "estimated_metric_z"
            number = int(pair.ref.source[0])
            codes = cv2.imread(source["path"] + f"/{number}.depth.png", cv2.IMREAD_UNCHANGED)
            difference = np.abs(pair.depth / truth[number] - 1)
            found.append(difference[codes == 0].mean())
            if completion:
                assert np.quantile(difference[codes > 0], 0.97) < 1e-3
        errors[completion] = np.mean(found)
    assert errors["guided"] < 0.8 * errors[None]


def test_the_stored_unit_is_the_one_that_depth_was_multiplied_by():
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 1.5, (64, 64)).astype(np.float32)
    # Dense in a corner that is of another scale, sparse in the rest: tiles and pixels differ.
    scale = np.where(np.indices(depth.shape).max(axis=0) < 24, 2.1, 2.0)
    there = (scale > 2.05) | (rng.random(depth.shape) < 0.05)
    sensor = (depth * scale * there).astype(np.float32)
    item = Item(depth=sensor, facts=DepthFacts("metres"))
    kind = DepthKind.SCALE_INVARIANT_Z
    found = measured_of(depth, kind, "source", None, item, guided=True)
    dense, unit = completed(depth, sensor)
    np.testing.assert_allclose(found.depth / found.metres_per_unit, dense, rtol=1e-6)
    assert found.metres_per_unit == unit


@pytest.mark.parametrize("metres", [None, 2.0, "estimator"])
def test_it_goes_through_metres_of_the_source_and_of_nothing_else(job, photographs, metres):
    with pytest.raises(ValueError, match="completion: goes through the source's metres"):
        job("i2d", photographs.settings(), metres_per_unit=metres, completion="guided")
