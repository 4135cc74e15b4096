"""Typed settings of training data: where samples come from, how often, and how sparse.

A list of these is a mixture::

    data:
      - {kind: folder, layout: tum, path: /data/tum/fr1_desk, weight: 1.0,
         captions: {constant: a desk},
         sparsity: [{kind: lidar, rings: 16}, {kind: at_most, share: 0.05}]}
      - {kind: webdataset, shards: "s3://bucket/train-{000..127}.tar", weight: 3.0, mirror: true}
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mfsynth.config.base import Count, Index, Items, NonEmpty, Positive, Settings
from mfsynth.geometry import Intrinsics
from mfsynth.sources.decoding import DepthPolicy
from mfsynth.training.data.resize_crop import Crop
from mfsynth.training.data.sparsity import AnySparsityPattern


class RayCameraSettings(Settings):
    """A pinhole camera in pixels of the depth maps, for those that hold distances along rays."""

    fx: Positive
    fy: Positive
    cx: float
    cy: float

    def intrinsics(self) -> Intrinsics:
        """The same as a camera."""
        return Intrinsics(self.fx, self.fy, self.cx, self.cy)


class CaptionSettings(Settings):
    """Where captions of a folder come from; empty ones where nothing is given.

    Attributes:
        constant: One caption for all images.
        file: A .jsonl or .csv file, relative to the folder, with a row for every image.
        image_key: The key of the image's path, relative to the folder.
        caption_key: The key of the caption.
    """

    constant: NonEmpty | None = None
    file: NonEmpty | None = None
    image_key: NonEmpty = "file_name"
    caption_key: NonEmpty = "text"

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if self.constant is not None and self.file is not None:
            raise ValueError("give one of constant and file, or neither for empty captions")
        return self


class PartSettings(Settings):
    """What all parts of a mixture have.

    Attributes:
        weight: Share of the samples, relative to the other parts' weights.
        crop: Which part of an image of other proportions is taken.
        mirror: Whether every other sample is turned left to right.
        sparsity: Patterns that take depth away, in their order.
    """

    weight: Positive = 1.0
    crop: Crop = "random"
    mirror: bool = False
    sparsity: Items[AnySparsityPattern] = ()


class RunSettings(PartSettings):
    """The pairs of an mfsynth run.

    Attributes:
        url: A local path or fsspec URL of the run.
    """

    kind: Literal["mfsynth"]
    url: NonEmpty


class RenderSettings(Settings):
    """Simulator scenes to render into a folder.

    Attributes:
        library: Name or path of the prompt library.
        scenes: How many.
        views: Of each scene.
        seed: Of prompts and scenes.
    """

    library: NonEmpty = "tabletop"
    scenes: Count
    views: Count
    seed: Index = 0


class CachedScenesSettings(PartSettings):
    """Simulator images on disk.

    Attributes:
        path: The folder.
        render: What training renders into it first, as far as it isn't there yet; None where the
            folder has been filled before.
    """

    kind: Literal["cached_scenes"]
    path: NonEmpty
    render: RenderSettings | None = None


class LiveScenesSettings(PartSettings):
    """Simulator images rendered when they are asked for, one view of each scene.

    Attributes:
        library: Name or path of the prompt library.
        scenes: How many different ones.
        size: Rows and columns.
        seed: Of prompts and scenes.
    """

    kind: Literal["live_scenes"]
    library: NonEmpty = "tabletop"
    scenes: Count
    size: Count
    seed: Index = 0


class _StoredDepthSettings(PartSettings):
    """What sources of 16-bit depth maps have.

    Attributes:
        depth: What an image without depth is: `required`, an error; `optional`, a sample
            without depth; `paired`, left out.
        codes_per_unit: Depth is the stored 16-bit code divided by this.
        ray_camera: Given where the maps hold distances along the ray, not z-depth. They are
            converted; a file doesn't say which it holds.
    """

    depth: DepthPolicy = "required"
    ray_camera: RayCameraSettings | None = None


class WebDatasetSettings(_StoredDepthSettings):
    """Tar files with the files of a sample side by side, named KEY.extension.

    Attributes:
        shards: Path or fsspec URL of uncompressed tar files, with {000..127} or wildcards.
        image_key: The image's extension.
        depth_key: The depth map's extension; None where there is no depth.
        codes_per_unit: See above; must be given with `depth_key`.
        caption_key: The extension of the caption's file; None for empty captions.
        caption_field: The key of the caption where its file is JSON; None where it is text.
    """

    kind: Literal["webdataset"]
    shards: NonEmpty
    image_key: NonEmpty = "jpg"
    depth_key: NonEmpty | None = None
    codes_per_unit: Positive | None = None
    caption_key: NonEmpty | None = "txt"
    caption_field: NonEmpty | None = None

    @model_validator(mode="after")
    def _has_unit(self) -> Self:
        if self.depth_key is not None:
            _require_unit(self.codes_per_unit)
        return self


class _FolderSettings(_StoredDepthSettings):
    """A local folder of images.

    Attributes:
        path: The folder.
        captions: Where captions come from.
    """

    kind: Literal["folder"]
    path: NonEmpty
    captions: CaptionSettings = CaptionSettings()


class TumSettings(_FolderSettings):
    """A TUM RGB-D sequence: rgb.txt and depth.txt, associated by time.

    Attributes:
        max_seconds: Greatest difference in time of an image and its depth.
    """

    layout: Literal["tum"]
    codes_per_unit: Positive = 5000.0
    max_seconds: Positive = 0.02


class ScanNetSettings(_FolderSettings):
    """ScanNet as its reader exports it: color/N.jpg and depth/N.png, in any number of scenes."""

    layout: Literal["scannet"]
    codes_per_unit: Positive = 1000.0


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
    codes_per_unit: Positive | None = None

    @model_validator(mode="after")
    def _has_unit(self) -> Self:
        if self.depths is not None:
            _require_unit(self.codes_per_unit)
        return self


def _require_unit(codes_per_unit: float | None) -> None:
    if codes_per_unit is None:
        raise ValueError(
            "codes_per_unit is missing; say how many codes of the depth maps make a unit, "
            "for example 1000 for millimetres"
        )


FolderSettings = Annotated[
    TumSettings | ScanNetSettings | KittiSettings | GenericFolderSettings,
    Field(discriminator="layout"),
]
SourceSettings = Annotated[
    RunSettings | WebDatasetSettings | FolderSettings | CachedScenesSettings | LiveScenesSettings,
    Field(discriminator="kind"),
]
