"""Depth of files means what it says: every encoding comes out in metres, or is refused."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny_run
import yaml
from depth_files import (
    CAMERA,
    HEIGHT,
    WIDTH,
    encoded_maps,
    exr_of,
    hdf5_of,
    mat_of,
    npy_of,
    npz_of,
    pgm_of,
    png_of,
    three_bytes,
    tiff_of,
    z_map,
)
from pydantic import ValidationError
from training_files import image, one_line_error, png, source, write, write_tar

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.rgbd import require_depth
from mfsynth.sources.decoding import decode_depth
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.presets import PRESETS
from mfsynth.sources.registry import source_settings
from mfsynth.training.data import PartSettings

MILLIMETRES = np.rint(z_map() * 1000).astype(np.uint16)
SCALE = {"scale": 0.001}
RAW = {"container": "raw", "size": [8, 6], **SCALE}


def folder(root, data, encoding, name="depth", **more):
    """A folder of one frame."""
    write(root / "rgb.png", png(image(0)))
    write(root / name, data)
    return {
        "kind": "folder",
        "layout": "generic",
        "path": str(root),
        "images": "rgb.png",
        "depths": name,
        "encoding": encoding,
        **more,
    }


def depth_of(root, data, encoding, **more):
    return source(**folder(root, data, encoding, **more))[0].depth


@pytest.mark.parametrize("one", encoded_maps(), ids=lambda one: one.name)
def test_every_encoding_comes_out_in_metres_from_folders_and_tars_alike(tmp_path, one):
    wanted = z_map()
    depth = depth_of(tmp_path, one.data, one.encoding)
    np.testing.assert_array_equal(depth == 0, wanted == 0)
    np.testing.assert_allclose(depth, wanted, rtol=one.tolerance)
    tar = tmp_path / "0.tar"
    write_tar(tar, [("a.png", png(image(0))), ("a.z", one.data)])
    keys = {"image_key": "png", "depth_key": "z", "caption_key": None}
    settings = {"kind": "webdataset", "shards": str(tar), "encoding": one.encoding}
    np.testing.assert_array_equal(source(**settings, **keys)[0].depth, depth)


@pytest.mark.parametrize(
    ("codes", "scale"),
    [
        (np.where(MILLIMETRES > 2000, 65535, MILLIMETRES).astype(np.uint16), 0.001),
        (np.where(MILLIMETRES > 2000, 65535, MILLIMETRES).astype(np.int32), 0.001),
        (np.where(z_map() > 2, 65504, z_map()).astype(np.float16), 1),
        (np.where(z_map() > 2, 1e10, z_map()).astype(np.float32), 1),
        (np.where(z_map() > 2, 65535, z_map()).astype(np.float32), 1),
    ],
    ids=["uint16", "int32", "float16", "blender", "float32"],
)
def test_saturated_codes_are_refused_until_invalid_names_them(tmp_path, codes, scale):
    with one_line_error(
        r"depth: [\d.]+ % of the pixels have the code .* add it to encoding.invalid"
    ):
        depth_of(tmp_path, npy_of(codes), {"scale": scale})
    invalid = [0, float(codes.max())]
    depth = depth_of(tmp_path, npy_of(codes), {"scale": scale, "invalid": invalid})
    assert 0 < depth.max() <= 2.001


def test_the_highest_code_is_that_of_the_bits_a_pgm_says_it_has(tmp_path):
    codes = np.linspace(1, 4094, z_map().size).reshape(z_map().shape).astype(np.uint16)
    codes[0] = 4095
    data = pgm_of(codes).replace(b"65535", b"4095", 1)
    with one_line_error("have the code 4095, as high as there is"):
        depth_of(tmp_path, data, {"scale": 0.001})
    depth = depth_of(tmp_path, data, {"near": 1, "far": 9, "invalid": ["max"]})
    assert not depth[0].any()
    np.testing.assert_allclose(depth[1:], 1 + 8 * codes[1:] / 4095, rtol=1e-6)
    # Not all ones: the highest of this image, of which others have more.
    of_image = data.replace(b"4095", b"4000", 1)
    depth = depth_of(tmp_path, of_image, {"scale": 0.001})
    np.testing.assert_allclose(depth, codes / 1000, rtol=1e-6)


@pytest.mark.parametrize("unit", [{"scale": 1 / 4095}, {"codes_per_unit": 4095.0}])
def test_the_highest_code_is_that_of_a_range_of_so_many(tmp_path, unit):
    codes = np.linspace(1, 4094, z_map().size).reshape(z_map().shape).astype(np.uint16)
    codes[0] = 4095
    encoding = {"quantity": "zbuffer", "near": 1, "far": 9, "invalid": ["max"], **unit}
    depth = depth_of(tmp_path, npy_of(codes), encoding)
    assert not depth[0].any()
    assert depth[1:].all()


def test_a_few_saturated_pixels_are_no_reason_to_refuse():
    from mfsynth.sources.depth_codes import decode_codes

    codes = np.full((100, 100), 1000, np.uint16)
    codes[0, :10] = 65535
    depth, facts = decode_codes(codes, Encoding(scale=0.001), None)
    assert facts.highest_share == 0.001
    assert depth[0, 0] == pytest.approx(65.535)
    codes[0, 10] = 65535
    with pytest.raises(ValueError, match=r"0\.11 % of the pixels"):
        decode_codes(codes, Encoding(scale=0.001), None)


def test_three_saturated_bytes_are_the_sky(tmp_path):
    codes = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    with one_line_error("100 % of the pixels have the code 16777215"):
        depth_of(tmp_path, png_of(codes), {"packing": "bgr24", "scale": 6e-5})


def room(seed=0):
    """Millimetres (60, 80) of a slanted wall with a sensor's noise and holes."""
    random = np.random.default_rng(seed)
    wall = np.add.outer(np.linspace(900, 3000, 60), np.linspace(0, 1500, 80))
    return np.where(random.random(wall.shape) < 0.1, 0, wall + random.normal(0, 15, wall.shape))


def test_bytes_in_the_wrong_order_are_refused_and_the_right_one_is_named():
    whole = room().astype(np.uint32)
    for given, right in (("rgb24", "bgr24"), ("bgr24", "rgb24")):
        shifts = (0, 8, 16) if right == "bgr24" else (16, 8, 0)
        data = png_of(three_bytes(whole, shifts))
        with pytest.raises(MfsynthError, match=f"set encoding.packing: {right}$"):
            decode_depth(data, "d", Encoding(packing=given, scale=0.001))
        depth, _ = decode_depth(data, "d", Encoding(packing=right, scale=0.001))
        np.testing.assert_allclose(depth, whole / 1000, rtol=1e-6)
    swapped = png_of(room().astype(np.uint16).byteswap())
    with pytest.raises(MfsynthError, match=r"set encoding\.byte_order: little$"):
        decode_depth(swapped, "d", Encoding(scale=0.001))
    decode_depth(swapped, "d", Encoding(scale=0.001, byte_order="little"))
    decode_depth(swapped, "d", Encoding(scale=0.001, byte_order="big"))
    decode_depth(png_of(room().astype(np.uint16)), "d", Encoding(scale=0.001))
    # What was drawn of few depths is no proof.
    drawn = np.where(np.indices((60, 80))[1] % 9 < 4, 8000, 10000).astype(np.uint16)
    for codes in (drawn, drawn.byteswap()):
        decode_depth(png_of(codes), "d", Encoding(scale=0.001))


@pytest.mark.parametrize(
    ("data", "encoding", "problem"),
    [
        (png_of(MILLIMETRES.astype(np.uint8)), SCALE, "a PNG that is 8-bit; .*replace or remove"),
        (png(image(1)), SCALE, "8-bit with colour.*set encoding.packing"),
        (png_of(MILLIMETRES), {"packing": "rgb24", **SCALE}, "must be of 8 bits in three channels"),
        (npy_of(MILLIMETRES.astype(np.uint8)), SCALE, "8 bits are too few for depth"),
        (npy_of(image(1)), SCALE, "rows and columns alone, this is uint8 of 6x8x3"),
        (npy_of(z_map()), {"packing": "float16_bits", **SCALE}, "of 16 bits, this is float64"),
        (npy_of(np.array(["a"])), SCALE, "rows and columns alone"),
        (npy_of(np.array([[{}]], object)), SCALE, "corrupt or not an array"),
        (npz_of(a=z_map(), depht=z_map()), SCALE, "2 arrays; set encoding.key.*known: a, depht"),
        (npz_of(a=z_map()), {"key": "b", **SCALE}, "no array 'b'; set encoding.key"),
        (npy_of(z_map())[:-9], SCALE, "corrupt or not an array"),
        (npz_of(a=z_map())[:-40], SCALE, "corrupt or not arrays"),
        (npz_of(a=z_map(), b=z_map()).replace(b"b.npy", b"a.npy"), SCALE, "two arrays of one name"),
        (tiff_of(MILLIMETRES)[:60], SCALE, "corrupt or not a TIFF"),
        (b"P5\n8 6\n65535\n12", SCALE, "corrupt or not a PGM"),
        (b"\x76\x2f\x31\x01....", SCALE, "corrupt or not an EXR"),
        (b"\x89HDF\r\n", SCALE, "corrupt or not HDF5"),
        (b"PIEH....", SCALE, "corrupt or not a .dpt"),
        (b"MATLAB 5.0 MAT-file", SCALE, "corrupt or not MATLAB's"),
        (b"Pf\n8 6\n0\n" + bytes(192), SCALE, "its scale is 0"),
        (b"PF\n1 1\n-1\n" + bytes(12), SCALE, "of three channels"),
        (b"8&6&3&" + bytes(576), SCALE, "of 3 channels"),
        (b"8&6&1&" + bytes(191), SCALE, "truncated: 191 bytes of numbers for 8x6 pixels of 192"),
        (bytes(95), {**RAW, "dtype": "uint16"}, "truncated: 95 bytes of numbers for 8x6"),
        (bytes(98), {**RAW, "dtype": "uint16"}, "longer: 98 bytes of numbers for 8x6"),
        (b"#ROSBAG V2.0", SCALE, "a ROS bag, which is a source of kind recording"),
        (npy_of(z_map()), {"container": "png", **SCALE}, "not a PNG file, which it must be"),
        (npy_of(z_map()), {"byte_order": "little", **SCALE}, "says its byte order itself"),
        (npy_of(-z_map()), {"scale": 1}, "no pixel has valid depth; check encoding"),
        (
            npy_of(z_map()[:3]),
            {"scale": 1},
            "8x3 pixels for the image .* of 8x6; register",
        ),
    ],
)
def test_what_is_no_depth_of_the_encoding_is_one_line(tmp_path, data, encoding, problem):
    with one_line_error(rf"depth: .*{problem}"):
        depth_of(tmp_path, data, encoding)


@pytest.mark.parametrize(
    ("encoding", "problem"),
    [
        ({}, "codes_per_unit is missing; say how many codes"),
        ({"quantity": "inverse_depth"}, "codes_per_unit is missing"),
        ({"scale": 1, "codes_per_unit": 1}, "give one of scale and codes_per_unit"),
        ({"scale": 0}, "scale must not be 0"),
        ({"axis": "ray", **SCALE}, "axis ray needs the camera of the depth maps"),
        (
            {"quantity": "disparity", "baseline": 0.1, **SCALE},
            "disparity needs the camera",
        ),
        ({"quantity": "disparity", **SCALE}, "quantity disparity needs baseline"),
        ({"quantity": "zbuffer"}, "quantity zbuffer needs near"),
        ({"quantity": "log", "near": 1}, "quantity log needs far"),
        ({"near": 1, **SCALE}, "give both near and far"),
        ({"near": 1, "far": 2, **SCALE}, "near and far say what the codes are; leave scale out"),
        ({"baseline": 1, **SCALE}, "baseline is nothing of quantity depth"),
        ({"packing": "kinect_raw", **SCALE}, "kinect_raw makes metres by itself; leave scale out"),
        ({"clip": [2, 1], **SCALE}, "clip is nearest, then farthest"),
        ({"mask": {"file": "m.png"}, **SCALE}, "give at_least or at_most"),
        ({"scale": {"metadata": "depth_scale"}}, "scale is in metadata; say in which file"),
        ({"preset": "carlo"}, "no preset 'carlo'; did you mean carla"),
        ({"preset": "rlbench"}, "codes_per_unit is missing"),
        ({"preset": "realsense"}, "set registration to same if it is aligned, else to to_colour"),
        ({"preset": "d405", "scale": 0.001}, "set registration to same if it is aligned"),
        ({"camera": {"fx": 1.0}, **SCALE}, "give all of fx, fy, cx and cy"),
        ({"camera": {"fov": 60, "file": "k.txt"}, **SCALE}, "by fx, fy, cx and cy, by fov, or by"),
        ({"camera": {**CAMERA, "fx": -7.0}, **SCALE}, "CoppeliaSim's are both negative"),
        ({"scael": 1}, "scael"),
    ],
)
def test_settings_that_leave_open_what_a_code_is_are_refused_before_anything_is_read(
    encoding, problem
):
    settings = {"kind": "folder", "layout": "generic", "path": "p", "images": "*", "depths": "*"}
    with pytest.raises(ValidationError, match=problem):
        source_settings({**settings, "encoding": encoding})


def test_a_unit_is_said_once():
    given = {"kind": "webdataset", "shards": "a.tar", "depth_key": "png", "codes_per_unit": 1000}
    with pytest.raises(ValidationError, match="give one of codes_per_unit and the unit"):
        source_settings({**given, "encoding": SCALE})
    with pytest.raises(ValidationError, match="give one of ray_camera and axis"):
        source_settings({**given, "ray_camera": CAMERA, "encoding": {"axis": "ray"}})
    tum = {"kind": "folder", "layout": "tum", "path": "p"}
    assert source_settings({**tum, "encoding": {"clip": [0.1, 9]}}).stored.codes_per_unit == 5000
    assert source_settings({**tum, "encoding": SCALE}).stored.codes_per_unit is None
    with pytest.raises(ValidationError, match="leave codes_per_unit out"):
        source_settings({**given, "encoding": {"packing": "kinect_raw"}})


def test_what_is_unset_is_no_part_of_what_is_stored():
    plain = source_settings({"kind": "folder", "layout": "tum", "path": "p"})
    assert plain.model_dump().keys() == {
        *("kind", "layout", "path", "captions", "depth", "codes_per_unit", "ray_camera"),
        "max_seconds",
    }
    assert plain.captions.model_dump().keys() == {"constant", "file", "image_key", "caption_key"}
    given = source_settings(
        {"kind": "folder", "layout": "bop", "path": "p", "encoding": {"clip": [0.1, 9]}}
    )
    stored = given.model_dump(mode="json")
    assert stored["encoding"]["invalid"] == [0, 65535]
    assert stored["encoding"]["clip"] == [0.1, 9]
    assert source_settings(stored) == given


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_block_of_settings(name):
    more = {"registration": "same", "near": 0.1, "far": 4.0} if name == "rlbench" else {}
    encoding = Encoding(preset=name, **({"registration": "same"} | more))
    encoding.require_complete()
    assert Encoding(**encoding.model_dump()) == encoding


def test_depth_of_another_camera_is_refused_and_of_the_same_in_other_pixels_is_not(tmp_path):
    other = {**CAMERA, "fx": 4.4, "fy": 4.1}
    given = {"scale": 1, "camera": CAMERA, "depth_camera": other, "registration": "same"}
    with one_line_error(r"another camera than the image's \(focal lengths 4 of 8 pixels and 7"):
        depth_of(tmp_path, npy_of(z_map()), given)
    half = {"fx": 3.5, "fy": 3.25, "cx": 1.45, "cy": 1.05}
    given = {"scale": 1, "camera": CAMERA, "depth_camera": half}
    small = z_map()[::2, ::2]
    depth = depth_of(tmp_path, npy_of(small), given)
    np.testing.assert_allclose(depth, small.repeat(2, 0).repeat(2, 1), rtol=1e-6)
    with one_line_error("registration is same; set same_view if both show"):
        depth_of(tmp_path, npy_of(small), {"scale": 1, "registration": "same"})


def test_rays_of_a_small_map_are_those_of_its_own_pixels(tmp_path):
    camera = {**CAMERA, "fx": 7.0, "fy": 7.0, "cx": 3.5, "cy": 2.5}
    small = np.full((3, 4), 2.0, np.float32)
    depth = depth_of(tmp_path, npy_of(small), {"scale": 1, "axis": "ray", "camera": camera})
    # The corner's middle lies (3, 2) pixels of 7 off the axis.
    assert depth[0, 0] == pytest.approx(2 / np.sqrt(1 + (9 + 4) / 49))


def test_masks_and_confidences_leave_pixels_out(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:] = 255
    confidence = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
    confidence[:, 2:] = 2
    encoding = {
        "scale": 1,
        "mask": {"file": "../m/{name}_mask.npy", "at_least": 1},
        "confidence": {"file": "c.png", "at_least": 1, "at_most": 2},
    }
    write(tmp_path / "m" / "rgb_mask.npy", npy_of(mask))
    (tmp_path / "x").mkdir()
    write(tmp_path / "x" / "c.png", png_of(confidence.repeat(2, 0).repeat(2, 1)))
    depth = depth_of(tmp_path / "x", npy_of(z_map()), encoding)
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[2:, 4:] = True
    np.testing.assert_array_equal(depth > 0, wanted)
    write(tmp_path / "x" / "c.png", png_of(confidence))
    with one_line_error("c.png: of another size than the mask beside it"):
        depth_of(tmp_path / "x", npy_of(z_map()), encoding)
    (tmp_path / "x" / "c.png").unlink()
    with one_line_error("c.png: No such file or directory; encoding names it"):
        depth_of(tmp_path / "x", npy_of(z_map()), encoding)


def bop(root):
    cameras = {
        str(number): {"cam_K": [7.0, 0, 3.4, 0, 6.5, 2.6, 0, 0, 1], "depth_scale": scale}
        for number, scale in ((3, 0.1), (12, 1.0))
    }
    write(root / "000001" / "scene_camera.json", json.dumps(cameras))
    for number, scale in ((3, 0.1), (12, 1.0)):
        codes = np.rint(z_map() * 1000 / scale).astype(np.uint16)
        codes[codes == 0] = 65535
        write(root / "000001" / "rgb" / f"{number:06d}.png", png(image(number)))
        write(root / "000001" / "depth" / f"{number:06d}.png", png_of(codes))
    return {"kind": "folder", "path": str(root)}


def test_a_layout_is_a_preset_and_its_wildcards_and_nothing_else(tmp_path):
    place = bop(tmp_path)
    frames = source(**place, layout="bop")
    generic = source(
        **place,
        layout="generic",
        images="**/rgb/*.png",
        depths="**/depth/*.png",
        encoding={"preset": "bop"},
    )
    assert len(frames) == len(generic) == 2
    for frame, same in zip(frames, generic, strict=True):
        np.testing.assert_allclose(frame.depth, z_map(), rtol=1e-3)
        np.testing.assert_array_equal(frame.depth, same.depth)
        assert frame.intrinsics == same.intrinsics
        assert (frame.intrinsics.fx, frame.intrinsics.cy) == (7.0, 2.6)
        assert frame.camera_from == "../scene_camera.json"
        assert frame.facts.unit == "metres"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{}", r"scene_camera.json: no '3' in it; there: "),
        ('{"3": {"depth_scale": 1}}', "no 'cam_K' under 3; there: depth_scale"),
        ('{"3": {"cam_K": [1, 0, 0, 0, 1, 0, 0, 0, 1]}}', "no 'depth_scale' under 3; there: cam_K"),
        ('{"3": {"cam_K": "x", "depth_scale": 1}}', "3.cam_K is no matrix of numbers"),
        ('{"3": {"cam_K": [1, 2], "depth_scale": 1}}', "a camera's matrix is 3x3, 3x4 or 4x4"),
        (
            '{"3": {"cam_K": [1, 0, 0, 0, 1, 0, 0, 0, 1], "depth_scale": "1"}}',
            "3.depth_scale is no number",
        ),
        ("{", "not valid JSON"),
    ],
)
def test_a_fault_in_metadata_is_told_with_its_place(tmp_path, document, problem):
    place = bop(tmp_path)
    write(tmp_path / "000001" / "scene_camera.json", document)
    with one_line_error(problem):
        source(**place, layout="bop")[0]


@pytest.mark.parametrize("with_unit", [False, True])
def test_shards_of_our_own_are_read_as_their_descriptions_say(tmp_path, with_unit):
    tiny_run.make_run(str(tmp_path / "run"))
    pairs = RGBDDataset(tmp_path / "run")
    keys = {"image_key": "rgb.jpg", "depth_key": "depth.png"}
    settings = {
        "kind": "webdataset",
        "shards": str(tmp_path / "run" / "shards" / "*.tar"),
        "caption_key": "json",
        "caption_field": "prompt",
        "codes_per_unit": 1000 if with_unit else 1,
    }
    opened = source(**settings, **keys)
    assert len(opened) == len(pairs)
    for item, pair in zip(opened, pairs, strict=True):
        np.testing.assert_array_equal(item.depth, pair.depth)
        assert item.text == pair.prompt
        assert item.facts.unit == "relative"


def unpacked(run, folder, *, described):
    import tarfile

    for path in (run / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            tar.extractall(folder, filter="data")
    if not described:
        for path in folder.glob("*.json"):
            path.unlink()
    return {
        "kind": "folder",
        "layout": "generic",
        "path": str(folder),
        "images": "*.rgb.jpg",
        "depths": "*.depth.png",
    }


def test_unpacked_shards_of_our_own_are_known_and_refused_without_their_descriptions(tmp_path):
    tiny_run.make_run(str(tmp_path / "run"))
    pairs = RGBDDataset(tmp_path / "run")
    whole = unpacked(tmp_path / "run", tmp_path / "whole", described=True)
    alone = {**whole, "images": None}
    for settings in (whole, alone):
        for item, pair in zip(source(**settings, codes_per_unit=1000), pairs, strict=True):
            np.testing.assert_array_equal(item.depth, pair.depth)
            assert (item.rgb is None) == (settings is alone)
    bare = unpacked(tmp_path / "run", tmp_path / "bare", described=False)
    for settings in (bare, {**bare, "images": None}):
        with one_line_error(
            "seems to be one of mfsynth's own, whose encoding is in a .json beside"
        ):
            source(**settings, codes_per_unit=1000)[0]
    named = {"invalid": [0, "max"], "codes_per_unit": 1000}
    assert source(**bare, encoding=named)[0].depth.any()
    members = [(path.name, path.read_bytes()) for path in sorted((tmp_path / "bare").iterdir())]
    write_tar(tmp_path / "bare.tar", members)
    keys = {"image_key": "rgb.jpg", "depth_key": "depth.png", "caption_key": None}
    tars = {"kind": "webdataset", "shards": str(tmp_path / "bare.tar"), "codes_per_unit": 1000}
    for more in (keys, {**keys, "image_key": None}):
        with one_line_error("seems to be one of mfsynth's own"):
            source(**tars, **more)[0]


@pytest.mark.parametrize(
    "bad",
    [
        {"depth": {"encoding": "cubic", "unit_per_code": 1}},
        {
            "depth": {
                "encoding": "log",
                "unit_per_code": -1,
                "near": 1,
                "far": 2,
                "kind": "metric_z",
            }
        },
        {"depth": {"encoding": "log", "unit_per_code": 1}},
    ],
)
def test_a_description_that_is_none_is_told(tmp_path, bad):
    members = [
        ("a.rgb.jpg", png(image(0))),
        ("a.depth.png", png_of(MILLIMETRES)),
        ("a.json", json.dumps(bad).encode()),
    ]
    write_tar(tmp_path / "0.tar", members)
    keys = {"image_key": "rgb.jpg", "depth_key": "depth.png", "caption_key": None}
    tars = {"kind": "webdataset", "shards": str(tmp_path / "0.tar"), "codes_per_unit": 1000}
    with one_line_error("a.json: not what mfsynth writes of a sample"):
        source(**tars, **keys)[0]


def test_images_may_be_arrays_too(tmp_path):
    rgba = np.concatenate([image(0), np.full((6, 8, 1), 255, np.uint8)], axis=-1)
    data = npz_of(rgb=rgba, depth=z_map())
    settings = folder(tmp_path, data, {"scale": 1, "key": "depth", "rgb_key": "rgb"}, "d.npz")
    item = source(**{**settings, "images": "d.npz"})[0]
    np.testing.assert_array_equal(item.rgb, image(0))
    np.testing.assert_allclose(item.depth, z_map())
    write(tmp_path / "d.npz", npz_of(rgb=rgba.astype(np.float32), depth=z_map()))
    with one_line_error(r"d.npz: an array float32 \(6, 8, 4\), an image is uint8"):
        source(**{**settings, "images": "d.npz"})[0]


@pytest.mark.parametrize(
    ("data", "module", "package", "extra"),
    [
        (exr_of(Z=z_map().astype(np.float32)), "OpenEXR", "OpenEXR", "exr"),
        (hdf5_of(depth=z_map()), "h5py", "h5py", "hdf5"),
        (mat_of(depth=z_map()), "scipy.io", "scipy", "mat"),
    ],
    ids=["exr", "hdf5", "mat"],
)
def test_without_a_library_the_error_names_the_extra(
    tmp_path, monkeypatch, data, module, package, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    with one_line_error(
        rf"depth: is read with {package}, which isn't here; pip install 'mfsynth\[{extra}\]'$"
    ):
        depth_of(tmp_path, data, {"scale": 1})


@pytest.mark.parametrize(
    ("rows", "columns"), [((2, 5), (3, 7)), ((-2, 4), (-3, 9)), ((2, 9), (-1, 4))]
)
def test_an_exr_is_read_as_it_shows_itself(tmp_path, rows, columns):
    """As of a region that was rendered alone, or of pixels beyond the image."""
    z = z_map().astype(np.float32)
    height, width = z.shape
    whole = np.pad(z, 10, constant_values=9.0)
    (top, bottom), (left, right) = rows, columns
    part = whole[10 + top : 10 + bottom, 10 + left : 10 + right]
    windows = {
        "dataWindow": ((left, top), (right - 1, bottom - 1)),
        "displayWindow": ((0, 0), (width - 1, height - 1)),
    }
    corners = {name: tuple(np.array(at, np.int32) for at in of) for name, of in windows.items()}
    seen = np.zeros_like(z)
    shown = np.s_[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    seen[shown] = z[shown]
    depth = depth_of(tmp_path, exr_of(corners, Z=part.copy()), {"scale": 1})
    np.testing.assert_array_equal(depth, seen)


def test_a_tiff_of_numbers_without_a_reader_says_what_to_convert_it_to(tmp_path):
    z = z_map()
    height, width = z.shape
    long, short, as_float = 4, 3, 3
    tags = [(256, long, width), (257, long, height), (258, short, 64), (259, short, 1)]
    tags += [(262, short, 1), (273, long, 8), (277, short, 1), (278, long, height)]
    tags += [(279, long, z.nbytes), (339, short, as_float)]
    header = b"II" + struct.pack("<HI", 42, 8 + z.nbytes) + z.astype("<f8").tobytes()
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    double = header + struct.pack("<H", len(tags)) + entries + bytes(4)
    with one_line_error(
        "depth: corrupt or not a TIFF .*as float64 .*convert it to float32 or to NPY"
    ):
        depth_of(tmp_path, double, {"scale": 1})
    single = tiff_of(z.astype(np.float32))
    np.testing.assert_allclose(depth_of(tmp_path, single, {"scale": 1}), z, rtol=1e-6)


def test_channels_and_data_sets_are_chosen_by_their_names(tmp_path):
    z = z_map().astype(np.float32)
    two = exr_of(A=z, B=z)
    with one_line_error("depth: 2 arrays; set encoding.key for depth .*; known: A, B"):
        depth_of(tmp_path, two, {"scale": 1})
    with one_line_error("depth: no array 'C'; set encoding.key"):
        depth_of(tmp_path, two, {"scale": 1, "key": "C"})
    nested = hdf5_of(frame__depth=z, frame__mask=z)
    with one_line_error("depth: frame is a group; set encoding.key to one of frame/depth"):
        depth_of(tmp_path, nested, {"scale": 1, "key": "frame"})
    with one_line_error("known: frame/depth, frame/mask"):
        depth_of(tmp_path, nested, {"scale": 1})
    images = hdf5_of(colors=image(3), depth=z)
    write(tmp_path / "0.hdf5", images)
    both = {"images": "*.hdf5", "depths": "*.hdf5"}
    encoding = {"scale": 1, "key": "depth", "rgb_key": "colors"}
    generic = {"kind": "folder", "layout": "generic", "path": str(tmp_path)}
    item = source(**generic, **both, encoding=encoding)[0]
    np.testing.assert_array_equal(item.rgb, image(3))
    np.testing.assert_array_equal(item.depth, z)


def test_hdf5_reads_nothing_of_other_files(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["depth"] = z_map()
    path = tmp_path / "a.h5"
    (tmp_path / "numbers").write_bytes(z_map().tobytes())
    with h5py.File(path, "w") as file:
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "depth")
        file["soft"] = h5py.SoftLink("/linked")
        stored = [(str(tmp_path / "numbers"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("outside", z_map().shape, "f8", external=stored)
    for key, problem in (
        ("linked", "linked is in another file; copy it into this one"),
        ("soft", "corrupt or not HDF5"),
        ("outside", "numbers of outside are in other files; copy them into this one"),
    ):
        with one_line_error(problem):
            depth_of(tmp_path, path.read_bytes(), {"scale": 1, "key": key})


def test_a_mask_of_other_proportions_is_refused_and_of_another_size_is_brought_to_depths(tmp_path):
    write(tmp_path / "m.npy", npy_of(np.ones((12, 16), np.uint8)))
    encoding = {"scale": 0.001, "mask": {"file": "m.npy", "at_least": 1}}
    assert depth_of(tmp_path, png_of(MILLIMETRES), encoding).any()
    write(tmp_path / "m.npy", npy_of(np.ones((6, 6), np.uint8)))
    with one_line_error("the mask of .*depth: depth of 6x6 pixels for depth of 8x6"):
        depth_of(tmp_path, png_of(MILLIMETRES), encoding)


def test_an_array_that_says_it_is_huge_takes_no_memory(tmp_path):
    data = npy_of(z_map()).replace(b"(6, 8)", b"(9999999, 9999999)")
    with one_line_error("depth: an array of .* bytes, the limit is .*MFSYNTH_MAX_BYTES"):
        depth_of(tmp_path, data, {"scale": 1})


def test_numbers_of_either_byte_order_are_the_same(tmp_path):
    depth = depth_of(tmp_path, npy_of(MILLIMETRES.astype(">u2")), SCALE)
    np.testing.assert_array_equal(depth, depth_of(tmp_path, npy_of(MILLIMETRES), SCALE))


@pytest.mark.parametrize("one", encoded_maps(), ids=lambda one: one.name)
def test_a_damaged_file_is_one_line_or_a_depth_map(one):
    encoding = Encoding(**one.encoding)
    camera = Intrinsics(**CAMERA)
    random = np.random.default_rng(0)
    problems = []
    for _ in range(60):
        damaged = bytearray(one.data)
        damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        whole = bytes(damaged[: random.integers(len(damaged)) if random.random() < 0.2 else None])
        try:
            depth, _ = decode_depth(whole, "a.x", encoding, lambda shape: camera)
            require_depth(depth)
        except MfsynthError as error:
            problems.append(str(error))
    assert problems
    assert all(problem.startswith("a.x: ") and "\n" not in problem for problem in problems)


def test_the_example_of_the_page_about_data_is_settings():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "data.md").read_text()
    parts = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])["data"]
    first, second = (PartSettings.model_validate(part).source.stored for part in parts)
    assert first.camera.size == (1280, 720)
    assert second.packing == "bgr24"
    for name in PRESETS:
        assert f"`{name}`" in page
    for name in Encoding.model_fields:
        assert f"`{name}`" in page
