"""Sensors by the names of their cameras, each constant with its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from mfsynth.geometry.camera_presets import CAMERA_PRESETS, CameraPreset


@dataclass(frozen=True, slots=True)
class Stereo:
    """Two cameras that look for the same spots, with or without a projector beside them.

    All pixels are those of the sensor's own depth image (`CameraPreset.depth`), so that noise in
    metres doesn't hang on the size of the image that depth is brought to.

    Attributes:
        error_px: RMS error of the disparity.
        step_px: Of the disparity's codes.
        range_px: Greatest disparity that is searched, so that what is nearer is a hole.
        blob_px: Standard deviation of the Gaussian that noise looks as if smoothed by.
        lateral_px: How far edges waver.
        pattern: Contrast that the projector puts on a white surface a metre away that faces it; 0
            without one.
        least_contrast: Standard deviation of light over its mean that matching needs in a window.
    """

    error_px: float
    step_px: float
    range_px: float
    blob_px: float
    lateral_px: float
    pattern: float
    least_contrast: float


@dataclass(frozen=True, slots=True)
class StructuredLight:
    """A projector of a known pattern and a camera, which sees how far its spots are shifted.

    Attributes:
        axial: a, b, z0: σ = a + b · (z - z0)², metres.
        lateral_px: How far edges waver, for a surface that faces the sensor.
        lateral_tilt_px: What tilt θ adds to it, times θ / (π/2 - θ).
        step_px: Of the disparity's codes.
        nearest: Metres.
        farthest: Metres.
        least_signal: Reflectivity · cos θ / z² below which the pattern is lost.
        blob_px: As of `Stereo`.
    """

    axial: tuple[float, float, float]
    lateral_px: float
    lateral_tilt_px: float
    step_px: float
    nearest: float
    farthest: float
    least_signal: float
    blob_px: float


@dataclass(frozen=True, slots=True)
class TimeOfFlight:
    """A lamp and a camera that measures how long light takes.

    Attributes:
        error: RMS error in metres at `farthest`, of what reflects `darkest` of the light.
        darkest: Reflectivity that is still measured at `farthest`; what sends back less light is a
            hole.
        nearest: Metres.
        farthest: Metres, for `darkest`; the sensor gives none beyond.
        mixing_px: Standard deviation of what one pixel sees, in pixels of the sensor.
    """

    error: float
    darkest: float
    nearest: float
    farthest: float
    mixing_px: float


Model = Stereo | StructuredLight | TimeOfFlight


@dataclass(frozen=True, slots=True)
class Sensor:
    """A depth sensor.

    Attributes:
        camera: It is part of: resolution, fields of view and baseline.
        model: How it errs.
        unit: Metres a code of the depth that it returns.
    """

    camera: CameraPreset
    model: Model
    unit: float

    @property
    def focal_px(self) -> float:
        """Focal length of its own depth image, in its pixels."""
        view = self.camera.depth
        return view.width / 2 / math.tan(math.radians(view.horizontal) / 2)

    @property
    def baseline(self) -> float:
        """Metres between what triangulates; 0 where nothing does."""
        return self.camera.baseline_m or 0.0


# Sub-pixel error of .08 in good light, 126 disparities: A. Grunnet-Jepsen, J. Sweetser,
# J. Woodfill, "Best known methods for tuning Intel RealSense D400 depth cameras",
# https://dev.intelrealsense.com/docs/tuning-depth-cameras-for-best-performance. Steps of 1/32
# pixel: the same, "Subpixel linearity improvement",
# https://dev.intelrealsense.com/docs/white-paper-subpixel-linearity-improvement-for-intel-realsense-depth-cameras
# No source has the other four: `benchmarks/sensor_twin.py` shows them beside real frames.
_D400 = Stereo(
    error_px=0.08,
    step_px=1 / 32,
    range_px=126,
    blob_px=4.0,
    lateral_px=1.0,
    pattern=1.0,
    least_contrast=0.008,
)
_D405 = replace(_D400, pattern=0.0)
# Noise: C. V. Nguyen, S. Izadi, D. Lovell, "Modeling Kinect sensor noise for improved 3D
# reconstruction and tracking", 3DIMPVT 2012, https://doi.org/10.1109/3DIMPVT.2012.84. Steps of 1/8
# pixel: K. Konolige, P. Mihelich, "Technical description of Kinect calibration",
# http://wiki.ros.org/kinect_calibration/technical. Its vendor names .8 to 4 m
# (NuiImageCamera.h); depth is returned from .5 m to 10 m. The last two have no source:
# `benchmarks/sensor_twin.py` shows them beside real frames.
_KINECT = StructuredLight(
    axial=(0.0012, 0.0019, 0.4),
    lateral_px=0.8,
    lateral_tilt_px=0.035,
    step_px=1 / 8,
    nearest=0.5,
    farthest=10.0,
    least_signal=0.002,
    blob_px=1.5,
)
# Narrow, unbinned: .5 to 3.86 m for 15 % to 95 % of reflectivity at 850 nm, σ at most 17 mm, by
# the vendor, https://learn.microsoft.com/previous-versions/azure/kinect-dk/hardware-specification;
# confirmed by Tölgyessy et al. 2021, https://doi.org/10.3390/s21020413. That the bound is met at
# the far end by the darkest, and noise falls from there with the square root of light (shot noise),
# is an assumption. The Femto Bolt has the same sensor: https://www.orbbec.com/documentation/
# femto-bolt-hardware-specifications/. `mixing_px` has no source: a pixel's own width is .29.
_AZURE = TimeOfFlight(error=0.017, darkest=0.15, nearest=0.5, farthest=3.86, mixing_px=0.5)

_MODELS: Final[Mapping[str, Model]] = {
    "d435": _D400,
    "d435i": _D400,
    "d455": _D400,
    "d405": _D405,
    "azure_kinect": _AZURE,
    "femto_bolt": _AZURE,
    "kinect_v1": _KINECT,
    "asus_xtion": _KINECT,
}

# All return millimetres, but the D405 tenths of them: the datasheet of the D400 series.
_UNITS: Final = {"d405": 1e-4}

SENSORS: Final[Mapping[str, Sensor]] = MappingProxyType(
    {
        name: Sensor(CAMERA_PRESETS[name], model, _UNITS.get(name, 1e-3))
        for name, model in _MODELS.items()
    }
)
"""By the names of `CAMERA_PRESETS`, of those cameras that there is a model for.

Runs are identified by the name, so what stands here doesn't change: better figures get another.
"""
