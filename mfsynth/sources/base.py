"""What a source gives, and how to write one.

A kind of source is one file: its settings, which open it, and the source. Say, for images that
each lie beside a text, in `beside.py` of a package of yours:

    from __future__ import annotations

    from collections.abc import Iterator
    from dataclasses import dataclass
    from pathlib import Path
    from typing import Literal

    from mfsynth.sources.base import Item
    from mfsynth.sources.decoding import decode_rgb, read_file
    from mfsynth.sources.settings import SourceSettings


    class BesideSettings(SourceSettings):
        kind: Literal["beside"]
        path: str

        def open(self) -> BesideSource:
            return BesideSource(tuple(sorted(Path(self.path).glob("*.jpg"))))


    @dataclass(frozen=True, slots=True)
    class BesideSource:
        images: tuple[Path, ...]

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Item:
            path = self.images[index]
            rgb = decode_rgb(read_file(path), str(path), upright=True)
            return Item(rgb=rgb, text=path.with_suffix(".txt").read_text(), name=str(path))

        def texts(self) -> Iterator[str]:
            return (path.with_suffix(".txt").read_text() for path in self.images)

The package names it in its pyproject.toml, and `kind: beside` is known wherever sources are:

    [project.entry-points."mfsynth.sources"]
    beside = "your_package.beside:BesideSettings"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.geometry.rgbd import (
    DepthMap,
    RgbImage,
    require_depth,
    require_depth_of,
    require_rgb,
)
from mfsynth.shards.labels import NO_LABELS, Labels, Moment

DepthUnit = Literal["metres", "relative", ""]


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """What a report says of a map's codes; holes of floating-point maps (NaN, inf) apart.

    Attributes:
        lowest: The lowest code.
        lowest_share: Of the pixels.
        highest: The highest code.
        highest_share: Of the pixels.
    """

    lowest: float
    lowest_share: float
    highest: float
    highest_share: float


@dataclass(frozen=True, slots=True)
class DepthFacts:
    """What is known of an item's depth beside its values.

    Attributes:
        unit: metres, or relative; "" where nobody has said.
        codes: Of the stored map; None where it is stored as depth.
    """

    unit: DepthUnit = ""
    codes: CodeFacts | None = None


def unit_of(kind: DepthKind) -> DepthUnit:
    """What a unit of depth of a kind is; see `DepthFacts`."""
    return "metres" if kind.is_metric else "relative"


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What is known of where an item comes from, for whoever hands it on.

    Attributes:
        key: What it is called in its source, wherever that lies.
        jpeg: The file of `rgb`, where that is a JPEG whose pixels are these whether or not its
            reader heeds EXIF.
        digital_source_type: How the image came to be, a term of the IPTC, as its file says; ""
            where it doesn't.
        licence: What the item may be used for; "" where only the settings say.
        camera: Where its intrinsics come from.
        depth: What a unit of its depth is, where the source knows more than whether it is metres.
        scene: Of an item that a run begins with, what its source says of it (`told_scene`).
    """

    key: str = ""
    jpeg: bytes | None = None
    digital_source_type: str = ""
    licence: str = ""
    camera: IntrinsicsSource = IntrinsicsSource.GIVEN
    depth: DepthKind | None = None
    scene: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What a source has under a number; who reads it says what of it must be there.

    Attributes:
        rgb: uint8 (H, W, 3); None where the source has no images.
        depth: float32 (H, W), z-depth (distance along the optical axis, never along the ray),
            0 = invalid; None where there is none. The unit may differ from item to item.
        text: A caption or a prompt; may be empty.
        intrinsics: Camera of the image, as far as the source knows it.
        name: Where the item is, for messages.
        camera_from: Where the camera comes from, for people.
        facts: Of the depth.
        slots: What a prompt took for each slot of its library, in the order of the text.
        origin: Where it comes from.
        labels: What the source knows of the view beside, of its size.
    """

    rgb: RgbImage | None = None
    depth: DepthMap | None = None
    text: str = ""
    intrinsics: Intrinsics | None = None
    name: str = ""
    camera_from: str = ""
    facts: DepthFacts = DepthFacts()
    slots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    origin: Origin = Origin()
    labels: Labels = NO_LABELS

    def __post_init__(self) -> None:
        if self.rgb is not None:
            require_rgb(self.rgb)
        if self.depth is not None:
            require_depth(self.depth)
        if self.rgb is not None and self.depth is not None:
            require_depth_of(self.rgb, self.depth)
        shown = self.depth if self.rgb is None else self.rgb
        mask = self.labels.mask
        if mask is not None and (shown is None or mask.shape != shown.shape[:2]):
            raise ValueError(f"a mask of {mask.shape}, which is not the view's size")


class Source(Protocol):
    """Random access by number: the same item for the same number in every process.

    It may be without end, as prompts are. Sources pickle without their images, so that other
    processes can have copies.
    """

    def __getitem__(self, index: int) -> Item:
        """Item `index`, from 0.

        Raises:
            IndexError: There is no such item.
            MfsynthError: Its files can't be read; names them.
        """
        ...


class FiniteSource(Source, Protocol):
    """A source with an end, as everything that lies on disks."""

    def __len__(self) -> int:
        """How many items; at least one."""
        ...

    def texts(self) -> Iterator[str]:
        """The text of every item in order, without decoding images."""
        ...


@runtime_checkable
class NamedSource(FiniteSource, Protocol):
    """What a run can begin with: it tells one item, and one state of the source, from another."""

    def key(self, index: int) -> str:
        """What item `index` is called, wherever the source lies; without decoding anything."""
        ...

    def contents(self) -> Iterator[bytes]:
        """What changes if the items do: names, sizes, checksums; no place, and no image decoded."""
        ...


@runtime_checkable
class LabelledSource(FiniteSource, Protocol):
    """What a run hands on labels of, where it can begin with it."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What items may have: suffixes of `Labels.files`, `camera_to_world`, `episode`."""
        ...

    def moment(self, index: int) -> Moment | None:
        """Where item `index` stands in an episode, without decoding anything; None for nowhere.

        Frames of an episode come in their order, though others may stand between them.
        """
        ...


@runtime_checkable
class SceneSource(FiniteSource, Protocol):
    """A source of several views of a scene, or of several items that began as one."""

    def scene(self, index: int) -> str:
        """What item `index` shows, without decoding anything: of views of one scene the same."""
        ...


def as_labelled(source: FiniteSource) -> LabelledSource | None:
    """The source, if it says what is known of its items beside; None of one that doesn't.

    Raises:
        MfsynthError: It has one of `labels` and `moment`, so that the other is misspelt or missing.
    """
    if isinstance(source, LabelledSource):
        return source
    for found, missing in (("labels", "moment"), ("moment", "labels")):
        if hasattr(source, found):
            raise MfsynthError(
                f"{type(source).__name__} has {found} and no {missing}; a source of labels has "
                "both (LabelledSource in mfsynth/sources/base.py): add it, or correct its name"
            )
    return None


def labels_of(source: FiniteSource) -> tuple[str, ...]:
    """Labels that items of a source may have; none of one that doesn't say.

    Raises:
        MfsynthError: See `as_labelled`.
    """
    labelled = as_labelled(source)
    return () if labelled is None else tuple(labelled.labels)


def scene_of(source: FiniteSource, index: int) -> str:
    """What items of a source have in common that were not drawn independently of each other.

    Of a source that doesn't say, that is nothing: each has its own.

    Raises:
        MfsynthError: See `as_labelled`.
    """
    told = told_scene(source, index)
    return f"item {index}" if told is None else told


def told_scene(source: FiniteSource, index: int) -> str | None:
    """What a source says that views of a scene, or frames of a recording, have in common.

    That is their scene, or else their episode; None where it says neither.

    Raises:
        MfsynthError: See `as_labelled`.
    """
    if isinstance(source, SceneSource):
        return source.scene(index)
    labelled = as_labelled(source)
    moment = None if labelled is None else labelled.moment(index)
    return None if moment is None else moment.episode
