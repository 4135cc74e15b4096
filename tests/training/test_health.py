"""Whether a model looks at the image."""

from __future__ import annotations

import pytest
import torch
from tiny_training import random_mixture

from mfsynth.training.health import health_probe
from mfsynth.training.objective import NoisyBatch


class Model:
    """Implements what the probe asks of an objective; each image tells its depth, a number."""

    def __init__(self, looks: bool) -> None:
        self.looks = looks

    def prepare_i2d(self, batch, numbers, level):
        generator = torch.Generator().manual_seed(0)
        rgb = torch.randn(len(numbers), 4, 3, generator=generator)
        self.depth = rgb[:, 0, 0].clone()
        return NoisyBatch(rgb, torch.zeros_like(rgb), torch.zeros(len(rgb)), {}, None, (2, 2))

    def predict(self, batch):
        return 1.1 * batch.rgb[:, 0, 0] if self.looks else torch.zeros(len(batch.rgb))

    def depth_loss(self, prediction, batch):
        return (prediction - self.depth).square()


def test_the_probe_tells_a_model_that_looks_at_the_image_from_one_that_does_not():
    assert health_probe(Model(looks=True), random_mixture(), 0) > 2
    assert health_probe(Model(looks=False), random_mixture(), 0) == pytest.approx(1)
