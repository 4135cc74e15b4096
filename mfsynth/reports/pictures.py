"""The pictures of the pairs of a page, as large as its size allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfsynth.datasets import RGBDSample
from mfsynth.geometry.colour import colour_depth
from mfsynth.reports import images
from mfsynth.reports.depth_grid import DepthGrid, grid_of, sampled

PAGE_BYTES = 1_000_000
"""For the pictures of a page, which with all else stays below a megabyte and a half."""

# Of the pictures and of the grids of depth, the largest that fit are taken.
_SIDES = ((320, 128), (256, 112), (224, 96), (192, 96), (160, 80), (128, 64), (96, 64), (64, 48))
_LOSSLESS_UP_TO = 128
_PROBED = 8
_MARGIN = 1.05
"""Of what some say of all, more is tried than fits: it may be less."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """A pair to look at.

    Attributes:
        rgb_uri: The image.
        depth_uri: Its depth, coloured.
        width: Of the pair as it is stored, in pixels.
        height: Likewise.
        shown: Width and height of the pictures, in pixels.
        depth: Its depth as numbers; None where no pixel has any.
    """

    rgb_uri: str
    depth_uri: str
    width: int
    height: int
    shown: tuple[int, int]
    depth: DepthGrid | None

    @property
    def size(self) -> int:
        """Bytes in the page."""
        data = self.depth.data if self.depth is not None else ""
        return len(self.rgb_uri) + len(self.depth_uri) + len(data)


def pictures_of(samples: Sequence[RGBDSample], room: int = PAGE_BYTES) -> list[Pictures]:
    """Pictures of pairs, all by one rule, as large as fit.

    Args:
        samples: The pairs.
        room: Bytes for all of them; the smallest pictures are made even if they don't fit.
    """
    # Encoding is slow: some of them tell how large all will be.
    some = samples[:: max(1, len(samples) // _PROBED)]
    for sides in _SIDES[:-1]:
        size = sum(_pictures(sample, *sides).size for sample in some)
        if size * len(samples) > room * len(some) * _MARGIN:
            continue
        made = [_pictures(sample, *sides) for sample in samples]
        if sum(each.size for each in made) <= room:
            return made
    return [_pictures(sample, *_SIDES[-1]) for sample in samples]


def _pictures(sample: RGBDSample, side: int, grid: int) -> Pictures:
    unit = "m" if sample.depth_kind.is_metric else ""
    rgb = images.fit(sample.rgb, side)
    # Each pixel of a small image is seen.
    is_whole = rgb.shape == sample.rgb.shape and max(rgb.shape) <= _LOSSLESS_UP_TO
    # Coloured before it is sampled: by the range of all pixels.
    coloured = sampled(colour_depth(sample.depth), side)
    return Pictures(
        rgb_uri=images.webp_uri(rgb, lossless=is_whole),
        depth_uri=images.webp_uri(coloured, lossless=True),
        width=sample.rgb.shape[1],
        height=sample.rgb.shape[0],
        shown=(rgb.shape[1], rgb.shape[0]),
        depth=grid_of(sample.depth, sample.intrinsics, unit, grid),
    )
