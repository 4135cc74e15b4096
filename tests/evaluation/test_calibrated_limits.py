"""Limits that reject few good pairs with the probability that they state."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfsynth.evaluation.calibration.limits import blocks, limits, needed

ALPHA, DELTA = 0.1, 0.1


def correlated(rng, pairs):
    """Four scores that depend on each other, with tails of their own."""
    hidden = rng.standard_normal((pairs, 2))
    return np.stack(
        [
            hidden[:, 0],
            np.exp(hidden[:, 0] + hidden[:, 1]),
            -np.abs(hidden[:, 1]),
            rng.standard_cauchy(pairs),
        ],
        axis=1,
    )


def tied(rng, pairs):
    """Scores of few values, as the share of valid pixels has."""
    return np.floor(3 * correlated(rng, pairs)).clip(-2, 2)


def silent(rng, pairs):
    """Scores that abstain often, one of them nearly always."""
    scores = correlated(rng, pairs)
    scores[rng.random(pairs) < 0.3, 0] = np.nan
    scores[rng.random(pairs) < 0.98, 3] = np.nan
    return scores


def shares_rejected(draw, pairs, trials):
    """What the limits of so many pairs reject of good pairs to come, in each of some trials."""
    rng = np.random.default_rng(0)
    to_come = draw(rng, 20_000)
    count = blocks(pairs, ALPHA, DELTA)
    found = np.stack([limits(draw(rng, pairs), count) for _ in range(trials)])
    # A comparison with nan is false: who abstains passes.
    return np.array([(to_come < one).any(axis=1).mean() for one in found]), count


@pytest.mark.parametrize("draw", [correlated, tied, silent])
def test_limits_reject_more_than_alpha_as_seldom_as_they_state(draw):
    trials = 300
    rejected, _ = shares_rejected(draw, 120, trials)
    noise = math.sqrt(DELTA * (1 - DELTA) / trials)
    assert (rejected > ALPHA).mean() < DELTA + 3 * noise


def test_without_ties_the_share_is_as_large_as_the_law_says():
    rejected, count = shares_rejected(correlated, 120, 300)
    # The mean of Beta(k, n + 1 - k), over 300 trials to about 3 %.
    assert rejected.mean() == pytest.approx(count / 121, rel=0.06)


def test_a_score_alone_needs_as_many_pairs_as_wilks_says():
    # The least n with (1 - alpha)^n <= delta.
    assert needed(1, 0.05, 0.05) == math.ceil(math.log(0.05) / math.log(0.95)) == 59
    assert (blocks(58, 0.05, 0.05), blocks(59, 0.05, 0.05)) == (0, 1)


@pytest.mark.parametrize("scores", [1, 6, 20])
def test_the_least_number_of_pairs_is_the_least(scores):
    least = needed(scores, ALPHA, DELTA)
    assert blocks(least, ALPHA, DELTA) >= scores > blocks(least - 1, ALPHA, DELTA)


def test_a_limit_is_the_value_of_the_last_pair_that_was_taken_away_for_it():
    scores = np.array([[1.0, 40.0], [3.0, 10.0], [2.0, 30.0], [4.0, 20.0]])
    # The first pair and the third; of those left the second.
    np.testing.assert_array_equal(limits(scores, 3), [2.0, 10.0])
    # The first and the second.
    np.testing.assert_array_equal(limits(scores, 2), [1.0, 10.0])


def test_a_score_that_always_abstains_has_no_limit():
    scores = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan]])
    np.testing.assert_array_equal(limits(scores, 2), [1.0, -np.inf])
