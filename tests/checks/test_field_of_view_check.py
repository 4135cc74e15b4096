"""The field of view against the one that an estimator sees."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfsynth.checks import CheckedPair, open_checks, run_checks
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics

SIZE = (48, 64)
SIXTY = Intrinsics.from_horizontal_fov(*SIZE, 60.0)


def pair(camera, seen) -> CheckedPair:
    depth = np.ones(SIZE, np.float32)
    estimate = DepthEstimate(depth, depth > 0, EstimateKind.METRIC_Z, intrinsics=seen)
    return CheckedPair(np.zeros((*SIZE, 3), np.uint8), depth, camera, estimate=estimate)


def verdict(found: CheckedPair, **settings):
    return run_checks(found, open_checks({"field_of_view": settings}).values())


@pytest.mark.parametrize("degrees", [40.0, 52.0, 60.0, 75.0])
def test_the_score_is_the_difference_in_degrees_on_either_side(degrees):
    seen = Intrinsics.from_horizontal_fov(*SIZE, degrees)
    for first, second in ((SIXTY, seen), (seen, SIXTY)):
        score = verdict(pair(first, second)).scores["field_of_view"]
        assert score == pytest.approx(abs(degrees - 60))


def test_a_pair_is_rejected_beyond_the_limit():
    seen = Intrinsics.from_horizontal_fov(*SIZE, 52.0)
    assert verdict(pair(SIXTY, seen)).accepted
    (failure,) = verdict(pair(SIXTY, seen), max=5).failures
    assert (failure.score, failure.limit) == ("field_of_view", 5)
    assert failure.value == pytest.approx(8)


def test_the_principal_point_of_an_estimate_counts():
    seen = Intrinsics(SIXTY.fx, SIXTY.fy, 0.0, 0.0)
    width = SIZE[1]
    beside = math.degrees(math.atan2(width - 0.5, SIXTY.fx) + math.atan2(0.5, SIXTY.fx))
    assert verdict(pair(SIXTY, seen)).scores["field_of_view"] == pytest.approx(60 - beside)


def test_it_abstains_where_a_camera_is_not_known():
    for found in (pair(SIXTY, None), pair(None, SIXTY)):
        result = verdict(found, max=0)
        assert result.accepted
        assert math.isnan(result.scores["field_of_view"])
