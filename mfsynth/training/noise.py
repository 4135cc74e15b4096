"""Noise levels of each modality, as Modality Forcing draws them.

Source: arXiv 2606.13676, and the figures of its release.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from mfsynth.config.base import Fraction, Settings


class NoiseConfig(Settings):
    """How noise levels are drawn.

    Attributes:
        i2d_share: Share of samples whose RGB is clean (t = 0).
        d2i_share: Share of samples whose depth is clean.
        shared_share: Among the others, share whose modalities have the same level but for their
            different means.
        rgb_mu: Mean of the logit of RGB's t.
        depth_mu: Mean of the logit of depth's t. A small depth map of smooth surfaces needs more
            noise than an image: at the same t its own noisy pixels already tell nearly everything,
            and the model would never learn to look at the image.
        depth_low_share: Share of samples whose depth's level is drawn about `depth_low_mu` in
            place of `depth_mu`, among those whose depth has a level of its own. Without them, a
            model with a high `depth_mu` never learns to use what a depth that is nearly done
            tells: its last steps undo the ones before, and edges stay soft.
        depth_low_mu: Mean of the logit of depth's t in those.
        sigma: Standard deviation of all of the logits.
        d2i_min_valid: Share of valid pixels from which on depth may be a condition: a sparse map
            is none, most of it would be made up.
    """

    i2d_share: Fraction = 0.2
    d2i_share: Fraction = 0.2
    shared_share: Fraction = 0.5
    rgb_mu: float = 1.1
    depth_mu: float = 1.1
    depth_low_share: Fraction = 0.0
    depth_low_mu: float = -0.5
    sigma: float = Field(default=1.0, ge=0)
    d2i_min_valid: Fraction = 0.9

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        if (given := self.i2d_share + self.d2i_share) > 1:
            raise ValueError(f"i2d_share and d2i_share come to {given:g}; give 1 together at most")
        return self


def torch_seed(seed: int) -> int:
    """A seed for torch's generator on the CPU, which looks at 32 bits of what it is given.

    A seed of up to 32 bits is its own; of a larger one all bits count.
    """
    if seed < 2**32:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def sample_generators(seed: int, numbers: Sequence[int]) -> tuple[torch.Generator, ...]:
    """A source of random numbers for each sample, of its number in the stream and the seed alone.

    What a sample gets does then not depend on who else is in its batch, nor on the process that
    has it.
    """
    # As one word: of two, the second would be taken for the number.
    word = torch_seed(seed)
    states = (np.random.SeedSequence([word, number]).generate_state(1) for number in numbers)
    return tuple(torch.Generator().manual_seed(int(state[0])) for state in states)


def generators_on(
    device: torch.device, generators: Sequence[torch.Generator]
) -> Sequence[torch.Generator]:
    """What each sample's noise is drawn from on a device.

    A CPU goes on with the generators themselves. Others have generators of their own, of the same
    seeds, which give other numbers: drawn on the CPU, noise would be what a GPU waits for.
    """
    if device.type == "cpu":
        return generators
    seeds = (one.initial_seed() for one in generators)
    return tuple(torch.Generator(device).manual_seed(seed) for seed in seeds)


def draw_noise(shape: torch.Size, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal of a shape (B, …) on the device of B generators, one for each sample."""
    return torch.stack(
        [torch.randn(shape[1:], generator=one, device=one.device) for one in generators]
    )


def draw_noise_levels(
    valid_share: Tensor, config: NoiseConfig, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Draw (t_rgb, t_depth), (B,) each; a level of exactly 0 says that the modality is given.

    A sample without any depth is an image alone: its depth is noise (t = 1).

    Levels that both modalities share are never low ones: they stay on the line where depth is the
    noisier one by `depth_mu` - `rgb_mu`, which joint sampling follows with a `log2_alpha` of so
    much over ln 2. Depth has a level of its own in the others, and wherever the image is given.

    Args:
        valid_share: (B,) share of each sample's depth pixels that are valid.
        config: The shares and spreads.
        generators: B on the CPU, one for each sample.
    """
    case, same = torch.stack([torch.rand(2, generator=one) for one in generators]).unbind(1)
    rgb, depth = torch.stack([torch.randn(2, generator=one) for one in generators]).unbind(1)
    depth = torch.where(same < config.shared_share, rgb, depth)
    rgb = torch.sigmoid(config.rgb_mu + config.sigma * rgb)
    has_depth = valid_share > 0
    is_i2d = (case < config.i2d_share) & has_depth
    # From the other end of the number that decides on sharing, so that no sample draws more, and
    # what it draws later (its caption, its noise) is the same with low levels and without.
    own_share = torch.where(is_i2d, 1.0, 1 - config.shared_share)
    is_low = same >= 1 - config.depth_low_share * own_share
    depth_mu = torch.where(is_low, config.depth_low_mu, config.depth_mu)
    depth = torch.sigmoid(depth_mu + config.sigma * depth)
    is_d2i = (case >= config.i2d_share) & (case < config.i2d_share + config.d2i_share)
    is_d2i &= has_depth & (valid_share >= config.d2i_min_valid)
    depth = torch.where(has_depth, depth, 1.0)
    return torch.where(is_i2d, 0.0, rgb), torch.where(is_d2i, 0.0, depth)


def add_noise(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Rectified flow: z = (1 − t)·x + t·ε, with (B, N, C) tokens and (B,) levels."""
    t = t[:, None, None]
    return (1 - t) * clean + t * noise
