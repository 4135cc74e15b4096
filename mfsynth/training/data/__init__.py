"""Training data: anything with RGB, a caption and optional, possibly sparse depth.

Sources (`open_source`): mfsynth runs, WebDataset shards, folders, the simulator. A `Mixture`
(`open_mixture`) draws from several by weight, brings samples to one size (`fit`) and makes their
depth as sparse as real sensors' (`sparsify`). `batches` loads it with worker processes. All of it
is described by typed `SourceSettings`.
"""

from __future__ import annotations

from mfsynth.sources.base import Source, TrainingSample
from mfsynth.training.data.batches import TrainingBatch, batches, collate
from mfsynth.training.data.mixture import Mixture, Part
from mfsynth.training.data.opening import open_mixture, open_source
from mfsynth.training.data.resize_crop import fit
from mfsynth.training.data.settings import SourceSettings
from mfsynth.training.data.sparsity import AnySparsityPattern, SparsityPattern, sparsify

__all__ = [
    "AnySparsityPattern",
    "Mixture",
    "Part",
    "Source",
    "SourceSettings",
    "SparsityPattern",
    "TrainingBatch",
    "TrainingSample",
    "batches",
    "collate",
    "fit",
    "open_mixture",
    "open_source",
    "sparsify",
]
