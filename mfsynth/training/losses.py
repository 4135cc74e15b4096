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


def depth_loss(errors: Tensor, valid: Tensor, t: Tensor, edge_weight: float) -> Tensor:
    """Σ m·(x̂ − x)² / max(t, 0.05)² ÷ max(Σ m, 64) for each sample; 0 where t = 0.

    The edge term adds the same for differences of the error between neighbouring valid pixels.
    Both terms have the conditional mean as their minimiser, so the edge term changes what is
    learnt first, not what is learnt; it penalises errors that jump between patches.

    Args:
        errors: (B, H, W) x̂ − x; anything where invalid.
        valid: (B, H, W) bool, m.
        t: (B,) noise level.
        edge_weight: Of the edge term.

    Returns:
        (B,)
    """
    errors = torch.where(valid, errors, 0.0)
    losses = _mean_square(errors, valid)
    for axis in (1, 2) if edge_weight else ():
        size = errors.shape[axis] - 1
        both = valid.narrow(axis, 0, size) & valid.narrow(axis, 1, size)
        losses = losses + edge_weight * _mean_square(errors.diff(dim=axis), both)
    return _as_velocity(losses, t)


def _as_velocity(losses: Tensor, t: Tensor) -> Tensor:
    return losses / t.clamp(min=MIN_T).square() * (t > 0)


def _mean_square(errors: Tensor, valid: Tensor) -> Tensor:
    squares = torch.where(valid, errors.square(), 0.0)
    return squares.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=MIN_VALID_PIXELS)


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
