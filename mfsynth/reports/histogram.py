"""Histogram of a check's scores, as the shapes of an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfsynth.shards.commits import ScoreInfo

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
        score: What it is of.
        bars: Bins from left to right, heights in SVG units.
        ticks: Positions and labels of the axis.
        limit_x: Place of the threshold, if there is one.
        failing: How many scores fail the threshold.
        abstained: How many pairs the check gave no score for.
        pairs: How many pairs there are, those included.
    """

    score: ScoreInfo
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    limit_x: float
    failing: int
    abstained: int
    pairs: int


def draw_histogram(
    score: ScoreInfo, accepted: Sequence[float], rejected: Sequence[float]
) -> Histogram:
    """Bins the scores of accepted and rejected pairs.

    The axis spans the 1st to the 99th percentile and the threshold; scores beyond it are counted
    in the outermost bins.

    Args:
        score: What they are and their threshold, if any.
        accepted: Scores of accepted pairs; nan where the check abstained.
        rejected: Scores of rejected pairs; nan where the check abstained.

    Returns:
        The shapes; no bars if there are no scores.
    """
    good, bad = _finite(accepted), _finite(rejected)
    scores = np.concatenate([good, bad])
    pairs = len(accepted) + len(rejected)
    abstained = pairs - scores.size
    if not scores.size:
        return Histogram(score, (), (), 0.0, 0, abstained, pairs)
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
    return Histogram(score, bars, ticks, limit_x, failing, abstained, pairs)


def _finite(scores: Sequence[float]) -> NDArray[np.float64]:
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
