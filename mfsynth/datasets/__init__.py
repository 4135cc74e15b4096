"""Reading runs back: committed samples only, by index and positional reads.

from mfsynth.datasets import RGBDDataset

dataset = RGBDDataset("out/demo")
sample = dataset[0]
"""

from __future__ import annotations

from mfsynth.datasets.rgbd import RGBDDataset, RGBDSample

__all__ = ["RGBDDataset", "RGBDSample"]
