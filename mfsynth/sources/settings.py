"""What the settings of all kinds of sources have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from mfsynth.config.base import Fraction, NonEmpty, Positive, Settings, Unset
from mfsynth.shards.labels import Moment
from mfsynth.sources.base import FiniteSource
from mfsynth.sources.camera_settings import CameraSettings
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.labels import LabelSettings
from mfsynth.sources.tolerance import STRICT, Tolerance

DepthPolicy = Literal["required", "optional", "paired"]

# Settings of an encoding that say what a code is, so that a layout's own unit is not meant.
_UNITS = {"scale", "codes_per_unit", "preset", "packing", "near"}


class SourceSettings(Settings, ABC):
    """One source: a kind, and what that kind needs to know.

    A subclass has a field `kind` of one literal, by which files of settings choose it.

    Attributes:
        licence: What its items may be used for, by the licence's short name, for runs that store
            them or what is made of them.
    """

    places: ClassVar[frozenset[str]] = frozenset()
    """Settings that say where the items lie, not what they are."""

    licence: Unset[NonEmpty] = None

    @abstractmethod
    def open(self) -> FiniteSource:
        """Open the source; its images are read when they are asked for.

        Raises:
            MfsynthError: One line that names what is missing or wrong.
        """

    @property
    def tolerance(self) -> Tolerance:
        """How much of the source may be left out, for it can't be read."""
        return STRICT


class RayCameraSettings(Settings):
    """A pinhole camera in pixels of the depth maps, for those that hold distances along rays."""

    fx: Positive
    fy: Positive
    cx: float
    cy: float


class StoredDepthSettings(SourceSettings):
    """What sources of files with depth have.

    Attributes:
        depth: What an image without depth is: `required`, an error; `optional`, an item
            without depth; `paired`, left out.
        codes_per_unit: Depth is the stored code divided by this; the same as that of `encoding`.
        ray_camera: Given where the maps hold distances along the ray, not z-depth, with the camera
            of the maps' own pixels: the same as `axis: ray` and `depth_camera` of `encoding`.
        encoding: How depth is stored, and with what camera.
        labels: What else lies beside images, for runs that hand it on.
        max_skipped: Share of the items that may be broken, or lack a caption, and are left out
            with a count; .01 unless given, and one in any case. More are an error, and with 0 the
            first is.
    """

    depth: DepthPolicy = "required"
    codes_per_unit: Positive | None = None
    ray_camera: RayCameraSettings | None = None
    encoding: Unset[Encoding] = None
    labels: Unset[LabelSettings] = None
    max_skipped: Unset[Fraction] = None

    @model_validator(mode="before")
    @classmethod
    def _one_unit(cls, values: Any) -> Any:
        """A unit of `encoding` takes the place of the layout's."""
        if isinstance(values, Mapping) and "codes_per_unit" not in values:
            encoding = values.get("encoding")
            if isinstance(encoding, Mapping) and not _UNITS.isdisjoint(encoding):
                return {**values, "codes_per_unit": None}
        return values

    @model_validator(mode="after")
    def _is_said_once(self) -> Self:
        encoding = self.encoding
        if encoding is None:
            return self
        if self.codes_per_unit is not None and (
            encoding.scale is not None or encoding.codes_per_unit is not None
        ):
            raise ValueError("give one of codes_per_unit and the unit in encoding")
        if self.ray_camera is not None and (encoding.axis or encoding.depth_camera) is not None:
            raise ValueError("give one of ray_camera and axis and depth_camera in encoding")
        return self

    @property
    def stored(self) -> Encoding:
        """How depth is stored, by all settings together."""
        found = self.encoding or Encoding()
        if self.codes_per_unit is not None:
            found = found.model_copy(update={"codes_per_unit": self.codes_per_unit})
        if self.ray_camera is not None:
            camera = CameraSettings(**self.ray_camera.model_dump())
            found = found.model_copy(update={"axis": "ray", "depth_camera": camera})
        return found

    @property
    def label_names(self) -> tuple[str, ...]:
        """What `labels` says that items may have; none where it isn't set."""
        return () if self.labels is None else self.labels.names

    def moment(self, key: str) -> Moment | None:
        """Where `labels` says that an item stands in an episode; None where it doesn't.

        Raises:
            MfsynthError: See `LabelSettings.moment`.
        """
        return None if self.labels is None else self.labels.moment(key)

    @property
    def tolerance(self) -> Tolerance:
        """See `SourceSettings`."""
        return Tolerance() if self.max_skipped is None else Tolerance(self.max_skipped)


def require_no_labels(labels: LabelSettings | None, what: str) -> None:
    """Refuse labels of items that have no files beside them.

    Args:
        labels: What was set.
        what: The items, for people.

    Raises:
        ValueError: Any.
    """
    if labels is not None:
        raise ValueError(f"{what} have no files of labels beside them; leave labels out")
