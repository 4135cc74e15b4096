"""The fused score: what it learns, and what it never does."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from mfsynth.checks.calibration import Term, fuse, fused
from mfsynth.evaluation.calibration.figures import crossed
from mfsynth.evaluation.calibration.fusing import fit
from mfsynth.evaluation.calibration.scoring import Scored
from mfsynth.evaluation.calibration.splitting import split

NAMES = ("a", "b")


@pytest.fixture
def fitted():
    rng = np.random.default_rng(0)
    clean = rng.normal((10, 0.5), (2, 0.1), (400, 2))
    # One corruption is seen by each score, and nothing by the other.
    low_a, high_b = clean - np.array([8, 0]), clean + np.array([0, 0.4])
    return clean, (low_a, high_b), fit(NAMES, clean, (low_a, high_b))


def test_it_tells_what_each_score_alone_tells(fitted):
    clean, spoilt, model = fitted
    good = fused(NAMES, clean, *model)
    for rows in spoilt:
        bad = fused(NAMES, rows, *model)
        assert (bad[:, None] > good).mean() > 0.97


def test_nothing_speaks_for_a_pair(fitted):
    clean, _, (terms, bias) = fitted
    assert all(weight >= 0 for term in terms for weight in (*term.below, *term.above))
    # At the middle it is as good as can be.
    middle = {term.score: term.middle for term in terms}
    assert fuse(terms, bias, middle) == bias <= fused(NAMES, clean, terms, bias).min()


def test_a_fit_is_the_same_each_time(fitted):
    clean, spoilt, model = fitted
    assert fit(NAMES, clean, spoilt) == model


def test_a_fit_is_the_same_whatever_the_number_of_threads():
    code = (
        "import numpy as np; from mfsynth.evaluation.calibration.fusing import fit;"
        "rng = np.random.default_rng(0); rows = rng.normal(size=(2_000, 13));"
        "print(fit([*map(str, range(13))], rows, [rows + rng.normal(size=13) for _ in range(4)]))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in "12"
    ]
    assert said[0] == said[1]
    assert "Term(" in said[0]


def test_a_score_that_abstains_adds_nothing(fitted):
    terms, bias = fitted[2]
    silent = {"a": math.nan, "b": terms[1].middle}
    assert fuse(terms, bias, silent) == bias
    assert math.isnan(fuse(terms, bias, {"a": math.nan, "b": math.nan}))
    assert math.isnan(fuse(terms, bias, {}))


def test_many_pairs_have_the_scores_that_each_has_alone(fitted):
    _, (rows, _), (terms, bias) = fitted
    rows = rows.copy()
    rows[::3, 1] = np.nan
    rows[::6, 0] = np.nan
    alone = [fuse(terms, bias, dict(zip(NAMES, row, strict=True))) for row in rows]
    # To the bit: a limit that is a pair's own value lets it pass, however it was computed.
    np.testing.assert_array_equal(fused(NAMES, rows, terms, bias), alone)


def test_scores_of_one_value_for_clean_pairs_are_used_and_of_one_value_at_all_are_not():
    clean = np.tile([1.0, 3.0], (50, 1))
    holes = np.tile([0.7, 3.0], (50, 1))
    terms, bias = fit(NAMES, clean, (holes,))
    assert [term.score for term in terms] == ["a"]
    assert fused(NAMES, holes, terms, bias).min() > fused(NAMES, clean, terms, bias).max()


def test_scores_may_have_no_value_at_all():
    nothing = np.full((20, 2), np.nan)
    terms, bias = fit(NAMES, nothing, (nothing,))
    assert terms == ()
    assert np.isnan(fused(NAMES, nothing, terms, bias)).all()


def test_tails_of_two_lengths_have_two_deviations():
    rng = np.random.default_rng(0)
    clean = np.stack([rng.exponential(size=2000), rng.normal(size=2000)], axis=1)
    (skewed, symmetric), _ = fit(NAMES, clean, (clean + 1,))
    assert skewed.high > 2 * skewed.low
    assert symmetric.high == pytest.approx(symmetric.low, rel=0.15)
    assert isinstance(skewed, Term)


def test_halves_of_two_scales_are_as_good_as_of_one(fitted):
    clean, (rows, _), (terms, bias) = fitted
    images = np.arange(len(clean))
    half = split(images, seed=0, parts=2)
    assert half.sum() == len(clean) // 2
    scored = Scored(NAMES, np.ones(2), images, clean, {}, {}, 0)
    tenfold = tuple(
        term.model_copy(
            update={
                "below": tuple(10 * weight for weight in term.below),
                "above": tuple(10 * weight for weight in term.above),
            }
        )
        for term in terms
    )
    rows = rows.copy()
    rows[0] = np.nan
    same, scaled = (
        crossed(scored, rows, (half, ~half), ((terms, bias), other))
        for other in ((terms, bias), (tenfold, 10 * bias + 7))
    )
    np.testing.assert_array_equal(same, scaled)
    good, bad = same
    assert np.isnan(bad[0])
    assert (good[:, None] > bad[1:]).mean() > 0.97


def test_windows_of_an_image_are_in_one_half():
    half = split(np.repeat(np.arange(20), 3), seed=0, parts=2)
    np.testing.assert_array_equal(half[::3], half[1::3])
    assert half.sum() == 30
