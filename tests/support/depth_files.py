"""One small depth map in the encodings that public data sets have, each with its settings."""

from __future__ import annotations

import io
import math
import struct
from typing import Any, NamedTuple

import h5py
import numpy as np
import OpenEXR
import scipy.io
from PIL import Image

from mfsynth.geometry import Intrinsics, pixel_rays

HEIGHT, WIDTH = 6, 8
CAMERA = {"fx": 7.0, "fy": 6.5, "cx": 3.4, "cy": 2.6}


def z_map():
    """Metres, from .6 to 4, far at the top as in a room; a hole of two pixels."""
    z = np.linspace(4.0, 0.6, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    z[0, :2] = 0
    return z


def png_of(codes):
    stream = io.BytesIO()
    Image.fromarray(codes).save(stream, "PNG")
    return stream.getvalue()


def tiff_of(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "TIFF")
    return stream.getvalue()


def npy_of(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz_of(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def pgm_of(codes, order=">u2"):
    header = f"P5\n# a camera's\n{codes.shape[1]} {codes.shape[0]}\n65535\n"
    return header.encode() + codes.astype(order).tobytes()


def pfm_of(array, order="<f4"):
    """Rows from the lowest up, as the format has them."""
    height, width = array.shape
    header = f"Pf\n{width} {height}\n{'-1.0' if order[0] == '<' else '1.0'}\n"
    return header.encode() + array[::-1].astype(order).tobytes()


def dpt_of(array):
    return struct.pack("<4sii", b"PIEH", *array.shape[::-1]) + array.astype("<f4").tobytes()


def colmap_of(array):
    return f"{array.shape[1]}&{array.shape[0]}&1&".encode() + array.astype("<f4").tobytes()


def exr_of(header=None, **channels):
    stream = io.BytesIO()
    about = {"compression": OpenEXR.ZIP_COMPRESSION, **(header or {})}
    OpenEXR.File(about, channels).write(stream)
    return stream.getvalue()


def hdf5_of(**arrays):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name.replace("__", "/"), data=array, compression="gzip")
    return stream.getvalue()


def mat_of(**arrays):
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays, do_compression=True)
    return stream.getvalue()


def mat73_of(**arrays):
    """As MATLAB writes them: HDF5 behind a header of its own, axes the other way round."""
    stream = io.BytesIO()
    with h5py.File(stream, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
    data = bytearray(stream.getvalue())
    data[:10] = b"MATLAB 7.3"
    return bytes(data)


def three_bytes(codes, shifts):
    """(H, W, 3) of codes of 24 bits, the shift of each channel given."""
    parts = [(codes >> shift & 255).astype(np.uint8) for shift in shifts]
    return np.stack(parts, axis=-1)


class Encoded(NamedTuple):
    """A depth map as somebody stores it: its name, bytes, settings, and the error that it has."""

    name: str
    data: bytes
    encoding: dict[str, Any]
    tolerance: float = 1e-3


def encoded_maps():
    """Every encoding that is read, of `z_map`."""
    z = z_map()
    hole = z == 0
    millimetres = np.rint(z * 1000).astype(np.uint16)
    floats = np.where(hole, np.nan, z).astype(np.float32)
    distances = z * np.linalg.norm(pixel_rays(HEIGHT, WIDTH, Intrinsics(**CAMERA)), axis=-1)
    with np.errstate(divide="ignore"):
        disparity = np.where(hole, np.inf, 7.0 * 0.2 / np.where(hole, 1, z) - 0.1)
        raw = np.where(hole, 2047, 1092.5 - 351.3 / np.where(hole, 1, z)).round().astype(np.uint16)
        inverse = np.where(hole, 0, 10000 / np.where(hole, 1, z)).round().astype(np.uint16)
        screen = np.where(hole, 1, 10 * (z - 0.1) / (np.where(hole, 1, z) * (10 - 0.1)))
    shifted = np.log(z + 3.5) - math.log(3.51)
    logarithmic = np.rint(4095 * shifted / (math.log(13.5) - math.log(3.51)))
    carla = np.where(hole, 2**24 - 1, np.rint(z / 1000 * (2**24 - 1))).astype(np.uint32)
    rlbench = np.where(hole, 2**24 - 1, np.rint((z - 0.1) / 4.9 * (2**24 - 1))).astype(np.uint32)
    inverted = np.where(hole, 0, np.rint((1 - z / 10) * 65535)).astype(np.uint16)
    mm = {"scale": 0.001}
    raw_file = {"container": "raw", "size": [WIDTH, HEIGHT]}
    other = np.ones_like(floats)
    stereo = {"quantity": "disparity", "baseline": 0.2, "doffs": 0.1, "camera": CAMERA}
    return [
        Encoded("png", png_of(millimetres), mm),
        Encoded("reciprocal", png_of(millimetres), {"codes_per_unit": 1000}),
        Encoded("tiff", tiff_of(millimetres), {"container": "tiff", "scale": 0.001}),
        Encoded("float_tiff", tiff_of(floats), {"scale": 1}, 1e-6),
        Encoded("npy", npy_of(floats), {"scale": 1}, 1e-6),
        Encoded("channel", npy_of((floats * 100).astype(np.float64)[..., None]), {"scale": 0.01}),
        Encoded("npz", npz_of(depth=floats, mask=hole), {"key": "depth", "scale": 1}, 1e-6),
        Encoded("only", npz_of(arr_0=floats), {"scale": 1}, 1e-6),
        Encoded("pgm", pgm_of(millimetres), {"scale": 0.001}),
        Encoded("pfm", pfm_of(floats), {"scale": 1}, 1e-6),
        Encoded("pfm_big", pfm_of(floats, ">f4"), {"container": "pfm", "scale": 1}, 1e-6),
        Encoded("dpt", dpt_of(z), {"scale": 1}, 1e-6),
        Encoded("colmap", colmap_of(z), {"preset": "colmap"}, 1e-6),
        Encoded("raw", millimetres.tobytes(), {**raw_file, "dtype": "uint16", **mm}),
        Encoded(
            "raw_big",
            floats.astype(">f4").tobytes(),
            {**raw_file, "dtype": "float32", "byte_order": "big", "scale": 1},
            1e-6,
        ),
        Encoded("exr", exr_of(Z=floats), {"scale": 1}, 1e-6),
        Encoded("exr_half", exr_of(V=floats.astype(np.float16)), {"scale": 1}),
        Encoded("exr_grey", exr_of(R=floats, G=floats, B=floats), {"scale": 1}, 1e-6),
        Encoded("exr_channel", exr_of(Z=other, d=floats), {"key": "d", "scale": 1}, 1e-6),
        Encoded("hdf5", hdf5_of(depth=floats, name=other[0]), {"scale": 1}, 1e-6),
        Encoded(
            "hdf5_group",
            hdf5_of(frame__depth=millimetres, frame__mask=hole),
            {"key": "frame/depth", **mm},
        ),
        Encoded("mat", mat_of(depth=floats, factor_depth=1000.0), {"scale": 1}, 1e-6),
        Encoded("mat_7_3", mat73_of(depth=floats, other=other), {"key": "depth", "scale": 1}, 1e-6),
        Encoded("swapped", png_of(millimetres.byteswap()), {"byte_order": "little", **mm}),
        Encoded("upside_down", npy_of(floats[::-1]), {"scale": 1, "rows": "bottom"}, 1e-6),
        Encoded(
            "sentinel",
            png_of(np.where(hole, 65535, millimetres).astype(np.uint16)),
            {"scale": 0.001, "invalid": [0, "max"]},
        ),
        Encoded(
            "huge",
            npy_of(np.where(hole, np.finfo(np.float32).max, z).astype(np.float32)),
            {"scale": 1, "invalid": ["max"]},
            1e-6,
        ),
        Encoded("carla", png_of(three_bytes(carla, (0, 8, 16))), {"preset": "carla"}),
        Encoded(
            "rlbench",
            png_of(three_bytes(rlbench, (16, 8, 0))),
            {"preset": "rlbench", "near": 0.1, "far": 5.0},
            1e-5,
        ),
        Encoded("co3d", png_of(z.astype(np.float16).view(np.uint16)), {"preset": "co3d"}),
        Encoded("sun3d", png_of((millimetres << 3) | (millimetres >> 13)), {"preset": "sun3d"}),
        Encoded(
            "kinect",
            pgm_of(raw, "<u2"),
            {"preset": "nyu_raw", "registration": "same"},
            6e-3,
        ),
        Encoded(
            "disparity",
            npz_of(arr_0=disparity.astype(np.float32)),
            {**stereo, "scale": 1},
            1e-5,
        ),
        Encoded(
            "few_disparities",
            png_of(np.where(hole, 0, disparity * 100).round().astype(np.uint8)),
            {
                "quantity": "disparity",
                "scale": 0.01,
                "baseline": 0.2,
                "doffs": 0.1,
                "camera": CAMERA,
            },
            2e-2,
        ),
        Encoded("inverse", png_of(inverse), {"quantity": "inverse_depth", "scale": 0.0001}),
        Encoded(
            "zbuffer",
            npy_of(screen.astype(np.float32)),
            {"quantity": "zbuffer", "near": 0.1, "far": 10, "invalid": [1]},
            1e-4,
        ),
        Encoded(
            "zbuffer_16",
            png_of(np.rint(screen * 65535).astype(np.uint16)),
            {"quantity": "zbuffer", "near": 0.1, "far": 10, "invalid": ["max"]},
            1e-2,
        ),
        Encoded(
            "log",
            png_of(np.where(hole, 0, logarithmic).astype(np.uint16)),
            {"quantity": "log", "near": 0.01, "far": 10, "shift": 3.5, "scale": 1 / 4095},
            2e-3,
        ),
        Encoded("inverted", png_of(inverted), {"scale": -10 / 65535, "offset": 10}),
        Encoded(
            "ray",
            npy_of(distances.astype(np.float32)),
            {"axis": "ray", "scale": 1, "camera": CAMERA},
            1e-5,
        ),
        Encoded("clipped", png_of(millimetres), {"scale": 0.001, "clip": [0.5, 4.5]}),
    ]
