"""RGB-D cameras that robots have, by their vendors' figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mfsynth.geometry.cameras import Intrinsics


@dataclass(frozen=True, slots=True)
class View:
    """What one of a camera's images shows, by its vendor.

    Attributes:
        width: Of the mode that the angles are given for, in pixels.
        height: The same.
        horizontal: Field of view, degrees.
        vertical: Field of view, degrees; rounded and with distortion, so that it is not quite what
            square pixels make of `horizontal`.
    """

    width: int
    height: int
    horizontal: float
    vertical: float


@dataclass(frozen=True, slots=True)
class CameraPreset:
    """An RGB-D camera.

    Attributes:
        colour: Of the colour image.
        depth: Of the depth map before it is registered to the colour image.
        baseline_m: Between the two cameras, or the projector and the camera, that triangulate, in
            metres; None where nothing does.
        source: Where the figures come from.
    """

    colour: View
    depth: View
    baseline_m: float | None
    source: str

    def intrinsics(self, height: int, width: int) -> Intrinsics:
        """The colour camera of an image of a size, as if cut out of the camera's own and resized.

        The image is taken for the largest centred part of the colour image that has its
        proportions. Pixels are square, the principal point is in the middle, the focal length is
        that of the colour image's horizontal field of view; there is no distortion.

        Args:
            height: Of the image, in pixels.
            width: Of the image, in pixels.
        """
        full = self.colour
        scale = max(width / full.width, height / full.height)
        focal = scale * full.width / 2 / math.tan(math.radians(full.horizontal) / 2)
        return Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2)


_D400: Final = (
    "RealSense D400 series datasheet 337029, "
    "https://dev.intelrealsense.com/docs/intel-realsense-d400-series-product-family-datasheet"
)
_KINECT_SDK: Final = (
    "Kinect for Windows SDK 1.8, nominal values of NuiImageCamera.h; baseline: "
    "Khoshelham and Elberink 2012, https://doi.org/10.3390/s120201437"
)

_D435 = CameraPreset(
    colour=View(1920, 1080, 69, 42),
    depth=View(1280, 720, 87, 58),
    baseline_m=0.050,
    source=_D400,
)

CAMERA_PRESETS: Final[Mapping[str, CameraPreset]] = MappingProxyType(
    {
        "d435": _D435,
        "d435i": _D435,
        "d455": CameraPreset(
            colour=View(1280, 800, 90, 65),
            depth=View(1280, 720, 87, 58),
            baseline_m=0.095,
            source=_D400,
        ),
        "d405": CameraPreset(
            # The left stereo camera's own colours.
            colour=View(1280, 720, 87, 58),
            depth=View(1280, 720, 87, 58),
            baseline_m=0.018,
            source=_D400,
        ),
        "l515": CameraPreset(
            colour=View(1920, 1080, 70, 43),
            depth=View(1024, 768, 70, 55),
            baseline_m=None,
            source="RealSense L515 datasheet, "
            "https://dev.intelrealsense.com/docs/lidar-camera-l515-datasheet",
        ),
        "azure_kinect": CameraPreset(
            colour=View(1920, 1080, 90, 59),
            depth=View(640, 576, 75, 65),
            baseline_m=None,
            source="https://learn.microsoft.com/previous-versions/azure/kinect-dk/"
            "hardware-specification",
        ),
        "femto_bolt": CameraPreset(
            colour=View(1920, 1080, 80, 51),
            depth=View(640, 576, 75, 65),
            baseline_m=None,
            source="https://www.orbbec.com/documentation/femto-bolt-hardware-specifications/",
        ),
        "kinect_v1": CameraPreset(
            colour=View(640, 480, 62.0, 48.6),
            depth=View(640, 480, 58.5, 45.6),
            baseline_m=0.075,
            source=_KINECT_SDK,
        ),
        "asus_xtion": CameraPreset(
            colour=View(640, 480, 58, 45),
            depth=View(640, 480, 58, 45),
            baseline_m=0.075,
            source="Asus Xtion PRO LIVE specifications, "
            "https://www.asus.com/3D-Sensor/Xtion_PRO_LIVE/specifications/; baseline: as kinect_v1",
        ),
    }
)
"""By name. Depth modes of time of flight are the narrow ones.

Runs are identified by the name, so what stands here doesn't change: better figures get another.
"""
