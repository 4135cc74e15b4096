"""What a sensor would have returned of a run's pairs."""

from __future__ import annotations

import numpy as np

from mfsynth.config.cameras import SensorConfig
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.geometry.sensors.sensing import sense
from mfsynth.runs.metres import Measured

# Of a candidate's seed: others make images and depth.
_STREAM = 4


def sensed(
    config: SensorConfig,
    measured: Measured,
    rgb: RgbImage,
    intrinsics: Intrinsics | None,
    seed: int,
) -> DepthMap | None:
    """What a sensor would have returned of a pair.

    Args:
        config: Which sensor.
        measured: The pair's depth.
        rgb: Its image.
        intrinsics: Its camera; None where nobody knows it: then it is the sensor's own colour
            camera.
        seed: Of its candidate alone, that no other frame of an episode has.

    Returns:
        As `mfsynth.geometry.sensors.sensing.sense`; None of depth that is not metric.
    """
    if not measured.kind.is_metric:
        return None
    sensor = config.sensor
    camera = intrinsics or sensor.camera.intrinsics(*rgb.shape[:2])
    rng = np.random.Generator(np.random.Philox(key=[seed, _STREAM]))
    return sense(measured.depth, rgb, camera, sensor, rng)
