"""Depth that goes through what a sensor measured."""

from __future__ import annotations

import numpy as np
import pytest

from mfsynth.geometry.completion import _sums, binned, completed

RNG = np.random.default_rng(3)
TRUTH = np.linspace(1, 3, 64, dtype=np.float32) * np.ones((48, 1), np.float32)
# Right up to a factor, and bent.
PREDICTED = (TRUTH * np.linspace(0.9, 1.1, 48, dtype=np.float32)[:, None] / 7).astype(np.float32)


def measured(share: float) -> np.ndarray:
    return np.where(RNG.random(TRUTH.shape) < share, TRUTH, 0).astype(np.float32)


def error(depth: np.ndarray, unit: float, at: np.ndarray) -> float:
    return float(np.abs(depth * unit / TRUTH - 1)[at].mean())


def test_measurements_are_kept_and_what_lies_between_follows_them():
    sensor = measured(0.03)
    dense, unit = completed(PREDICTED, sensor)
    assert np.allclose((dense * unit)[sensor > 0], sensor[sensor > 0], rtol=1e-6)
    alone = error(PREDICTED, unit, sensor == 0)
    assert error(dense, unit, sensor == 0) < 0.3 * alone


def test_it_is_as_right_in_large_images_as_in_small_ones():
    shape, rng = (720, 1280), np.random.default_rng(4)
    rows, columns = np.indices(shape, np.float32) / 1280
    truth = 1 + columns + np.sin(9 * rows) / 4
    predicted = truth * np.exp(np.sin(5 * columns + 7 * rows) / 5) / 7
    sensor = np.where(rng.random(shape) < 0.002, truth, 0).astype(np.float32)
    dense, unit = completed(predicted, sensor)
    assert np.allclose((dense * unit)[sensor > 0], sensor[sensor > 0], rtol=1e-6)
    assert np.abs(dense * unit / truth - 1).max() < 0.05
    assert np.abs(dense * unit / truth - 1).mean() < 0.001
    assert np.abs(predicted * unit / truth - 1).mean() > 0.1


@pytest.mark.parametrize("sigma", [9.0, 32.0, 45.5])
def test_a_wide_gaussian_of_blocks_is_that_of_pixels(sigma):
    values = np.where(RNG.random((130, 187)) < 0.02, 1, 0).astype(np.float32)
    rows, columns = (np.arange(side, dtype=np.float64) for side in values.shape)
    weights = [np.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2)) for at in (rows, columns)]
    exact = weights[0] @ values @ weights[1]
    assert np.abs(_sums(values, sigma) - exact).max() < 0.02 * exact.max()


def test_a_measurement_that_is_a_mistake_is_neither_kept_nor_followed():
    sensor = measured(0.03)
    sensor[20, 30] = 9
    dense, unit = completed(PREDICTED, sensor)
    assert dense[20, 30] * unit == pytest.approx(TRUTH[20, 30], rel=0.05)


def test_an_edge_that_the_prediction_puts_elsewhere_is_kept_where_it_was_measured():
    there = np.where(np.arange(64) < 32, np.float32(1), np.float32(2)) * np.ones((48, 1))
    predicted = np.roll(there, 2, axis=1)
    predicted[:, :2] = 1
    sensor = np.where(RNG.random(there.shape) < 0.2, there, 0).astype(np.float32)
    dense, unit = completed(predicted.astype(np.float32), sensor)
    assert np.allclose((dense * unit)[sensor > 0], sensor[sensor > 0], rtol=1e-5)


def test_where_nothing_is_measured_depth_is_what_it_was():
    nothing = np.zeros_like(TRUTH)
    assert completed(PREDICTED, nothing)[1] == 1
    assert completed(PREDICTED, nothing)[0] is PREDICTED
    holes = PREDICTED.copy()
    holes[:, :9] = 0
    sensor = measured(0.05)
    dense, _ = completed(holes, sensor)
    assert np.array_equal(dense > 0, (holes > 0) | (sensor > 0))


def test_sparse_depth_on_a_coarser_grid_loses_no_measurement():
    sensor = np.zeros((40, 60), np.float32)
    sensor[5, 7], sensor[39, 59], sensor[38, 58] = 2, 1, 4
    found = binned(sensor, 20, 30)
    assert np.count_nonzero(found) == 2
    assert (found[2, 3], found[19, 29]) == (2, pytest.approx(2))
    assert np.count_nonzero(binned(sensor, 80, 120)) == 3
