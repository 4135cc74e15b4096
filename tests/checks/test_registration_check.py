from __future__ import annotations

import math

import numpy as np
import pytest
from conftest_scenes import make_scene, moved
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.checks.registration import GRID_RADIUS, registration, shift_scores, shift_step

MIN_Z = 1.5


@pytest.mark.parametrize(
    ("side", "step"), [(32, 1), (64, 1), (128, 2), (224, 4), (512, 9), (1024, 18)]
)
def test_the_shift_grid_grows_with_the_shorter_side(side, step):
    assert shift_step(side, 2 * side) == step
    assert shift_step(2 * side, side) == step


def test_a_registered_scene_passes_and_a_shifted_one_fails(scene, side):
    rgb, depth = scene
    assert registration(rgb, depth) > MIN_Z
    assert registration(rgb, moved(depth, side // 16)) < MIN_Z


@pytest.mark.parametrize("shift", [(-2, 0), (0, 3), (2, -2)])
def test_the_best_shift_undoes_the_displacement(shift):
    rgb, depth = make_scene(224)
    step = shift_step(224, 224)
    scores = shift_scores(rgb, np.roll(depth, (shift[0] * step, shift[1] * step), (0, 1)))
    dy, dx = np.unravel_index(scores.argmax(), scores.shape)
    assert (dy - GRID_RADIUS, dx - GRID_RADIUS) == (-shift[0], -shift[1])


def test_real_pairs_score_better_than_misregistered_ones(clean, auc):
    assert np.nanmedian(clean("registration")) > MIN_Z
    assert auc("registration", "other sample's depth") > 0.95
    assert auc("registration", "flip") > 0.9
    assert auc("registration", "shift 8 px") > 0.9
    assert auc("registration", "shift 4 px") > 0.65
    assert auc("registration", "shift 8 px") > auc("registration", "shift 4 px")


def test_wrong_but_aligned_geometry_is_beyond_this_check(auc):
    assert auc("registration", "gamma 2") == pytest.approx(0.5, abs=0.1)


@given(scale=st.floats(1e-3, 1e3))
def test_a_constant_scale_of_depth_changes_nothing(scale):
    rgb, depth = make_scene(96)
    depth[:10, :10] = 0
    scaled = registration(rgb, depth * np.float32(scale))
    assert scaled == pytest.approx(registration(rgb, depth), abs=0.05)


def test_the_borders_of_invalid_areas_are_not_depth_edges():
    rgb, _ = make_scene(224)
    wall = np.full((224, 224), 2.0, np.float32)
    wall[60:160, 60:160] = 0
    assert math.isnan(registration(rgb, wall))


def test_sensor_shadows_along_an_object_keep_its_edges():
    rgb, depth = make_scene(224)
    edges = np.abs(np.diff(depth, axis=1, prepend=depth[:, :1])) > 0
    far_side = edges & (np.diff(depth, axis=1, prepend=depth[:, :1]) > 0)
    for offset in range(3):
        depth[np.roll(far_side, offset, axis=1)] = 0
    assert registration(rgb, depth) > MIN_Z


@pytest.mark.parametrize(
    "depth",
    [
        pytest.param(np.full((128, 128), 2.0, np.float32), id="constant depth"),
        pytest.param(np.zeros((128, 128), np.float32), id="nothing valid"),
        pytest.param(np.full((128, 128), np.nan, np.float32), id="not a number"),
        pytest.param(
            (1 / np.linspace(1.0, 0.4, 128, dtype=np.float32))[:, None].repeat(128, 1),
            id="a lone slanted plane",
        ),
    ],
)
def test_it_abstains_without_depth_edges(depth):
    rgb, _ = make_scene(128)
    assert math.isnan(registration(rgb, depth))


def test_it_abstains_on_an_image_without_edges():
    _, depth = make_scene(128)
    assert math.isnan(registration(np.full((128, 128, 3), 77, np.uint8), depth))


def test_it_abstains_on_images_smaller_than_the_shift_grid():
    rgb, depth = make_scene(64)
    assert math.isnan(registration(rgb[:8, :8], depth[:8, :8]))
