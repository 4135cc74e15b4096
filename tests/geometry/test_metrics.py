"""Depth metrics: values by hand, and what they don't change under."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mfsynth.geometry import abs_rel, delta, seam_ratio, silog

DEPTHS = st.floats(0.05, 50.0)
MAPS = hnp.arrays(np.float64, 12, elements=DEPTHS)
ALL = np.ones(12, dtype=bool)


def test_abs_rel_by_hand():
    p, g = np.array([1.0, 3.0]), np.array([2.0, 2.0])
    assert abs_rel(p, g, np.ones(2, bool)) == 0.5


def test_delta_by_hand_is_strict_at_the_bound():
    p, g = np.array([1.0, 1.25, 1.2, 1.5]), np.ones(4)
    assert delta(p, g, np.ones(4, bool)) == 0.5
    assert delta(p, g, np.ones(4, bool), k=2) == 1.0


def test_silog_by_hand():
    p, g = np.exp([0.1, 0.3]), np.ones(2)
    assert silog(p, g, np.ones(2, bool)) == pytest.approx(10.0)


@given(MAPS)
def test_a_perfect_prediction_scores_perfectly(g):
    assert (abs_rel(g, g, ALL), delta(g, g, ALL), silog(g, g, ALL)) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("metric", [abs_rel, delta, silog])
@given(p=MAPS, g=MAPS, unit=st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_of_both_maps_does_not_matter(metric, p, g, unit):
    assert metric(unit * p, unit * g, ALL) == pytest.approx(metric(p, g, ALL), abs=1e-9)


@given(MAPS, MAPS, st.floats(0.1, 10))
def test_silog_does_not_see_the_scale_of_the_prediction(p, g, scale):
    assert silog(scale * p, g, ALL) == pytest.approx(silog(p, g, ALL), abs=1e-6)


@pytest.mark.parametrize("metric", [delta, silog])
@given(p=MAPS, g=MAPS)
def test_delta_and_silog_are_symmetric(metric, p, g):
    assert metric(p, g, ALL) == pytest.approx(metric(g, p, ALL), abs=1e-9)


@given(MAPS, MAPS)
def test_delta_grows_with_k(p, g):
    shares = [delta(p, g, ALL, k) for k in (1, 2, 3)]
    assert shares == sorted(shares)


@pytest.mark.parametrize("metric", [abs_rel, delta, silog])
@given(p=MAPS, g=MAPS, order=st.permutations(range(12)))
def test_the_order_of_pixels_does_not_matter(metric, p, g, order):
    assert metric(p[order], g[order], ALL) == pytest.approx(metric(p, g, ALL), abs=1e-9)


@pytest.mark.parametrize("metric", [abs_rel, delta, silog])
def test_invalid_pixels_do_not_count(metric):
    p, g = np.array([1.1, np.nan, 2.0]), np.array([1.0, 3.0, 0.0])
    valid = np.array([True, False, False])
    assert metric(p, g, valid) == metric(p[:1], g[:1], np.ones(1, bool))


def test_a_prediction_that_is_not_positive_fails_delta():
    assert delta(np.array([-1.0, 0.0, 1.0, 1.0]), np.ones(4), np.ones(4, bool)) == 0.5


def test_a_prediction_that_is_not_positive_has_no_silog():
    with pytest.raises(ValueError, match="logarithm"):
        silog(np.array([0.0, 1.0]), np.ones(2), np.ones(2, bool))


def test_delta_of_k_zero_is_refused():
    with pytest.raises(ValueError, match="k must be"):
        delta(np.ones(2), np.ones(2), np.ones(2, bool), k=0)


def test_a_prediction_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        abs_rel(np.array([np.inf]), np.ones(1), np.ones(1, bool))


def steps(across: float, inside: float) -> np.ndarray:
    """A map of 3×4 patches of 8 pixels whose ln depth grows by fixed steps along both axes."""
    rows, columns = (
        np.cumsum(np.where(np.arange(size) % 8 == 0, across, inside)) for size in (24, 32)
    )
    return np.exp(rows[:, None] + columns).astype(np.float32)


@pytest.mark.parametrize(("across", "ratio"), [(0.02, 2.0), (0.01, 1.0), (0.0, 0.0), (-0.03, 3.0)])
def test_seams_are_the_steps_across_borders_over_those_elsewhere(across, ratio):
    assert seam_ratio(steps(across, 0.01), 8) == pytest.approx(ratio, abs=1e-3)


def test_seams_of_another_patch_are_not_seen():
    assert seam_ratio(steps(0.02, 0.01), 5) == pytest.approx(1.0, abs=1e-3)


@given(hnp.arrays(np.float32, (16, 16), elements=st.floats(0.5, 4, width=32)))
def test_seams_do_not_change_with_the_scale_of_depth_or_its_axes(depth):
    found = seam_ratio(depth, 8)
    assert seam_ratio(4 * depth, 8) == pytest.approx(found, rel=1e-6, nan_ok=True)
    assert seam_ratio(depth.T, 8) == pytest.approx(found, rel=1e-6, nan_ok=True)


def test_a_hole_is_no_seam():
    depth = steps(0.02, 0.01)
    depth[7:9, 4:20] = 0
    depth[:, 15] = 0
    assert seam_ratio(depth, 8) == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(
    "depth",
    [np.zeros((16, 16)), np.ones((16, 16)), np.full((8, 8), 2.0), np.eye(16)],
    ids=["invalid", "constant", "one patch", "no neighbours"],
)
def test_a_map_that_says_nothing_of_seams_is_nan(depth):
    assert np.isnan(seam_ratio(depth.astype(np.float32), 8))
