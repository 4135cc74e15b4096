"""Images in folders, with depth in files beside them, in the layouts of published data sets.

A layout is where the files are, and the preset of its encoding; `generic` has neither.
"""

from __future__ import annotations

import glob
import posixpath
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
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
from mfsynth.sources.contents import Member, file_contents
from mfsynth.sources.encoding import Encoding, with_defaults
from mfsynth.sources.folder_layouts import Pairs, pair_by_time, pair_by_wildcards, pair_trees
from mfsynth.sources.labels import LabelSettings
from mfsynth.sources.local_files import as_text
from mfsynth.sources.own_shards import own_depth
from mfsynth.sources.presets import PRESETS
from mfsynth.sources.settings import StoredDepthSettings
from mfsynth.sources.tolerance import Skipped
from mfsynth.sources.trees import Tree, open_tree

# Images and depth maps of layouts whose encoding is the preset of the same name.
_PATTERNS: Final = {
    "bop": ("**/rgb/*.{jpg,png}", "**/depth/*.png"),
    "rlbench": ("**/*_rgb/*.png", "**/*_depth/*.png"),
    "co3d": ("**/images/*.jpg", "**/depths/*.jpg.geometric.png"),
}


class _FolderSettings(StoredDepthSettings):
    """A folder of images, on the local disk or in an object store.

    Attributes:
        layout: Where the images and their depth maps are in it.
        path: The folder, or its URL.
        captions: Where captions come from.
    """

    places: ClassVar[frozenset[str]] = frozenset({"path", "depth_path"})
    # Whether images of one folder are frames of one recording.
    has_sequences: ClassVar[bool] = True

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
        tree = open_tree(self.path)
        depth_tree = self._depth_tree(tree)
        pairs = self._pair(tree, depth_tree)
        if not pairs:
            raise MfsynthError(
                f"{tree.told()}: no images of the layout {self.layout}; check the path"
            )
        if self._has_depth and self.depth != "optional":
            pairs = self._with_depth(pairs, tree)
        captions = read_captions(self.captions, tree, [image for image, _ in pairs])
        kept, skipped = [], []
        for (image, depth), caption in zip(pairs, captions, strict=True):
            if isinstance(caption, MfsynthError):
                skipped.append(Skipped(tree.told(image), str(caption)))
            else:
                kept.append((image, depth, caption))
        self.tolerance.require(skipped, len(pairs))
        if not kept:
            raise MfsynthError(f"{tree.told()}: no image has a caption ({skipped[0].reason})")
        if self.labels is not None:
            order = self.labels.in_order([as_text(image) for image, *_ in kept])
            kept = [kept[number] for number in order]
        images, depths, texts = zip(*kept, strict=True)
        return FolderSource(
            tree=tree,
            depth_tree=depth_tree,
            images=images,
            depths=depths,
            captions=texts,
            encoding=self.stored,
            has_images=self._has_images,
            needs_depth=self._has_depth and self.depth != "optional",
            skipped=tuple(skipped),
            beside=self.labels,
            has_sequences=self.has_sequences,
        )

    @abstractmethod
    def _pair(self, tree: Tree, depth_tree: Tree) -> Pairs:
        """The images of the folder, each with its depth map."""

    def _depth_tree(self, tree: Tree) -> Tree:
        """The folder of the depth maps."""
        return tree

    @property
    def _has_depth(self) -> bool:
        return True

    @property
    def _has_images(self) -> bool:
        return True

    def _with_depth(self, pairs: Pairs, tree: Tree) -> Pairs:
        unpaired = [image for image, depth in pairs if depth is None]
        if unpaired and self.depth == "required":
            raise MfsynthError(
                f"{tree.told()}: {len(unpaired)} of {len(pairs)} images have no depth, the first "
                f"is {unpaired[0]}; set depth to optional to use them without, or to paired to "
                "leave them out"
            )
        if len(unpaired) == len(pairs):
            raise MfsynthError(
                f"{tree.told()}: no image has depth; check the path, or set depth: optional"
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

    def _pair(self, tree: Tree, depth_tree: Tree) -> Pairs:
        return pair_by_time(tree, self.max_seconds)


class ScanNetSettings(_FolderSettings):
    """ScanNet as its reader exports it: color/N.jpg and depth/N.png, in any number of scenes."""

    layout: Literal["scannet"]
    codes_per_unit: Positive | None = 1000.0

    def _pair(self, tree: Tree, depth_tree: Tree) -> Pairs:
        return pair_by_wildcards(tree, "**/color/*.jpg", "**/depth/*.png")


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

    def _pair(self, tree: Tree, depth_tree: Tree) -> Pairs:
        return pair_trees(tree, depth_tree)

    def _depth_tree(self, tree: Tree) -> Tree:
        return open_tree(self.depth_path)


class GenericFolderSettings(_FolderSettings):
    """Any folder.

    Attributes:
        images: Wildcards of the images, as in `*/color/*.jpg` (`**` for any folders). None where
            there is depth alone.
        depths: The same wildcards with other words about them, as in `*/depth/*.png`: each
            stands for what it stands for in the image's path. None where there is no depth.
            `{jpg,png}` stands for either, in both.
        codes_per_unit: See above; it or a unit in `encoding` must be given with `depths`.
    """

    has_sequences: ClassVar[bool] = False

    layout: Literal["generic"]
    images: NonEmpty | None = None
    depths: NonEmpty | None = None

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        if self.images is None and self.depths is None:
            raise ValueError("give images, depths, or both: wildcards of the files")
        return self

    @property
    def _has_depth(self) -> bool:
        return self.depths is not None

    @property
    def _has_images(self) -> bool:
        return self.images is not None

    def _pair(self, tree: Tree, depth_tree: Tree) -> Pairs:
        if self.images is None:
            assert self.depths is not None
            return [(name, name) for name, _ in pair_by_wildcards(tree, self.depths, None)]
        return pair_by_wildcards(tree, self.images, self.depths)


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

    def _pair(self, tree: Tree, depth_tree: Tree) -> Pairs:
        return pair_by_wildcards(tree, *_PATTERNS[self.layout])


FolderSettings = Annotated[
    TumSettings | ScanNetSettings | KittiSettings | PresetSettings | GenericFolderSettings,
    Field(discriminator="layout"),
]


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Implements `FiniteSource`.

    Attributes:
        tree: The folder.
        depth_tree: That of the depth maps.
        images: N names; those of the depth maps where there are no images.
        depths: N names; None where an image has no depth.
        captions: N texts.
        encoding: Of the depth maps.
        has_images: Whether there are any.
        needs_depth: Whether depth without a valid pixel is an error.
        skipped: Images that were left out.
        beside: Which labels lie beside images.
        has_sequences: Whether images of one folder are frames of one recording.
    """

    tree: Tree
    depth_tree: Tree
    images: tuple[str, ...]
    depths: tuple[str | None, ...]
    captions: tuple[str, ...]
    encoding: Encoding
    has_images: bool
    needs_depth: bool
    skipped: tuple[Skipped, ...]
    beside: LabelSettings | None = None
    has_sequences: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        image, depth = self.images[index], self.depths[index]
        description = None if depth is None else _description(image, depth)
        about = None
        if description is not None and self.tree.find(description) == description:
            about = own_depth(self.tree.read(description), self.tree.told(description))
        files = Files(
            rgb=self.tree.read(image) if self.has_images else None,
            rgb_name=self.tree.told(image),
            text=self.captions[index],
            beside=InFolder(self.tree, image),
            depth=None if depth is None else self.depth_tree.read(depth),
            depth_name="" if depth is None else self.depth_tree.told(depth),
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
        return as_text(self.images[index])

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`."""
        return () if self.beside is None else self.beside.names

    def moment(self, index: int) -> Moment | None:
        """See `LabelledSource`."""
        return None if self.beside is None else self.beside.moment(self.key(index))

    def scene(self, index: int) -> str:
        """See `SceneSource`: an episode, or a recording; of images of any kind each its own."""
        if (moment := self.moment(index)) is not None:
            return moment.episode
        name = self.key(index)
        return posixpath.dirname(name) if self.has_sequences else name

    def contents(self) -> Iterator[bytes]:
        """Name, size and last bytes of every file that an item is made of."""
        return file_contents(self._files())

    def _files(self) -> Iterator[Member]:
        shared: set[str] = set()
        labels = frozenset() if self.beside is None else self.beside.files
        names = self.encoding.files_beside | labels
        for image, depth in zip(self.images, self.depths, strict=True):
            yield self.tree, image, image
            if depth is not None:
                yield self.depth_tree, depth, f"{image}: depth"
                if (description := _description(image, depth)) is not None:
                    yield self.tree, description, f"{image}: description"
            beside = InFolder(self.tree, image)
            yield from files_beside(beside, names, shared)
            for folder in () if self.beside is None else self.beside.folders:
                place = beside.place(folder)
                if place not in shared:
                    shared.add(place)
                    inside = sorted(self.tree.glob(f"{glob.escape(place)}/*"))
                    yield from ((self.tree, name, name) for name in inside)


@dataclass(frozen=True, slots=True)
class InFolder:
    """Implements `Beside`: files of the image's folder, or on the way from there.

    Attributes:
        tree: The folder that the image's name is relative to.
        image: Its name there.
    """

    tree: Tree
    image: str

    @property
    def stem(self) -> str:
        """See `Beside`."""
        return PurePosixPath(self.image).stem

    def place(self, file: str) -> str:
        """The name of a file in the tree, whose extension may be written in other letters there."""
        name = posixpath.normpath(posixpath.join(posixpath.dirname(self.image), file))
        return self.tree.find(name) or name

    def has(self, file: str) -> bool:
        """See `Beside`."""
        return self.tree.find(self.place(file)) is not None

    def read(self, file: str) -> tuple[bytes, str]:
        """See `Beside`."""
        name = self.place(file)
        return self.tree.read(name, "encoding names it"), self.tree.told(name)


def files_beside(beside: InFolder, names: Collection[str], shared: set[str]) -> Iterator[Member]:
    """Files that settings name beside an image.

    Args:
        beside: Them.
        names: As `Encoding` names them.
        shared: Those that were given before, which are not given again.
    """
    for pattern in sorted(names):
        try:
            name = beside.place(filled(pattern, beside.stem))
        except MfsynthError:
            continue  # the item can't be read, and says so
        if name not in shared:
            shared.add(name)
            yield beside.tree, name, f"{beside.image}: {pattern}"


def _description(image: str, depth: str) -> str | None:
    """Where mfsynth describes a sample, if the files are named as its own."""
    if image == depth and depth.endswith(own_shards.DEPTH):
        return depth.removesuffix(own_shards.DEPTH) + own_shards.DESCRIPTION
    key = image.removesuffix(own_shards.IMAGE)
    files = image, posixpath.basename(depth)
    if files != (key + own_shards.IMAGE, posixpath.basename(key) + own_shards.DEPTH):
        return None
    return key + own_shards.DESCRIPTION
