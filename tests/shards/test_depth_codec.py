from __future__ import annotations

import math
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mfsynth.shards import codecs
from mfsynth.shards.inflating import inflated
from mfsynth.shards.quantisation import (
    FORMULAS,
    MAX_CODE,
    DepthEncoding,
    DepthScale,
    quantise_depth,
)

# Normal float32 numbers only: below 1.2e-38 float32 itself has no relative precision.
DEPTHS = st.one_of(
    st.just(0.0),
    st.floats(0.5, 20.0, width=32),
    st.floats(float(np.float32(1e-30)), float(np.float32(1e30)), width=32),
)
MAPS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=DEPTHS
)
FLOAT32_ROUNDING = 2.0**-23


def half_a_code(encoding: DepthEncoding) -> float:
    """Bound on |decoded - depth| / depth."""
    if encoding.far == 0.0:
        return 0.0
    if encoding.scale is DepthScale.LINEAR:
        return 0.5 * encoding.unit_per_code / encoding.near
    return math.expm1(0.5 * encoding.unit_per_code)


@given(MAPS)
@settings(max_examples=200, deadline=None)
def test_decoded_depth_is_within_the_stated_relative_error(depth):
    png, encoding = codecs.encode_depth(depth)
    decoded = codecs.decode_depth(png, encoding)
    assert decoded.dtype == np.float32
    assert decoded.shape == depth.shape
    valid = depth > 0
    np.testing.assert_array_equal(decoded > 0, valid)
    error = np.abs(decoded[valid].astype(np.float64) - depth[valid]) / depth[valid]
    assert np.all(error <= half_a_code(encoding) * (1 + 1e-6) + FLOAT32_ROUNDING)


@given(MAPS, st.sampled_from([0.0, -1.0, np.nan, np.inf]))
@settings(max_examples=200, deadline=None)
def test_codes_are_what_the_formulas_say_to_the_last_bit(depth, invalid):
    depth[depth == 0] = invalid
    codes, encoding = quantise_depth(depth)
    valid = np.isfinite(depth) & (depth > 0)
    values = depth[valid].astype(np.float64)
    if encoding.scale is DepthScale.LINEAR:
        exact = values / encoding.unit_per_code
    else:
        exact = 1.0 + (np.log(values) - math.log(encoding.near)) / encoding.unit_per_code
    expected = np.zeros(depth.shape, np.uint16)
    expected[valid] = np.clip(np.rint(exact), 1, MAX_CODE)
    np.testing.assert_array_equal(codes, expected)


@given(MAPS)
@settings(max_examples=100, deadline=None)
def test_the_error_bound_is_small_and_the_scale_follows_the_range(depth):
    _, encoding = quantise_depth(depth)
    if encoding.far == 0:
        assert not depth.any()
        return
    ratio = encoding.far / encoding.near
    assert (encoding.scale is DepthScale.LINEAR) == (ratio <= 64)
    bound = 64 / 131070 if ratio <= 64 else math.expm1(math.log(ratio) / 131068)
    assert half_a_code(encoding) <= bound * (1 + 1e-9)


@given(MAPS)
@settings(max_examples=100, deadline=None)
def test_codes_keep_the_order_of_depths(depth):
    codes, _ = quantise_depth(depth)
    order = np.argsort(depth, axis=None, kind="stable")
    assert np.all(np.diff(codes.ravel()[order].astype(np.int64)) >= 0)


def test_a_stranger_decodes_by_the_formulas_in_the_json():
    depth = np.array([[0.0, 1.0, 2.0], [3.0, 900.0, 5000.0]], np.float32)
    for values in (depth, np.minimum(depth, 3)):
        png, encoding = codecs.encode_depth(values)
        code = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).astype(float)
        names = {
            "code": code,
            "unit_per_code": encoding.unit_per_code,
            "near": encoding.near,
            "exp": np.exp,
        }
        formula = FORMULAS[encoding.scale].split(";")[0].removeprefix("depth = ")
        by_hand = np.where(code > 0, eval(formula, {"__builtins__": {}}, names), 0)
        np.testing.assert_allclose(codecs.decode_depth(png, encoding), by_hand, rtol=1e-6)
        np.testing.assert_allclose(by_hand, values, rtol=5e-4)


def test_nearest_and_farthest_log_depths_are_codes_1_and_65535():
    codes, encoding = quantise_depth(np.array([[0.1, 1.0, 100.0]], np.float32))
    assert encoding.scale is DepthScale.LOG
    assert codes[0, 0] == 1
    assert codes[0, 2] == 65535


def test_a_map_without_a_valid_pixel_survives():
    png, encoding = codecs.encode_depth(np.zeros((3, 5), np.float32))
    assert not codecs.decode_depth(png, encoding).any()


def test_values_that_are_no_depth_become_invalid():
    depth = np.array([[np.nan, np.inf, -1.0, 2.0]], np.float32)
    png, encoding = codecs.encode_depth(depth)
    np.testing.assert_allclose(codecs.decode_depth(png, encoding), [[0, 0, 0, 2]], rtol=1e-5)


def test_equal_depth_gives_equal_bytes():
    depth = np.random.default_rng(0).uniform(1, 5, (40, 30)).astype(np.float32)
    assert codecs.encode_depth(depth) == codecs.encode_depth(depth.copy())


def test_the_png_is_16_bit_grey():
    png, _ = codecs.encode_depth(np.ones((4, 6), np.float32))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (png[24], png[25]) == (16, 0)  # bit depth, colour type of IHDR


@pytest.mark.parametrize("cut", [0, 20, -1])
def test_a_truncated_png_is_refused(cut):
    png, encoding = codecs.encode_depth(np.ones((16, 16), np.float32))
    with pytest.raises(ValueError, match="PNG"):
        codecs.decode_depth(png[:cut], encoding)


def damaged_pngs():
    """Each the first of two files, of which OpenCV alone may be asked."""
    depth = np.random.default_rng(0).uniform(1, 5, (40, 30)).astype(np.float32)
    png, _ = codecs.encode_depth(depth)
    for at in range(8, len(png), 7):
        yield png[:at] + bytes([png[at] ^ 4]) + png[at + 1 :]
    text = png.index(b"IDAT") - 4
    for kind in (b"tEXt", b"tRNS", b"aaAa"):
        chunk = kind + b"\0\1"
        yield png[:text] + b"\0\0\0\2" + chunk + zlib.crc32(chunk).to_bytes(4) + png[text:]
    yield png + b"\0"
    yield png[:text] + png[text + 12 :]


def test_inflating_beforehand_changes_neither_codes_nor_what_is_damaged():
    """A picture of more than one block, and one with whatever may have happened to it."""
    wide, _ = codecs.encode_depth(np.random.default_rng(1).uniform(1, 90, (90, 700)))
    assert len(inflated(wide)) > 90 * 700 * 2
    for png in (wide, *damaged_pngs()):
        alone, ours = (
            cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_UNCHANGED)
            for each in (png, inflated(memoryview(png)))
        )
        assert (alone is None) == (ours is None)
        np.testing.assert_array_equal(alone, ours)


def test_an_8_bit_png_is_refused():
    _, png = cv2.imencode(".png", np.ones((4, 4), np.uint8))
    with pytest.raises(ValueError, match="16-bit"):
        codecs.decode_depth(png.tobytes(), DepthEncoding(DepthScale.LINEAR, 1 / 65535, 1.0, 1.0))


def test_jpeg_is_quality_95_without_chroma_subsampling():
    rows, columns = np.mgrid[:48, :64]
    rgb = np.stack([rows * 4, columns * 3, 255 - rows * 2], axis=-1).astype(np.uint8)
    jpeg = codecs.encode_jpeg(rgb)
    sof = jpeg.index(b"\xff\xc0")
    sampling = [jpeg[sof + 11 + 3 * i] for i in range(3)]
    assert sampling == [0x11] * 3
    assert np.abs(codecs.decode_jpeg(jpeg).astype(int) - rgb).max() <= 6


def test_a_truncated_jpeg_is_refused():
    jpeg = codecs.encode_jpeg(np.full((32, 32, 3), 99, np.uint8))
    with pytest.raises(ValueError, match=r"(?i)jpeg|premature"):
        codecs.decode_jpeg(jpeg[: len(jpeg) // 2])
