"""Noise levels of each modality, as Modality Forcing draws them.

Source: arXiv 2606.13676, and the figures of its release.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mfsynth.training.config import NoiseConfig


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
