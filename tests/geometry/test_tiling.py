"""Windows cover an image, and depth of tiles becomes one map without their borders."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.geometry import abs_rel, seam_ratio
from mfsynth.geometry.tiling import blend_tiles, tile_windows

SIZE, TILE, OVERLAP = (160, 208), (64, 64), 0.25
WINDOWS = tile_windows(SIZE, TILE, OVERLAP)
sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))
frames = st.tuples(st.integers(16, 100), st.integers(16, 100))


@given(size=sizes, tile=frames, overlap=st.floats(0.1, 0.5))
def test_windows_of_one_size_cover_an_image_and_share_what_was_asked_for(size, tile, overlap):
    windows = tile_windows(size, tile, overlap)
    places = [[(window[axis].start, window[axis].stop) for window in windows] for axis in (0, 1)]
    assert len({*zip(*places, strict=True)}) == len(windows)
    for axis in (0, 1):
        parts = sorted({*places[axis]})
        assert (parts[0][0], parts[-1][1]) == (0, size[axis])
        assert {stop - start for start, stop in parts} == {min(tile[axis], size[axis])}
        for (_, stop), (start, _) in pairwise(parts):
            # They stand at whole pixels.
            assert stop - start >= round(tile[axis] * overlap) - 1
    fits = size[0] <= tile[0] and size[1] <= tile[1]
    assert (len(windows) == 1) == fits


def scene():
    """Depth with texture that a quarter of its pixels can't show, and a wall with an edge."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    fine = 1 + 0.05 * np.sin(rows / 1.5) * np.sin(columns / 1.5)
    return ((1 + rows / 80) * fine * np.where(columns > 120, 2, 1)).astype(np.float32)


def coarsely(depth):
    small = cv2.resize(depth, (SIZE[1] // 4, SIZE[0] // 4), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (SIZE[1], SIZE[0]))


def tiles_of(depth, tilt=0.0, seed=0):
    """Each in a unit of its own, and tilted."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.linspace(-1, 1, side) for side in TILE)
    made = []
    for window in WINDOWS:
        down, across = rng.uniform(-tilt, tilt, 2)
        factor = rng.uniform(0.2, 5) * np.exp(down * rows[:, None] + across * columns)
        made.append((depth[window] * factor).astype(np.float32))
    return made


@pytest.mark.parametrize("tilt", [0.0, 0.1])
def test_tiles_in_units_of_their_own_add_what_is_fine_and_leave_no_seams(tilt):
    depth = scene()
    whole, tiles = coarsely(depth), tiles_of(depth, tilt)
    found = blend_tiles(whole, WINDOWS, tiles, OVERLAP, coarse=8)
    everywhere = np.ones(SIZE, bool)
    assert abs_rel(found, depth, everywhere) < 0.7 * abs_rel(whole, depth, everywhere)
    pasted = np.zeros(SIZE, np.float32)
    for window, tile in zip(WINDOWS, tiles, strict=True):
        pasted[window] = tile
    step = 48
    assert [window[0].start for window in WINDOWS[:: SIZE[1] // step]] == [0, step, 2 * step]
    truth = seam_ratio(depth, step)
    assert seam_ratio(pasted, step) > 3 * truth
    for turned in (1, -1):  # where tiles begin, and where they end
        assert seam_ratio(found[::turned, ::turned], step) == pytest.approx(truth, rel=0.1)


def test_the_unit_is_that_of_the_whole_and_not_of_any_tile():
    depth = scene()
    whole, tiles = coarsely(depth), tiles_of(depth)
    found = blend_tiles(whole, WINDOWS, tiles, OVERLAP, coarse=8)
    others = [tile * np.float32(7) for tile in tiles]
    again = blend_tiles(3 * whole, WINDOWS, others, OVERLAP, coarse=8)
    np.testing.assert_allclose(again, 3 * found, rtol=1e-5)
    assert found.dtype == np.float32


def test_where_no_tile_has_depth_it_is_that_of_the_whole():
    depth = scene()
    whole = coarsely(depth)
    tiles = tiles_of(depth)
    tiles[0][:] = 0
    tiles[-1][-9:, -9:] = 0
    whole[-3:, -3:] = 0
    found = blend_tiles(whole, WINDOWS, tiles, OVERLAP, coarse=8)
    np.testing.assert_array_equal(found[:40, :40], whole[:40, :40])
    np.testing.assert_array_equal(found[-9:, -9:], whole[-9:, -9:])
    assert (found[:-3] > 0).all()
