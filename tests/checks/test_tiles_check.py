from __future__ import annotations

import math

import numpy as np
import pytest
from conftest_scenes import make_scene, real_pairs
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.checks.tiles import tiles

LIMIT = 1.5


def seamy(depth: np.ndarray, period: int, strength: float = 0.01, seed: int = 0) -> np.ndarray:
    """Depth of which each patch has a scale of its own."""
    rows, columns = (-(-size // period) for size in depth.shape)
    scales = np.exp(np.random.default_rng(seed).normal(0, strength, (rows, columns)))
    whole = np.kron(scales, np.ones((period, period)))[: depth.shape[0], : depth.shape[1]]
    return (depth * whole).astype(np.float32)


@pytest.mark.parametrize("period", [8, 14, 16])
def test_patches_with_a_scale_of_their_own_fail(scene, period):
    _, depth = scene
    assert tiles(depth) == pytest.approx(1)
    assert tiles(seamy(depth, period)) > LIMIT


def test_seams_are_seen_in_noise():
    noise = np.random.default_rng(0).normal(0, 0.002, (224, 224))
    _, depth = make_scene(224)
    noisy = (depth * np.exp(noise)).astype(np.float32)
    assert tiles(noisy) == pytest.approx(1, abs=0.1)
    assert tiles(seamy(noisy, 16)) > LIMIT


def test_real_depth_passes_and_with_seams_of_half_a_percent_fails():
    for _, frame in real_pairs(224):
        assert tiles(frame) < 1.3
        for period in (8, 14, 16):
            assert tiles(seamy(frame, period, strength=0.005)) > LIMIT


def test_patches_of_another_size_are_seen_only_where_they_are_asked_for():
    rough = np.exp(np.random.default_rng(0).normal(0, 0.002, (200, 200)))
    depth = seamy(rough.astype(np.float32), 10)
    assert tiles(depth, (8, 14, 16)) < LIMIT < tiles(depth, (8, 10))


@given(scale=st.floats(1e-3, 1e3))
def test_a_constant_scale_of_depth_changes_nothing(scale):
    _, depth = make_scene(64)
    depth = seamy(depth, 8)
    assert tiles(depth * np.float32(scale)) == pytest.approx(tiles(depth), rel=0.02)


def test_lines_with_holes_count_by_what_they_have():
    _, depth = make_scene(128)
    depth = seamy(depth, 16)
    depth[:, :40] = 0
    depth[60:70] = 0
    assert tiles(depth) > LIMIT


def test_it_abstains_where_there_are_no_two_patches():
    _, depth = make_scene(64)
    assert math.isnan(tiles(depth[:6, :6]))
    assert math.isnan(tiles(np.zeros_like(depth)))
