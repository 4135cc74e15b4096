"""Small copies of published data sets' folders, made of given images and depth maps."""

from __future__ import annotations

import cv2
import numpy as np

DRIVE = "2011_09_26_drive_0002_sync"

# Kind: paths of image and depth.
PATHS = {
    "nyu_v2": ("test/kitchen_0004/rgb_{:04d}.png", "test/kitchen_0004/depth_{:04d}.png"),
    "kitti_eigen": (
        f"2011_09_26/{DRIVE}/image_02/data/{{:010d}}.png",
        f"{DRIVE}/proj_depth/groundtruth/image_02/{{:010d}}.png",
    ),
    "eth3d": (
        "rgb/office/images/dslr_images/DSC_{:04d}.JPG",
        "depth/office_dslr_depth/office/ground_truth_depth/dslr_images/DSC_{:04d}.JPG",
    ),
    "scannet": ("scene0406_02/color/{:06d}.jpg", "scene0406_02/depth/{:06d}.png"),
    "diode": (
        "indoors/scene_00021/scan_00189/00021_00189_indoors_200_{:03d}.png",
        "indoors/scene_00021/scan_00189/00021_00189_indoors_200_{:03d}_depth.npy",
    ),
}
CODES_PER_METRE = {"nyu_v2": 1000, "scannet": 1000, "kitti_eigen": 256}


def image(number, height=6, width=8):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def depth_map(number, height=6, width=8):
    """Depths from 1 to 9 m that every format keeps exactly, with a hole."""
    rng = np.random.default_rng(1000 + number)
    depth = rng.integers(8, 73, (height, width)).astype(np.float32) / 8
    depth[0, :2] = 0
    return depth


def write_image(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = ".png" if path.suffix == ".png" else ".jpg"
    done, data = cv2.imencode(kind, rgb[..., ::-1])
    assert done
    path.write_bytes(data.tobytes())


def write_depth(kind, path, depth):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "eth3d":
        path.write_bytes(np.where(depth > 0, depth, np.inf).astype("<f4").tobytes())
    elif kind == "diode":
        # What the mask leaves out may hold anything.
        np.save(path, np.where(depth > 0, depth, 123)[..., None].astype(np.float32))
        np.save(path.with_name(f"{path.stem}_mask.npy"), (depth > 0).astype(np.float32))
    else:
        codes = np.round(depth * CODES_PER_METRE[kind]).astype(np.uint16)
        done, data = cv2.imencode(".png", codes)
        assert done
        path.write_bytes(data.tobytes())


def write_frame(kind, root, number, rgb, depth, depth_root=None):
    """Write a frame in a data set's layout; returns its line of a split list."""
    image_path, depth_path = (path.format(number) for path in PATHS[kind])
    write_image(root / image_path, rgb)
    write_depth(kind, (depth_root or root) / depth_path, depth)
    return f"{image_path} {depth_path} 721.5377"


def write_split(path, lines):
    path.write_text("\n".join(lines))
    return str(path)
