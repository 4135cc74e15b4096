"""The figures that published tables were made with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.evaluation import score_depth
from mfsynth.evaluation.protocols import (
    DIODE,
    ETH3D,
    KITTI_EIGEN,
    NYU_V2,
    PLAIN,
    SCANNET,
    Protocol,
    kitti_benchmark_crop,
)

MARIGOLD = (NYU_V2, KITTI_EIGEN, ETH3D, SCANNET, DIODE)


def depth_map(seed: int = 0, shape: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 5, shape).astype(np.float32)


def test_nyu_counts_its_window_alone():
    rows, columns = np.nonzero(NYU_V2.valid(np.full((480, 640), 2.0)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 470, 41, 600)


def test_kitti_counts_the_eigen_window_of_its_crop():
    rows, columns = np.nonzero(KITTI_EIGEN.valid(np.full((352, 1216), 2.0)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (117, 320, 43, 1171)


@pytest.mark.parametrize(
    ("protocol", "out", "inside"),
    [
        (NYU_V2, [0, 1e-3, 10, 11], [0.002, 9.99]),
        (KITTI_EIGEN, [0, 80, 100], [0.1, 79.9]),
        (ETH3D, [0, np.inf], [0.1, 1000]),
        (SCANNET, [0, 10], [9.9]),
        (DIODE, [0, np.inf], [0.1, 400]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_ground_truth_is_valid_in_the_published_range(protocol: Protocol, out, inside):
    for depths, expected in ((out, False), (inside, True)):
        for depth in depths:
            assert protocol.valid(np.full((352, 1216), depth))[200, 600] == expected


def test_the_kitti_crop_is_the_bottom_centre():
    image = np.arange(375 * 1242).reshape(375, 1242)
    crop = kitti_benchmark_crop(image)
    assert crop.shape == (352, 1216)
    assert crop[0, 0] == image[23, 13]
    assert crop[-1, -1] == image[374, 1228]
    with pytest.raises(ValueError, match="no KITTI crop of 1216x352"):
        kitti_benchmark_crop(image[:300])


@given(scale=st.floats(0.01, 100), shift=st.floats(-0.5, 0.5))
def test_each_alignment_undoes_what_it_leaves_open(scale, shift):
    truth = depth_map()
    predictions = {
        "scale": truth * scale,
        "median": truth * scale,
        "affine": (truth + shift) * scale,
        "disparity": 1 / ((1 / truth + abs(shift)) * scale),
    }
    for alignment, prediction in predictions.items():
        score = score_depth([prediction], [truth], alignment=alignment)
        assert score.alignment == alignment
        assert score.abs_rel < 1e-4
        assert score.delta1 == 1
        assert score.silog < 0.1


def test_scores_are_plain_means_over_images_whatever_their_number_of_pixels():
    truth = depth_map()
    sparse = np.where(np.arange(32) % 8 == 0, truth, 0)
    noise = depth_map(1)
    apart = [score_depth([noise], [one]) for one in (truth, sparse)]
    both = score_depth([noise, noise], [truth, sparse])
    assert both.images == 2
    for name in ("abs_rel", "delta1", "delta2", "delta3", "silog"):
        assert getattr(both, name) == pytest.approx(np.mean([getattr(s, name) for s in apart]))
    assert both.delta1 <= both.delta2 <= both.delta3


def test_aligned_predictions_are_clipped():
    truth = np.full((24, 32), 9.0, np.float32)
    truth[:12] = 3.0
    prediction = truth.copy()
    prediction[0, 0] = 1000.0
    clipped = Protocol("clipped", clip=(1e-3, 10))
    errors = [score_depth([prediction], [truth], p).abs_rel for p in (PLAIN, clipped)]
    assert errors[0] == pytest.approx((1000 - 3) / 3 / truth.size, rel=1e-3)
    assert errors[1] == pytest.approx((10 - 3) / 3 / truth.size, rel=1e-3)


def test_a_pixel_without_a_prediction_is_wholly_wrong():
    truth = depth_map()
    prediction = truth.copy()
    prediction[:6] = 0
    for alignment in ("scale", "affine", "disparity", "median"):
        score = score_depth([prediction], [truth], alignment=alignment)
        assert score.abs_rel == pytest.approx(0.25, abs=1e-3)
        assert score.delta3 == pytest.approx(0.75)


def test_what_a_fitted_disparity_puts_beyond_infinity_is_as_far_as_the_set_goes():
    rng = np.random.default_rng(0)
    truth = np.exp(rng.uniform(0, np.log(9.5), (480, 640)))
    # Too steep where it is far, so that the fitted line goes below 0 there.
    seen = truth**-0.5 * np.where(truth > 7, 0.5, 1)
    valid = SCANNET.valid(truth)
    scale, shift = np.polyfit(seen[valid], 1 / truth[valid], 1)
    disparity = scale * seen + shift
    assert (disparity[valid] <= 0).mean() > 0.05
    aligned = SCANNET.align(1 / seen, truth, valid, "disparity")
    published = (1 / disparity.clip(1e-3)).clip(1e-3, 10)
    np.testing.assert_allclose(aligned, published, rtol=1e-4)
    assert (aligned[disparity <= 0] == 10).all()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_of_a_set_without_metres_disparity_is_fitted_in_any_unit(unit):
    truth = unit * depth_map(shape=(40, 60))
    assert score_depth([3 * truth], [truth], alignment="disparity").abs_rel < 1e-4


def test_a_large_map_is_aligned_on_a_copy_and_scored_in_full():
    truth = depth_map(shape=(40, 60))
    prediction = truth.copy()
    # A copy of half the side has the odd rows and columns.
    prediction[::2] *= 5
    copied = Protocol("copy", solve_side=30)
    assert score_depth([prediction], [truth], copied).abs_rel == pytest.approx(2.0, rel=1e-4)
    assert score_depth([prediction], [truth]).abs_rel == pytest.approx(0.4, rel=1e-4)
    assert ETH3D.solve_side == 1024


def test_names_say_the_protocol():
    assert len({protocol.name for protocol in (PLAIN, *MARIGOLD)}) == 6
    assert score_depth([depth_map()], [depth_map()], SCANNET).protocol == "marigold/scannet"


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="no image"):
        score_depth([], [])


@pytest.mark.parametrize("shape", [(2047, 2048), (1539, 2048), (2048, 2047), (2048, 1)])
def test_a_map_of_any_size_has_a_smaller_copy(shape):
    truth = np.ones(shape, np.float32)
    assert score_depth([2 * truth], [truth], ETH3D).abs_rel == pytest.approx(0, abs=1e-6)
