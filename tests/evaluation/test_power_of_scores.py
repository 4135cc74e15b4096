"""AUC and TPR of scores, with intervals by image."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mfsynth.evaluation.calibration.power import Bootstrap, Draws


def power(clean, spoilt, images=None, applied=None, draws=200):
    clean, spoilt = np.asarray(clean, float), np.asarray(spoilt, float)
    images = np.arange(len(clean)) if images is None else np.asarray(images)
    applied = np.ones(len(clean), bool) if applied is None else np.asarray(applied)
    return Bootstrap(images, draws, seed=0).power(clean, spoilt, applied)


def test_the_auc_is_the_share_of_couples_where_the_clean_one_is_better():
    rng = np.random.default_rng(0)
    clean, spoilt = rng.integers(0, 8, 60), rng.integers(0, 6, 60)
    couples = [(a > b) + (a == b) / 2 for a in clean for b in spoilt]
    assert power(clean, spoilt).auc[0] == pytest.approx(np.mean(couples), abs=1e-6)


SCORE = st.one_of(st.integers(-2, 2).map(float), st.just(float("nan")))


@given(st.lists(st.tuples(SCORE, SCORE, st.integers(0, 2), st.booleans()), min_size=1, max_size=9))
def test_the_auc_of_each_draw_is_that_of_its_couples_however_scores_tie(rows):
    clean, spoilt, images, applied = map(np.array, zip(*rows, strict=True))
    assume(applied.any())
    draws = Bootstrap(images, 20, seed=0)
    found = draws.power(clean, spoilt, applied).auc
    best = [np.where(np.isnan(scores), np.inf, scores) for scores in (clean, spoilt)]
    better = (best[0][:, None] > best[1]) + (best[0][:, None] == best[1]) / 2
    for times, auc in zip(draws._weights, found, strict=True):
        couples = np.outer(times * applied, times * applied)
        if couples.any():
            assert auc == pytest.approx(np.average(better, weights=couples), abs=1e-12)
        else:
            assert np.isnan(auc)


def test_many_pairs_need_no_table_of_all_couples():
    rng = np.random.default_rng(4)
    clean, spoilt = rng.normal(size=(2, 3000))
    tracemalloc.start()
    power(clean, spoilt, draws=20)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 3000**2


def test_the_tpr_is_that_of_the_strictest_limit_that_rejects_few_enough():
    clean = np.arange(100.0)
    # The limit is 5, which rejects the values 0 to 4, and passes 5.
    spoilt = np.where(np.arange(100) < 30, 4.5, 5.0)
    assert power(clean, spoilt).tpr[0] == pytest.approx(0.3)


def test_where_many_clean_pairs_have_the_worst_value_nothing_can_be_rejected():
    clean = np.where(np.arange(100) < 10, 0.0, 1.0)
    assert power(clean, np.zeros(100)).tpr[0] == 0


def test_a_pair_without_a_score_passes():
    nothing = np.full(50, np.nan)
    found = power(np.arange(50.0), nothing)
    assert (found.auc[0], found.tpr[0], found.abstains) == (0, 0, 1)
    assert power(nothing, nothing).auc[0] == 0.5


def test_pairs_that_a_corruption_cannot_be_applied_to_do_not_count():
    clean = np.arange(10.0)
    spoilt = np.where(clean < 5, -1, np.nan)
    assert power(clean, spoilt, applied=clean < 5).auc[0] == 1


def test_what_changes_nothing_has_no_power_however_the_pairs_that_it_is_applied_to_score():
    clean = np.arange(100.0)
    found = power(clean, clean, applied=clean >= 60)
    assert found.auc[0] == 0.5
    # A run's limit doesn't know what can be spoilt.
    assert found.tpr[0] == 0


def test_many_windows_of_an_image_make_an_interval_no_narrower():
    rng = np.random.default_rng(1)
    clean, spoilt = rng.normal(1, 1, 40), rng.normal(0, 1, 40)
    low, high = Draws.interval(power(clean, spoilt).auc)[1:]
    again = power(np.repeat(clean, 5), np.repeat(spoilt, 5), images=np.repeat(np.arange(40), 5))
    by_image = Draws.interval(again.auc)
    assert by_image[1:] == pytest.approx((low, high))
    by_pair = Draws.interval(power(np.repeat(clean, 5), np.repeat(spoilt, 5)).auc)
    assert by_pair[2] - by_pair[1] < 0.6 * (high - low)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    # Of two normal distributions a deviation apart.
    truth, held = 0.7602, 0
    for _ in range(60):
        _, low, high = Draws.interval(power(rng.normal(1, 1, 80), rng.normal(0, 1, 80)).auc)
        held += low <= truth <= high
    assert held >= 52


def test_the_mean_is_of_the_same_draws():
    rng = np.random.default_rng(3)
    clean = rng.normal(size=30)
    found = [power(clean, rng.normal(size=30) - shift) for shift in (0, 1, 2)]
    mean = Draws.mean(found)
    assert mean.auc[0] == pytest.approx(np.mean([one.auc[0] for one in found]))
    spread = np.ptp(Draws.interval(mean.auc)[1:])
    assert spread < np.mean([np.ptp(Draws.interval(one.auc)[1:]) for one in found])
