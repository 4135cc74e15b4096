"""Depth carried over to a camera beside it is what that camera would have measured."""

from __future__ import annotations

import numpy as np
import pytest

from mfsynth.geometry import Intrinsics, pixel_rays
from mfsynth.geometry.registration import depth_in_camera

DEPTH_CAMERA = Intrinsics(60.0, 60.0, 39.5, 29.5)
COLOUR_CAMERA = Intrinsics(95.0, 94.0, 41.0, 28.0)
SHAPE = (60, 80)


def pose(angle=0.0, translation=(0.0, 0.0, 0.0)):
    """Turned about the vertical axis, then moved."""
    made = np.eye(4)
    cosine, sine = np.cos(angle), np.sin(angle)
    made[:3, :3] = [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    made[:3, 3] = translation
    return made


def plane(camera, normal, distance):
    """Depth of the points p with normal · p = distance."""
    rays = pixel_rays(*SHAPE, camera)
    return (distance / (rays @ np.asarray(normal, float))).astype(np.float32)


def test_the_same_camera_sees_the_same():
    depth = plane(DEPTH_CAMERA, (0.1, 0.2, 1), 2)
    depth[3:6, 4:9] = 0
    same = depth_in_camera(depth, DEPTH_CAMERA, DEPTH_CAMERA, np.eye(4), SHAPE)
    np.testing.assert_allclose(same, depth, rtol=1e-6)


@pytest.mark.parametrize("translation", [(0.05, 0, 0), (-0.03, 0.02, 0.1)])
def test_a_slanted_plane_has_the_depth_of_the_other_camera_and_no_pinholes(translation):
    to_colour = pose(0.02, translation)
    normal = np.array([0.1, -0.15, 1.0])
    there = to_colour[:3, :3] @ normal
    wanted = plane(COLOUR_CAMERA, there, 2 + there @ to_colour[:3, 3])
    depth = plane(DEPTH_CAMERA, normal, 2)
    carried = depth_in_camera(depth, DEPTH_CAMERA, COLOUR_CAMERA, to_colour, SHAPE)
    inner = carried[8:-8, 8:-8]
    assert (inner > 0).mean() > 0.995
    valid = carried > 0
    # A pixel of depth is one depth over all that it covers.
    np.testing.assert_allclose(carried[valid], wanted[valid], rtol=4e-3)


def test_what_is_near_hides_what_is_behind_it_and_leaves_a_shadow_beside_it():
    depth = np.full(SHAPE, 4, np.float32)
    depth[20:40, 30:50] = 1
    carried = depth_in_camera(depth, DEPTH_CAMERA, DEPTH_CAMERA, pose(0, (0.1, 0, 0)), SHAPE)
    row = carried[30]
    # Moved by 60 * .1 / 1 = 6 pixels, the background by 1.5.
    assert (row[36:56] == 1).all()
    assert (row[33:36] == 0).all()
    assert (row[57:79] == 4).all()
    assert (row[2:31] == 4).all()


def test_finer_cameras_see_whole_surfaces_and_coarser_ones_the_nearest():
    depth = np.full(SHAPE, 2, np.float32)
    fine = COLOUR_CAMERA.resized(3, 3)
    carried = depth_in_camera(depth, DEPTH_CAMERA, fine, np.eye(4), (180, 240))
    assert (carried[10:-10, 10:-10] == 2).all()
    depth[::2] = 1
    coarse = DEPTH_CAMERA.resized(0.5, 0.5)
    assert (depth_in_camera(depth, DEPTH_CAMERA, coarse, np.eye(4), (30, 40)) == 1).all()


@pytest.mark.parametrize("degrees", [1, 10, 45, 120, 180])
def test_a_finer_camera_that_is_rolled_sees_no_holes(degrees):
    depth = np.full(SHAPE, 2, np.float32)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rolled = np.eye(4)
    rolled[:2, :2] = [[cosine, -sine], [sine, cosine]]
    fine = DEPTH_CAMERA.resized(2, 2)
    carried = depth_in_camera(depth, DEPTH_CAMERA, fine, rolled, (120, 160))
    rows, columns = np.mgrid[:120, :160]
    within = np.hypot(rows - fine.cy, columns - fine.cx) < 58
    assert (carried[within] == 2).all()


def test_what_is_behind_the_camera_or_outside_is_not_seen():
    depth = np.full(SHAPE, 1, np.float32)
    for away in (pose(0, (0, 0, -2)), pose(0, (9, 0, 0)), pose(np.pi, (0, 0, 0))):
        assert not depth_in_camera(depth, DEPTH_CAMERA, DEPTH_CAMERA, away, SHAPE).any()
    assert not depth_in_camera(0 * depth, DEPTH_CAMERA, DEPTH_CAMERA, np.eye(4), SHAPE).any()


@pytest.mark.parametrize(
    ("other", "matrix", "problem"),
    [
        (DEPTH_CAMERA, np.eye(3), "a pose is 4x4 or 3x4"),
        (DEPTH_CAMERA, np.diag([2.0, 1, 1, 1]), "no rotation in the pose"),
        (DEPTH_CAMERA, np.diag([-1.0, 1, 1, 1]), "mirrors"),
        (Intrinsics(6000, 6000, 40, 30), np.eye(4), "covers 1.. of colour to a side"),
    ],
)
def test_what_is_no_pair_of_cameras_is_refused(other, matrix, problem):
    depth = np.full(SHAPE, 1, np.float32)
    with pytest.raises(ValueError, match=problem):
        depth_in_camera(depth, DEPTH_CAMERA, other, matrix, SHAPE)
