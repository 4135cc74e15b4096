"""Checks against what an independent estimator says."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from conftest_scenes import make_scene, moved

from mfsynth.checks import CheckedPair, open_checks, run_checks
from mfsynth.checks.boundary_f1 import RATIOS, boundary_f1
from mfsynth.checks.estimator_agreement import estimator_agreement, relative_error
from mfsynth.checks.normals import normals_angle
from mfsynth.checks.ordinal_agreement import ordinal_agreement
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics

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
    rgb = np.zeros((*depth.shape, 3), np.uint8)
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


def upside_down(depth: np.ndarray) -> DepthEstimate:
    """An estimate whose disparity has the wrong sign."""
    return DepthEstimate(depth - 5, depth > 0, EstimateKind.AFFINE_INVARIANT_DISPARITY)


def deep_scene(farthest: float, side: int = 96) -> np.ndarray:
    """A ramp of which a disparity that is wrong, once fitted, has much beyond infinity."""
    return np.geomspace(1, farthest, side, dtype=np.float32)[:, None].repeat(side, 1)


BEYOND_INFINITY = [
    (make_scene(96)[1], upside_down(make_scene(96)[1])),
    (deep_scene(60), upside_down(deep_scene(60))),
    (inverted(deep_scene(15)), estimate(deep_scene(15), KINDS[-1], noise=0)),
]


@pytest.mark.parametrize(("depth", "seen"), BEYOND_INFINITY)
def test_what_a_fitted_disparity_puts_beyond_infinity_is_a_miss(depth, seen):
    fitted = seen.depth_like(depth)
    beyond = np.isinf(fitted)
    assert beyond.mean() > 0.1
    difference, delta1 = estimator_agreement(depth, seen)
    ratio = depth / fitted
    assert difference == pytest.approx(np.median(np.abs(ratio - 1)))
    assert delta1 == pytest.approx(np.mean((ratio < 1.25) & (ratio > 0.8)))
    assert not verdict("estimator_agreement", depth, seen).accepted
    error, shared = relative_error(depth, seen)
    assert shared.all()
    assert np.all(error[beyond] == 1)
    assert error.max() == 1


def test_a_check_abstains_where_the_estimator_is_silent_and_not_where_it_is_wrong():
    depth = deep_scene(1e5, side=12)
    seen = upside_down(depth)
    assert np.isfinite(seen.depth_like(depth)).sum() < 64
    assert not verdict("estimator_agreement", depth, seen).accepted
    silent = DepthEstimate(seen.values, np.arange(12 * 12).reshape(12, 12) < 63, seen.kind)
    assert np.isnan(estimator_agreement(depth, silent)).all()
    assert relative_error(depth, silent) is None


def test_a_surface_that_a_disparity_puts_beyond_infinity_is_turned_the_wrong_way():
    depth, seen = BEYOND_INFINITY[1]
    assert np.isinf(seen.depth_like(depth)).mean() > 0.5
    camera = Intrinsics.from_vertical_fov(*depth.shape, 45.0)
    assert normals_angle(depth, seen, camera) == pytest.approx(180)


def test_what_a_disparity_puts_at_infinity_has_its_boundary_behind_the_rest():
    depth = deep_scene(4)
    thing = np.s_[30:60, 30:60]
    depth[thing] = 0.5
    values = 1 / depth
    values[thing] = -0.05
    seen = DepthEstimate(values, depth > 0, EstimateKind.AFFINE_INVARIANT_DISPARITY)
    assert np.array_equal(np.isinf(seen.depth_like(depth)), values < 0)
    assert boundary_f1(depth, seen) == 0


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


def test_so_few_pixel_pairs_that_nothing_could_be_said_are_refused():
    _, depth = sloping_scene()
    seen = estimate(depth, EstimateKind.METRIC_Z)
    with pytest.raises(MfsynthError, match=r"checks\.ordinal_agreement\.pixel_pairs"):
        verdict("ordinal_agreement", inverted(depth), seen, pixel_pairs=99)


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
