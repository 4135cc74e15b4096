"""Sampling of an image's depth that a sensor's sparse depth leads.

After each Euler step the clean depth that the model predicted is made to go through the
measurements, and the step is taken towards that instead: conditioning by replacement of x̂, as in
inpainting by diffusion models (RePaint, arXiv 2201.09865; DDNM, arXiv 2212.00490), with a smooth
field of residuals (`mfsynth.geometry.completion`) in the place of a pseudo-inverse. No gradients
are taken, so a step costs what it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfsynth.geometry.completion import completed
from mfsynth.models.inputs import draw_noise
from mfsynth.models.sampling import MIN_T
from mfsynth.models.token_codecs import contract, patchify


class SensorGuidance:
    """A `callback_on_step_end` of one call of `ModalityForcingPipeline` in mode `i2d`.

    Args:
        sensor: float32 (B, H, W) depth of each image in any unit, 0 = invalid, on the grid that the
            model sees; all 0 for an image that no sensor saw.
        seeds: B seeds, as of the call.
    """

    def __init__(self, sensor: NDArray[np.float32], seeds: Sequence[int]) -> None:
        self._sensor, self._seeds = sensor, seeds
        self._is_led = (sensor > 0).any(axis=(1, 2))
        self._before: Tensor | None = None
        self._level = 1.0

    def __call__(
        self, pipeline: Any, step: int, levels: tuple[float, float], tokens: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The depth tokens to go on with."""
        after, level = tokens["depth"], levels[1]
        before = self._noise(pipeline, after) if self._before is None else self._before
        span = level - self._level
        if span and self._is_led.any():
            scale = max(self._level, MIN_T)
            clean = after if level == 0 else before - scale * (after - before) / span
            led = self._led(pipeline.depth_codec, clean)
            after = led if level == 0 else before + span * (before - led) / scale
        self._before, self._level = after, level
        return {"depth": after}

    def _noise(self, pipeline: Any, tokens: Tensor) -> Tensor:
        """Where the sampler began, as it drew it."""
        config = pipeline.transformer.config
        channels = (config.in_channels, config.depth_channels)
        return draw_noise(self._seeds, tokens.shape[1], channels)[1].to(tokens.device)

    def _led(self, codec: Any, clean: Tensor) -> Tensor:
        """A prediction of clean tokens that goes through the measurements."""
        height, width = self._sensor.shape[1:]
        led = clean.clone()
        # Each by itself: what is beside an image in a batch must not matter to it.
        for row in np.flatnonzero(self._is_led):
            own = clean[row : row + 1]
            [found] = codec.decode(own, (height // codec.patch, width // codec.patch)).cpu().numpy()
            depth = torch.from_numpy(completed(found, self._sensor[row])[0]).to(clean.device)
            # The scale stays the prediction's own: `encode` would divide by the mean once more.
            values = patchify((contract(depth) - codec.mean)[None, None] / codec.std, codec.patch)
            # Where the prediction is of no depth, it stays that.
            led[row] = torch.where(patchify(depth[None, None], codec.patch) > 0, values, own)[0]
        return led
