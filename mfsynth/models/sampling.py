"""Euler integration of the two streams."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from mfsynth.models.schedules import Schedule

# x̂ → velocity divides by t; below this the division would amplify the error of x̂ (release).
MIN_T = 0.05

Predict = Callable[[Tensor, Tensor | None, float, float], tuple[Tensor, Tensor | None]]
"""(RGB tokens, depth tokens, t_rgb, t_depth) → (RGB prediction, clean depth x̂), guidance done.

Depth is None where its tokens are left out."""

OnStep = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(steps done, RGB tokens, depth tokens) → the tokens to go on with."""


def sample_to_velocity(noisy: Tensor, clean: Tensor, t: float | Tensor) -> Tensor:
    """Turn a predicted clean signal into a velocity: (z − x̂) / max(t, 0.05)."""
    if isinstance(t, Tensor):
        return (noisy - clean) / t.clamp(min=MIN_T)
    return (noisy - clean) / max(t, MIN_T)


def _step(noisy: Tensor, prediction: Tensor, t: float, t_next: float, is_velocity: bool) -> Tensor:
    if t == t_next:
        return noisy
    if is_velocity:
        return noisy + (t_next - t) * prediction
    if t_next == 0:
        return prediction
    return noisy + (t_next - t) * sample_to_velocity(noisy, prediction, t)


def integrate(
    predict: Predict,
    rgb: Tensor,
    depth: Tensor,
    schedule: Schedule,
    *,
    rgb_is_velocity: bool,
    on_step: OnStep | None = None,
) -> tuple[Tensor, Tensor]:
    """Roll both streams along a schedule; a stream whose levels stay equal is not touched.

    While depth stays at level 1 its tokens are pure noise and are left out of the forward.

    Args:
        predict: The model, with guidance applied.
        rgb: (B, N, C) tokens at the first RGB level: noise, or clean where RGB is given.
        depth: (B, N, P) tokens at the first depth level.
        schedule: Levels of `steps + 1` nodes.
        rgb_is_velocity: Whether RGB is predicted as a velocity or as the clean signal; depth is
            always the clean signal. Where a clean signal is predicted, the last step takes it as
            it is.
        on_step: Called after every step.

    Returns:
        RGB and depth tokens at the last levels.
    """
    nodes = list(zip(schedule.rgb.tolist(), schedule.depth.tolist(), strict=True))
    for done, ((t_rgb, t_depth), (next_rgb, next_depth)) in enumerate(pairwise(nodes), start=1):
        seen = None if t_depth == next_depth == 1 else depth
        rgb_prediction, depth_prediction = predict(rgb, seen, t_rgb, t_depth)
        rgb = _step(rgb, rgb_prediction, t_rgb, next_rgb, rgb_is_velocity)
        if depth_prediction is not None:
            depth = _step(depth, depth_prediction, t_depth, next_depth, False)
        if on_step is not None:
            rgb, depth = on_step(done, rgb, depth)
    return rgb, depth
