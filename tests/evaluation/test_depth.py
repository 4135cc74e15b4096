"""Scores of depth maps, and depth from a pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from mfsynth.config import ModelConfig
from mfsynth.evaluation import image_to_depth, score_depth
from mfsynth.models import load_pipeline


def truth(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2, (16, 16)).astype(np.float32)


def test_a_prediction_that_is_right_up_to_scale_is_perfect():
    score = score_depth([truth(0) * 7, truth(1) / 3], [truth(0), truth(1)])
    assert score.abs_rel == pytest.approx(0, abs=1e-6)
    assert score.delta1 == 1
    assert score.images == 2


def test_pixels_that_a_prediction_leaves_out_count_as_errors_of_one():
    prediction = truth()
    prediction[:4] = 0
    score = score_depth([prediction], [truth()])
    assert score.abs_rel == pytest.approx(0.25)
    assert score.delta1 == pytest.approx(0.75)


def test_pixels_without_ground_truth_do_not_count():
    holes = truth()
    holes[::2] = 0
    prediction = truth()
    prediction[::2] = 99
    assert score_depth([prediction], [holes]).abs_rel == pytest.approx(0, abs=1e-6)


def test_images_weigh_the_same_however_many_pixels_they_have():
    wrong, sparse = truth() ** 2, truth()
    sparse[1:] = 0
    alone = score_depth([wrong], [sparse]).abs_rel
    assert score_depth([wrong, truth()], [sparse, truth()]).abs_rel == pytest.approx(alone / 2)


def test_an_estimate_does_not_depend_on_how_images_are_batched(tiny_model_dir):
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir)), "cpu")
    rgb = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    together = image_to_depth(pipeline, rgb, steps=2, batch_size=3)
    apart = image_to_depth(pipeline, rgb, steps=2, batch_size=2)
    assert together.shape == (3, 32, 32)
    np.testing.assert_allclose(together, apart, rtol=1e-3)
