"""What the pipeline returns, in the type that its caller asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import PIL.Image
import torch
from diffusers.utils import BaseOutput
from torch import Tensor

OutputType = Literal["np", "pil", "pt", "latent"]


@dataclass
class ModalityForcingPipelineOutput(BaseOutput):
    """A batch of pairs, in the type that `output_type` names.

    Attributes:
        rgb: "np": (B, H, W, 3) uint8; "pil": images; "pt": (B, 3, H, W) float32 in [0, 1];
            "latent": (B, N, C) RGB tokens.
        depth: Scale-invariant z-depth, 0 where a pixel has none. "np": (B, H, W) float32; "pil":
            images of mode F; "pt": (B, H, W) float32; "latent": (B, N, P) depth tokens.
    """

    rgb: Any
    depth: Any


def as_output(
    images: Tensor, maps: Tensor, output_type: OutputType
) -> ModalityForcingPipelineOutput:
    """Turn (B, 3, H, W) images in [0, 1] and (B, H, W) depth into what the caller asked for."""
    if output_type == "pt":
        return ModalityForcingPipelineOutput(rgb=images, depth=maps)
    rgb = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    depth = maps.cpu().numpy()
    if output_type == "np":
        return ModalityForcingPipelineOutput(rgb=rgb, depth=depth)
    return ModalityForcingPipelineOutput(
        rgb=[PIL.Image.fromarray(one) for one in rgb],
        depth=[PIL.Image.fromarray(one) for one in depth],
    )
