"""Runs as training data, in batches by the loader of `mfsynth.datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import torch

from mfsynth.datasets import Loader, MixedDataset, RGBDDataset, RGBDSample
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.sources.base import Item
from mfsynth.sources.runs import RunSource
from mfsynth.training.data.batches import TrainingBatch
from mfsynth.training.data.mixture import Mixture
from mfsynth.training.data.resize_crop import Crop, fit
from mfsynth.training.data.sparsity import SparsityPattern, sparsify

# What is done to pairs, by the name of its setting: a loader does it to all alike.
_TREATMENT = ("crop", "mirror", "sparsity")


@dataclass(frozen=True, slots=True)
class Fitted:
    """An augmentation that does to pairs what a `Mixture` does to items, and drops their labels.

    Attributes:
        height: Of the result.
        width: Of the result.
        crop: See `fit`.
        mirror: See `fit`.
        sparsity: See `sparsify`; of a pair, the same pixels are left in all epochs.
        seed: Of what is left.
    """

    height: int
    width: int
    crop: Crop = "random"
    mirror: bool = False
    sparsity: tuple[SparsityPattern, ...] = ()
    seed: int = 0

    def __call__(self, sample: RGBDSample, rng: np.random.Generator) -> RGBDSample:
        """See `mfsynth.datasets.Augmentation`."""
        camera = None if sample.intrinsics is None else Intrinsics.from_matrix(sample.intrinsics)
        item = Item(sample.rgb, sample.depth, sample.prompt, camera, sample.sample_id)
        fitted = fit(item, self.height, self.width, self.crop, self.mirror, rng)
        assert fitted.depth is not None
        digest = blake2b(sample.sample_id.encode(), digest_size=8).digest()
        pattern = np.random.default_rng([self.seed, int.from_bytes(digest, "big")])
        depth = sparsify(fitted.depth, fitted.rgb, self.sparsity, pattern)
        return replace(
            sample,
            rgb=np.ascontiguousarray(fitted.rgb),
            depth=np.ascontiguousarray(depth),
            valid=depth > 0,
            intrinsics=None if fitted.intrinsics is None else fitted.intrinsics.matrix(),
            sensor=None,
            mask=None,
            objects=(),
            others={},
            camera_to_world=None,
        )


def runs_of(mixture: Mixture) -> RGBDDataset | MixedDataset | None:
    """The pairs of a mixture of runs; None where other sources are among its parts."""
    runs = [
        part.source.pairs.with_labels(False)
        for part in mixture.parts
        if isinstance(part.source, RunSource)
    ]
    if len(runs) < len(mixture.parts):
        return None
    return runs[0] if len(runs) == 1 else MixedDataset(runs, [p.weight for p in mixture.parts])


def treatment(mixture: Mixture, seed: int) -> Fitted:
    """What is done to the pairs of a mixture of runs.

    Raises:
        MfsynthError: It is not the same for all of its parts.
    """
    first, *others = mixture.parts
    for number, part in enumerate(others, start=1):
        for name in _TREATMENT:
            if getattr(part, name) != getattr(first, name):
                raise MfsynthError(
                    f"data.{number}: {name} is not that of data.0; runs that are learnt from "
                    "together have the same"
                )
    return Fitted(mixture.height, mixture.width, first.crop, first.mirror, first.sparsity, seed)


def loaded_batches(loader: Loader) -> Iterator[TrainingBatch]:
    """What a loader hands out, epoch after epoch, from where it is.

    Args:
        loader: Of numpy's arrays, with the fields that loaders have by default.

    Raises:
        MfsynthError: A pair can't be read.
    """
    while True:
        for batch in loader:
            yield TrainingBatch(
                rgb=torch.from_numpy(batch["rgb"]),
                depth=torch.from_numpy(batch["depth"]),
                captions=tuple(batch["prompt"]),
                focals=torch.from_numpy(batch["intrinsics"][:, 0, 0]).float()
                / batch["rgb"].shape[2],
            )
