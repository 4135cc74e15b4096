"""Whatever form an image or a depth map comes in, it is the same pixels, or one clear line."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mfsynth.errors import MfsynthError
from mfsynth.models.images import Letterbox, read_depth, read_images

sides = st.integers(1, 60)
frames = st.tuples(st.integers(4, 48), st.integers(4, 48))


def pixels(seed: int = 0, *shape: int) -> np.ndarray:
    shape = shape or (1, 6, 8, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def ramp(height: int, width: int) -> np.ndarray:
    return np.linspace(1, 2, height * width, dtype=np.float32).reshape(1, height, width)


@settings(max_examples=40)
@given(seed=st.integers(0, 99), batch=st.integers(1, 3), height=sides, width=sides)
def test_every_form_of_an_image_gives_the_same_pixels(seed, batch, height, width):
    rgb = pixels(seed, batch, height, width, 3)
    channels_first = torch.from_numpy(rgb).permute(0, 3, 1, 2)
    forms = [
        rgb,
        rgb / 255,
        (rgb / 255).astype(np.float32),
        (rgb / 255).astype(np.float16),
        channels_first,
        channels_first / 255,
        list(rgb),
        list(channels_first.double() / 255),
        [PIL.Image.fromarray(one) for one in rgb],
    ]
    for form in forms:
        read = read_images(form, "image")
        assert read.dtype == np.uint8
        assert np.array_equal(read, rgb)
    if batch == 1:
        for one in (rgb[0], channels_first[0], PIL.Image.fromarray(rgb[0])):
            assert np.array_equal(read_images(one, "image"), rgb)


def test_a_view_that_goes_backwards_is_read_as_what_torch_takes():
    rgb, depth = pixels(), ramp(4, 6)
    views = [rgb[..., ::-1], rgb[:, :, ::-1], rgb[:, ::-1]]
    for view in views:
        assert np.array_equal(torch.tensor(read_images(view, "image")), view)
    assert np.array_equal(
        torch.tensor(read_depth(depth[:, ::-1, ::-1], "depth")), depth[:, ::-1, ::-1]
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGBA", "RGBX", "LA"])
def test_pictures_of_up_to_eight_bits_are_read_as_rgb(mode):
    picture = PIL.Image.fromarray(pixels()[0]).convert("L" if mode == "LA" else "RGB")
    picture = picture.convert(mode)
    assert np.array_equal(read_images(picture, "image")[0], np.asarray(picture.convert("RGB")))


def test_a_photograph_is_turned_as_its_camera_was():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    PIL.Image.fromarray(pixels()[0]).save(file, "PNG", exif=exif)
    turned = read_images(PIL.Image.open(file), "image")
    assert np.array_equal(turned[0], np.rot90(pixels()[0], -1))


@given(height=sides, width=sides, hole=st.integers(0, 59))
def test_every_form_of_depth_gives_the_same_map(height, width, hole):
    depth = np.float32(np.random.default_rng(hole).integers(1, 9000, (1, height, width)))
    depth[0, hole % height, hole % width] = 0
    codes = depth.astype(np.uint16)
    tensor = torch.from_numpy(depth)
    forms = [
        depth,
        depth[0],
        depth.astype(np.float64),
        np.where(depth > 0, depth, np.nan),
        codes,
        codes.astype(np.int32),
        tensor,
        tensor[:, None],
        tensor[0].double(),
        [depth[0]],
        PIL.Image.fromarray(depth[0]),
        PIL.Image.fromarray(codes[0]),
        PIL.Image.fromarray(codes[0].astype(np.int32)),
    ]
    for form in forms:
        read = read_depth(form, "depth")
        assert read.dtype == np.float32
        assert np.array_equal(read, depth)


@pytest.mark.parametrize(
    ("read", "what", "problem"),
    [
        (read_images, "photo.png", "of type str; give PIL images, arrays"),
        (read_images, [], "is an empty list"),
        (read_images, [pixels()[0], None], "of type NoneType"),
        (read_images, pixels(0, 6, 8, 3).astype(np.uint16), "uint16 .* divide it by 65535"),
        (read_images, pixels(0, 6, 8, 3).astype(np.int64), "int64 of shape .* floats in"),
        (read_images, pixels(0, 6, 8, 3) > 0, "array of bool"),
        (read_images, np.zeros((6, 8)), r"shape \(6, 8\); give it three channels"),
        (read_images, pixels(0, 6, 8, 4), r"\(6, 8, 4\); put it on a background"),
        (read_images, pixels(0, 3, 6, 8), r"\(3, 6, 8\); its channels .*\(B, H, W, 3\)"),
        (read_images, torch.zeros(6, 8, 3), r"tensor .*\(6, 8, 3\); .*\(B, 3, H, W\)"),
        (read_images, torch.zeros(1, 1, 6, 8), "three channels"),
        (read_images, pixels(0, 1, 1, 6, 8, 3), "three channels"),
        (read_images, pixels() / 1.0, r"values from \d+ to 2\d\d: bring floats to"),
        (read_images, torch.zeros(3, 6, 8) - 1, "float32 tensor .* from -1 to -1"),
        (read_images, np.full((6, 8, 3), np.nan), "not finite"),
        (read_images, np.zeros((0, 8, 3)), "is empty: 8x0 pixels"),
        (read_images, np.zeros((0, 6, 8, 3), np.uint8), "is empty"),
        (read_images, [pixels()[0], pixels()[0, 1:]], "8x5 and 8x6 pixels; give those of one size"),
        (read_images, PIL.Image.new("I;16", (8, 6)), "PIL image of mode I;16, 8x6; convert"),
        (read_images, PIL.Image.new("RGBA", (8, 6)), "transparent pixels: put it on a background"),
        (read_depth, "depth.png", "of type str; give floats"),
        (read_depth, np.zeros((6, 8), np.uint8), "array of uint8 .* 16-bit codes"),
        (read_depth, ramp(6, 8)[None], r"shape \(1, 1, 6, 8\)"),
        (read_depth, torch.zeros(1, 3, 6, 8), r"tensor of shape \(1, 3, 6, 8\)"),
        (read_depth, -ramp(6, 8), "negative or infinite: make them 0"),
        (read_depth, ramp(6, 8) * np.inf, "negative or infinite"),
        (read_depth, ramp(6, 8).astype(np.float64) * 1e300, "negative or infinite"),
        (read_depth, np.full((6, 8), 65535, np.uint16), "code 65535, which marks no depth"),
        (read_depth, [ramp(6, 8)[0], ramp(6, 9)[0]], "8x6 and 9x6"),
        (read_depth, np.zeros((6, 0), np.float32), "is empty: 0x6"),
        (read_depth, PIL.Image.new("RGB", (8, 6)), "mode RGB, 8x6; a picture of depth"),
    ],
)
def test_anything_else_is_one_line_that_says_what_was_given_and_what_to_give(read, what, problem):
    with pytest.raises(MfsynthError, match=f"^`it` .*{problem}") as caught:
        read(what, "it")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_is_one_line():
    file = io.BytesIO()
    PIL.Image.fromarray(pixels(0, 64, 64, 3)).save(file, "JPEG")
    picture = PIL.Image.open(io.BytesIO(file.getvalue()[:-500]))
    with pytest.raises(
        MfsynthError, match=r"^`it` is a PIL image .* that PIL can't read \(.*trunc"
    ):
        read_images(picture, "it")


@given(height=sides, width=sides, frame=frames)
def test_a_letterbox_there_and_back_keeps_grid_proportions_and_depth(height, width, frame):
    ratio = width * frame[0] / (height * frame[1])
    assume(1 / 8 <= ratio <= 8)
    box = Letterbox.fit((height, width), frame, "it")
    rows, columns = ((part.start, part.stop) for part in box.window)
    filled = rows[1] - rows[0], columns[1] - columns[0]
    scale = min(frame[0] / height, frame[1] / width)
    assert filled[0] == frame[0] or filled[1] == frame[1]
    assert abs(filled[0] - max(1, height * scale)) <= 0.5
    assert abs(filled[1] - max(1, width * scale)) <= 0.5
    assert 0 <= (frame[0] - rows[1]) - rows[0] <= 1
    assert 0 <= (frame[1] - columns[1]) - columns[0] <= 1

    rgb = np.full((2, height, width, 3), 77, np.uint8)
    assert (box.frame_images(rgb) == 77).all()
    depth = np.full((2, height, width), 3, np.float32)
    framed = box.frame_depth(depth)
    assert framed.shape == (2, *frame)
    assert (framed > 0).sum() == 2 * filled[0] * filled[1]
    back = box.unframe_depth(torch.from_numpy(framed))
    assert torch.allclose(back, torch.from_numpy(depth))
    assert box.unframe(torch.from_numpy(framed)[:, None]).shape == (2, 1, height, width)


@given(frame=frames)
def test_what_has_the_size_of_the_frame_goes_through_as_it_is(frame):
    box = Letterbox.fit(frame, frame, "it")
    rgb, depth = pixels(0, 1, *frame, 3), ramp(*frame)
    assert box.frame_images(rgb) is rgb
    assert box.frame_depth(depth) is depth
    tensor = torch.from_numpy(depth)
    assert box.unframe_depth(tensor) is tensor
    assert box.unframe(tensor) is tensor


def test_depth_comes_back_where_it_was_and_holes_stay_holes():
    box = Letterbox.fit((24, 48), (32, 32), "it")
    steps = np.full((1, 24, 48), 2, np.float32)
    steps[:, :, 24:] = 5
    steps[:, 6:12, 30:42] = 0
    framed = box.frame_depth(steps)
    assert (framed[:, :8] == 0).all()
    assert (framed[:, 24:] == 0).all()
    back = box.unframe_depth(torch.from_numpy(framed)).numpy()
    assert np.array_equal(back > 0, steps > 0)
    off = np.abs(back - steps) > 1e-6
    # Linear between the pixels of the frame: only those about the edge are mixed.
    assert not off[:, :, :22].any()
    assert not off[:, :, 26:].any()


def test_what_would_fill_little_of_the_frame_is_refused():
    with pytest.raises(MfsynthError, match=r"^`it` has 900x100 pixels and would fill less than"):
        Letterbox.fit((100, 900), (64, 64), "it")
    assert Letterbox.fit((100, 800), (64, 64), "it").window == (slice(28, 36), slice(0, 64))
