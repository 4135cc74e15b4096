from __future__ import annotations

import numpy as np
import pytest

from mfsynth.geometry.resizing import resize_depth, resize_image


def test_the_right_size_is_left_as_it_is():
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    depth = np.array([[0, 1.5], [2.5, 3]], np.float32)
    np.testing.assert_array_equal(resize_image(rgb, 6, 8), rgb)
    np.testing.assert_array_equal(resize_depth(depth, 2, 2), depth)


def test_a_smaller_image_has_the_means_of_areas_of_the_whole_field_of_view():
    rgb = np.zeros((4, 8, 3), np.uint8)
    rgb[:2, :4] = 40
    rgb[::2, 4:] = 100
    np.testing.assert_array_equal(resize_image(rgb, 2, 2)[..., 0], [[40, 50], [0, 50]])


@pytest.mark.parametrize("turned", [False, True])
def test_a_side_that_shrinks_has_means_of_areas_though_the_other_grows(turned):
    fine = np.tile(np.array([0, 0, 0, 240], np.uint8), (6, 20))
    resized = {
        "image": lambda pixels, *size: resize_image(pixels[..., None].repeat(3, 2), *size)[..., 0],
        "depth": lambda pixels, *size: resize_depth(pixels.astype(np.float32) + 1, *size) - 1,
    }
    for name, resize in resized.items():
        made = resize(fine.T, 20, 9).T if turned else resize(fine, 9, 20)
        np.testing.assert_array_equal(made, np.full((9, 20), 60), name)


def test_depth_between_pixels_is_linear():
    ramp = np.tile(np.arange(1, 5, dtype=np.float32), (4, 1))
    larger = resize_depth(ramp, 8, 8)
    np.testing.assert_allclose(larger[3], [1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4])
    np.testing.assert_allclose(resize_depth(ramp, 2, 2), [[1.5, 3.5], [1.5, 3.5]])


def test_invalid_pixels_do_not_blend_with_their_neighbours():
    depth = np.full((4, 4), 7, np.float32)
    depth[:2, :2] = 0
    larger = resize_depth(depth, 8, 8)
    assert (larger[:4, :4] == 0).all()
    larger[:4, :4] = 7
    np.testing.assert_array_equal(larger, np.full((8, 8), 7))
    np.testing.assert_array_equal(
        resize_depth(np.zeros((4, 4), np.float32), 2, 8), np.zeros((2, 8))
    )
