"""Several sources as one, with random access by seed and index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mfsynth.datasets.shuffling import shuffled
from mfsynth.sources.base import FiniteSource
from mfsynth.training.data.resize_crop import Crop, TrainingSample, fit
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
    """

    source: FiniteSource
    weight: float = 1.0
    crop: Crop = "random"
    mirror: bool = False
    sparsity: tuple[SparsityPattern, ...] = ()
    joint_only: bool = False


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
            pixels are left in all epochs.

        Raises:
            MfsynthError: Its files can't be read, or it has no image; names them.
        """
        draws = np.random.SeedSequence([seed, index]).spawn(2)
        choice, geometry = (np.random.default_rng(draw) for draw in draws)
        weights = np.array([part.weight for part in self.parts])
        number = int(choice.choice(len(self.parts), p=weights / weights.sum()))
        part = self.parts[number]
        epoch, position = divmod(index, len(part.source))
        row = shuffled(position, len(part.source), (seed, number, epoch))
        sample = fit(part.source[row], self.height, self.width, part.crop, part.mirror, geometry)
        if sample.depth is None:
            return sample
        # A sensor measures an image once: new patterns in each epoch would add up to dense depth.
        pattern = np.random.default_rng([seed, number, row])
        depth = sparsify(sample.depth, sample.rgb, part.sparsity, pattern)
        return replace(sample, depth=depth if depth.any() else None)

    def images_alone(self) -> Mixture:
        """What images alone are learnt from."""
        return replace(self, parts=tuple(part for part in self.parts if not part.joint_only))

    def captions(self) -> Iterator[str]:
        """The captions of all samples of all parts, in the parts' order."""
        for part in self.parts:
            yield from part.source.texts()
