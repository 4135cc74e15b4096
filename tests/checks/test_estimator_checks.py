"""Checks against what an independent estimator says."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from conftest_scenes import make_scene, moved

from mfsynth.checks import CheckedPair, open_checks, run_checks
from mfsynth.checks.boundary_f1 import RATIOS, boundary_f1
from mfsynth.checks.estimator_agreement import estimator_agreement
from mfsynth.checks.ordinal_agreement import ordinal_agreement
from mfsynth.geometry import DepthEstimate, EstimateKind

KINDS = [*EstimateKind]


def sloping_scene(side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Of more depths than a few, as scenes are."""
    rgb, depth = make_scene(side)
    return rgb, depth + np.linspace(3, 0, side, dtype=np.float32)[:, None]


def estimate(depth: np.ndarray, kind: EstimateKind, noise: float = 0.03) -> DepthEstimate:
    """What an estimator says that is right but for smooth noise, as its kind has it."""
    coarse = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    smooth = cv2.resize(coarse, depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
    valid = depth > 0
    seen = np.where(valid, depth, np.float32(1)) * np.exp(noise * smooth)
    values = 5 / seen - 1 if kind is EstimateKind.AFFINE_INVARIANT_DISPARITY else 0.2 * seen
    return DepthEstimate(values.astype(np.float32), valid, kind)


def inverted(depth: np.ndarray) -> np.ndarray:
    return 1 / (1 / depth.min() + 1 / depth.max() - 1 / depth)


def verdict(name: str, depth: np.ndarray, seen: DepthEstimate, **settings):
    rgb, _ = sloping_scene()
    return run_checks(
        CheckedPair(rgb, depth, estimate=seen), open_checks({name: settings}).values()
    )


NAMES = ["estimator_agreement", "ordinal_agreement"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_good_pair_passes_whatever_the_kind_of_estimate(name, kind):
    _, depth = sloping_scene()
    assert verdict(name, depth, estimate(depth, kind)).accepted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spoil", [inverted, lambda depth: sloping_scene()[1][::-1].copy()])
def test_inverted_and_other_depth_fails_whatever_the_kind(spoil, name, kind):
    _, depth = sloping_scene()
    assert not verdict(name, spoil(depth), estimate(depth, kind)).accepted


@pytest.mark.parametrize("kind", KINDS[:2])
def test_bent_depth_is_seen_by_its_difference_and_not_by_its_order(kind):
    _, depth = sloping_scene()
    seen = estimate(depth, kind, noise=0)
    assert not verdict("estimator_agreement", depth**3, seen).accepted
    assert verdict("ordinal_agreement", depth**3, seen).scores["ordinal_agreement"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_scale_of_depth_changes_nothing(kind):
    _, depth = sloping_scene()
    seen = estimate(depth, kind)
    for score in (estimator_agreement, ordinal_agreement, boundary_f1):
        assert score(depth * np.float32(37), seen) == pytest.approx(score(depth, seen), abs=2e-3)


def test_the_difference_and_delta_1_are_those_of_the_pixels():
    depth = np.full((20, 20), 2.0, np.float32)
    values = depth.copy()
    values[:6] = 1.0  # 30 % of the pixels, so that the scale is that of the others
    seen = DepthEstimate(values, values > 0, EstimateKind.METRIC_Z)
    assert estimator_agreement(depth, seen) == pytest.approx((0, 0.7))
    values = np.where(np.arange(20) % 2, np.float32(2.0), np.float32(2.2))[None].repeat(20, 0)
    difference, delta1 = estimator_agreement(depth, DepthEstimate(values, values > 0, seen.kind))
    assert 0 <= difference <= 0.1
    assert delta1 == 1


def test_pixels_that_either_lacks_do_not_count():
    _, depth = sloping_scene()
    seen = estimate(depth, EstimateKind.METRIC_Z, noise=0)
    holes = depth.copy()
    holes[:20] = 0
    holes[20:30] = np.nan
    assert estimator_agreement(holes, seen) == pytest.approx((0, 1), abs=1e-5)
    assert ordinal_agreement(holes, seen) == 1


def test_an_estimate_of_one_depth_has_no_order_and_no_boundaries():
    _, depth = sloping_scene()
    for kind in KINDS:
        flat = DepthEstimate(np.ones_like(depth), depth > 0, kind)
        assert math.isnan(ordinal_agreement(depth, flat))
        assert math.isnan(boundary_f1(depth, flat))


def test_the_same_boundaries_are_found_and_moved_or_blurred_ones_are_not():
    _, depth = make_scene(96)
    seen = estimate(depth, EstimateKind.SCALE_INVARIANT_Z, noise=0)
    assert boundary_f1(depth, seen) == pytest.approx(1)
    assert boundary_f1(moved(depth, 3), seen) < 0.3
    assert boundary_f1(cv2.GaussianBlur(depth, (0, 0), 3), seen) < 0.3
    assert boundary_f1(np.full_like(depth, 2), seen) == 0
    assert not verdict("boundary_f1", moved(depth, 3), seen, min=0.5).accepted
    assert verdict("boundary_f1", moved(depth, 3), seen).accepted


def test_boundary_f1_is_what_its_formula_says():
    rng = np.random.default_rng(0)
    depth = np.exp(rng.normal(0, 0.15, (30, 40))).astype(np.float32)
    seen = np.exp(np.log(depth) + rng.normal(0, 0.1, depth.shape)).astype(np.float32)

    def boundaries(map_: np.ndarray, ratio: float) -> np.ndarray:
        pairs = ((map_[1:], map_[:-1]), (map_[:-1], map_[1:]))
        pairs += ((map_[:, 1:], map_[:, :-1]), (map_[:, :-1], map_[:, 1:]))
        return np.concatenate([(a / b > ratio).ravel() for a, b in pairs])

    scores = []
    for ratio in RATIOS:
        mine, theirs = boundaries(depth, ratio), boundaries(seen, ratio)
        precision, recall = (np.mean(both) for both in (theirs[mine], mine[theirs]))
        scores.append(2 * precision * recall / (precision + recall))
    found = boundary_f1(depth, DepthEstimate(seen, seen > 0, EstimateKind.METRIC_Z))
    assert found == pytest.approx(np.average(scores, weights=RATIOS), abs=1e-3)
