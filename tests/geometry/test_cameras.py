"""Pinhole cameras and the way between depth maps and points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.geometry import DepthKind, Intrinsics, backproject, pixel_rays, project, quaternion

SIZES = st.integers(1, 40)
FOVS = st.floats(5.0, 150.0)


@given(SIZES, SIZES, FOVS)
def test_the_field_of_view_spans_the_outer_edges_of_the_outer_rows(height, width, fov):
    camera = Intrinsics.from_vertical_fov(height, width, fov)
    top = math.atan((camera.cy + 0.5) / camera.fy)
    bottom = math.atan((height - 0.5 - camera.cy) / camera.fy)
    assert math.degrees(top + bottom) == pytest.approx(fov)
    assert (camera.cx, camera.cy) == ((width - 1) / 2, (height - 1) / 2)
    assert camera.fx == camera.fy


@given(SIZES, SIZES, FOVS, FOVS)
def test_the_field_of_view_is_that_of_the_camera(height, width, fov, shift):
    camera = Intrinsics.from_horizontal_fov(height, width, fov)
    assert camera.horizontal_fov(width) == pytest.approx(fov)
    assert Intrinsics.from_vertical_fov(height, width, fov).vertical_fov(height) == (
        pytest.approx(fov)
    )
    # Both parts of a cut image, whose centre lies outside of each, see what the whole one does.
    left, right = camera, camera.cropped(0, width)
    wide = left.horizontal_fov(width) + right.horizontal_fov(round(shift))
    assert wide == pytest.approx(camera.horizontal_fov(width + round(shift)))


@given(SIZES, SIZES, FOVS, st.integers(0, 2**32 - 1))
def test_projecting_back_projected_depth_gives_the_pixel_grid(height, width, fov, seed):
    camera = Intrinsics.from_vertical_fov(height, width, fov)
    depth = np.random.default_rng(seed).uniform(0.1, 10, (height, width)).astype(np.float32)
    points = backproject(depth, camera)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points[..., 2], depth)
    rows, columns = np.mgrid[:height, :width]
    pixels = project(points, camera)
    np.testing.assert_allclose(pixels[..., 0], columns, atol=1e-3)
    np.testing.assert_allclose(pixels[..., 1], rows, atol=1e-3)


def test_back_projection_has_x_right_y_down_z_forward():
    points = backproject(np.ones((3, 3), np.float32), Intrinsics(1, 1, 1, 1))
    np.testing.assert_array_equal(points[1, 1], [0, 0, 1])
    np.testing.assert_array_equal(points[0, 2], [1, -1, 1])


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_invalid_depth_has_no_point(bad):
    points = backproject(np.array([[bad, 1.0]], np.float32), Intrinsics(1, 1, 0, 0))
    assert np.isnan(points[0, 0]).all()
    assert np.isfinite(points[0, 1]).all()


def test_back_projection_wants_a_single_map():
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        backproject(np.ones((2, 3, 1), np.float32), Intrinsics(1, 1, 0, 0))


def test_a_point_behind_the_camera_has_no_pixel():
    assert np.isnan(project(np.array([0.0, 0.0, -1.0]), Intrinsics(1, 1, 0, 0))).all()


def test_rays_have_unit_depth():
    assert (pixel_rays(4, 6, Intrinsics(3, 4, 2, 2))[..., 2] == 1).all()


def test_the_matrix_goes_there_and_back():
    camera = Intrinsics(500.0, 510.0, 319.5, 239.5)
    assert Intrinsics.from_matrix(camera.matrix()) == camera


@pytest.mark.parametrize(
    "matrix", [np.eye(4), [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 2]]]
)
def test_a_matrix_that_is_no_pinhole_camera_is_refused(matrix):
    with pytest.raises(ValueError, match="intrinsic matrix"):
        Intrinsics.from_matrix(np.array(matrix))


@given(st.sampled_from([2, 3, 4]), FOVS)
def test_resizing_equals_a_camera_made_for_the_new_size(factor, fov):
    small = Intrinsics.from_vertical_fov(12, 24, fov)
    large = Intrinsics.from_vertical_fov(12 * factor, 24 * factor, fov)
    resized = small.resized(factor, factor)
    np.testing.assert_allclose(resized.matrix(), large.matrix(), rtol=1e-9)


def test_cropping_keeps_points_on_their_content():
    camera = Intrinsics(10, 10, 8, 8)
    point = np.array([0.3, -0.2, 1.5])
    moved = project(point, camera.cropped(top=3, left=5))
    np.testing.assert_allclose(moved, project(point, camera) - [5, 3])


@pytest.mark.parametrize("values", [(0, 1, 0, 0), (1, -1, 0, 0), (1, 1, math.nan, 0)])
def test_impossible_intrinsics_are_refused(values):
    with pytest.raises(ValueError, match=r"intrinsics|focal"):
        Intrinsics(*values)


@pytest.mark.parametrize(
    ("height", "width", "fov"), [(0, 4, 40), (4, 0, 40), (4, 4, 0), (4, 4, 180)]
)
def test_an_impossible_field_of_view_is_refused(height, width, fov):
    with pytest.raises(ValueError, match=r"pixel|field of view"):
        Intrinsics.from_vertical_fov(height, width, fov)


def test_depth_kinds_are_written_as_plain_strings():
    assert f"{DepthKind.METRIC_Z}" == "metric_z"
    assert DepthKind("scale_invariant_z") is DepthKind.SCALE_INVARIANT_Z


@given(SIZES, SIZES, FOVS)
def test_a_mirrored_camera_sees_a_point_in_the_mirrored_column(height, width, fov):
    camera = Intrinsics.from_horizontal_fov(height, width, fov).cropped(1, 2)
    point = np.array([0.3, -0.2, 1.5])
    column, row = project(point, camera)
    seen = project(point * [-1, 1, 1], camera.mirrored(width))
    np.testing.assert_allclose(seen, [width - 1 - column, row], atol=1e-9)
    assert camera.mirrored(width).mirrored(width) == camera


def test_a_quaternion_turns_as_its_matrix_does():
    turns = np.random.default_rng(3).normal(size=(50, 4))
    half_turns = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.6, 0, 0.8, 0]]
    for turn in [*turns, *half_turns]:
        x, y, z, w = wanted = np.divide(turn, np.linalg.norm(turn))
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        found = quaternion(np.eye(3) + 2 * w * cross + 2 * cross @ cross)
        assert found[3] >= 0
        assert abs(np.dot(found, wanted)) == pytest.approx(1, abs=1e-12)
