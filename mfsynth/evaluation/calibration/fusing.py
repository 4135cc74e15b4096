"""Weights of the fused score: a logistic regression of spoilt against clean pairs.

Each score gives how many deviations of clean pairs it lies below and above their median, for to be
far on the side that its check calls good may tell of a fault, too. Weights are not negative: each
score can only add to what speaks against a pair, whatever faults the fit has seen. A score that
abstains adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.calibration import HINGES, Term, deviations

_Scores = NDArray[np.float64]

# Of half the weights' squared length, beside the mean loss of a pair.
_PENALTY = 1e-3
_STEPS = 100
_ENOUGH = 1e-10
# Of a normal distribution: deviations between its middle and its 5th percentile.
_FIFTH = 1.645


def fit(
    names: Sequence[str], clean: _Scores, spoilt: Sequence[_Scores]
) -> tuple[tuple[Term, ...], float]:
    """Fit terms and bias; deterministic.

    Args:
        names: Of m scores.
        clean: (n, m) of clean pairs; nan where a score abstains.
        spoilt: (n_c, m) for each corruption. Each counts as much as any other, and all together as
            much as the clean pairs.

    Returns:
        Terms, without scores that have but one value or none; and the bias.
    """
    rows = np.concatenate([clean, *spoilt])
    scales = {
        name: scale
        for column, name in enumerate(names)
        if (scale := _scale(clean[:, column], rows[:, column])) is not None
    }
    columns = [deviations(rows[:, names.index(name)], *scale) for name, scale in scales.items()]
    features = np.concatenate(columns, axis=1) if columns else np.zeros((len(rows), 0))
    labels = np.repeat([0.0, 1.0], [len(clean), len(rows) - len(clean)])
    kinds = [part for part in spoilt if len(part)]
    weights = np.concatenate(
        [
            np.full(len(clean), 0.5 / len(clean)),
            *(np.full(len(part), 0.5 / len(kinds) / len(part)) for part in kinds),
        ]
    )
    # In digits that don't hang on how many threads summed up.
    bias, *solution = (float(f"{value:.9g}") for value in _logistic(features, labels, weights))
    terms = []
    for number, (name, (middle, low, high)) in enumerate(scales.items()):
        own = (*solution[2 * len(HINGES) * number :][: 2 * len(HINGES)],)
        below, above = own[: len(HINGES)], own[len(HINGES) :]
        terms.append(Term(score=name, middle=middle, low=low, high=high, below=below, above=above))
    return tuple(terms), bias


def _scale(clean: _Scores, all_pairs: _Scores) -> tuple[float, float, float] | None:
    """Middle and both deviations of a score; None where nothing can be told by it."""
    clean, all_pairs = clean[~np.isnan(clean)], all_pairs[~np.isnan(all_pairs)]
    if not clean.size:
        return None
    fifth, low, middle, high, last = np.percentile(clean, (5, 15.87, 50, 84.13, 95))
    # Scores such as the share of valid pixels have one value for nearly all clean pairs.
    other = float(high - low) / 2 or float(all_pairs.std())
    if not other > 0:
        return None
    below, above = float(middle - fifth) / _FIFTH, float(last - middle) / _FIFTH
    return float(middle), below or other, above or other


def _logistic(features: _Scores, labels: _Scores, weights: _Scores) -> _Scores:
    """Bias and weights of the least penalised loss; no weight is negative, the bias may be.

    Newton's method on what is free to move, with steps halved until they help.
    """
    rows = np.concatenate([np.ones((len(features), 1)), features], axis=1)
    least = np.zeros(rows.shape[1])
    least[0] = -np.inf
    penalty = np.full(rows.shape[1], _PENALTY)
    penalty[0] = 0
    sign = 2 * labels - 1

    def loss(candidate: _Scores) -> float:
        margins = sign * (rows @ candidate)
        return float(weights @ np.logaddexp(0, -margins) + penalty @ candidate**2 / 2)

    solution = np.zeros(rows.shape[1])
    best = loss(solution)
    for _ in range(_STEPS):
        odds = 1 / (1 + np.exp(-np.clip(rows @ solution, -60, 60)))
        gradient = rows.T @ (weights * (odds - labels)) + penalty * solution
        free = (solution > least) | (gradient < 0)
        moving = rows[:, free]
        curvature = (moving * (weights * odds * (1 - odds))[:, None]).T @ moving
        curvature += np.diag(penalty[free] + 1e-12)
        step = np.zeros_like(solution)
        step[free] = np.linalg.solve(curvature, gradient[free])
        factor = 1.0
        while factor > 1e-8:
            candidate = np.maximum(solution - factor * step, least)
            if (found := loss(candidate)) < best - _ENOUGH:
                break
            factor /= 2
        else:
            break
        solution, best = candidate, found
    return solution
