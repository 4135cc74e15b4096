from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from conftest_scenes import make_scene, moved

from mfsynth.checks import CheckedPair, run_checks, score_names
from mfsynth.config import (
    ChecksConfig,
    FlyingPixelsConfig,
    RegistrationConfig,
    SelfAgreementConfig,
    ValidityConfig,
)

ALL = ChecksConfig(
    validity=ValidityConfig(),
    registration=RegistrationConfig(),
    flying_pixels=FlyingPixelsConfig(),
    self_agreement=SelfAgreementConfig(),
)
NAMES = {
    "valid_fraction",
    "far_fraction",
    "dynamic_range",
    "registration",
    "flying_pixels",
    "self_agreement",
}


def failed(verdict) -> set[str]:
    return {reason.split()[0] for reason in verdict.reasons}


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
    verdict = run_checks(CheckedPair(rgb, depth, depth * 2), ALL)
    assert verdict.accepted
    assert verdict.reasons == ()
    assert set(verdict.scores) == NAMES
    assert all(math.isfinite(score) for score in verdict.scores.values())


@pytest.mark.parametrize("name", sorted(NAMES - {"self_agreement"}))
def test_each_check_can_fail(name):
    rgb, depth = make_scene(224)
    verdict = run_checks(CheckedPair(rgb, spoil(depth, name), None), ALL)
    assert name in failed(verdict)
    assert not verdict.accepted


def test_self_agreement_can_fail():
    rgb, depth = make_scene(224)
    verdict = run_checks(CheckedPair(rgb, depth, 5 - depth), ALL)
    assert failed(verdict) == {"self_agreement"}


def test_all_scores_are_there_however_many_checks_fail():
    rgb, depth = make_scene(224)
    blurred = cv2.GaussianBlur(moved(depth, 14), (0, 0), 2)
    verdict = run_checks(CheckedPair(rgb, blurred, 5 - depth), ALL)
    assert {"registration", "flying_pixels", "self_agreement"} <= failed(verdict)
    assert set(verdict.scores) == NAMES


def test_a_reason_names_the_score_and_its_limit():
    rgb, depth = make_scene(224)
    limit = ChecksConfig(registration=RegistrationConfig(min=99))
    verdict = run_checks(CheckedPair(rgb, depth), limit)
    assert verdict.reasons == (f"registration {verdict.scores['registration']:.2f} < 99.00",)


def test_a_near_miss_is_told_with_enough_digits():
    rgb, depth = make_scene(224)
    score = run_checks(CheckedPair(rgb, depth), ALL).scores["dynamic_range"]
    limit = ChecksConfig(validity=ValidityConfig(min_dynamic_range=score + 0.0004))
    (reason,) = run_checks(CheckedPair(rgb, depth), limit).reasons
    _, told, _, told_limit = reason.split()
    assert float(told) < float(told_limit)


def test_checks_that_are_not_configured_are_not_run():
    rgb, depth = make_scene(64)
    assert run_checks(CheckedPair(rgb, depth), ChecksConfig()).scores == {}
    only = ChecksConfig(flying_pixels=FlyingPixelsConfig())
    assert set(run_checks(CheckedPair(rgb, depth), only).scores) == {"flying_pixels"}


@pytest.mark.parametrize("config", [ALL, ChecksConfig(), ChecksConfig(validity=ValidityConfig())])
def test_the_names_of_the_scores_are_known_beforehand(config):
    pair = CheckedPair(*make_scene(64))
    assert score_names(config) == tuple(run_checks(pair, config).scores)


def test_a_check_that_abstains_does_not_reject():
    rgb, _ = make_scene(64)
    wall = np.full((64, 64), 2.0, np.float32)
    config = ChecksConfig(
        registration=RegistrationConfig(),
        flying_pixels=FlyingPixelsConfig(),
        self_agreement=SelfAgreementConfig(),
    )
    verdict = run_checks(CheckedPair(rgb, wall), config)
    assert verdict.accepted
    assert all(math.isnan(score) for score in verdict.scores.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_values_that_are_no_depth_are_a_reason_and_spoil_no_other_score(value):
    rgb, depth = make_scene(224)
    depth[100, 100] = value
    verdict = run_checks(CheckedPair(rgb, depth, depth), ALL)
    assert verdict.reasons == ("valid_fraction undefined: 1 depths are negative or not finite",)
    assert all(math.isfinite(score) for score in verdict.scores.values())


def test_an_empty_depth_map_is_rejected():
    rgb, _ = make_scene(64)
    verdict = run_checks(CheckedPair(rgb, np.zeros((64, 64), np.float32)), ALL)
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
