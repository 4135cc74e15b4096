"""Evaluations: the depth of sets of images, predicted once, scored by each set's protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mfsynth.errors import MfsynthError
from mfsynth.evaluation.config import EvaluateConfig
from mfsynth.evaluation.depth import (
    DepthScore,
    ImageScore,
    image_to_depth,
    mean_score,
    score_image,
)
from mfsynth.evaluation.frames import EvaluationSet, Frame
from mfsynth.evaluation.protocols import Alignment, Protocol
from mfsynth.evaluation.readers import open_set
from mfsynth.evaluation.results import Result
from mfsynth.geometry.resizing import resize_depth, resize_image
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.models import ModelInfo, load_pipeline, model_info
from mfsynth.models.pipeline import ModalityForcingPipeline

# Of a batch of images of any sizes, given the number of the first: a depth map for each, any size.
Predict = Callable[[Sequence[RgbImage], int], Sequence[DepthMap]]
# What is done, how much of it, of how much.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SetScores:
    """Of one set.

    Attributes:
        scores: One for each alignment.
        truth_sizes: The (rows, columns) that occur among its depth maps, sorted.
    """

    scores: tuple[DepthScore, ...]
    truth_sizes: tuple[tuple[int, int], ...]


def evaluate(config: EvaluateConfig, report: Report) -> tuple[Result, ...]:
    """Score a model's image-to-depth mode, without a prompt, on every set.

    An image is squeezed to the model's size, without crop or border (KITTI's is cropped to its
    benchmark's part before), and the predicted map is brought back to the size of the ground
    truth. There it is aligned, clipped and scored: the truth is never resized.

    Returns:
        A result for each set and alignment, in their order.

    Raises:
        MfsynthError: There is no such model, data is missing or broken, or an image can't be
            scored; names which.
    """
    info = model_info(config.model)
    height, width = config.height or info.height, config.width or info.width
    # All before the model is loaded: what is missing shows at once.
    sets = [
        open_set(settings, lambda done, total: report("scenes rendered", done, total))
        for settings in config.data
    ]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = load_pipeline(config.model, device)
    predict = predictor(pipeline, height, width, steps=config.steps, seed=config.seed)
    results = []
    for one in sets:
        found = score_set(one, predict, config.alignments, config.batch_size, report)
        results += [
            Result(
                data_set=one.name,
                score=score,
                protocol_images=one.protocol.images,
                model=info.id,
                revision=info.revision,
                steps=config.steps,
                seed=config.seed,
                input_size=(height, width),
                truth_sizes=found.truth_sizes,
                truth_by=_truth_by(one, info),
            )
            for score in found.scores
        ]
    return tuple(results)


def _truth_by(data: EvaluationSet, evaluated: ModelInfo) -> str | None:
    made_by = data.truth_model
    if made_by is None:
        return None
    # Few-step weights have a digest of their own behind the model's, which is all that i2d uses.
    revisions = (made_by.get("revision", ""), evaluated.revision)
    made, scored = (revision.partition("+")[0] for revision in revisions)
    return "this model itself" if made == scored else f"the model {made_by.get('id', '(unknown)')}"


def predictor(
    pipeline: ModalityForcingPipeline, height: int, width: int, *, steps: int, seed: int = 0
) -> Predict:
    """A model's image-to-depth mode at one size; image i of a set gets the noise of seed + i."""

    def predict(images: Sequence[RgbImage], first: int) -> Sequence[DepthMap]:
        rgb = np.stack([resize_image(image, height, width) for image in images])
        maps = image_to_depth(pipeline, rgb, steps=steps, batch_size=len(images), seed=seed + first)
        return list(maps)

    return predict


def score_set(
    data: EvaluationSet,
    predict: Predict,
    alignments: Sequence[Alignment],
    batch_size: int,
    report: Report,
) -> SetScores:
    """Predict every image of a set once, and score that under each alignment.

    Raises:
        MfsynthError: A frame can't be read or scored; names it.
    """
    scores: dict[Alignment, list[ImageScore]] = {alignment: [] for alignment in alignments}
    sizes = set()
    count = len(data.frames)
    for start in range(0, count, batch_size):
        batch = [data.frames[index] for index in range(start, min(start + batch_size, count))]
        predictions = predict([frame.rgb for frame in batch], start)
        for frame, prediction in zip(batch, predictions, strict=True):
            height, width = frame.depth.shape
            sizes.add((height, width))
            resized = resize_depth(prediction, height, width)
            for alignment, rows in scores.items():
                rows.append(_score(resized, frame, data.protocol, alignment))
        report(f"{data.name}: images", start + len(batch), count)
    means = tuple(mean_score(rows, data.protocol, alignment) for alignment, rows in scores.items())
    return SetScores(means, tuple(sorted(sizes)))


def _score(
    prediction: DepthMap, frame: Frame, protocol: Protocol, alignment: Alignment
) -> ImageScore:
    if not protocol.valid(frame.depth).any():
        raise MfsynthError(
            f"{frame.name}: no pixel has ground truth that counts under the protocol "
            f"{protocol.name}; take it out of the data set"
        )
    try:
        return score_image(prediction, frame.depth, protocol, alignment)
    except ValueError as error:
        raise MfsynthError(
            f"{frame.name}: the predicted depth can't be aligned ({alignment}): {error}; "
            "check the model with `mfsynth model info`, or give more steps"
        ) from error
