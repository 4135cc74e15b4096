"""Histograms of scores and depths, as the shapes of an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import DepthMap
from mfsynth.shards.run_manifest import ScoreInfo

WIDTH, HEIGHT = 360.0, 130.0
"""Size of the plot area in SVG units."""

_BINS = 36
_TAIL = 1.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin: its place, and the heights of its accepted and its rejected part."""

    x: float
    width: float
    accepted: float
    rejected: float
    label: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """A drawn histogram.

    Attributes:
        name: Of the score.
        score: What is known of it.
        bars: Bins from left to right, heights in SVG units.
        ticks: Positions and labels of the axis.
        limit_x: Place of the threshold, if there is one.
        failing: How many scores fail the threshold.
        abstained: How many pairs the check gave no score for.
        pairs: How many pairs there are, those included.
        standing: Where the limit comes from, in words: "calibrated", "loosened"; "" if there is
            nothing to say of it.
    """

    name: str
    score: ScoreInfo
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    limit_x: float
    failing: int
    abstained: int
    pairs: int
    standing: str = ""


@dataclass(frozen=True, slots=True)
class DepthHistogram:
    """Of the depths of several maps.

    Attributes:
        bars: Bins from left to right.
        ticks: Positions and labels of the axis.
        unit: What an axis says that has them.
        maps: How many depth maps they are of.
        valid: Share of their pixels that have a depth.
    """

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    unit: str
    maps: int
    valid: float


def draw_histogram(
    name: str,
    score: ScoreInfo,
    accepted: Sequence[float] | NDArray[np.float64],
    rejected: Sequence[float] | NDArray[np.float64],
    standing: str = "",
) -> Histogram:
    """Bins the scores of accepted and rejected pairs.

    The axis spans the 1st to the 99th percentile and the threshold; scores beyond it are counted
    in the outermost bins.

    Args:
        name: Of the score.
        score: What they are and their threshold, if any.
        accepted: Scores of accepted pairs; nan where the check abstained.
        rejected: Scores of rejected pairs; nan where the check abstained.
        standing: As of `Histogram`.

    Returns:
        The shapes; no bars if there are no scores.
    """
    good, bad = _finite(accepted), _finite(rejected)
    scores = np.concatenate([good, bad])
    pairs = len(accepted) + len(rejected)
    abstained = pairs - scores.size
    if not scores.size:
        return Histogram(name, score, (), (), 0.0, 0, abstained, pairs, standing)
    low, high = _span(scores, score.limit)
    edges = np.linspace(low, high, _BINS + 1)
    counts = [np.histogram(np.clip(part, low, high), edges)[0] for part in (good, bad)]
    unit = HEIGHT / max(1, int((counts[0] + counts[1]).max()))
    bars = tuple(
        Bar(
            x=i * WIDTH / _BINS,
            width=WIDTH / _BINS - 1,
            accepted=float(counts[0][i] * unit),
            rejected=float(counts[1][i] * unit),
            label=f"{edges[i]:.3g} to {edges[i + 1]:.3g}: "
            f"{counts[0][i]} accepted, {counts[1][i]} rejected",
        )
        for i in range(_BINS)
        if counts[0][i] + counts[1][i]
    )
    ticks = tuple(((t - low) / (high - low) * WIDTH, f"{t:g}") for t in _ticks(low, high))
    failing = 0
    limit_x = 0.0
    if score.limit is not None:
        beyond = scores < score.limit if score.is_minimum else scores > score.limit
        failing = int(np.count_nonzero(beyond))
        limit_x = (score.limit - low) / (high - low) * WIDTH
    return Histogram(name, score, bars, ticks, limit_x, failing, abstained, pairs, standing)


def draw_depths(maps: Sequence[tuple[DepthMap, bool]]) -> DepthHistogram | None:
    """Bins the depths of several maps; every map counts the same, whatever its size.

    Args:
        maps: Depth (H, W), 0 = invalid, and whether it is in metres. Unless all are, each is
            divided by its own median, since a unit of relative depth means nothing.

    Returns:
        None if no pixel has a depth.
    """
    known = [depth[np.isfinite(depth) & (depth > 0)].astype(np.float64) for depth, _ in maps]
    pixels = sum(depth.size for depth, _ in maps)
    metric = all(is_metric for _, is_metric in maps)
    valid = sum(values.size for values in known)
    known = [values for values in known if values.size]
    if not known:
        return None
    if not metric:
        known = [values / np.median(values) for values in known]
    values = np.concatenate(known)
    weights = np.repeat([1 / part.size for part in known], [part.size for part in known])
    low, high = _span(values, None)
    low = max(low, 0.0)
    edges = np.linspace(low, high, _BINS + 1)
    shares = np.histogram(np.clip(values, low, high), edges, weights=weights)[0] / len(known)
    unit = HEIGHT / shares.max()
    bars = tuple(
        Bar(
            x=i * WIDTH / _BINS,
            width=WIDTH / _BINS - 1,
            accepted=float(share * unit),
            rejected=0.0,
            label=f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {share:.1%}",
        )
        for i, share in enumerate(shares)
        if share
    )
    return DepthHistogram(
        bars=bars,
        ticks=tuple(((t - low) / (high - low) * WIDTH, f"{t:g}") for t in _ticks(low, high)),
        unit="metres" if metric else "multiples of the median of each map, which is relative",
        maps=len(known),
        valid=valid / pixels,
    )


def _finite(scores: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    return values[np.isfinite(values)]


def _span(scores: NDArray[np.float64], limit: float | None) -> tuple[float, float]:
    low, high = (float(p) for p in np.percentile(scores, (_TAIL, 100 - _TAIL)))
    if limit is not None:
        low, high = min(low, limit), max(high, limit)
    spread, size = high - low, max(abs(low), abs(high), 1.0)
    # Scores that differ in nothing but rounding are one value.
    margin = 0.03 * spread if spread > 1e-6 * size else 0.05 * size
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, four to nine of them, inside the span."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    for factor in (1, 2, 5):
        if (high - low) / (step * factor) <= 9:
            step *= factor
            break
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]
