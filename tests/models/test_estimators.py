from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from mfsynth.errors import MfsynthError
from mfsynth.models.estimators.embedded import estimate_depth, load_estimator


@pytest.fixture(scope="module")
def model():
    return load_estimator()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_embedded_estimator_comes_with_the_package(model):
    side = model.config.size
    depth = estimate_depth(model, noise(1, side, side, 3))
    assert depth.shape == (1, side, side)
    assert (depth > 0).all()


def test_images_of_any_form_and_size_are_seen_whole_and_their_depth_is_on_their_own_grid(model):
    rgb = noise(2, 90, 120, 3)
    depth = estimate_depth(model, rgb)
    assert depth.shape == (2, 90, 120)
    assert (depth > 0).all()
    np.testing.assert_allclose(np.log(depth).mean(axis=(1, 2)), 0, atol=1e-5)
    tensor = torch.from_numpy(rgb).permute(0, 3, 1, 2) / 255
    for form in ([PIL.Image.fromarray(one) for one in rgb], rgb / 255, tensor):
        assert np.array_equal(estimate_depth(model, form), depth)


def test_what_is_no_image_is_one_line(model):
    with pytest.raises(MfsynthError, match=r"^`rgb` is an array of uint16 .* divide it by 65535"):
        estimate_depth(model, noise(1, 64, 64, 3).astype(np.uint16))
