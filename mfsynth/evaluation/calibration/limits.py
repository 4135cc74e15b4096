"""Limits on several scores at once that reject few good pairs, however scores are distributed.

Of n trusted pairs, drawn as good pairs to come are, those that are worst in one score are taken
away, then those of the pairs that are left that are worst in the next score, and so on, k pairs in
all; how many for which score is fixed before anything is looked at. A score's limit is the value of
the last pair that was taken away for it, and rejects what is worse.
These are the statistically equivalent blocks of J. W. Tukey (Non-parametric estimation II, Annals
of Mathematical Statistics 18, 1947, 529-539): whatever the scores, and however they depend on each
other, the probability R that a good pair lies in one of k blocks, which is what all limits together
reject, is distributed as Beta(k, n + 1 - k). So

    P(R <= alpha) = P(Binomial(n, alpha) >= k) >= 1 - delta

for the largest k with P(Binomial(n, alpha) <= k - 1) <= delta. With one score it is the tolerance
limit of S. S. Wilks (Annals of Mathematical Statistics 12, 1941) and what split conformal
prediction holds for most sets of calibration data (V. Vovk, Conditional validity of inductive
conformal predictors, ACML 2012). It costs no factor for the number of scores, as Bonferroni's bound
does, but each score needs a block of its own: k of them at least. What is left over goes to the
first score, which is the one that sees most.

The law is exact where scores have no ties, and an upper bound with them: pairs of equal scores are
in an order that has nothing to do with their scores, and a limit passes its own value. A score that
abstains is the best there is. Where all that are left abstain, a block is spent and the limit
stays.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def blocks(count: int, alpha: float, delta: float) -> int:
    """k: how many pairs may be taken away; 0 where there are too few for any.

    Args:
        count: n.
        alpha: Share of good pairs that may be rejected, in (0, 1).
        delta: Probability that it is more, in (0, 1).
    """
    total = 0.0
    for k in range(count + 1):
        total += _binomial(k, count, alpha)
        if total > delta:
            return k
    return count


def needed(scores: int, alpha: float, delta: float) -> int:
    """The least n for which each of some scores can have a limit."""
    low, high = scores - 1, scores
    while blocks(high, alpha, delta) < scores:
        low, high = high, 2 * high
    # `blocks` never falls as n grows.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if blocks(middle, alpha, delta) >= scores else (middle, high)
    return high


def limits(scores: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The limits on scores; see above.

    Args:
        scores: (n, m): m scores of n pairs, higher is better, the one that sees most first; nan
            where a score abstains.
        count: k, at least m and at most n.

    Returns:
        (m,): a pair passes with every score at its limit or above, or nan; -inf where a score
        always abstained.
    """
    left = np.where(np.isnan(scores), np.inf, scores)
    others = scores.shape[1] - 1
    found = np.full(1 + others, -np.inf)
    for column in (0,) * (count - others) + (*range(1, 1 + others),):
        worst = int(left[:, column].argmin())
        if np.isfinite(left[worst, column]):
            found[column] = left[worst, column]
        left = np.delete(left, worst, axis=0)
    return found


def _binomial(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) = k)."""
    choices = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(choices + k * math.log(p) + (n - k) * math.log1p(-p))
