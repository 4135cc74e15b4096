"""Training data: anything with RGB, a caption and optional, possibly sparse depth.

A `Mixture` (`open_mixture`) draws from several of `mfsynth.sources` by weight, brings their items
to one size (`resize_crop`) and makes their depth as sparse as real sensors' (`sparsity`). `batches`
loads it with worker processes. All of it is described by typed `PartSettings`. Runs alone can be
learnt from through the loader of `mfsynth.datasets` (`pairs`).
"""

from __future__ import annotations

from mfsynth.training.data.batches import TrainingBatch, batches, collate, focal_of
from mfsynth.training.data.mixture import Mixture
from mfsynth.training.data.opening import open_mixture, render_scenes, survey_parts
from mfsynth.training.data.pairs import Fitted, loaded_batches, runs_of, treatment
from mfsynth.training.data.part_settings import PartSettings
from mfsynth.training.data.resize_crop import TrainingSample

__all__ = [
    "Fitted",
    "Mixture",
    "PartSettings",
    "TrainingBatch",
    "TrainingSample",
    "batches",
    "collate",
    "focal_of",
    "loaded_batches",
    "open_mixture",
    "render_scenes",
    "runs_of",
    "survey_parts",
    "treatment",
]
