"""The pairs of runs as a sequence, which is also a map-style torch data set."""

from __future__ import annotations

import hashlib
import logging
import operator
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from itertools import accumulate
from typing import Any, NamedTuple, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfsynth.datasets.conditions import matching
from mfsynth.datasets.decoding import (
    PIXELS,
    ChangedError,
    Row,
    Span,
    decode_into,
    described,
    encoding_of,
    labelled,
    labels_of,
    members,
    room_for,
    shape_of,
    span_of,
)
from mfsynth.datasets.frames import Frames, Pixels
from mfsynth.datasets.loader import Loader
from mfsynth.datasets.order import Order
from mfsynth.datasets.parts import Part, open_parts
from mfsynth.datasets.ranges import RangeReader
from mfsynth.datasets.samples import RGBDSample
from mfsynth.datasets.splits import split_rows
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.inflating import Bytes
from mfsynth.shards.quantisation import DepthEncoding
from mfsynth.shards.records import StoredObject
from mfsynth.shards.run_manifest import RunManifest
from mfsynth.shards.selection import RETURNED
from mfsynth.shards.tables import take_rows
from mfsynth.storage.local_cache import LocalCache, cache_folder

_log = logging.getLogger(__name__)


Files = dict[int, Mapping[str, bytes]]
"""Members of samples by their names, by the place of each sample."""


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
            pass one here (`mfsynth.datasets.to_tensors`) or a `collate_fn` there.
        cache_bytes: Of a remote store, tars are kept in the user's cache folder, as many as this
            has room for; 0 to read ranges from the store each time.
        labels: Whether to read what samples have beside image and depth, too: `sensor`, `mask`,
            `objects` and `others`. Poses of cameras and episodes are there in any case.

    Raises:
        MfsynthError: There is no run or no such view, a commit or an index is missing or can't be
            read, the view is of other shards, two runs have a sample in common, or `cache_bytes`
            is none.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        view: str | None = None,
        transform: Callable[[RGBDSample], Any] | None = None,
        cache_bytes: int = 0,
        labels: bool = False,
    ) -> None:
        urls = [url] if isinstance(url, str | os.PathLike) else [*url]
        self._reader = RangeReader(_tar_cache(cache_bytes))
        self._parts, self._rows = open_parts(urls, view)
        self._ends = [*accumulate(part.rows for part in self._parts)]
        self._chosen: NDArray[np.int64] | None = None
        self._transform = transform
        self._labels = labels

    @property
    def index(self) -> pa.Table:
        """The joined Parquet index, row i for sample i: choose samples by it without decoding."""
        if self._chosen is None:
            return self._rows.table
        return take_rows(self._rows.table, self._chosen)

    @property
    def digest(self) -> str:
        """Of which samples these are, and in which order."""
        digest = hashlib.sha256("".join(part.identity for part in self._parts).encode())
        candidates = self._rows.table.column("candidate").to_numpy()
        ends = np.asarray(self._ends)
        chosen = np.arange(len(candidates)) if self._chosen is None else self._chosen
        for values in (np.searchsorted(ends, chosen, side="right"), candidates[chosen]):
            digest.update(values.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def runs(self) -> tuple[RunManifest, ...]:
        """What each of the runs is: settings, and models with their licences."""
        return tuple(part.run for part in self._parts)

    def run_of(self, number: int) -> RunManifest:
        """The run that a sample is of.

        Args:
            number: Of the sample, from 0.

        Raises:
            IndexError: There is no such sample.
        """
        require_numbers([number], len(self))
        row = number if self._chosen is None else int(self._chosen[number])
        return self._parts[bisect_right(self._ends, row)].run

    def filter(self, condition: str | pc.Expression) -> Self:
        """The samples that meet a condition on their columns.

        Args:
            condition: Such as `registration > 2 and 'mug' in objects`; a score or slot needs no
                prefix. Of a check that abstained neither a comparison nor its opposite is true.
                Or an expression of pyarrow's, on whole names of columns, by pyarrow's rules.

        Raises:
            MfsynthError: See `mfsynth.datasets.conditions.matching`.
        """
        # Of all rows, for none of their columns is copied then.
        met = matching(self._rows.table, condition)
        return self.select(np.flatnonzero(met if self._chosen is None else met[self._chosen]))

    def select(self, numbers: Sequence[int] | NDArray[np.integer]) -> Self:
        """The samples of these numbers, in this order.

        Raises:
            IndexError: There is no such sample.
            MfsynthError: They are no whole numbers, such as a mask.
        """
        given = np.asarray(numbers)
        if given.size and not np.issubdtype(given.dtype, np.integer):
            raise MfsynthError(
                f"select: takes the numbers of samples, not {given.dtype}; of a mask those are "
                "np.flatnonzero(mask)"
            )
        chosen = given.astype(np.int64).reshape(-1)
        require_numbers(chosen, len(self))
        other = copy(self)
        other._chosen = chosen if self._chosen is None else self._chosen[chosen]
        return other

    @property
    def reads_labels(self) -> bool:
        """Whether it was opened with `labels=True`."""
        return self._labels

    def with_labels(self, wanted: bool = True) -> Self:
        """The same samples, as if opened with `labels=wanted`."""
        other = copy(self)
        other._labels = wanted
        return other

    def split(self, shares: Mapping[str, float], by: str | None = None) -> dict[str, Self]:
        """Parts that share no value of a column, each of about a share of these values.

        Where a sample goes hangs on its value alone: it stays there when the run grows, and in
        any other run.

        Args:
            shares: Share of each part by its name, such as `{"train": 0.9, "val": 0.1}`.
            by: The column, such as `sample_id`; samples without a value go each by itself. By
                default what must stay together: the `scene` of a sample whose source says it, else
                its `episode`, else the `source` of one that was made of an item, else its
                `prompt_id`.

        Raises:
            MfsynthError: Shares are not positive, or come to more than 1; or no such column.
        """
        parts = split_rows(self._rows.table, shares, by, self._chosen)
        return {name: self.select(rows) for name, rows in parts.items()}

    def order(self, seed: int, epoch: int, block: int, shuffle: bool) -> Order:
        """In which an epoch of a loader goes through it."""
        return Order(len(self), seed, epoch, block, shuffle)

    def loader(self, batch_size: int, **settings: Any) -> Loader:
        """Batches for a training; for the settings see `mfsynth.datasets.Loader`.

        Raises:
            MfsynthError: A setting is none, or the data set has a transform, which a loader has
                `augment` and `fields` for.
        """
        if self._transform is not None:
            raise MfsynthError(
                "a loader takes samples as they are; open the data set without transform, and give "
                "the loader augment and fields, or give the data set to torch's DataLoader"
            )
        return Loader(self, batch_size, **settings)

    def __repr__(self) -> str:
        urls = ", ".join(part.store.url for part in self._parts)
        of = "" if self._chosen is None else f" of {len(self._rows)}"
        return f"{type(self).__name__}({urls}: {len(self):,} pairs{of})"

    def __len__(self) -> int:
        return len(self._rows) if self._chosen is None else len(self._chosen)

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
        [sample] = self.load([number % len(self)])
        if isinstance(sample, MfsynthError):
            raise sample
        return sample if self._transform is None else self._transform(sample)

    def with_files(self, number: int) -> tuple[RGBDSample, Mapping[str, bytes]]:
        """A sample, not transformed, and its files as they are stored: `rgb`, `depth`, labels.

        Args:
            number: Of the sample, from 0.

        Raises:
            IndexError: There is no such sample.
            MfsynthError: The shard is missing, truncated or damaged.
        """
        files: Files = {}
        [sample] = self.load([number], files=files)
        if isinstance(sample, MfsynthError):
            raise sample
        return sample, files[0]

    def load(
        self,
        numbers: Sequence[int],
        frames: Frames | None = None,
        files: Files | None = None,
    ) -> list[RGBDSample | MfsynthError]:
        """Several samples, not transformed; in place of one that can't be read, why.

        Of a tar in a remote store, neighbours are read at once.

        Args:
            numbers: Of the samples.
            frames: Room for their pixels, in the order of `numbers`; None for arrays of their own.
            files: Takes the files of each as they are stored (`rgb`, `depth`, labels), by its place
                in `numbers`.

        Raises:
            IndexError: There is no such sample; none is counted from the end.
        """
        found: dict[int, RGBDSample | MfsynthError] = {}
        wanted: dict[tuple[int, str], list[_Wanted]] = defaultdict(list)
        for place, each in enumerate(self._locate(numbers)):
            if isinstance(each, MfsynthError):
                found[place] = each
            else:
                wanted[id(each.part), each.tar.key].append(each)
        for group in wanted.values():
            found |= self._read(group, frames, files)
        return [found[place] for place in range(len(numbers))]

    def _locate(self, numbers: Sequence[int]) -> Iterator[_Wanted | MfsynthError]:
        require_numbers(numbers, len(self))
        rows = numbers if self._chosen is None else self._chosen[numbers].tolist()
        for place, at in enumerate(rows):
            part, row = self._parts[bisect_right(self._ends, at)], self._rows.row(at)
            tar = part.tars.get((row["shard"], bool(row.get(RETURNED))))
            if tar is None:
                yield _damaged(part, layout.COMMITS_FOLDER, f"{row['sample_id']}: has no tar")
                continue
            try:
                names = (*PIXELS, *labels_of(row)) if self._labels else PIXELS
                yield _Wanted(place, part, tar, row, span_of(row, tar, names))
            except (ValueError, TypeError) as error:
                yield _unreadable(part, tar, row, error)

    def _read(
        self, group: Sequence[_Wanted], frames: Frames | None, files: Files | None
    ) -> dict[int, RGBDSample | MfsynthError]:
        part, tar = group[0].part, group[0].tar
        found: dict[int, RGBDSample | MfsynthError] = {}
        ready = []
        # In three rounds, for between two pictures all Python is cold again, and takes five
        # times as long: what rows say of the samples, then their pixels.
        for each in group:
            row = each.row
            try:
                lent = None if frames is None else frames.part(each.place, shape_of(row))
                pixels = room_for(row) if lent is None else lent
                ready.append((each, described(row, pixels), pixels, encoding_of(row)))
            except (ValueError, KeyError, TypeError) as error:
                found[each.place] = _unreadable(part, tar, row, error)
        try:
            spans = [(each.span.start, each.span.length) for each, *_ in ready]
            # One after the other: decoded while its bytes are in the processor's caches.
            read = self._reader.read(part.store, tar, spans)
            for (each, sample, pixels, encoding), data in zip(ready, read, strict=True):
                found[each.place] = self._filled(each, data, sample, pixels, encoding, files)
        except FileNotFoundError:
            for each, *_ in ready:
                what = f"it is missing (wanted for {each.row['sample_id']})"
                found.setdefault(each.place, _damaged(part, tar.key, what))
        except (OSError, MfsynthError) as error:
            for each, *_ in ready:
                found.setdefault(each.place, _unread(each, error))
        return found

    def _filled(
        self,
        wanted: _Wanted,
        data: Bytes,
        sample: RGBDSample,
        pixels: Pixels,
        encoding: DepthEncoding,
        files: Files | None,
    ) -> RGBDSample | MfsynthError:
        part, tar, row, span = wanted.part, wanted.tar, wanted.row, wanted.span
        try:
            try:
                found = members(sample.sample_id, span, data)
            except ChangedError:
                if part.store.local_root is not None:
                    raise
                # On the way from a store, once in very many reads; or on the disk of the cache.
                self._reader.forget(tar)
                [again] = self._reader.read(part.store, tar, [(span.start, span.length)])
                found = members(sample.sample_id, span, again)
        except ChangedError as error:
            return _damaged(part, tar.key, str(error))
        except (OSError, MfsynthError) as error:
            return _unread(wanted, error)
        if files is not None:
            files[wanted.place] = {name: bytes(member) for name, member in found.items()}
        try:
            decode_into(pixels, encoding, found["rgb"], found["depth"])
            return labelled(row, sample, found)
        except ValueError as error:
            return _unreadable(part, tar, row, error)


def require_numbers(numbers: Sequence[int] | NDArray[np.integer], count: int) -> None:
    """Refuses numbers of samples that there aren't.

    Raises:
        IndexError: One isn't of range(count).
    """
    if len(numbers) and not 0 <= (least := np.min(numbers)) <= (most := np.max(numbers)) < count:
        wrong = least if least < 0 else most
        raise IndexError(f"no sample {wrong}: their numbers are 0 to {count - 1}")


class _Wanted(NamedTuple):
    """A sample that is to be read, and its place among others."""

    place: int
    part: Part
    tar: StoredObject
    row: Row
    span: Span


def _tar_cache(limit: int) -> LocalCache | None:
    if type(limit) is not int or limit < 0:
        raise MfsynthError(
            f"cache_bytes is {limit!r:.80}; give a whole number of bytes, such as 50 * 10**9, or 0"
        )
    if not limit:
        return None
    folder = cache_folder("tars")
    if folder is None:
        _log.warning(
            "cache_bytes: tars are read from the store each time, for there is no folder to keep "
            "them in that you alone may write; name one by MFSYNTH_CACHE"
        )
        return None
    return LocalCache(folder, limit)


def _unread(wanted: _Wanted, error: OSError | MfsynthError) -> MfsynthError:
    sample_id = wanted.row["sample_id"]
    if isinstance(error, MfsynthError):
        named = type(error)(f"{sample_id}: {error}")
        named.__cause__ = error
        return named
    return _damaged(wanted.part, wanted.tar.key, f"{sample_id}: {error.strerror or error}")


def _unreadable(part: Part, tar: StoredObject, row: Row, error: Exception) -> MfsynthError:
    what = " ".join(str(error).split())
    return _damaged(part, tar.key, f"{row['sample_id']}: {what}")


def _damaged(part: Part, key: str, what: str) -> MfsynthError:
    return MfsynthError(
        f"{part.store.url}/{key}: {what}; `mfsynth verify` says what else is damaged"
    )
