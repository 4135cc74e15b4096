"""Noise levels over a roll-out: how RGB and depth go from noise (t = 1) to clean (t = 0)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor


class Mode(StrEnum):
    """Which modality is generated and which is held clean at t = 0."""

    JOINT = "joint"
    IMAGE_TO_DEPTH = "i2d"
    DEPTH_TO_IMAGE = "d2i"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise levels at the nodes of a roll-out.

    Attributes:
        rgb: (steps + 1,) float32, falling from 1 to 0, or all 0 where RGB is given.
        depth: (steps + 1,) float32, likewise.
    """

    rgb: Tensor
    depth: Tensor


def shift_time(t: Tensor, mu: float) -> Tensor:
    """Shift noise levels towards noise: t' = e^μ / (e^μ + 1/t − 1), that is logit t + μ.

    Args:
        t: Noise levels in [0, 1].
        mu: Shift; the released model uses 1.1.
    """
    return math.exp(mu) / (math.exp(mu) + (1 / t - 1))


def tilt(t: Tensor, log2_alpha: float) -> Tensor:
    """Warp noise levels with the Möbius map α·t / (1 + (α − 1)·t): logit t + ln α.

    With α > 1 the warped modality stays noisy for longer than t, with α < 1 it clears earlier.
    """
    alpha = 2.0**log2_alpha
    return alpha * t / (1 + (alpha - 1) * t)


def schedule(
    mode: Mode,
    steps: int,
    *,
    rgb_mu: float,
    depth_mu: float,
    log2_alpha: float,
    depth_step_share: float = 0.0,
    depth_start: float = 1.0,
) -> Schedule:
    """Place the nodes of a roll-out of `steps` Euler steps.

    Args:
        mode: In `joint` depth is tilted against RGB; otherwise one modality stays at 0.
        steps: Number of forwards, at least 1.
        rgb_mu: Time shift of RGB.
        depth_mu: Time shift of depth: of its own schedule, followed where RGB is given (`i2d`).
        log2_alpha: Tilt of depth in `joint`: positive lets RGB resolve first, 0 is the diagonal.
        depth_step_share: In `joint`, how far the steps are spent on depth, in [0, 1]. 0 spaces
            them evenly on RGB's schedule, as in the release, which leaves a tilted depth few steps
            to form in; 1 spaces them evenly on depth's own schedule.
        depth_start: In `joint`, tilted levels of depth above this become 1; with 0, all of them.
            While depth stays at 1 its tokens are noise that the sampler need not look at. In
            `i2d`, the level to begin at, for depth that is known roughly.
    """
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    held = torch.zeros_like(t)
    match mode:
        case Mode.JOINT:
            if depth_step_share:
                t = _spread(t, depth_step_share, rgb_mu, depth_mu, log2_alpha)
            rgb = shift_time(t, rgb_mu)
            depth = tilt(rgb, log2_alpha)
            depth = torch.where((depth > depth_start) | (depth_start == 0), 1.0, depth)
        case Mode.IMAGE_TO_DEPTH:
            start = shift_time(torch.tensor(depth_start, dtype=torch.float64), -depth_mu)
            rgb, depth = held, shift_time(start * t, depth_mu)
        case Mode.DEPTH_TO_IMAGE:
            rgb, depth = shift_time(t, rgb_mu), held
    return Schedule(rgb.float(), depth.float())


def _spread(
    t: Tensor, depth_share: float, rgb_mu: float, depth_mu: float, log2_alpha: float
) -> Tensor:
    """Move nodes t of RGB's schedule so that depth's schedule gets its share of the steps."""
    grid = np.linspace(1, 0, 20_001)
    depth = tilt(shift_time(torch.from_numpy(grid), rgb_mu), log2_alpha)
    own = shift_time(depth, -depth_mu).numpy()
    pace = (1 - depth_share) * grid + depth_share * own
    # Ascending for np.interp.
    return torch.from_numpy(np.interp(t.numpy(), pace[::-1], grid[::-1]))
