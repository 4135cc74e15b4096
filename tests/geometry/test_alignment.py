"""Alignments are exact minimisers of what they say they minimise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mfsynth.geometry import (
    affine_least_squares,
    depth_from_disparity_fit,
    disparity_least_squares,
    scale_l1,
    scale_median,
)

DEPTHS = st.floats(0.05, 50.0)


@st.composite
def depth_pairs(draw, min_size=1, max_size=40):
    size = draw(st.integers(min_size, max_size))
    arrays = hnp.arrays(np.float64, size, elements=DEPTHS)
    return draw(arrays), draw(arrays)


def everywhere(depth):
    return np.ones(depth.shape, dtype=bool)


def relative_l1(scale, p, g):
    return float(np.sum(np.abs(scale * p - g) / g))


@given(depth_pairs(), st.floats(1e-3, 1e3))
def test_no_scale_has_a_smaller_relative_l1_than_scale_l1(pair, other):
    p, g = pair
    best = relative_l1(scale_l1(p, g, everywhere(g)), p, g)
    assert best <= relative_l1(other, p, g) * (1 + 1e-9) + 1e-12


@given(depth_pairs())
def test_scale_l1_is_as_good_as_every_ratio_tried_by_hand(pair):
    p, g = pair
    best = relative_l1(scale_l1(p, g, everywhere(g)), p, g)
    assert best <= min(relative_l1(ratio, p, g) for ratio in g / p) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("align", [scale_l1, scale_median])
@given(pair=depth_pairs(), factor=st.floats(0.01, 100))
def test_scaling_the_prediction_scales_the_answer_inversely(align, pair, factor):
    p, g = pair
    scaled = align(factor * p, g, everywhere(g)) * factor * p
    original = align(p, g, everywhere(g)) * p
    if align is scale_l1:  # where two scales tie, either may come back
        assert relative_l1(1, scaled, g) == pytest.approx(relative_l1(1, original, g), rel=1e-9)
    else:
        np.testing.assert_allclose(scaled, original, rtol=1e-9)


@given(hnp.arrays(np.float64, 12, elements=DEPTHS), st.floats(0.1, 10))
def test_a_true_scale_is_recovered_by_both_scale_alignments(g, scale):
    for align in (scale_l1, scale_median):
        assert align(g / scale, g, everywhere(g)) == pytest.approx(scale, rel=1e-9)


def test_scale_l1_ignores_a_minority_of_wild_outliers():
    g = np.linspace(1, 2, 101)
    p = g / 3
    p[:20] = 0.001
    assert scale_l1(p, g, everywhere(g)) == pytest.approx(3)


def test_scale_l1_takes_no_account_of_zero_predictions():
    assert scale_l1(np.array([0.0, 1.0]), np.array([5.0, 2.0]), np.ones(2, bool)) == 2.0


@given(depth_pairs(min_size=2), st.floats(-3, 3), st.floats(-3, 3))
def test_no_line_has_a_smaller_square_error_than_the_affine_fit(pair, ds, dt):
    p, g = pair
    s, t = affine_least_squares(p, g, everywhere(g))
    best = np.sum((s * p + t - g) ** 2)
    assert best <= np.sum(((s + ds) * p + t + dt - g) ** 2) * (1 + 1e-9) + 1e-9


@given(hnp.arrays(np.float64, 12, elements=DEPTHS, unique=True), st.floats(0.1, 10), DEPTHS)
def test_a_true_affine_map_is_recovered(p, scale, shift):
    g = scale * p + shift
    s, t = affine_least_squares(p, g, everywhere(g))
    np.testing.assert_allclose(s * p + t, g, rtol=1e-6)


def test_a_constant_prediction_aligns_to_the_mean():
    g = np.array([1.0, 2.0, 6.0])
    assert affine_least_squares(np.full(3, 0.1), g, everywhere(g)) == (0.0, pytest.approx(3.0))


@given(hnp.arrays(np.float64, 12, elements=DEPTHS, unique=True), st.floats(0.1, 10))
def test_a_true_affine_map_of_disparity_is_recovered(p, scale):
    g = 1 / (scale / p + 0.2)
    s, t = disparity_least_squares(p, g, everywhere(g))
    np.testing.assert_allclose(depth_from_disparity_fit(p, s, t), g, rtol=1e-4)


def test_a_disparity_that_is_not_positive_is_as_far_as_any_and_0_is_no_prediction():
    depth = depth_from_disparity_fit(np.array([0.0, np.nan, 0.5, 2.0, 10.0]), 1.0, -0.5)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [0, 0, 1 / 1.5, 1000, 1000])
    nearer = depth_from_disparity_fit(np.array([0.5, 10.0]), 1.0, -0.5, least=0.1)
    np.testing.assert_allclose(nearer, [1 / 1.5, 10])


@pytest.mark.parametrize(
    "align", [scale_l1, scale_median, affine_least_squares, disparity_least_squares]
)
class TestEveryAlignment:
    def test_looks_at_valid_pixels_only(self, align):
        rng = np.random.default_rng(0)
        p, g = rng.uniform(1, 2, (2, 6, 5))
        valid = rng.random((6, 5)) < 0.5
        expected = align(p, g, valid)
        p[~valid], g[~valid] = np.nan, 0
        assert align(p, g, valid) == expected

    def test_takes_float32_maps_and_gives_python_floats(self, align):
        depth = np.linspace(1, 2, 6, dtype=np.float32).reshape(2, 3)
        result = align(depth, depth, everywhere(depth))
        assert all(type(value) is float for value in np.atleast_1d(result).tolist())

    def test_refuses_an_empty_mask(self, align):
        with pytest.raises(ValueError, match="no pixel is valid"):
            align(np.ones(3), np.ones(3), np.zeros(3, bool))

    def test_refuses_a_target_that_is_not_positive(self, align):
        with pytest.raises(ValueError, match="target"):
            align(np.ones(3), np.array([1.0, 0.0, 1.0]), np.ones(3, bool))

    def test_refuses_maps_of_different_shapes(self, align):
        with pytest.raises(ValueError, match="one shape"):
            align(np.ones(3), np.ones(4), np.ones(3, bool))

    def test_refuses_a_mask_that_is_not_boolean(self, align):
        with pytest.raises(ValueError, match="bool"):
            align(np.ones(3), np.ones(3), np.ones(3, np.uint8))


@pytest.mark.parametrize("align", [scale_l1, scale_median, disparity_least_squares])
def test_a_prediction_of_zeros_is_refused(align):
    with pytest.raises(ValueError, match="prediction"):
        align(np.zeros(3), np.ones(3), np.ones(3, bool))
