"""What moves pixels moves the camera with them, and no depth is invented."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_run

from mfsynth.datasets import ColourJitter, HorizontalFlip, RandomCrop, Resize, RGBDDataset
from mfsynth.errors import MfsynthError


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A pair with a known camera, and a depth that no two pixels share."""
    folder = tmp_path_factory.mktemp("augmentations")
    found = RGBDDataset(tiny_run.make_run(str(folder / "run"), 1).url)[1]
    assert found.intrinsics is not None
    depth = 1 + np.arange(found.depth.size, dtype=np.float32).reshape(found.depth.shape)
    depth[3, 4:9] = 0
    return replace(found, depth=depth, valid=depth > 0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ray(sample, row: float, column: float) -> np.ndarray:
    return np.linalg.inv(sample.intrinsics) @ [column, row, 1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("change", [RandomCrop(10, 14), HorizontalFlip(1.0)])
def test_a_pixel_that_moved_is_seen_along_the_same_ray(sample, change, seed):
    changed = change(sample, rng(seed))
    turned = [-1, 1, 1] if isinstance(change, HorizontalFlip) else [1, 1, 1]
    found = 0
    for row, column in np.ndindex(changed.depth.shape):
        if not changed.valid[row, column]:
            continue
        found += 1
        [place] = np.argwhere(sample.depth == changed.depth[row, column])
        np.testing.assert_allclose(ray(changed, row, column) * turned, ray(sample, *place))
        np.testing.assert_array_equal(changed.rgb[row, column], sample.rgb[tuple(place)])
    assert found > 100
    np.testing.assert_array_equal(changed.valid, changed.depth > 0)


def test_another_size_has_the_same_field_of_view_and_only_depths_that_there_were(sample):
    changed = Resize(48, 40)(sample, rng())
    assert changed.rgb.shape == (48, 40, 3)
    assert {*changed.depth.flat} <= {*sample.depth.flat}
    # The corners of the image, half a pixel outside of the first and the last centres.
    for corner, old in (((-0.5, -0.5), (-0.5, -0.5)), ((47.5, 39.5), (23.5, 31.5))):
        np.testing.assert_allclose(ray(changed, *corner), ray(sample, *old))


def test_colours_change_and_nothing_else(sample):
    changed = ColourJitter()(sample, rng(1))
    assert changed.depth is sample.depth
    assert changed.intrinsics is sample.intrinsics
    assert 0 < np.abs(changed.rgb.astype(int) - sample.rgb).mean() < 60
    same = ColourJitter(0, 0, 0)(sample, rng(1))
    np.testing.assert_allclose(same.rgb, sample.rgb, atol=1)


def test_chance_is_of_the_generator_alone_and_the_given_sample_stays(sample):
    before = sample.rgb.copy(), sample.depth.copy(), sample.intrinsics.copy()
    for change in (RandomCrop(8, 8), HorizontalFlip(), ColourJitter()):
        first, again = (change(sample, rng(7)) for _ in range(2))
        np.testing.assert_array_equal(first.rgb, again.rgb)
        np.testing.assert_array_equal(first.depth, again.depth)
    after = sample.rgb, sample.depth, sample.intrinsics
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_crop_that_is_larger_than_the_sample_is_one_line(sample):
    with pytest.raises(MfsynthError, match="is 32x24, which no crop of 40x10 fits into"):
        RandomCrop(10, 40)(sample, rng())


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (RandomCrop, (0, 8), "whole numbers of rows and columns"),
        (RandomCrop, (8, 8.0), "whole numbers of rows and columns"),
        (Resize, (True, 8), "whole numbers of rows and columns"),
        (HorizontalFlip, (1.5,), "give p from 0 to 1"),
        (HorizontalFlip, ("0.5",), "give p from 0 to 1"),
        (ColourJitter, (0.2, float("nan")), "give contrast from 0 to 1"),
    ],
)
def test_a_change_that_can_not_be_is_one_line(kind, settings, said):
    with pytest.raises(MfsynthError, match=said):
        kind(*settings)
