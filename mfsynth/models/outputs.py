"""What the pipeline returns, in the type that its caller asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import PIL.Image
import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from mfsynth.errors import MfsynthError

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
    images: Tensor, maps: Tensor, output_type: OutputType, seeds: Sequence[int]
) -> ModalityForcingPipelineOutput:
    """Turn (B, 3, H, W) images in [0, 1] and (B, H, W) depth into what the caller asked for.

    Raises:
        MfsynthError: An image that is to be made of bytes has values that are not finite.
    """
    if output_type == "pt":
        return ModalityForcingPipelineOutput(rgb=images, depth=maps)
    require_finite(images.isfinite().flatten(1).all(1).tolist(), seeds)
    rgb = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    depth = maps.cpu().numpy()
    if output_type == "np":
        return ModalityForcingPipelineOutput(rgb=rgb, depth=depth)
    return ModalityForcingPipelineOutput(
        rgb=[PIL.Image.fromarray(one) for one in rgb],
        depth=[PIL.Image.fromarray(one) for one in depth],
    )


def require_finite(sound: Sequence[bool], seeds: Sequence[int]) -> None:
    """Refuse images of which bytes would make black ones, as good as any others.

    Args:
        sound: Whether all values are finite, of each of B images.
        seeds: B of them.

    Raises:
        MfsynthError: One has others; it names its seed.
    """
    spoilt = [seed for seed, is_sound in zip(seeds, sound, strict=True) if not is_sound]
    if spoilt:
        raise MfsynthError(
            f"{len(spoilt)} of {len(seeds)} images have values that are not finite, the first of "
            f"seed {spoilt[0]}; if most have, the weights don't bear their dtype: take another"
        )
