"""Depth predictions against ground truth, per image and then averaged over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mfsynth.evaluation.protocols import PLAIN, Alignment, Protocol
from mfsynth.geometry import abs_rel, delta, silog

if TYPE_CHECKING:
    from mfsynth.models.pipeline import ModalityForcingPipeline

ImageScore = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class DepthScore:
    """Plain means over images of figures of each image.

    Attributes:
        protocol: Name of the protocol.
        alignment: Of predictions to the truth.
        images: How many.
        abs_rel: Mean |p − g| / g.
        delta1: Share of pixels with max(p/g, g/p) < 1.25.
        delta2: The same for 1.25².
        delta3: The same for 1.25³.
        silog: 100 · standard deviation of ln p − ln g.
    """

    protocol: str
    alignment: Alignment
    images: int
    abs_rel: float
    delta1: float
    delta2: float
    delta3: float
    silog: float


def score_depth(
    predictions: Iterable[NDArray[np.floating]],
    truths: Iterable[NDArray[np.floating]],
    protocol: Protocol = PLAIN,
    alignment: Alignment = "scale",
) -> DepthScore:
    """Score predicted depth maps; pixels that a prediction calls invalid (0) count as errors.

    Args:
        predictions: (H, W) maps in any unit.
        truths: (H, W) z-depth maps; 0 or infinite where there is no ground truth.
        protocol: What counts, and the range that predictions are clipped to.
        alignment: Of predictions to the truth.

    Raises:
        ValueError: An image has no valid pixel with a prediction, or there is no image.
    """
    rows = [
        score_image(prediction, truth, protocol, alignment)
        for prediction, truth in zip(predictions, truths, strict=True)
    ]
    return mean_score(rows, protocol, alignment)


def score_image(
    prediction: NDArray[np.floating],
    truth: NDArray[np.floating],
    protocol: Protocol,
    alignment: Alignment,
) -> ImageScore:
    """AbsRel, δ1, δ2, δ3 and SIlog of one predicted depth map; see `score_depth`.

    Raises:
        ValueError: No valid pixel has a prediction.
    """
    valid = protocol.valid(truth)
    aligned = protocol.align(prediction, truth, valid, alignment)
    delta1, delta2, delta3 = (delta(aligned, truth, valid, k) for k in (1, 2, 3))
    return abs_rel(aligned, truth, valid), delta1, delta2, delta3, silog(aligned, truth, valid)


def mean_score(rows: Sequence[ImageScore], protocol: Protocol, alignment: Alignment) -> DepthScore:
    """Average the figures of images, however many pixels each has.

    Raises:
        ValueError: There is no image.
    """
    if not rows:
        raise ValueError("there is no image to score")
    means = (float(mean) for mean in np.mean(rows, axis=0))
    return DepthScore(protocol.name, alignment, len(rows), *means)


def image_to_depth(
    pipeline: ModalityForcingPipeline,
    rgb: NDArray[np.uint8],
    *,
    steps: int,
    batch_size: int,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Estimate the depth of (N, H, W, 3) images with a model's i2d mode, without a prompt.

    The model sees them at their own size.

    Returns:
        (N, H, W) scale-invariant z-depth.
    """
    maps = []
    for start in range(0, len(rgb), batch_size):
        images = np.ascontiguousarray(rgb[start : start + batch_size])
        pairs = pipeline(
            [""] * len(images),
            seeds=range(seed + start, seed + start + len(images)),
            mode="i2d",
            image=images,
            height=images.shape[1],
            width=images.shape[2],
            num_inference_steps=steps,
            guidance_scale=1.0,
        )
        maps.append(pairs.depth)
    return np.concatenate(maps)
