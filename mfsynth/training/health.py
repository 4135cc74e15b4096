"""Whether a model that is trained looks at the image when it makes depth."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mfsynth.training.data import Mixture, collate
from mfsynth.training.objective import NoisyBatch, Objective
from mfsynth.training.sample_grids import first_with_depth

# The stream's first images with depth, at a level where their depth's own noisy pixels tell little.
IMAGES, DEPTH_LEVEL = 16, 0.9


def health_probe(objective: Objective, data: Mixture, seed: int) -> float | None:
    """Ratio of the depth loss with mismatched images to that with the right ones.

    Near 1, the model ignores the image; a healthy model is well above.

    Args:
        objective: Of the model.
        data: Whose first images are taken.
        seed: Of the stream, and of the noise.

    Returns:
        None where hardly any image has depth.
    """
    samples = first_with_depth(data, seed, IMAGES)
    if len(samples) < 2:
        return None
    batch = objective.prepare_i2d(collate(samples), range(len(samples)), DEPTH_LEVEL)
    mismatched = replace(batch, rgb=batch.rgb.roll(1, dims=0))
    return (_loss(objective, mismatched) / _loss(objective, batch)).item()


def _loss(objective: Objective, batch: NoisyBatch) -> Tensor:
    return objective.depth_loss(objective.predict(batch), batch).mean()
