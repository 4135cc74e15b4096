"""Training data: anything with RGB, a caption and optional, possibly sparse depth.

A `Mixture` (`open_mixture`) draws from several of `mfsynth.sources` by weight, brings their items
to one size (`resize_crop`) and makes their depth as sparse as real sensors' (`sparsity`). `batches`
loads it with worker processes. All of it is described by typed `PartSettings`. Runs alone can be
learnt from through the loader of `mfsynth.datasets` (`pairs`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfsynth.training.data.batches import TrainingBatch, collate, focal_of
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
    "collate",
    "focal_of",
    "loaded_batches",
    "open_mixture",
    "render_scenes",
    "runs_of",
    "survey_parts",
    "treatment",
]

# The module of each name, which is imported when it is first asked for: settings of training data
# are read before anything waits for torch. `batches` would be its own module.
_MODULES = {
    "Fitted": "pairs",
    "Mixture": "mixture",
    "PartSettings": "part_settings",
    "TrainingBatch": "batches",
    "TrainingSample": "resize_crop",
    "collate": "batches",
    "focal_of": "batches",
    "loaded_batches": "pairs",
    "open_mixture": "opening",
    "render_scenes": "opening",
    "runs_of": "pairs",
    "survey_parts": "opening",
    "treatment": "pairs",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
