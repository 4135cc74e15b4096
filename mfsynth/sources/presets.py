"""Encodings of known data sets by their names: settings of `Encoding`, nothing else.

What a data set leaves to whoever records it (near and far, whether depth is aligned) stays to be
given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    # vision.in.tum.de/data/datasets/rgbd-dataset/file_formats: 5000 codes a metre.
    "tum": {"codes_per_unit": 5000.0},
    "scannet": {"codes_per_unit": 1000.0},
    "kitti": {"codes_per_unit": 256.0},
    # bop_toolkit's docs/bop_datasets_format.md: depth_scale makes millimetres of a code. Rendered
    # sets have 65535 for the background.
    "bop": {
        "metadata": "../scene_camera.json",
        "scale": {"metadata": "{number}.depth_scale", "times": 0.001},
        "invalid": [0, 65535],
        "camera": {"file": "../scene_camera.json", "path": "{number}.cam_K"},
    },
    # rlbench/backend/utils.py: three bytes, red the highest, from the near plane to the far one;
    # nothing is behind the far one.
    "rlbench": {"packing": "rgb24", "invalid": ["max"]},
    # carla.readthedocs.io, depth camera: red the lowest byte, 1000 m at the highest code (sky).
    "carla": {"packing": "bgr24", "scale": 1000 / (2**24 - 1), "invalid": ["max"]},
    # github.com/apple/ml-hypersim: distances from the camera's centre, focal length 886.81 pixels.
    "hypersim": {
        "axis": "ray",
        "scale": 1.0,
        "camera": {"fx": 886.81, "fy": 886.81, "cx": 511.5, "cy": 383.5, "size": [1024, 768]},
    },
    # sun3d.cs.princeton.edu: millimetres, rotated by three bits.
    "sun3d": {"packing": "rotate3", "scale": 0.001},
    # pytorch3d's implicitron: the bits of half-precision numbers; metres only times each frame's
    # scale_adjustment.
    "co3d": {"packing": "float16_bits", "scale": 1.0, "unit": "relative"},
    # Kinect v1 as NYUv2's raw recordings have it: not aligned, bytes swapped against the format.
    "nyu_raw": {
        "packing": "kinect_raw",
        "byte_order": "little",
        "invalid": [0, 2047],
        "registration": "unknown",
    },
    # sintel.is.tue.mpg.de: metres of Blender's, in .dpt.
    "sintel": {"container": "dpt", "scale": 1.0},
    # COLMAP's stereo/depth_maps: of the scale that its reconstruction happens to have.
    "colmap": {"container": "colmap", "scale": 1.0, "unit": "relative"},
    # Drake's ImageDepth16U: millimetres, 0 too near, 65535 too far.
    "drake": {"scale": 0.001, "invalid": [0, 65535]},
    # Omniverse Replicator's augmentation example: near is bright, 100 m are black.
    "omniverse": {"scale": -100 / 65535, "offset": 100, "invalid": [0]},
    # github.com/huggingface/lerobot, src/lerobot/datasets/depth_utils.py: 12 bits, equal steps of
    # ln(z + 3.5 m) from .01 to 10 m. A hole became the lowest code there,
    # what is farther the highest.
    "lerobot": {
        "quantity": "log",
        "near": 0.01,
        "far": 10,
        "shift": 3.5,
        "scale": 1 / 4095,
        "invalid": [0, 4095],
    },
    # Recordings of RealSense cameras: of the depth camera, unless they were aligned to colour.
    "realsense": {"scale": 0.001, "registration": "unknown"},
    # The same with the unit of a D405, .1 mm.
    "d405": {"scale": 0.0001, "invalid": [0, 65535], "registration": "unknown"},
}
