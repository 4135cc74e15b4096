"""What an estimator says, in the unit of another depth."""

from __future__ import annotations

import numpy as np
import pytest

from mfsynth.geometry import (
    DepthEstimate,
    EstimateKind,
    depth_from_disparity_fit,
    disparity_least_squares,
)


@pytest.fixture
def depth() -> np.ndarray:
    rows, columns = np.mgrid[:24, :32].astype(np.float32)
    depth = 1 + 0.05 * rows + 0.5 * (columns > 16)
    depth[:4] = 0
    return depth.astype(np.float32)


def estimate(values: np.ndarray, kind: EstimateKind, valid: np.ndarray | None = None):
    everywhere = np.ones(values.shape, bool)
    return DepthEstimate(values, everywhere if valid is None else valid, kind)


@pytest.mark.parametrize("kind", [EstimateKind.METRIC_Z, EstimateKind.SCALE_INVARIANT_Z])
def test_of_z_depth_the_scale_is_fitted(depth, kind):
    values = 3 * np.where(depth > 0, depth, 9)
    values[6, 6] *= 100
    fitted = estimate(values, kind).depth_like(depth)
    assert fitted[:4] == pytest.approx(9)
    fitted[6, 6] = depth[6, 6]
    np.testing.assert_allclose(fitted[4:], depth[4:], rtol=1e-5)


def test_of_disparity_scale_and_shift_are_fitted(depth):
    values = (7 / np.where(depth > 0, depth, 4) - 3).astype(np.float32)
    fitted = estimate(values, EstimateKind.AFFINE_INVARIANT_DISPARITY).depth_like(depth)
    np.testing.assert_allclose(fitted[4:], depth[4:], rtol=1e-4)
    np.testing.assert_allclose(fitted[:4], 4, rtol=1e-3)


def test_pixels_that_are_far_off_do_not_spoil_the_fit_of_disparity(depth):
    rng = np.random.default_rng(0)
    values = (7 / np.where(depth > 0, depth, 4) - 3).astype(np.float32)
    spoilt = depth.copy()
    wrong = rng.random(depth.shape) < 0.2
    spoilt[wrong] *= np.where(rng.random(np.count_nonzero(wrong)) < 0.7, 0.05, 50)
    fitted = estimate(values, EstimateKind.AFFINE_INVARIANT_DISPARITY).depth_like(spoilt)
    np.testing.assert_allclose(fitted[4:], depth[4:], rtol=0.01)
    # By least squares they do.
    p, seen = 1 / (values + 4), spoilt > 0
    squared = depth_from_disparity_fit(p, *disparity_least_squares(p, spoilt, seen))
    assert np.median(np.abs(squared[4:] / depth[4:] - 1)) > 0.3


@pytest.mark.parametrize("times", [3, 12, 100])
def test_a_patch_of_large_disparity_does_not_spoil_the_fit(depth, times):
    values = (7 / np.where(depth > 0, depth, 4)).astype(np.float32)
    right = estimate(values.copy(), EstimateKind.AFFINE_INVARIANT_DISPARITY).depth_like(depth)
    values[8:12, 4:10] *= times
    fitted = estimate(values, EstimateKind.AFFINE_INVARIANT_DISPARITY).depth_like(depth)
    fitted[8:12, 4:10] = right[8:12, 4:10]
    np.testing.assert_allclose(fitted, right, rtol=0.02)


@pytest.mark.parametrize("times", [10, 1000])
def test_a_window_that_the_estimator_does_not_see_does_not_spoil_the_fit(times):
    rows, columns = np.mgrid[:64, :64]
    depth = (4 - 2.5 * rows / 64 + 0.3 * np.sin(columns / 9)).astype(np.float32)
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal(depth.shape)
    values = ((3 / depth + 1) * noise).astype(np.float32)
    beyond = depth.copy()
    beyond[:6] *= times
    fitted = estimate(values, EstimateKind.AFFINE_INVARIANT_DISPARITY).depth_like(beyond)
    assert np.median(np.abs(fitted[6:] / depth[6:] - 1)) < 0.03


def test_a_fit_of_disparity_does_not_turn_near_into_far(depth):
    values = np.where(depth > 0, depth, 4).astype(np.float32)
    fitted = estimate(values, EstimateKind.AFFINE_INVARIANT_DISPARITY).depth_like(depth)
    seen = (depth > 0) & (fitted > 0)
    assert np.corrcoef(fitted[seen], depth[seen])[0, 1] < -0.9
    assert depth[seen].min() < np.median(fitted[seen]) < depth[seen].max()


@pytest.mark.parametrize("value", [1.0, 1e6, -3.0])
def test_a_constant_disparity_says_one_depth(depth, value):
    values = np.full(depth.shape, value, np.float32)
    fitted = estimate(values, EstimateKind.AFFINE_INVARIANT_DISPARITY).depth_like(depth)
    assert np.ptp(fitted) == 0
    assert depth[depth > 0].min() < fitted[0, 0] < depth.max()


@pytest.mark.parametrize("kind", EstimateKind)
def test_of_a_large_map_some_pixels_decide(kind):
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 3, (300, 300)).astype(np.float32)
    disparity = kind is EstimateKind.AFFINE_INVARIANT_DISPARITY
    fitted = estimate(2 / depth - 1 if disparity else 5 * depth, kind).depth_like(depth)
    np.testing.assert_allclose(fitted, depth, rtol=1e-3)


@pytest.mark.parametrize("kind", EstimateKind)
def test_where_the_estimator_says_nothing_there_is_no_depth(depth, kind):
    valid = np.zeros(depth.shape, bool)
    valid[4:10] = True
    values = np.where(valid, depth, np.nan).astype(np.float32)
    fitted = estimate(values, kind, valid).depth_like(depth)
    assert np.all(fitted[~valid] == 0)
    assert np.all(fitted[valid] > 0)


def test_two_depths_with_few_pixels_in_common_are_not_compared(depth):
    valid = np.zeros(depth.shape, bool)
    valid[:6, :31] = True
    assert estimate(depth + 1, EstimateKind.METRIC_Z, valid).depth_like(depth) is None


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_a_depth_that_is_none_is_no_estimate(value):
    with pytest.raises(ValueError, match="not finite, or is a depth"):
        estimate(np.full((8, 8), value, np.float32), EstimateKind.METRIC_Z)


def test_maps_of_another_size_or_type_are_no_estimate():
    values = np.ones((8, 8), np.float32)
    with pytest.raises(ValueError, match=r"values is float64 \(8, 8\)"):
        estimate(values.astype(np.float64), EstimateKind.METRIC_Z)
    with pytest.raises(ValueError, match=r"normals is float32 \(8, 8\), not float32 \(8, 8, 3\)"):
        DepthEstimate(values, values > 0, EstimateKind.METRIC_Z, normals=values)
    normals = np.zeros((8, 8, 3), np.float32)
    normals[2, 3, 1] = np.nan
    with pytest.raises(ValueError, match="a normal of a valid pixel is not finite"):
        DepthEstimate(values, values > 0, EstimateKind.METRIC_Z, normals=normals)
