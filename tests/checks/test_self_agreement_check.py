from __future__ import annotations

import math

import numpy as np
import pytest
from conftest_scenes import make_scene
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.checks.self_agreement import self_agreement


def test_the_same_depth_agrees():
    _, depth = make_scene(64)
    assert self_agreement(depth, depth) == pytest.approx(0, abs=1e-6)


@given(scale=st.floats(1e-3, 1e3))
def test_only_one_scale_is_forgiven(scale):
    _, depth = make_scene(64)
    assert self_agreement(depth * np.float32(scale), depth) == pytest.approx(0, abs=1e-4)
    assert self_agreement(depth * np.float32(scale) + np.float32(scale), depth) > 0.02


def test_the_score_is_the_mean_relative_error():
    reference = np.full((64, 64), 2.0, np.float32)
    depth = reference.copy()
    depth[:16] = 3.0
    assert self_agreement(depth, reference) == pytest.approx(0.25 * 0.5)


@pytest.mark.parametrize(
    "corruption", ["other sample's depth", "inverted", "gamma 2", "tilt ±30 %", "flattened"]
)
def test_it_sees_wrong_geometry_on_real_depth(auc, corruption):
    assert auc("self_agreement", corruption) > 0.95


def test_pixels_invalid_in_either_do_not_count():
    _, reference = make_scene(64)
    depth = reference.copy()
    depth[:10] = 0
    spoilt = reference.copy()
    spoilt[40:] = 0
    assert self_agreement(depth, spoilt) == pytest.approx(0, abs=1e-6)


def test_it_abstains_without_shared_pixels():
    _, depth = make_scene(64)
    assert math.isnan(self_agreement(depth, np.zeros_like(depth)))
