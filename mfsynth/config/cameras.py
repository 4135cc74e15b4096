"""Which camera images are taken to be of, and which sensor would have looked at them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from mfsynth.config.base import Settings, Unset
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.camera_presets import CAMERA_PRESETS
from mfsynth.geometry.sensors.presets import SENSORS, Sensor


def _known_camera(name: str) -> str:
    if name not in CAMERA_PRESETS:
        raise ValueError(
            f"must be one of {', '.join(CAMERA_PRESETS)}, not {name!r:.60}; or give fov, an angle"
        )
    return name


class CameraConfig(Settings):
    """The camera that a run's images are taken to be of: a preset, or an angle.

    Attributes:
        preset: A camera of `mfsynth.geometry.camera_presets`. An image is the largest centred part
            of its colour image that has the image's proportions.
        fov: Horizontal field of view of the image as it is, in degrees.
    """

    preset: Unset[Annotated[str, AfterValidator(_known_camera)]] = None
    fov: Unset[Annotated[float, Field(gt=0, lt=180)]] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> CameraConfig:
        if (self.preset is None) == (self.fov is None):
            raise ValueError("give exactly one of preset and fov")
        return self

    def intrinsics(self, height: int, width: int) -> Intrinsics:
        """Of an image of this size: square pixels, the principal point in the middle."""
        if self.preset is not None:
            return CAMERA_PRESETS[self.preset].intrinsics(height, width)
        assert self.fov is not None  # it is one of the two
        return Intrinsics.from_horizontal_fov(height, width, self.fov)


def _known_sensor(name: str) -> str:
    if name not in SENSORS:
        raise ValueError(f"must be one of {', '.join(SENSORS)}, not {name!r:.60}")
    return name


class SensorConfig(Settings):
    """The depth sensor that a run's metric depth is given to.

    Attributes:
        preset: A camera of `mfsynth.geometry.camera_presets` that there is a model for.
    """

    preset: Annotated[str, AfterValidator(_known_sensor)]

    @property
    def sensor(self) -> Sensor:
        """What the preset says."""
        return SENSORS[self.preset]
