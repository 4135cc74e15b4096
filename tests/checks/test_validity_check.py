from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.checks.validity import (
    dynamic_range,
    far_fraction,
    malformed_pixels,
    valid_fraction,
    valid_mask,
)

RAMP = np.linspace(1, 3, 32 * 32, dtype=np.float32).reshape(32, 32)


def with_pixels(values, depth=RAMP):
    spoilt = depth.copy()
    spoilt.flat[: len(values)] = values
    return spoilt


def test_only_finite_positive_depths_are_valid():
    depth = with_pixels([0, -1, np.nan, np.inf, -np.inf])
    assert np.count_nonzero(~valid_mask(depth)) == 5
    assert valid_fraction(depth) == 1 - 5 / depth.size


def test_zero_means_invalid_and_is_not_malformed():
    assert malformed_pixels(with_pixels([0, 0])) == 0
    assert malformed_pixels(with_pixels([-1, np.nan, np.inf])) == 3


@pytest.mark.parametrize("share", [0.01, 0.1, 0.4])
def test_far_fraction_is_the_share_at_the_far_bound_however_large(share):
    count = round(share * RAMP.size)
    assert far_fraction(with_pixels([1e5] * count)) == pytest.approx(count / RAMP.size)


def test_far_bound_begins_at_a_hundred_medians():
    median = float(np.median(RAMP))
    assert far_fraction(with_pixels([99 * median])) == 0
    assert far_fraction(with_pixels([101 * median])) == 1 / RAMP.size


def test_dynamic_range_is_the_ratio_of_the_outer_percentiles():
    assert dynamic_range(RAMP) == pytest.approx(2.96 / 1.04, rel=1e-3)
    assert dynamic_range(np.full((8, 8), 2, np.float32)) == 1


def test_dynamic_range_is_not_moved_by_a_few_outliers():
    assert dynamic_range(with_pixels([1e5] * 8)) == pytest.approx(dynamic_range(RAMP), rel=0.05)


def test_too_few_valid_pixels_make_range_and_far_bound_undefined():
    depth = np.zeros((32, 32), np.float32)
    depth.flat[:15] = 1
    assert math.isnan(far_fraction(depth))
    assert math.isnan(dynamic_range(depth))
    assert valid_fraction(np.zeros((4, 4), np.float32)) == 0


@given(scale=st.floats(1e-3, 1e3), far=st.integers(0, 200), invalid=st.integers(0, 200))
def test_a_constant_scale_changes_nothing(scale, far, invalid):
    depth = with_pixels([1e5] * far + [0] * invalid)
    scaled = depth * np.float32(scale)
    assert valid_fraction(scaled) == valid_fraction(depth)
    assert far_fraction(scaled) == far_fraction(depth)
    assert dynamic_range(scaled) == pytest.approx(dynamic_range(depth), rel=1e-4)
