"""Images in folders, with depth in 16-bit PNG files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.sources.base import TrainingSample
from mfsynth.sources.captions import read_captions
from mfsynth.sources.decoding import decode_depth, decode_rgb, make_sample
from mfsynth.sources.folder_layouts import Pairs, pair_by_time, pair_by_wildcards, pair_trees
from mfsynth.training.data.settings import (
    GenericFolderSettings,
    KittiSettings,
    ScanNetSettings,
    TumSettings,
)

AnyFolderSettings = TumSettings | ScanNetSettings | KittiSettings | GenericFolderSettings


@dataclass(frozen=True, slots=True)
class FolderSource:
    """See `open_folder`; implements `Source`.

    Attributes:
        images: N paths.
        depths: N paths; None where an image has no depth.
        texts: N captions.
        codes_per_unit: Depth is a code divided by this.
        ray_camera: Camera of maps of distances along the ray; None for maps of z-depth.
    """

    images: tuple[Path, ...]
    depths: tuple[Path | None, ...]
    texts: tuple[str, ...]
    codes_per_unit: float
    ray_camera: Intrinsics | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> TrainingSample:
        image, depth = self.images[index], self.depths[index]
        rgb = decode_rgb(_read(image), str(image), upright=depth is None)
        values = None
        if depth is not None:
            values = decode_depth(_read(depth), str(depth), self.codes_per_unit, self.ray_camera)
        return make_sample(rgb, values, self.texts[index], str(image), str(depth))

    def captions(self) -> Iterator[str]:
        """See `Source`."""
        return iter(self.texts)


def open_folder(settings: AnyFolderSettings) -> FolderSource:
    """List the images of a folder and their depth maps.

    They come in the order of their paths (of their times, for TUM), and are read when they are
    asked for.

    Raises:
        MfsynthError: The folder is missing or holds no image, an image has no depth though it
            must, or there is a fault in the list of captions.
    """
    root = _existing(settings.path)
    pairs = _pair(settings, root)
    if not pairs:
        raise MfsynthError(f"{root}: no images of the layout {settings.layout}; check the path")
    with_depth = not isinstance(settings, GenericFolderSettings) or settings.depths is not None
    if with_depth and settings.depth != "optional":
        unpaired = [image for image, depth in pairs if depth is None]
        if unpaired and settings.depth == "required":
            raise MfsynthError(
                f"{root}: {len(unpaired)} of {len(pairs)} images have no depth, the first is "
                f"{unpaired[0]}; set depth to optional to use them without, or to paired to leave "
                "them out"
            )
        pairs = [pair for pair in pairs if pair[1] is not None]
        if not pairs:
            raise MfsynthError(
                f"{root}: no image has depth; check the path, or set depth: optional"
            )
    images = [image for image, _ in pairs]
    camera = settings.ray_camera
    return FolderSource(
        images=tuple(root / image for image in images),
        depths=tuple(depth for _, depth in pairs),
        texts=read_captions(settings.captions, root, images),
        codes_per_unit=settings.codes_per_unit or 1.0,
        ray_camera=None if camera is None else camera.intrinsics(),
    )


def _pair(settings: AnyFolderSettings, root: Path) -> Pairs:
    match settings:
        case TumSettings():
            return pair_by_time(root, settings.max_seconds)
        case ScanNetSettings():
            return pair_by_wildcards(root, "**/color/*.jpg", "**/depth/*.png")
        case KittiSettings():
            return pair_trees(root, _existing(settings.depth_path))
        case GenericFolderSettings():
            return pair_by_wildcards(root, settings.images, settings.depths)


def _existing(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise MfsynthError(f"{folder}: no such folder of training data; check the path")
    return folder


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MfsynthError(
            f"{path}: {error.strerror or error}; it was listed, so restore it or mend the list"
        ) from error
