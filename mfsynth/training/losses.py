"""The losses of Modality Forcing.

Source: arXiv 2606.13676, and the figures of its release.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mfsynth.models.sampling import MIN_T

# A sample with few valid pixels must not weigh as much as a dense one.
MIN_VALID_PIXELS = 64


def velocity_loss(prediction: Tensor, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean over tokens and channels of (v̂ − (ε − x))² for each sample; 0 where t = 0.

    Args:
        prediction: (B, N, C) velocity v̂.
        clean: (B, N, C) x.
        noise: (B, N, C) ε.
        t: (B,) noise level.

    Returns:
        (B,)
    """
    return (prediction - (noise - clean)).square().mean(dim=(1, 2)) * (t > 0)


def clean_token_loss(prediction: Tensor, clean: Tensor, t: Tensor) -> Tensor:
    """Mean over tokens and channels of (x̂ − x)² / max(t, 0.05)² for each sample; 0 where t = 0.

    The weight 1/t² makes it the loss of the velocity that x̂ implies.

    Args:
        prediction: (B, N, C) clean tokens x̂.
        clean: (B, N, C) x.
        t: (B,) noise level.

    Returns:
        (B,)
    """
    return _as_velocity((prediction - clean).square().mean(dim=(1, 2)), t)


def depth_loss(
    errors: Tensor, valid: Tensor, t: Tensor, edge_weight: float, limit: Tensor | None = None
) -> Tensor:
    """Σ m·ρ(x̂ − x) / max(t, 0.05)² ÷ max(Σ m, 64) for each sample; 0 where t = 0.

    ρ is the square, up to a limit of the error; from there on it goes on in a straight line
    (Huber). The edge term adds the same for differences of the error between neighbouring valid
    pixels; it penalises errors that jump between patches.

    Without limits both terms have the conditional mean as their minimiser, so the edge term changes
    what is learnt first, not what is learnt. Beside an edge whose place is not certain the mean
    hangs between near and far, where no surface is; with a limit that is small beside the step it
    is the median that is learnt there, which is one of the two.

    Args:
        errors: (B, H, W) x̂ − x; anything where invalid.
        valid: (B, H, W) bool, m.
        t: (B,) noise level.
        edge_weight: Of the edge term.
        limit: (B,) of the error, inf for none; None for none of any sample.

    Returns:
        (B,)
    """
    errors = torch.where(valid, errors, 0.0)
    losses = _mean_penalty(errors, valid, limit)
    for axis in (1, 2) if edge_weight else ():
        size = errors.shape[axis] - 1
        both = valid.narrow(axis, 0, size) & valid.narrow(axis, 1, size)
        losses = losses + edge_weight * _mean_penalty(errors.diff(dim=axis), both, limit)
    return _as_velocity(losses, t)


def _as_velocity(losses: Tensor, t: Tensor) -> Tensor:
    return losses / t.clamp(min=MIN_T).square() * (t > 0)


def _mean_penalty(errors: Tensor, valid: Tensor, limit: Tensor | None) -> Tensor:
    size = errors.abs()
    squared = size if limit is None else size.minimum(limit[:, None, None])
    penalties = torch.where(valid, squared * (2 * size - squared), 0.0)
    return penalties.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=MIN_VALID_PIXELS)


def self_distillation_loss(
    velocity: Tensor,
    base_velocity: Tensor,
    t_rgb: Tensor,
    t_depth: Tensor,
    noisy_depth_weight: float,
    clean_depth_weight: float,
) -> Tensor:
    """(λ_hi·t_d + λ_lo·(1 − t_d)) times the mean of (v̂ − v_base)² for each sample; 0 where t = 0.

    Keeps images as good as those of the text-to-image model that training started from: where
    depth is noise it tells nothing, and the image is to be the base model's.

    Args:
        velocity: (B, N, C) of RGB, with gradient.
        base_velocity: (B, N, C) of the frozen base for the same noisy RGB and text.
        t_rgb: (B,) noise level of RGB.
        t_depth: (B,) noise level of depth.
        noisy_depth_weight: λ_hi, the weight at t_depth = 1.
        clean_depth_weight: λ_lo, the weight at t_depth = 0.

    Returns:
        (B,)
    """
    weights = noisy_depth_weight * t_depth + clean_depth_weight * (1 - t_depth)
    errors = (velocity - base_velocity.detach()).square().mean(dim=(1, 2))
    return errors * weights * (t_rgb > 0)
