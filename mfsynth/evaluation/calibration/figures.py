"""Figures of scored pairs: power by corruption, the fused score with it, clean ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.calibration import FUSED, Term, fused
from mfsynth.evaluation.calibration.corruptions import Corruption
from mfsynth.evaluation.calibration.fusing import fit
from mfsynth.evaluation.calibration.power import Bootstrap, Draws
from mfsynth.evaluation.calibration.scoring import Scored
from mfsynth.evaluation.calibration.splitting import HALVES, split

UNSEEN = "fused_unseen"
"""The fused score by weights that have seen no corruption of the family that it is tried on."""

_Fused = tuple[tuple[Term, ...], float]

_DIGITS = 4


def one_of_each(images: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """The number of one pair of each image, by chance: others of it are no new draw."""
    order = np.random.default_rng([seed, 6]).permutation(len(images))
    return order[np.unique(images[order], return_index=True)[1]]


def fit_on(scored: Scored, rows: NDArray[np.bool_], without: str = "") -> _Fused:
    """The fused score of some pairs, without the mildest corruptions and those of a family."""
    spoilt = [
        scores[rows & scored.applied[corruption]]
        for corruption, scores in scored.spoilt.items()
        if not corruption.mild and corruption.family != without
    ]
    return fit(scored.names, scored.clean[rows], spoilt)


def power_figures(scored: Scored, draws: int, seed: int) -> dict[str, Any]:
    """AUC and TPR of each score against each corruption, those of the fused score among them.

    The fused score of a pair is by weights of the other half of the images, so that none is scored
    by what it was fitted on.

    Returns:
        `corruptions`, a list in their order, with `scores` by name; and `mean`, over all but the
        mildest.
    """
    bootstrap = Bootstrap(scored.images, draws, seed)
    half = split(scored.images, seed, HALVES)
    halves = (half, ~half)
    known = [fit_on(scored, part) for part in halves]
    rows = []
    means: dict[str, list[Draws]] = {}
    unseen: dict[str, Sequence[_Fused]] = {}
    for corruption, spoilt in scored.spoilt.items():
        applied = scored.applied[corruption]
        columns = {
            name: (sign * scored.clean[:, column], sign * spoilt[:, column])
            for column, (name, sign) in enumerate(zip(scored.names, scored.signs, strict=True))
        }
        family = corruption.family
        if family not in unseen:
            unseen[family] = [fit_on(scored, part, without=family) for part in halves]
        for name, models in ((FUSED, known), (UNSEEN, unseen[family])):
            columns[name] = crossed(scored, spoilt, halves, models)
        found = {
            name: bootstrap.power(clean, bad, applied) for name, (clean, bad) in columns.items()
        }
        if not corruption.mild:
            for name, drawn in found.items():
                means.setdefault(name, []).append(drawn)
        rows.append(
            {
                "corruption": corruption.name,
                "family": family,
                "mild": corruption.mild,
                "pairs": int(applied.sum()),
                "scores": {name: _shown(drawn) for name, drawn in found.items()},
            }
        )
    mean = {name: _shown(Draws.mean(drawn)) for name, drawn in means.items()}
    return {"corruptions": rows, "mean": mean}


def crossed(
    scored: Scored,
    spoilt: NDArray[np.float64],
    halves: Sequence[NDArray[np.bool_]],
    models: Sequence[_Fused],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fused scores of clean and spoilt pairs, higher is better, by models of the other halves.

    Two models have two scales, so a score is the share of the half's clean pairs that are worse;
    nan where all scores abstain.
    """
    found = np.empty(len(scored.clean)), np.empty(len(scored.clean))
    for half, model in zip(halves, reversed(models), strict=True):
        clean, bad = (
            np.nan_to_num(-fused(scored.names, rows[half], *model), nan=np.inf)
            for rows in (scored.clean, spoilt)
        )
        ranks = np.sort(clean)
        for all_pairs, values in zip(found, (clean, bad), strict=True):
            worse = np.searchsorted(ranks, values) + np.searchsorted(ranks, values, "right")
            all_pairs[half] = np.where(np.isinf(values), np.nan, worse / (2 * len(ranks)))
    return found


def clean_figures(scored: Scored) -> dict[str, Any]:
    """By score: 5th percentile, median and 95th of clean pairs, and how many abstain."""
    figures = {}
    for name, values in zip(scored.names, scored.clean.T, strict=True):
        known = values[~np.isnan(values)]
        quantiles = np.percentile(known, (5, 50, 95)) if known.size else []
        figures[name] = {
            "percentiles": [_rounded(value) for value in quantiles],
            "abstains": _rounded(np.isnan(values).mean()),
        }
    return figures


def _rejected(
    scored: Scored, limits: dict[str, float], rows: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which of some scores (n, m + 1), the fused one last, any limit rejects: bool (n,)."""
    beyond = np.zeros(len(rows), bool)
    for column, name in enumerate((*scored.names, FUSED)):
        if name in limits:
            sign = scored.signs[column] if column < len(scored.names) else -1.0
            # A comparison with nan is false: who abstains passes.
            beyond |= sign * rows[:, column] < sign * limits[name]
    return beyond


def held_out_figures(
    scored: Scored, limits: dict[str, float], terms: Sequence[Term], bias: float, seed: int
) -> dict[str, Any]:
    """What limits reject of pairs that nothing was fitted on, one of each image."""
    some = one_of_each(scored.images, seed)

    def share(rows: NDArray[np.float64]) -> tuple[int, int]:
        whole = np.column_stack([rows, fused(scored.names, rows, terms, bias)])
        return int(_rejected(scored, limits, whole).sum()), len(rows)

    def of(corruption: Corruption) -> dict[str, Any]:
        there = some[scored.applied[corruption][some]]
        bad, all_of_them = share(scored.spoilt[corruption][there])
        return {"corruption": corruption.name, "rejected": bad, "pairs": all_of_them}

    bad, all_of_them = share(scored.clean[some])
    return {
        "clean_rejected": bad,
        "clean_pairs": all_of_them,
        "corruptions": [of(corruption) for corruption in scored.spoilt],
    }


def _shown(drawn: Draws) -> dict[str, Any]:
    return {
        "auc": [_rounded(value) for value in drawn.interval(drawn.auc)],
        "tpr": [_rounded(value) for value in drawn.interval(drawn.tpr)],
        "abstains": _rounded(drawn.abstains),
    }


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), _DIGITS)
