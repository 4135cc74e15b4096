"""Checks of the image alone: exposure and blur."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from conftest_scenes import make_scene, real_pairs

from mfsynth.checks import CheckedPair, open_checks, run_checks
from mfsynth.checks.blur import blur
from mfsynth.checks.exposure import exposure


def failed(rgb: np.ndarray, name: str) -> set[str]:
    pair = CheckedPair(rgb, np.ones(rgb.shape[:2], np.float32))
    return {
        failure.score for failure in run_checks(pair, open_checks({name: {}}).values()).failures
    }


@pytest.mark.parametrize(
    ("change", "scores"),
    [
        (lambda rgb: rgb, set()),
        (lambda rgb: np.clip(4.0 * rgb, 0, 255), {"clipped"}),
        (lambda rgb: rgb * 0.04, {"dark", "contrast"}),
        (lambda rgb: 100 + rgb * 0.02, {"contrast"}),
    ],
)
def test_images_that_are_burnt_dark_or_flat_fail(change, scores):
    rgb, _ = make_scene(96)
    assert failed(change(rgb).astype(np.uint8), "exposure") == scores


def test_the_scores_of_exposure_are_shares_of_pixels():
    rgb = np.full((10, 10, 3), 128, np.uint8)
    rgb[:3] = 255
    rgb[3:5] = 0
    assert exposure(rgb) == pytest.approx(
        {"clipped": 0.3, "dark": 0.2, "contrast": 1, "mean_luma": 0.3 + 0.5 * 128 / 255}
    )


def test_real_images_pass_and_blurred_ones_fail():
    for rgb, _ in real_pairs(224):
        assert not failed(rgb, "exposure")
        assert not failed(rgb, "blur")
        assert failed(cv2.GaussianBlur(rgb, (0, 0), 4), "blur") == {"blur"}


def test_blur_along_one_axis_is_seen():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    assert blur(noise) < 0.2
    for across, down in ((4, 0.1), (0.1, 4)):
        assert blur(cv2.GaussianBlur(noise, (0, 0), across, sigmaY=down)) > 0.4


def test_contrast_does_not_change_blur():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    rgb = cv2.GaussianBlur(noise, (0, 0), 1)
    assert blur((rgb // 2 + 60).astype(np.uint8)) == pytest.approx(blur(rgb), abs=0.03)


def test_blur_abstains_without_change_or_room():
    assert math.isnan(blur(np.full((64, 64, 3), 90, np.uint8)))
    assert math.isnan(blur(make_scene(64)[0][:8]))
