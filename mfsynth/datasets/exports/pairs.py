"""What an export knows of its pairs before it reads a pixel, and a pair on its way."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfsynth.datasets.exports.episodes import Episodes, Scenes
from mfsynth.datasets.rgbd import Files, RGBDDataset
from mfsynth.datasets.samples import RGBDSample
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.geometry.rgbd import DepthMap
from mfsynth.shards.labels import as_matrix
from mfsynth.shards.layout import MEMBERS, members_of
from mfsynth.shards.run_manifest import RunManifest

# Pairs in memory; with more a request is hardly longer than what it waits for.
_AT_ONCE = 16
_CAMERA = ("width", "height", "fx", "fy", "cx", "cy", "intrinsics_source")
# Of float32, with all its digits.
_LEAST, _GREATEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_METRIC = [str(kind) for kind in DepthKind if kind.is_metric]


@dataclass(frozen=True, slots=True)
class Camera:
    """What several pairs were seen with.

    Attributes:
        width: Pixels.
        height: Pixels.
        intrinsics: None where nobody knows.
        source: Where the intrinsics come from, None without.
    """

    width: int
    height: int
    intrinsics: Intrinsics | None
    source: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A pair on its way into another format.

    Attributes:
        number: In the export, from 0.
        sample: As it was read; its depth is in its own unit.
        files: Its files as they are stored: `rgb`, `depth`, and labels if the format has any.
        row: Of the index.
        depth: float32 (H, W) z-depth in `unit`, 0 = invalid.
        unit: `relative` where nobody knows how long it is.
        camera: With the intrinsics that the export assumes, where none are known.
    """

    number: int
    sample: RGBDSample
    files: Mapping[str, bytes]
    row: Mapping[str, Any]
    depth: DepthMap
    unit: Literal["metres", "relative"]
    camera: Camera

    def photograph(self, path: str) -> list[str]:
        """The path of the pair's image if that came with a source, and depth alone was made."""
        return [path] if self.sample.mode == "i2d" else []


class Pairs:
    """The pairs of an export, in its order.

    Args:
        dataset: Where they are.
        metres_per_unit: Makes metres of depth that is relative; None to leave it.
        assume_fov: Horizontal field of view, in degrees, of pairs whose camera isn't known; None
            to leave it unknown.

    Raises:
        MfsynthError: There is no depth that `metres_per_unit` could make metres of, or some with
            an unknown shift, or it is none; or a camera of the index, or `assume_fov`, is none.

    Attributes:
        metres_per_unit: As given.
        assume_fov: As given.
        cameras: Each once, in the order in which they are first met.
    """

    def __init__(
        self,
        dataset: RGBDDataset,
        *,
        metres_per_unit: float | None = None,
        assume_fov: float | None = None,
    ) -> None:
        self._dataset = dataset
        self._index = _with_licences(dataset)
        self.metres_per_unit = metres_per_unit
        self.assume_fov = assume_fov
        if assume_fov is not None:
            # Also where no camera is lacking.
            _assumed(1, 1, assume_fov)
        columns = [self._index.column(name).to_pylist() for name in _CAMERA]
        known: dict[tuple[Any, ...], int] = {}
        groups = [known.setdefault(key, len(known)) for key in zip(*columns, strict=True)]
        self.cameras = tuple(_camera(key, assume_fov) for key in known)
        self._groups = np.array(groups, np.int64)
        self._near = self._index.column("depth_near").to_numpy()
        self._far = self._index.column("depth_far").to_numpy()
        self._relative = pc.invert(
            pc.is_in(self._index.column("depth_kind"), pa.array(_METRIC))
        ).to_numpy()
        if metres_per_unit is not None:
            self._require_scalable()

    def __len__(self) -> int:
        return len(self._groups)

    def with_labels(self, wanted: bool) -> Pairs:
        """The same pairs, with or without what sources know of them beside image and depth."""
        other = copy(self)
        other._dataset = self._dataset.with_labels(wanted)
        return other

    @property
    def schema(self) -> pa.Schema:
        """Of the index."""
        return self._index.schema

    @property
    def relative(self) -> int:
        """How many have depth that is not in metres, and stays so."""
        return 0 if self.metres_per_unit is not None else int(self._relative.sum())

    @cached_property
    def prompts(self) -> tuple[list[str], NDArray[np.int64]]:
        """Each once, in the order in which they are first met, and the number of each pair's."""
        coded = self._index.column("prompt").combine_chunks().dictionary_encode()
        return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)

    @cached_property
    def episodes(self) -> Episodes:
        """Which of them are frames of one recording."""
        return Episodes.of(self._index)

    @cached_property
    def scenes(self) -> Scenes:
        """By their recordings."""
        return Scenes.of(self._index)

    @cached_property
    def scenes_of_cameras(self) -> Scenes:
        """By their recordings, and in these by their cameras."""
        return Scenes.of(self._index, self._groups)

    @property
    def by_frames(self) -> Pairs:
        """The same, recording by recording, each in the order of its frames."""
        return self.ordered(self.episodes.order)

    def ordered(self, order: NDArray[np.int64]) -> Pairs:
        """The same in another order."""
        if np.array_equal(order, np.arange(len(self))):
            return self
        return Pairs(
            self._dataset.select(order),
            metres_per_unit=self.metres_per_unit,
            assume_fov=self.assume_fov,
        )

    def camera(self, number: int) -> Camera:
        """Of a pair."""
        return self.cameras[int(self._groups[number])]

    def scale(self, number: int) -> float | None:
        """What makes metres of a pair's relative depth; None where nothing does, or has to."""
        return self.metres_per_unit if self._relative[number] else None

    def factor(self, number: int) -> float:
        """What a pair's stored depth is multiplied by."""
        return self.scale(number) or 1.0

    def unit(self, number: int) -> Literal["metres", "relative"]:
        """Of a pair's depth in the export."""
        stays = self._relative[number] and self.metres_per_unit is None
        return "relative" if stays else "metres"

    def far(self, number: int) -> float:
        """Greatest depth of a pair, in its unit."""
        return float(self._far[number]) * self.factor(number)

    @property
    def pixels(self) -> int:
        """How many have depth, in all pairs."""
        sizes = [self._index.column(name).to_numpy() for name in ("width", "height")]
        shares = self._index.column("valid_fraction").to_numpy()
        return int(np.rint(shares * sizes[0] * sizes[1]).sum())

    def within(self, nearest: float, furthest: float) -> int:
        """How many pairs have depth between these, as far as their least and greatest tell."""
        factors = np.where(self._relative, self.metres_per_unit or 1.0, 1.0)
        near, far = self._near * factors, self._far * factors
        return int(np.count_nonzero((near <= furthest) & (far >= nearest)))

    def row(self, number: int) -> dict[str, Any]:
        """Of the index."""
        row: dict[str, Any] = self._index.slice(number, 1).to_pylist()[0]
        return row

    def rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Of the index, all, with these columns; one that a run lacks is null."""
        there = [name for name in columns if name in self._index.column_names]
        lacking = dict.fromkeys(name for name in columns if name not in there)
        for batch in self._index.select(there).to_batches():
            for row in batch.to_pylist():
                yield {**row, **lacking}

    def poses(self) -> Iterator[NDArray[np.float64] | None]:
        """`camera_to_world` of each pair, float64 (4, 4); None where there is none."""
        for row in self.rows(["camera_to_world"]):
            pose = row["camera_to_world"]
            yield None if pose is None else as_matrix(pose)

    def _require_scalable(self) -> None:
        factor = self.metres_per_unit
        assert factor is not None
        if len(self) and not self._relative.any():
            raise MfsynthError("all depth is in metres; leave --metres-per-unit out")
        kinds = self._index.column("depth_kind")
        shifted = pc.sum(pc.equal(kinds, str(DepthKind.AFFINE_INVARIANT_Z))).as_py()
        if shifted:
            raise MfsynthError(
                f"{shifted} of {len(self)} pairs have depth with an unknown shift, of which no "
                "factor makes metres; leave --metres-per-unit out, and take a format that says "
                "its unit"
            )
        ends = np.array([self._near[self._relative], self._far[self._relative]]) * factor
        # False of what is no number, too; pairs without depth have 0 for both.
        if not (factor > 0 and np.all((ends == 0) | (ends >= _LEAST) & (ends <= _GREATEST))):
            raise MfsynthError(
                f"--metres-per-unit {factor}: makes depth that float32 can't hold; is it right?"
            )

    def origin(self, number: int) -> dict[str, str | None]:
        """Who made a pair, and what each may be used for; None where that isn't known.

        Beside `licence`, which is what the pair itself may be used for.
        """
        run = self._dataset.run_of(number)
        source = "source_licence" in self._index.column_names
        return {
            "model_licence": run.model.get("licence"),
            "estimator": run.estimator.get("id"),
            "estimator_licence": run.estimator.get("licence"),
            "source_licence": self._index.column("source_licence")[number].as_py()
            if source
            else None,
        }

    @property
    def runs(self) -> tuple[RunManifest, ...]:
        """That they are of."""
        return self._dataset.runs

    def frames(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """Read pairs as they are taken, neighbours in a store in one request.

        Raises:
            MfsynthError: One is missing or damaged.
        """
        for start in range(0, len(numbers), _AT_ONCE):
            some, files = numbers[start : start + _AT_ONCE], Files()
            for place, sample in enumerate(self._dataset.load(some, files=files)):
                if isinstance(sample, MfsynthError):
                    raise sample
                yield self._frame(some[place], sample, files[place])

    def _frame(self, number: int, sample: RGBDSample, files: Mapping[str, bytes]) -> Frame:
        factor = self.factor(number)
        depth = sample.depth
        if factor != 1.0:
            depth = np.multiply(depth, factor, dtype=np.float64).astype(np.float32)
        row, unit = self.row(number), self.unit(number)
        return Frame(number, sample, files, row, depth, unit, self.camera(number))

    def stored_bytes(self, start: int, end: int) -> int:
        """Of the members, but `json`, of the pairs from `start` to before `end`."""
        rows = self._index.slice(start, end - start)
        names = ("rgb", "depth", *labels_in(self.schema.names))
        return sum(pc.sum(rows.column(f"{name}_size")).as_py() or 0 for name in names)

    def digest(self, start: int = 0, end: int | None = None) -> str:
        """Of which pairs these are, with their bytes, in their order.

        Args:
            start: The first.
            end: One after the last; None for all from `start` on.
        """
        rows = self._index.slice(start, None if end is None else end - start)
        digest = hashlib.sha256("\n".join(rows.column("sample_id").to_pylist()).encode())
        for name in ("rgb", "depth", *labels_in(self.schema.names)):
            column = pc.fill_null(rows.column(f"{name}_crc32"), 0)
            digest.update(column.to_numpy().astype("<u4").tobytes())
        return digest.hexdigest()


def labels_in(columns: Collection[str]) -> list[str]:
    """Members beside image and depth that pairs may have, by the columns of their index."""
    return [name for name in members_of(columns) if name not in MEMBERS]


def _with_licences(dataset: RGBDDataset) -> pa.Table:
    """The index; of runs that began before pairs had licences, with that of their model.

    It was what such a pair may be used for: there were no sources yet.
    """
    index, name = dataset.index, "licence"
    there = name in index.column_names
    stored = index.column(name) if there else pa.nulls(len(index), pa.string())
    if not stored.null_count:
        return index
    models = [dataset.run_of(number).model.get(name) or None for number in range(len(index))]
    known = pc.coalesce(stored, pa.array(models, pa.string()))
    if there:
        return index.set_column(index.column_names.index(name), name, known)
    return index if known.null_count == len(known) else index.append_column(name, known)


def _camera(key: tuple[Any, ...], assume_fov: float | None) -> Camera:
    width, height, fx, fy, cx, cy, source = key
    if fx is not None:
        try:
            return Camera(width, height, Intrinsics(fx, fy, cx, cy), source)
        except (TypeError, ValueError) as error:
            raise MfsynthError(
                f"a camera of the index is none ({error}); `mfsynth verify` says what is damaged"
            ) from error
    if assume_fov is None:
        return Camera(width, height, None, None)
    assumed = _assumed(width, height, assume_fov)
    return Camera(width, height, assumed, str(IntrinsicsSource.ASSUMED))


def _assumed(width: int, height: int, fov: float) -> Intrinsics:
    try:
        focal = 0.5 * width / math.tan(math.radians(fov) / 2) if 0 < fov < 180 else math.nan
        return Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2)
    # Of angles that are all but none, too.
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise MfsynthError(
            f"--assume-fov {fov!r:.40}: no horizontal field of view; give degrees between 0 and 180"
        ) from error
