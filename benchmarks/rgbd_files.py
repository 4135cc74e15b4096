"""Are depth files of others read in the metres that they hold?

    python benchmarks/rgbd_files.py tests/data/rgbd_files

FOLDER has a `manifest.json`: of each kind of files the depth in metres at one pixel. Kinds that
mfsynth's repository has no copy of are read as well, where the folder has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mfsynth.sources.base import Item
from mfsynth.sources.registry import source_settings

# Of each kind the depth map, and how docs/how-to/data.md has it read.
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "tum": ("TUM_depth.png", {"preset": "tum"}),
    "redwood_mm": (
        "00000.png",
        {
            "scale": 0.001,
            "camera": {
                "file": "camera_primesense.json",
                "path": "intrinsic_matrix",
                "order": "column",
            },
        },
    ),
    "nyu_raw_pgm": ("NYU_depth.pgm", {"preset": "nyu_raw", "registration": "same"}),
    "cleargrasp_real_exr": ("000000080-opaque-depth-img.exr", {"scale": 1, "key": "R"}),
    "habitat_npy": ("van-gogh-room-depth_sensor.npy", {"scale": 1}),
    "arkit_lidar": ("arkit_depth.png", {"scale": 0.001}),
    "realsense_lingbot": (
        "raw_depth.png",
        {"scale": 0.001, "camera": {"file": "intrinsics.txt"}},
    ),
    "d405_tenth_mm": ("depth_26.png", {"preset": "d405", "registration": "same"}),
    "omniverse_inverted": ("depth_0.png", {"preset": "omniverse"}),
    "drake_16u": ("depth.png", {"preset": "drake"}),
    "middlebury_disparity": (
        "motorcycle_disp.npz",
        {
            "quantity": "disparity",
            "scale": 1,
            "baseline": 0.193001,
            "doffs": 124.343 / 4,
            "camera": {"fx": 994.97775, "fy": 994.97775, "cx": 311.193, "cy": 254.87675},
        },
    ),
    "npz_many_keys": ("data.npz", {"key": "depth", "scale": 1}),
    "co3d_float16_png": ("00000.jpg.geometric.png", {"preset": "co3d", "scale": 1}),
    "carla_rgb24": ("00000.png", {"preset": "carla"}),
    "sintel_dpt": ("frame_0001.dpt", {"preset": "sintel"}),
}
# Which of several the manifest's number is of.
_FRAMES = {"realsense_bag": 1}
TOPICS = (
    "/camera/depth/image_rect_raw/compressedDepth",
    "/camera/depth_rvl/compressedDepth",
    "/zed/depth/compressedDepth",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print("| kind | metres | read |\n|---|---|---|")
    for entry in json.loads((folder / "manifest.json").read_text()):
        for item in items(entry["kind"], folder):
            wanted, found = compared(entry, item)
            print(f"| {entry['kind']} | {wanted:.6f} | {found:.6f} |", flush=True)


def items(kind: str, folder: Path) -> Iterator[Item]:
    """What is read of a kind: one item, or one of each of its topics."""
    for settings in settings_of(kind, folder / kind):
        yield source_settings(settings).open()[_FRAMES.get(kind, 0)]


def settings_of(kind: str, folder: Path) -> list[dict[str, Any]]:
    """Those of the sources of a kind, without images."""
    if kind == "realsense_bag":
        path = str(folder / "single_depth_color_640x480.bag")
        return [{"kind": "recording", "path": path, "depth_alone": True}]
    if kind == "mcap_compresseddepth":
        recording = {"kind": "recording", "path": str(folder / "depth.mcap"), "depth_alone": True}
        return [{**recording, "depth_key": topic} for topic in TOPICS]
    if kind == "lerobot_depth_video":
        video = {"kind": "video", "path": str(folder), "videos": None}
        return [{**video, "depths": "episode_000000.mp4", "encoding": {"preset": "lerobot"}}]
    depths, encoding = FILES[kind]
    generic = {"kind": "folder", "layout": "generic", "path": str(folder)}
    return [{**generic, "depths": depths, "encoding": encoding}]


def compared(entry: dict[str, Any], item: Item) -> tuple[float, float]:
    """Metres at the manifest's pixel, and those read."""
    assert item.depth is not None
    row, column = entry["check"]["pixel_row_col"]
    return entry["check"]["true_z_m"], float(item.depth[row, column])


if __name__ == "__main__":
    main()
