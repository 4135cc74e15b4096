"""No check fails to answer: of what it can't judge it says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest_scenes import make_scene

from mfsynth.checks import Check, CheckedPair, open_checks, run_checks
from mfsynth.checks.registry import BUILT_IN
from mfsynth.geometry import DepthEstimate, EstimateKind, Intrinsics

# Those that ask a network have tests of their own.
CHECKS = open_checks({name: {} for name, kind in BUILT_IN.items() if kind.network is Check.network})
KINDS = [None, *EstimateKind]
# Of any depth and any image there is something to say.
ALWAYS = {"valid_fraction", "clipped", "dark", "contrast", "mean_luma"}


def invalid(depth: np.ndarray) -> np.ndarray:
    return np.zeros_like(depth)


def not_numbers(depth: np.ndarray) -> np.ndarray:
    return np.full_like(depth, np.nan)


def mixed(depth: np.ndarray) -> np.ndarray:
    spoilt = depth.copy()
    spoilt.flat[::3] = np.nan
    spoilt.flat[1::7] = np.inf
    spoilt.flat[2::11] = -1
    return spoilt


def one_pixel(depth: np.ndarray) -> np.ndarray:
    one = np.zeros_like(depth)
    one.flat[depth.size // 2] = 1
    return one


def extreme(depth: np.ndarray) -> np.ndarray:
    return np.where(depth > depth.mean(), np.float32(3e38), np.float32(1e-38))


def estimate_of(depth: np.ndarray, kind: EstimateKind | None) -> DepthEstimate | None:
    if kind is None:
        return None
    valid = np.isfinite(depth) & (depth > 0)
    return DepthEstimate(depth, valid, kind)


def pair_of(rgb: np.ndarray, depth: np.ndarray, kind: EstimateKind | None) -> CheckedPair:
    height, width = depth.shape
    return CheckedPair(
        rgb,
        depth,
        joint_depth=depth,
        estimate=estimate_of(depth, kind),
        intrinsics=Intrinsics.from_vertical_fov(height, width, 55.0),
        text="a red cube",
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spoil", [invalid, not_numbers, one_pixel])
def test_without_depth_nothing_is_said_of_it(spoil, kind):
    rgb, depth = make_scene(64)
    scores = run_checks(pair_of(rgb, spoil(depth), kind), CHECKS.values()).scores
    said = {name for name, score in scores.items() if not math.isnan(score)}
    assert said == {*ALWAYS, "blur"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spoil", [np.asarray, mixed, extreme, np.ones_like])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 2), (16, 16), (64, 64), (20, 90)])
def test_any_size_and_any_values_get_their_scores(shape, spoil, kind):
    rgb, depth = (array[: shape[0], : shape[1]] for array in make_scene(96))
    depth = np.ascontiguousarray(spoil(depth))
    scores = run_checks(pair_of(rgb, depth, kind), CHECKS.values()).scores
    assert len(scores) == sum(len(check.scores) for check in CHECKS.values())
    assert not any(math.isinf(score) for score in scores.values())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("colour", [0, 128, 255])
def test_an_image_of_one_colour_is_told_by_its_contrast(colour):
    _, depth = make_scene(64)
    rgb = np.full((64, 64, 3), colour, np.uint8)
    scores = run_checks(pair_of(rgb, depth, EstimateKind.METRIC_Z), CHECKS.values()).scores
    assert math.isnan(scores["registration"])
    assert math.isnan(scores["blur"])
    assert scores["contrast"] == 0
