"""Reading runs back: committed samples only, by index and positional reads.

from mfsynth.datasets import RGBDDataset

dataset = RGBDDataset("out/demo")
sample = dataset[0]
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
    "to_arrays",
    "to_tensors",
]
