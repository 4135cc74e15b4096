"""What is left open in a relative depth map, fitted to a reference.

Each alignment allows a prediction other freedoms, so figures of different alignments aren't
comparable: say which one was used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.selection import compared_values

_MOST_ROUNDS, _STANDS_STILL = 500, 1e-6
# Errors below this share of the depth count as none.
_EXACT = 1e-4
_FAR = 4.0
# Of disparities: these are far off beyond so many times the distance that such a share has at most.
_LEVERAGE, _MOST = 1.5, 0.75


def scale_l1(
    prediction: NDArray[np.floating], target: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """The scale s that minimises sum |s·p - g| / g, exactly.

    The native alignment of scale-invariant depth. The sum is that of |p|/g · |s - g/p|, so its
    minimiser is the median of g/p under the weights |p|/g.

    Args:
        prediction: Depth p, any shape; finite where valid.
        target: Depth g, the same shape; positive and finite where valid.
        valid: bool, the same shape.

    Raises:
        ValueError: See `compared_values`; or the prediction is zero at all valid pixels.
    """
    p, g = compared_values(prediction, target, valid)
    p, g = p[p != 0], g[p != 0]  # these terms don't depend on the scale
    if p.size == 0:
        raise ValueError("the prediction is zero at all valid pixels, so no scale fits it")
    ratio, weight = g / p, np.abs(p) / g
    order = np.argsort(ratio)
    cumulative = np.cumsum(weight[order])
    middle = int(np.searchsorted(cumulative, 0.5 * cumulative[-1]))
    return float(ratio[order[middle]])


def scale_median(
    prediction: NDArray[np.floating], target: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """The scale that makes the medians equal: median(g) / median(p).

    The alignment of self-supervised monocular depth (Zhou et al., CVPR 2017).

    Args:
        prediction: Depth p, any shape; finite where valid, its median positive.
        target: Depth g, the same shape; positive and finite where valid.
        valid: bool, the same shape.

    Raises:
        ValueError: See `compared_values`; or the median prediction isn't positive.
    """
    p, g = compared_values(prediction, target, valid)
    middle = float(np.median(p))
    if middle <= 0:
        raise ValueError(f"the median prediction must be positive, got {middle:g}")
    return float(np.median(g)) / middle


def affine_least_squares(
    prediction: NDArray[np.floating], target: NDArray[np.floating], valid: NDArray[np.bool_]
) -> tuple[float, float]:
    """The scale s and shift t that minimise sum (s·p + t - g)²; Marigold's alignment.

    A constant prediction says nothing about the scale: it gets s = 0 and t = mean(g), which is a
    minimiser.

    Args:
        prediction: Depth p, any shape; finite where valid.
        target: Depth g, the same shape; positive and finite where valid.
        valid: bool, the same shape.

    Raises:
        ValueError: See `compared_values`.
    """
    return _fit_line(*compared_values(prediction, target, valid))


def disparity_least_squares(
    prediction: NDArray[np.floating], target: NDArray[np.floating], valid: NDArray[np.bool_]
) -> tuple[float, float]:
    """The scale s and shift t that minimise sum (s/p + t - 1/g)².

    For models whose output is disparity up to an affine map; `depth_from_disparity_fit` applies
    the result.

    Args:
        prediction: *Depth* p, any shape; positive where valid. Take 1/d of a disparity d first.
        target: Depth g, the same shape; positive and finite where valid.
        valid: bool, the same shape.

    Raises:
        ValueError: See `compared_values`; or the prediction isn't positive at some valid pixel.
    """
    p, g = compared_values(prediction, target, valid)
    if not (p > 0).all():
        raise ValueError("the prediction isn't positive at some valid pixel: it has no disparity")
    return _fit_line(1 / p, 1 / g)


def disparity_l1(
    values: NDArray[np.floating], target: NDArray[np.floating], valid: NDArray[np.bool_]
) -> tuple[float, float]:
    """The scale s and shift t that minimise sum |s·v + t - 1/g| · g · w, with s made positive.

    Errors of disparity as shares of it, which are those of depth; depths beyond four times their
    median count as if they were that far, and w falls as 1/distance for disparities v that lie
    farther from their median than most do (Mallows' weights): few pixels that are far off, in depth
    or in disparity, don't spoil it. Where the best scale is negative its opposite is taken, about
    the same middle: no alignment may turn near into far, so what says the opposite still does.

    By least squares with weights of the last round's errors, until the fit stands still.

    Args:
        values: Disparity v up to an affine map, any shape; finite where valid.
        target: Depth g, the same shape; positive and finite where valid.
        valid: bool, the same shape.

    Raises:
        ValueError: See `compared_values`.
    """
    v, g = compared_values(values, target, valid)
    share = np.minimum(g, _FAR * np.median(g))
    middle, spread = float(np.median(v)), float(np.std(v))
    if spread <= np.finfo(np.float64).eps * abs(middle):
        spread = 0.0
    x = (v - middle) / spread if spread else np.zeros_like(v)
    trust = share * _without_leverage(x)
    weight, fitted = trust * share, (0.0, 0.0)
    for _ in range(_MOST_ROUNDS):
        before, fitted = fitted, _fit_weighted_line(x, 1 / g, weight)
        off = np.abs(fitted[0] * x + fitted[1] - 1 / g) * share
        weight = trust * share / np.maximum(off, _EXACT)
        moved = max(abs(now - then) for now, then in zip(fitted, before, strict=True))
        if moved <= _STANDS_STILL * (abs(fitted[0]) + abs(fitted[1])):
            break
    scale, shift = fitted
    if scale < 0:
        shift += 2 * scale * _dot(weight, x) / float(weight.sum())
    scale = abs(scale) / spread if spread else 0.0
    return scale, shift - scale * middle


def depth_from_disparity_fit(
    prediction: NDArray[np.floating], scale: float, shift: float, least: float = 1e-3
) -> NDArray[np.float32]:
    """The depth 1 / (scale/p + shift), and 0 (invalid) where there is no prediction.

    A disparity that isn't positive lies at infinity or beyond it: as far as any depth is told, not
    near, and not unknown.

    Args:
        prediction: Depth p, any shape; invalid where not positive and finite.
        scale: From `disparity_least_squares`.
        shift: From `disparity_least_squares`.
        least: Positive; disparities are brought up to it. Marigold's, whose depths are metres.
    """
    p = prediction.astype(np.float64)
    given = np.isfinite(p) & (p > 0)
    disparity = np.maximum(scale / np.where(given, p, 1.0) + shift, least)
    return np.where(given, 1 / disparity, 0.0).astype(np.float32)


def _without_leverage(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) weights: 1 near the middle, 0, and c/|x| beyond c, half as far again as most are."""
    away = np.abs(x)
    # Of more than half of them, so that it isn't 0 where half have one value.
    limit = _LEVERAGE * float(np.quantile(away, _MOST))
    return np.minimum(1.0, limit / np.maximum(away, limit)) if limit else np.ones_like(x)


def _fit_weighted_line(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    whole = float(weight.sum())
    mean_x, mean_y = _dot(weight, x) / whole, _dot(weight, y) / whole
    across = x - mean_x
    spread = _dot(weight, across**2)
    slope = _dot(weight * across, y - mean_y) / spread if spread else 0.0
    return slope, mean_y - slope * mean_x


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    # Not by BLAS: its threads take longer to start than this does, and round otherwise by number.
    return float(np.einsum("i,i->", a, b))


def _fit_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    # Centred, because depths far from zero make the plain normal equations lose digits.
    mean_x, mean_y = float(x.mean()), float(y.mean())
    across = x - mean_x
    spread = float(across @ across)
    rounding = np.finfo(np.float64).eps * abs(mean_x)
    if spread <= x.size * rounding**2:
        return 0.0, mean_y
    slope = float(across @ (y - mean_y)) / spread
    return slope, mean_y - slope * mean_x
