"""Checks of how surfaces are turned, and whether planes are flat."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest_scenes import make_scene

from mfsynth.checks import CheckedPair, open_checks, run_checks
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics, pixel_rays
from mfsynth.geometry.normals import normals_from_depth

SIDE = 96
CAMERA = Intrinsics.from_vertical_fov(SIDE, SIDE, 60.0)


def turned_down(degrees: float) -> np.ndarray:
    """Turns the rays of a camera that looks down by so much to those of a level one."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])


def room(side: int = SIDE, degrees: float = 0) -> np.ndarray:
    """A floor and two walls, as a camera of 60 degrees sees them that looks down by so much."""
    rays = pixel_rays(side, side, Intrinsics.from_vertical_fov(side, side, 60.0))
    rays = rays @ turned_down(degrees).T
    surfaces = [((0, 1, 0), 1.0), ((0, 0, 1), 4.0), ((-1, 0, 0.3), 1.5)]
    facing = [rays @ np.asarray(normal, float) for normal, _ in surfaces]
    far = [
        np.divide(away, cosine, out=np.full(cosine.shape, np.inf), where=cosine > 1e-9)
        for cosine, (_, away) in zip(facing, surfaces, strict=True)
    ]
    return np.min(far, axis=0).astype(np.float32)


def bent(depth: np.ndarray) -> np.ndarray:
    return np.median(depth) * (depth / np.median(depth)) ** np.float32(2)


def tilted(depth: np.ndarray) -> np.ndarray:
    return depth * np.linspace(0.7, 1.3, depth.shape[1], dtype=np.float32)


def estimate(depth: np.ndarray, kind=EstimateKind.SCALE_INVARIANT_Z, **given) -> DepthEstimate:
    return DepthEstimate((3 * depth).astype(np.float32), depth > 0, kind, **given)


def score(name: str, depth: np.ndarray, **given) -> float:
    pair = CheckedPair(np.zeros((*depth.shape, 3), np.uint8), depth, **given)
    (value,) = run_checks(pair, open_checks({name: {}}).values()).scores.values()
    return value


@pytest.mark.parametrize("side", [64, SIDE, 300, 512])
def test_flat_walls_are_flat_and_bent_or_tilted_ones_are_not(side):
    camera = Intrinsics.from_vertical_fov(side, side, 60.0)
    assert score("planarity", room(side), intrinsics=camera) < 2e-3
    for spoil in (bent, tilted):
        assert score("planarity", spoil(room(side)), intrinsics=camera) > 0.008


@pytest.mark.parametrize("side", [64, SIDE, 300, 512])
def test_walls_are_upright_with_their_own_lens_and_lean_with_another(side):
    depth = room(side, degrees=25)
    cameras = (Intrinsics.from_vertical_fov(side, side, fov) for fov in (60, 45, 78))
    right, *wrong = (score("right_angles", depth, intrinsics=camera) for camera in cameras)
    assert right < 0.2
    # The wall in front leans more than what is taken for upright; the one at the side is left.
    assert min(wrong) > 3


def test_without_ground_or_walls_right_angles_abstain():
    level = pixel_rays(SIDE, SIDE, CAMERA)
    wall = np.full((SIDE, SIDE), 2.0, np.float32)
    assert math.isnan(score("right_angles", wall, intrinsics=CAMERA))
    ground = (1 / np.maximum(level @ turned_down(40)[1], 1e-9)).astype(np.float32)
    assert math.isnan(score("right_angles", ground, intrinsics=CAMERA))


def test_a_limit_rejects_what_is_bent():
    checks = open_checks({"planarity": {"max": 0.005}}).values()
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert run_checks(CheckedPair(rgb, room(), intrinsics=CAMERA), checks).accepted
    assert not run_checks(CheckedPair(rgb, bent(room()), intrinsics=CAMERA), checks).accepted


def test_normals_are_those_of_the_estimate_or_off_by_the_angle_between_them():
    assert score("normals", room(), estimate=estimate(room()), intrinsics=CAMERA) < 0.1
    for spoil in (bent, tilted):
        given = {"estimate": estimate(room()), "intrinsics": CAMERA}
        assert score("normals", spoil(room()), **given) > 5
    turned = np.zeros((SIDE, SIDE, 3), np.float32)
    turned[..., 2] = -1
    wall = np.full((SIDE, SIDE), 2.0, np.float32)
    assert score("normals", wall, estimate=estimate(room(), normals=turned), intrinsics=CAMERA) < 1
    turned[...] = (np.sin(np.radians(30)), 0, -np.cos(np.radians(30)))
    seen = estimate(room(), normals=turned)
    assert score("normals", wall, estimate=seen, intrinsics=CAMERA) == pytest.approx(30, abs=0.1)


def test_normals_that_the_estimator_gives_go_before_those_of_its_depth():
    seen = estimate(tilted(room()), normals=normals_from_depth(room(), CAMERA))
    assert score("normals", room(), estimate=seen, intrinsics=CAMERA) < 0.1


@pytest.mark.parametrize("name", ["normals", "planarity", "right_angles"])
def test_the_camera_is_the_estimators_where_the_pair_has_none(name):
    _, depth = make_scene(SIDE)
    assert math.isnan(score(name, depth, estimate=estimate(depth)))
    seen = estimate(room(), intrinsics=CAMERA)
    own = score(name, bent(room()), estimate=seen, intrinsics=CAMERA)
    assert score(name, bent(room()), estimate=seen) == own
    other = Intrinsics.from_vertical_fov(SIDE, SIDE, 20.0)
    assert score(name, bent(room()), estimate=seen, intrinsics=other) != own


@pytest.mark.parametrize("name", ["normals", "planarity", "right_angles"])
def test_a_constant_scale_of_depth_changes_nothing(name):
    given = {"estimate": estimate(room()), "intrinsics": CAMERA}
    depth = bent(room())
    assert score(name, depth * np.float32(50), **given) == pytest.approx(
        score(name, depth, **given), rel=0.02
    )


def test_without_planes_planarity_abstains():
    rough = np.random.default_rng(0).uniform(1, 5, (SIDE, SIDE)).astype(np.float32)
    assert math.isnan(score("planarity", rough, intrinsics=CAMERA))
