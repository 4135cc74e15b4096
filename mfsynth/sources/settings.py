"""What the settings of all kinds of sources have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from mfsynth.config.base import Positive, Settings
from mfsynth.geometry import Intrinsics
from mfsynth.sources.base import FiniteSource

DepthPolicy = Literal["required", "optional", "paired"]


class SourceSettings(Settings, ABC):
    """One source: a kind, and what that kind needs to know.

    A subclass has a field `kind` of one literal, by which files of settings choose it.
    """

    @abstractmethod
    def open(self) -> FiniteSource:
        """Open the source; its images are read when they are asked for.

        Raises:
            MfsynthError: One line that names what is missing or wrong.
        """


class RayCameraSettings(Settings):
    """A pinhole camera in pixels of the depth maps, for those that hold distances along rays."""

    fx: Positive
    fy: Positive
    cx: float
    cy: float

    def intrinsics(self) -> Intrinsics:
        """The same as a camera."""
        return Intrinsics(self.fx, self.fy, self.cx, self.cy)


class StoredDepthSettings(SourceSettings):
    """What sources of 16-bit depth maps have.

    Attributes:
        depth: What an image without depth is: `required`, an error; `optional`, an item
            without depth; `paired`, left out.
        codes_per_unit: Depth is the stored 16-bit code divided by this.
        ray_camera: Given where the maps hold distances along the ray, not z-depth. They are
            converted; a file doesn't say which it holds.
    """

    depth: DepthPolicy = "required"
    codes_per_unit: Positive | None = None
    ray_camera: RayCameraSettings | None = None

    @property
    def ray_intrinsics(self) -> Intrinsics | None:
        """`ray_camera` as a camera."""
        return None if self.ray_camera is None else self.ray_camera.intrinsics()


def require_unit(codes_per_unit: float | None) -> None:
    """Refuse depth maps of which nobody said what a code is.

    Raises:
        ValueError: There is no unit.
    """
    if codes_per_unit is None:
        raise ValueError(
            "codes_per_unit is missing; say how many codes of the depth maps make a unit, "
            "for example 1000 for millimetres"
        )
