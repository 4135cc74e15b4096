from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.geometry.colour import INVALID_RGB
from mfsynth.reports import colour_bar, colour_depth, contact_sheet


def decode(png: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), 4)


def test_near_is_warm_far_is_cold_and_invalid_is_grey(depth):
    colours = colour_depth(depth).astype(int)
    red, _, blue = np.moveaxis(colours, 2, 0)
    assert (red - blue)[5, 10] > 100
    assert (blue - red)[-1, -1] > 80
    assert (colours[depth == 0] == INVALID_RGB).all()


@given(scale=st.floats(1e-3, 1e3))
def test_the_unit_of_depth_does_not_change_its_colours(scale):
    depth = np.linspace(1, 3, 600, dtype=np.float32).reshape(20, 30)
    difference = colour_depth(depth * np.float32(scale)).astype(int) - colour_depth(depth)
    assert np.abs(difference).max() <= 8


def test_a_single_depth_is_one_colour_and_no_depth_is_grey():
    assert (
        np.unique(colour_depth(np.full((4, 4), 2, np.float32)).reshape(-1, 3), axis=0).shape[0] == 1
    )
    assert (colour_depth(np.zeros((4, 4), np.float32)) == INVALID_RGB).all()
    assert (colour_depth(np.full((4, 4), np.nan, np.float32)) == INVALID_RGB).all()


def test_the_legend_runs_from_near_to_far():
    bar = colour_bar(256, 2)
    assert bar.shape == (2, 256, 3)
    assert (bar[0, 0] == colour_depth(np.array([[1.0, 2.0]], np.float32))[0, 0]).all()
    assert (bar[0, -1] == colour_depth(np.array([[1.0, 2.0]], np.float32))[0, 1]).all()


def test_a_contact_sheet_shows_whole_rows_of_image_above_depth(depth):
    rgb = np.full((48, 64, 3), (10, 200, 30), np.uint8)
    sheet = decode(contact_sheet([(rgb, depth)] * 7, columns=3, cell=64))
    # Two rows of three: cells of 64, a gap of 2, the pairs of a row set apart by two gaps.
    assert sheet.shape == (2 * (64 + 2 + 64) + 4, 3 * 64 + 2 * 2, 3)
    assert (sheet[32, 32] == (10, 200, 30)).all()
    assert (sheet[0, 0] == 255).all(), "a wide image is centred on white"


def test_fewer_pairs_than_columns_make_a_narrower_sheet(depth):
    rgb = np.zeros((48, 64, 3), np.uint8)
    sheet = decode(contact_sheet([(rgb, depth)] * 2, columns=8, cell=64))
    assert sheet.shape[1] == 2 * 64 + 2


def test_a_contact_sheet_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        contact_sheet([])
