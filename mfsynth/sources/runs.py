"""The pairs of an mfsynth run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, Literal

from mfsynth.config.base import NonEmpty, Unset
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.shards.labels import (
    CAMERA_TO_WORLD,
    EPISODE,
    MASK,
    POSES,
    SENSOR,
    SENSOR_PRESET,
    Labels,
    Moment,
    SensorFile,
    suffix_of,
)
from mfsynth.shards.layout import OFFSET, others_of
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE
from mfsynth.sources.base import DepthFacts, Item, Origin, unit_of
from mfsynth.sources.containers import exif_orientation
from mfsynth.sources.settings import SourceSettings
from mfsynth.storage.credentials import without_credentials

_DECODED = {"mask": MASK, "poses": POSES}
_CONTENTS = ("sample_id", "rgb_crc32", "depth_crc32", "json_crc32")


class RunSettings(SourceSettings):
    """The pairs of an mfsynth run.

    Attributes:
        url: A local path or fsspec URL of the run.
        view: Name of a view of it (`mfsynth refilter`); unset, all pairs that it accepted.
    """

    places: ClassVar[frozenset[str]] = frozenset({"url"})

    kind: Literal["mfsynth"]
    url: NonEmpty
    view: Unset[NonEmpty] = None

    def open(self) -> RunSource:
        """See `RunSource`."""
        return RunSource(self.url, self.view)


class RunSource:
    """Implements `FiniteSource`: pairs in the order of their candidates, with their prompts.

    Args:
        url: A local path or fsspec URL of a run.
        view: Name of a view of it; None for all pairs that it accepted.

    Attributes:
        pairs: As a data set.

    Raises:
        MfsynthError: There is no run or view, it has no pairs, or its depth has an unknown shift,
            which no scale makes z-depth.
    """

    def __init__(self, url: str, view: str | None = None) -> None:
        # Here, so that reading settings doesn't wait for what reading pairs takes.
        from mfsynth.datasets import RGBDDataset

        self.pairs = RGBDDataset(url, view=view, labels=True)
        self._shown = without_credentials(url)
        if not len(self.pairs):
            raise MfsynthError(f"{self._shown}: the run has no committed pairs; generate some")
        if DepthKind.AFFINE_INVARIANT_Z in self.pairs.index.column("depth_kind").to_pylist():
            raise MfsynthError(
                f"{self._shown}: depth of the kind {DepthKind.AFFINE_INVARIANT_Z} has an unknown "
                "shift, which no scale makes z-depth; use a run of another kind"
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Item:
        pair, files = self.pairs.with_files(index)
        camera, pose = pair.intrinsics, pair.camera_to_world
        kept = {_DECODED.get(name) or suffix_of(name): data for name, data in files.items()}
        name = f"{self._shown}: {pair.sample_id}"
        return Item(
            rgb=pair.rgb,
            depth=pair.depth,
            text=pair.prompt,
            slots=pair.slots,
            intrinsics=None if camera is None else Intrinsics.from_matrix(camera),
            name=name,
            camera_from=pair.intrinsics_source or "",
            facts=DepthFacts(unit_of(pair.depth_kind)),
            origin=Origin(
                key=pair.sample_id,
                jpeg=files["rgb"] if exif_orientation(files["rgb"], name) == 1 else None,
                digital_source_type=self._source_type(index),
                licence=pair.licence or "",
                camera=pair.intrinsics_source or IntrinsicsSource.GIVEN,
                depth=pair.depth_kind,
            ),
            labels=Labels(
                files={suffix: data for suffix, data in kept.items() if suffix in self.labels},
                mask=pair.mask,
                objects=pair.objects,
                camera_to_world=None if pose is None else tuple(pose.ravel().tolist()),
                moment=self.moment(index),
                sensor=self._sensor(index, files.get("sensor")),
            ),
        )

    def _sensor(self, index: int, png: bytes | None) -> SensorFile | None:
        unit = self._column("sensor_unit_per_code", index)
        return None if png is None else SensorFile(png, unit, self._column("sensor", index))

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`: all that the run has."""
        names = self.pairs.index.column_names
        known = [suffix for name, suffix in _DECODED.items() if f"{name}{OFFSET}" in names]
        whole = [name for name in (CAMERA_TO_WORLD, EPISODE) if name in names]
        columns = {SENSOR: f"sensor{OFFSET}", SENSOR_PRESET: "sensor"}
        sensor = [label for label, column in columns.items() if column in names]
        return (*known, *whole, *sensor, *map(suffix_of, others_of(names)))

    def moment(self, index: int) -> Moment | None:
        """See `LabelledSource`."""
        episode, frame = self._column("episode", index), self._column("frame", index)
        if episode is None or frame is None:
            return None
        # What was made of an episode several times is as many episodes.
        named = f"{episode}#{self._column('copy', index)}" if self._has_copies else episode
        return Moment(named, frame, self._column("timestamp", index))

    def scene(self, index: int) -> str:
        """See `SceneSource`: what the run's own source says, or what its item or episode became."""
        # As it is, so that runs of runs agree with the first of them, in splits, too.
        if (told := self._column("scene", index)) is not None:
            return str(told)
        for name in ("episode", "source"):
            if (value := self._column(name, index)) is not None:
                return f"{name} {value}"
        return self.key(index)

    @cached_property
    def _has_copies(self) -> bool:
        import pyarrow.compute as pc

        table = self.pairs.index
        return "copy" in table.column_names and bool(pc.max(table.column("copy")).as_py())

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return iter(self.pairs.index.column("prompt").to_pylist())

    def key(self, index: int) -> str:
        """The sample's id."""
        return str(self._column("sample_id", index))

    def contents(self) -> Iterator[bytes]:
        """Ids, and CRC-32s of images, depth maps and descriptions, which hash the rest."""
        columns = [self.pairs.index.column(name) for name in _CONTENTS]
        for row in zip(*(column.to_pylist() for column in columns), strict=True):
            yield repr(row).encode()

    def _source_type(self, index: int) -> str:
        # Runs from before the column have no source: a model made their images.
        has_column = "digital_source_type" in self.pairs.index.column_names
        return self._column("digital_source_type", index) if has_column else DIGITAL_SOURCE_TYPE

    def _column(self, name: str, index: int) -> Any:
        table = self.pairs.index
        return table.column(name)[index].as_py() if name in table.column_names else None
