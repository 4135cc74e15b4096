from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from conftest_scenes import make_scene
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.checks.flying_pixels import flying_pixels, jump_radius


def test_sharp_steps_have_none_and_blurred_ones_many(scene):
    _, depth = scene
    assert flying_pixels(depth) == 0
    assert flying_pixels(cv2.GaussianBlur(depth, (0, 0), 2)) > 0.4


def test_a_single_hanging_column_is_counted_exactly():
    depth = np.full((64, 64), 1.0, np.float32)
    depth[:, 32] = 1.5
    depth[:, 33:] = 2.0
    # Over the radius of 1, the columns 31 to 33 span a jump; only 32 hangs between its sides.
    assert flying_pixels(depth) == pytest.approx(1 / 3)


def test_the_neighbourhood_shrinks_with_the_image():
    assert jump_radius(64, 640) == 1
    assert jump_radius(224, 224) == 2
    assert jump_radius(2048, 2048) == 2


def test_blurred_real_depth_scores_worse(auc):
    assert auc("flying_pixels", "blur σ 2 px") > 0.98


@given(scale=st.floats(1e-3, 1e3))
def test_a_constant_scale_of_depth_changes_nothing(scale):
    _, depth = make_scene(96)
    depth = cv2.GaussianBlur(depth, (0, 0), 1)
    scaled = flying_pixels(depth * np.float32(scale))
    assert scaled == pytest.approx(flying_pixels(depth), abs=0.01)


def test_invalid_borders_are_not_jumps():
    depth = np.full((64, 64), 2.0, np.float32)
    depth[20:40, 20:40] = 0
    assert math.isnan(flying_pixels(depth))


def test_it_abstains_on_a_flat_scene():
    assert math.isnan(flying_pixels(np.full((64, 64), 2.0, np.float32)))
