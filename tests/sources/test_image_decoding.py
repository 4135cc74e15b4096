"""Files are read exactly, or refused by name."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from training_files import codes, image, jpeg, one_line_error, png

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics, pixel_rays
from mfsynth.sources.base import Item
from mfsynth.sources.decoding import decode_depth, decode_rgb
from mfsynth.sources.encoding import Encoding


def depth_of(data, name, codes_per_unit, camera=None):
    encoding = Encoding(codes_per_unit=codes_per_unit, axis=None if camera is None else "ray")
    return decode_depth(data, name, encoding, lambda shape: camera)[0]


def encoded(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def test_images_of_common_kinds_are_read_as_rgb():
    rgb = image(1)
    np.testing.assert_array_equal(decode_rgb(png(rgb), "a", upright=False), rgb)
    webp = encoded(Image.fromarray(rgb), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode_rgb(webp, "a", upright=False), rgb)
    grey = decode_rgb(png(rgb[..., 0]), "a", upright=False)
    np.testing.assert_array_equal(grey, np.repeat(rgb[..., :1], 3, axis=-1))
    palette = encoded(Image.fromarray(rgb).quantize(256), "PNG")
    assert decode_rgb(palette, "a", upright=False).shape == rgb.shape


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "array"])
def test_alpha_goes_where_all_is_opaque_and_transparent_pixels_are_refused(kind):
    rgba = np.dstack([image(0), np.full(image(0).shape[:2], 255, np.uint8)])
    if kind in ("LA", "P"):
        rgba[..., :3] = rgba[..., :1] // 64 * 64

    def stored(pixels):
        if kind == "array":
            return pixels
        picture, stream = Image.fromarray(pixels), io.BytesIO()
        if kind == "P":
            picture = picture.quantize(8, method=Image.Quantize.FASTOCTREE)
        (picture.convert(kind) if kind == "LA" else picture).save(stream, "PNG")
        return stream.getvalue()

    np.testing.assert_allclose(
        decode_rgb(stored(rgba), "a.png", upright=True), rgba[..., :3], atol=1
    )
    rgba[0, 0, 3] = 0
    with one_line_error("a.png: an image with transparent pixels; put it on a background"):
        decode_rgb(stored(rgba), "a.png", upright=True)


def test_codes_become_depth_exactly_and_code_0_is_invalid():
    stored = codes(1)
    depth = depth_of(png(stored), "a", 5000)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, (stored / 5000).astype(np.float32))
    np.testing.assert_array_equal(depth == 0, stored == 0)


def test_distances_along_the_ray_become_z_depth():
    camera = Intrinsics(fx=5.0, fy=4.0, cx=3.0, cy=2.5)
    z = np.full((6, 8), 12.0)
    distances = z * np.linalg.norm(pixel_rays(6, 8, camera), axis=-1)
    stored = png(np.rint(distances * 1000).astype(np.uint16))
    np.testing.assert_allclose(depth_of(stored, "a", 1000, camera), z, rtol=1e-4)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (png(codes(1).astype(np.uint8)), "a PNG that is 8-bit; depth must be a 16-bit greyscale"),
        (png(image(1).astype(np.uint16)), "16-bit with colour"),
        (png(image(1)), "8-bit with colour"),
        (jpeg(image(1)), "not a PNG"),
        (b"", "not a PNG"),
    ],
)
def test_depth_that_is_no_16_bit_greyscale_png_is_refused(data, problem):
    with one_line_error(f"^frame7.png: .*{problem}.*; replace or remove it$"):
        depth_of(data, "frame7.png", 1000)


def test_an_image_of_16_bits_is_refused_instead_of_clipped():
    with one_line_error("^a.png: an image of more than 8 bits"):
        decode_rgb(png(codes(1)), "a.png", upright=False)


# Smooth, as real depth is: in incompressible data the decoder itself finds every flipped bit.
RAMP = np.arange(1, 6001, dtype=np.uint16).reshape(60, 100)
DEPTH_PNG = encoded(Image.fromarray(RAMP), "PNG")
RGB_PNG = encoded(Image.fromarray((RAMP // 25).astype(np.uint8)), "PNG")
RGB_JPEG = jpeg(image(3, 40, 50))


@pytest.mark.parametrize(
    ("whole", "decode"),
    [
        (DEPTH_PNG, lambda data: depth_of(data, "x.png", 1)),
        (RGB_PNG, lambda data: decode_rgb(data, "x.png", upright=False)),
    ],
    ids=["depth", "rgb"],
)
def test_a_damaged_png_is_an_error_or_decodes_to_what_it_was(whole, decode):
    """Every chunk has a checksum."""
    wanted, errors = decode(whole), []
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        for damaged in (whole[:at], bytes(flipped)):
            try:
                np.testing.assert_array_equal(decode(damaged), wanted)
            except MfsynthError as error:
                errors.append(str(error))
    assert len(errors) > 0.9 * 2 * len(whole)
    assert all(error.startswith("x.png: ") and "\n" not in error for error in errors)


@given(st.integers(0, len(RGB_JPEG) - 3))
def test_a_truncated_jpeg_is_an_error(length):
    with one_line_error("^x.jpg: corrupt or not an image"):
        decode_rgb(RGB_JPEG[:length], "x.jpg", upright=True)


def test_the_exif_orientation_turns_an_image_only_where_no_depth_lies_on_its_pixels():
    rgb = image(2)
    picture = Image.fromarray(rgb)
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    data = encoded(picture, "PNG", exif=exif)
    np.testing.assert_array_equal(decode_rgb(data, "a", upright=False), rgb)
    np.testing.assert_array_equal(decode_rgb(data, "a", upright=True), np.rot90(rgb, -1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_an_item_has_no_depth_that_is_no_depth(bad):
    depth = np.ones((6, 8), np.float32)
    depth[2, 3] = bad
    with pytest.raises(ValueError, match="depth has negative or non-finite values"):
        Item(image(1), depth)


def test_png_of_opencv_and_of_pillow_decode_alike():
    stored = codes(5)
    ours = depth_of(encoded(Image.fromarray(stored), "PNG"), "a", 1)
    theirs = cv2.imdecode(np.frombuffer(png(stored), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(ours, theirs)
