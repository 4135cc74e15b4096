"""Several sources as one, with random access by seed and index."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from mfsynth.datasets.shuffling import shuffled
from mfsynth.errors import MfsynthError
from mfsynth.sources.base import FiniteSource, Item
from mfsynth.sources.tolerance import STRICT, Skipped, Tolerance
from mfsynth.training.data.resize_crop import Crop, SkippedItem, TrainingSample, fit
from mfsynth.training.data.sparsity import SparsityPattern, sparsify


@dataclass(frozen=True, slots=True)
class Part:
    """One source of a mixture and what is done with its samples.

    Attributes:
        source: Where images come from.
        weight: Share of the samples, relative to the other parts' weights; above 0.
        crop: See `fit`.
        mirror: See `fit`.
        sparsity: Patterns that take depth away, in their order.
        joint_only: Whether images alone are learnt without it.
        tolerance: How many of the source's items may be broken.
    """

    source: FiniteSource
    weight: float = 1.0
    crop: Crop = "random"
    mirror: bool = False
    sparsity: tuple[SparsityPattern, ...] = ()
    joint_only: bool = False
    tolerance: Tolerance = STRICT


@dataclass(frozen=True, slots=True)
class Mixture:
    """An endless training set.

    Attributes:
        parts: At least one.
        height: Rows of all samples.
        width: Columns of all samples.
    """

    parts: tuple[Part, ...]
    height: int
    width: int

    def sample(self, seed: int, index: int) -> TrainingSample:
        """Sample `index` of the stream of `seed`: a pure function of the two.

        The part is drawn by the weights. Within a part, no sample comes twice while the index
        runs over as many numbers as the part has samples, from a multiple of that on; with one
        part, that is an epoch that shows each once, each epoch in another order.

        Args:
            seed: From 0.
            index: From 0, for example step · batch size + row.

        Returns:
            uint8 (height, width, 3) and float32 (height, width); depth is None where the source
            has none, or where no valid pixel is left of it. Of the same fitted image, the same
            pixels are left in all epochs. Where an item is broken, the next one that is not takes
            its place; what was left out for it is told.

        Raises:
            MfsynthError: More items in a row can't be read than the part's tolerance has, or one
                has no image; names them.
        """
        draws = np.random.SeedSequence([seed, index]).spawn(2)
        choice, geometry = (np.random.default_rng(draw) for draw in draws)
        weights = np.array([part.weight for part in self.parts])
        number = int(choice.choice(len(self.parts), p=weights / weights.sum()))
        part = self.parts[number]
        epoch, position = divmod(index, len(part.source))
        row = shuffled(position, len(part.source), (seed, number, epoch))
        item, row, skipped = _readable(part, number, row)
        sample = fit(item, self.height, self.width, part.crop, part.mirror, geometry)
        sample = replace(sample, skipped=skipped)
        if sample.depth is None:
            return sample
        # A sensor measures an image once: new patterns in each epoch would add up to dense depth.
        pattern = np.random.default_rng([seed, number, row])
        depth = sparsify(sample.depth, sample.rgb, part.sparsity, pattern)
        return replace(sample, depth=depth if depth.any() else None)

    def require_few(self, skipped: Collection[SkippedItem]) -> None:
        """Refuse more broken items of a part than its tolerance has.

        Args:
            skipped: All different ones until now.

        Raises:
            MfsynthError: There are more.
        """
        for number, part in enumerate(self.parts):
            broken = [one.what for one in skipped if one.part == number]
            part.tolerance.require(broken, len(part.source))

    def images_alone(self) -> Mixture:
        """What images alone are learnt from."""
        return replace(self, parts=tuple(part for part in self.parts if not part.joint_only))

    def captions(self) -> Iterator[str]:
        """The captions of all samples of all parts, in the parts' order."""
        for part in self.parts:
            yield from part.source.texts()


def _readable(part: Part, number: int, row: int) -> tuple[Item, int, tuple[SkippedItem, ...]]:
    """Item `row` of a part, or the next that can be read; its row, and what was left out."""
    count = len(part.source)
    skipped: list[SkippedItem] = []
    while True:
        try:
            return part.source[row], row, tuple(skipped)
        except MfsynthError as error:
            skipped.append(SkippedItem(number, Skipped(str(row), str(error))))
            part.tolerance.require([one.what for one in skipped], count)
        row = (row + 1) % count
