from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mfsynth.reports.histogram import HEIGHT, WIDTH, draw_depths, draw_histogram
from mfsynth.shards.run_manifest import ScoreInfo

SCORE = ScoreInfo("score")
SCORES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=40)


@example(accepted=[0.0, 2e-119, 2e-119, 2e-119], rejected=[], score=SCORE)
@example(accepted=[1e6, 1e6 + 2e-10], rejected=[], score=SCORE)
@given(
    accepted=SCORES,
    rejected=SCORES,
    score=st.builds(
        ScoreInfo,
        label=st.just("score"),
        direction=st.sampled_from(["higher", "lower"]),
        limit=st.none() | st.floats(-10, 10),
    ),
)
def test_every_score_is_drawn_inside_the_plot(accepted, rejected, score):
    plot = draw_histogram("s", score, accepted, rejected)
    finite = np.isfinite(accepted + rejected)
    assert plot.abstained == finite.size - finite.sum()
    assert bool(plot.bars) == bool(finite.any())
    for bar in plot.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
        assert 0 < bar.accepted + bar.rejected <= HEIGHT + 1e-6
    for x, _ in plot.ticks:
        assert -1e-6 <= x <= WIDTH + 1e-6
    if plot.bars and score.limit is not None:
        assert 0 <= plot.limit_x <= WIDTH


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40))
def test_bar_heights_are_in_proportion_to_the_counts(scores):
    plot = draw_histogram("s", SCORE, scores, [])
    heights = np.array([bar.accepted for bar in plot.bars])
    counts = heights / HEIGHT * max(int(bar.label.split(": ")[1].split()[0]) for bar in plot.bars)
    assert counts.sum() == pytest.approx(len(scores))


def test_scores_that_fail_the_threshold_are_counted():
    scores = [0.5, 1.5, 2.5, math.nan]
    for direction in ("higher", "lower"):
        assert draw_histogram("s", ScoreInfo("s", direction, limit=1.5), scores, []).failing == 1


def test_accepted_and_rejected_are_told_apart():
    plot = draw_histogram("s", SCORE, [1.0], [2.0])
    assert [(bar.accepted > 0, bar.rejected > 0) for bar in plot.bars] == [
        (True, False),
        (False, True),
    ]


def test_ticks_are_round_numbers():
    plot = draw_histogram("s", SCORE, list(np.linspace(0, 1, 100)), [])
    assert [label for _, label in plot.ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_depths_are_in_metres_or_in_multiples_of_each_maps_median():
    near, far = (np.full((8, 8), depth, np.float32) for depth in (1.0, 3.0))
    far[0] = 0
    metric = draw_depths([(near, True), (far, True)])
    assert metric.unit == "metres"
    assert (metric.maps, metric.valid) == (2, 120 / 128)
    # Each map counts the same, however many of its pixels have a depth.
    assert [bar.accepted for bar in metric.bars] == pytest.approx([HEIGHT, HEIGHT])
    relative = draw_depths([(near, False), (far, True)])
    assert relative.unit.startswith("multiples of the median")
    assert len(relative.bars) == 1
    assert draw_depths([(np.zeros((4, 4), np.float32), True)]) is None
    assert draw_depths([]) is None
