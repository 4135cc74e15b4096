"""What a pair has of where it comes from: camera, licence, mark, the file of a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from mfsynth.config import RunConfig
from mfsynth.config.cameras import CameraConfig
from mfsynth.geometry import Intrinsics, IntrinsicsSource
from mfsynth.geometry.rgbd import DepthMap
from mfsynth.runs.items import RunSource
from mfsynth.runs.making import metres_beside
from mfsynth.shards import codecs
from mfsynth.shards.labels import SensorFile
from mfsynth.shards.records import COMPOSITE_SOURCE_TYPE, DIGITAL_SOURCE_TYPE
from mfsynth.shards.words import UNKNOWN_LICENCE, both_licences
from mfsynth.sources.base import Item


@dataclass(frozen=True, slots=True)
class View:
    """The camera of a pair.

    Attributes:
        intrinsics: Of its image; None where nobody says.
        source: Where they come from; None likewise.
        preset: The camera that they are taken to be of; None for none.
    """

    intrinsics: Intrinsics | None = None
    source: IntrinsicsSource | None = None
    preset: str | None = None

    @classmethod
    def of(cls, item: Item, assumed: CameraConfig | None, shape: tuple[int, ...]) -> Self:
        """That of the item, or else the one that its run assumes.

        Args:
            item: What the pair begins with.
            assumed: As the run's configuration says.
            shape: Rows and columns of the image.
        """
        if item.intrinsics is not None:
            return cls(item.intrinsics, item.origin.camera)
        if assumed is None:
            return cls()
        found = assumed.intrinsics(shape[0], shape[1])
        return cls(found, IntrinsicsSource.ASSUMED, assumed.preset)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What pairs of a run have of their origin.

    Attributes:
        mode: Of the run.
        model: The licence of what the run's models made alone.
        source: The source's, where its settings have one; "" where not.
        keeps_sensor: Whether what made pairs metric is kept with them.
        has_sensor: Whether pairs have a sensor's depth that the run itself brings.
    """

    mode: str
    model: str
    source: str = ""
    keeps_sensor: bool = False
    has_sensor: bool = False

    @classmethod
    def of(cls, config: RunConfig, model: str, source: RunSource | None) -> Self:
        """That of a run.

        Args:
            config: The run.
            model: As above.
            source: What it begins with; None for prompts.
        """
        licence = None if source is None else source.settings.licence
        keeps_sensor = config.metres_per_unit == "source"
        has_sensor = keeps_sensor or config.sensor is not None
        return cls(config.sampler.mode, model, licence or "", keeps_sensor, has_sensor)

    def licence(self, item: Item) -> str:
        """Of a pair: of a photograph its own; of an image made for given depth those of both."""
        own = self.source_licence(item)
        if own is None:
            return self.model
        return own if self.mode == "i2d" else both_licences(own, self.model)

    def source_licence(self, item: Item) -> str | None:
        """Of the item of a source alone; None without a source."""
        if self.mode == "joint":
            return None
        return item.origin.licence or self.source or UNKNOWN_LICENCE

    def source_type(self, item: Item) -> str:
        """How its image came to be, a term of the IPTC; "" where a photograph doesn't say."""
        if self.mode == "i2d":
            return item.origin.digital_source_type
        # Depth beside an image that a model made is taken for that model's.
        if self.mode == "d2i" and item.origin.digital_source_type != DIGITAL_SOURCE_TYPE:
            return COMPOSITE_SOURCE_TYPE
        return DIGITAL_SOURCE_TYPE

    @property
    def thumbnail_type(self) -> str:
        """How image and depth in one picture came to be."""
        return DIGITAL_SOURCE_TYPE if self.mode == "joint" else COMPOSITE_SOURCE_TYPE

    def jpeg(self, item: Item) -> bytes | None:
        """The file of a photograph, if readers of the format can read it; None for a new one.

        Not of one in grey or CMYK, of which others' readers make one channel or four.
        """
        if self.mode != "i2d" or item.origin.jpeg is None or item.rgb is None:
            return None
        try:
            codecs.decode_jpeg(item.origin.jpeg, item.rgb.shape[:2])
        except ValueError:
            return None
        return item.origin.jpeg if codecs.has_three_channels(item.origin.jpeg) else None

    def sensor(self, item: Item) -> DepthMap | None:
        """Metric depth of a sensor that is kept beside the pair's own; None for none."""
        return metres_beside(item) if self.keeps_sensor else None

    def sensor_file(self, item: Item) -> SensorFile | None:
        """What a sensor returned in the source, of runs that have none of their own."""
        return None if self.has_sensor else item.labels.sensor
