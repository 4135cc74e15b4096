"""Metres of a relative depth by a metric one of the same image."""

from __future__ import annotations

import numpy as np
import pytest

from mfsynth.geometry import metric_scale

SHAPE = (64, 96)


def scene(seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (1 + rows / 40 + np.sin(columns / 9) / 4).astype(np.float32)


def test_the_factor_is_the_right_one_whatever_the_unit():
    depth = scene()
    found = metric_scale(depth, 1.7 * depth, depth > 0)
    assert found is not None
    assert found.metres_per_unit == pytest.approx(1.7, rel=1e-6)
    assert found.error < 1e-6


def test_a_third_of_the_image_may_be_as_wrong_as_it_likes():
    depth = scene()
    metric = 2 * depth
    metric[:, :32] *= 9
    found = metric_scale(depth, metric, depth > 0)
    assert found is not None
    assert found.metres_per_unit == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_the_error_is_that_of_the_factor_over_many_images(spread):
    """Errors that whole tiles have in common: what pixels would be counted for, and are not."""
    rng = np.random.default_rng(0)
    depth = np.ones((64, 64), np.float32)
    logs, errors = [], []
    for _ in range(150):
        per_tile = np.exp(rng.normal(0, spread, (8, 8))).repeat(8, axis=0).repeat(8, axis=1)
        found = metric_scale(depth, per_tile, depth > 0)
        assert found is not None
        logs.append(np.log(found.metres_per_unit))
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(logs), rel=0.2)


def test_nothing_is_said_where_too_little_is_shared():
    depth = scene()
    valid = np.zeros(SHAPE, bool)
    valid[:8, :80] = True
    assert metric_scale(depth, depth, valid) is None
    assert metric_scale(np.zeros(SHAPE, np.float32), depth, depth > 0) is None
    spoilt = np.full(SHAPE, np.nan, np.float32)
    assert metric_scale(spoilt, depth, depth > 0) is None
    one = np.ones((1, 1), np.float32)
    assert metric_scale(one, one, one > 0) is None
