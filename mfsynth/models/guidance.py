"""Classifier-free guidance, with a scale for each modality."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mfsynth.models.sampling import Predict
from mfsynth.models.schedules import Mode
from mfsynth.models.transformer import ModalityForcingTransformer2DModel


@dataclass(frozen=True, slots=True)
class Guidance:
    """How strongly the prompt pulls.

    Attributes:
        rgb: Scale on RGB; 1 is none.
        depth: Scale on depth.
        interval: Noise levels (low, high) inside of which guidance acts; outside of it the
            unconditional half of the forward is saved. Of RGB's level, or of depth's in `i2d`.
    """

    rgb: float = 1.0
    depth: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    @property
    def is_on(self) -> bool:
        """Whether any modality is guided."""
        return self.rgb != 1 or self.depth != 1

    def acts(self, t: float) -> bool:
        """Whether a step at noise level t is guided."""
        low, high = self.interval
        return self.is_on and low <= t <= high


def guided_prediction(
    transformer: ModalityForcingTransformer2DModel,
    text: Tensor,
    null_text: Tensor | None,
    guidance: Guidance,
    mode: Mode,
    grid: tuple[int, int],
    mixes_without_depth: bool = False,
) -> Predict:
    """The transformer's predictions for a batch of prompts, guided.

    A guidance-distilled transformer takes RGB's scale as an input instead.

    Args:
        transformer: The joint transformer.
        text: (B, L, C) hidden states of the prompts.
        null_text: (1, L, C), those of the empty prompt; None where guidance is off or distilled.
        guidance: Its scales.
        mode: Says whose noise level the interval is of.
        grid: Tokens down and across.
        mixes_without_depth: Whether RGB sees depth's noise level where its tokens are left out.
    """
    batch, device = len(text), text.device
    distilled = None
    if transformer.config.guidance_embeds:
        distilled = torch.full((batch,), guidance.rgb, device=device)
    both = text
    if null_text is not None:
        both = torch.cat([text, null_text.to(device, text.dtype).expand(batch, -1, -1)])

    def forward(
        rgb: Tensor, depth: Tensor | None, text: Tensor, t_rgb: float, t_depth: float
    ) -> tuple[Tensor, Tensor | None]:
        copies = len(text) // batch

        def rows(tokens: Tensor) -> Tensor:
            return tokens.to(text.dtype).repeat(copies, 1, 1)

        output = transformer(
            rgb=rows(rgb),
            depth=None if depth is None else rows(depth),
            text=text,
            rgb_timestep=torch.full((len(text),), t_rgb, device=device),
            depth_timestep=(
                torch.full((len(text),), t_depth, device=device)
                if mixes_without_depth or depth is not None
                else None
            ),
            grid=grid,
            guidance=distilled,
        )
        return output.rgb.float(), output.depth

    def predict(
        rgb: Tensor, depth: Tensor | None, t_rgb: float, t_depth: float
    ) -> tuple[Tensor, Tensor | None]:
        level = t_depth if mode is Mode.IMAGE_TO_DEPTH else t_rgb
        if null_text is None or not guidance.acts(level):
            return forward(rgb, depth, text, t_rgb, t_depth)
        # One batched forward of both halves.
        rgb_out, depth_out = forward(rgb, depth, both, t_rgb, t_depth)
        return (
            _extrapolate(rgb_out, guidance.rgb),
            None if depth_out is None else _extrapolate(depth_out, guidance.depth),
        )

    return predict


def _extrapolate(halves: Tensor, scale: float) -> Tensor:
    conditional, unconditional = halves.chunk(2)
    return unconditional + scale * (conditional - unconditional)
