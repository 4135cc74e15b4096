"""Normals from depth and a camera."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mfsynth.geometry import Intrinsics, pixel_rays
from mfsynth.geometry.normals import normals_from_depth

HEIGHT, WIDTH = 24, 32


def plane_depth(normal, distance, camera, height=HEIGHT, width=WIDTH):
    """z-depth of the plane normal · p + distance = 0, facing the camera; 0 beside it."""
    facing = -pixel_rays(height, width, camera) @ np.asarray(normal)
    seen = facing > 0.08
    return np.where(seen, distance / np.where(seen, facing, 1), 0).astype(np.float32)


def towards_camera(tilt, turn):
    """A unit vector `tilt` degrees off the way back along the optical axis."""
    tilt, turn = math.radians(tilt), math.radians(turn)
    sideways = math.sin(tilt)
    return np.array([sideways * math.cos(turn), sideways * math.sin(turn), -math.cos(tilt)])


@given(
    tilt=st.floats(0, 75),
    turn=st.floats(0, 360),
    distance=st.floats(0.01, 1000),
    fov=st.floats(20, 100),
    radius=st.integers(1, 4),
)
def test_the_normal_of_a_tilted_plane_is_exact(tilt, turn, distance, fov, radius):
    camera = Intrinsics.from_horizontal_fov(HEIGHT, WIDTH, fov)
    normal = towards_camera(tilt, turn)
    depth = plane_depth(normal, distance, camera)
    assume(depth.all())
    found = normals_from_depth(depth, camera, radius=radius)
    inside = found[radius:-radius, radius:-radius]
    assert found.dtype == np.float32
    np.testing.assert_allclose(inside, np.broadcast_to(normal, inside.shape), atol=1e-4)


def test_there_is_no_normal_where_the_window_leaves_the_image():
    found = normals_from_depth(np.ones((8, 9), np.float32), Intrinsics(9, 9, 4, 4), radius=2)
    inside = np.zeros((8, 9), bool)
    inside[2:-2, 2:-2] = True
    np.testing.assert_array_equal((found != 0).any(axis=-1), inside)


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_jump_has_no_normals_and_both_sides_have_exact_ones(radius, axis):
    camera = Intrinsics.from_horizontal_fov(30, 30, 60.0)
    near, far = towards_camera(40, 100), towards_camera(30, 10)
    depth = plane_depth(near, 1.0, camera, 30, 30)
    behind = plane_depth(far, 3.0, camera, 30, 30)
    cut = [slice(None), slice(None)]
    cut[axis] = slice(15, None)
    depth[tuple(cut)] = behind[tuple(cut)]
    found = np.moveaxis(normals_from_depth(depth, camera, radius=radius), axis, 0)
    before, after = found[: 15 - radius], found[15 + radius :]
    for side, normal in ((before, near), (after, far)):
        given_ = side[(side != 0).any(axis=-1)]
        np.testing.assert_allclose(given_, np.broadcast_to(normal, given_.shape), atol=1e-4)
        assert len(given_) == (15 - 2 * radius) * (30 - 2 * radius)
    assert not found[15 - radius : 15 + radius].any()


def test_a_crease_is_no_jump():
    camera = Intrinsics.from_horizontal_fov(30, 30, 60.0)
    roof = np.maximum(
        plane_depth(towards_camera(30, 0), 1.0, camera, 30, 30),
        plane_depth(towards_camera(30, 180), 1.0, camera, 30, 30),
    )
    found = normals_from_depth(roof, camera)
    assert (found[1:-1, 1:-1] != 0).any(axis=-1).all()


def test_an_edge_smeared_over_pixels_has_no_normals():
    camera = Intrinsics.from_horizontal_fov(20, 20, 60.0)
    row = np.interp(np.arange(20), [8, 12], [1.0, 4.0]).astype(np.float32)
    found = normals_from_depth(np.tile(row, (20, 1)), camera)
    assert not found[:, 9:12].any()
    assert found[1:-1, 1:7].any(axis=-1).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_window_with_an_invalid_pixel_has_no_normal(bad):
    depth = np.ones((9, 9), np.float32)
    depth[4, 4] = bad
    found = normals_from_depth(depth, Intrinsics(9, 9, 4, 4))
    assert not found[3:6, 3:6].any()
    np.testing.assert_array_equal(found[2, 2], [0, 0, -1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 2)])
def test_an_image_smaller_than_the_window_has_no_normals(shape):
    assert not normals_from_depth(np.ones(shape, np.float32), Intrinsics(9, 9, 0, 0)).any()


@pytest.mark.parametrize(
    ("depth", "radius", "problem"),
    [(np.ones((3, 3, 1), np.float32), 1, r"\(H, W\)"), (np.ones((3, 3), np.float32), 0, "radius")],
)
def test_what_has_no_normals_by_mistake_is_refused(depth, radius, problem):
    with pytest.raises(ValueError, match=problem):
        normals_from_depth(depth, Intrinsics(9, 9, 0, 0), radius=radius)


def test_noise_of_depth_is_averaged_over_the_window():
    camera = Intrinsics.from_horizontal_fov(64, 64, 60.0)
    normal = towards_camera(30, 70)
    noise = 1 + 0.003 * np.random.default_rng(5).standard_normal((64, 64))
    depth = (plane_depth(normal, 1.0, camera, 64, 64) * noise).astype(np.float32)

    def error(radius):
        found = normals_from_depth(depth, camera, radius=radius)
        found = found[(found != 0).any(axis=-1)]
        return np.degrees(np.median(np.arccos(np.clip(found @ normal, -1, 1))))

    assert error(3) < error(1) / 5
    assert error(3) < 2
