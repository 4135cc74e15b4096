"""The out-of-domain set of `benchmarks/other_scenes.py`: its depth, masks and cameras are right."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from mfsynth.geometry import pixel_rays
from mfsynth.simulation.gl import load_mujoco

pytestmark = pytest.mark.usefixtures("opengl")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def other(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return pytest.importorskip("other_scenes")


def test_depth_and_masks_agree_with_rays_cast_through_pixel_centres(other):
    mujoco = load_mujoco()
    for seed in range(4):
        xml, textures, camera = other.describe(np.random.default_rng(seed))
        scene = other.render(xml, textures, camera, 32)
        model = mujoco.MjModel.from_xml_string(xml)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        right, down = np.array(camera.right), -np.array(camera.up)
        rays = pixel_rays(32, 32, scene.intrinsics).reshape(-1, 3)
        lengths = np.linalg.norm(rays, axis=1)
        world = rays / lengths[:, None] @ np.stack([right, down, np.cross(right, down)])
        count = len(rays)
        hits, distances = np.empty(count, np.int32), np.empty(count)
        mujoco.mj_multiRay(
            model, data, np.array(camera.position), world.ravel(), None, True, -1,
            hits, distances, None, count, 20.0,
        )  # fmt: skip
        assert (hits >= 0).all()
        error = np.abs(scene.depth.ravel() / (distances / lengths) - 1)
        assert np.quantile(error, 0.9) < 5e-3
        assert np.quantile(error, 0.5) < 1e-4
        # The room is the last of the bodies.
        shown = model.geom_bodyid[hits] != model.nbody - 1
        assert 0 < scene.things.mean() < 1
        assert (scene.things.ravel() == shown).mean() > 0.98


def test_a_scene_is_a_function_of_seed_and_number(other):
    first = list(other.other_scenes(2, 16, 5))
    again = list(other.other_scenes(2, 16, 5))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.depth, b.depth)
        assert a.intrinsics == b.intrinsics
    assert first[0].intrinsics != first[1].intrinsics


def test_scenes_are_what_they_were_before_they_had_masks(other):
    """What was published of them compares with what is measured today."""
    xml, *_ = other.describe(np.random.default_rng([5, 0]))
    digest = hashlib.sha256(xml.encode()).hexdigest()
    assert digest == "74eb42b8c3ec28d444f1b8608f437c90b302a986f65cfe4bae30f9234c519ce1"
    [scene] = other.other_scenes(1, 16, 5)
    # As far as drivers agree.
    assert scene.rgb.mean() == pytest.approx(88.807, rel=0.01)
    assert scene.depth.mean() == pytest.approx(1.40876, rel=0.001)
