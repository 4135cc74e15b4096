"""Images in folders, with depth in files beside them, in the layouts of published data sets.

A layout is where the files are, and the preset of its encoding; `generic` has neither.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from mfsynth.config.base import NonEmpty, Positive
from mfsynth.errors import MfsynthError
from mfsynth.shards.labels import Moment
from mfsynth.sources import own_shards
from mfsynth.sources.assembling import Files, assemble
from mfsynth.sources.base import Item
from mfsynth.sources.beside import filled
from mfsynth.sources.captions import CaptionSettings, read_captions
from mfsynth.sources.contents import file_contents
from mfsynth.sources.decoding import read_file
from mfsynth.sources.encoding import Encoding, with_defaults
from mfsynth.sources.folder_layouts import Pairs, pair_by_time, pair_by_wildcards, pair_trees
from mfsynth.sources.labels import LabelSettings
from mfsynth.sources.own_shards import own_depth
from mfsynth.sources.presets import PRESETS
from mfsynth.sources.settings import StoredDepthSettings
from mfsynth.sources.tolerance import Skipped

# Images and depth maps of layouts whose encoding is the preset of the same name.
_PATTERNS: Final = {
    "bop": ("**/rgb/*.{jpg,png}", "**/depth/*.png"),
    "rlbench": ("**/*_rgb/*.png", "**/*_depth/*.png"),
    "co3d": ("**/images/*.jpg", "**/depths/*.jpg.geometric.png"),
}


class _FolderSettings(StoredDepthSettings):
    """A local folder of images.

    Attributes:
        layout: Where the images and their depth maps are in it.
        path: The folder.
        captions: Where captions come from.
    """

    places: ClassVar[frozenset[str]] = frozenset({"path", "depth_path"})

    kind: Literal["folder"]
    layout: str
    path: NonEmpty
    captions: CaptionSettings = CaptionSettings()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self._has_depth:
            self.stored.require_complete()
        return self

    def open(self) -> FolderSource:
        """List the images of the folder and their depth maps.

        They come in the order of their paths (of their times, for TUM), and are read when they
        are asked for.

        Raises:
            MfsynthError: The folder is missing or holds no image, an image has no depth though it
                must, there is a fault in the list of captions, or more images have no caption than
                may be left out.
        """
        root = _existing(self.path)
        pairs = self._pair(root)
        if not pairs:
            raise MfsynthError(f"{root}: no images of the layout {self.layout}; check the path")
        if self._has_depth and self.depth != "optional":
            pairs = self._with_depth(pairs, root)
        captions = read_captions(self.captions, root, [image for image, _ in pairs])
        kept, skipped = [], []
        for (image, depth), caption in zip(pairs, captions, strict=True):
            if isinstance(caption, MfsynthError):
                skipped.append(Skipped(str(root / image), str(caption)))
            else:
                kept.append((root / image, depth, caption))
        self.tolerance.require(skipped, len(pairs))
        if not kept:
            raise MfsynthError(f"{root}: no image has a caption ({skipped[0].reason})")
        if self.labels is not None:
            keys = [image.relative_to(root).as_posix() for image, *_ in kept]
            kept = [kept[number] for number in self.labels.in_order(keys)]
        images, depths, texts = zip(*kept, strict=True)
        return FolderSource(
            root=root,
            images=images,
            depths=depths,
            captions=texts,
            encoding=self.stored,
            needs_depth=self._has_depth and self.depth != "optional",
            skipped=tuple(skipped),
            beside=self.labels,
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
    codes_per_unit: Positive | None = 5000.0
    max_seconds: Positive = 0.02

    def _pair(self, root: Path) -> Pairs:
        return pair_by_time(root, self.max_seconds)


class ScanNetSettings(_FolderSettings):
    """ScanNet as its reader exports it: color/N.jpg and depth/N.png, in any number of scenes."""

    layout: Literal["scannet"]
    codes_per_unit: Positive | None = 1000.0

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
    codes_per_unit: Positive | None = 256.0

    def _pair(self, root: Path) -> Pairs:
        return pair_trees(root, _existing(self.depth_path))


class GenericFolderSettings(_FolderSettings):
    """Any folder.

    Attributes:
        images: Wildcards of the images, as in `*/color/*.jpg` (`**` for any folders).
        depths: The same wildcards with other words about them, as in `*/depth/*.png`: each
            stands for what it stands for in the image's path. None where there is no depth.
            `{jpg,png}` stands for either, in both.
        codes_per_unit: See above; it or a unit in `encoding` must be given with `depths`.
    """

    layout: Literal["generic"]
    images: NonEmpty
    depths: NonEmpty | None = None

    @property
    def _has_depth(self) -> bool:
        return self.depths is not None

    def _pair(self, root: Path) -> Pairs:
        return pair_by_wildcards(root, self.images, self.depths)


class PresetSettings(_FolderSettings):
    """A layout that is a pair of wildcards and the preset of its name, and nothing else."""

    layout: Literal["bop", "rlbench", "co3d"]

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("layout") not in _PATTERNS:
            return values
        given = values.get("encoding")
        if given is not None and not isinstance(given, Mapping):
            return values
        given = dict(given or {})
        preset = PRESETS[str(values["layout"])]
        if values.get("codes_per_unit") is not None:
            preset = {name: value for name, value in preset.items() if name != "scale"}
        return {**values, "encoding": with_defaults(given, preset)}

    def _pair(self, root: Path) -> Pairs:
        return pair_by_wildcards(root, *_PATTERNS[self.layout])


FolderSettings = Annotated[
    TumSettings | ScanNetSettings | KittiSettings | PresetSettings | GenericFolderSettings,
    Field(discriminator="layout"),
]


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Implements `FiniteSource`.

    Attributes:
        root: The folder.
        images: N paths.
        depths: N paths; None where an image has no depth.
        captions: N texts.
        encoding: Of the depth maps.
        needs_depth: Whether depth without a valid pixel is an error.
        skipped: Images that were left out.
        beside: Which labels lie beside images.
    """

    root: Path
    images: tuple[Path, ...]
    depths: tuple[Path | None, ...]
    captions: tuple[str, ...]
    encoding: Encoding
    needs_depth: bool
    skipped: tuple[Skipped, ...]
    beside: LabelSettings | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        image, depth = self.images[index], self.depths[index]
        description = None if depth is None else _description(image, depth)
        about = None
        if description is not None and description.is_file():
            about = own_depth(read_file(description), str(description))
        files = Files(
            rgb=read_file(image),
            rgb_name=str(image),
            text=self.captions[index],
            beside=_InFolder(image),
            depth=None if depth is None else read_file(depth),
            depth_name=str(depth),
            own=about,
            named_as_own=description is not None,
            moment=self.moment(index),
        )
        return assemble(files, self.encoding, self.beside, needs_depth=self.needs_depth)

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return iter(self.captions)

    def key(self, index: int) -> str:
        """The image's path in the folder."""
        return self.images[index].relative_to(self.root).as_posix()

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`."""
        return () if self.beside is None else self.beside.names

    def moment(self, index: int) -> Moment | None:
        """See `LabelledSource`."""
        return None if self.beside is None else self.beside.moment(self.key(index))

    def contents(self) -> Iterator[bytes]:
        """Name, size and last bytes of every file that an item is made of."""
        shared: set[str] = set()
        labels = frozenset() if self.beside is None else self.beside.files
        for index, (image, depth) in enumerate(zip(self.images, self.depths, strict=True)):
            key = self.key(index)
            yield from file_contents(image, key)
            if depth is not None:
                yield from file_contents(depth, f"{key}: depth")
                if (description := _description(image, depth)) is not None:
                    yield from file_contents(description, f"{key}: description")
            for pattern in sorted(self.encoding.files_beside | labels):
                try:
                    path = image.parent / filled(pattern, image.stem)
                except MfsynthError:
                    continue  # the item can't be read, and says so
                if (name := os.path.normpath(path)) not in shared:
                    shared.add(name)
                    yield from file_contents(path, f"{key}: {pattern}")


@dataclass(frozen=True, slots=True)
class _InFolder:
    """Implements `Beside`: files of the image's folder, or on the way from there."""

    image: Path

    @property
    def stem(self) -> str:
        return self.image.stem

    def has(self, file: str) -> bool:
        return (self.image.parent / file).is_file()

    def read(self, file: str) -> tuple[bytes, str]:
        path = self.image.parent / file
        return read_file(path, "encoding names it"), str(path)


def _description(image: Path, depth: Path) -> Path | None:
    """Where mfsynth describes a sample, if the files are named as its own."""
    key = image.name.removesuffix(own_shards.IMAGE)
    if (image.name, depth.name) != (key + own_shards.IMAGE, key + own_shards.DEPTH):
        return None
    return image.with_name(key + own_shards.DESCRIPTION)


def _existing(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise MfsynthError(f"{folder}: no such folder of images; check the path")
    return folder
