"""Cameras of files become mfsynth's own: OpenCV's axes, integer pixel centres, the image's size."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
from depth_files import npy_of, z_map
from PIL import Image
from training_files import image, one_line_error, png, source, write

from mfsynth.geometry import CameraAxes, Intrinsics

K = np.array([[7.0, 0, 3.4], [0, 6.5, 2.6], [0, 0, 1]])
WANTED = Intrinsics(7.0, 6.5, 3.4, 2.6)


def camera_of(root, camera, shape=(6, 8)):
    write(root / "a7.png", png(image(0, *shape)))
    folder = {"kind": "folder", "layout": "generic", "path": str(root), "images": "a7.png"}
    return source(**folder, encoding={"camera": camera})[0].intrinsics


def text_of(matrix):
    stream = io.StringIO()
    np.savetxt(stream, matrix)
    return stream.getvalue()


def opencv_yaml(name, matrix):
    modes = cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY | cv2.FILE_STORAGE_FORMAT_YAML
    storage = cv2.FileStorage("k.yml", modes)
    storage.write(name, matrix)
    return storage.releaseAndGetString()


# As older versions of OpenCV and people who write such files by hand have it.
OLDER = f"""K: !!opencv-matrix
   rows: 3
   cols: 3
   dt: f
   data: {K.ravel().tolist()}
"""


@pytest.mark.parametrize(
    ("name", "data", "more"),
    [
        ("k.txt", text_of(K), {}),
        ("k.txt", text_of(K).replace(" ", ", "), {}),
        ("k.txt", text_of(np.eye(4) @ np.pad(K, ((0, 1), (0, 1)))), {}),
        ("k.txt", "# fx, 0 cx\r\n" + text_of(K).replace(" ", ",").replace("\n", " ,\r\n"), {}),
        ("k.txt", text_of(K.reshape(1, 9)), {}),
        ("k.npy", npy_of(K), {}),
        ("k.npy", npy_of(K + np.array([[0, 3e-14, 0], [-2e-14, 0, 0], [0, 0, 0]])), {}),
        ("k.json", json.dumps({"K": K.tolist()}), {"path": "K"}),
        (
            "k.json",
            json.dumps({"a": [{"m": K.T.ravel().tolist()}]}),
            {"path": "a.0.m", "order": "column"},
        ),
        ("k.json", json.dumps({"7": K.ravel().tolist()}), {"path": "{number}"}),
        ("k.yaml", f"a7: {K.tolist()}", {"path": "{name}"}),
        ("k.YML", opencv_yaml("camera_matrix", K), {"path": "camera_matrix.data"}),
        ("k.yml", f"%YAML:1.0\n---\n{OLDER}", {"path": "K.data"}),
        ("k.yml", f"%YAML:1.0\n\n# by hand\n{OLDER}", {"path": "K.data"}),
    ],
)
def test_matrices_are_read_as_people_write_them(tmp_path, name, data, more):
    write(tmp_path / name, data)
    assert camera_of(tmp_path, {"file": name, **more}) == WANTED


@pytest.mark.parametrize(
    ("name", "data", "more", "problem"),
    [
        ("k.txt", "fx 7", {}, "no rows of numbers; .* say where by camera.path"),
        ("k.txt", "1 2\n3 4", {}, r"a camera's matrix is 3x3, 3x4 or 4x4, this has \(2, 2\)"),
        ("k.txt", "1 0 0\n0 1 0\n0 0 nan", {}, "not finite"),
        ("k.txt", "1 1 0\n0 1 0\n0 0 1", {}, "no skew"),
        ("k.txt", f"# K\n{text_of(K).replace('.', ',')}", {}, "2: commas within numbers"),
        ("k.txt", "1,5 0,0\t2,5", {}, "1: commas within numbers"),
        ("k.txt", '{"K": [[1, 0]]}', {}, "no rows of numbers"),
        ("k.yaml", "K: [1, 010]", {"path": "K"}, "1:8: .*'010' is no plain number"),
        ("k.json", "{}", {"path": "K"}, "no 'K' in it"),
        ("k.json", "[1]", {"path": "3"}, "no '3' in it"),
    ],
)
def test_a_file_without_a_camera_is_told(tmp_path, name, data, more, problem):
    write(tmp_path / name, data)
    with one_line_error(rf"{name}:.*{problem}"):
        camera_of(tmp_path, {"file": name, **more})


def test_a_field_of_view_is_that_of_the_width():
    camera = camera_of_fov(90.0)
    assert camera.fx == pytest.approx(4.0)
    assert (camera.cx, camera.cy) == (3.5, 2.5)


def camera_of_fov(degrees):
    from mfsynth.sources.camera_settings import CameraSettings

    return CameraSettings(fov=degrees).intrinsics((6, 8), None)


def test_a_camera_of_other_pixels_is_brought_to_the_images(tmp_path):
    given = {"fx": 14.0, "fy": 13.0, "cx": 7.3, "cy": 5.7, "size": [16, 12]}
    assert camera_of(tmp_path, given) == Intrinsics(7.0, 6.5, 3.4, 2.6)
    with one_line_error("the camera is of 16x12 pixels, the images are 8x8"):
        camera_of(tmp_path, given, (8, 8))


@pytest.mark.parametrize("beside", ["ray_camera", "depth_camera"])
@pytest.mark.parametrize("times", [1, 2])
def test_the_camera_of_a_depth_map_is_that_of_its_image(tmp_path, beside, times):
    z, own = z_map(), {"fx": 7.0, "fy": 6.5, "cx": 3.4, "cy": 2.6}
    rows, columns = np.mgrid[: z.shape[0], : z.shape[1]]
    rays = z * np.sqrt(1 + ((columns - 3.4) / 7) ** 2 + ((rows - 2.6) / 6.5) ** 2)
    write(tmp_path / "0.png", png(image(0, *(times * side for side in z.shape))))
    write(tmp_path / "0.npy", npy_of(rays))
    encoding = {"scale": 1.0} | ({"axis": "ray", beside: own} if beside == "depth_camera" else {})
    given = {"encoding": encoding} | ({beside: own} if beside == "ray_camera" else {})
    folder = {"kind": "folder", "layout": "generic", "path": str(tmp_path)}
    item = source(**folder, images="*.png", depths="*.npy", **given)[0]
    np.testing.assert_allclose(item.depth[::times, ::times], z, rtol=1e-5)
    assert item.intrinsics == WANTED.resized(times, times)
    assert item.camera_from == "the settings"


def test_centres_at_halves_become_integers(tmp_path):
    given = {"fx": 7.0, "fy": 6.5, "cx": 3.9, "cy": 3.1, "pixel_centre": "half"}
    camera = camera_of(tmp_path, given)
    assert (camera.cx, camera.cy) == (pytest.approx(3.4), pytest.approx(2.6))


@pytest.mark.parametrize("axes", CameraAxes)
def test_a_matrix_of_any_axes_sees_the_same_pixels(axes):
    to_opencv = axes.to_opencv()
    np.testing.assert_array_equal(to_opencv @ to_opencv.T, np.eye(3))
    assert np.linalg.det(to_opencv) == pytest.approx(1)
    # What takes a point in those axes to the pixel of the same point in OpenCV's.
    theirs = K @ to_opencv
    last = theirs[2, np.flatnonzero(theirs[2])[0]]
    camera = Intrinsics.from_matrix(theirs * last, axes)
    assert camera == WANTED
    assert Intrinsics.from_matrix(K, axes) == WANTED


def test_negative_focal_lengths_are_those_of_coppelia_and_of_no_other(tmp_path):
    given = {"fx": -7.0, "fy": -6.5, "cx": 3.4, "cy": 2.6}
    assert camera_of(tmp_path, {**given, "axes": "coppelia"}) == WANTED
    with pytest.raises(ValueError, match="focal lengths must be positive"):
        camera_of(tmp_path, {**given, "axes": "opengl"})


@pytest.mark.parametrize(("orientation", "turns"), [(90, 1), (180, 2), (270, 3), ("exif", 1)])
def test_image_depth_and_camera_are_turned_together(tmp_path, orientation, turns):
    picture = Image.fromarray(image(3))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    stream = io.BytesIO()
    picture.save(stream, "PNG", exif=exif)
    write(tmp_path / "a.png", stream.getvalue())
    write(tmp_path / "z", npy_of(z_map()))
    folder = {"kind": "folder", "layout": "generic", "path": str(tmp_path), "images": "a.png"}
    camera = {"fx": 7.0, "fy": 6.5, "cx": 3.4, "cy": 2.6}
    encoding = {"scale": 1, "camera": camera, "orientation": orientation}
    item = source(**folder, depths="z", encoding=encoding)[0]
    np.testing.assert_array_equal(item.rgb, np.rot90(image(3), -turns))
    np.testing.assert_array_equal(item.depth, np.rot90(z_map().astype(np.float32), -turns))
    stored = Intrinsics(**camera)
    assert item.intrinsics == stored.turned(turns, 6, 8)
    assert stored.turned(4, 6, 8) == stored
    kept = source(**folder, depths="z", encoding={**encoding, "orientation": "stored"})[0]
    np.testing.assert_array_equal(kept.rgb, image(3))


def test_a_turned_camera_sees_a_point_in_the_turned_pixel():
    from mfsynth.geometry import project

    point = np.array([0.4, -0.2, 2.0])
    column, row = project(point, WANTED)
    turned = WANTED.turned(1, 6, 8)
    # Clockwise, what was right is below, and what was up is right.
    moved = project(np.array([0.2, 0.4, 2.0]), turned)
    np.testing.assert_allclose(moved, [6 - 1 - row, column])


def test_a_name_with_dots_is_one_key(tmp_path):
    write(tmp_path / "f.0001.color.png", png(image(0)))
    write(tmp_path / "k.json", json.dumps({"all": {"f.0001.color": K.tolist()}}))
    folder = {"kind": "folder", "layout": "generic", "path": str(tmp_path), "images": "*.png"}
    camera = {"file": "k.json", "path": "all.{name}"}
    assert source(**folder, encoding={"camera": camera})[0].intrinsics == WANTED
