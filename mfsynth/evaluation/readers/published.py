"""NYUv2, KITTI, ETH3D, ScanNet and DIODE as they are published, their archives extracted.

ETH3D, NYUv2 and ScanNet are laid out as in the archives of Marigold's evaluation (Ke et al., CVPR
2024), whose split lists name the images of each protocol; KITTI as raw recordings with annotated
depth, DIODE as in its own archive.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mfsynth.errors import MfsynthError
from mfsynth.evaluation.frames import EvaluationSet, Frame
from mfsynth.evaluation.protocols import (
    DIODE,
    ETH3D,
    KITTI_EIGEN,
    NYU_V2,
    SCANNET,
    Protocol,
    kitti_benchmark_crop,
)
from mfsynth.evaluation.readers.depth_files import Shape, read_npy, read_png, read_raw, read_rgb
from mfsynth.geometry.rgbd import DepthMap

PublishedName = Literal["nyu_v2", "kitti_eigen", "eth3d", "scannet", "diode"]

# What a split list has for the depth of an image without any.
_NO_DEPTH = "None"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a data set keeps its images and their depth.

    Attributes:
        protocol: That it is scored by.
        images: Paths of images, relative to the data set's folder; `*` is any part of a name.
        depth: The path of an image's depth map; `{0}` is what the first `*` stands for.
        read_depth: Decodes it, given the shape of the image.
        depth_folders: Folders that depth may be below.
        benchmark_crop: Whether image and depth are cropped to KITTI's benchmark first.
    """

    protocol: Protocol
    images: str
    depth: str
    read_depth: Callable[[Path, Shape], DepthMap]
    depth_folders: tuple[str, ...] = ("",)
    benchmark_crop: bool = False

    def depth_of(self, image: str) -> str | None:
        """The path of an image's depth map; None where the image isn't one of this layout."""
        pattern = re.escape(self.images).replace(r"\*", "([^/]+)")
        match = re.fullmatch(pattern, image)
        return None if match is None else self.depth.format(*match.groups())


_MILLIMETRES = functools.partial(read_png, codes_per_metre=1000)

LAYOUTS: Final[Mapping[PublishedName, Layout]] = {
    "nyu_v2": Layout(NYU_V2, "test/*/rgb_*.png", "test/{0}/depth_{1}.png", _MILLIMETRES),
    "kitti_eigen": Layout(
        KITTI_EIGEN,
        "*/*/image_02/data/*.png",
        "{1}/proj_depth/groundtruth/image_02/{2}.png",
        functools.partial(read_png, codes_per_metre=256),
        # The test drives are spread over both parts of the annotated depth.
        depth_folders=("", "train", "val"),
        benchmark_crop=True,
    ),
    "eth3d": Layout(
        ETH3D,
        "rgb/*/images/dslr_images/*.JPG",
        "depth/{0}_dslr_depth/{0}/ground_truth_depth/dslr_images/{1}.JPG",
        read_raw,
    ),
    "scannet": Layout(SCANNET, "*/color/*.jpg", "{0}/depth/{1}.png", _MILLIMETRES),
    "diode": Layout(
        DIODE, "*/scene_*/scan_*/*.png", "{0}/scene_{1}/scan_{2}/{3}_depth.npy", read_npy
    ),
}


@dataclass(frozen=True, slots=True)
class PublishedFrames:
    """See `open_published`; implements `Frames`.

    Attributes:
        layout: How the files are read.
        images: N paths.
        depths: N paths.
    """

    layout: Layout
    images: tuple[Path, ...]
    depths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Frame:
        path = self.images[index]
        rgb = read_rgb(path)
        depth = self.layout.read_depth(self.depths[index], rgb.shape[:2])
        if self.layout.benchmark_crop:
            if depth.shape != rgb.shape[:2]:
                raise MfsynthError(
                    f"{self.depths[index]}: depth of {depth.shape[1]}x{depth.shape[0]} pixels for "
                    f"an image of {rgb.shape[1]}x{rgb.shape[0]}, which can't be cropped alike; "
                    "fetch both again"
                )
            try:
                rgb, depth = kitti_benchmark_crop(rgb), kitti_benchmark_crop(depth)
            except ValueError as error:
                raise MfsynthError(f"{path}: {error}") from error
        return Frame(str(path), rgb, depth)


def open_published(
    name: PublishedName, path: str, split: str | None = None, depth_path: str | None = None
) -> EvaluationSet:
    """List the images of a published data set; its files are read when they are asked for.

    Args:
        name: Which data set.
        path: Its folder.
        split: A list of images: a line has an image's path relative to the folder, then anything
            separated by spaces. An image whose second entry is None is left out, for it has no
            depth. None for all images of the layout.
        depth_path: The folder of the depth maps; None for the same folder.

    Raises:
        MfsynthError: A folder, the list or a file is missing, or a line of the list isn't of the
            data set's layout.
    """
    layout, root = LAYOUTS[name], _folder(path)
    depth_root = root if depth_path is None else _folder(depth_path)
    listed = sorted(_find(layout, root)) if split is None else list(_listed(layout, Path(split)))
    if not listed:
        raise MfsynthError(
            f"{split or root}: no images of {name}, which are {layout.images}; check the path"
        )
    images, depths, missing = [], [], []
    for image, depth in listed:
        places = [depth_root / folder / depth for folder in layout.depth_folders]
        images.append(root / image)
        depths.append(next(filter(Path.is_file, places), places[0]))
        missing += [path for path in (images[-1], depths[-1]) if not path.is_file()]
    if missing:
        raise MfsynthError(
            f"{missing[0]}: not there; {len(listed)} images of {name} are listed, and of their "
            f"files {len(missing)} missing: restore them, or give a split without them"
        )
    return EvaluationSet(
        name, layout.protocol, PublishedFrames(layout, tuple(images), tuple(depths))
    )


def _find(layout: Layout, root: Path) -> Iterator[tuple[str, str]]:
    for path in root.glob(layout.images):
        image = path.relative_to(root).as_posix()
        depth = layout.depth_of(image)
        if depth is not None:
            yield image, depth


def _listed(layout: Layout, split: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = split.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MfsynthError(f"{split}: no readable split list ({error}); check the path") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[1:2] == [_NO_DEPTH]:
            continue
        depth = layout.depth_of(words[0])
        if depth is None:
            raise MfsynthError(
                f"{split}:{number}: {words[0]} is not of the layout {layout.images}; mend this line"
            )
        yield words[0], depth


def _folder(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise MfsynthError(f"{folder}: no such folder of evaluation data; check the path")
    return folder
