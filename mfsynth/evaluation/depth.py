"""Depth predictions against ground truth, per image and then averaged over images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import abs_rel, delta, scale_l1
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.schedules import Mode


@dataclass(frozen=True, slots=True)
class DepthScore:
    """Mean over images, after scale-only alignment of each (the exact L1 minimiser).

    Attributes:
        abs_rel: mean |p − g| / g.
        delta1: share of pixels with max(p/g, g/p) < 1.25.
        images: how many.
    """

    abs_rel: float
    delta1: float
    images: int


def score_depth(
    predictions: Iterable[NDArray[np.float32]], truths: Iterable[NDArray[np.float32]]
) -> DepthScore:
    """Score predicted depth maps; pixels that a prediction calls invalid (0) count as errors of 1.

    Args:
        predictions: (H, W) maps in any unit.
        truths: (H, W) z-depth maps; 0 marks pixels without ground truth.
    """
    rows = []
    for prediction, truth in zip(predictions, truths, strict=True):
        valid = truth > 0
        scale = scale_l1(prediction, truth, valid & (prediction > 0))
        aligned = prediction * np.float32(scale)
        rows.append((abs_rel(aligned, truth, valid), delta(aligned, truth, valid)))
    absolute, within = np.mean(rows, axis=0)
    return DepthScore(float(absolute), float(within), len(rows))


def image_to_depth(
    pipeline: ModalityForcingPipeline,
    rgb: NDArray[np.uint8],
    *,
    steps: int,
    batch_size: int,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Estimate the depth of (N, H, W, 3) images with a model's i2d mode, without a prompt.

    Returns:
        (N, H, W) scale-invariant z-depth.
    """
    maps = []
    for start in range(0, len(rgb), batch_size):
        images = np.ascontiguousarray(rgb[start : start + batch_size])
        pairs = pipeline(
            [""] * len(images),
            seeds=range(seed + start, seed + start + len(images)),
            mode=Mode.IMAGE_TO_DEPTH,
            image=images,
            num_inference_steps=steps,
            guidance_scale=1.0,
        )
        maps.append(pairs.depth)
    return np.concatenate(maps)
