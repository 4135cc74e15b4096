"""The pairs of runs as a sequence, which is also a map-style torch data set."""

from __future__ import annotations

import operator
import os
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfsynth.datasets.parts import Part, open_parts
from mfsynth.datasets.ranges import RangeReader
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, IntrinsicsSource
from mfsynth.geometry.rgbd import DepthMap, Mask, RgbImage
from mfsynth.shards import codecs, layout
from mfsynth.shards.records import CandidateRef
from mfsynth.shards.selection import RETURNED
from mfsynth.shards.tables import scores_of, slots_of

_REF = [field.name for field in fields(CandidateRef) if field.name != "slots"]


@dataclass(frozen=True, slots=True, eq=False)
class RGBDSample:
    """One RGB-D pair with what is known about it.

    Attributes:
        ref: The candidate that it comes from; what it knows is the sample's, too: `sample_id`,
            `candidate`, `seed`, `prompt`, `prompt_id` and `slots`.
        rgb: uint8 (H, W, 3).
        depth: float32 (H, W), z-depth in units of `depth_kind`, 0.0 = invalid.
        valid: bool (H, W), depth > 0.
        intrinsics: float64 (3, 3) pinhole matrix in pixels (OpenCV axes, integer pixel
            centres), or None if unknown.
        intrinsics_source: Where `intrinsics` came from, or None.
        camera: The preset that `intrinsics` are assumed to be of, or None.
        depth_kind: What the numbers in `depth` mean; metres only for the metric kinds.
        scores: Score of every check; NaN where the check abstained, or the run has none.
        mode: `joint`, `i2d` or `d2i`.
        model_id: Model that made the pair.
        licence: What the pair may be used for; None in runs of earlier formats.
    """

    ref: CandidateRef
    rgb: RgbImage
    depth: DepthMap
    valid: Mask
    intrinsics: NDArray[np.float64] | None
    intrinsics_source: IntrinsicsSource | None
    camera: str | None
    depth_kind: DepthKind
    scores: Mapping[str, float]
    mode: str
    model_id: str
    licence: str | None

    @property
    def sample_id(self) -> str:
        """`[0-9a-z_-]+`, unique in the data set."""
        return self.ref.sample_id

    @property
    def candidate(self) -> int:
        """Number of the candidate in the run."""
        return self.ref.candidate

    @property
    def seed(self) -> int:
        """Noise seed."""
        return self.ref.seed

    @property
    def prompt(self) -> str:
        """Text that the pair was asked for with."""
        return self.ref.prompt

    @property
    def prompt_id(self) -> str:
        """Stable hash of the prompt's text."""
        return self.ref.prompt_id

    @property
    def slots(self) -> Mapping[str, tuple[str, ...]]:
        """What the prompt took for each slot of its library."""
        return self.ref.slots


class RGBDDataset:
    """The committed pairs of a run, in the order of their candidates, or of several runs.

    A plain sequence: `len`, integer and slice indices, iteration. That is all that
    `torch.utils.data.DataLoader` asks of a map-style data set, with any number of workers and
    any start method; torch itself isn't imported. The samples present when it is opened are the
    samples it has: a run that goes on doesn't change an open data set.

    Every read is checked against the CRC-32 of the index.

    Args:
        url: Local path or fsspec URL of a run, or a list of them: their pairs follow each other in
            its order.
        view: Name of a view (`mfsynth refilter`) that takes the place of what the run accepted;
            each of several runs must have it. `index` has a column more, `returned`: whether the
            run itself rejected the pair.
        transform: Applied to every sample, in the loading process; what it returns is what
            indexing gives. A `DataLoader` can collate dicts of arrays, not `RGBDSample`s, so
            pass one here or a `collate_fn` there.

    Raises:
        MfsynthError: There is no run or no such view, a commit or an index is missing or can't be
            read, the view is of other shards, or two runs have a sample in common.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        view: str | None = None,
        transform: Callable[[RGBDSample], Any] | None = None,
    ) -> None:
        urls = [url] if isinstance(url, str | os.PathLike) else [*url]
        self._parts, self._index = open_parts(urls, view)
        self._ends = [*accumulate(part.rows for part in self._parts)]
        self._reader = RangeReader()
        self._transform = transform

    @property
    def index(self) -> pa.Table:
        """The joined Parquet index, row i for sample i: choose samples by it without decoding."""
        return self._index

    def __len__(self) -> int:
        return int(self._index.num_rows)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """Sample `index` (or a list of samples, for a slice), transformed.

        Raises:
            IndexError: There is no such sample.
            MfsynthError: The shard is missing, truncated or damaged.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        sample, _ = self.with_files(number % len(self))
        return sample if self._transform is None else self._transform(sample)

    def with_files(self, number: int) -> tuple[RGBDSample, Mapping[str, bytes]]:
        """A sample, not transformed, and its files as they are stored: `rgb` and `depth`.

        Args:
            number: Of the sample, from 0.

        Raises:
            MfsynthError: The shard is missing, truncated or damaged.
        """
        row: dict[str, Any] = self._index.slice(number, 1).to_pylist()[0]
        part = self._parts[bisect_right(self._ends, number)]
        try:
            files = self._members(part, row)
            return self._decode(row, files), files
        except (ValueError, KeyError) as error:
            tar = part.tars.get(_tar_of(row))
            key = layout.COMMITS_FOLDER if tar is None else tar.key
            what = " ".join(str(error).split())
            raise _damaged(part, key, f"{row['sample_id']}: {what}") from error

    def _decode(self, row: Mapping[str, Any], files: Mapping[str, bytes]) -> RGBDSample:
        shape = (row["height"], row["width"])
        encoding = codecs.DepthEncoding(
            codecs.DepthScale(row["depth_encoding"]),
            row["depth_unit_per_code"],
            row["depth_near"],
            row["depth_far"],
        )
        depth = codecs.decode_depth(files["depth"], encoding, shape)
        intrinsics = None
        camera = [row[name] for name in ("fx", "fy", "cx", "cy")]
        if None in camera and any(value is not None for value in camera):
            raise ValueError("its camera lacks a number")
        if row["fx"] is not None:
            intrinsics = np.array(
                [[row["fx"], 0.0, row["cx"]], [0.0, row["fy"], row["cy"]], [0.0, 0.0, 1.0]]
            )
        source = row["intrinsics_source"]
        return RGBDSample(
            ref=CandidateRef(**{name: row[name] for name in _REF}, slots=slots_of(row)),
            rgb=codecs.decode_jpeg(files["rgb"], shape),
            depth=depth,
            valid=depth > 0,
            intrinsics=intrinsics,
            intrinsics_source=None if source is None else IntrinsicsSource(source),
            camera=row.get("camera"),
            depth_kind=DepthKind(row["depth_kind"]),
            scores=scores_of(row),
            mode=row["mode"],
            model_id=row["model_id"],
            licence=row.get("licence"),
        )

    def _members(self, part: Part, row: Mapping[str, Any]) -> dict[str, bytes]:
        sample_id, tar = row["sample_id"], part.tars[_tar_of(row)]
        key = tar.key
        for name in ("rgb", "depth"):
            offset, size = row[f"{name}_offset"], row[f"{name}_size"]
            if not row["rgb_offset"] <= offset <= offset + size <= tar.size or offset < 0:
                raise ValueError(f"the {name} doesn't lie in its tar")
        # The members of a sample are neighbours in the tar: one read instead of two.
        start = row["rgb_offset"]
        length = row["depth_offset"] + row["depth_size"] - start
        try:
            data = self._reader.read(part.store, key, start, length)
        except FileNotFoundError:
            raise _damaged(part, key, f"it is missing (wanted for {sample_id})") from None
        except OSError as error:
            raise _damaged(part, key, f"{sample_id}: {error.strerror or error}") from error
        if len(data) != length:
            raise _damaged(part, key, f"truncated: {sample_id} ends early")
        members = {}
        for name in ("rgb", "depth"):
            offset = row[f"{name}_offset"] - start
            member = data[offset : offset + row[f"{name}_size"]]
            if zlib.crc32(member) != row[f"{name}_crc32"]:
                raise _damaged(part, key, f"the {name} of {sample_id} changed (CRC-32 differs)")
            members[name] = member
        return members


def _tar_of(row: Mapping[str, Any]) -> tuple[int, bool]:
    return row["shard"], bool(row.get(RETURNED))


def _damaged(part: Part, key: str, what: str) -> MfsynthError:
    return MfsynthError(
        f"{part.store.url}/{key}: {what}; `mfsynth verify` says what else is damaged"
    )
