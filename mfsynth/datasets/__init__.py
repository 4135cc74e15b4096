"""Reading runs back: committed samples only, by index and positional reads.

dataset = mfsynth.open_dataset("out/demo")
sample = dataset[0]
for batch in dataset.loader(batch_size=16): ...
"""

from __future__ import annotations

from mfsynth.datasets.augmentations import (
    Augmentation,
    ColourJitter,
    HorizontalFlip,
    RandomCrop,
    Resize,
)
from mfsynth.datasets.collating import to_arrays, to_tensors
from mfsynth.datasets.loader import Loader
from mfsynth.datasets.mixture import MixedDataset
from mfsynth.datasets.opening import open_dataset
from mfsynth.datasets.rgbd import RGBDDataset
from mfsynth.datasets.samples import RGBDSample

__all__ = [
    "Augmentation",
    "ColourJitter",
    "HorizontalFlip",
    "Loader",
    "MixedDataset",
    "RGBDDataset",
    "RGBDSample",
    "RandomCrop",
    "Resize",
    "open_dataset",
    "to_arrays",
    "to_tensors",
]
