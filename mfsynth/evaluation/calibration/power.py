"""How well a score tells clean pairs from spoilt ones, with intervals bootstrapped by image.

A score that abstains passes, so it counts as the best there is: a check has no power where it says
nothing. Pairs of one image (its crops, the views of its scene) are drawn together, because they
are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALSE_POSITIVES = 0.05
"""Share of clean pairs that may be rejected where the share of spoilt ones is counted."""

_INTERVAL = 2.5, 97.5


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Figures of one score against one corruption, for all pairs and for each draw of images.

    Attributes:
        auc: (1 + draws,): probability that a clean pair scores better than a spoilt one, of those
            that the corruption can be applied to; ties count half. Of all pairs first; nan where a
            draw has no pair.
        tpr: (1 + draws,): share of spoilt pairs that a limit rejects which rejects 5 % of all clean
            ones, as a run's limit does.
        abstains: Share of spoilt pairs without a score.
    """

    auc: NDArray[np.float64]
    tpr: NDArray[np.float64]
    abstains: float

    @staticmethod
    def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
        """A figure and its interval of 95 %."""
        low, high = np.nanpercentile(values[1:], _INTERVAL)
        return float(values[0]), float(low), float(high)

    @staticmethod
    def mean(figures: Sequence[Draws]) -> Draws:
        """Of figures of the same draws."""
        return Draws(
            np.nanmean([one.auc for one in figures], axis=0),
            np.nanmean([one.tpr for one in figures], axis=0),
            float(np.mean([one.abstains for one in figures])),
        )


class Bootstrap:
    """The same draws of images for all figures.

    Args:
        images: (n,) which image each pair is of.
        draws: How many.
        seed: Of the draws.
    """

    def __init__(self, images: NDArray[np.intp], draws: int, seed: int) -> None:
        _, numbers = np.unique(images, return_inverse=True)
        count = int(numbers.max()) + 1
        drawn = np.random.default_rng([seed, 1]).integers(count, size=(draws, count))
        times = np.stack([np.bincount(row, minlength=count) for row in drawn])
        # The first row is all images, once each.
        self._weights = np.concatenate([np.ones((1, count)), times])[:, numbers].astype(np.float32)

    def power(
        self,
        clean: NDArray[np.float64],
        spoilt: NDArray[np.float64],
        applied: NDArray[np.bool_],
    ) -> Draws:
        """Figures of one score against one corruption.

        Args:
            clean: (n,) of clean pairs, higher is better; nan where it abstains.
            spoilt: (n,) of the same pairs, spoilt.
            applied: (n,) which of them the corruption could be applied to; at least one.
        """
        abstains = float(np.isnan(spoilt[applied]).mean())
        clean, spoilt = (np.where(np.isnan(scores), np.inf, scores) for scores in (clean, spoilt))
        drawn = self._weights[:, applied]
        with np.errstate(invalid="ignore"):
            # Pairs that can be spoilt so may score unlike the others while they are clean.
            auc = _auc(clean[applied], spoilt[applied], drawn, drawn)
            tpr = _tpr(clean, spoilt[applied], self._weights, drawn)
        return Draws(auc, tpr, abstains)


def _auc(
    clean: NDArray[np.float64],
    spoilt: NDArray[np.float64],
    weights: NDArray[np.float32],
    drawn: NDArray[np.float32],
) -> NDArray[np.float64]:
    order = np.argsort(clean)
    ranked, mass = clean[order], weights[:, order].cumsum(axis=1, dtype=np.float64)
    mass = np.pad(mass, ((0, 0), (1, 0)))
    # Of the clean pairs below each spoilt one, and of those up to it: of equal ones half.
    below, up_to = (mass[:, np.searchsorted(ranked, spoilt, side)] for side in ("left", "right"))
    wins = ((mass[:, -1:] - (below + up_to) / 2) * drawn).sum(axis=1)
    return np.asarray(wins / mass[:, -1] / drawn.sum(axis=1), np.float64)


def _tpr(
    clean: NDArray[np.float64],
    spoilt: NDArray[np.float64],
    weights: NDArray[np.float32],
    drawn: NDArray[np.float32],
) -> NDArray[np.float64]:
    order = np.argsort(clean)
    ranked, mass = clean[order], weights[:, order].cumsum(axis=1, dtype=np.float64)
    allowed = FALSE_POSITIVES * mass[:, -1:] + 1e-6
    # The limit passes its own value: what lies before it may be rejected, and all of one value are.
    limits = ranked[np.minimum((mass <= allowed).sum(axis=1), len(ranked) - 1)]
    rejected = (spoilt[None, :] < limits[:, None]) * drawn
    return np.asarray(rejected.sum(axis=1) / drawn.sum(axis=1), np.float64)
