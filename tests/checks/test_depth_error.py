"""How far an image's depth is from the depth that it was made for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfsynth.checks import CheckedPair, run_checks
from mfsynth.checks.depth_error import DepthError
from mfsynth.geometry import DepthEstimate, EstimateKind

RGB = np.zeros((48, 64, 3), np.uint8)


def scene() -> np.ndarray:
    """A slope with a box in front of it, and a hole."""
    depth = np.linspace(2, 3, 64, dtype=np.float32) * np.ones((48, 1), np.float32)
    depth[16:32, 20:40] = 1.0
    depth[:8, :8] = 0
    return depth


def errors(values: np.ndarray) -> dict[str, float]:
    estimate = DepthEstimate(values, values > 0, EstimateKind.SCALE_INVARIANT_Z)
    return DepthError().measure(CheckedPair(RGB, scene(), estimate=estimate))


def test_the_same_depth_in_another_unit_is_no_error():
    assert errors(np.where(scene() > 0, scene(), 1) * np.float32(7)) == pytest.approx(
        {"depth_error": 0, "depth_error_edges": 0}, abs=1e-6
    )


def test_a_box_that_moved_is_an_error_at_edges_above_all():
    moved = np.where(scene() > 0, scene(), 1)
    moved[16:32, 20:40] = moved[0, 30]
    moved[18:34, 22:42] = 1.0
    found = errors(moved.astype(np.float32))
    assert 0.02 < found["depth_error"] < 0.2
    assert found["depth_error_edges"] > 3 * found["depth_error"]


def test_an_error_of_known_size_is_told_as_it_is():
    estimate = np.where(scene() > 0, scene(), 1)
    estimate[:, :16] *= 1.5
    found = errors(estimate.astype(np.float32))
    share = np.count_nonzero(scene()[:, :16]) / np.count_nonzero(scene())
    assert found["depth_error"] == pytest.approx(0.5 * share, rel=1e-4)


def test_what_a_fitted_disparity_puts_at_infinity_counts_one():
    depth, seen = scene(), scene() > 0
    values = 1 / np.where(seen, depth, 1)
    values[16:32, 20:40] = -0.05
    estimate = DepthEstimate(values, seen, EstimateKind.AFFINE_INVARIANT_DISPARITY)
    assert np.isinf(estimate.depth_like(depth)[20, 30])
    found = DepthError().measure(CheckedPair(RGB, depth, estimate=estimate))
    assert found["depth_error"] == pytest.approx(16 * 20 / np.count_nonzero(seen), rel=0.05)


def test_it_abstains_without_an_estimate_and_with_few_shared_pixels():
    verdict = run_checks(CheckedPair(RGB, scene()), [DepthError()])
    assert verdict.accepted
    assert math.isnan(verdict.scores["depth_error"])
    few = np.zeros_like(scene())
    few[20, :60] = 1
    assert all(math.isnan(value) for value in errors(few).values())
