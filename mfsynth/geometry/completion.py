"""Dense depth that agrees with sparse depth of a sensor, which is kept and followed."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import DepthMap, Mask

_OF_MAD = 1.4826
# Beyond so many deviations, and so much of the depth, a measurement is not followed.
_DEVIATIONS, _LEAST_DOUBT = 4.0, 0.1
_AROUND = np.ones((5, 5), np.uint8)
_DOUBTS = (1.0, 4.0, 16.0)
_LEAST_WEIGHT = 1e-3
# The widest Gaussian, in pixels, that is not made of sums of blocks of them.
_WIDEST = 8.0


def completed(depth: DepthMap, sensor: DepthMap) -> tuple[DepthMap, float]:
    """A predicted depth that goes through what a sensor measured.

    With r = ln(sensor / depth), less its median, where both are valid, depth is multiplied by
    exp(R): R is r smoothed by Gaussians from a quarter of the image down to a pixel, each of what
    the wider ones left, weighted n / (n + λ) by the number n of measurements under it, so that far
    from any R fades to 0; λ is the one of a few by which measurements foretell each other best, and
    widths by which they don't are left out. Measurements with |r| above a tenth and four robust
    deviations are not followed: they are kept where the prediction has such a depth within two
    pixels, as at an edge that it puts elsewhere, and are mistakes where not.

    Args:
        depth: float32 (H, W), z-depth in any unit; 0 = invalid.
        sensor: float32 (H, W), in another unit; 0 = invalid.

    Returns:
        float32 (H, W) in the unit of `depth`, and how many of the sensor's units that is; where
        there is nothing to compare, `depth` and 1.
    """
    shared = (depth > 0) & (sensor > 0)
    if not shared.any():
        return depth, 1.0
    ratio = np.zeros(depth.shape, np.float32)
    np.divide(sensor, depth, out=ratio, where=shared)
    np.log(ratio, out=ratio, where=shared)
    middle = float(np.median(ratio[shared]))
    ratio[shared] -= middle
    spread = _OF_MAD * float(np.median(np.abs(ratio[shared])))
    most, unit = max(_DEVIATIONS * spread, _LEAST_DOUBT), math.exp(middle)
    followed = shared & (np.abs(ratio) <= most)
    measured = sensor / np.float32(unit)
    least, greatest = _extremes(depth)
    near, far = least * math.exp(-most), greatest * math.exp(most)
    # What the prediction knows nothing of, the sensor alone says.
    kept = (sensor > 0) & (((measured >= near) & (measured <= far)) | ~shared)
    return np.where(kept, measured, depth * np.exp(_field(ratio, followed))), unit


def binned(sensor: DepthMap, height: int, width: int) -> DepthMap:
    """Sparse depth on another grid: a pixel has the geometric mean of the measurements in it.

    Args:
        sensor: float32 (H, W), 0 = invalid.
        height: Rows of the result.
        width: Columns.
    """
    if sensor.shape == (height, width):
        return sensor
    rows, columns = np.nonzero(sensor)
    cells = (rows * 2 + 1) * height // (2 * sensor.shape[0]) * width
    cells += (columns * 2 + 1) * width // (2 * sensor.shape[1])
    logs = np.log(sensor[rows, columns].astype(np.float64))
    counts = np.bincount(cells, minlength=height * width)
    sums = np.bincount(cells, logs, minlength=height * width)
    means = np.where(counts > 0, np.exp(sums / np.maximum(counts, 1)), 0)
    return means.reshape(height, width).astype(np.float32)


def _extremes(depth: DepthMap) -> tuple[DepthMap, DepthMap]:
    """The least and the greatest valid depth about each pixel."""
    known = np.where(depth > 0, depth, np.float32(np.inf))
    return np.asarray(cv2.erode(known, _AROUND)), np.asarray(cv2.dilate(depth, _AROUND))


def _field(values: NDArray[np.float32], at: Mask) -> NDArray[np.float32]:
    """What is known at some pixels, for all."""
    field, known = np.zeros(values.shape, np.float32), at.astype(np.float32)
    for level in range(math.ceil(math.log2(max(values.shape))) - 1):
        sigma = max(values.shape) / 2 ** (level + 2)
        left = np.where(at, values - field, np.float32(0))
        count, total = _sums(known, sigma), _sums(left, sigma)
        doubt = _doubt(left[at], count[at], total[at])
        if doubt is not None:
            field += total / (count + np.float32(doubt))
    return field


def _doubt(
    values: NDArray[np.float32], count: NDArray[np.float32], total: NDArray[np.float32]
) -> float | None:
    """As how many measurements of 0 the prediction counts; None where others foretell nothing.

    What the others under a Gaussian say of each measurement is compared with it, so that noise is
    not followed.
    """
    least, best = float(np.abs(values).mean()), None
    for doubt in _DOUBTS:
        others = (total - values) / np.maximum(count - 1 + doubt, _LEAST_WEIGHT)
        error = float(np.abs(values - others).mean())
        if error < least:
            least, best = error, doubt
    return best


def _sums(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Of the values under a Gaussian whose peak is 1; beyond the border there are none.

    A wide one is of sums of blocks, linear between their centres, so that time doesn't grow with
    its width. Both widen it, by a variance of a quarter of a block squared, which it is short of.
    """
    block = 2 ** max(0, math.ceil(math.log2(sigma / _WIDEST)))
    if block == 1:
        return _blurred(values, sigma) * np.float32(2 * math.pi * sigma**2)
    height, width = values.shape
    # A block more on each side, so that there are lines up to the border.
    ends = (block, block + -height % block, block, block + -width % block)
    padded = cv2.copyMakeBorder(values, *ends, cv2.BORDER_CONSTANT, value=0)
    columns, rows = padded.shape[1] // block, padded.shape[0] // block
    means = cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA)
    sums = _blurred(np.asarray(means, np.float32), math.sqrt((sigma / block) ** 2 - 0.25))
    sums *= np.float32(2 * math.pi * sigma**2)
    between = cv2.resize(sums, padded.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(between[block : block + height, block : block + width], np.float32)


def _blurred(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    blurred = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred, np.float32)
