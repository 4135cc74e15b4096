"""Sensors that triangulate: stereo and structured light."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import DepthMap, Mask
from mfsynth.geometry.sensors.presets import Stereo, StructuredLight
from mfsynth.geometry.sensors.scene import Map, Scene, blobs, wavered

# Of the window that patterns are matched in, pixels of the sensor: 9 for the Kinect (Konolige and
# Mihelich, see `presets`), taken for stereo, too.
_WINDOW = 9
# Light that a dark window has of noise alone.
_FLOOR = 0.02
# How unevenly contrast is enough: holes begin as blobs, not at a line.
_UNEVEN = 0.5
# Steeper surfaces have noise of their own: Nguyen et al. 2012, equation 4.
_STEEP = math.radians(60)


def stereo(scene: Scene, model: Stereo, rng: Generator) -> DepthMap:
    """What a stereo camera returns.

    An error of s pixels in the disparity d = f·B / z is one of z²·s / (f·B) in the depth.

    Args:
        scene: What it sees.
        model: How it errs.
        rng: Where noise comes from.
    """
    scale = scene.sensor.focal_px * scene.sensor.baseline
    blob = model.blob_px * scene.pixels
    seen = wavered(scene, rng, model.lateral_px * scene.pixels, blob)
    noise = blobs(rng, seen.shape, blob)
    disparity = _over(scale, seen, scene.valid) + np.float32(model.error_px) * noise
    disparity = _in_steps(disparity, model.step_px)
    found = scene.valid & ~in_shadow(scene, seen) & (disparity <= model.range_px)
    uneven = np.exp(np.float32(_UNEVEN) * blobs(rng, seen.shape, blob))
    contrast = _texture(scene) + np.float32(model.pattern) * scene.signal
    found &= contrast >= model.least_contrast * uneven
    return _over(scale, disparity, found)


def structured_light(scene: Scene, model: StructuredLight, rng: Generator) -> DepthMap:
    """What a projector and a camera return.

    Args:
        scene: What they see.
        model: How they err.
        rng: Where noise comes from.
    """
    angle = np.arccos(np.clip(scene.cosine, 0, 1))
    left = np.maximum(np.pi / 2 - angle, np.float32(math.radians(1)))
    tilt = np.asarray(model.lateral_tilt_px * angle / left, np.float32)
    lateral = (tilt + np.float32(model.lateral_px)) * np.float32(scene.pixels)
    seen = wavered(scene, rng, lateral, 0.5 * scene.pixels)
    blob = model.blob_px * scene.pixels
    scale = scene.sensor.focal_px * scene.sensor.baseline
    a, b, z0 = model.axial
    sigma = a + b * (seen - z0) ** 2
    steep = angle**2 / left**2 * 1e-4 / np.sqrt(np.maximum(seen, 0.1))
    sigma = np.where(angle > _STEEP, sigma + steep, sigma)
    # The noise was measured on codes, whose steps are part of it.
    steps = seen**2 * model.step_px / scale / math.sqrt(12)
    sigma = np.sqrt(np.maximum(sigma**2 - steps**2, 0)).astype(np.float32)
    noisy = seen + sigma * blobs(rng, seen.shape, blob)
    found = scene.valid & (noisy >= model.nearest) & (noisy <= model.farthest)
    uneven = np.exp(np.float32(_UNEVEN) * blobs(rng, seen.shape, 2 * blob))
    found &= ~in_shadow(scene, seen)
    found &= _in_window(scene, scene.signal) >= np.float32(model.least_signal) * uneven
    disparity = _in_steps(_over(scale, noisy, found), model.step_px)
    return _over(scale, disparity, found)


def in_shadow(scene: Scene, depth: DepthMap) -> Mask:
    """What the other eye, a baseline to the right, can't see, for something nearer is before it.

    It lies to the left of near things, as wide as the difference of the disparities in pixels of
    the image.

    Args:
        scene: What is seen.
        depth: Of it, with noise at its edges.
    """
    height, width = depth.shape
    # What is so near that it is beyond the image has no say in how much memory this takes.
    shift = _over(scene.intrinsics.fx * scene.sensor.baseline, depth, depth > 0)
    shift = np.minimum(shift, np.float32(width))
    # Where a pixel's left and right half fall in the other eye's image, which begins at -margin.
    margin = math.ceil(float(shift.max(initial=0))) + 1
    place = np.arange(width, dtype=np.float32)[None, :] - shift + margin
    first = np.floor(place).astype(np.intp)
    rows = np.broadcast_to(np.arange(height)[:, None], first.shape)
    nearest = np.zeros((height, width + margin + 2), np.float32)
    for column in (first, first + 1):
        np.maximum.at(nearest, (rows, column), shift)
    # A surface that recedes to the left by less than a pixel a pixel doesn't hide itself.
    return np.asarray((shift > 0) & (nearest[rows, np.rint(place).astype(np.intp)] > shift + 1))


def _texture(scene: Scene) -> Map:
    """Contrast within a window of the sensor's matching: standard deviation over mean of light."""
    light = scene.light.astype(np.float64)
    mean, square = _in_window(scene, light), _in_window(scene, light**2)
    return (np.sqrt(np.maximum(square - mean**2, 0)) / (mean + _FLOOR)).astype(np.float32)


def _in_window(scene: Scene, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean over the window around each pixel."""
    size = max(3, round(_WINDOW * scene.pixels) | 1)
    return np.asarray(cv2.blur(values, (size, size)))


def _in_steps(disparity: Map, step: float) -> Map:
    return np.asarray(np.round(disparity / step) * step, np.float32)


def _over(scale: float, values: Map, where: Mask) -> Map:
    """`scale` / values, infinite of the least ones; 0 elsewhere."""
    with np.errstate(over="ignore"):
        return np.divide(
            np.float32(scale), values, out=np.zeros_like(values), where=where & (values > 0)
        )
