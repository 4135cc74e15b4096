"""Planes of depth maps, and gravity from the ground."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_normals import plane_depth, towards_camera

from mfsynth.geometry import Intrinsics
from mfsynth.geometry.planes import find_planes, gravity_direction

SIZE = 48
CAMERA = Intrinsics.from_horizontal_fov(SIZE, SIZE, 60.0)
FLOOR, WALL = towards_camera(45, 270), towards_camera(30, 90)  # facing up, and down a little


def looking_down(degrees):
    """The normal of level ground before a camera that looks down by so much."""
    down = math.radians(degrees)
    return np.array([0.0, -math.cos(down), -math.sin(down)])


def room():
    """Ground whose upper third is hidden by a wall, with a box on it."""
    depth = plane_depth(FLOOR, 1.0, CAMERA, SIZE, SIZE)
    depth[:16] = plane_depth(WALL, 2.0, CAMERA, SIZE, SIZE)[:16]
    depth[30:36, 10:20] = 0.9
    return depth


@settings(max_examples=20)
@given(st.floats(0, 60), st.floats(0, 360), st.floats(0.01, 1000), st.integers(0, 2**32 - 1))
def test_a_plane_is_found_exactly(tilt, turn, distance, seed):
    normal = towards_camera(tilt, turn)
    depth = plane_depth(normal, distance, CAMERA, SIZE, SIZE)
    assume(depth.all())
    (plane,) = find_planes(depth, CAMERA, count=3, seed=seed)
    np.testing.assert_allclose(plane.normal, normal, atol=1e-4)
    assert plane.distance == pytest.approx(distance, rel=1e-4)
    assert plane.pixels.all()
    assert plane.residual < 1e-5


def test_planes_come_by_their_size_and_share_no_pixel():
    floor, wall = find_planes(room(), CAMERA, count=2)
    np.testing.assert_allclose(floor.normal, FLOOR, atol=1e-3)
    np.testing.assert_allclose(wall.normal, WALL, atol=1e-3)
    assert floor.pixels.sum() > wall.pixels.sum()
    assert not (floor.pixels & wall.pixels).any()
    assert not floor.pixels[30:36, 10:20].any()


@pytest.mark.parametrize("unit", [2.0**-10, 2.0**10])
def test_the_unit_of_depth_decides_nothing(unit):
    def parts(scale):
        return [p.pixels for p in find_planes((room() * scale).astype(np.float32), CAMERA, count=2)]

    np.testing.assert_array_equal(parts(unit), parts(1))


def test_a_noisy_plane_is_found_within_a_degree():
    noise = 1 + 0.004 * np.random.default_rng(3).standard_normal((SIZE, SIZE))
    depth = (plane_depth(FLOOR, 1.0, CAMERA, SIZE, SIZE) * noise).astype(np.float32)
    (plane,) = find_planes(depth, CAMERA)
    assert math.degrees(math.acos(plane.normal @ FLOOR)) < 1
    assert plane.residual == pytest.approx(0.004 * abs(FLOOR[2]), rel=0.6)


@pytest.mark.parametrize("degrees", [0.0, 20.0, 45.0, 70.0])
def test_gravity_points_into_the_ground(degrees):
    ground = looking_down(degrees)
    below = plane_depth(ground, 1.0, CAMERA, SIZE, SIZE)
    sky = (below == 0) | (below > 50)
    down = gravity_direction(np.where(sky, np.float32(50), below), CAMERA)
    assert down is not None
    np.testing.assert_allclose(down, -ground, atol=0.02)


def test_a_wall_is_no_ground():
    assert gravity_direction(plane_depth(WALL, 1.0, CAMERA, SIZE, SIZE), CAMERA) is None
    assert gravity_direction(np.ones((SIZE, SIZE), np.float32), CAMERA) is None


@pytest.mark.parametrize(
    "depth",
    [
        np.zeros((SIZE, SIZE), np.float32),
        np.full((SIZE, SIZE), np.nan, np.float32),
        np.ones((1, 1), np.float32),
        np.ones((1, 50), np.float32),
        np.random.default_rng(0).uniform(1, 100, (SIZE, SIZE)).astype(np.float32),
    ],
    ids=["all invalid", "nan", "one pixel", "one row", "noise"],
)
def test_where_no_plane_is_there_is_none(depth):
    assert find_planes(depth, CAMERA) == []
    assert gravity_direction(depth, CAMERA) is None
