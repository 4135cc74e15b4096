"""What all sensors see: surfaces, how they face the camera, and how much light they send back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mfsynth.geometry.cameras import Intrinsics
from mfsynth.geometry.colour import linear_light
from mfsynth.geometry.normals import normals_from_depth
from mfsynth.geometry.rgbd import DepthMap, Mask, RgbImage
from mfsynth.geometry.sensors.presets import Sensor, Stereo

Map = NDArray[np.float32]
# Of ITU-R BT.709, for linear light.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
# How an image is exposed says nothing of its surfaces: this percentile of its light is white paper,
# which sends back that share.
_BRIGHT, _PAPER = 95, 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A scene before a sensor.

    Attributes:
        depth: float32 (H, W), z-depth in metres; 0 = invalid.
        valid: bool (H, W), where there is depth that the sensor's image shows.
        light: float32 (H, W), which share of infrared light surfaces send back: the image's linear
            light, exposed so that its brightest parts are white paper.
        cosine: float32 (H, W), between the surface's normal and the way to the camera; 1 where no
            normal is known, as at edges.
        intrinsics: Camera of the image.
        sensor: It is before.
    """

    depth: DepthMap
    valid: Mask
    light: Map
    cosine: Map
    intrinsics: Intrinsics
    sensor: Sensor

    @classmethod
    def of(cls, depth: DepthMap, rgb: RgbImage, intrinsics: Intrinsics, sensor: Sensor) -> Scene:
        """See `mfsynth.geometry.sensors.sense`."""
        x, y = slopes(depth.shape, intrinsics)
        normals = normals_from_depth(depth, intrinsics)
        cosine = -(normals[..., 0] * x + normals[..., 1] * y + normals[..., 2])
        cosine = cosine / np.sqrt(1 + x**2 + y**2)
        cosine[~normals.any(axis=2)] = 1
        view = sensor.camera.depth
        across, down = (math.tan(math.radians(a) / 2) for a in (view.horizontal, view.vertical))
        valid = (depth > 0) & (np.abs(x) <= across) & (np.abs(y) <= down)
        if isinstance(sensor.model, Stereo):
            # Both eyes must see it, and the other one is to the right.
            with np.errstate(over="ignore"):  # of the least depths, which no sensor returns
                there = np.divide(sensor.baseline, depth, out=np.zeros_like(depth), where=depth > 0)
            valid &= x - there >= -across
        return cls(depth, valid, _reflectivity(rgb), cosine.astype(np.float32), intrinsics, sensor)

    @property
    def pixels(self) -> float:
        """How many pixels of the image one of the sensor's own covers, along a row."""
        return self.intrinsics.fx / self.sensor.focal_px

    @property
    def signal(self) -> Map:
        """Light that comes back of a lamp at the camera; 1 of a white wall a metre away."""
        away = np.maximum(self.depth, 1e-3)
        return self.light * self.cosine / away**2


def slopes(shape: tuple[int, ...], intrinsics: Intrinsics) -> tuple[Map, Map]:
    """x/z of each column (1, W) and y/z of each row (H, 1)."""
    height, width = shape
    x = ((np.arange(width) - intrinsics.cx) / intrinsics.fx).astype(np.float32)[None, :]
    y = ((np.arange(height) - intrinsics.cy) / intrinsics.fy).astype(np.float32)[:, None]
    return x, y


def _reflectivity(rgb: RgbImage) -> Map:
    light = np.asarray(linear_light(rgb) @ _LUMINANCE, np.float32)
    brightest = float(np.percentile(light, _BRIGHT))
    exposed = light * np.float32(_PAPER / brightest) if brightest > 0 else light
    return np.minimum(exposed, np.float32(1))


def smoothed(values: Map, sigma: float) -> Map:
    """A map convolved with a Gaussian; unchanged by one that is narrower than a pixel's third."""
    if sigma < 0.3:
        return values
    return np.asarray(
        cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32
    )


def blobs(rng: Generator, shape: tuple[int, ...], sigma: float) -> Map:
    """Normal noise of variance 1 that looks as if smoothed by a Gaussian.

    Args:
        rng: Where it comes from.
        shape: Of the map.
        sigma: Of the Gaussian, pixels.
    """
    if sigma < 0.3:
        return rng.standard_normal(shape, np.float32)
    # Smoothed beyond the edges, so that noise is as strong there as anywhere.
    reach = math.ceil(4 * sigma)
    wide = rng.standard_normal((shape[0] + 2 * reach, shape[1] + 2 * reach), np.float32)
    weights = np.asarray(cv2.getGaussianKernel(2 * reach + 1, sigma), np.float64)[:, 0]
    kernel = weights / math.sqrt(float(weights @ weights))
    found = cv2.sepFilter2D(wide, cv2.CV_32F, kernel, kernel)
    return np.asarray(found[reach:-reach, reach:-reach], np.float32)


def wavered(scene: Scene, rng: Generator, lateral: Map | float, sigma: float) -> DepthMap:
    """Depth as of pixels that were looked up a little beside their places, so that edges waver.

    Args:
        scene: What is seen.
        rng: Where the places come from.
        lateral: Standard deviation of how far beside, along rows and columns, image pixels.
        sigma: Of the Gaussian that ways to the side look as if smoothed by.
    """
    height, width = scene.depth.shape
    columns = np.arange(width, dtype=np.float32)[None, :]
    rows = np.arange(height, dtype=np.float32)[:, None]
    x = columns + lateral * blobs(rng, scene.depth.shape, sigma)
    y = rows + lateral * blobs(rng, scene.depth.shape, sigma)
    found = cv2.remap(
        scene.depth,
        np.asarray(x, np.float32),
        np.asarray(y, np.float32),
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # A surface isn't moved by it, only what is seen at its edges: slopes keep their own depth.
    other = np.abs(found - scene.depth) > 0.03 * scene.depth
    return np.where(other & (found > 0), found, scene.depth)
