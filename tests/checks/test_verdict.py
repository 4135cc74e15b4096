from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
import pytest
from conftest_scenes import make_scene, moved

from mfsynth.checks import (
    Check,
    CheckedPair,
    Failure,
    Score,
    Verdict,
    open_checks,
    run_checks,
)
from mfsynth.config.base import Unset
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics

ALL = {"validity": {}, "registration": {}, "flying_pixels": {}, "self_agreement": {}}
NAMES = (
    "valid_fraction",
    "far_fraction",
    "dynamic_range",
    "registration",
    "flying_pixels",
    "self_agreement",
)


def judge(pair: CheckedPair, checks: Mapping[str, Mapping | None] = ALL) -> Verdict:
    return run_checks(pair, open_checks(checks).values())


def failed(verdict: Verdict) -> set[str]:
    return {failure.score for failure in verdict.failures}


def spoil(depth, name):
    depth = depth.copy()
    if name == "valid_fraction":
        depth[:, : depth.shape[1] * 2 // 3] = 0
    elif name == "far_fraction":
        depth[:20, :20] = 1e4
    elif name == "dynamic_range":
        depth = depth**0.05
    elif name == "registration":
        depth = moved(depth, 14)
    elif name == "flying_pixels":
        depth = cv2.GaussianBlur(depth, (0, 0), 2)
    return depth.astype(np.float32)


def test_a_good_pair_passes_every_check_and_has_every_score():
    rgb, depth = make_scene(224)
    verdict = judge(CheckedPair(rgb, depth, joint_depth=depth * 2))
    assert verdict.accepted
    assert verdict.failures == ()
    assert tuple(verdict.scores) == NAMES
    assert all(math.isfinite(score) for score in verdict.scores.values())


@pytest.mark.parametrize("name", NAMES[:-1])
def test_each_check_can_fail(name):
    rgb, depth = make_scene(224)
    verdict = judge(CheckedPair(rgb, spoil(depth, name)))
    assert name in failed(verdict)
    assert not verdict.accepted


def test_self_agreement_can_fail():
    rgb, depth = make_scene(224)
    verdict = judge(CheckedPair(rgb, depth, joint_depth=5 - depth))
    assert failed(verdict) == {"self_agreement"}


def test_all_scores_are_there_however_many_checks_fail():
    rgb, depth = make_scene(224)
    blurred = cv2.GaussianBlur(moved(depth, 14), (0, 0), 2)
    verdict = judge(CheckedPair(rgb, blurred, joint_depth=5 - depth))
    assert {"registration", "flying_pixels", "self_agreement"} <= failed(verdict)
    assert tuple(verdict.scores) == NAMES


def test_a_failure_is_a_score_its_value_and_its_limit():
    rgb, depth = make_scene(224)
    verdict = judge(CheckedPair(rgb, depth), {"registration": {"min": 99}})
    assert verdict.failures == (Failure("registration", verdict.scores["registration"], 99),)


def test_a_score_at_its_limit_passes():
    rgb, depth = make_scene(224)
    pair = CheckedPair(rgb, depth, joint_depth=depth + rgb[..., 0] / np.float32(2550))
    for score, limit, step in (("registration", "min", 1e-9), ("self_agreement", "max", -1e-9)):
        value = judge(pair).scores[score]
        assert judge(pair, {score: {limit: value}}).accepted
        assert failed(judge(pair, {score: {limit: value + step}})) == {score}


def test_checks_that_are_not_configured_are_not_run():
    rgb, depth = make_scene(64)
    assert judge(CheckedPair(rgb, depth), {}).scores == {}
    only = {"flying_pixels": {}, "validity": None}
    assert set(judge(CheckedPair(rgb, depth), only).scores) == {"flying_pixels"}


@pytest.mark.parametrize("settings", [ALL, {}, {"validity": {}}, dict(reversed(ALL.items()))])
def test_the_scores_and_their_order_are_known_beforehand(settings):
    checks = open_checks(settings)
    names = [score.name for check in checks.values() for score in check.scores]
    assert names == [*run_checks(CheckedPair(*make_scene(64)), checks.values()).scores]
    assert names == [name for name in NAMES if name in names]


def test_a_check_abstains_where_the_pair_lacks_what_it_looks_at():
    class Described(Check):
        inputs = ("text", "intrinsics")
        scores = (Score("described", "described", "higher", "whether it is"),)

        def measure(self, pair):
            return {"described": float(pair.intrinsics.fx > 0 and bool(pair.text))}

    rgb, depth = make_scene(64)
    camera = Intrinsics.from_vertical_fov(64, 64, 55.0)
    for given in ({}, {"text": "a room"}, {"intrinsics": camera}):
        verdict = run_checks(CheckedPair(rgb, depth, **given), [Described()])
        assert verdict.accepted
        assert math.isnan(verdict.scores["described"])
    whole = CheckedPair(rgb, depth, text="a room", intrinsics=camera)
    assert run_checks(whole, [Described()]).scores == {"described": 1.0}


def test_a_check_that_abstains_does_not_reject():
    rgb, _ = make_scene(64)
    wall = np.full((64, 64), 2.0, np.float32)
    verdict = judge(
        CheckedPair(rgb, wall), {"registration": {}, "flying_pixels": {}, "self_agreement": {}}
    )
    assert verdict.accepted
    assert all(math.isnan(score) for score in verdict.scores.values())


def test_a_check_that_abstains_rejects_where_its_settings_say_so():
    rgb, _ = make_scene(64)
    wall = np.full((64, 64), 2.0, np.float32)
    # One has nothing to see in the pair, the other lacks what it looks at.
    for name in ("flying_pixels", "self_agreement"):
        (failure,) = judge(CheckedPair(rgb, wall), {name: {"on_abstain": "reject"}}).failures
        assert failure.score == name
        assert math.isnan(failure.value)
        assert failure.limit == judge_limit(name)


def judge_limit(name: str) -> float | None:
    return open_checks({name: {}})[name].score_infos()[name].limit


def test_a_limit_that_is_unset_lets_every_value_pass():
    class Red(Check):
        min: Unset[float] = None

        inputs = ("rgb",)
        scores = (Score("red", "red", "higher", "mean of red", limit="min"),)

        def measure(self, pair):
            return {"red": float(pair.rgb[..., 0].mean())}

    pair = CheckedPair(*make_scene(64))
    assert Red().score_infos()["red"].limit is None
    assert run_checks(pair, [Red()]).accepted
    assert not run_checks(pair, [Red(min=256.0)]).accepted


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_values_that_are_no_depth_are_a_reason_and_spoil_no_other_score(value):
    rgb, depth = make_scene(224)
    depth[100, 100] = value
    verdict = judge(CheckedPair(rgb, depth, joint_depth=depth))
    (failure,) = verdict.failures
    assert (failure.score, failure.limit) == ("valid_fraction", 0.5)
    assert math.isnan(failure.value)
    assert all(math.isfinite(score) for score in verdict.scores.values())


def test_an_empty_depth_map_is_rejected():
    rgb, _ = make_scene(64)
    verdict = judge(CheckedPair(rgb, np.zeros((64, 64), np.float32)))
    assert failed(verdict) == {"valid_fraction"}


@pytest.mark.parametrize(
    ("rgb", "depth"),
    [
        (np.zeros((4, 4), np.uint8), np.ones((4, 4), np.float32)),
        (np.zeros((4, 4, 3), np.float32), np.ones((4, 4), np.float32)),
        (np.zeros((4, 4, 3), np.uint8), np.ones((4, 5), np.float32)),
        (np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float64)),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(rgb, depth):
    with pytest.raises(ValueError, match="not "):
        CheckedPair(rgb, depth)


def test_other_depth_maps_are_of_the_image_as_well():
    rgb, depth = make_scene(64)
    half = depth[:32]
    estimate = DepthEstimate(half, half > 0, EstimateKind.METRIC_Z)
    for name, other in (("joint_depth", half), ("estimate", estimate)):
        with pytest.raises(ValueError, match=f"{name} is .*not"):
            CheckedPair(rgb, depth, **{name: other})
