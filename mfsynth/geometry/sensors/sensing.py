"""The way from a scene to what a sensor returns of it."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from mfsynth.geometry.cameras import Intrinsics
from mfsynth.geometry.rgbd import DepthMap, RgbImage, require_rgbd
from mfsynth.geometry.sensors.presets import Sensor, Stereo, StructuredLight
from mfsynth.geometry.sensors.scene import Scene
from mfsynth.geometry.sensors.time_of_flight import time_of_flight
from mfsynth.geometry.sensors.triangulation import stereo, structured_light


def sense(
    depth: DepthMap, rgb: RgbImage, intrinsics: Intrinsics, sensor: Sensor, rng: Generator
) -> DepthMap:
    """What a sensor would have returned, registered to the image.

    Args:
        depth: float32 (H, W), exact z-depth in metres; 0 = invalid.
        rgb: uint8 (H, W, 3); how bright it is stands for how much infrared light comes back.
        intrinsics: Camera of both.
        sensor: One of `SENSORS`.
        rng: Where noise comes from: the same state, the same depth.

    Returns:
        float32 (H, W), metres in steps of `sensor.unit`; 0 where the sensor returns nothing, and
        wherever `depth` is 0.

    Raises:
        ValueError: Shapes or types are wrong, or a depth is negative or not finite.
    """
    require_rgbd(rgb, depth)
    scene, model = Scene.of(depth, rgb, intrinsics, sensor), sensor.model
    if not np.any(scene.valid):
        return np.zeros_like(depth)
    if isinstance(model, Stereo):
        found = stereo(scene, model, rng)
    elif isinstance(model, StructuredLight):
        found = structured_light(scene, model, rng)
    else:
        found = time_of_flight(scene, model, rng)
    return (np.rint(found / sensor.unit) * sensor.unit).astype(np.float32)
