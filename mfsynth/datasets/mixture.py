"""Several data sets as one, each as often as its weight says."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from numbers import Real
from typing import Any, overload

from mfsynth.datasets.frames import Frames
from mfsynth.datasets.loader import Loader
from mfsynth.datasets.order import MixedOrder, shares_of
from mfsynth.datasets.rgbd import RGBDDataset, require_numbers
from mfsynth.datasets.samples import RGBDSample
from mfsynth.errors import MfsynthError
from mfsynth.storage.digests import sha256_of_bytes


class MixedDataset:
    """Data sets whose loader takes from each by its weight.

    An epoch has as many samples as all of them together; one that is short for its weight comes
    again in it, in another order. Their samples are numbered one data set behind the other.

    Args:
        datasets: None of them empty. Two of them may have samples in common, such as a run and a
            view of it: each goes through its own in an order of its own.
        weights: One for each, positive; they need not come to 1.

    Raises:
        MfsynthError: There are none, one is empty, or the weights are none.
    """

    def __init__(self, datasets: Sequence[RGBDDataset], weights: Sequence[float]) -> None:
        self._datasets, self._weights = (*datasets,), (*weights,)
        if not datasets or len(datasets) != len(weights):
            raise MfsynthError("a mixture: give at least one data set, and a weight for each")
        for dataset in datasets:
            if not len(dataset):
                raise MfsynthError(f"a mixture: {dataset!r} is empty; leave it out")
        if wrong := [w for w in weights if isinstance(w, bool) or not isinstance(w, Real)]:
            raise MfsynthError(f"a mixture: a weight is {wrong[0]!r:.80}; give positive numbers")
        try:
            shares_of(self._weights)
        except ValueError as error:
            raise MfsynthError(f"a mixture: {error}") from error
        self._ends = [*accumulate(len(dataset) for dataset in datasets)]

    @property
    def digest(self) -> str:
        """Of which samples these are, and how often."""
        parts = [*(dataset.digest for dataset in self._datasets), repr(self._weights)]
        return sha256_of_bytes("\n".join(parts).encode())

    @property
    def reads_labels(self) -> bool:
        """Whether all of them were opened with `labels=True`."""
        return all(dataset.reads_labels for dataset in self._datasets)

    def __len__(self) -> int:
        return self._ends[-1]

    def __repr__(self) -> str:
        total = sum(self._weights)
        parts = zip(self._datasets, self._weights, strict=True)
        return " + ".join(f"{weight / total:.1%} {dataset!r}" for dataset, weight in parts)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """Sample `index`, or a list of samples, as `RGBDDataset` gives it; weights don't count."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        number %= len(self)
        part = bisect_right(self._ends, number)
        # Counted from the end of its part.
        return self._datasets[part][number - self._ends[part]]

    def load(
        self, numbers: Sequence[int], frames: Frames | None = None
    ) -> list[RGBDSample | MfsynthError]:
        """As `RGBDDataset.load`, but that it has no use for `frames`."""
        require_numbers(numbers, len(self))
        found: dict[int, RGBDSample | MfsynthError] = {}
        for part, dataset in enumerate(self._datasets):
            first = self._ends[part] - len(dataset)
            mine = [n for n in {*numbers} if bisect_right(self._ends, n) == part]
            found |= zip(mine, dataset.load([n - first for n in mine]), strict=True)
        return [found[number] for number in numbers]

    def order(self, seed: int, epoch: int, block: int, shuffle: bool) -> MixedOrder:
        """Of an epoch."""
        counts = tuple(len(dataset) for dataset in self._datasets)
        return MixedOrder(counts, self._weights, seed, epoch, block, shuffle, len(self))

    def loader(self, batch_size: int, **settings: Any) -> Loader:
        """Batches for a training; for the settings see `mfsynth.datasets.Loader`."""
        return Loader(self, batch_size, **settings)
