"""What a reader of the pages has on the disk: files that they name, small and of their kinds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import published_folders
import yaml
from bag_files import SECOND, image_message, store_of, write_bag
from certificates import write_credentials
from cryptography.hazmat.primitives.asymmetric import ec
from fenced import ROOT
from numpy.typing import NDArray
from PIL import Image
from released_checkpoints import CHECKPOINT, save_text_encoder
from video_files import write_video

HEIGHT, WIDTH = 32, 48
# Where `configs/evaluate/published.yaml` has them: images, and depth where that lies elsewhere.
_PUBLISHED = {
    "nyu_v2": ("nyu_v2", None),
    "kitti_eigen": ("kitti/raw", "kitti/data_depth_annotated"),
    "eth3d": ("eth3d", None),
    "scannet": ("scannet", None),
    "diode": ("diode/val", None),
}
# KITTI's are of one size, which its protocol cuts.
_SIZES = {"kitti_eigen": (375, 1242)}
DESK = {
    "kind": "folder",
    "layout": "tum",
    "path": "data/fr1_desk",
    "captions": {"constant": "a desk"},
    "encoding": {"camera": {"fx": 50.0, "fy": 50.0, "cx": 23.5, "cy": 15.5}},
}
# Images that are no frames of one recording.
MINE = {
    **DESK,
    "layout": "generic",
    "path": "data/mine",
    "images": "rgb/*.png",
    "depths": "depth/*.png",
    "codes_per_unit": 1000.0,
}


def furnish(folder: Path) -> None:
    """Write the files that pages take to be there."""
    for name, like in (("my", "local"), ("my_calibration", "calibrate/simulator")):
        shutil.copy(ROOT / "configs" / f"{like}.yaml", folder / f"{name}.yaml")
    training = yaml.safe_load((ROOT / "configs" / "train" / "estimator.yaml").read_text())
    training["data"] = [DESK]
    (folder / "my_training.yaml").write_text(yaml.safe_dump(training))
    for scene in (folder / "scene.xml", folder / "path" / "to" / "scene.xml"):
        scene.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "configs" / "scenes" / "arm_on_table.xml", scene)
    _write_images(folder)
    _write_depth(folder)
    _write_published(folder / "data")
    write_credentials(folder, ec.generate_private_key(ec.SECP256R1()))
    for name in CHECKPOINT:
        (folder / "released").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / "data" / "reference" / name, folder / "released" / name)
    save_text_encoder(folder / "text_encoder")


def _image(number: int) -> NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)


def _millimetres(number: int) -> NDArray[np.uint16]:
    codes = np.full((HEIGHT, WIDTH), 2000 + 100 * number, np.uint16)
    codes[8:24, 8:24] = 1000
    return codes


def _write_images(folder: Path) -> None:
    photographs = folder / "photographs"
    photographs.mkdir()
    for number in range(2):
        Image.fromarray(_image(number)).save(photographs / f"{number}.jpg")
        (photographs / f"{number}.txt").write_text(f"picture {number}")
    frames = [_image(number) for number in range(3)]
    write_video(folder / "kitchen.mp4", frames, pixels="yuv420p", codec="mpeg4")


def _write_depth(folder: Path) -> None:
    """A sequence of TUM's, a folder of others, a recording."""
    desk, mine = folder / "data" / "fr1_desk", folder / "data" / "mine"
    lines: dict[str, list[str]] = {"rgb": [], "depth": []}
    for number in range(5):
        codes = _millimetres(number)
        for part, pixels in {"rgb": _image(number), "depth": codes * 5}.items():
            for path, array in (
                (desk / part / f"{number}.0.png", pixels),
                (mine / part / f"{number}.png", codes if part == "depth" else pixels),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
            lines[part].append(f"{number}.0 {part}/{number}.0.png")
    for part, each in lines.items():
        (desk / f"{part}.txt").write_text("\n".join(each))
    store = store_of("mcap")
    write_bag(
        folder / "pour_milk.mcap",
        [
            ("/camera/color/image_raw", SECOND, image_message(store, _image(1), "rgb8", SECOND)),
            ("/camera/depth/image_raw", SECOND, image_message(store, codes, "16UC1", SECOND)),
        ],
        "mcap",
    )


def _write_published(folder: Path) -> None:
    (folder / "splits").mkdir(parents=True)
    for kind, (images, depths) in _PUBLISHED.items():
        size = _SIZES.get(kind, (HEIGHT, WIDTH))
        rgb, depth = published_folders.image(1, *size), published_folders.depth_map(1, *size)
        line = published_folders.write_frame(
            kind, folder / images, 1, rgb, depth, depths and folder / depths
        )
        published_folders.write_split(folder / "splits" / f"{kind}.txt", [line])
