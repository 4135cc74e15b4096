"""Objects whose mask and image part ways are found and named."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfsynth.checks import CheckedPair, run_checks
from mfsynth.checks.object_depth_error import ObjectDepthError
from mfsynth.geometry import DepthEstimate, EstimateKind

RGB = np.zeros((48, 64, 3), np.uint8)
BOX, BALL = np.s_[16:32, 20:36], np.s_[30:42, 44:56]


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A wall with two things in front of it, and their mask."""
    depth = np.full((48, 64), 2, np.float32)
    mask = np.zeros((48, 64), np.uint16)
    depth[BOX], mask[BOX] = 1, 4
    depth[BALL], mask[BALL] = 1.2, 300
    return depth, mask


def verdict_of(estimated: np.ndarray, mask: np.ndarray | None = None):
    depth, own = scene()
    estimate = DepthEstimate(
        3 * estimated.astype(np.float32), estimated > 0, EstimateKind.SCALE_INVARIANT_Z
    )
    shown = own if mask is None else mask
    pair = CheckedPair(RGB, depth, estimate=estimate, mask=shown, names={4: "red box"})
    return run_checks(pair, [ObjectDepthError()])


def test_what_shows_the_given_depth_has_no_error_and_names_nothing():
    found = verdict_of(scene()[0])
    assert found.accepted
    assert found.scores == pytest.approx(dict.fromkeys(found.scores, 0), abs=1e-6)
    assert found.parted == ()


@pytest.mark.parametrize(("lost", "named"), [(BOX, "4 red box"), (BALL, "300")])
def test_an_object_that_the_image_lacks_is_named_and_turns_the_pair_down(lost, named):
    depth, _ = scene()
    depth[lost] = 2
    found = verdict_of(depth)
    assert found.parted == (named,)
    assert [failure.score for failure in found.failures] == ["depth_error_object"]
    assert found.scores["depth_error_background"] < 0.05


def test_an_object_that_moved_is_named_and_one_that_stands_is_not():
    depth, _ = scene()
    depth[BOX] = 2
    depth[16:32, 28:44] = 1
    assert verdict_of(depth).parted == ("4 red box",)


def test_a_background_that_bends_is_no_fault_of_the_objects():
    depth, mask = scene()
    depth[mask == 0] *= np.linspace(0.3, 1.7, 64)[None].repeat(48, 0)[mask == 0]
    found = verdict_of(depth)
    assert "depth_error_background" in [failure.score for failure in found.failures]
    assert found.scores["depth_error_background"] > found.scores["depth_error_object"]


def test_an_object_that_a_disparity_puts_at_infinity_is_named():
    depth, mask = scene()
    depth *= np.linspace(0.8, 1.5, 64, dtype=np.float32)
    values = np.where(mask == 4, -0.05, 1 / depth).astype(np.float32)
    estimate = DepthEstimate(values, depth > 0, EstimateKind.AFFINE_INVARIANT_DISPARITY)
    pair = CheckedPair(RGB, depth, estimate=estimate, mask=mask, names={4: "red box"})
    found = run_checks(pair, [ObjectDepthError()])
    assert found.parted == ("4 red box",)
    assert found.scores["depth_error_object"] > 0.5


def test_it_abstains_without_mask_estimate_or_pixels():
    depth, mask = scene()
    for pair in (CheckedPair(RGB, depth), CheckedPair(RGB, depth, mask=mask)):
        found = run_checks(pair, [ObjectDepthError()])
        assert found.accepted
        assert all(math.isnan(value) for value in found.scores.values())
    small = np.zeros_like(mask)
    small[0, 0] = 9
    assert math.isnan(verdict_of(depth, small).scores["depth_error_object"])
