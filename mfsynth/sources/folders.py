"""Images in folders, with depth in 16-bit PNG files, in the layouts of published data sets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mfsynth.config.base import NonEmpty, Positive
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.sources.base import Item
from mfsynth.sources.captions import CaptionSettings, read_captions
from mfsynth.sources.decoding import decode_depth, decode_rgb, make_item, read_file
from mfsynth.sources.folder_layouts import Pairs, pair_by_time, pair_by_wildcards, pair_trees
from mfsynth.sources.settings import StoredDepthSettings, require_unit


class _FolderSettings(StoredDepthSettings):
    """A local folder of images.

    Attributes:
        layout: Where the images and their depth maps are in it.
        path: The folder.
        captions: Where captions come from.
    """

    kind: Literal["folder"]
    layout: str
    path: NonEmpty
    captions: CaptionSettings = CaptionSettings()

    def open(self) -> FolderSource:
        """List the images of the folder and their depth maps.

        They come in the order of their paths (of their times, for TUM), and are read when they
        are asked for.

        Raises:
            MfsynthError: The folder is missing or holds no image, an image has no depth though it
                must, or there is a fault in the list of captions.
        """
        root = _existing(self.path)
        pairs = self._pair(root)
        if not pairs:
            raise MfsynthError(f"{root}: no images of the layout {self.layout}; check the path")
        if self._has_depth and self.depth != "optional":
            pairs = self._with_depth(pairs, root)
        images = [image for image, _ in pairs]
        return FolderSource(
            images=tuple(root / image for image in images),
            depths=tuple(depth for _, depth in pairs),
            captions=read_captions(self.captions, root, images),
            codes_per_unit=self.codes_per_unit or 1.0,
            ray_camera=self.ray_intrinsics,
        )

    @abstractmethod
    def _pair(self, root: Path) -> Pairs:
        """The images of the folder, each with its depth map."""

    @property
    def _has_depth(self) -> bool:
        return True

    def _with_depth(self, pairs: Pairs, root: Path) -> Pairs:
        unpaired = [image for image, depth in pairs if depth is None]
        if unpaired and self.depth == "required":
            raise MfsynthError(
                f"{root}: {len(unpaired)} of {len(pairs)} images have no depth, the first is "
                f"{unpaired[0]}; set depth to optional to use them without, or to paired to leave "
                "them out"
            )
        if len(unpaired) == len(pairs):
            raise MfsynthError(
                f"{root}: no image has depth; check the path, or set depth: optional"
            )
        return [pair for pair in pairs if pair[1] is not None]


class TumSettings(_FolderSettings):
    """A TUM RGB-D sequence: rgb.txt and depth.txt, associated by time.

    Attributes:
        max_seconds: Greatest difference in time of an image and its depth.
    """

    layout: Literal["tum"]
    codes_per_unit: Positive = 5000.0
    max_seconds: Positive = 0.02

    def _pair(self, root: Path) -> Pairs:
        return pair_by_time(root, self.max_seconds)


class ScanNetSettings(_FolderSettings):
    """ScanNet as its reader exports it: color/N.jpg and depth/N.png, in any number of scenes."""

    layout: Literal["scannet"]
    codes_per_unit: Positive = 1000.0

    def _pair(self, root: Path) -> Pairs:
        return pair_by_wildcards(root, "**/color/*.jpg", "**/depth/*.png")


class KittiSettings(_FolderSettings):
    """Separate trees of images and of sparse depth, as KITTI's.

    Attributes:
        path: The images: DATE/DRIVE/image_02/data/N.png.
        depth_path: The depth maps: train/DRIVE/proj_depth/groundtruth/image_02/N.png. Trees that
            mirror the images' are fine, too.
    """

    layout: Literal["kitti"]
    depth_path: NonEmpty
    codes_per_unit: Positive = 256.0

    def _pair(self, root: Path) -> Pairs:
        return pair_trees(root, _existing(self.depth_path))


class GenericFolderSettings(_FolderSettings):
    """Any folder.

    Attributes:
        images: Wildcards of the images, as in `*/color/*.jpg` (`**` for any folders).
        depths: The same wildcards with other words about them, as in `*/depth/*.png`: each
            stands for what it stands for in the image's path. None where there is no depth.
        codes_per_unit: See above; must be given with `depths`.
    """

    layout: Literal["generic"]
    images: NonEmpty
    depths: NonEmpty | None = None

    @model_validator(mode="after")
    def _has_unit(self) -> Self:
        if self.depths is not None:
            require_unit(self.codes_per_unit)
        return self

    @property
    def _has_depth(self) -> bool:
        return self.depths is not None

    def _pair(self, root: Path) -> Pairs:
        return pair_by_wildcards(root, self.images, self.depths)


FolderSettings = Annotated[
    TumSettings | ScanNetSettings | KittiSettings | GenericFolderSettings,
    Field(discriminator="layout"),
]


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Implements `FiniteSource`.

    Attributes:
        images: N paths.
        depths: N paths; None where an image has no depth.
        captions: N texts.
        codes_per_unit: Depth is a code divided by this.
        ray_camera: Camera of maps of distances along the ray; None for maps of z-depth.
    """

    images: tuple[Path, ...]
    depths: tuple[Path | None, ...]
    captions: tuple[str, ...]
    codes_per_unit: float
    ray_camera: Intrinsics | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        image, depth = self.images[index], self.depths[index]
        rgb = decode_rgb(read_file(image), str(image), upright=depth is None)
        values = None
        if depth is not None:
            data = read_file(depth)
            values = decode_depth(data, str(depth), self.codes_per_unit, self.ray_camera)
        return make_item(rgb, values, self.captions[index], str(image), str(depth))

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return iter(self.captions)


def _existing(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise MfsynthError(f"{folder}: no such folder of images; check the path")
    return folder
