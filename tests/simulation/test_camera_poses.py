"""Camera poses: OpenCV axes, and just far enough away."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfsynth.geometry import Intrinsics, project
from mfsynth.simulation.camera_poses import CameraPose, fitting_distance

AZIMUTHS = st.floats(-360, 360)
ELEVATIONS = st.floats(-80, 80)
DISTANCES = st.floats(0.2, 3)
TARGET = np.array([0.1, -0.2, 0.05])


@settings(deadline=None)
@given(AZIMUTHS, ELEVATIONS, DISTANCES)
def test_a_pose_is_a_rotation_at_the_distance(azimuth, elevation, distance):
    pose = CameraPose.looking_at(TARGET, azimuth, elevation, distance)
    np.testing.assert_allclose(pose.rotation.T @ pose.rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose.rotation) > 0
    np.testing.assert_allclose(pose.to_camera(TARGET), [0, 0, distance], atol=1e-12)


@settings(deadline=None)
@given(AZIMUTHS, ELEVATIONS)
def test_a_camera_is_level_and_upright(azimuth, elevation):
    pose = CameraPose.looking_at(TARGET, azimuth, elevation, 1.0)
    assert abs(pose.rotation[2, 0]) < 1e-12  # its x axis is horizontal
    assert pose.rotation[2, 1] < 0  # its y axis points down


@settings(deadline=None)
@given(AZIMUTHS, ELEVATIONS, st.floats(-90, 90))
def test_a_rolled_camera_looks_the_same_way_with_its_right_side_down(azimuth, elevation, degrees):
    pose = CameraPose.looking_at(TARGET, azimuth, elevation, 1.0)
    rolled = pose.rolled(degrees)
    np.testing.assert_array_equal(rolled.position, pose.position)
    np.testing.assert_allclose(rolled.rotation[:, 2], pose.rotation[:, 2], atol=1e-12)
    expected = math.sin(math.radians(degrees)) * pose.rotation[2, 1]
    assert rolled.rotation[2, 0] == pytest.approx(expected, abs=1e-12)


def test_azimuth_and_elevation_say_where_the_camera_is():
    pose = CameraPose.looking_at(np.zeros(3), 90.0, 30.0, 2.0)
    np.testing.assert_allclose(pose.position, [0, np.sqrt(3), 1], atol=1e-12)


@settings(deadline=None)
@given(AZIMUTHS, ELEVATIONS, st.integers(0, 2**32 - 1))
def test_world_and_camera_axes_are_inverse(azimuth, elevation, seed):
    pose = CameraPose.looking_at(TARGET, azimuth, elevation, 1.0)
    points = np.random.default_rng(seed).normal(size=(5, 3))
    homogeneous = np.concatenate([pose.to_camera(points), np.ones((5, 1))], axis=1)
    world = homogeneous @ pose.camera_to_world().T
    np.testing.assert_allclose(world[:, :3], points, atol=1e-12)


@settings(deadline=None)
@given(AZIMUTHS, ELEVATIONS, st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_the_fitting_distance_is_the_smallest_that_shows_all(azimuth, elevation, seed, margin):
    points = TARGET + np.random.default_rng(seed).uniform(-0.1, 0.1, (20, 3))
    height, width = 48, 64
    camera = Intrinsics.from_vertical_fov(height, width, 40.0)
    distance = fitting_distance(points, TARGET, azimuth, elevation, camera, height, width, margin)

    def reach(d):
        pose = CameraPose.looking_at(TARGET, azimuth, elevation, d)
        offset = np.abs(project(pose.to_camera(points), camera) - [camera.cx, camera.cy])
        return (offset / [width / 2, height / 2]).max()

    assert abs(reach(distance) - (1 - margin)) < 1e-6
    assert reach(distance * 1.1) < 1 - margin
