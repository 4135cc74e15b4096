"""The depth network's twin that tells things from their background: its training, and its IoU.

It is a `DepthEstimator` whose output is taken for the log-odds that a pixel shows a thing: any
object that the simulator's instance masks number. Tables, rooms and what stands in them are
background. It learns by binary cross-entropy, and in all else as the depth network does, from the
same loader.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from model_card import batch_slices
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mfsynth.datasets import Loader, RGBDSample
from mfsynth.geometry.rgbd import RgbImage
from mfsynth.models.estimators.embedded import DepthEstimator
from mfsynth.training.data import TrainingBatch
from mfsynth.training.estimator import EstimatorTrainer
from mfsynth.training.estimator_config import EstimatorConfig
from mfsynth.training.progress import Log

Things = NDArray[np.bool_]
"""(B, H, W), whether a pixel shows a thing."""

_BACKGROUND, _THING = 1.0, 2.0


def mask_as_depth(sample: RGBDSample, rng: Generator) -> RGBDSample:
    """Put things, 2, before a background of 1: an `mfsynth.datasets.Augmentation`.

    What crops, resizes and mirrors depth after it does so to the mask, and never mixes two values;
    both are valid depth.

    Args:
        sample: With a mask.
        rng: Is not asked.
    """
    assert sample.mask is not None
    depth = np.where(sample.mask > 0, np.float32(_THING), np.float32(_BACKGROUND))
    return replace(sample, depth=depth, valid=depth > 0)


class MaskTrainer(EstimatorTrainer):
    """Learns which pixels show things, of batches whose depth is by `mask_as_depth`."""

    def losses(self, prediction: Tensor, batch: TrainingBatch) -> Tensor:
        """(B,) binary cross-entropy, means over pixels, of (B, H, W) log-odds."""
        things = (batch.depth == _THING).float().to(prediction.device)
        losses = binary_cross_entropy_with_logits(prediction, things, reduction="none")
        return losses.mean(dim=(1, 2))


def train_masks(config: EstimatorConfig, loader: Loader, processes: Accelerator, log: Log) -> Path:
    """Train a mask network as `train_on` trains a depth network; its loss is logged as depth's.

    Returns:
        The folder of the finished network, `<output>/model`.
    """
    trainer = MaskTrainer(config, processes, loader)
    trainer.resume()
    trainer.run(log)
    folder = config.output / "model"
    trainer.export(folder)
    return folder


@torch.no_grad()
def find_things(network: DepthEstimator, rgb: RgbImage) -> Things:
    """Where a mask network sees things, in uint8 (B, H, W, 3) of the size that it learnt from."""
    images = torch.from_numpy(rgb).permute(0, 3, 1, 2) / 127.5 - 1
    return np.concatenate([(network(images[r]) > 0).numpy() for r in batch_slices(len(rgb))])


def thing_iou(predicted: Things, truth: Things) -> float:
    """Intersection over union of the things of an image, in [0, 1]; the mean over images.

    Where there is no thing, and none is predicted, it is 1.
    """
    both = (predicted & truth).sum(axis=(1, 2))
    either = (predicted | truth).sum(axis=(1, 2))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())
