"""Pictures of what a model makes, for the eyes of who trains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.models.outputs import ModalityForcingPipelineOutput
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.training.build import ModelComponents
from mfsynth.training.config import TrainConfig
from mfsynth.training.data import Mixture, TrainingSample

Image = NDArray[np.uint8]

_LOOKED_AT = 4
_COLUMNS = 4
_GAP = 2


def first_with_depth(data: Mixture, seed: int, count: int) -> list[TrainingSample]:
    """The first samples of a stream that have depth; fewer where few of the first ones do."""
    drawn = (data.sample(seed, index) for index in range(_LOOKED_AT * count))
    return [sample for sample in drawn if sample.depth is not None][:count]


class GridSampler:
    """Samples the same prompts and images every time, from the same noise.

    Args:
        components: Whose weights may change between calls.
        config: What to sample.
        data: Where images, and the prompts that aren't given, come from.
    """

    def __init__(self, components: ModelComponents, config: TrainConfig, data: Mixture) -> None:
        self._pipeline: ModalityForcingPipeline = components.pipeline(config)
        self._pipeline.set_progress_bar_config(disable=True)
        self._settings = config.samples
        self._image_steps = config.optimiser.image_steps
        self._samples = first_with_depth(data, config.seed, config.samples.images)
        self._prompts = config.samples.prompts or tuple(s.caption for s in self._samples)

    def grids(self, step: int, /) -> dict[str, Image]:
        """`joint`, pairs of image and depth; `i2d`, image, depth and true depth of given images.

        As long as images alone are learnt, `image` in place of both: images of the prompts.
        Each (H, W, 3) uint8; one that has nothing to show is left out.

        Args:
            step: How many steps were taken.
        """
        self._pipeline.forget_empty_prompt()
        if step <= self._image_steps > 0:
            return self._images_alone()
        steps = self._settings.steps
        grids: dict[str, Image] = {}
        if self._prompts:
            pairs = self._of_prompts()
            rows = zip(pairs.rgb, map(colour_depth, pairs.depth), strict=True)
            grids["joint"] = tile([np.hstack(row) for row in rows], _COLUMNS)
        if self._samples:
            given = np.stack([sample.rgb for sample in self._samples])
            found = self._pipeline(
                [""] * len(given),
                seeds=range(len(given)),
                mode="i2d",
                image=given,
                num_inference_steps=steps,
                guidance_scale=1.0,
            )
            true = [sample.depth for sample in self._samples if sample.depth is not None]
            cells = [
                np.hstack([rgb, colour_depth(depth), colour_depth(truth)])
                for rgb, depth, truth in zip(given, found.depth, true, strict=True)
            ]
            grids["i2d"] = tile(cells, _COLUMNS)
        return grids

    def _images_alone(self) -> dict[str, Image]:
        if not self._prompts:
            return {}
        # The depth modules are random still, and RGB would attend to what they make of noise.
        made = self._of_prompts(depth_start=0.0, refine_steps=1)
        return {"image": tile([*made.rgb], _COLUMNS)}

    def _of_prompts(self, **plan: Any) -> ModalityForcingPipelineOutput:
        return self._pipeline(
            self._prompts,
            seeds=range(len(self._prompts)),
            num_inference_steps=self._settings.steps,
            guidance_scale=self._settings.guidance,
            **plan,
        )


def colour_depth(depth: NDArray[np.float32]) -> Image:
    """Colour an (H, W) z-depth map by its own range of inverse depth: near red, far blue.

    Pixels without depth, 0, are black.
    """
    valid = depth > 0
    disparity = np.where(valid, 1 / np.where(valid, depth, 1), 0)
    low, high = np.percentile(disparity[valid], (2, 98)) if valid.any() else (0.0, 1.0)
    level = np.clip((disparity - low) / max(high - low, 1e-6), 0, 1) * 255
    colours = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(valid[..., None], colours, 0).astype(np.uint8)


def tile(cells: Sequence[Image], columns: int) -> Image:
    """Lay (h, w, 3) pictures of one size out in rows, on white, with gaps between them."""
    height, width = cells[0].shape[:2]
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    pitch_y, pitch_x = height + _GAP, width + _GAP
    grid = np.full((rows * pitch_y - _GAP, columns * pitch_x - _GAP, 3), 255, np.uint8)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        top, left = row * pitch_y, column * pitch_x
        grid[top : top + height, left : left + width] = cell
    return grid
