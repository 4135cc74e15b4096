"""Trusted pairs: images with depth of any source, at one size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mfsynth.checks.base import CheckedPair
from mfsynth.errors import MfsynthError
from mfsynth.evaluation.calibration.config import TrustedPart
from mfsynth.evaluation.calibration.estimates import Estimate, perturbed_copy
from mfsynth.geometry import DepthEstimate
from mfsynth.geometry.estimates import MIN_SHARED_PIXELS
from mfsynth.geometry.resizing import resize_image, resize_nearest
from mfsynth.sources.base import FiniteSource, Item, scene_of
from mfsynth.sources.simulated import CachedScenesSettings
from mfsynth.storage.credentials import without_credentials

Report = Callable[[str, int, int], None]
"""Takes what is done, how much of it, of how much."""


@dataclass(frozen=True, slots=True, eq=False)
class TrustedPair:
    """A good pair.

    Attributes:
        pair: What the checks look at.
        item: Number of the item that it is a window of.
        image: The same, but views of one scene, and what else is of one, have one number: what is
            drawn by chance.
    """

    pair: CheckedPair
    item: int
    image: int


@dataclass(frozen=True, slots=True, eq=False)
class TrustedPairs:
    """All pairs of a calibration, in memory.

    Attributes:
        pairs: Of all parts, in order.
        sources: What is recorded of each part: its settings, `images`, `pairs`, and the SHA-256
            of the pairs' pixels and texts.
    """

    pairs: tuple[TrustedPair, ...]
    sources: tuple[dict[str, Any], ...]

    @property
    def images(self) -> int:
        """How many there are."""
        return len({pair.image for pair in self.pairs})


def read_pairs(
    parts: Sequence[TrustedPart], height: int, width: int, report: Report
) -> TrustedPairs:
    """Read all pairs of some sources; scenes that have to be rendered are rendered first.

    Args:
        parts: The sources.
        height: Rows of the pairs.
        width: Columns of the pairs.
        report: Told how far it is.

    Raises:
        MfsynthError: A source is not there, or an item of it can't be read, has no image or no
            depth; names it.
    """
    pairs: list[TrustedPair] = []
    sources = []
    items = scenes = 0
    for part in parts:
        source = _open(part, max(height, width), report)
        before, numbers = len(pairs), dict[str, int]()
        digest = hashlib.sha256()
        count = min(len(source), part.limit or len(source))
        for index in range(count):
            for pair in _windows(source[index], part.crops, height, width):
                image = scenes + numbers.setdefault(scene_of(source, index), len(numbers))
                pairs.append(TrustedPair(pair, items + index, image))
                digest.update(pair.rgb.tobytes() + pair.depth.tobytes())
                digest.update(f"{pair.text}\0".encode())
            report("trusted images read", index + 1, count)
        items += count
        scenes += len(numbers)
        own = pairs[before:]
        settings = part.model_dump(mode="json", exclude_none=True)
        sources.append(
            {
                "settings": {
                    key: without_credentials(value) if isinstance(value, str) else value
                    for key, value in settings.items()
                },
                "images": len({pair.image for pair in own}),
                "pairs": len(own),
                "sha256": digest.hexdigest(),
            }
        )
    if not pairs:
        raise MfsynthError("data: no image has valid depth; check the paths and the depth's unit")
    return TrustedPairs(tuple(pairs), tuple(sources))


def with_estimates(
    found: TrustedPairs, estimate: Estimate | None, seed: int, report: Report
) -> TrustedPairs:
    """The pairs with what an estimator says of their images; without one, a perturbed copy."""
    estimates: Iterator[DepthEstimate]
    if estimate is None:
        estimates = (
            perturbed_copy(
                one.pair.depth, one.pair.intrinsics, np.random.default_rng([seed, 2, number])
            )
            for number, one in enumerate(found.pairs)
        )
    else:
        estimates = estimate([one.pair for one in found.pairs])
    pairs = []
    for one, said in zip(found.pairs, estimates, strict=True):
        pairs.append(replace(one, pair=replace(one.pair, estimate=said)))
        report("images estimated", len(pairs), len(found.pairs))
    return replace(found, pairs=tuple(pairs))


def _open(part: TrustedPart, size: int, report: Report) -> FiniteSource:
    settings = part.source
    if isinstance(settings, CachedScenesSettings) and settings.render is not None:
        settings.render.render(
            settings.path, size, lambda done, total: report("scenes rendered", done, total)
        )
    return settings.open()


def _windows(item: Item, crops: int, height: int, width: int) -> Iterator[CheckedPair]:
    """The largest windows of the wanted proportions, resized; without those that have no depth."""
    if item.rgb is None or item.depth is None:
        raise MfsynthError(
            f"{item.name}: no image with depth, so nothing to measure checks on; take it out of "
            "data"
        )
    rows, columns = item.depth.shape
    scale = min(rows / height, columns / width)
    window_rows = min(rows, max(1, round(height * scale)))
    window_columns = min(columns, max(1, round(width * scale)))
    shares = [(crop + 0.5) / crops for crop in range(crops)]
    corners = [
        (round(share * (rows - window_rows)), round(share * (columns - window_columns)))
        for share in shares
    ]
    # Where an image is hardly larger than a window, several are the same one.
    for top, left in dict.fromkeys(corners):
        window = np.s_[top : top + window_rows, left : left + window_columns]
        depth = resize_nearest(item.depth[window], height, width)
        if np.count_nonzero(depth) < MIN_SHARED_PIXELS:
            continue
        camera = item.intrinsics
        if camera is not None:
            camera = camera.cropped(top, left)
            camera = camera.resized(height / window_rows, width / window_columns)
        rgb = np.ascontiguousarray(resize_image(item.rgb[window], height, width))
        yield CheckedPair(
            rgb,
            np.ascontiguousarray(depth),
            intrinsics=camera,
            text=item.text or None,
            slots=item.slots or None,
        )
