"""Corruptions: each spoils what it says, the same way each time, and leaves the rest alone."""

from __future__ import annotations

import numpy as np
import pytest

from mfsynth.checks import CheckedPair
from mfsynth.evaluation.calibration.corruptions import CORRUPTIONS
from mfsynth.evaluation.calibration.objects import find_object, move_object, rescale_object
from mfsynth.geometry import Intrinsics

SIDE = 96
BY_NAME = {corruption.name: corruption for corruption in CORRUPTIONS}


def table_with_a_box() -> tuple[np.ndarray, np.ndarray]:
    """A tilted plane with a box before it; and where the box is."""
    v, u = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    depth = 1 / (0.4 + 0.006 * v + 0 * u)
    box = np.zeros((SIDE, SIDE), bool)
    box[30:60, 40:65] = True
    depth[box] = 0.8
    return depth.astype(np.float32), box


@pytest.fixture
def pair() -> CheckedPair:
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    camera = Intrinsics.from_vertical_fov(SIDE, SIDE, 60)
    return CheckedPair(rgb, table_with_a_box()[0], intrinsics=camera, text="a box")


def spoilt(name: str, pair: CheckedPair, seed: int = 0) -> CheckedPair:
    other = CheckedPair(pair.rgb, np.full((SIDE, SIDE), 3.0, np.float32), text="a mug")
    return BY_NAME[name].apply(pair, other, np.random.default_rng(seed))


@pytest.mark.parametrize("name", BY_NAME)
def test_a_corruption_spoils_its_field_and_no_other(pair, name):
    before = pair.depth.copy()
    seen = pair.rgb.copy()
    bad = spoilt(name, pair)
    np.testing.assert_array_equal(pair.depth, before)
    np.testing.assert_array_equal(pair.rgb, seen)
    spoils = BY_NAME[name].spoils
    for kept in {"rgb", "depth", "intrinsics", "text"} - {spoils}:
        assert getattr(bad, kept) is getattr(pair, kept)
    if spoils == "depth":
        assert (bad.depth != pair.depth).mean() > 0.01
        assert np.isfinite(bad.depth).all()
        assert (bad.depth >= 0).all()
    elif spoils == "intrinsics":
        assert bad.intrinsics.fx == bad.intrinsics.fy != pair.intrinsics.fx
    elif spoils == "rgb":
        assert bad.rgb.dtype == np.uint8
        assert (bad.rgb != pair.rgb).mean() > 0.5
    else:
        assert bad.text == "a mug"


@pytest.mark.parametrize("name", BY_NAME)
def test_a_corruption_is_a_function_of_its_seed(pair, name):
    one, two = spoilt(name, pair), spoilt(name, pair)
    np.testing.assert_array_equal(one.depth, two.depth)
    np.testing.assert_array_equal(one.rgb, two.rgb)


@pytest.mark.parametrize("name", BY_NAME)
def test_sparse_depth_stays_sparse(pair, name):
    holes = np.random.default_rng(1).random((SIDE, SIDE)) < 0.8
    sparse = CheckedPair(pair.rgb, np.where(holes, np.float32(0), pair.depth))
    bad = spoilt(name, sparse)
    if bad is not None and name not in ("other sample's depth", "blur σ 2 px"):
        assert (bad.depth > 0).mean() < 0.35


def test_shifts_are_pixels_of_the_pair(pair):
    distances = {
        tuple(int(axis) for axis in (rows, columns))
        for seed in range(12)
        for bad in [spoilt("shift 4 px", pair, seed).depth == np.float32(0.8)]
        for rows, columns in [(np.argmax(bad.any(1)) - 30, np.argmax(bad.any(0)) - 40)]
    }
    assert distances == {(4, 0), (-4, 0), (0, 4), (0, -4)}


def test_seams_are_where_blocks_meet(pair):
    ratio = spoilt("seams of 14 px", pair).depth / pair.depth
    steps = np.abs(np.diff(ratio, axis=1)).max(axis=0) > 1e-4
    np.testing.assert_array_equal(np.flatnonzero(steps) + 1, np.arange(14, SIDE, 14))


def test_inverted_depth_has_its_order_turned_within_its_range(pair):
    bad = spoilt("inverted", pair).depth
    order = np.argsort(pair.depth, axis=None)
    assert (np.diff(bad.ravel()[order]) <= 1e-5).all()
    assert (bad.min(), bad.max()) == pytest.approx((pair.depth.min(), pair.depth.max()))


def test_an_object_is_found_by_its_outline():
    depth, box = table_with_a_box()
    found = find_object(depth, np.random.default_rng(0))
    assert (found & box).sum() / (found | box).sum() > 0.9


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_an_object_is_found_in_any_unit(unit):
    depth, box = table_with_a_box()
    found = find_object(depth * np.float32(unit), np.random.default_rng(0))
    assert (found & box).sum() / (found | box).sum() > 0.9


def test_an_object_is_put_at_another_distance_and_nothing_else_is():
    depth, box = table_with_a_box()
    ratio = rescale_object(depth, np.random.default_rng(0)) / depth
    assert np.median(ratio[box]) == pytest.approx(1.3) or np.median(ratio[box]) == pytest.approx(
        1 / 1.3
    )
    assert (ratio[~box] != 1).mean() < 0.02


def test_a_moved_object_leaves_what_is_around_it_in_its_place():
    depth, box = table_with_a_box()
    bad = move_object(depth, np.random.default_rng(0))
    there = bad == np.float32(0.8)
    # A tenth of the image, so that half or more of it stays where it was.
    assert there.sum() == pytest.approx(box.sum(), rel=0.15)
    left = box & ~there
    assert left.sum() > 100
    assert (bad[left] > 1).all()


def test_a_bare_wall_has_no_object():
    wall = np.full((SIDE, SIDE), 2.0, np.float32)
    rng = np.random.default_rng(0)
    assert find_object(wall, rng) is rescale_object(wall, rng) is move_object(wall, rng) is None


@pytest.mark.parametrize(
    ("spoils", "seen", "not_seen"),
    [
        ("depth", ("rgb", "depth"), ("rgb", "text")),
        ("intrinsics", ("depth", "camera"), ("depth", "estimate")),
        ("rgb", ("rgb", "text"), ("rgb", "depth")),
        ("text", ("rgb", "slots"), ("rgb",)),
    ],
)
def test_a_corruption_is_tried_on_checks_that_look_at_what_it_spoils(spoils, seen, not_seen):
    for corruption in (one for one in CORRUPTIONS if one.spoils == spoils):
        assert corruption.seen_by(seen)
        assert not corruption.seen_by(not_seen)


def test_another_prompt_comes_with_its_slots_and_is_another(pair):
    other = CheckedPair(pair.rgb, pair.depth, text="a mug", slots={"shape": ("mug",)})
    bad = BY_NAME["other sample's prompt"].apply(pair, other, np.random.default_rng(0))
    assert (bad.text, bad.slots) == ("a mug", {"shape": ("mug",)})
    for same in (pair, CheckedPair(pair.rgb, pair.depth)):
        assert BY_NAME["other sample's prompt"].apply(pair, same, np.random.default_rng(0)) is None
