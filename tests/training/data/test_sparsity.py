"""Sparse patterns take valid pixels away, as many as they say, and do nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mfsynth.training.data.sparsity import (
    AtMostPattern,
    ClumpsPattern,
    CornersPattern,
    LidarPattern,
    RandomPointsPattern,
    SensorHolesPattern,
    sparsify,
)

REAL = Path(__file__).parents[2] / "data" / "real_rgbd" / "ycb_posecnn"

shares = st.floats(0, 1)
patterns = st.one_of(
    st.builds(LidarPattern, rings=st.integers(1, 40), dropout=shares, jitter=shares),
    st.builds(RandomPointsPattern, share=st.floats(1e-6, 1)),
    st.builds(CornersPattern, points=st.integers(1, 50), missed=shares),
    st.builds(SensorHolesPattern, baseline=shares, rim=st.floats(0, 0.3), blobs=shares),
    st.builds(AtMostPattern, share=shares),
    st.builds(ClumpsPattern, share=shares, size=st.integers(1, 5)),
)


@st.composite
def pairs(draw):
    shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    depths = st.one_of(st.just(0.0), st.floats(0.125, 1024, width=32))
    depth = draw(arrays(np.float32, shape, elements=depths, fill=st.sampled_from([0.0, 1.5])))
    rgb = draw(arrays(np.uint8, (*shape, 3), fill=st.sampled_from([0, 128, 255])))
    return depth, rgb


def seeded(seed=0):
    return np.random.default_rng(seed)


def wall(size=64):
    """A textureless wall of medium grey, all of it measured."""
    return np.full((size, size), 2.0, np.float32), np.full((size, size, 3), 128, np.uint8)


def real_frame():
    rgb = cv2.imread(str(REAL / "ycb_000001.rgb.jpg"))[..., ::-1]
    depth = cv2.imread(str(REAL / "ycb_000001.depth.png"), cv2.IMREAD_UNCHANGED)
    return (depth / 1000).astype(np.float32), np.ascontiguousarray(rgb)


@given(pairs(), st.lists(patterns, max_size=3), st.integers(0, 5))
def test_what_is_left_is_some_of_the_valid_pixels_unchanged(pair, chain, seed):
    depth, rgb = pair
    before = depth.copy(), rgb.copy()
    result = sparsify(depth, rgb, chain, seeded(seed))
    assert result.dtype == np.float32
    assert np.all((result == depth) | (result == 0))
    np.testing.assert_array_equal(depth, before[0])
    np.testing.assert_array_equal(rgb, before[1])


@given(pairs(), patterns, st.integers(0, 5))
def test_a_seed_decides_everything(pair, pattern, seed):
    first = sparsify(*pair, [pattern], seeded(seed))
    np.testing.assert_array_equal(sparsify(*pair, [pattern], seeded(seed)), first)


@given(pairs(), patterns, st.sampled_from([0.25, 0.5, 2.0, 16.0]))
def test_the_unit_of_depth_decides_nothing(pair, pattern, scale):
    depth, rgb = pair
    kept = sparsify(depth, rgb, [pattern], seeded()) > 0
    scaled = sparsify(depth * np.float32(scale), rgb, [pattern], seeded()) > 0
    np.testing.assert_array_equal(scaled, kept)


@pytest.mark.parametrize(
    "pattern",
    [
        LidarPattern(rings=16),
        RandomPointsPattern(share=0.1),
        CornersPattern(),
        SensorHolesPattern(),
        AtMostPattern(share=0.05),
        ClumpsPattern(share=0.05),
    ],
    ids=lambda pattern: pattern.kind,
)
def test_another_seed_keeps_other_pixels_of_a_real_frame(pattern):
    depth, rgb = real_frame()
    a, b = (sparsify(depth, rgb, [pattern], seeded(seed)) > 0 for seed in (1, 2))
    assert a.any()
    assert b.any()
    assert (a != b).any()


@given(pairs(), shares)
def test_at_most_keeps_all_or_its_share_of_the_image(pair, share):
    depth, rgb = pair
    result = sparsify(depth, rgb, [AtMostPattern(share=share)], seeded())
    assert np.count_nonzero(result) == min(np.count_nonzero(depth), int(share * depth.size))


@given(pairs(), st.floats(1e-6, 1))
def test_random_points_are_the_share_of_the_valid_pixels_and_at_least_one(pair, share):
    depth, rgb = pair
    valid = np.count_nonzero(depth)
    result = sparsify(depth, rgb, [RandomPointsPattern(share=share)], seeded())
    assert np.count_nonzero(result) == min(valid, max(1, round(share * valid)))


def test_random_points_are_spread_evenly():
    depth, rgb = wall(32)
    pattern = RandomPointsPattern(share=0.1)
    counts = sum((sparsify(depth, rgb, [pattern], seeded(i)) > 0).astype(int) for i in range(400))
    assert counts.min() > 15
    assert counts.max() < 75


@given(st.integers(1, 64), st.integers(0, 20), st.floats(10, 120))
def test_a_lidar_ring_has_at_most_one_pixel_a_column(rings, seed, fov):
    depth, rgb = wall()
    pattern = LidarPattern(rings=rings, fov_degrees=fov, dropout=0)
    kept = sparsify(depth, rgb, [pattern], seeded(seed)) > 0
    assert kept.sum(axis=0).max() <= rings


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_lidar_keeps_about_its_rings_less_dropout(dropout):
    depth, rgb = wall(128)
    pattern = LidarPattern(rings=16, dropout=dropout)
    kept = [np.mean(sparsify(depth, rgb, [pattern], seeded(i)) > 0) for i in range(30)]
    assert 0.9 * (1 - dropout) * 16 / 128 < np.mean(kept) <= (1 - dropout + 0.02) * 16 / 128


def test_a_lidar_ring_bends_away_from_the_horizon():
    depth, rgb = wall(256)
    pattern = LidarPattern(rings=4, jitter=0, roll_degrees=0, dropout=0, fov_degrees=60)
    kept = sparsify(depth, rgb, [pattern], seeded(3)) > 0
    centre, side = (np.flatnonzero(kept[:, column]) for column in (128, 40))
    # On a cone of elevation e at azimuth a, y / z = tan(e) / cos(a).
    focal = 128 / np.tan(np.deg2rad(30))
    expected = 127.5 + (centre - 127.5) * np.hypot(1, (40 - 127.5) / focal)
    inside = expected[(expected > 2) & (expected < 253)]
    assert len(inside) >= 2
    assert np.abs(inside - centre[(expected > 2) & (expected < 253)]).max() > 5
    assert np.abs(side[:, None] - inside).min(axis=0).max() <= 1.5


def test_corners_lie_on_the_corners_of_a_square():
    depth, rgb = wall()
    rgb[20:41, 20:41] = 250
    pattern = CornersPattern(missed=0, quality=0.5)
    kept = np.argwhere(sparsify(depth, rgb, [pattern], seeded()))
    assert len(kept) == 4
    for corner in ([20, 20], [20, 40], [40, 20], [40, 40]):
        assert np.abs(kept - corner).max(axis=1).min() <= 1


def test_corners_are_at_most_the_wanted_points_and_none_without_texture():
    depth, rgb = real_frame()
    kept = np.count_nonzero(sparsify(depth, rgb, [CornersPattern(points=40)], seeded()))
    assert 20 <= kept <= 40
    assert not sparsify(*wall(), [CornersPattern()], seeded()).any()


@given(pairs(), shares)
def test_sensor_holes_take_at_least_the_blobs(pair, blobs):
    depth, rgb = pair
    result = sparsify(depth, rgb, [SensorHolesPattern(blobs=blobs)], seeded())
    assert np.count_nonzero(result) <= depth.size - round(blobs * depth.size)


def test_a_grey_wall_has_no_holes_but_blobs_and_a_black_one_nothing_else():
    depth, rgb = wall()
    kept = sparsify(depth, rgb, [SensorHolesPattern(blobs=0.05)], seeded())
    assert np.count_nonzero(kept) == depth.size - round(0.05 * depth.size)
    black = np.zeros_like(rgb)
    assert not sparsify(depth, black, [SensorHolesPattern(dark=0.2)], seeded()).any()


def test_a_box_before_a_wall_casts_a_shadow_on_the_wall_of_the_width_of_its_disparity():
    depth, rgb = wall(100)
    depth[40:60, 40:60] = 1.0
    pattern = SensorHolesPattern(baseline=0.1, rim=0, blobs=0)
    sides = set()
    for seed in range(8):
        lost = np.argwhere(sparsify(depth, rgb, [pattern], seeded(seed)) == 0)
        # Disparities are 10 px on the wall (the median depth) and 20 px on the box.
        assert len(lost) == 20 * 10
        assert set(lost[:, 0]) == set(range(40, 60))
        sides.add((lost[:, 1].min(), lost[:, 1].max()))
    assert sides == {(30, 39), (60, 69)}


def test_rims_highlights_and_the_far_range_are_lost():
    depth, rgb = wall(100)
    depth[:, 50:] = 3.0
    rim = sparsify(depth, rgb, [SensorHolesPattern(baseline=0, rim=0.02, blobs=0)], seeded())
    assert set(np.argwhere(rim == 0)[:, 1]) == {48, 49, 50, 51}

    depth, rgb = wall(100)
    rgb[:10] = 255
    depth[90:] = 7.0
    pattern = SensorHolesPattern(baseline=0, rim=0, blobs=0, bright=0.8)
    assert set(np.argwhere(sparsify(depth, rgb, [pattern], seeded()) == 0)[:, 0]) == {
        *range(10),
        *range(90, 100),
    }


def test_a_pattern_draws_the_same_whatever_stands_before_it():
    depth, rgb = wall()
    points = RandomPointsPattern(share=0.2)
    behind_lidar, behind_nothing_random = (
        sparsify(depth, rgb, [first, points], seeded())
        for first in (LidarPattern(rings=1, dropout=0), AtMostPattern(share=1))
    )
    assert np.count_nonzero(behind_lidar) > 0
    alone = sparsify(depth, rgb, [AtMostPattern(share=1), points], seeded())
    np.testing.assert_array_equal(behind_nothing_random, alone)


def test_lidar_and_a_cap_keep_five_per_cent():
    depth, rgb = real_frame()
    chain = [LidarPattern(rings=64), AtMostPattern(share=0.05)]
    assert np.count_nonzero(sparsify(depth, rgb, chain, seeded())) == int(0.05 * depth.size)


@given(pairs(), shares, st.integers(1, 5))
def test_clumps_keep_their_share_of_the_image_but_for_part_of_one(pair, share, size):
    depth, rgb = pair
    result = sparsify(depth, rgb, [ClumpsPattern(share=share, size=size)], seeded())
    most = min(np.count_nonzero(depth), int(share * depth.size))
    assert most - size**2 < np.count_nonzero(result) <= most


def neighbours(depth):
    """How many pairs of neighbouring valid pixels there are below, and beside each other."""
    valid = depth > 0
    return np.array([(valid[1:] & valid[:-1]).sum(), (valid[:, 1:] & valid[:, :-1]).sum()])


def test_clumps_have_ten_times_the_neighbours_of_scattered_pixels():
    depth, rgb = wall()
    scattered, clumps, larger = (
        np.mean([neighbours(sparsify(depth, rgb, [pattern], seeded(i))) for i in range(20)], axis=0)
        for pattern in (
            AtMostPattern(share=0.05),
            ClumpsPattern(share=0.05),
            ClumpsPattern(share=0.05, size=4),
        )
    )
    assert (scattered < 12).all()
    assert (clumps > 100).all()
    assert (larger > 1.3 * clumps).all()


def test_clumps_lie_across_the_borders_of_any_grid():
    """Seams are at the borders of a model's patches: there, too, differences must be seen."""
    depth, rgb = wall()
    kept = [sparsify(depth, rgb, [ClumpsPattern(share=0.05)], seeded(i)) > 0 for i in range(200)]
    across = np.mean([one[7:-1:8] & one[8::8] for one in kept])
    assert across == pytest.approx(np.mean([one[1:] & one[:-1] for one in kept]), rel=0.1)


def test_three_rings_of_lidar_are_at_most_five_per_cent_in_lines():
    depth, rgb = wall()
    lines = [sparsify(depth, rgb, [LidarPattern(rings=3)], seeded(i)) for i in range(20)]
    assert all(np.count_nonzero(one) <= 0.05 * depth.size for one in lines)
    below, beside = np.mean([neighbours(one) for one in lines], axis=0)
    assert beside > 80
    assert below < 30
