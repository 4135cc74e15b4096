"""The fused score: what all other scores together say of a pair, by weights out of a calibration.

`checks: {calibration: FILE}` of a run becomes this check with everything in its settings, so that
who has the run's configuration needs no file; `mfsynth.checks.calibration_files` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.config.base import Count, Items, NonEmpty, Positive, Settings, Unset
from mfsynth.shards.run_manifest import ScoreInfo

CALIBRATION = "calibration"
"""Its name among the checks."""

FUSED = "fused"
"""The name of its score."""

HINGES = (0.0, 2.0, 4.0)
"""Deviations from the middle of clean pairs beyond which more of them count anew."""

# Scores further from the middle say no more than this many deviations do.
_MOST_DEVIATIONS = 8.0

Share = Annotated[float, Field(gt=0, lt=1)]
Weights = Annotated[Items[Annotated[float, Field(ge=0)]], Field(min_length=3, max_length=3)]


class Term(Settings):
    """What one score adds to the fused one.

    Each deviation from the middle of clean pairs makes a pair more suspicious, on whichever side,
    and none makes it less so: no score pays for what another one saw.

    Attributes:
        score: Its name.
        middle: Median of clean pairs.
        low: Deviation below it: from the 5th percentile to it, over 1.645.
        high: Likewise above it.
        below: Weights of the deviations below it beyond 0, 2 and 4.
        above: Likewise above it.
    """

    score: NonEmpty
    middle: float
    low: Positive
    high: Positive
    below: Weights
    above: Weights


class Guarantee(Settings):
    """What holds for calibrated limits: see `mfsynth.evaluation.calibration.limits`.

    Attributes:
        alpha: Share of good pairs that all limits together reject at most.
        delta: Probability that they reject more.
        images: How many trusted images the limits come from.
    """

    alpha: Share
    delta: Share
    images: Count

    def __str__(self) -> str:
        return (
            f"with probability {1 - self.delta:.4g} all such limits together reject at most "
            f"{self.alpha:.4g} of pairs like the {self.images} trusted ones that they come from"
        )


class UsedEstimator(Settings):
    """The estimator whose word a calibration's checks took.

    Attributes:
        name: As it was named.
        revision: Of its files, as a run has it; "" of a stand-in.
        dtype: Of its weights and activations, as a run's `estimator.dtype`.
        counts_infinite: Whether it gives disparity up to a shift, and the scores count the pixels
            that the fit puts at infinity; older files of such estimators left them out.
        stands_in: Whether it was no estimator but a perturbed copy of the trusted depth, so that
            what its checks see is an upper bound of what they would see by an estimator.
    """

    name: NonEmpty
    revision: str = ""
    # It came later: what is the default is no part of what is stored, nor of any digest.
    dtype: Annotated[str, Field(exclude_if=lambda dtype: dtype == "float32")] = "float32"
    # Likewise.
    counts_infinite: Annotated[bool, Field(exclude_if=lambda counts: not counts)] = False
    stands_in: bool = False


class Calibration(Check):
    """Limits of a calibration, and the limit on its fused score.

    Attributes:
        sha256: Of the calibration's file.
        guarantee: What its limits hold.
        limits: By score, the fused one among them.
        terms: Of the fused score.
        bias: Of the fused score.
        max_fused: Greatest log odds that a pair is spoilt.
        estimator: Whose estimates the checks looked at, which the run has to have, too; None
            without.
        networks: By check, revisions of the networks that the checks asked, which the run has to
            have, too; None without.
    """

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    guarantee: Guarantee
    limits: dict[str, float]
    terms: Items[Term]
    bias: float
    max_fused: float
    estimator: Unset[UsedEstimator] = None
    networks: Unset[dict[str, str]] = None

    inputs = ("scores",)
    scores = (
        Score(
            name=FUSED,
            label="all scores together",
            direction="lower",
            note="log odds that a pair is spoilt, by a logistic regression on the other scores",
            limit="max_fused",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The fused score; nan where all that it looks at abstain."""
        assert pair.scores is not None  # they are its input
        return {FUSED: fuse(self.terms, self.bias, pair.scores)}

    def marked(self, infos: Mapping[str, ScoreInfo]) -> dict[str, ScoreInfo]:
        """What a run keeps of its scores: calibrated limits are the defaults, and are called so."""
        held = self.guarantee
        said = (
            f"limit calibrated on {held.images} trusted images "
            f"(alpha {held.alpha:g}, delta {held.delta:g})"
        )
        found = {}
        for name, info in infos.items():
            limit = self.limits.get(name)
            if limit is not None:
                note = f"{info.note}; {said}" if info.limit == limit else info.note
                info = replace(info, note=note, default_limit=limit)
            found[name] = info
        return found


def fuse(terms: tuple[Term, ...], bias: float, scores: Mapping[str, float]) -> float:
    """The fused score of a pair; see `fused`. Scores that it lacks abstain."""
    row = [[scores.get(term.score, math.nan) for term in terms]]
    return float(fused([term.score for term in terms], np.array(row), terms, bias)[0])


def fused(
    names: Sequence[str], scores: NDArray[np.float64], terms: Sequence[Term], bias: float
) -> NDArray[np.float64]:
    """Fused scores of pairs: `bias` and what each term adds.

    A score that abstains adds nothing, as one in the middle of clean pairs. A pair's value is the
    same to the bit whatever others it is computed with, so that a limit passes its own value.

    Args:
        names: Of the scores, in the order of the columns.
        scores: (n, m); nan where a score abstains.
        terms: Of scores that are among the names.
        bias: Of the logistic regression.

    Returns:
        (n,) log odds; nan where all scores abstain.
    """
    total = np.full(len(scores), bias)
    spoke = np.zeros(len(scores), np.bool_)
    for term in terms:
        values = scores[:, names.index(term.score)]
        beyond = deviations(values, term.middle, term.low, term.high)
        # One by one: sums of arrays round by how many rows there are.
        for column, weight in enumerate((*term.below, *term.above)):
            total += weight * beyond[:, column]
        spoke |= ~np.isnan(values)
    return np.where(spoke, total, np.nan)


def deviations(
    values: NDArray[np.float64], middle: float, low: float, high: float
) -> NDArray[np.float64]:
    """How many deviations scores lie below and above their middle, beyond each hinge.

    Args:
        values: (n,); nan where a score abstains.
        middle: Of clean pairs.
        low: Deviation below it.
        high: Deviation above it.

    Returns:
        (n, 6): below the middle beyond 0, 2 and 4, then above; 0 for nan.
    """
    away = np.nan_to_num(np.stack([(middle - values) / low, (values - middle) / high], axis=1))
    away = np.clip(away, 0, _MOST_DEVIATIONS)
    found: NDArray[np.float64] = np.maximum(away[:, :, None] - HINGES, 0).reshape(len(values), -1)
    return found
