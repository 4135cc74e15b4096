"""What a source seems to hold, by a few of its frames: said before anything is trained or made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mfsynth.errors import MfsynthError
from mfsynth.shards.labels import CAMERA_TO_WORLD, EPISODE, SENSOR, SENSOR_PRESET
from mfsynth.sources.base import FiniteSource, Item, labels_of
from mfsynth.sources.decoding import EncodingError
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.tolerance import Skipped

_ENDS = (1, 50, 99)
_SKIPPED_SHOWN = 5
# Between millimetres and metres it is a thousand; a room and a street are ten apart.
_APART = 100
# Degrees across: beyond, a lens is no pinhole any more, and its numbers are of another image.
_WIDEST = 150


@dataclass(frozen=True, slots=True)
class DepthSurvey:
    """Depth of one frame or of several.

    Attributes:
        valid: Share of the pixels with depth.
        near: The 1st percentile of these; NaN where there is none, as the two below.
        median: The 50th.
        far: The 99th.
        unit: `m`, or `units` where it is relative or nobody said.
        lowest: The lowest code; NaN where depth isn't stored in codes.
        lowest_share: Of the pixels.
        highest: The highest code.
        highest_share: Of the pixels.
    """

    valid: float
    near: float
    median: float
    far: float
    unit: str
    lowest: float
    lowest_share: float
    highest: float
    highest_share: float

    def __str__(self) -> str:
        if math.isnan(self.median):
            said = f"{self.valid:.1%} of the pixels valid"
        else:
            said = (
                f"{self.valid:.1%} of the pixels valid, near {self.near:.4g}, median "
                f"{self.median:.4g}, far {self.far:.4g} {self.unit}"
            )
        if not math.isnan(self.highest):
            said += (
                f"; codes {self.lowest:.6g} ({self.lowest_share:.1%} of the pixels) to "
                f"{self.highest:.6g} ({self.highest_share:.1%})"
            )
        return said


@dataclass(frozen=True, slots=True)
class Survey:
    """A source, by some of its frames.

    Attributes:
        items: How many it has.
        frames: How many were looked at.
        with_depth: How many of these have a depth map.
        depth: Of them; None where none has any.
        cameras: Those that were found, as people read them.
        registered: Who says that depth's pixels are the image's; "" where nobody does.
        apart: Frames whose depth is so far from that of others that they have another unit.
        foreign: A frame whose camera seems to be of images of another size.
        skipped: What was left out when it was opened, and frames that can't be read.
        labels: How many of the frames have each of the labels that the source names.
    """

    items: int
    frames: int
    with_depth: int
    depth: DepthSurvey | None
    cameras: tuple[str, ...]
    registered: str
    apart: str
    foreign: str
    skipped: tuple[Skipped, ...]
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_depth(self) -> bool:
        """Whether a pixel of a frame has."""
        return self.depth is not None and self.depth.valid > 0

    @property
    def doubts(self) -> tuple[str, ...]:
        """What may be wrong with its depth and cameras, as far as the frames tell."""
        said = []
        if self.with_depth and not self.registered:
            said.append(
                "registration: nobody said that depth is of the image's camera; it is taken so"
            )
        if self.apart:
            said.append(f"units: {self.apart}")
        if self.foreign:
            said.append(f"camera: {self.foreign}")
        return tuple(said)

    def lines(self, most: int | None = _SKIPPED_SHOWN) -> Iterator[str]:
        """What to say of it.

        Args:
            most: How many of what was left out to name; None for all.
        """
        yield f"{self.items} items; of {self.frames}, {self.with_depth} with depth"
        if self.depth is not None:
            yield f"depth: {self.depth}"
        yield f"camera: {'; '.join(self.cameras) or 'not known'}"
        yield from self.doubts
        if self.labels:
            counted = (f"{name} ({count})" for name, count in self.labels.items())
            yield f"labels: {', '.join(counted)}"
        if self.skipped:
            yield f"left out: {len(self.skipped)}"
            shown = self.skipped[:most]
            yield from (f"  {one.reason}" for one in shown)
            if len(self.skipped) > len(shown):
                yield f"  and {len(self.skipped) - len(shown)} more"


def survey(source: FiniteSource, frames: int) -> Survey:
    """Look at frames that are spread over a source.

    Raises:
        EncodingError: A frame is whole, but not what the settings say.
        MfsynthError: None of the frames can be read; the first one's reason.
    """
    chosen = np.unique(np.linspace(0, len(source) - 1, frames).astype(int)).tolist()
    items, failed = [], []
    for index in chosen:
        try:
            items.append(source[index])
        except EncodingError:
            raise
        except MfsynthError as error:
            failed.append(Skipped(str(index), str(error)))
    if not items:
        raise MfsynthError(failed[0].reason)
    return survey_of(items, source, failed)


def survey_of(
    items: Sequence[Item], source: FiniteSource, failed: Iterable[Skipped] = ()
) -> Survey:
    """What some items of a source say.

    Args:
        items: Of it.
        source: It; what it left out when it was opened is told, if it knows.
        failed: Items that can't be read.
    """
    encoding = getattr(source, "encoding", None)
    cameras = Counter(_camera(item) for item in items if item.intrinsics is not None)
    return Survey(
        items=len(source),
        frames=len(items),
        with_depth=sum(item.depth is not None for item in items),
        depth=_depth([item for item in items if item.depth is not None]),
        cameras=tuple(
            f"{camera} (in {number} of {len(items)})" if len(cameras) > 1 else camera
            for camera, number in cameras.most_common(3)
        ),
        registered=_registered(encoding, items),
        apart=_apart(items),
        foreign=next(filter(None, map(_foreign, items)), ""),
        skipped=(*getattr(source, "skipped", ()), *failed),
        labels={name: sum(_has_label(item, name) for item in items) for name in labels_of(source)},
    )


def first_with_depth(source: FiniteSource, most: int) -> Item | None:
    """An item with a valid depth, of the first ones and others spread over the source.

    Args:
        source: To look into.
        most: How many items to look at.
    """
    for index in np.unique(np.linspace(0, len(source) - 1, most).astype(int)).tolist():
        try:
            item = source[index]
        except MfsynthError:
            continue
        if item.depth is not None and item.depth.any():
            return item
    return None


def _depth(items: Sequence[Item]) -> DepthSurvey | None:
    if not items:
        return None
    maps = [item.depth for item in items if item.depth is not None]
    valid = np.concatenate([depth[depth > 0] for depth in maps])
    ends = np.percentile(valid, _ENDS) if valid.size else (math.nan,) * 3
    units = {item.facts.unit for item in items}
    codes = [item.facts.codes for item in items if item.facts.codes is not None]
    codes = [one for one in codes if not math.isnan(one.highest)]
    low = min((one.lowest for one in codes), default=math.nan)
    high = max((one.highest for one in codes), default=math.nan)
    number = max(1, len(codes))
    return DepthSurvey(
        valid=valid.size / sum(depth.size for depth in maps),
        near=float(ends[0]),
        median=float(ends[1]),
        far=float(ends[2]),
        unit="m" if units == {"metres"} else "units",
        lowest=low,
        lowest_share=sum(one.lowest_share for one in codes if one.lowest == low) / number,
        highest=high,
        highest_share=sum(one.highest_share for one in codes if one.highest == high) / number,
    )


def _apart(items: Sequence[Item]) -> str:
    medians = {
        item.name: float(np.median(item.depth[item.depth > 0]))
        for item in items
        if item.depth is not None and item.depth.any()
    }
    if not medians:
        return ""
    near, far = (end(medians, key=lambda name: medians[name]) for end in (min, max))
    if medians[far] < _APART * medians[near]:
        return ""
    return (
        f"the median depth of {far} is {medians[far]:.3g}, of {near} {medians[near]:.3g}; if their "
        "files have two units, make two sources of them"
    )


def _foreign(item: Item) -> str:
    camera, shown = item.intrinsics, item.depth if item.rgb is None else item.rgb
    if camera is None or shown is None:
        return ""
    height, width = shown.shape[:2]
    across = camera.horizontal_fov(width)
    if across > _WIDEST:
        seen = f"sees {across:.0f}° across"
    elif not (0 <= camera.cx <= width and 0 <= camera.cy <= height):
        seen = "has its middle outside of the image"
    else:
        return ""
    return (
        f"that of {item.name} {seen}; if its numbers are of images of another size, give that as "
        "camera.size"
    )


def _has_label(item: Item, name: str) -> bool:
    if name == EPISODE:
        return item.labels.moment is not None
    if name == CAMERA_TO_WORLD:
        return item.labels.camera_to_world is not None
    if name in (SENSOR, SENSOR_PRESET):
        return item.labels.sensor is not None
    return name in item.labels.files


def _registered(encoding: object, items: Sequence[Item]) -> str:
    if not isinstance(encoding, Encoding):
        return "the source"
    if encoding.registration is not None:
        return "the settings"
    if not any(item.rgb is not None and item.depth is not None for item in items):
        return "depth alone"
    return "" if encoding.camera is None or encoding.depth_camera is None else "the cameras"


def _camera(item: Item) -> str:
    camera = item.intrinsics
    assert camera is not None
    source = f" from {item.camera_from}" if item.camera_from else ""
    size = f" for {item.rgb.shape[1]}x{item.rgb.shape[0]}" if item.rgb is not None else ""
    return (
        f"fx {camera.fx:.1f}, fy {camera.fy:.1f}, cx {camera.cx:.1f}, cy {camera.cy:.1f}"
        f"{size}{source}"
    )
